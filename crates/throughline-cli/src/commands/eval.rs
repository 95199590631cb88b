//! `throughline eval`

use std::borrow::Cow;

use anyhow::Result;
use throughline::train::{self, Report};

use super::warning_of_unknown;
use crate::arguments::{EvalArguments, OutputFormat};
use crate::output::{Output, csv, note};

pub fn run(arguments: &EvalArguments) -> Result<()> {
    let (folder, model) = super::open(&arguments.run)?;
    let report = train::evaluate(&folder, &model, &arguments.data)?;
    report.notes.iter().for_each(|sentence| note(sentence));
    if let Some(warning) = warning_of_unknown(&report.data, report.evaluation.unknown_share) {
        note(&warning);
    }
    let format = if arguments.json { OutputFormat::Json } else { arguments.format };
    Output::open(arguments.out.as_deref(), |output| match format {
        OutputFormat::Text => Ok(output.text(&(as_text(&report) + "\n"))?),
        OutputFormat::Json => Ok(output.json(&(serde_json::to_string(&report)? + "\n"))?),
        OutputFormat::Csv => Ok(output.text(&as_table(&report)?)?),
    })
}

/// A header and a row, without the confusion matrix.
fn as_table(report: &Report) -> Result<String> {
    let evaluation = &report.evaluation;
    let metrics = evaluation.metrics.iter().map(|(name, value)| (name.as_str(), value.to_string()));
    let (count, loss) = (evaluation.count.to_string(), evaluation.loss.to_string());
    let first = [("data", report.data.clone()), ("count", count), ("loss", loss)].into_iter();
    let last = [("unknown_share", evaluation.unknown_share.to_string())];
    let (names, values): (Vec<_>, Vec<_>) = first.chain(metrics).chain(last).unzip();
    csv([names.into_iter().map(Cow::Borrowed).collect(), values.into_iter().map(Cow::Owned).collect::<Vec<_>>()])
}

fn as_text(report: &Report) -> String {
    let evaluation = &report.evaluation;
    let mut text = format!("{} ({}): loss {:.4}", report.data, evaluation.count, evaluation.loss);
    for (name, value) in &evaluation.metrics {
        text += &format!(", {} {value:.4}", name.replace('_', " "));
    }
    text += &format!(", unknown share {:.4}", evaluation.unknown_share);
    if let Some(confusion) = &evaluation.confusion {
        text += &format!("\n\n{confusion}");
    }
    text
}
