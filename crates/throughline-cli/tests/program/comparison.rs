//! `throughline runs`: runs in a table, and what differs between two of them.

use crate::folder::{Folder, json_lines};
use crate::trained::{TINY_CLASSIFIER, TINY_LANGUAGE_MODEL, classifier, language_model, text, tsv, with};

/// A folder with runs of two tasks.
fn runs() -> Folder {
    let folder = classifier();
    folder.write("text.txt", text(300));
    folder.run(&with(&["train", "--quiet", "text.txt"], TINY_LANGUAGE_MODEL)).succeeded();
    let slower = with(TINY_CLASSIFIER, &["name=classify-10", "model.cell=gru", "optimiser.learning_rate=1e-6"]);
    folder.run(&with(&["train", "--quiet", "texts.tsv"], &slower)).succeeded();
    folder
}

/// First words of the lines after the head.
fn listed(table: &str) -> Vec<&str> {
    table.lines().skip(1).map(|line| line.split_whitespace().next().unwrap()).collect()
}

#[test]
fn runs_are_listed_and_sorted() {
    let folder = runs();
    let table = folder.run(&["runs"]).succeeded();
    assert_eq!(listed(&table), ["runs/classify-1", "runs/classify-10", "runs/lm-1"]);
    let line = |name: &str| table.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
    assert!(line("runs/classify-1").contains("lstm 1 x 8 bidirectional"), "{table}");
    let rows = folder.rows("runs/classify-10/metrics.jsonl");
    let (best, test) = (&rows[rows.len() - 2], rows.last().unwrap());
    assert_eq!(test["split"], "test");
    let accuracy = |row: &serde_json::Value| format!("accuracy {:.4}", row["accuracy"].as_f64().unwrap());
    assert!(line("runs/classify-10").ends_with(&accuracy(test)) && best["split"] == "val", "{table}");
    assert!(line("runs/lm-1").contains("  loss "), "{table}");

    let sorted = |metric: &str| {
        let table = folder.run(&["runs", "--sort", metric]).succeeded();
        listed(&table).iter().map(|name| name.trim_start_matches("runs/").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(sorted("-accuracy"), ["classify-1", "classify-10", "lm-1"], "those without the metric come last");
    assert_eq!(sorted("accuracy"), ["classify-10", "classify-1", "lm-1"]);
    assert_eq!(sorted("loss")[0], "classify-1");
    assert_eq!(sorted("updates")[0], "lm-1");
    folder.run(&["runs", "--sort", "beauty"]).refused(&["--sort", "accuracy", "perplexity", "found beauty"]);

    let lines = json_lines(&folder.run(&["runs", "--json", "runs/lm-1", "runs/classify-1"]).succeeded());
    assert_eq!(lines.iter().map(|run| run["name"].as_str().unwrap()).collect::<Vec<_>>(), ["classify-1", "lm-1"]);
    let lm = folder.rows("runs/lm-1/metrics.jsonl");
    assert_eq!((&lines[1]["updates"], &lines[1]["test"]["loss"]), (&40.into(), &lm.last().unwrap()["loss"]));
    let kept = lm.iter().find(|row| row["split"] == "val" && row["step"] == lines[1]["kept"]).unwrap();
    assert_eq!(lines[1]["validation"]["perplexity"], kept["perplexity"]);
}

#[test]
fn two_runs_differ_in_what_was_set() {
    let folder = runs();
    let table = folder.run(&["runs", "--diff", "classify-1", "runs/classify-10"]).succeeded();
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["setting", "classify-1", "runs/classify-10"]);
    let expected = [["model.cell", "\"lstm\"", "\"gru\""], ["optimiser.learning_rate", "0.02", "0.000001"]];
    assert_eq!(lines[1..], expected.map(|line| line.to_vec()), "{table}");
    let lines = json_lines(&folder.run(&["runs", "--json", "--diff", "lm-1", "classify-1"]).succeeded());
    let of = |key: &str| lines.iter().find(|line| line["key"] == key).map(|line| line["values"].clone());
    assert_eq!(of("train.stride"), Some(serde_json::json!(["16", null])));
    assert_eq!(of("seed"), None);
    let same = folder.run(&["runs", "--diff", "lm-1", "lm-1"]).succeeded();
    assert_eq!(same, "the recipes are the same\n");
    folder.run(&["runs", "--diff", "lm-1", "lm-2"]).refused(&["lm-2", "config.toml"]);
}

#[test]
fn what_is_no_run_is_said_and_the_others_are_listed() {
    let folder = language_model();
    for (name, content) in [
        ("runs/foreign/photo.txt", "not a run"),
        ("runs/broken/config.toml", "task = "),
        ("runs/old/config.toml", "task = \"lm\"\ndata.paths = [\"x\"]\n"),
        ("runs/.hidden/file", ""),
        ("runs/notes.txt", "a file"),
    ] {
        folder.write(name, content);
    }
    folder.write("runs/old/last.safetensors", "nonsense that is long enough");
    let ran = folder.run(&["runs"]);
    assert!(ran.err.contains("the name of one in runs, found neither"), "{ran:?}");
    for part in ["runs/foreign", "runs/broken/config.toml:1", "runs/old/last.safetensors"] {
        assert!(ran.err.lines().any(|line| line.starts_with("warning: ") && line.contains(part)), "{part}: {ran:?}");
    }
    assert_eq!(ran.err.lines().count(), 3, "{ran:?}");
    assert_eq!(listed(&ran.succeeded()), ["runs/lm-1"]);
    folder.run(&["runs", "nowhere"]).refused(&["nowhere"]);
    assert_eq!(Folder::new().run(&["runs"]).succeeded(), "no runs\n");
}

/// A run that was stopped before its first evaluation of a trained model has nothing to show yet.
#[test]
fn a_run_without_results_is_listed_too() {
    let folder = Folder::with(&[("texts.tsv", &tsv())]);
    folder.run(&with(&["train", "--quiet", "texts.tsv"], TINY_CLASSIFIER)).succeeded();
    std::fs::remove_file(folder.join("runs/classify-1/metrics.jsonl")).unwrap();
    let table = folder.run(&["runs"]).succeeded();
    assert!(table.lines().nth(1).unwrap().ends_with("  -"), "{table}");
}
