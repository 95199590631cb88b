//! Models of piano rolls: they learn, their baselines and scores are right, and their data are read and checked.

use std::collections::BTreeMap;

use throughline_data::{Split, piano_roll_from_json, piano_roll_to_midi};
use throughline_testkit::assert_close;
use throughline_train::{Event, Recipe, Score};

use crate::common::{TestFolder, piano_roll, pieces, roll};

/// Of sums of a few terms against the same by hand.
const ROUNDING: f64 = 1e-12;

/// What a run says when it is ready: its baselines, its data, its warnings.
fn ready(folder: &TestFolder, recipe: &Recipe) -> (Vec<Score>, BTreeMap<String, String>, Vec<String>) {
    let mut said = None;
    let watch = &mut |event: Event<'_>| {
        if let Event::Ready { baselines, description, .. } = event {
            let data = description.data.iter().cloned().collect();
            said = Some((baselines.to_vec(), data, description.warnings.clone()));
        }
    };
    let name = format!("run-{}", folder.entries().len());
    folder.run(&name).train_watched(recipe, watch).unwrap();
    said.unwrap()
}

#[test]
fn chords_and_scales_are_learned() {
    let folder = TestFolder::new();
    let mut recipe = piano_roll(&folder.file("pieces.json", &pieces(1, 120)));
    (roll(&mut recipe).roll.lowest_pitch, roll(&mut recipe).roll.highest_pitch) = (40, 71);
    (recipe.train.epochs, recipe.optimiser.learning_rate) = (30, 0.03);
    for (window, name) in [(0, "whole"), (12, "parts")] {
        roll(&mut recipe).parts.window = window;
        let outcome = folder.run(name).train(&recipe).unwrap();
        let test = outcome.test.unwrap();
        assert!(test.metrics["f1"] > 0.9 && test.loss < 2.0, "{name}: {test:?}");
        let report = folder.run(name).evaluate(&[]).unwrap();
        assert_eq!((report.evaluation.loss, report.evaluation.metrics), (test.loss, test.metrics));
        let card = folder.run(name).card();
        for part in ["Markov chain of each key", "`frame_accuracy`", "pitches 40 to 71", "--out continued.mid"] {
            assert!(card.contains(part), "no {part} in {card}");
        }
    }
}

