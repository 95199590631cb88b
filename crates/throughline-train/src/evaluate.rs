//! Measuring a trained model on data: the test split of its own, or other files.

use std::path::PathBuf;

use serde::Serialize;
use throughline_infer::{Evaluation, Model};

use crate::learn::{Learn, Measured};
use crate::{Error, Recipe, Result, RunFolder, tasks};

/// What [`evaluate`] found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What was measured on: `test split`, or the files.
    pub data: String,
    /// Loss and metrics.
    #[serde(flatten)]
    pub evaluation: Evaluation,
    /// What was left out of the data or may be wrong with them, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Measures the model of a run: on the files at `paths`, or on the test split of the run's own data if there are none.
///
/// # Errors
/// If the data cannot be read or used, do not fit the model, or are no longer those that the run has set aside for testing.
pub fn evaluate(folder: &RunFolder, model: &Model, paths: &[PathBuf]) -> Result<Report> {
    let recipe = folder.recipe()?;
    let task = tasks::find(recipe.task()).expect("a recipe that was read has a task");
    if model.info().name != task.info().name {
        let expected = format_args!("\"{}\", as config.toml says", recipe.task());
        return Err(Error::file(&folder.config_json(), "task", expected, model.info().name));
    }
    task.evaluate(folder, &recipe, model, paths)
}

pub(crate) fn measure<L: Learn>(
    folder: &RunFolder,
    recipe: &Recipe,
    model: &Model,
    paths: &[PathBuf],
) -> Result<Report> {
    let model = model.expect::<L::Serve>()?;
    let Measured { data, what, notes, record } = L::measured(recipe, model.config(), model.encoder(), paths)?;
    if let Some(now) = record {
        let mut known = folder.data_record()?;
        let then = known.clone();
        known.test = now;
        if let Some(differences) = then.differences(&known, &[throughline_data::Split::Test]) {
            let expected = "the data that the run began with; name the files to measure on with --data";
            return Err(Error::file(folder.path(), "data", expected, differences));
        }
    }
    let evaluation = model.evaluate(&data).ok_or_else(|| {
        Error::file(folder.path(), &what, "something to measure on, or files named with --data", "nothing")
    })?;
    Ok(Report { data: what, evaluation, notes })
}
