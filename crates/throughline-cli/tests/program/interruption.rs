//! Stopping a run and going on with it.
#![cfg(unix)]

use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::folder::{Folder, Ran};
use crate::trained::{TINY_LANGUAGE_MODEL, language_model, text, with};

/// Long enough to be met in the middle, and less than an epoch.
const LONG: &[&str] =
    &["model.hidden=64", "train.batch=4", "train.stride=16", "train.steps=3000", "train.evaluations=5"];

fn train() -> Vec<&'static str> {
    with(&with(&["train", "text.txt"], TINY_LANGUAGE_MODEL), LONG)
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), child.id().to_string()]).status();
    assert!(status.unwrap().success());
}

/// Waits until the run has written more than `rows` rows.
fn await_rows(folder: &Folder, rows: usize) {
    let begun = Instant::now();
    let metrics = folder.join("runs/lm-1/metrics.jsonl");
    while std::fs::read_to_string(&metrics).map_or(0, |text| text.lines().count()) <= rows {
        assert!(begun.elapsed() < Duration::from_secs(60), "the run does not get on");
        sleep(Duration::from_millis(1));
    }
}

fn evaluations(folder: &Folder) -> Vec<(Value, Value, Value)> {
    let rows = folder.rows("runs/lm-1/metrics.jsonl");
    let rows = rows.iter().filter(|row| row["split"] != "train");
    rows.map(|row| (row["step"].clone(), row["split"].clone(), row["loss"].clone())).collect()
}

fn long_text() -> Folder {
    Folder::with(&[("text.txt", &text(12_000))])
}

#[test]
fn an_interrupted_run_ends_as_if_it_had_never_stopped() {
    let (whole, stopped) = (long_text(), long_text());
    whole.run(&train()).succeeded();

    let child = stopped.command(&train()).spawn().unwrap();
    await_rows(&stopped, 10);
    stopped.run(&["train", "--resume", "lm-1"]).refused(&["runs/lm-1", "a process that trains it"]);
    signal(&child, "INT");
    let ran = Ran::to_the_end(child);
    assert_eq!((ran.code, ran.out.as_str()), (Some(130), ""), "{ran:?}");
    let said = ran.err.lines().last().unwrap();
    assert!(
        said.starts_with("interrupted after update ") && said.contains("throughline train --resume runs/lm-1"),
        "{said}"
    );
    let step: u64 =
        said.split_whitespace().nth(3).unwrap().trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap();
    assert!(step > 0 && step < 3000, "{said}");

    stopped.run(&["train", "--resume", "runs/lm-1"]).succeeded();
    assert_eq!(stopped.bytes("runs/lm-1/model.safetensors"), whole.bytes("runs/lm-1/model.safetensors"));
    assert_eq!(evaluations(&stopped), evaluations(&whole));
}

/// Whatever ends the process, the last checkpoint is whole.
#[test]
fn a_killed_run_goes_on_from_its_last_checkpoint() {
    let folder = long_text();
    let mut child = folder.command(&train()).spawn().unwrap();
    await_rows(&folder, 10);
    signal(&child, "KILL");
    assert_eq!(child.wait().unwrap().code(), None);
    folder.run(&["train", "--quiet", "--resume", "lm-1", "--set", "train.steps=20"]).succeeded();
    assert_eq!(folder.rows("runs/lm-1/metrics.jsonl").last().unwrap()["step"], 20);
}

#[test]
fn a_request_to_end_is_an_interruption() {
    let folder = long_text();
    let child = folder.command(&train()).spawn().unwrap();
    await_rows(&folder, 1);
    signal(&child, "TERM");
    assert_eq!(Ran::to_the_end(child).code, Some(130));
    assert!(folder.join("runs/lm-1/last.safetensors").exists());
}

#[test]
fn a_finished_run_can_be_made_longer() {
    let folder = language_model();
    folder.run(&["train", "--resume", "lm-1", "--set", "train.steps=60"]).succeeded();
    let steps: Vec<u64> = folder
        .rows("runs/lm-1/metrics.jsonl")
        .iter()
        .filter(|row| row["split"] == "val")
        .map(|row| row["step"].as_u64().unwrap())
        .collect();
    assert!(steps.is_sorted_by(|a, b| a < b) && steps.last() == Some(&60), "{steps:?}");
}

/// However early a run is interrupted, it leaves nothing or what can be resumed.
#[test]
fn an_early_interruption_leaves_nothing_or_a_run() {
    for wait in [0, 5, 10, 20, 40, 80, 160] {
        let folder = long_text();
        let child = folder.command(&train()).spawn().unwrap();
        sleep(Duration::from_millis(wait));
        signal(&child, "INT");
        let ran = Ran::to_the_end(child);
        // Before the program listens, the signal ends the process by itself, which gives no code.
        assert!(matches!(ran.code, Some(130) | None), "{wait}: {ran:?}");
        let runs = folder.join("runs");
        if runs.exists() {
            for name in folder.names("runs") {
                assert_eq!(name, "lm-1", "{wait}");
                // A fast run has done more than a few updates by then.
                let done = folder.rows("runs/lm-1/metrics.jsonl").last().map_or(0, |row| row["step"].as_u64().unwrap());
                let steps = format!("train.steps={}", done + 400);
                folder.run(&["train", "--quiet", "--resume", "lm-1", "--set", &steps]).succeeded();
            }
        }
    }
}
