//! Run folders whose files are damaged, cut off or forged.

use std::fs;

use serde_json::{Value, json};

use crate::folder::Folder;
use crate::trained::{classifier, language_model, with};

/// A folder, one of its runs, and the commands that load the model of that run.
fn models() -> [(Folder, &'static str, &'static [&'static [&'static str]]); 2] {
    [
        (language_model(), "lm-1", &[&["eval"], &["predict"], &["generate"]]),
        (classifier(), "classify-1", &[&["eval"], &["predict"]]),
    ]
}

/// Every command on the run must refuse its file `name` with the content that `damage` makes of it.
fn refused(name: &str, parts: &[&str], damage: impl Fn(Vec<u8>) -> Vec<u8>) {
    for (folder, run, commands) in models() {
        let path = format!("runs/{run}/{name}");
        if !folder.join(&path).exists() {
            continue;
        }
        folder.write(&path, damage(folder.bytes(&path)));
        for command in commands {
            folder.run(&with(command, &[run])).refused(&with(&[&path], parts));
        }
    }
}

/// Where `key` is in a `config.json`: at the top, of the model, or of its recurrent stack, where it is put if nowhere.
fn place<'a>(object: &'a mut Value, key: &str) -> &'a mut Value {
    if object.get("model").is_none() || object.get(key).is_some() {
        return &mut object[key];
    }
    let model = &mut object["model"];
    if model.get(key).is_some() { &mut model[key] } else { &mut model["recurrent"][key] }
}

/// The JSON file `name` with another value at `key`.
fn refused_with(name: &str, key: &str, value: Value, parts: &[&str]) {
    refused(name, parts, |bytes| {
        let mut object: Value = serde_json::from_slice(&bytes).unwrap();
        *place(&mut object, key) = value.clone();
        object.to_string().into_bytes()
    });
}

#[test]
fn any_file_missing_cut_off_or_not_even_text() {
    for name in ["config.json", "vocabulary.json", "labels.json", "model.safetensors"] {
        refused(name, &[], |_| Vec::new());
        refused(name, &[], |bytes| bytes[..bytes.len() / 2].to_vec());
        refused(name, &[], |bytes| bytes[..bytes.len() - 3].to_vec());
        refused(name, &[], |_| vec![0xFF; 4096]);
        refused(name, &[], |_| b"[".repeat(100_000));
        for (folder, run, commands) in models() {
            let path = folder.join("runs").join(run).join(name);
            if path.exists() {
                fs::remove_file(&path).unwrap();
                folder.run(&with(commands[0], &[run])).refused(&[name, "No such file"]);
                fs::create_dir(&path).unwrap();
                folder.run(&with(commands[0], &[run])).refused(&[name]);
            }
        }
    }
}

/// A model in use needs no recipe; measuring it on its own data does.
#[test]
fn a_damaged_recipe() {
    // Between a key and its value: cut at the end of a line it would be a shorter recipe, and as good as any.
    let half = |bytes: &[u8]| bytes.split(|&byte| byte == b'=').next().unwrap().to_vec();
    for (folder, run, commands) in models() {
        let path = format!("runs/{run}/config.toml");
        for (damaged, wrong) in
            [(half(&folder.bytes(&path)), &[][..]), (vec![0xFF; 4096], &["encoding: expected UTF-8"])]
        {
            folder.write(&path, damaged);
            folder.run(&["eval", run]).refused(&with(&[&path], wrong));
            for command in &commands[1..] {
                folder.run(&with(command, &[run])).succeeded();
            }
        }
    }
}

