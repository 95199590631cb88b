//! How long a run goes on: minutes, epochs, patience.

use crate::folder::Folder;
use crate::trained::{TINY_LANGUAGE_MODEL, text, with};

fn folder() -> Folder {
    Folder::with(&[("text.txt", &text(300))])
}

/// The settings of the tiny language model count updates; `--epochs` goes before them.
#[test]
fn epochs_decide_even_where_the_recipe_counts_updates() {
    let folder = folder();
    let config = "task = \"lm\"\nthreads = 1\n[model]\nhidden = 8\n[train]\nsteps = 100000\nbatch = 8\nstride = 256\n";
    folder.write("recipe.toml", config);
    folder.run(&["train", "recipe.toml", "text.txt", "--epochs", "2", "--quiet"]).succeeded();
    let resolved = folder.text("runs/lm-1/config.toml");
    assert!(resolved.contains("\nepochs = 2\nsteps = 0\n"), "{resolved}");
    let rows = folder.text("runs/lm-1/metrics.jsonl");
    assert!(rows.lines().last().unwrap().contains("\"epoch\":2"), "{rows}");
}

#[test]
fn minutes_end_a_run_in_time_and_it_says_so() {
    let folder = folder();
    let train = with(&["train", "text.txt", "--minutes", "0.01"], TINY_LANGUAGE_MODEL);
    let ran = folder.run(&with(&train, &["train.steps=100000000"]));
    assert!(!ran.err.contains(['\r', '\u{1b}']), "no bar where there is no terminal: {ran:?}");
    assert!(!ran.err.contains(" left"), "a run of a second needs no line on how far it is: {ran:?}");
    let out = ran.succeeded();
    assert!(out.contains("stopped when train.max_seconds were over; "), "{out}");
    assert!(folder.text("runs/lm-1/config.toml").contains("max_seconds = 1\n"), "fractions are rounded up");
    let again = folder.run(&["train", "--resume", "lm-1", "--quiet"]).succeeded();
    assert!(again.contains("nothing was trained") && again.contains("--minutes"), "{again}");
}

/// With next to no learning rate no evaluation is better than the first of a trained model.
#[test]
fn a_run_that_gets_no_better_stops_by_itself_and_says_why() {
    let folder = folder();
    let train = [
        "train",
        "text.txt",
        "--quiet",
        "--set",
        "task=lm",
        "threads=1",
        "model.hidden=8",
        "train.steps=40",
        "train.stride=16",
        "optimiser.learning_rate=1e-30",
    ];
    let out = folder.run(&train).succeeded();
    assert!(out.contains("stopped after 5 evaluations without a better one; "), "{out}");
    assert!(out.contains("kept update 4 of 24"), "{out}");
    let patient = folder.run(&with(&train, &["train.patience=0"])).succeeded();
    assert!(patient.contains("kept update 4 of 40") && !patient.contains("stopped"), "{patient}");
}

#[test]
fn wrong_budgets() {
    let folder = folder();
    for (flag, value, part) in [
        ("--minutes", "0", "a number above 0"),
        ("--minutes", "soon", "a number above 0"),
        ("--minutes", "inf", "a number above 0"),
        ("--epochs", "0", "0 is not in 1..=1000000"),
        ("--epochs", "1.5", "invalid digit"),
    ] {
        let ran = folder.run(&["train", "text.txt", flag, value]);
        assert!(ran.code == Some(2) && ran.err.contains(part) && ran.err.contains(flag), "{ran:?}");
    }
    for (flag, key) in [("--minutes", "train.max_seconds"), ("--epochs", "train.epochs"), ("--epochs", "train.steps")] {
        folder.run(&["train", "text.txt", flag, "3", "--set", &format!("{key}=3")]).refused(&[
            flag,
            key,
            "stands for the same setting",
        ]);
    }
    assert!(!folder.join("runs").exists());
}
