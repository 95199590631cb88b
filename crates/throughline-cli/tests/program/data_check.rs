//! `throughline data check`: data of every task, looked at before training.

use crate::folder::{Folder, json_lines};
use crate::trained::{columns, text, tsv};

/// The cells of the line that begins with `name`; cells have two spaces between them.
fn row<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    let cells = |line: &'t str| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>();
    text.lines().map(cells).find(|cells| cells.first() == Some(&name)).unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

#[test]
fn labelled_texts() {
    // Texts that are equal within a split and across splits, one without text, and a class that is not measured.
    let folder = Folder::with(&[
        ("train.tsv", "label\ttext\ngood\tfine\ngood\tfine\nbad\tdull film\nugly\thm\ngood\t\n"),
        ("validation.tsv", "label\ttext\ngood\tfine\nbad\twell\n"),
    ]);
    let check = [
        "data",
        "check",
        "train.tsv",
        "--set",
        "task=classify",
        "data.validation=[\"validation.tsv\"]",
        "data.split=[1,0,0]",
    ];
    let ran = folder.run_in_environment(&check, "COLUMNS", "50");
    assert!(ran.err.contains("warning: the validation split has no example of \"ugly\""), "{ran:?}");
    assert!(ran.err.contains("stand in an earlier split"), "the task's own warnings: {ran:?}");
    let out = ran.succeeded();
    assert_eq!(row(&out, "encoding"), ["encoding", "utf-8"]);
    assert_eq!(row(&out, "format"), ["format", "tsv"]);
    assert!(row(&out, "left out")[1].contains('1'), "the record without text: {out}");
    let head =
        ["split", "texts", "empty", "equal", "in training", "unknown units", "shortest", "median", "95 %", "longest"];
    assert_eq!(row(&out, "split"), head);
    assert_eq!(row(&out, "training"), ["training", "4", "0", "1", "-", "0.00 %", "2", "4", "9", "9"]);
    // Of "well" the w stands in no text of the training split.
    assert_eq!(row(&out, "validation"), ["validation", "2", "0", "0", "1", "12.50 %", "4", "4", "4", "4"]);
    assert_eq!(row(&out, "good"), ["good", "50.0 %", "2", "1", "0"]);
    assert_eq!(row(&out, "ugly"), ["ugly", "25.0 %", "1", "0", "0"]);
    assert!(out.contains("texts of the training split by characters\n2 │"), "{out}");
    assert!(out.lines().filter(|line| line.contains('│')).all(|line| line.chars().count() <= 50), "{out}");
    assert!(row(&out, "majority class")[1].starts_with("validation accuracy 0.5000"), "{out}");
    assert_eq!(folder.names(""), ["train.tsv", "validation.tsv"], "nothing is written");
}

#[test]
fn running_text_and_tagged_words() {
    let folder = Folder::with(&[("text.txt", &text(300)), ("sentences.txt", &columns())]);
    let out = folder.run(&["data", "check", "text.txt"]).succeeded();
    let cells = row(&out, "training");
    assert_eq!(
        (cells[1].parse::<usize>().is_ok_and(|lines| lines > 250), &cells[3..5]),
        (true, &["-", "-"][..]),
        "{out}"
    );
    assert!(
        out.contains("lines of the training split by characters\n") && out.contains("interpolated trigram"),
        "{out}"
    );
    let tagged = ["data", "check", "--data", "sentences.txt", "--set", "task=tag"];
    let out = folder.run(&tagged).succeeded();
    assert_eq!(row(&out, "training")[1..3], ["54", "0"], "{out}");
    assert_eq!(row(&out, "O"), ["O", "66.7 %", "216", "12", "12"], "{out}");
    assert!(out.contains("most frequent tag of the word"), "{out}");
    let json = &json_lines(&folder.run(&[&tagged[..], &["--json"]].concat()).succeeded())[0];
    assert_eq!((&json["task"], &json["splits"][0]["what"]), (&"tag".into(), &"sentences".into()));
    assert_eq!(json["splits"][0]["lengths"]["histogram"], serde_json::json!([[6, 6, 54]]));
    assert_eq!(json["splits"][0]["labels"][0], serde_json::json!(["B-NUM", 54]));
}

#[test]
fn a_recipe_says_what_to_look_at() {
    let folder = Folder::with(&[("texts.tsv", &tsv())]);
    folder.write("recipe.toml", "task = \"classify\"\n[data]\npaths = [\"texts.tsv\"]\nunit = \"word\"\n");
    let out = folder.run(&["data", "check", "recipe.toml"]).succeeded();
    assert!(out.contains("texts of the training split by words"), "{out}");
}

#[test]
fn data_that_cannot_be_used() {
    let folder = Folder::with(&[("texts.tsv", &tsv()), ("none.tsv", "label\ttext\n"), ("folder/photo.png", "")]);
    folder.write("latin1.txt", b"caf\xE9 ".repeat(2000));
    folder.run(&["data", "check", "missing"]).refused(&["missing"]);
    folder.run(&["data", "check", "latin1.txt"]).refused(&["latin1.txt", "UTF-8"]);
    folder.run(&["data", "check", "folder"]).refused(&["folder"]);
    folder.run(&["data", "check", "none.tsv", "--set", "task=classify"]).refused(&["none.tsv"]);
    folder.run(&["data", "check", "texts.tsv", "--set", "task=poem"]).refused(&["\"poem\""]);
    assert_eq!(folder.run(&["data", "mend", "texts.tsv"]).code, Some(2));
}