#[test]
fn descriptions_of_impossible_models() {
    for (key, value, parts) in [
        ("format_version", json!(1), &["format_version", "expected 2", "found 1"][..]),
        ("format_version", json!("one"), &["format_version"]),
        ("hidden", json!(17), &[]),
        ("hidden", json!(0), &["hidden", "found 0"]),
        ("hidden", json!(-1), &[]),
        ("hidden", json!(4_000_000_000_u64), &["hidden", "found 4000000000"]),
        ("hidden", json!(u64::MAX), &["hidden"]),
        ("input", json!(1_u64 << 40), &["input"]),
        ("layers", json!(u32::MAX), &["layers"]),
        ("vocabulary", json!(3), &[]),
        ("cell", json!("transformer"), &["transformer"]),
        ("bidirectional", json!("perhaps"), &["expected a boolean"]),
        ("surprise", json!(1), &["surprise"]),
    ] {
        // A size that is possible but not that of the weights is found when these are read.
        let name = "config.json";
        if parts.is_empty() {
            for (folder, run, commands) in models() {
                let path = format!("runs/{run}/{name}");
                let mut object: Value = serde_json::from_slice(&folder.bytes(&path)).unwrap();
                *place(&mut object, key) = value.clone();
                folder.write(&path, object.to_string());
                folder.run(&with(commands[0], &[run])).refused(&[run, "expected", "found"]);
            }
        } else {
            refused_with(name, key, value, parts);
        }
    }
}

/// As large as each size alone may be, together they would take more memory than there is; the weights are not there.
#[test]
fn sizes_are_believed_only_with_the_weights() {
    for (folder, run, commands) in models() {
        let path = format!("runs/{run}/config.json");
        let mut object: Value = serde_json::from_slice(&folder.bytes(&path)).unwrap();
        for key in ["hidden", "input", "layers"] {
            *place(&mut object, key) = json!(64);
        }
        *place(&mut object, "hidden") = json!(4096);
        folder.write(&path, object.to_string());
        for command in commands {
            folder.run(&with(command, &[run])).refused(&[run, "expected", "found"]);
        }
    }
}

#[test]
fn other_tasks_and_other_classes() {
    let folder = classifier();
    let config = folder.text("runs/classify-1/config.json");
    folder.write("runs/classify-1/config.json", language_model().text("runs/lm-1/config.json"));
    folder
        .run(&["eval", "classify-1"])
        .refused(&["runs/classify-1/vocabulary.json: vocabulary", "as config.json says"]);
    folder.write("runs/classify-1/config.json", config);
    for (labels, parts) in [
        (json!(["bad", "good", "ugly"]), &["labels.json", "expected 2 classes", "found 3"][..]),
        (json!([]), &["labels.json", "expected 2 classes", "found 0"]),
        (json!({"bad": 0, "good": 1}), &["labels.json", "a JSON list of class names"]),
        (json!([0, 1]), &["labels.json", "a JSON list of class names"]),
    ] {
        folder.write("runs/classify-1/labels.json", labels.to_string());
        folder.run(&["eval", "classify-1"]).refused(parts);
        folder.run(&["predict", "classify-1"]).refused(parts);
    }
    folder.write("runs/classify-1/labels.json", json!(["good", "good"]).to_string());
    folder.write("texts.tsv", "label\ttext\ngood\tfine\n");
    folder.run(&["eval", "classify-1", "--data", "texts.tsv"]).refused(&["label", "once"]);
}

#[test]
fn vocabularies() {
    refused_with("vocabulary.json", "format_version", json!(9), &["expected format_version 1", "found 9"]);
    refused_with("vocabulary.json", "tokens", json!(["", "a", "a"]), &["expected", "found"]);
    refused_with("vocabulary.json", "tokens", json!(7), &["expected"]);
    refused_with("vocabulary.json", "unit", json!("syllable"), &["syllable"]);
}

#[test]
fn weights_of_another_model() {
    let (texts, classes) = (language_model(), classifier());
    texts.write("runs/lm-1/model.safetensors", classes.bytes("runs/classify-1/model.safetensors"));
    texts.run(&["generate", "lm-1"]).refused(&["runs/lm-1/model.safetensors"]);
    texts.write("runs/lm-1/model.safetensors", texts.bytes("runs/lm-1/last.safetensors"));
    texts.run(&["generate", "lm-1"]).refused(&["runs/lm-1/model.safetensors"]);
}

