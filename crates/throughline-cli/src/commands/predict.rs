//! `throughline predict`

use std::io::BufRead;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use throughline::train::{Task, TrainedModel};

use crate::arguments::PredictArguments;
use crate::output::say_line;

/// The longest line that is read.
const LONGEST_LINE: u64 = 64 << 20;

pub fn run(arguments: PredictArguments) -> Result<()> {
    let mut model = super::load(&arguments.run)?;
    let mut input = std::io::stdin().lock();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = std::io::Read::take(&mut input, LONGEST_LINE).read_until(b'\n', &mut line);
        if read.with_context(|| format!("standard input, line {number}"))? == 0 {
            break;
        }
        if line.len() as u64 == LONGEST_LINE {
            bail!("standard input, line {number}: expected at most {LONGEST_LINE} bytes, found more");
        }
        let text = std::str::from_utf8(&line)
            .with_context(|| format!("standard input, line {number}: expected UTF-8"))?
            .trim_end_matches(['\n', '\r']);
        say_line(&answer(&mut model, text, usize::from(arguments.top))?.to_string())?;
    }
    Ok(())
}

/// The JSON object for one line.
fn answer(model: &mut TrainedModel, text: &str, top: usize) -> Result<Value> {
    Ok(match model.task() {
        Task::Lm => {
            let scored = model.text_loss(text)?;
            let metric = |name: &str| scored.as_ref().map(|scored| scored.metrics[name]);
            json!({
                "text": text,
                "loss": scored.as_ref().map(|scored| scored.loss),
                "perplexity": metric("perplexity"),
                "bits_per_unit": metric("bits_per_unit"),
            })
        }
        Task::Classify => {
            let prediction = model.classify(text)?;
            let of = |(label, probability): &(String, f64)| json!({"label": label, "probability": probability});
            let (label, probability) = &prediction.classes[0];
            let classes: Vec<Value> = prediction.classes.iter().take(top).map(of).collect();
            json!({"text": text, "label": label, "probability": probability, "classes": classes})
        }
    })
}
