//! Where runs begin and where they lie.

use std::fs;

use crate::folder::Folder;
use crate::trained::{TINY_LANGUAGE_MODEL, classifier, examples, language_model, text, with};

const QUICK: &[&str] = &["train", "--set", "train.steps=5", "model.hidden=16", "sample.length=20"];

#[test]
fn train_alone_learns_from_the_text_inside_the_program() {
    let folder = Folder::new();
    let ran = folder.run(QUICK);
    assert!(ran.err.contains("learning from the text inside the program"), "{ran:?}");
    ran.succeeded();
    assert!(folder.text("runs/lm-1/config.toml").contains("paths = [\"built-in\"]"));
    folder.run(&["eval", "lm-1"]).succeeded();
    assert!(!folder.run(&["generate", "lm-1", "--length", "10"]).succeeded().is_empty());
}

#[test]
fn train_alone_in_the_source_tree_learns_from_the_sources() {
    let folder = Folder::with(&[
        ("crates/throughline-cli/Cargo.toml", "[package]\n"),
        ("crates/one/src/lib.rs", &text(1500)),
        ("README.md", "# About\n"),
        ("notes.txt", "not a part of the sources: ŋ"),
    ]);
    let mut child = folder.command(QUICK);
    let ran = crate::folder::Ran::to_the_end(child.current_dir(folder.join("crates/one")).spawn().unwrap());
    ran.succeeded();
    let config = folder.text("crates/one/runs/lm-1/config.toml");
    for path in ["crates\"", "README.md\""] {
        assert!(config.contains(path), "{config}");
    }
    let vocabulary = folder.text("crates/one/runs/lm-1/vocabulary.json");
    assert!(vocabulary.contains('l') && !vocabulary.contains('ŋ'), "{vocabulary}");
}

#[test]
fn runs_have_numbers_or_names() {
    let folder = Folder::with(&[("text.txt", &text(300))]);
    let train = with(&["train", "--quiet", "text.txt"], TINY_LANGUAGE_MODEL);
    folder.run(&train).succeeded();
    folder.run(&train).succeeded();
    folder.run(&with(&train, &["name=mine", "runs_dir=deep/down"])).succeeded();
    assert_eq!(folder.names("runs"), ["lm-1", "lm-2"]);
    assert_eq!(folder.bytes("runs/lm-1/model.safetensors"), folder.bytes("runs/lm-2/model.safetensors"));
    assert_eq!(folder.bytes("runs/lm-1/model.safetensors"), folder.bytes("deep/down/mine/model.safetensors"));
    folder.run(&["eval", "deep/down/mine"]).succeeded();
    let before = folder.bytes("deep/down/mine/last.safetensors");
    folder.run(&with(&train, &["name=mine", "runs_dir=deep/down"])).refused(&["deep/down/mine", "--resume"]);
    assert_eq!(folder.bytes("deep/down/mine/last.safetensors"), before);
}

#[test]
fn a_recipe_decides_and_the_command_line_changes_it() {
    let table: String = examples().iter().map(|(label, text)| format!("{label}\t{text}\n")).collect();
    let recipe = "task = \"classify\"\nthreads = 1\n[data]\npaths = [\"missing\"]\ntext_column = \"2\"\n\
                  label_column = \"1\"\n[model]\nhidden = 8\nlayers = 1\n[train]\nepochs = 1\n";
    let folder = Folder::with(&[("recipe.toml", recipe), ("texts.tsv", &table)]);
    folder.run(&["train", "recipe.toml"]).refused(&["missing"]);
    for data in
        [&["recipe.toml", "texts.tsv"][..], &["texts.tsv", "recipe.toml"], &["recipe.toml", "--data", "texts.tsv"]]
    {
        folder.run(&with(&with(&["train"], data), &["--set", "model.cell=rnn"])).succeeded();
    }
    assert_eq!(folder.names("runs"), ["classify-1", "classify-2", "classify-3"]);
    let config = folder.text("runs/classify-3/config.toml");
    assert!(config.contains("cell = \"rnn\"") && config.contains("paths = [\"texts.tsv\"]"), "{config}");
    // The resolved recipe is a recipe.
    let again = ["train", "runs/classify-3/config.toml", "--set", "name=again"];
    folder.run(&again).succeeded();
    assert_eq!(folder.bytes("runs/again/model.safetensors"), folder.bytes("runs/classify-3/model.safetensors"));
}