/// A header that claims more than the file has, overlaps or has numbers that overflow.
#[test]
fn forged_headers_of_weights() {
    let safetensors = |length: u64, header: &str, data: usize| -> Vec<u8> {
        [&length.to_le_bytes(), header.as_bytes(), &vec![0; data]].concat()
    };
    let tensor = |shape: &str, from: u64, to: u64| {
        format!("{{\"a\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":[{from},{to}]}}}}")
    };
    for header in [
        tensor("[2]", 0, 8),
        tensor("[2]", 0, u64::MAX),
        tensor("[2]", 8, 0),
        tensor("[18446744073709551615,18446744073709551615]", 0, 8),
        "{}".to_owned(),
        "nonsense".to_owned(),
    ] {
        for name in ["model.safetensors", "last.safetensors"] {
            for length in [header.len() as u64, u64::MAX, 0] {
                let folder = language_model();
                folder.write(&format!("runs/lm-1/{name}"), safetensors(length, &header, 8192));
                let command: &[&str] =
                    if name.starts_with("model") { &["generate", "lm-1"] } else { &["train", "--resume", "lm-1"] };
                folder.run(command).refused(&[name]);
            }
        }
    }
}

#[test]
fn a_weight_that_is_no_number() {
    refused("model.safetensors", &["finite numbers"], |mut bytes| {
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        bytes
    });
}

#[test]
fn checkpoints() {
    let resume = |folder: &Folder, sets: &[&str]| folder.run(&with(&["train", "--resume", "lm-1"], sets));
    for damage in [0.0, 0.3, 0.99] {
        let folder = language_model();
        let whole = folder.bytes("runs/lm-1/last.safetensors");
        folder.write("runs/lm-1/last.safetensors", &whole[..(whole.len() as f64 * damage) as usize]);
        let model = folder.bytes("runs/lm-1/model.safetensors");
        resume(&folder, &[]).refused(&["runs/lm-1/last.safetensors"]);
        assert_eq!(folder.bytes("runs/lm-1/model.safetensors"), model);
    }
    let folder = language_model();
    resume(&folder, &["--set", "model.hidden=17", "train.steps=60", "optimiser.learning_rate=0.1"]).refused(&[
        "--set: model.hidden, optimiser.learning_rate: expected",
        "config.toml",
        "start a new run",
    ]);
    let config = folder.text("runs/lm-1/config.toml");
    folder.write("runs/lm-1/config.toml", format!("seed = 9\n{}", config.replace("seed = 1\n", "")));
    resume(&folder, &[]).refused(&["last.safetensors: recipe", "start a new run"]);
    folder.write("runs/lm-1/config.toml", config);
    resume(&folder, &["--set", "model.hiden=17"]).refused(&["did you mean model.hidden?"]);
    for set in ["name=other", "runs_dir=other"] {
        let key = set.split('=').next().unwrap();
        resume(&folder, &["--set", set]).refused(&[&format!("--set: {key}"), "stays in its folder"]);
    }
    folder.write("text.txt", crate::trained::text(301));
    resume(&folder, &[]).refused(&["runs/lm-1/last.safetensors: data", "start a new run"]);
    folder.run(&["eval", "lm-1", "--data", "text.txt"]).succeeded();
    fs::remove_file(folder.join("text.txt")).unwrap();
    resume(&folder, &[]).refused(&["text.txt: cannot be read"]);
    folder.run(&["eval", "lm-1"]).refused(&["text.txt: cannot be read"]);
    folder.run(&["generate", "lm-1"]).succeeded();
    fs::remove_file(folder.join("runs/lm-1/last.safetensors")).unwrap();
    folder.write("text.txt", crate::trained::text(300));
    resume(&folder, &[]).refused(&["runs/lm-1/last.safetensors: cannot open: No such file"]);
    assert!(folder.join("runs/lm-1/model.safetensors").exists());
}

#[test]
fn metrics_that_are_no_rows() {
    let folder = language_model();
    let rows = folder.text("runs/lm-1/metrics.jsonl");
    folder.write("runs/lm-1/metrics.jsonl", format!("not a row\n{rows}"));
    folder.run(&["train", "--resume", "lm-1"]).refused(&["runs/lm-1/metrics.jsonl:1: metrics", "remove the line"]);
    folder.write("runs/lm-1/metrics.jsonl", format!("{rows}{{\"step\":"));
    folder.run(&["train", "--resume", "lm-1", "--set", "train.steps=50"]).succeeded();
    assert_eq!(folder.rows("runs/lm-1/metrics.jsonl").last().unwrap()["step"], 50);
}
