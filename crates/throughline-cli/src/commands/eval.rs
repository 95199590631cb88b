//! `throughline eval`

use std::borrow::Cow;

use anyhow::Result;
use serde_json::{Value, json};
#[cfg(feature = "parquet")]
use throughline::data::ParquetWriter;
use throughline::train::{self, Report};

use super::warning_of_unknown;
use crate::arguments::{EvalArguments, OutputFormat};
use crate::output::{Output, cell, csv, note};

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
        OutputFormat::Csv => {
            let (names, values) = as_row(&report);
            let table = csv([names.into_iter().map(Cow::Owned).collect(), values.iter().map(cell).collect()])?;
            Ok(output.text(&table)?)
        }
        #[cfg(feature = "parquet")]
        OutputFormat::Parquet => {
            let (names, values) = as_row(&report);
            let mut table = ParquetWriter::new(names);
            output.bytes(&table.push(values)?)?;
            Ok(output.bytes(&table.finish()?)?)
        }
    })
}

/// Names and values of a row, without the confusion matrix.
fn as_row(report: &Report) -> (Vec<String>, Vec<Value>) {
    let evaluation = &report.evaluation;
    let first = [("data", json!(report.data)), ("count", json!(evaluation.count)), ("loss", json!(evaluation.loss))];
    let metrics = evaluation.metrics.iter().map(|(name, value)| (name.as_str(), json!(value)));
    let last = [("unknown_share", json!(evaluation.unknown_share))];
    first.into_iter().chain(metrics).chain(last).map(|(name, value)| (name.to_owned(), value)).unzip()
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
