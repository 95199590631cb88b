//! `throughline eval`

use anyhow::Result;
use serde_json::{Map, Value, json};
use throughline::train::Report;

use crate::arguments::EvalArguments;
use crate::output::say_line;

pub fn run(arguments: EvalArguments) -> Result<()> {
    let mut model = super::load(&arguments.run)?;
    let report = model.evaluate(&arguments.data)?;
    Ok(say_line(&if arguments.json { as_json(&report) } else { as_text(&report) })?)
}

fn as_json(report: &Report) -> String {
    let mut object = Map::new();
    object.insert("data".to_owned(), json!(report.what));
    object.insert("count".to_owned(), json!(report.count));
    object.insert("loss".to_owned(), json!(report.evaluation.loss));
    for (name, value) in &report.evaluation.metrics {
        object.insert(name.clone(), json!(value));
    }
    if let Some(confusion) = &report.confusion {
        let labels = confusion.labels();
        let row = |truth| -> Vec<u64> { (0..labels.len()).map(|taken| confusion.count(truth, taken)).collect() };
        let counts: Vec<Vec<u64>> = (0..labels.len()).map(row).collect();
        object.insert("confusion".to_owned(), json!({"labels": labels, "counts": counts}));
    }
    Value::Object(object).to_string()
}

fn as_text(report: &Report) -> String {
    let mut text = format!("{} ({}): loss {:.4}", report.what, report.count, report.evaluation.loss);
    for (name, value) in &report.evaluation.metrics {
        text += &format!(", {} {value:.4}", name.replace('_', " "));
    }
    if let Some(confusion) = &report.confusion {
        text += &format!("\n\n{confusion}");
    }
    text
}
