//! All that is told of a trained run: what was seen inside its model, how its training went, and what is wrong.

use serde::Serialize;
use throughline_infer::Evaluation;

use crate::{Finding, Inspection, Training};

/// What was found out about a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The name of the run.
    pub run: String,
    /// What a model of its task is called, such as `language model`.
    pub model: &'static str,
    /// Cell and sizes, such as `lstm 2 x 256`.
    pub network: String,
    /// What the model was shown: `test split`, or the files.
    pub data: String,
    /// What was left out of the data or may be wrong with them, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What was seen inside the model.
    #[serde(flatten)]
    pub inspection: Inspection,
    /// How its training went.
    pub training: Training,
    /// What is wrong; empty where nothing is.
    pub findings: Vec<Finding>,
    /// How well the model does on the data, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<Evaluation>,
}
