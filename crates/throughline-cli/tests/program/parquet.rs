//! Tables of Apache Parquet: trained on, measured on, and written.

use serde_json::{Value, json};
use throughline::data::{LabelledReader, ParquetWriter};

use crate::folder::{Folder, json_lines};
use crate::trained::{TINY_CLASSIFIER, classifier, examples, with};

fn table(columns: &[&str], rows: impl IntoIterator<Item = Vec<Value>>) -> Vec<u8> {
    let mut writer = ParquetWriter::new(columns.iter().map(|&column| column.to_owned()).collect());
    let mut bytes: Vec<u8> = rows.into_iter().flat_map(|row| writer.push(row).unwrap()).collect();
    bytes.extend(writer.finish().unwrap());
    bytes
}

fn labelled() -> Vec<u8> {
    let rows = examples().into_iter().enumerate();
    table(&["n", "text", "label"], rows.map(|(n, (label, text))| vec![json!(n), json!(text), json!(label)]))
}

/// The metrics of a run without its speed.
fn metrics(folder: &Folder, run: &str) -> Vec<Value> {
    let mut rows = folder.rows(&format!("runs/{run}/metrics.jsonl"));
    for row in &mut rows {
        row.as_object_mut().unwrap().retain(|key, _| !["seconds", "tokens_per_s"].contains(&key.as_str()));
    }
    rows
}

#[test]
fn training_on_parquet_is_training_on_csv() {
    let folder = Folder::new();
    folder.write("texts.parquet", labelled());
    let lines: String = examples().iter().map(|(label, text)| format!("\"{text}\",{label}\n")).collect();
    folder.write("texts.csv", format!("text,label\n{lines}"));
    for name in ["parquet", "csv"] {
        let (path, set) = (format!("texts.{name}"), format!("name={name}"));
        let train = with(&with(&["train", &path], TINY_CLASSIFIER), &[&set]);
        folder.run(&train).succeeded();
    }
    let [parquet, csv] = ["parquet", "csv"].map(|run| metrics(&folder, run));
    assert!(!csv.is_empty());
    assert!(parquet == csv, "the same metrics");
    let loss = |name: &str| {
        let (run, data) = (name, format!("texts.{name}"));
        json_lines(&folder.run(&["eval", run, "--json", "--data", &data]).succeeded())[0]["loss"].clone()
    };
    assert_eq!(loss("parquet"), loss("csv"));
    let said = folder.run(&["data", "check", "texts.parquet"]).succeeded();
    assert!(said.contains("naive Bayes"), "{said}");
}

#[test]
fn series_in_long_form() {
    let folder = Folder::new();
    let (mut rows, mut csv) = (Vec::new(), "id,time,x,label\n".to_owned());
    for id in 0..24_i64 {
        for time in 0..5_i64 {
            let x = if id % 5 == time { Value::Null } else { json!((id * 7 + time) as f64 * 0.25) };
            let label = if id % 2 == 0 { "even" } else { "odd" };
            csv += &format!("{id},{time},{},{label}\n", if x.is_null() { String::new() } else { x.to_string() });
            rows.push(vec![json!(id), json!(time), x, json!(label)]);
        }
    }
    folder.write("series.csv", csv);
    folder.write("series.parquet", table(&["id", "time", "x", "label"], rows));
    for name in ["parquet", "csv"] {
        let (path, set) = (format!("series.{name}"), format!("name={name}"));
        let tiny = [
            "--set",
            "model.hidden=3",
            "train.batch=4",
            "train.steps=6",
            "train.evaluations=5",
            "data.split=[0.5, 0.25, 0.25]",
            "data.missing=forward",
            &set,
        ];
        folder.run(&with(&["train", &path, "--quiet"], &tiny)).succeeded();
    }
    assert!(metrics(&folder, "parquet") == metrics(&folder, "csv"), "the same metrics");
    let predict = |path: &str| folder.run(&["predict", "csv", "--series", path]).succeeded();
    assert_eq!(predict("series.parquet"), predict("series.csv"));
}

#[test]
fn results_in_parquet() {
    let folder = classifier();
    let lines: String = (0..150).map(|n| format!("a fine film {n}, \"é\"\ndull {n}\n")).collect();
    let predict =
        |options: &[&str]| folder.run_with_input(&[&["predict", "classify-1"], options].concat(), &lines).succeeded();
    assert_eq!(predict(&["--format", "parquet", "--out", "answers.parquet"]), "");
    let answers = json_lines(&predict(&[]));
    let read = LabelledReader::default().read(&[folder.join("answers.parquet")]).unwrap();
    assert_eq!(read.examples.len(), answers.len());
    let labels = read.classes();
    for ((example, label), answer) in read.examples.iter().zip(labels).zip(&answers) {
        assert_eq!(example.text, answer["text"].as_str().unwrap());
        assert_eq!(read.labels[label as usize], answer["label"].as_str().unwrap());
    }
    folder.run(&["eval", "classify-1", "--format", "parquet", "--out", "result.parquet"]).succeeded();
    assert!(folder.bytes("result.parquet").starts_with(b"PAR1"));
    let ran = folder.run(&["eval", "classify-1", "--format", "parquet"]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("--out <FILE>"), "{}", ran.err);
    folder.run_with_input(&["predict", "classify-1", "--format", "parquet", "--out", "none.parquet"], "").succeeded();
    assert!(folder.bytes("none.parquet").ends_with(b"PAR1"));
}

#[test]
fn wrong_tables_have_one_message() {
    let folder = Folder::new();
    let whole = labelled();
    folder
        .write("numbers.parquet", table(&["text", "label"], [vec![json!(1), json!("a")], vec![json!(2), json!("b")]]));
    folder.write("short.parquet", &whole[..whole.len() / 2]);
    folder.write("csv.parquet", "text,label\na,b\n");
    folder.write("columns.parquet", table(&["text", "class"], [vec![json!("a"), json!("b")]]));
    let mut turned = whole.clone();
    turned[whole.len() / 3] ^= 0x55;
    for (name, found) in [
        ("numbers.parquet", "expected texts in the column \"text\", found whole numbers"),
        ("short.parquet", "the file is damaged or cut short"),
        ("csv.parquet", "expected Parquet, which begins and ends with PAR1, found \"text\" at the beginning"),
        ("columns.parquet", "expected one column named \"label\", found the columns \"text\", \"class\""),
    ] {
        let train = with(&with(&["train", name], TINY_CLASSIFIER), &["task=classify"]);
        folder.run(&train).refused(&[name, found]);
    }
    assert!(!folder.names(".").contains(&"runs".to_owned()), "nothing was begun");
    folder.write("turned.parquet", turned);
    let ran = folder.run(&with(&["train", "turned.parquet"], TINY_CLASSIFIER));
    assert!(!ran.err.contains("panicked"), "{}", ran.err);
}
