//! A classifier from labelled texts in every format to its predictions.

use crate::folder::{Folder, json_lines};
use crate::trained::{TINY_CLASSIFIER, classifier, examples, tsv, with};

/// Names and contents.
type Files = Vec<(String, String)>;

/// The same examples in every format: its name, the path to give, and the files there.
fn in_every_format() -> Vec<(&'static str, &'static str, Files)> {
    let lines = |line: &dyn Fn(&str, &str) -> String| -> String {
        examples().iter().map(|(label, text)| line(label, text)).collect()
    };
    let csv = "text,label\n".to_owned() + &lines(&|label, text| format!("\"{text}\",{label}\n"));
    let one_class = |class: &str| -> String {
        examples().iter().filter(|(label, _)| *label == class).map(|(_, text)| format!("{text}\n")).collect()
    };
    let file = |name: &str, content: String| (name.to_owned(), content);
    let numbered = examples().into_iter().enumerate();
    vec![
        ("csv", "texts.csv", vec![file("texts.csv", csv)]),
        ("tsv", "texts.tsv", vec![file("texts.tsv", tsv())]),
        (
            "jsonl",
            "texts.jsonl",
            vec![file(
                "texts.jsonl",
                lines(&|label, text| format!("{}\n", serde_json::json!({"text": text, "label": label}))),
            )],
        ),
        (
            "folder-per-class",
            "texts",
            numbered.map(|(i, (label, text))| file(&format!("texts/{label}/{i}.txt"), text)).collect(),
        ),
        (
            "file-per-class",
            "texts",
            vec![file("texts/good.txt", one_class("good")), file("texts/bad.txt", one_class("bad"))],
        ),
        ("label-first", "texts.train", vec![file("texts.train", lines(&|label, text| format!("{label} {text}\n")))]),
    ]
}

#[test]
fn every_format_trains() {
    for (format, path, files) in in_every_format() {
        let folder = Folder::new();
        for (name, content) in &files {
            folder.write(name, content);
        }
        let given = format!("data.format={format}");
        let recognised = format != "label-first";
        let sets: &[&str] = if recognised { &[] } else { &[&given] };
        let train = with(&with(&["train", path], TINY_CLASSIFIER), sets);
        let said = folder.run(&train).succeeded();
        assert!(said.contains("test loss") && said.contains("everything is in runs/classify-1"), "{format}: {said}");
        let labels: Vec<String> = serde_json::from_str(&folder.text("runs/classify-1/labels.json")).unwrap();
        assert_eq!(labels, ["bad", "good"], "{format}");
        let eval = &json_lines(&folder.run(&["eval", "classify-1", "--json", "--data", path]).succeeded())[0];
        assert_eq!(eval["count"], 80, "{format}");
        assert!(eval["accuracy"].as_f64().unwrap() > 0.9, "{format}: {eval}");
    }
}

#[test]
fn a_run_folder_has_everything() {
    let folder = classifier();
    let expected = [
        ".lock",
        "README.md",
        "config.json",
        "config.toml",
        "data.json",
        "labels.json",
        "last.safetensors",
        "metrics.jsonl",
        "model.safetensors",
        "report.html",
        "vocabulary.json",
    ];
    assert_eq!(folder.names("runs/classify-1"), expected);
    for row in folder.rows("runs/classify-1/metrics.jsonl") {
        assert!(row["accuracy"].is_f64(), "{row}");
        assert_eq!(row["macro_f1"].is_f64(), row["split"] != "train", "{row}");
    }
    assert!(folder.text("runs/classify-1/README.md").contains("n-gram naive Bayes"));
}

#[test]
fn a_run_is_measured() {
    let folder = classifier();
    let said = folder.run(&["eval", "classify-1"]).succeeded();
    assert!(said.contains("accuracy") && said.contains("good") && said.contains("bad"), "{said}");
    let json = &json_lines(&folder.run(&["eval", "classify-1", "--json"]).succeeded())[0];
    assert_eq!(json["data"], "test split");
    assert!(json["unknown_share"].is_f64(), "{json}");
    for key in ["loss", "accuracy", "macro_f1"] {
        assert!(json[key].is_f64(), "{key} in {json}");
    }
}

#[test]
fn a_label_never_seen_is_named_with_its_line() {
    let folder = classifier();
    folder.write("new.tsv", "label\ttext\ngood\tfine\nugly\tso so\n");
    folder.run(&["eval", "classify-1", "--data", "new.tsv"]).refused(&["new.tsv:3", "\"ugly\"", "\"bad\", \"good\""]);
}

#[test]
fn lines_are_classified() {
    let folder = classifier();
    let lines = "a fine, bright film\n\ndull and far too long\nλ";
    let rows = json_lines(&folder.run_with_input(&["predict", "classify-1"], lines).succeeded());
    assert_eq!(rows.len(), 4);
    assert_eq!((&rows[0]["label"], &rows[2]["label"]), (&"good".into(), &"bad".into()));
    for row in &rows {
        let classes = row["classes"].as_array().unwrap();
        let sum: f64 = classes.iter().map(|class| class["probability"].as_f64().unwrap()).sum();
        assert!((sum - 1.0).abs() < 1e-9 && classes.len() == 2, "{row}");
        assert_eq!((&classes[0]["label"], &classes[0]["probability"]), (&row["label"], &row["probability"]));
    }
    let top = json_lines(&folder.run_with_input(&["predict", "classify-1", "--top", "1"], lines).succeeded());
    assert!(top.iter().all(|row| row["classes"].as_array().unwrap().len() == 1));
}

#[test]
fn splits_of_their_own_and_columns_by_number() {
    let table: String = examples().iter().map(|(label, text)| format!("{text}\t{label}\n")).collect();
    let folder = Folder::with(&[("train.tsv", &table), ("val.tsv", &table), ("test.tsv", &table)]);
    let own =
        ["data.validation=[\"val.tsv\"]", "data.test=[\"test.tsv\"]", "data.text_column=1", "data.label_column=2"];
    folder.run(&with(&with(&["train", "--data", "train.tsv"], TINY_CLASSIFIER), &own)).succeeded();
    let eval = &json_lines(&folder.run(&["eval", "classify-1", "--json"]).succeeded())[0];
    assert_eq!(eval["count"], 80);
}
