//! What of the data reaches a model, and what a run says of them.

use std::path::PathBuf;

use crate::common::{Run, TestFolder, classifier, classify, language_model, lm, table, text};
use throughline_data::Unit;
use throughline_infer::tasks::{Classify, LanguageModel};
use throughline_train::recipe::InitialState;
use throughline_train::tasks::shared::Normalise;
use throughline_train::{Description, Event, Recipe};

/// What the run is told to be made of.
fn trained(run: &Run<'_>, recipe: &Recipe) -> Description {
    let mut found = None;
    let watch = &mut |event: Event<'_>| {
        if let Event::Ready { description, .. } = event {
            found = Some(description.clone());
        }
    };
    run.train_watched(recipe, watch).unwrap_or_else(|error| panic!("{error}"));
    found.expect("a run says what it is made of")
}

fn values<'a>(description: &'a Description, what: &str) -> Vec<&'a str> {
    description.data.iter().filter(|(name, _)| name == what).map(|(_, value)| value.as_str()).collect()
}

/// Examples of two classes in words with accents, some in each of the two ways in which they may be typed.
fn accents(rows: usize) -> Vec<(&'static str, String)> {
    let words = [("café", "noun"), ("naïve", "other"), ("résumé", "noun"), ("déjà", "other")];
    (0..rows).map(|row| (words[row % 4].1, format!("{} {}", words[row % 4].0, row % 7))).collect()
}

fn csv(rows: &[(&str, String)], line_end: &str) -> String {
    let mut file = format!("label,text{line_end}");
    rows.iter().for_each(|(label, text)| file += &format!("{label},{text}{line_end}"));
    file
}

fn decomposed(text: &str) -> String {
    [("é", "e\u{301}"), ("ï", "i\u{308}"), ("à", "a\u{300}")]
        .iter()
        .fold(text.to_owned(), |text, (c, d)| text.replace(c, d))
}

fn short_classifier(path: &std::path::Path) -> Recipe {
    let mut recipe = classifier(path);
    classify(&mut recipe).files.split = [0.6, 0.2, 0.2];
    recipe.train.steps = 10;
    recipe
}

