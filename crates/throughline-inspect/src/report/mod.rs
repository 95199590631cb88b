//! All that is told of a trained run: what was seen inside its model, how its training went, and what is wrong.

use serde::Serialize;
use throughline_infer::Evaluation;

use crate::numbers::{number, percent};
use crate::{Attribution, Example, Finding, Flow, Inspection, Training};
use throughline_data::printable;

mod html;
mod text;

/// Shares of a gradient at lag 0 below which it is said to be gone, in training and in the numbers of f32.
const GONE: [(f64, &str); 2] = [(crate::GONE, "below 1 %"), (1e-6, "below 1e-6")];

/// What is said of gradients where [`Inspection::pools_steps`].
const POOLED: &str = "The answer is made of all steps: the loss enters at each of them, and what is left at a lag says nothing about \
                      memory.";

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

/// The largest size of some numbers, and never 0.
fn largest(numbers: impl Iterator<Item = f64>) -> f64 {
    numbers.map(f64::abs).filter(|size| size.is_finite()).fold(f64::MIN_POSITIVE, f64::max)
}

/// What is explained, and whether it is all.
fn adds_up(attribution: &Attribution) -> String {
    let Attribution { value, baseline, points, .. } = attribution;
    let (value, baseline) = (number(*value), number(*baseline));
    if attribution.difference() == 0.0 {
        return format!("the answer scores {value}, as after a blank input");
    }
    let whole = if attribution.complete { "" } else { ", which is not complete" };
    format!(
        "the answer scores {value}, after a blank input {baseline}; the parts, from {points} points, add up to {} of the difference{whole}",
        percent(attribution.sum() / attribution.difference())
    )
}

/// The steps with the largest parts, as so many items such as `"film" 0.31`, in the order of the steps.
fn most_important(example: &Example, count: usize) -> Vec<String> {
    let parts = &example.attribution.integrated;
    let mut steps: Vec<usize> = (0..parts.len()).collect();
    steps.sort_by(|&a, &b| parts[b].abs().total_cmp(&parts[a].abs()));
    steps.truncate(count);
    steps.sort_unstable();
    let item = |step: usize| match &example.pieces {
        Some(pieces) => format!("\"{}\" {}", printable(&pieces[step]), number(parts[step])),
        None => format!("step {step} {}", number(parts[step])),
    };
    steps.into_iter().map(item).collect()
}
