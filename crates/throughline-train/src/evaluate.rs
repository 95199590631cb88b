//! Measuring a trained model on data: the test split of its own, or other files.

use std::path::PathBuf;

use serde::Serialize;
use throughline_infer::{Evaluation, Model, Serve};

use crate::learn::{Learn, Measured};
use crate::{Error, Recipe, Result, RunFolder};

/// What [`evaluate`](crate::evaluate()) found.
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

/// See [`evaluate`](crate::evaluate()).
pub(crate) fn measure<L: Learn>(
    folder: &RunFolder,
    recipe: &Recipe,
    model: &Model,
    paths: &[PathBuf],
) -> Result<Report> {
    let model = model.expect::<L::Serve>()?;
    let Measured { data, what, notes, .. } = held_out::<L>(folder, recipe, model.config(), model.encoder(), paths)?;
    let evaluation = model.evaluate(&data).ok_or_else(|| {
        Error::file(folder.path(), &what, "something to measure on, or files named with --data", "nothing")
    })?;
    Ok(Report { data: what, evaluation, notes })
}

/// The files at `paths`, or the test split of the run's own data if there are none, which must be as it was.
///
/// # Errors
/// As [`Learn::measured`], and if the data are no longer those that the run has set aside for testing.
pub(crate) fn held_out<L: Learn>(
    folder: &RunFolder,
    recipe: &Recipe,
    config: &<L::Serve as Serve>::Config,
    encoder: &<L::Serve as Serve>::Encoder,
    paths: &[PathBuf],
) -> Result<Measured<<L::Serve as Serve>::Data>> {
    let measured = L::measured(recipe, config, encoder, paths)?;
    if let Some(now) = &measured.record {
        let mut known = folder.data_record()?;
        let then = known.clone();
        known.test = now.clone();
        if let Some(differences) = then.differences(&known, &[throughline_data::Split::Test]) {
            let expected = "the data that the run began with; name the files to measure on with --data";
            return Err(Error::file(folder.path(), "data", expected, differences));
        }
    }
    Ok(measured)
}
