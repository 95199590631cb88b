//! A look inside trained models.

use std::fs;

use crate::folder::{Folder, json_lines};
use crate::trained::{TINY_CLASSIFIER, classifier, language_model, piano_rolls, tagger, text, tsv, with};

#[test]
fn a_language_model_is_looked_into() {
    let folder = language_model();
    let said = folder.run_in_environment(&["inspect", "lm-1", "--steps", "40"], "COLUMNS", "80").succeeded();
    for part in [
        "lm-1: language model, gru 1 x 16",
        "seen on test split: ",
        "How far back gradients reach",
        "rnn layer 0, h, median, 1e-6 to ",
        "Memory: ",
        "How far back inputs count",
        "rnn layer 0 update",
        "States",
        "Recurrent weights",
        "gradient norm",
        "clipped to norm 1.00: ",
        "Diagnosis: no fault was found",
    ] {
        assert!(said.contains(part), "no {part:?} in\n{said}");
    }
    assert!(!said.contains('\u{1b}'), "{said}");
    let too_long: Vec<&str> = said.lines().filter(|line| line.chars().count() > 80).collect();
    assert_eq!(too_long, [""; 0]);
}

#[test]
fn programs_read_what_people_do() {
    let folder = language_model();
    let arguments = ["inspect", "lm-1", "--json", "--sequences", "3", "--steps", "20", "--anchors", "2"];
    let found = &json_lines(&folder.run(&arguments).succeeded())[0];
    assert_eq!(
        (&found["run"], &found["cell"], &found["data"]),
        (&"lm-1".into(), &"gru_after".into(), &"test split".into())
    );
    assert_eq!((&found["sequences"], &found["steps"]), (&3.into(), &60.into()));
    let flow = found["flow"].as_array().unwrap();
    assert_eq!(flow.len(), 1, "a flow for each layer");
    let lags = flow[0]["lags"].as_array().unwrap();
    assert_eq!((&flow[0]["stack"], lags.len()), (&"rnn".into(), 20));
    assert_eq!(lags[0]["anchors"], 6, "three sequences with two each");
    assert_eq!(lags[0]["relative"]["median"], 1.0);
    // What was logged of the training is what is told of it.
    let rows = folder.rows("runs/lm-1/metrics.jsonl");
    let logged: Vec<_> = rows.iter().filter(|row| row["split"] == "train").map(|row| &row["grad_norm"]).collect();
    let updates = found["training"]["updates"].as_array().unwrap();
    let told: Vec<_> = updates.iter().map(|update| &update["gradient_norm"]).filter(|norm| !norm.is_null()).collect();
    assert_eq!(told, logged);
    assert_eq!(found["training"]["clip_norm"], 1.0);
}

#[test]
fn other_data_are_shown_to_a_classifier() {
    let folder = classifier();
    let all = &json_lines(&folder.run(&["inspect", "classify-1", "--json", "--data", "texts.tsv"]).succeeded())[0];
    assert_eq!((&all["data"], &all["sequences"]), (&"texts.tsv".into(), &80.into()));
    let own = &json_lines(&folder.run(&["inspect", "classify-1", "--json"]).succeeded())[0];
    assert!(own["sequences"].as_u64().unwrap() < 80, "{own}");
    // One loss for a text, and both directions.
    let directions: Vec<_> = all["flow"].as_array().unwrap().iter().map(|flow| &flow["reverse"]).collect();
    let states: Vec<_> = all["flow"].as_array().unwrap().iter().map(|flow| &flow["state"]).collect();
    assert_eq!(directions, [false, false, true, true]);
    assert_eq!(states, ["h", "c", "h", "c"]);
    assert_eq!(all["flow"][0]["lags"][0]["anchors"], 80);
    assert!(folder.run(&["inspect", "classify-1"]).succeeded().contains("rnn layer 0, reverse forget"));
}

#[test]
fn every_kind_of_model_can_be_looked_into() {
    for (folder, run) in [(tagger(), "tag-1"), (piano_rolls(), "roll-1")] {
        let found = &json_lines(&folder.run(&["inspect", run, "--json"]).succeeded())[0];
        assert!(found["steps"].as_u64().unwrap() > 0 && found["spectra"][0]["radius"].is_f64(), "{found}");
    }
}

