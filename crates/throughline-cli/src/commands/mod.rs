//! One module for each command.

pub mod eval;
pub mod generate;
pub mod predict;
pub mod recipe;
pub mod train;

use std::path::Path;

use anyhow::Result;
use throughline::train::{RunFolder, TrainedModel};

use crate::arguments::RunArgument;

/// Where runs are looked for by name.
const RUNS: &str = "runs";

/// The model that a command names.
fn load(argument: &RunArgument) -> Result<TrainedModel> {
    let folder = RunFolder::open(Path::new(RUNS), &argument.run)?;
    Ok(TrainedModel::load(folder, argument.threads.map(usize::from))?)
}