#[test]
fn the_wrong_kind_of_run() {
    let (texts, classes) = (language_model(), classifier());
    classes
        .run(&["generate", "classify-1", "--prompt", "Once"])
        .refused(&["runs/classify-1: expected a model that writes, found a text classifier"]);
    texts.write("texts.tsv", crate::trained::tsv());
    texts.run(&["eval", "lm-1", "--data", "missing"]).refused(&["missing"]);
    // What is a table to a classifier is a text to a language model.
    texts.run(&["eval", "lm-1", "--data", "texts.tsv"]).succeeded();
    classes.write("text.txt", text(30));
    classes.run(&["eval", "classify-1", "--data", "text.txt"]).refused(&["text.txt", "expected"]);
}

#[test]
fn a_run_that_is_not_there() {
    let folder = Folder::with(&[("runs/hollow/README.md", "nothing else")]);
    for command in [&["eval"][..], &["predict"], &["generate"], &["train", "--resume"]] {
        for run in ["lm-1", "runs/hollow", "hollow", ".", "../elsewhere"] {
            folder.run(&with(command, &[run])).refused(&[run, "config.toml"]);
        }
    }
    assert_eq!(folder.names("runs/hollow"), ["README.md"]);
}

#[test]
fn a_run_that_failed_at_once_leaves_no_folder() {
    let folder = Folder::with(&[("text.txt", "too short"), ("runs/lm-1/kept.txt", "not a run of this program")]);
    folder.run(&["train", "text.txt"]).refused(&["text.txt", "training split", "expected at least", "found 8 units"]);
    assert_eq!(folder.names("runs"), ["lm-1"]);
    assert_eq!(folder.text("runs/lm-1/kept.txt"), "not a run of this program");
}

#[test]
fn places_that_cannot_be_written() {
    let folder = Folder::with(&[("text.txt", &text(300)), ("file", "")]);
    let train = |set: &str| folder.run(&with(&with(&["train", "text.txt"], TINY_LANGUAGE_MODEL), &[set]));
    train("runs_dir=file").refused(&["file", "cannot create"]);
    train("runs_dir=file/deeper").refused(&["file/deeper", "cannot create"]);
    if cfg!(target_os = "linux") {
        // Nobody can write there, not even root.
        train("runs_dir=/proc/runs").refused(&["/proc/runs", "cannot create"]);
    }
    assert_eq!(folder.text("file"), "");
}

#[test]
fn files_that_cannot_be_replaced() {
    for (name, part) in
        [("README.md", "cannot write"), ("last.safetensors", "last.safetensors"), ("metrics.jsonl", "metrics.jsonl")]
    {
        let folder = language_model();
        let path = folder.join("runs/lm-1").join(name);
        fs::remove_file(&path).unwrap();
        fs::create_dir_all(path.join("in the way")).unwrap();
        let model = folder.bytes("runs/lm-1/model.safetensors");
        folder.run(&["train", "--resume", "lm-1"]).refused(&[&format!("runs/lm-1/{name}"), part]);
        assert_eq!(folder.bytes("runs/lm-1/model.safetensors"), model, "{name}");
        assert!(!folder.names("runs/lm-1").iter().any(|name| name.ends_with(".partial")), "{name}");
        folder.run(&["eval", "lm-1"]).succeeded();
    }
}

/// A limit on the size of files stands for a full disk: the write of the checkpoint ends in the middle.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up_loses_nothing() {
    let folder = Folder::with(&[("text.txt", &text(300))]);
    let train = with(&["train", "--quiet", "text.txt"], TINY_LANGUAGE_MODEL);
    folder.run(&with(&train, &["model.hidden=128"])).succeeded();
    let checkpoint = folder.bytes("runs/lm-1/last.safetensors");
    let model = folder.bytes("runs/lm-1/model.safetensors");
    assert!(checkpoint.len() > 3 * model.len() / 2 && model.len() > 128 << 10, "too small for the limit below");

    let limited = |arguments: &[&str]| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_throughline")]);
        let child = shell.args(arguments).current_dir(&*folder).stdout(std::process::Stdio::piped());
        crate::folder::Ran::to_the_end(child.stderr(std::process::Stdio::piped()).spawn().unwrap())
    };
    limited(&["train", "--quiet", "--resume", "lm-1", "--set", "train.steps=60"])
        .refused(&["safetensors: cannot write (what was there before is unchanged)", "File too large"]);
    assert_eq!(folder.bytes("runs/lm-1/last.safetensors"), checkpoint);
    assert_eq!(folder.bytes("runs/lm-1/model.safetensors"), model);
    assert!(!folder.names("runs/lm-1").iter().any(|name| name.ends_with(".partial")));
    folder.run(&["eval", "lm-1"]).succeeded();
    folder.run(&["train", "--quiet", "--resume", "lm-1", "--set", "train.steps=60"]).succeeded();
}
