//! What the program says about itself.

use crate::folder::Folder;

#[test]
fn every_command_has_its_help() {
    let folder = Folder::new();
    for (command, options) in [
        ("train", &["--data", "--text", "--set", "--resume", "--quiet", "RECIPE.toml"][..]),
        ("lr-find", &["RECIPE.toml", "--data", "--set", "--from", "--to", "--updates", "--out"]),
        ("data", &["check"]),
        ("recipe", &["TASK"]),
        ("runs", &["FOLDER", "--sort", "--diff", "--json"]),
        ("eval", &["RUN", "--data", "--json", "--format", "--out", "--threads"]),
        ("inspect", &["RUN", "--data", "--sequences", "--steps", "--anchors", "--html", "--json", "--threads"]),
        ("lab", &["EXPERIMENT", "vanishing", "--out", "--fast", "--threads"]),
        ("predict", &["RUN", "--top", "--format", "--out", "--columns", "--series", "--threads"]),
        ("generate", &["RUN", "--prompt", "--length", "--temperature", "--top-k", "--top-p", "--seed", "--out"]),
    ] {
        let help = folder.run(&[command, "--help"]).succeeded();
        for option in options {
            assert!(help.contains(option), "no {option} in\n{help}");
        }
        assert!(folder.run(&["--help"]).succeeded().contains(&format!("  {command} ")), "{command}");
    }
    assert!(folder.run(&["--help"]).succeeded().contains("THROUGHLINE_ISA"));
    assert_eq!(folder.names(""), [""; 0], "asking for help leaves nothing behind");
}

/// What is printed is a recipe to train by.
#[test]
fn recipes() {
    let folder = Folder::with(&[("text.txt", &"to be or not to be ".repeat(200))]);
    let tasks = folder.run(&["recipe"]).succeeded();
    assert_eq!(
        tasks.lines().map(|line| line.split("  ").next().unwrap()).collect::<Vec<_>>(),
        ["lm", "classify", "tag", "classify-series", "regress", "roll"]
    );
    folder.write("recipe.toml", folder.run(&["recipe", "lm"]).succeeded());
    folder
        .run(&["recipe", "poem"])
        .refused(&["\"lm\", \"classify\", \"tag\", \"classify-series\", \"regress\" or \"roll\"", "\"poem\""]);
    let sets =
        ["model.hidden=4", "model.embedding=4", "train.steps=5", "train.batch=2", "train.evaluations=5", "name=own"];
    let ran = folder.run(&[&["train", "recipe.toml", "text.txt", "--quiet", "--set"], &sets[..]].concat());
    assert!(ran.succeeded().contains("runs/own"));
}

#[test]
fn the_version_is_that_of_the_crate() {
    let said = Folder::new().run(&["--version"]).succeeded();
    assert_eq!(said, format!("throughline {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_command_line_has_exit_code_2() {
    let folder = Folder::new();
    for arguments in [
        &[][..],
        &["fly"],
        &["train", "--fast"],
        &["train", "--resume", "a", "--text", "b"],
        &["train", "--text", "a", "--data", "b"],
        &["eval"],
        &["recipe", "lm", "classify"],
        &["predict", "a", "--top", "0"],
        &["generate", "a", "--temperature", "-1"],
        &["generate", "a", "--temperature", "nan"],
        &["generate", "a", "--top-p", "0"],
        &["generate", "a", "--top-p", "1.1"],
        &["generate", "a", "--length", "many"],
        &["eval", "a", "--threads", "0"],
        &["eval", "a", "--format", "xml"],
        &["inspect"],
        &["inspect", "a", "--steps", "0"],
        &["inspect", "a", "--anchors", "-1"],
        &["eval", "a", "--json", "--format", "csv"],
        &["predict", "a", "--columns", "b", "--format", "csv"],
    ] {
        let ran = folder.run(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{arguments:?}: {ran:?}");
        assert!(!ran.err.is_empty());
    }
    assert_eq!(folder.names(""), [""; 0]);
}
