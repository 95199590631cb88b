//! Training without a recipe: the program tells the task by the data, and says so.

use crate::folder::Folder;
use crate::trained::{TINY_LANGUAGE_MODEL, text, tsv, with};

const SHORT: &[&str] = &["--set", "threads=1", "model.hidden=8", "train.steps=5", "train.evaluations=5"];

#[test]
fn the_task_is_told_by_the_data() {
    let tags: String = (0..30).map(|i| format!("Ada B\nsees O\n{} O\n\n", ["dogs", "cats", "trees"][i % 3])).collect();
    let series: String =
        (0..60).map(|i| format!("{i},1,a\n{i},{},a\n", i % 2).replace("a\n", ["a\n", "b\n"][i % 2])).collect();
    let targets: String = (0..60).map(|i| format!("{i},1,{i}\n")).collect();
    let rolls = serde_json::to_string(&vec![vec![[60, 64], [62, 65]]; 40]).unwrap();
    for (file, content, task, sign) in [
        ("texts.tsv", tsv(), "classify", "the columns `text` and `label`"),
        ("tags.conll", tags, "tag", "a name that ends in .conllu, .conll, .iob or .bio"),
        ("series.csv", "id,x,label\n".to_owned() + &series, "classify-series", "the columns `id` and `label`"),
        ("targets.csv", "id,x,target\n".to_owned() + &targets, "regress", "the columns `id` and `target`"),
        ("rolls.json", rolls, "roll", "a name that ends in .mid, .midi or .json"),
    ] {
        let folder = Folder::with(&[(file, &content)]);
        let ran = folder.run(&with(&["train", file], SHORT));
        let said = format!("{file}: {sign}, so the task is {task}; for another one, --set task=...");
        assert!(ran.err.contains(&said), "no {said:?} in {}", ran.err);
        ran.succeeded();
        assert!(folder.names("runs").contains(&format!("{task}-1")), "{task}");
    }
}

#[test]
fn a_text_is_for_a_language_model() {
    let folder = Folder::with(&[("text.txt", &text(40))]);
    let ran = folder.run(&with(&["train", "text.txt"], TINY_LANGUAGE_MODEL));
    assert!(ran.err.contains("text.txt: text, so the task is lm;"), "{}", ran.err);
    ran.succeeded();
    // What is said with the command is not guessed, and --quiet says nothing.
    let ran = folder.run(&with(&["train", "--quiet", "text.txt"], TINY_LANGUAGE_MODEL));
    assert!(!ran.err.contains("so the task is"), "{}", ran.err);
    let ran = folder.run(&with(&["train", "--text", "text.txt"], TINY_LANGUAGE_MODEL));
    assert!(!ran.err.contains("so the task is"), "{}", ran.err);
}

#[test]
fn a_table_is_looked_at_in_its_encoding() {
    let folder = Folder::new();
    let latin: Vec<u8> = tsv().replacen("fine", "f\u{ef}ne", 3).chars().map(|letter| letter as u8).collect();
    folder.write("texts.tsv", latin);
    folder.run(&with(&["train", "texts.tsv"], SHORT)).refused(&["texts.tsv:2: expected UTF-8 text", "data.encoding"]);
    let ran = folder.run(&with(&with(&["train", "texts.tsv"], SHORT), &["data.encoding=windows-1252"]));
    assert!(ran.err.contains("so the task is classify"), "{}", ran.err);
    ran.succeeded();
}

#[test]
fn what_cannot_be_told_is_asked_for() {
    let folder = Folder::with(&[
        ("numbers.csv", "a,b\n1,2\n"),
        ("both.csv", "id,x,label,target\n1,2,3,4\n"),
        ("text.txt", "a text\n"),
        ("texts.csv", "text,label\na,b\n"),
    ]);
    let how = "say which task it is with --set task=..., one of those that `throughline recipe` lists";
    for (data, found) in [
        (&["numbers.csv"][..], "found a table with the columns \"a\", \"b\""),
        (
            &["both.csv"],
            "found the columns `id` and `label` for classify-series and the columns `id` and `target` for regress",
        ),
        (&["text.txt", "texts.csv"], "found the columns `text` and `label`, which is for classify"),
    ] {
        folder.run(&with(&["train"], data)).refused(&[found, how]);
    }
    folder.run(&["train", "missing.csv"]).refused(&["missing.csv"]);
    folder.write("table.parquet", "PAR1");
    folder
        .run(&["train", "table.parquet"])
        .refused(&["table.parquet", "expected Parquet, which begins and ends with PAR1"]);
    assert!(!folder.names(".").contains(&"runs".to_owned()), "nothing was begun");
}