#[test]
fn what_cannot_be_looked_into() {
    let folder = classifier();
    folder.write("prose.txt", text(20));
    folder.run(&["inspect", "nothing"]).refused(&["nothing: run: expected the path of a run folder"]);
    folder.run(&["inspect", "classify-1", "--data", "prose.txt"]).refused(&["prose.txt"]);
    folder.run(&["inspect", "classify-1", "--data", "gone.tsv"]).refused(&["gone.tsv", "No such file"]);
    let other = language_model();
    folder.write("runs/classify-1/config.json", other.text("runs/lm-1/config.json"));
    folder.run(&["inspect", "classify-1"]).refused(&["config.json: task", "\"classify\"", "\"lm\""]);
    for file in ["model.safetensors", "README.md"] {
        fs::remove_file(folder.join("runs/classify-1").join(file)).unwrap();
    }
    folder.run(&["inspect", "classify-1"]).refused(&["expected a trained model", "--resume runs/classify-1"]);
}

#[test]
fn more_steps_than_memory_allows() {
    let folder = language_model();
    folder.write("long.txt", text(3000));
    let arguments = ["inspect", "lm-1", "--data", "long.txt", "--steps", "1000000000", "--anchors", "1000000000"];
    let parts = ["runs/lm-1: long.txt: expected at most 4294967296 bytes", " bytes for ", "take fewer sequences"];
    folder.run(&arguments).refused(&parts);
}

#[test]
fn a_page_is_written() {
    let folder = classifier();
    let said = folder.run(&["inspect", "classify-1", "--html", "report.html"]).succeeded();
    assert!(said.contains("Diagnosis"), "the text is written, too");
    let html = folder.text("report.html");
    assert!(html.starts_with("<!DOCTYPE html>") && html.ends_with("</html>\n"), "{html}");
    for part in ["classify-1", "Confusion matrix", "accuracy", "Gradient norm", "What the gates do"] {
        assert!(html.contains(part), "no {part:?}");
    }
    assert_eq!(folder.names(""), ["report.html", "runs", "texts.tsv"], "nothing else is left");
}

#[test]
fn training_ends_with_a_page() {
    let folder = Folder::with(&[("texts.tsv", &tsv())]);
    let short = with(&["train", "--quiet", "--data", "texts.tsv"], TINY_CLASSIFIER);
    folder.run(&with(&short, &["name=with"])).succeeded();
    let html = folder.text("runs/with/report.html");
    for part in ["<h1>with</h1>", "Confusion matrix", "What answers rest on", "Example 3"] {
        assert!(html.contains(part), "no {part:?}");
    }
    folder.run(&with(&short, &["name=without", "train.report=false"])).succeeded();
    assert!(!folder.names("runs/without").contains(&"report.html".to_owned()));
}

#[test]
fn examples_are_shown_in_detail() {
    let folder = classifier();
    let said = folder.run_in_environment(&["inspect", "classify-1", "--examples", "2"], "COLUMNS", "80").succeeded();
    for part in [
        "Examples, from the highest",
        "1: mean loss ",
        "; the answer scores -",
        "2: mean loss ",
        "  parts",
        "  most",
        "  unit ",
    ] {
        assert!(said.contains(part), "no {part:?} in\n{said}");
    }
    assert!(!said.contains("3: mean loss"));
    let found = &json_lines(&folder.run(&["inspect", "classify-1", "--json", "--examples", "1"]).succeeded())[0];
    let example = &found["examples"][0];
    let steps = example["pieces"].as_array().unwrap().len();
    for parts in ["integrated", "gradient_input"] {
        assert_eq!(example["attribution"][parts].as_array().unwrap().len(), steps);
    }
    assert_eq!(example["units"][0]["values"].as_array().unwrap().len(), steps);
    assert!(!folder.run(&["inspect", "classify-1", "--examples", "0"]).succeeded().contains("Examples"));
}

#[test]
fn a_page_that_cannot_be_written_is_refused_before_any_work() {
    let folder = classifier();
    fs::create_dir(folder.join("folder")).unwrap();
    // The data would be refused as well, if anybody had read them.
    for (page, parts) in [
        ("folder", &["folder: file to write: expected a regular file", "found a folder"][..]),
        ("gone/report.html", &["gone/report.html", "No such file"]),
        ("..", &[".."]),
    ] {
        folder.run(&["inspect", "classify-1", "--data", "gone.tsv", "--html", page]).refused(parts);
    }
    // What was there stays if there is no new one, and nothing half-written is left.
    folder.write("report.html", "old");
    let arguments = ["inspect", "classify-1", "--data", "gone.tsv", "--html", "report.html"];
    folder.run(&arguments).refused(&["gone.tsv"]);
    assert_eq!(folder.text("report.html"), "old");
    assert_eq!(folder.names(""), ["folder", "report.html", "runs", "texts.tsv"]);
}
