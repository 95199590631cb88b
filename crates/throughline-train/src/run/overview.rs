//! What a run folder says of its run, without the data: for lists of runs.

use std::collections::BTreeMap;

use serde::Serialize;
use throughline_data::Split;

use super::checkpoint;
use super::folder::RunFolder;
use super::metrics::{Row, read_rows};
use crate::tasks::task_of;
use crate::{Error, Recipe, Result};

/// A run in short.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Overview {
    /// The run folder.
    pub run: String,
    /// Name of the run.
    pub name: String,
    /// Its task.
    pub task: String,
    /// Cell and sizes, such as `lstm 2 x 256`.
    pub network: String,
    /// Updates done.
    pub updates: u64,
    /// Seconds of training.
    pub seconds: f64,
    /// The update that was kept, if one was.
    pub kept: Option<u64>,
    /// The metric by which it was the best.
    pub metric: String,
    /// What it reached on the validation split, the loss among them; empty if nothing was kept.
    pub validation: BTreeMap<String, f64>,
    /// The same on the test split; empty if the run is not over or has none.
    pub test: BTreeMap<String, f64>,
}

impl Overview {
    /// Reads `config.toml`, the metrics and the counters in the checkpoint.
    ///
    /// # Errors
    /// If one of them is missing or damaged.
    pub fn read(folder: &RunFolder) -> Result<Self> {
        let path = folder.path();
        if !folder.config_toml().is_file() {
            return Err(Error::file(path, "run", "a run folder, with a config.toml", "none there"));
        }
        let recipe = folder.recipe()?;
        let progress = checkpoint::peek(&folder.checkpoint())?;
        // A run that was stopped at once has measured nothing yet.
        let rows = if folder.metrics().exists() { read_rows(&folder.metrics())? } else { Vec::new() };
        let last = |split: Split, step: Option<u64>| {
            let of_split = |row: &&Row| row.split == split && step.is_none_or(|step| row.step == step);
            rows.iter().rev().find(of_split).map(all_metrics).unwrap_or_default()
        };
        let kept = progress.best.map(|best| best.step);
        let validation = kept.map(|step| last(Split::Validation, Some(step))).unwrap_or_default();
        Ok(Self {
            run: path.display().to_string(),
            name: path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
            task: recipe.task().to_owned(),
            network: network(&recipe),
            updates: progress.step,
            seconds: progress.seconds,
            kept,
            metric: task_of(&recipe).info().deciding(&validation).unwrap_or("loss").to_owned(),
            validation,
            test: last(Split::Test, None),
        })
    }
}

fn all_metrics(row: &Row) -> BTreeMap<String, f64> {
    let mut metrics = row.metrics.clone();
    metrics.insert("loss".to_owned(), row.loss);
    metrics
}

/// Cell and sizes, as far as the task has such settings.
pub(crate) fn network(recipe: &Recipe) -> String {
    let value = |key: &str| recipe.value(&format!("model.{key}"));
    let cell = value("cell").and_then(|cell| cell.as_str().map(str::to_owned));
    let sizes = value("layers").zip(value("hidden")).map(|(layers, hidden)| format!("{layers} x {hidden}"));
    let both_ways = value("bidirectional").and_then(|both| both.as_bool()).unwrap_or(false);
    let parts = [cell, sizes, both_ways.then(|| "bidirectional".to_owned())];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}
