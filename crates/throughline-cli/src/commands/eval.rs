//! `throughline eval`

use anyhow::Result;
use throughline::train::{self, Report};

use super::warning_of_unknown;
use crate::arguments::EvalArguments;
use crate::output::{note, say_json, say_line};

pub fn run(arguments: &EvalArguments) -> Result<()> {
    let (folder, model) = super::open(&arguments.run)?;
    let report = train::evaluate(&folder, &model, &arguments.data)?;
    report.notes.iter().for_each(|sentence| note(sentence));
    if let Some(warning) = warning_of_unknown(&report.data, report.evaluation.unknown_share) {
        note(&warning);
    }
    let said =
        if arguments.json { say_json(&(serde_json::to_string(&report)? + "\n")) } else { say_line(&as_text(&report)) };
    Ok(said?)
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
