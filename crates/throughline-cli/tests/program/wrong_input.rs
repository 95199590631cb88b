//! Recipes, settings and data that cannot be used: one message that says where, what was expected and what was found.

use crate::folder::Folder;
use crate::trained::{TINY_CLASSIFIER, TINY_LANGUAGE_MODEL, text, tsv, with};

#[test]
fn settings() {
    let folder = Folder::with(&[("text.txt", &text(300))]);
    for (set, parts) in [
        ("model.hiden=8", &["--set: model.hiden", "an unknown key", "did you mean model.hidden?"][..]),
        ("hidden=8", &["--set: hidden", "an unknown key"]),
        ("model.hidden", &["--set: model.hidden", "expected dotted.key=value", "found no `=`"]),
        ("model.hidden=0", &["--set: model.hidden", "expected 1 to 65536", "found 0"]),
        ("model.hidden=-3", &["--set: model.hidden", "expected a whole number", "found -3"]),
        ("model.hidden=many", &["--set: model.hidden", "expected a whole number", "\"many\""]),
        ("model.hidden=99999999999999999999", &["--set: model.hidden"]),
        ("model.dropout=1", &["--set: model.dropout", "from 0 to below 1", "found 1"]),
        ("model.weight_dropout=1", &["--set: model.weight_dropout", "from 0 to below 1", "found 1"]),
        ("model.zoneout_hidden=-0.1", &["--set: model.zoneout_hidden", "from 0 to below 1", "found -0.1"]),
        ("model.zoneout_cell=0.1", &["--set: model.zoneout_cell", "only with model.cell = \"lstm\""]),
        ("model.cell=transformer", &["--set: model.cell", "lstm", "gru-before", "transformer"]),
        (
            "model.bidirectional=true",
            &[
                "--set: model.bidirectional",
                "only with task = \"classify\", \"tag\", \"classify-series\" or \"regress\"",
                "found true",
            ],
        ),
        ("model.zoneout_cell=0.1", &["--set: model.zoneout_cell", "only with model.cell = \"lstm\""]),
        ("train.window=3", &["--set: train.window", "at least train.stride"]),
        ("data.split=[0.9,0.9,0]", &["--set: data.split", "at most 1"]),
        ("data.encoding=klingon", &["encoding", "klingon"]),
        ("name=../up", &["--set: name", "../up"]),
        (
            "task=translate",
            &[
                "--set: task",
                "\"lm\", \"classify\", \"tag\", \"classify-series\", \"regress\" or \"roll\"",
                "translate",
            ],
        ),
        ("model=8", &["--set: model", "a table [model]", "found 8"]),
    ] {
        let ran = folder.run(&with(&with(&["train", "--text", "text.txt"], TINY_LANGUAGE_MODEL), &[set]));
        assert_eq!(ran.err.lines().count(), 1, "{set}: {ran:?}");
        ran.refused(parts);
    }
    assert!(!folder.join("runs").exists() || folder.names("runs").is_empty());
}

#[test]
fn recipes() {
    for (recipe, parts) in [
        ("task = \"lm\"\n\n[model]\nhiden = 8\n", &["recipe.toml:4: model.hiden", "did you mean model.hidden?"][..]),
        (
            "task = \"lm\"\ndata.paths = [\"a\"]\ntrain.batch = 0\n",
            &["recipe.toml:3: train.batch", "expected 1 to 65536", "found 0"],
        ),
        ("task = \"lm\"\n[train]\nbatch = \"8\"\n", &["recipe.toml:3: train.batch", "whole number", "found \"8\""]),
        ("task = \"lm\"\n[model\n", &["recipe.toml:2: not valid TOML"]),
        (
            "[model]\nhidden = 8\n",
            &["task", "\"lm\", \"classify\", \"tag\", \"classify-series\", \"regress\" or \"roll\"", "found nothing"],
        ),
        ("", &["task", "\"lm\", \"classify\", \"tag\", \"classify-series\", \"regress\" or \"roll\""]),
        ("task = \"lm\"\n", &["data.paths", "--data PATH"]),
        ("task = \"lm\"\n[data]\npaths = []\n", &["recipe.toml:3: data.paths", "at least one path"]),
        ("task = \"lm\"\n[data]\npaths = [\"gone.txt\"]\n", &["gone.txt: cannot be read: No such file"]),
        (&"x = 1 # much too long\n".repeat(60_000), &["recipe.toml: size: expected at most 1048576 bytes"]),
        (&format!("task = {}\n", "[".repeat(100_000)), &["recipe.toml:1: not valid TOML"]),
    ] {
        let ran = Folder::with(&[("recipe.toml", recipe)]).run(&["train", "recipe.toml"]);
        assert_eq!(ran.err.lines().count(), 1, "{ran:?}");
        ran.refused(parts);
    }
    let folder = Folder::with(&[("a.toml", ""), ("b.toml", "")]);
    folder.write("latin.toml", b"task = \"lm\" # caf\xE9");
    folder.run(&["train", "latin.toml"]).refused(&["latin.toml: encoding: expected UTF-8", "17"]);
    folder.run(&["train", "a.toml", "b.toml"]).refused(&["expected one recipe", "a.toml", "b.toml"]);
    folder.run(&["train", "--data", "text.txt", "a.toml"]).refused(&["a.toml", "expected data", "before --data"]);
    folder.run(&["train", "gone.toml"]).refused(&["gone.toml: cannot open: No such file"]);
}

