//! Learning rates over a run, and how many batches make an update.

use crate::folder::Folder;
use crate::trained::{TINY_CLASSIFIER, tsv, with};

fn folder() -> Folder {
    Folder::with(&[("texts.tsv", &tsv())])
}

/// The learning rate of every update as a share of the peak, after a run with these settings, and what the run said.
fn rates(folder: &Folder, sets: &[&str]) -> (Vec<f64>, String) {
    let train = with(&["train", "texts.tsv"], TINY_CLASSIFIER);
    let ran = folder.run(&with(&train, &with(&["name=run", "optimiser.learning_rate=0.5"], sets)));
    let said = ran.err.clone();
    ran.succeeded();
    let rows = folder.rows("runs/run/metrics.jsonl").into_iter().filter(|row| row["split"] == "train");
    (rows.map(|row| row["lr"].as_f64().unwrap() / 0.5).collect(), said)
}

#[test]
fn one_cycle_and_late_steps() {
    let (cycle, _) = rates(&folder(), &["schedule.kind=one-cycle", "train.steps=41", "schedule.floor=0.001"]);
    assert_eq!(cycle.len(), 41);
    let close = |value: f64, want: f64| (value - want).abs() < 1e-12;
    assert!(
        close(cycle[0], 0.1) && close(cycle[18], 1.0) && close(cycle[36], 0.1) && close(cycle[40], 0.001),
        "{cycle:?}"
    );
    let late = ["schedule.kind=step", "schedule.step_unit=epochs", "schedule.first_step=4", "schedule.step_every=1"];
    // 72 texts in batches of 8: nine updates an epoch.
    let (steps, _) = rates(&folder(), &with(&late, &["train.epochs=6"]));
    let want: Vec<f64> = [1.0, 1.0, 1.0, 1.0, 0.5, 0.25].into_iter().flat_map(|rate| [rate; 9]).collect();
    assert_eq!(steps, want);
    // Three batches to an update: three updates an epoch.
    let (steps, _) = rates(&folder(), &with(&late, &["train.epochs=6", "train.accumulate=3"]));
    let want: Vec<f64> = [1.0, 1.0, 1.0, 1.0, 0.5, 0.25].into_iter().flat_map(|rate| [rate; 3]).collect();
    assert_eq!(steps, want);
}

/// At this rate no evaluation is as good as an early one.
#[test]
fn a_plateau_goes_back_and_says_so() {
    let sets = ["schedule.kind=plateau", "schedule.patience=1", "schedule.restart=true", "optimiser.learning_rate=5"];
    let folder = folder();
    let (_, said) = rates(&folder, &sets);
    let line = said.lines().find(|line| line.starts_with("the learning rate goes down a step")).expect(&said);
    assert!(line.contains("from the parameters of update "), "{said}");
    // An evaluation later, it can still be resumed, from those parameters and moments.
    folder.run(&["train", "--quiet", "--resume", "run", "--epochs", "9"]).succeeded();
}

#[test]
fn wrong_schedules() {
    let folder = folder();
    for (sets, key) in [
        (&["schedule.kind=one-cycle", "schedule.cycle=0"][..], "schedule.cycle"),
        (&["schedule.kind=one-cycle", "schedule.warmup=5"], "schedule.warmup"),
        (&["schedule.kind=cosine", "schedule.restart=true"], "schedule.restart"),
        (&["schedule.kind=step", "schedule.step_unit=days"], "schedule.step_unit"),
        (&["train.accumulate=0"], "train.accumulate"),
    ] {
        folder.run(&with(&with(&["train", "texts.tsv"], TINY_CLASSIFIER), sets)).refused(&["--set", key, "expected"]);
    }
}
