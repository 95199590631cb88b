//! Files from outside that are wrong: an error that names file and key, and never a panic.

use serde_json::{Value, json};

use crate::common::{
    FilesOf, classifier, classify_config, language_model, roll_config, roll_model, tag_config, tagger,
};
use throughline_data::MissingNumbers;
use throughline_infer::{Error, Model};
use throughline_kernels::cells::CellKind;
use throughline_nn::layers::Pooling;

fn lm() -> FilesOf {
    language_model(CellKind::Lstm).files()
}

fn classify() -> FilesOf {
    classifier(classify_config(CellKind::GruAfter, Pooling::Attention)).files()
}

fn roll() -> FilesOf {
    roll_model(roll_config(CellKind::Lstm)).files()
}

fn tag() -> FilesOf {
    tagger(tag_config(CellKind::Lstm, true)).files()
}

fn series() -> FilesOf {
    crate::series::classifier(Pooling::Attention, MissingNumbers::Mask).files()
}

fn numbers() -> FilesOf {
    crate::series::regression(Pooling::Mean).files()
}

fn config(files: &FilesOf) -> Value {
    serde_json::from_slice(&files["config.json"]).unwrap()
}

#[track_caller]
fn error(files: FilesOf) -> String {
    match Model::from_bytes(files, Some(1)) {
        Err(error @ (Error::Model { .. } | Error::Data(_))) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// The error of `files` whose configuration has `value` at `pointer`.
#[track_caller]
fn with(mut files: FilesOf, pointer: &str, value: Value) -> String {
    let mut config = config(&files);
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    config.pointer_mut(parent).unwrap()[key] = value;
    // On one line and on many: a key is found in either.
    files.insert("config.json".to_owned(), serde_json::to_vec(&config).unwrap());
    let on_one_line = error(files.clone());
    files.insert("config.json".to_owned(), serde_json::to_vec_pretty(&config).unwrap());
    let message = error(files);
    for message in [&on_one_line, &message] {
        assert!(message.starts_with("config.json: "), "{message}");
        assert!(message.contains(key), "{key}: {message}");
    }
    message
}

#[test]
fn the_files_are_right_as_they_are() {
    for files in [lm(), classify(), tag(), roll(), series(), numbers()] {
        Model::from_bytes(files, Some(1)).unwrap();
    }
}

#[test]
fn values_out_of_range_name_their_key() {
    let sizes = ["/model/recurrent/input", "/model/recurrent/hidden", "/model/recurrent/layers", "/model/vocabulary"];
    for (files, more) in [(lm(), &[][..]), (classify(), &["/model/classes"])] {
        for pointer in sizes.iter().chain(more) {
            for value in [json!(0), json!(1_u64 << 25), json!(u64::MAX)] {
                let message = with(files.clone(), pointer, value);
                assert!(message.contains("expected 1 to "), "{message}");
            }
            for value in [json!(-1), json!(1.5), json!(1e300), json!("8"), json!(null), json!([1]), json!(true)] {
                let message = with(files.clone(), pointer, value);
                assert!(message.contains("near \"") && message.contains("format_version 2"), "{message}");
            }
        }
        for (pointer, value) in [
            ("/model/recurrent/cell", json!("tree")),
            ("/model/recurrent/initial_state", json!("random")),
            ("/model/recurrent/bias", json!(1)),
            ("/model/recurrent/bidirectional", json!("yes")),
            ("/model/text/nfc", json!(1)),
            ("/model/text/nfkc", json!(true)),
            ("/model/recurrent/dropout", json!(0.5)),
            ("/model/surprise", json!(1)),
            ("/surprise", json!(1)),
        ] {
            with(files.clone(), pointer, value);
        }
    }
    for rate in [json!(1), json!(-0.1), json!(1e300), json!("0.1"), json!(null)] {
        with(lm(), "/model/recurrent/zoneout_hidden", rate.clone());
        with(lm(), "/model/recurrent/zoneout_cell", rate);
    }
    let message = with(classify(), "/model/recurrent/zoneout_cell", json!(0.1));
    assert!(message.contains("expected 0, as the cell gru_after has no cell state, found 0.1"), "{message}");
    with(classify(), "/model/pooling", json!("sum"));
    with(classify(), "/model/max_length", json!(-1));
    let message = with(lm(), "/model/recurrent/cell", json!("tree"));
    assert!(message.contains("unknown cell \"tree\", expected one of `rnn_tanh`, "), "{message}");
}

/// Sizes each in its range whose product is not; nothing of such a size may be made.
#[test]
fn absurd_sizes_are_refused_before_anything_is_made() {
    let mut files = classify();
    let mut absurd = config(&files);
    for (key, size) in [("input", 1 << 24), ("hidden", 1 << 24), ("layers", 1 << 10)] {
        absurd["model"]["recurrent"][key] = json!(size);
    }
    files.insert("config.json".to_owned(), serde_json::to_vec(&absurd).unwrap());
    let message = error(files);
    assert!(message.starts_with("config.json: ") && message.contains("at most 4294967296 parameters"), "{message}");

    // Large, but allowed: the weights are not there, and no memory is asked for before that is known.
    let mut files = lm();
    let mut large = config(&files);
    large["model"]["recurrent"]["hidden"] = json!(1 << 14);
    files.insert("config.json".to_owned(), serde_json::to_vec(&large).unwrap());
    let message = error(files);
    assert!(message.starts_with("model.safetensors: weights: expected at least "), "{message}");
}

#[test]
fn what_does_not_go_together_names_its_key() {
    let message = with(lm(), "/model/recurrent/bidirectional", json!(true));
    assert!(message.contains("must not see the future"), "{message}");
    let message = with(lm(), "/model/tied", json!(true));
    assert!(message.contains("input (5)") && message.contains("hidden (7)"), "{message}");
}

#[test]
fn missing_and_repeated_keys_are_named() {
    for files in [lm(), classify()] {
        let whole = config(&files);
        let pointers = [("", vec!["format_version", "task", "model"]), ("/model", keys(&whole["model"]))];
        let recurrent = ("/model/recurrent", keys(&whole["model"]["recurrent"]));
        for (parent, keys) in pointers.into_iter().chain([recurrent]) {
            for key in keys {
                let mut fewer = whole.clone();
                fewer.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key);
                let mut files = files.clone();
                files.insert("config.json".to_owned(), serde_json::to_vec(&fewer).unwrap());
                let message = error(files);
                assert!(message.starts_with("config.json: ") && message.contains(key), "{key}: {message}");
            }
        }
        let text = String::from_utf8(files["config.json"].clone()).unwrap();
        let mut files = files;
        files.insert("config.json".to_owned(), text.replacen("\"hidden\"", "\"hidden\": 3, \"hidden\"", 1).into());
        assert!(error(files).contains("duplicate field `hidden`"));
    }
}

fn keys(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn a_model_of_piano_rolls_that_cannot_be() {
    for (pointer, value, says) in [
        ("/model/keys", json!({"lowest": 60, "highest": 59}), "found 60 to 59"),
        ("/model/keys", json!({"lowest": 0, "highest": 128}), "pitches from 0 to 127"),
        ("/model/keys/highest", json!(256), "format_version 2"),
        ("/model/steps_per_beat", json!(0), "expected 1 to 480"),
        ("/model/steps_per_beat", json!(481), "expected 1 to 480"),
        ("/model/threshold", json!(0.0), "above 0 and below 1"),
        ("/model/threshold", json!(1), "above 0 and below 1"),
        ("/model/recurrent/bidirectional", json!(true), "must not be seen"),
        ("/model/recurrent/hidden", json!(0), "expected 1 to "),
    ] {
        let message = with(roll(), pointer, value);
        assert!(message.contains(says), "{message}");
    }
    // Another number of keys is a matter of the weights.
    let mut files = roll();
    let mut config = config(&files);
    config["model"]["keys"]["highest"] = json!(70);
    files.insert("config.json".to_owned(), serde_json::to_vec(&config).unwrap());
    assert!(error(files).starts_with("model.safetensors: "));
}

#[test]
fn a_model_of_series_that_cannot_be() {
    for files in [series(), numbers()] {
        for (pointer, value, says) in [
            ("/model/input/channels", json!([]), "channels: expected at least one, found none"),
            ("/model/input/channels/0/scale/factor", json!(0.0), "factor above 0"),
            ("/model/input/channels/0/scale/factor", json!(-1.0), "factor above 0"),
            ("/model/input/channels/0/scale/shift", json!(null), "format_version 2"),
            ("/model/input/channels/0/scale", json!({"shift": 0.0, "factor": 1.0, "bias": 1.0}), "unknown field"),
            ("/model/input/missing", json!("ignore"), "format_version 2"),
            ("/model/pooling", json!("sum"), "format_version 2"),
        ] {
            // The key in which it is found may be one above.
            let mut files = files.clone();
            let mut config = config(&files);
            *config.pointer_mut(pointer).unwrap() = value;
            files.insert("config.json".to_owned(), serde_json::to_vec(&config).unwrap());
            let message = error(files);
            assert!(message.starts_with("config.json: ") && message.contains(says), "{pointer}: {message}");
        }
    }
    let message = with(series(), "/model/recurrent/input", json!(3));
    assert!(message.contains("expected 4, the features of the channels, found 3"), "{message}");
    with(series(), "/model/classes", json!(0));
    for delta in [json!(0.0), json!(-1.0), json!(1e-60)] {
        let message = with(numbers(), "/model/loss", json!({ "huber": delta }));
        assert!(message.contains("above 0 for huber"), "{message}");
    }
    with(numbers(), "/model/loss", json!("cubed"));
    with(numbers(), "/model/targets", json!([]));
}

#[test]
fn other_versions_and_tasks_are_refused() {
    let message = with(lm(), "/format_version", json!(3));
    assert_eq!(
        message,
        "config.json: format_version: expected 2, found 3, which this version of Throughline does not read"
    );
    with(lm(), "/format_version", json!("2"));
    let message = with(lm(), "/task", json!("poem"));
    assert_eq!(
        message,
        "config.json: task: expected one of lm, classify, tag, classify-series, regress, roll, found \"poem\""
    );
    // A configuration of one task does not describe a model of another.
    for (mut files, task) in [(lm(), "classify"), (classify(), "lm")] {
        let mut config = config(&files);
        config["task"] = json!(task);
        files.insert("config.json".to_owned(), serde_json::to_vec(&config).unwrap());
        let message = error(files);
        assert!(message.starts_with("config.json: ") && message.contains("unknown field"), "{message}");
    }
}

#[test]
fn what_is_no_json_is_an_error_at_its_line() {
    for (content, says) in [
        (&b""[..], "line 1"),
        (b"{\n\"format_version\": 2,\n]", "line 3"),
        (b"[]", "config.json"),
        (b"\xFF{}", "UTF-8"),
        (b"{\"format_version\": 2, \"task\": \"\xE9\"}", "UTF-8"),
        (b"null", "config.json"),
    ] {
        for name in ["config.json", "labels.json", "vocabulary.json"] {
            let mut files = classify();
            files.insert(name.to_owned(), content.to_vec());
            let message = error(files);
            assert!(message.starts_with(name), "{message}");
            assert!(name != "config.json" || message.contains(says), "{says}: {message}");
        }
    }
    let mut files = lm();
    files.insert("config.json".to_owned(), vec![b'['; 500_000]);
    assert!(error(files.clone()).starts_with("config.json: line 1"));
    files.insert("config.json".to_owned(), vec![b' '; 2 << 20]);
    assert!(error(files).contains("size: expected at most"));
}

#[test]
fn labels_fit_the_model() {
    for (labels, says) in [
        (json!(["a", "b"]), "expected 3 classes, as config.json says, found 2"),
        (json!(["a", "b", "c", "d"]), "expected 3 classes, as config.json says, found 4"),
        (json!(["a", "b", "a"]), "expected each class once, found \"a\" twice"),
        (json!(["a", "b", 3]), "a JSON list of class names"),
        (json!({"a": 1}), "a JSON list of class names"),
    ] {
        let mut files = classify();
        files.insert("labels.json".to_owned(), serde_json::to_vec(&labels).unwrap());
        let message = error(files);
        assert!(message.starts_with("labels.json: labels: ") && message.contains(says), "{message}");
    }
}

#[test]
fn the_vocabulary_fits_the_model() {
    for files in [lm(), classify()] {
        let mut vocabulary: Value = serde_json::from_slice(&files["vocabulary.json"]).unwrap();
        let units = vocabulary["tokens"].as_array().unwrap().len();
        vocabulary["tokens"].as_array_mut().unwrap().push(json!("z"));
        let mut files = files;
        files.insert("vocabulary.json".to_owned(), serde_json::to_vec(&vocabulary).unwrap());
        let message = error(files);
        let expected =
            format!("vocabulary.json: vocabulary: expected {units} units, as config.json says, found {}", units + 1);
        assert_eq!(message, expected);
    }
}

#[test]
fn weights_of_another_model_are_refused() {
    let swapped = |mut files: FilesOf, others: &FilesOf| {
        files.insert("model.safetensors".to_owned(), others["model.safetensors"].clone());
        let message = error(files);
        assert!(message.starts_with("model.safetensors: "), "{message}");
        message
    };
    // Names and shapes are the same, and what they mean is not.
    let other_cell = classifier(classify_config(CellKind::GruBefore, Pooling::Attention)).files();
    assert!(swapped(classify(), &other_cell).contains("gru_before"));
    swapped(classify(), &lm());
    assert!(swapped(lm(), &classify()).contains("\"task\":\"classify\""));
    let fewer = classifier(classify_config(CellKind::GruAfter, Pooling::Mean)).files();
    swapped(classify(), &fewer);
    let message = swapped(fewer, &classify());
    assert!(message.contains("pool."), "{message}");
}

/// Cut anywhere, and with any byte of the header and some of the numbers changed.
#[test]
fn damaged_weights_never_panic() {
    let files = classify();
    let whole = &files["model.safetensors"];
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let replaced = |bytes: Vec<u8>| {
        let mut files = files.clone();
        files.insert("model.safetensors".to_owned(), bytes);
        Model::from_bytes(files, Some(1))
    };
    let lengths = (0..header).step_by(7).chain((header..whole.len()).step_by(97));
    for length in lengths {
        let error = replaced(whole[..length].to_vec()).unwrap_err().to_string();
        assert!(error.starts_with("model.safetensors: "), "{error}");
    }
    for place in (0..header).chain((header..whole.len()).step_by(101)) {
        for change in [0x01, 0x80, 0xFF] {
            let mut bytes = whole.clone();
            bytes[place] ^= change;
            if let Err(error) = replaced(bytes) {
                assert!(error.to_string().starts_with("model.safetensors: "), "{error}");
            }
        }
    }
    let mut longer = whole.clone();
    longer.extend([0; 64]);
    replaced(longer).unwrap_err();
    let mut endless = whole.clone();
    endless.resize(whole.len() + (1 << 18), 0);
    let error = replaced(endless).unwrap_err().to_string();
    assert!(error.contains("size: expected at most"), "{error}");
    for number in [f32::NAN, f32::INFINITY] {
        let mut bytes = whole.clone();
        bytes[header..header + 4].copy_from_slice(&number.to_le_bytes());
        let error = replaced(bytes).unwrap_err().to_string();
        assert!(error.contains("finite numbers"), "{error}");
    }
}

#[test]
fn more_threads_than_there_can_be_are_refused() {
    let error = Model::from_bytes(lm(), Some(1 << 40)).unwrap_err();
    assert!(matches!(error, Error::Threads { .. }), "{error}");
}