#[test]
fn baselines_are_the_frequencies_of_each_key_alone() {
    let folder = TestFolder::new();
    let json = r#"{"train": [[[60],[60],[],[60]], [[61]]], "valid": [[[60],[60,61]]], "test": [[[],[60]],[[60]]]}"#;
    let mut recipe = piano_roll(&folder.file("pieces.json", json));
    (roll(&mut recipe).roll.lowest_pitch, roll(&mut recipe).roll.highest_pitch) = (60, 61);
    recipe.train.steps = 5;
    let (scores, data, warnings) = ready(&folder, &recipe);
    // Of five steps 60 is on in three and 61 in one. After on, 60 is on once and off once; after off, it is on once. 61 is off
    // after off three times, and never was on before a step.
    let nll = |probabilities: [f64; 2]| -probabilities.iter().map(|p| p.ln()).sum::<f64>();
    let want = [
        ("frequency of each key", Split::Validation, nll([3.5 / 6.0, 1.5 / 6.0])),
        ("Markov chain of each key", Split::Validation, nll([1.5 / 3.0, 0.5 / 4.0])),
        ("frequency of each key", Split::Test, nll([3.5 / 6.0, 4.5 / 6.0])),
        ("Markov chain of each key", Split::Test, nll([1.5 / 2.0, 3.5 / 4.0])),
    ];
    assert_eq!(scores.len(), want.len());
    for (score, (method, split, loss)) in scores.iter().zip(want) {
        assert_eq!((&score.method[..], score.split), (method, split));
        assert_close(method, &[score.metrics["loss"]], &[loss], ROUNDING);
    }
    assert_eq!((scores[0].metrics["precision"], scores[0].metrics["recall"]), (1.0, 0.5));
    assert_eq!(data["training split"], "2 pieces of 5 steps, 0.80 notes on a step");
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn midi_is_divided_at_random_and_notes_without_a_key_are_said() {
    let folder = TestFolder::new();
    for piece in 0..20 {
        let steps = format!("[[{}],[62],[20,64]]", 60 + piece);
        let midi = piano_roll_to_midi(&piano_roll_from_json(&steps).unwrap(), 4);
        std::fs::write(folder.join(format!("{piece:02}.mid")), midi).unwrap();
    }
    folder.file("notes.txt", "not music");
    let runs = TestFolder::new();
    let mut recipe = piano_roll(&folder);
    roll(&mut recipe).files.split = [0.5, 0.25, 0.25];
    recipe.train.steps = 5;
    let (_, data, warnings) = ready(&runs, &recipe);
    assert_eq!(data["training split"], "10 pieces of 30 steps, 1.33 notes on a step");
    assert_eq!(data["test split"], "5 pieces of 15 steps, 1.33 notes on a step");
    assert!(data["left out"].ends_with("notes.txt: neither MIDI nor JSON"), "{data:?}");
    let said = "10 of 40 notes in the training split are not from 21 to 108, and the model does not see them";
    assert_eq!((warnings.len(), &warnings[0][..]), (3, said));
    let report = runs.run("run-0").evaluate(&[folder.join("03.mid")]).unwrap();
    assert_eq!((report.evaluation.count, report.evaluation.unknown_share), (2, 0.25));
    assert!(report.notes[0].starts_with("1 of 4 notes in "), "{:?}", report.notes);
    // Another seed draws others.
    let digest = |recipe: &Recipe, name: &str| {
        runs.run(name).train(recipe).unwrap();
        std::fs::read_to_string(runs.run(name).opened().path().join("data.json")).unwrap()
    };
    let first = digest(&recipe, "first");
    assert_eq!(digest(&recipe, "again"), first);
    recipe.seed = 2;
    assert_ne!(digest(&recipe, "other"), first);
}

#[test]
fn splits_are_those_of_the_files() {
    let folder = TestFolder::new();
    let json = r#"{"train": [[[60],[61]]], "valid": [[[62],[63]]], "test": [[[64],[65]],[[66],[67],[68]]]}"#;
    let path = folder.file("pieces.json", json);
    let mut recipe = piano_roll(&path);
    recipe.train.steps = 5;
    folder.run("own").train(&recipe).unwrap();
    let report = folder.run("own").evaluate(&[]).unwrap();
    assert_eq!(report.evaluation.count, 3);
    let named = folder.run("own").evaluate(&[path]).unwrap();
    assert_eq!((named.evaluation.count, named.evaluation.loss), (3, report.evaluation.loss));
    assert_eq!(named.notes, ["left out: 2 pieces that are for training or validation"]);
    // Data that have changed are no longer the run's own.
    folder.file("pieces.json", &json.replace("68", "69"));
    let error = folder.run("own").evaluate(&[]).unwrap_err().to_string();
    assert!(error.contains("the test split has other steps"), "{error}");
    // Files of their own.
    let list = folder.file("list.json", "[[[1],[2]],[[3],[4]],[[5],[6]]]");
    let mut recipe = piano_roll(&list);
    roll(&mut recipe).files.validation = vec![folder.file("validation.json", "[[[1],[2]]]")];
    roll(&mut recipe).files.test = vec![folder.file("test.json", "[[[1],[2],[3]]]")];
    recipe.train.steps = 5;
    let (_, data, _) = ready(&folder, &recipe);
    let pieces = |split: &str| data[split].split(' ').next().unwrap().to_owned();
    assert_eq!(["training split", "validation split", "test split"].map(pieces), ["3", "1", "1"]);
}

#[test]
fn pieces_that_cannot_be_used() {
    let folder = TestFolder::new();
    let refused = |json: &str, change: &dyn Fn(&mut Recipe), says: &[&str]| {
        let mut recipe = piano_roll(&folder.file("pieces.json", json));
        change(&mut recipe);
        let error = folder.run("run").train(&recipe).unwrap_err().to_string();
        assert!(says.iter().all(|part| error.contains(part)), "{error}");
    };
    let as_it_is = |_: &mut Recipe| {};
    refused("[[[60],[128]]]", &as_it_is, &["pieces.json:1", "0 to 127", "`128`"]);
    refused("[[[60],[61]]]", &as_it_is, &["pieces.json: validation split", "a piece of at least two steps"]);
    refused("{\"train\": [[[60]]], \"valid\": [[[60],[1]]]}", &as_it_is, &["training split", "found 1 pieces"]);
    let long = format!("{{\"train\": [[[60]{}]], \"valid\": [[[60],[1]]]}}", ",[61]".repeat(200_000));
    refused(&long, &as_it_is, &["at most", "memory for one piece", "found 200001 steps"]);
    let twice = |recipe: &mut Recipe| {
        let path = roll(recipe).files.paths[0].clone();
        roll(recipe).files.paths.push(path);
    };
    refused("[[[60],[61]]]", &twice, &["data.paths", "once"]);
    assert!(!folder.join("run").exists());
}