#[test]
fn a_message_says_a_cause_once() {
    let ran = Folder::new().run(&["train", "gone.txt"]);
    assert_eq!(ran.err.matches("No such file").count(), 1, "{ran:?}");
}

#[test]
fn texts() {
    let folder = Folder::with(&[("empty.txt", ""), ("short.txt", &text(2)), ("folder/.hidden", "x")]);
    folder.write("latin.txt", b"one\ncaf\xE9\n");
    for (path, parts) in [
        ("gone.txt", &["gone.txt: cannot be read"][..]),
        ("empty.txt", &["empty.txt: expected", "found nothing"]),
        ("folder", &["folder: expected", "found nothing"]),
        ("latin.txt", &["latin.txt:2: expected UTF-8 text", "byte offset 7", "windows-1252"]),
        ("short.txt", &["short.txt: training split", "expected at least 65 units", "found 32 units", "train.batch"]),
    ] {
        folder.run(&with(&["train", "--text", path], TINY_LANGUAGE_MODEL)).refused(parts);
    }
    assert!(!folder.join("runs").exists());
    let windows = with(&["train", "--text", "latin.txt"], TINY_LANGUAGE_MODEL);
    folder.run(&with(&windows, &["data.encoding=windows-1252"])).refused(&["latin.txt: training split"]);
}

#[test]
fn labelled_texts() {
    let folder = Folder::with(&[
        ("empty.csv", ""),
        ("header.csv", "text,label\n"),
        ("columns.csv", "review,stars\nfine,5\n"),
        ("fields.csv", "text,label\nfine,good\nno, good,bad\n"),
        ("open.csv", "label,text\ngood,fine\nbad,\"open\nbad,lost\n"),
        ("one.csv", "text,label\nfine,good\nbright,good\n"),
        ("unlabelled.csv", "text,label\nfine,good\ndull,\n"),
        ("prose.txt", "It was the best of times,\nit was the worst of times\n"),
        ("folders/good/1.txt", "fine"),
        ("folders/bad/.keep", ""),
        ("files/good.txt", "fine\n"),
        ("files/bad.txt", "\n\n"),
        ("few.csv", "text,label\nfine,good\ndull,bad\n"),
    ]);
    folder.write("latin.tsv", b"text\tlabel\nfine\tgood\ncaf\xE9\tbad\n");
    for (path, parts) in [
        ("gone", &["gone"][..]),
        ("empty.csv", &["empty.csv", "found"]),
        ("header.csv", &["header.csv: expected at least one example", "found nothing"]),
        ("columns.csv", &["columns.csv:1: expected one column named \"text\"", "\"review\""]),
        ("fields.csv", &["fields.csv:3: expected 2 fields", "found 3"]),
        ("open.csv", &["open.csv:3: expected a closing quote"]),
        ("one.csv", &["one.csv", "expected at least two"]),
        ("unlabelled.csv", &["unlabelled.csv:3: expected a label", "found none"]),
        ("latin.tsv", &["latin.tsv:3: expected UTF-8 text"]),
        ("prose.txt", &["prose.txt", "`label-first`"]),
        ("folders", &["folders/bad: expected at least one"]),
        ("files", &["files/bad.txt: expected at least one line of the class \"bad\"", "found nothing"]),
        ("few.csv", &["few.csv: validation split", "at least one example", "data.split"]),
    ] {
        folder.run(&with(&["train", "--data", path], TINY_CLASSIFIER)).refused(parts);
    }
    assert!(!folder.join("runs").exists());
    folder.write("texts.tsv", tsv());
    folder.write("few.tsv", "text\tlabel\nfine\tgood\ndull\tbad\n");
    let columns = with(&with(&["train", "--data", "texts.tsv"], TINY_CLASSIFIER), &["data.text_column=review"]);
    folder.run(&columns).refused(&["texts.tsv:1: expected one column named \"review\""]);
    let label = with(&with(&["train", "--data", "texts.tsv"], TINY_CLASSIFIER), &["data.test=[\"few.tsv\"]"]);
    folder.run(&label).succeeded();
}

#[test]
fn training_that_diverges() {
    let folder = Folder::with(&[("text.txt", &text(300))]);
    let absurd = ["optimiser.learning_rate=1000", "train.steps=2000", "train.stride=64", "schedule.kind=constant"];
    let train = with(&with(&["train", "--text", "text.txt"], TINY_LANGUAGE_MODEL), &absurd);
    folder.run(&train).refused(&[
        "the loss is",
        "at update",
        "gradient norm",
        "optimiser.learning_rate",
        "last.safetensors",
    ]);
    assert!(folder.join("runs/lm-1/last.safetensors").is_file());
    folder.run(&["eval", "lm-1"]).refused(&["expected a trained model", "--resume runs/lm-1"]);
}
