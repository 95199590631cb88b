//! All that is told of a trained run: what was seen inside its model, how its training went, and what is wrong.

use serde::Serialize;
use throughline_infer::Evaluation;

use crate::{Finding, Flow, Inspection, Training};

mod html;
mod text;

/// Shares of a gradient at lag 0 below which it is said to be gone, in training and in the numbers of f32.
const GONE: [(f64, &str); 2] = [(1e-2, "below 1 %"), (1e-6, "below 1e-6")];

/// What was found out about a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The name of the run.
    pub run: String,
    /// What a model of its task is called, such as `language model`.
    pub model: &'static str,
    /// What its loss is averaged over, in the plural: `units` or `texts`.
    pub counted: &'static str,
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

impl Report {
    /// For a terminal: plain text in so many columns, where names allow it.
    pub fn text(&self, width: usize) -> String {
        text::text(self, width)
    }

    /// For a browser: one page with figures, which needs nothing from anywhere else.
    pub fn html(&self) -> String {
        html::page(self)
    }
}

/// The lags from which the gradients of [`GONE`] are gone.
fn horizons(flow: &Flow) -> [String; 2] {
    GONE.map(|(share, _)| match flow.horizon(share) {
        Some(lag) => lag.to_string(),
        None => format!("> {}", flow.lags.len().saturating_sub(1)),
    })
}
