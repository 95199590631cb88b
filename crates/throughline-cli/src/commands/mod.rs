//! One module for each command.

pub mod data;
pub mod eval;
pub mod generate;
mod given;
pub mod inspect;
pub mod lab;
pub mod lr_find;
pub mod predict;
pub mod recipe;
pub mod runs;
pub mod train;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use throughline::infer::Model;
use throughline::train::{RunFolder, Score};

use crate::arguments::RunArgument;

/// Where runs are looked for by name.
const RUNS: &str = "runs";

/// A share of unknown units above which the model's answers deserve a warning.
const MANY_UNKNOWN: f64 = 0.2;

/// The run that a command names, and its model.
fn open(argument: &RunArgument) -> Result<(RunFolder, Model)> {
    let folder = trained(argument)?;
    let model = Model::open(folder.path(), argument.threads.map(usize::from))?;
    Ok((folder, model))
}

/// The run that a command names, which has a model.
fn trained(argument: &RunArgument) -> Result<RunFolder> {
    let folder = RunFolder::open(Path::new(RUNS), &argument.run)?;
    if !folder.model().exists() && !folder.card().exists() {
        bail!(
            "{}: expected a trained model, found none: the run has not evaluated one yet; \
             wait for it, or if it has stopped go on with: throughline train --resume {}",
            folder.model().display(),
            folder.path().display()
        );
    }
    Ok(folder)
}

/// What to say of an input of which the model has never seen so large a share of the units; nothing if it is small.
fn warning_of_unknown(what: &str, share: f64) -> Option<String> {
    (share > MANY_UNKNOWN).then(|| {
        format!(
            "warning: the model has never seen {:.0} % of the units of {what}; it guesses about them",
            100.0 * share
        )
    })
}

/// A bar on standard error for so many updates; hidden where that is no terminal.
fn bar(updates: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(updates), ProgressDrawTarget::stderr_with_hz(5));
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}");
    bar.set_style(style.expect("the template is valid"));
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

/// What a method reached on a split, in words.
fn reached(score: &Score) -> String {
    let metrics = score.metrics.iter().map(|(name, value)| format!("{} {value:.4}", name.replace('_', " ")));
    format!("{} {}", score.split.name(), metrics.collect::<Vec<_>>().join(", "))
}

/// Seconds in the two units that say most.
fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_two_units_at_most() {
        let told = [0.4, 59.6, 61.0, 3599.0, 7325.0, 360_000.0].map(duration);
        assert_eq!(told, ["0 s", "1 min 0 s", "1 min 1 s", "59 min 59 s", "2 h 2 min", "100 h 0 min"]);
    }
}
