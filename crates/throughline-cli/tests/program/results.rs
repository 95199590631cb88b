//! Results in the formats that `eval` and `predict` write, and in files.

use crate::folder::{Folder, json_lines};
use crate::trained::{classifier, columns, language_model, tagger};

/// Cells of a line of CSV, by the rules of RFC 4180 for a record without line breaks.
fn cells(line: &str) -> Vec<String> {
    let (mut cells, mut quoted, mut characters) = (vec![String::new()], false, line.chars().peekable());
    while let Some(c) = characters.next() {
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                cells.last_mut().unwrap().push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(String::new()),
            c => cells.last_mut().unwrap().push(c),
        }
    }
    assert!(!quoted, "{line}");
    cells
}

#[test]
fn an_evaluation_in_every_format() {
    let folder = classifier();
    let eval = |options: &[&str]| folder.run(&[&["eval", "classify-1"], options].concat()).succeeded();
    let json = eval(&["--json"]);
    assert_eq!(eval(&["--format", "json"]), json);
    assert_eq!(eval(&["--format", "text"]), eval(&[]));
    let table = eval(&["--format", "csv"]);
    let [head, row] = table.lines().map(cells).collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(head, ["data", "count", "loss", "accuracy", "macro_f1", "unknown_share"]);
    let json = &json_lines(&json)[0];
    for (name, value) in head.iter().zip(&row).skip(1) {
        assert_eq!(json[name].as_f64(), value.parse().ok(), "{name}");
    }
    assert_eq!((row[0].as_str(), row.len()), ("test split", head.len()));
    assert_eq!(eval(&["--format", "csv", "--out", "result.csv"]), "");
    assert_eq!(folder.text("result.csv"), table);
}

#[test]
fn predictions_in_every_format() {
    let folder = classifier();
    let lines = "a fine, bright film\nso \"dull\"\n";
    let predict = |options: &[&str]| {
        folder.run_with_input(&[&["predict", "classify-1", "--top", "1"], options].concat(), lines).succeeded()
    };
    let json = predict(&[]);
    assert_eq!(predict(&["--format", "json"]), json);
    let answers = json_lines(&json);
    let table = predict(&["--format", "csv"]);
    let rows: Vec<Vec<String>> = table.lines().map(cells).collect();
    assert_eq!(rows[0], ["text", "classes", "label", "probability", "unknown_share"]);
    assert_eq!(rows.len(), 3);
    for (row, answer) in rows[1..].iter().zip(&answers) {
        assert_eq!((&*row[0], &*row[2]), (answer["text"].as_str().unwrap(), answer["label"].as_str().unwrap()));
        assert_eq!(row[3].parse().ok(), answer["probability"].as_f64());
        assert_eq!(serde_json::from_str::<serde_json::Value>(&row[1]).unwrap(), answer["classes"]);
    }
    let text = predict(&["--format", "text"]);
    let first = format!("good  probability {:.4}  a fine, bright film", answers[0]["probability"].as_f64().unwrap());
    assert_eq!(text.lines().next(), Some(first.as_str()));

    for format in ["json", "csv", "text"] {
        assert_eq!(predict(&["--format", format, "--out", "answers"]), "");
        assert_eq!(folder.text("answers"), predict(&["--format", format]), "{format}");
    }
    assert_eq!(folder.run_with_input(&["predict", "classify-1", "--format", "csv"], "").succeeded(), "");
}

#[test]
fn models_of_other_tasks_answer_in_every_format_too() {
    let folder = language_model();
    let table = folder.run_with_input(&["predict", "lm-1", "--format", "csv"], "line 1 of\n\n").succeeded();
    let rows: Vec<Vec<String>> = table.lines().map(cells).collect();
    assert_eq!(rows[0], ["text", "bits_per_unit", "loss", "perplexity", "unknown_share"]);
    assert!(rows[1][2].parse::<f64>().is_ok() && rows[2][1..4] == ["", "", ""], "{table}");
    let folder = tagger();
    let text = folder.run_with_input(&["predict", "tag-1", "--format", "text"], "on day 7\nit was\n").succeeded();
    let words: Vec<&str> = text.lines().map(|line| line.split('\t').next().unwrap()).collect();
    assert_eq!(words, ["on", "day", "7", "", "it", "was", ""]);
    folder.write("more.txt", columns());
    let on_screen = folder.run(&["predict", "tag-1", "--columns", "more.txt"]).succeeded();
    folder.run(&["predict", "tag-1", "--columns", "more.txt", "--out", "tags.txt"]).succeeded();
    assert_eq!(folder.text("tags.txt"), on_screen);
}

/// On a screen whatever could steer it is escaped; a file holds what was read.
#[test]
fn a_file_is_exact() {
    let folder = language_model();
    let line = "line \u{1b}[31m of";
    let shown = folder.run_with_input(&["predict", "lm-1", "--format", "csv"], line).succeeded();
    assert!(!shown.contains('\u{1b}'), "{shown}");
    folder.run_with_input(&["predict", "lm-1", "--format", "csv", "--out", "answers.csv"], line).succeeded();
    assert!(folder.text("answers.csv").contains(line));
}

#[test]
fn a_file_is_whole_or_as_it_was() {
    let folder = classifier();
    folder.write("answers", "from before");
    folder.run(&["eval", "classify-1", "--data", "missing", "--out", "answers"]).refused(&["missing"]);
    folder.run(&["predict", "nothing", "--out", "answers"]).refused(&["nothing"]);
    let ran = folder.run_with_input(&["predict", "classify-1", "--out", "answers"], b"\xFF\n");
    assert!(ran.code == Some(1) && ran.err.contains("1 of 1 lines could not be answered"), "{ran:?}");
    assert_eq!(folder.text("answers"), "from before");
    for (path, part) in [("runs", "a folder"), ("nowhere/answers", "nowhere/answers")] {
        folder.run(&["eval", "classify-1", "--out", path]).refused(&[path, part]);
    }
    // Lines without an answer are named, and the others are there.
    let ran = folder.run_with_input(&["predict", "classify-1", "--out", "answers"], b"one\n\xFF\nthree\n");
    assert!(ran.code == Some(1) && ran.err.contains("line 2"), "{ran:?}");
    assert_eq!(json_lines(&folder.text("answers")).len(), 2);
    assert!(!folder.names("").iter().any(|name| name.ends_with(".partial")));
}

/// A reader that is gone ends a table as it ends lines of JSON.
#[test]
fn a_table_that_nobody_reads() {
    let folder: Folder = classifier();
    let mut child = folder
        .command(&["predict", "classify-1", "--format", "csv"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut input = child.stdin.take().unwrap();
    while std::io::Write::write_all(&mut input, b"a fine, bright film\n").is_ok() {}
    let ran = crate::folder::Ran::to_the_end(child);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
}
