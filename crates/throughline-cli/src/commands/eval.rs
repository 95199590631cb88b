//! `throughline eval`

use anyhow::Result;
use throughline::data::printable_text;
use throughline::train::{self, Report};

use super::warning_of_unknown;
use crate::arguments::EvalArguments;
use crate::output::{note, say_line};

pub fn run(arguments: &EvalArguments) -> Result<()> {
    let (folder, model) = super::open(&arguments.run)?;
    let report = train::evaluate(&folder, &model, &arguments.data)?;
    for note_of_data in &report.notes {
        note(&format!("left out: {}", printable_text(note_of_data)));
    }
    if let Some(warning) = warning_of_unknown(&report.data, report.evaluation.unknown_share) {
        note(&printable_text(&warning));
    }
    Ok(say_line(&if arguments.json { serde_json::to_string(&report)? } else { as_text(&report) })?)
}

fn as_text(report: &Report) -> String {
    let evaluation = &report.evaluation;
    let data = printable_text(&report.data);
    let mut text = format!("{data} ({}): loss {:.4}", evaluation.count, evaluation.loss);
    for (name, value) in &evaluation.metrics {
        text += &format!(", {} {value:.4}", name.replace('_', " "));
    }
    text += &format!(", unknown share {:.4}", evaluation.unknown_share);
    if let Some(confusion) = &evaluation.confusion {
        text += &format!("\n\n{confusion}");
    }
    text
}