/// Byte order marks, line ends and the form of letters make no difference: not to what is trained, and not in use.
#[test]
fn training_evaluation_and_prediction_clean_texts_alike() {
    let folder = TestFolder::new();
    let rows = accents(40);
    let clean = folder.file("clean.csv", &csv(&rows, "\n"));
    let dirty = folder.file("dirty.csv", &format!("\u{FEFF}{}", decomposed(&csv(&rows, "\r\n"))));
    let (of_clean, of_dirty) = (folder.run("clean"), folder.run("dirty"));
    let outcome = of_clean.train(&short_classifier(&clean)).unwrap();
    of_dirty.train(&short_classifier(&dirty)).unwrap();
    let weights = |run: &Run<'_>| std::fs::read(run.opened().model()).unwrap();
    assert!(weights(&of_clean) == weights(&of_dirty), "the models differ");

    let own = of_clean.evaluate(&[]).unwrap();
    assert_eq!((own.data.as_str(), Some(own.evaluation)), ("test split", outcome.test));
    let [on_clean, on_dirty] = [clean, dirty].map(|path| of_clean.evaluate(&[path]).unwrap().evaluation);
    assert_eq!(on_clean, on_dirty);
    assert_eq!((on_clean.count, on_clean.unknown_share), (40, 0.0));

    let model = of_clean.model();
    let model = model.get::<Classify>().unwrap();
    let answers = |text: &dyn Fn(&str) -> String| {
        let texts: Vec<String> = rows.iter().map(|(_, row)| text(row)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let answers = model.predict(&texts).into_iter().map(Result::unwrap);
        answers.map(|answer| (answer.label, answer.probability, answer.unknown_share)).collect::<Vec<_>>()
    };
    let want = answers(&str::to_owned);
    assert_eq!(answers(&|text| decomposed(text)), want);
    assert_eq!(answers(&|text| format!("\u{FEFF}{text}\r\n")), want);
    assert_eq!(answers(&|text| format!("  {text}\t")), want);
    let right = want.iter().zip(&rows).filter(|(answer, row)| answer.0 == row.0).count();
    assert_eq!(right as f64 / 40.0, on_clean.metrics["accuracy"], "predictions are what is measured");
}

#[test]
fn language_models_clean_texts_alike() {
    let folder = TestFolder::new();
    let lines = "déjà vu,\nun café\n".repeat(40);
    let clean = folder.file("clean.txt", &lines);
    let dirty = folder.file("dirty.txt", &format!("\u{FEFF}{}", decomposed(&lines).replace('\n', "\r\n")));
    let recipe = |path: &PathBuf| {
        let mut recipe = language_model(path);
        lm(&mut recipe).files.split = [0.6, 0.2, 0.2];
        recipe.train.steps = 8;
        recipe
    };
    let (of_clean, of_dirty) = (folder.run("clean"), folder.run("dirty"));
    let outcome = of_clean.train(&recipe(&clean)).unwrap();
    of_dirty.train(&recipe(&dirty)).unwrap();
    let weights = |run: &Run<'_>| std::fs::read(run.opened().model()).unwrap();
    assert!(weights(&of_clean) == weights(&of_dirty), "the models differ");
    assert_eq!(Some(of_clean.evaluate(&[]).unwrap().evaluation), outcome.test);
    let [on_clean, on_dirty] = [clean, dirty].map(|path| of_clean.evaluate(&[path]).unwrap().evaluation);
    assert_eq!(on_clean, on_dirty);

    let model = of_clean.model();
    let model = model.get::<LanguageModel>().unwrap();
    let loss = |text: &str| model.predict(&[text])[0].as_ref().unwrap().loss.unwrap();
    assert_eq!(loss(&format!("\u{FEFF}{}", decomposed("déjà\r\n"))), loss("déjà\n"));
}

/// What `normalise` says is written down with the model, and is what the model does.
#[test]
fn normalisation_is_a_property_of_the_model() {
    let folder = TestFolder::new();
    let path = folder.file("data.csv", &csv(&accents(40), "\n"));
    for (normalise, nfc) in [(Normalise::Nfc, true), (Normalise::None, false)] {
        let mut recipe = short_classifier(&path);
        classify(&mut recipe).cleaning.normalise = normalise;
        let run = folder.run(&format!("{normalise:?}"));
        run.train(&recipe).unwrap();
        let config = std::fs::read_to_string(run.opened().config_json()).unwrap();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap();
        assert_eq!(config["model"]["text"]["nfc"], nfc);
        let model = run.model();
        let answers = model.get::<Classify>().unwrap().predict(&["café 1", "cafe\u{301} 1"]);
        let [composed, split] = [&answers[0], &answers[1]].map(|answer| answer.as_ref().unwrap());
        assert_eq!(composed.probability == split.probability, nfc);
        assert_eq!((composed.unknown_share, split.unknown_share), (0.0, if nfc { 0.0 } else { 1.0 / 7.0 }));
    }
}

/// The rules hold for what the model learns from, too.
#[test]
fn training_texts_are_normalised_by_the_rules_of_the_model() {
    let folder = TestFolder::new();
    let path = folder.file("data.csv", &decomposed(&csv(&accents(40), "\n")));
    for (normalise, nfc) in [(Normalise::Nfc, true), (Normalise::None, false)] {
        let mut recipe = short_classifier(&path);
        classify(&mut recipe).cleaning.normalise = normalise;
        let run = folder.run(&format!("{normalise:?}"));
        run.train(&recipe).unwrap();
        let answers = run.model().predict_lines(&["café 1", "cafe\u{301} 1"]);
        let shares = [0, 1].map(|index: usize| answers[index].as_ref().unwrap()["unknown_share"].as_f64().unwrap());
        assert_eq!(shares, if nfc { [0.0, 0.0] } else { [1.0 / 6.0, 0.0] });
    }
}

/// A text is cut in training, evaluation and prediction alike.
#[test]
fn the_longest_text_is_the_same_everywhere() {
    let folder = TestFolder::new();
    let path = folder.file("data.csv", &table(3, 60));
    let mut recipe = short_classifier(&path);
    classify(&mut recipe).examples.max_length = 3;
    let run = folder.run("run");
    let description = trained(&run, &recipe);
    let [training] = values(&description, "training split")[..] else { panic!("one training split") };
    assert!(training.starts_with("36 texts of 108 characters") || training.contains(" texts of 10"), "{training}");
    let model = run.model();
    let answers = model.predict_lines(&["aab and more", "aab", "aa"]);
    let probability = |index: usize| answers[index].as_ref().unwrap()["probability"].as_f64().unwrap();
    assert_eq!(probability(0), probability(1));
    assert_ne!(probability(0), probability(2));
}

/// Whatever happens to the data of a run, its own evaluation measures what was set aside, or says what differs.
#[test]
fn changed_data_are_no_longer_the_runs_own() {
    let folder = TestFolder::new();
    let original = table(5, 60);
    let path = folder.file("data.csv", &original);
    let run = folder.run("run");
    let outcome = run.train(&short_classifier(&path)).unwrap();
    let refused = |content: &str, says: &[&str]| {
        folder.file("data.csv", content);
        let error = run.evaluate(&[]).expect_err("other data").to_string();
        assert!(says.iter().all(|said| error.contains(said)) && error.contains("--data"), "{error}");
    };
    let lines: Vec<&str> = original.lines().collect();
    let named = || run.evaluate(std::slice::from_ref(&path)).expect("files that are named are measured on");
    let counted = ["the test split has other texts, 12 as before"];
    let rejoined = |rows: &[&str]| format!("{}\n{}\n", lines[0], rows.join("\n"));
    let mut shuffled = lines[1..].to_vec();
    shuffled.reverse();
    refused(&rejoined(&shuffled), &counted);
    assert_eq!(named().evaluation.count, 60);
    let mut added = lines[1..].to_vec();
    added.extend(["aaa,first"; 9]);
    refused(&rejoined(&added), &["the test split has ", " texts and had 12"]);
    assert_eq!(named().evaluation.count, 69);
    refused(&original.replace(",first\n", ",1st\n"), &["new ones: \"1st\"", "missing ones: \"first\""]);
    let swapped = original.replace(",first\n", ",?\n").replace(",second\n", ",first\n").replace(",?\n", ",second\n");
    assert_ne!(swapped, original);
    folder.file("data.csv", &swapped);
    assert!(run.evaluate(&[]).unwrap_err().to_string().contains("the test split has other texts"));
    refused(&original.replace("aa", "ay"), &counted);

    folder.file("data.csv", &original);
    assert_eq!(Some(run.evaluate(&[]).unwrap().evaluation), outcome.test);
}

#[test]
fn a_changed_text_is_no_longer_the_runs_own() {
    let folder = TestFolder::new();
    let original = text(8, 600);
    let path = folder.file("text.txt", &original);
    let mut recipe = language_model(&path);
    lm(&mut recipe).files.split = [0.5, 0.3, 0.2];
    recipe.train.steps = 5;
    let run = folder.run("run");
    let outcome = run.train(&recipe).unwrap();
    let (before, end) = original.split_at(590);
    for (changed, says) in [
        (format!("{before}{}", end.chars().rev().collect::<String>()), "has other characters, 120 as before"),
        (format!("{original}abcdabcdab"), "has 122 characters and had 120"),
    ] {
        folder.file("text.txt", &changed);
        let error = run.evaluate(&[]).expect_err("other data").to_string();
        assert!(error.contains(&format!("the test split {says}")) && error.contains("--data"), "{error}");
    }
    folder.file("text.txt", &original);
    assert_eq!(Some(run.evaluate(&[]).unwrap().evaluation), outcome.test);
}

#[test]
fn a_run_without_a_test_split_says_what_to_measure_on() {
    let folder = TestFolder::new();
    let mut recipe = short_classifier(&folder.file("data.csv", &table(5, 40)));
    classify(&mut recipe).files.split = [0.8, 0.2, 0.0];
    let run = folder.run("run");
    assert_eq!(run.train(&recipe).unwrap().test, None);
    let error = run.evaluate(&[]).unwrap_err().to_string();
    assert!(error.contains("test split") && error.contains("--data"), "{error}");
}

/// The same texts with other labels are other data, also where these files are a split of their own.
#[test]
fn changed_labels_are_changed_data() {
    let folder = TestFolder::new();
    let rows = |first, second| format!("text,label\naaa,{first}\nbbb,{second}\n");
    let test = folder.file("test.csv", &rows("first", "second"));
    let mut recipe = short_classifier(&folder.file("data.csv", &table(5, 60)));
    classify(&mut recipe).files.test = vec![test];
    let run = folder.run("run");
    let outcome = run.train(&recipe).unwrap();
    folder.file("test.csv", &rows("second", "first"));
    let error = run.evaluate(&[]).unwrap_err().to_string();
    assert!(error.contains("the test split has other texts, 2 as before"), "{error}");
    assert!(run.resume(&recipe).unwrap_err().to_string().contains("the test split has other texts"));
    folder.file("test.csv", &rows("first", "second"));
    assert_eq!(Some(run.evaluate(&[]).unwrap().evaluation), outcome.test);
}

/// In files of a split and in files to measure on.
#[test]
fn a_class_the_model_does_not_know_is_an_error_with_its_line() {
    let folder = TestFolder::new();
    let path = folder.file("data.csv", &table(5, 60));
    let other = folder.file("other.csv", "text,label\naaa,first\nbbb,fourth\n");
    let says = |error: String| assert!(error.contains("other.csv:3: ") && error.contains("\"fourth\""), "{error}");
    for validation in [true, false] {
        let mut recipe = short_classifier(&path);
        let files = &mut classify(&mut recipe).files;
        if validation { &mut files.validation } else { &mut files.test }.push(other.clone());
        says(folder.run("never").train(&recipe).unwrap_err().to_string());
    }
    assert_eq!(folder.entries(), ["data.csv", "other.csv"], "a run that does not begin leaves nothing");
    let run = folder.run("run");
    run.train(&short_classifier(&path)).unwrap();
    says(run.evaluate(&[other]).unwrap_err().to_string());
}

/// An example of the training split among those to measure on is no measure; also where the splits are files of their own.
#[test]
fn examples_in_two_splits_are_named_and_removed_on_request() {
    let folder = TestFolder::new();
    let training: String = (0..40).map(|i| format!("word {i},{}\n", ["first", "second"][i % 2])).collect();
    let training = folder.file("training.csv", &format!("text,label\n{training}"));
    let validation = folder.file("validation.csv", "text,label\nnew one,first\nword 3,second\nnew two,second\n");
    let test = folder.file("test.csv", "text,label\nnew one,first\nword 4,first\nword 5,first\nnewest,second\n");
    let mut recipe = short_classifier(&training);
    (classify(&mut recipe).files.validation, classify(&mut recipe).files.test) = (vec![validation], vec![test]);
    let run = folder.run("shared");
    let description = trained(&run, &recipe);
    let [warning] = &description.warnings[..] else { panic!("one warning: {:?}", description.warnings) };
    let place = |file: &str| folder.join(file).display().to_string();
    for said in [
        "4 of the examples to measure on".to_owned(),
        format!("{}:5 and {}:3", place("training.csv"), place("validation.csv")),
        format!("{}:2 and {}:2", place("validation.csv"), place("test.csv")),
        "1 of them with another label".to_owned(),
        "data.deduplicate = true".to_owned(),
    ] {
        assert!(warning.contains(&said), "{said}: {warning}");
    }
    assert!(run.card().contains("| warning | 4 of the examples"), "{}", run.card());
    let notes = run.evaluate(&[]).unwrap().notes;
    assert!(notes.contains(warning), "an evaluation warns too: {notes:?}");

    classify(&mut recipe).examples.deduplicate = true;
    let run = folder.run("deduplicated");
    let description = trained(&run, &recipe);
    assert_eq!(values(&description, "duplicates removed"), ["3"]);
    assert!(values(&description, "test split")[0].starts_with("2 texts"), "{description:?}");
    assert!(description.warnings[0].starts_with("1 of the examples"), "one text has two labels");
    assert_eq!(run.evaluate(&[]).unwrap().evaluation.count, 2);
}

/// What a folder holds and is not read is said, in training and when measuring.
#[test]
fn what_is_not_read_is_listed() {
    let folder = TestFolder::new();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    for example in 0..12 {
        for class in ["first", "second"] {
            write(&format!("data/{class}/{example}.txt"), format!("{class} of {example}").as_bytes());
        }
    }
    write("data/first/latin.txt", b"caf\xE9");
    write("data/second/picture.png", b"\x89PNG\0");
    write("data/second/blank.txt", b" \n");
    write("data/.cache/x.txt", b"x");
    write("data/notes.md", b"about the data");
    let data = folder.join("data");
    let expected = [
        ("data/.cache", "hidden"),
        ("data/first/latin.txt", "not valid UTF-8, line 1"),
        ("data/notes.md", "a file next to the class folders"),
        ("data/second/blank.txt", "no text in it"),
        ("data/second/picture.png", "a binary file"),
    ];
    let expected = expected.map(|(name, why)| format!("{}: {why}", folder.join(name).display()));
    let run = folder.run("classify");
    let description = trained(&run, &short_classifier(&data));
    assert_eq!(values(&description, "left out"), expected);
    let said = expected.clone().map(|what| format!("left out: {what}"));
    assert_eq!(run.evaluate(&[]).unwrap().notes, said);
    assert_eq!(run.evaluate(std::slice::from_ref(&data)).unwrap().notes, said);

    let mut recipe = language_model(&data);
    lm(&mut recipe).files.split = [0.5, 0.25, 0.25];
    recipe.train.steps = 5;
    let run = folder.run("lm");
    let description = trained(&run, &recipe);
    // To a language model blank text is text, and so is what lies beside the classes.
    let expected = [&expected[0], &expected[1], &expected[4]];
    assert_eq!(values(&description, "left out"), expected);
    let said = expected.map(|what| format!("left out: {what}"));
    assert_eq!(run.evaluate(&[]).unwrap().notes, said);
    assert_eq!(run.evaluate(&[data]).unwrap().notes, said);
    assert!(run.card().contains("| left out |"), "{}", run.card());
}

/// Also in the files of a split of their own; the first ten are named and the others counted.
#[test]
fn what_is_not_read_of_a_split_is_listed_too() {
    let folder = TestFolder::new();
    for class in ["first", "second"] {
        for split in ["training", "own"] {
            std::fs::create_dir_all(folder.join(split).join(class)).unwrap();
            (0..9).for_each(|number| drop(folder.file(&format!("{split}/{class}/{number}.txt"), class)));
        }
    }
    for number in 10..23 {
        folder.file(&format!("own/first/{number}.png"), "\0");
    }
    let own = folder.join("own");
    let mut expected: Vec<String> = (10..20)
        .map(|number| format!("{}: a binary file", own.join(format!("first/{number}.png")).display()))
        .collect();
    expected.push("and 3 more files or folders".to_owned());

    let mut classifier = short_classifier(&folder.join("training"));
    classify(&mut classifier).files.validation = vec![own.clone()];
    let mut language_model = language_model(&folder.file("text.txt", &text(8, 600)));
    lm(&mut language_model).files.validation = vec![own];
    language_model.train.steps = 5;
    for (name, recipe) in [("classify", classifier), ("lm", language_model)] {
        let description = trained(&folder.run(name), &recipe);
        assert_eq!(values(&description, "left out"), expected, "{name}");
    }
}

#[test]
fn blank_records_are_counted() {
    let folder = TestFolder::new();
    let mut examples = table(5, 40);
    examples.push_str(" ,first\n\"\",second\n");
    let path = folder.file("data.csv", &examples);
    let run = folder.run("run");
    assert_eq!(values(&trained(&run, &short_classifier(&path)), "left out"), ["2 blank texts"]);
    assert_eq!(run.evaluate(&[path]).unwrap().notes, ["left out: 2 blank texts"]);
}

/// No word may appear that stands in no file.
#[test]
fn files_are_joined_at_a_line_end() {
    let folder = TestFolder::new();
    let file = |name: &str, first: &str| {
        folder.file(name, &format!("{first} {}", "to be or not to be ".repeat(30).trim_end()))
    };
    let paths = [file("a.txt", "alpha"), file("b.txt", "beta"), file("c.txt", "gamma")];
    let mut recipe = language_model(&paths[0]);
    let options = lm(&mut recipe);
    options.files.paths = paths.to_vec();
    (options.units.unit, options.files.split) = (Unit::Word, [0.9, 0.05, 0.05]);
    recipe.train.steps = 5;
    let run = folder.run("run");
    run.train(&recipe).unwrap();
    let vocabulary = std::fs::read_to_string(run.opened().path().join("vocabulary.json")).unwrap();
    let vocabulary: serde_json::Value = serde_json::from_str(&vocabulary).unwrap();
    let mut words: Vec<&str> =
        vocabulary["tokens"].as_array().unwrap().iter().filter_map(|word| word.as_str()).collect();
    words.sort_unstable();
    assert_eq!(words, ["\n", "<unk>", "alpha", "be", "beta", "gamma", "not", "or", "to"]);
    assert_eq!(run.evaluate(&paths).unwrap().evaluation.unknown_share, 0.0);
}

/// What was found out in training holds from then on, whatever another file looks like.
#[test]
fn the_format_is_found_out_once() {
    let folder = TestFolder::new();
    let path = folder.file("data.csv", &table(5, 40));
    let recipe = short_classifier(&path);
    assert!(recipe.to_toml().unwrap().contains("format = \"auto\""));
    let run = folder.run("run");
    run.train(&recipe).unwrap();
    let written = std::fs::read_to_string(run.opened().config_toml()).unwrap();
    assert!(written.lines().any(|line| line == "format = \"csv\""), "{written}");

    let renamed = folder.file("data.txt", &table(5, 40));
    let [as_csv, as_text] = [&path, &renamed].map(|path| run.evaluate(std::slice::from_ref(path)).unwrap().evaluation);
    assert_eq!(as_csv, as_text);
    let mut own = recipe.clone();
    classify(&mut own).files.validation = vec![renamed.clone()];
    folder.run("own").train(&own).expect("the files of a split have the format of the others");
    let mut guessed = recipe.clone();
    classify(&mut guessed).files.paths = vec![renamed];
    let error = folder.run("guessed").train(&guessed).unwrap_err().to_string();
    assert!(error.contains("set the format"), "the name alone tells it: {error}");
    // The recipe as it was given resumes the run all the same.
    assert_eq!(run.resume(&recipe).unwrap().new_updates, 0);
}

/// Rare words are now and then read as unknown, so that the model learns what to make of one: its row in the embedding moves.
#[test]
fn the_unknown_unit_is_trained() {
    let folder = TestFolder::new();
    let words: String = (0..300).map(|i| format!("{} w{i}\n", ["the", "a", "one"][i % 3])).collect();
    let labelled: String = (0..80).map(|i| format!("word w{i},{}\n", ["first", "second"][i % 2])).collect();
    let text = folder.file("text.txt", &words);
    let examples = folder.file("data.csv", &format!("text,label\n{labelled}"));
    let recipes: [fn(&PathBuf) -> Recipe; 2] = [
        |path| {
            let mut recipe = language_model(path);
            let options = lm(&mut recipe);
            (options.units.unit, options.files.split) = (Unit::Word, [0.8, 0.1, 0.1]);
            options.model.initial_state = InitialState::Zero;
            recipe
        },
        |path| {
            let mut recipe = short_classifier(path);
            classify(&mut recipe).units.unit = Unit::Word;
            recipe
        },
    ];
    for (task, (recipe, path)) in recipes.into_iter().zip([text, examples]).enumerate() {
        for (unknown, moves) in [(None, true), (Some(0.0), false)] {
            let mut recipe = recipe(&path);
            recipe.train.steps = 20;
            // The decay would move the row too.
            recipe.optimiser.weight_decay = 0.0;
            match task {
                0 => lm(&mut recipe).known.unknown = unknown,
                _ => classify(&mut recipe).known.unknown = unknown,
            }
            let run = folder.run(&format!("run-{task}-{moves}"));
            run.train_until(0, &recipe).unwrap_err();
            // The embedding comes first in the layout; its first row is that of the unknown unit.
            let row = || run.parameters()[..8].to_vec();
            let (before, known) = (row(), run.parameters()[8..16].to_vec());
            run.resume(&recipe).unwrap();
            assert_ne!(run.parameters()[8..16], known, "a frequent word moves");
            assert_eq!(row() != before, moves, "task {task}, {unknown:?}");
        }
    }
}

#[test]
fn every_answer_says_what_share_of_its_text_is_unknown() {
    let folder = TestFolder::new();
    let path = folder.file("data.csv", &table(5, 60));
    let run = folder.run("classify");
    run.train(&short_classifier(&path)).unwrap();
    let text = folder.file("text.txt", &text(8, 600));
    let mut recipe = language_model(&text);
    lm(&mut recipe).files.split = [0.5, 0.3, 0.2];
    recipe.train.steps = 5;
    let lm_run = folder.run("lm");
    lm_run.train(&recipe).unwrap();
    for run in [&run, &lm_run] {
        let answers = run.model().predict_lines(&["abab", "ab??", "????", ""]);
        let shares: Vec<f64> =
            answers.iter().map(|answer| answer.as_ref().unwrap()["unknown_share"].as_f64().unwrap()).collect();
        assert_eq!(shares, [0.0, 0.5, 1.0, 0.0]);
    }
    let odd = folder.file("odd.txt", "abcd????");
    assert_eq!(lm_run.evaluate(&[odd]).unwrap().evaluation.unknown_share, 0.5);
    let odd = folder.file("odd.csv", "text,label\na???,first\n????,second\n");
    assert_eq!(run.evaluate(&[odd]).unwrap().evaluation.unknown_share, 7.0 / 8.0);
}

/// Given twice, a file is a slip; a split that repeats another may be meant, but its scores say little.
#[test]
fn files_given_twice() {
    let folder = TestFolder::new();
    let path = folder.file("text.txt", &text(1, 400));
    let again = folder.join(".").join("text.txt");
    let mut twice = language_model(&path);
    lm(&mut twice).files.paths.push(again.clone());
    let error = folder.run("twice").train(&twice).unwrap_err().to_string();
    assert!(error.ends_with("text.txt: data.paths: expected each file or folder once, found it twice"), "{error}");
    let mut across = language_model(&path);
    (across.train.steps, lm(&mut across).files.test) = (5, vec![again]);
    let mut warnings = Vec::new();
    let watch = &mut |event: Event<'_>| {
        if let Event::Warning(warning) = event {
            warnings.push(warning.to_owned());
        }
    };
    folder.run("across").train_watched(&across, watch).unwrap();
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(warning.contains("text.txt is in data.paths and in data.test"), "{warning}");
}
