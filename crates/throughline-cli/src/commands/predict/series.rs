//! `throughline predict --series`: answers to the series of files.

use anyhow::{Result, bail};
use serde_json::Value;
use throughline::data::{SeriesReader, SeriesSet, WantedAnswers};
use throughline::infer::{self, ClassifySeries, Model, Regress, SeriesEncoder};

use super::answers::{Answers, SERIES};
use super::{keep_classes, top, warn_of_top};
use crate::arguments::PredictArguments;
use crate::output::{Output, note};

/// Series that are answered together.
const SERIES_AT_ONCE: usize = 1024;

/// Writes an answer for each series of the files.
pub fn run(model: &Model, arguments: &PredictArguments) -> Result<()> {
    let channels = encoder(model)?.channels.iter().map(|channel| channel.name.clone()).collect();
    let reader = SeriesReader {
        channels,
        id_column: arguments.id_column.clone(),
        time_column: arguments.time_column.clone(),
        wanted: WantedAnswers::Nothing,
        ..SeriesReader::default()
    };
    let set = reader.read(&arguments.series)?;
    let refused = Output::open(arguments.out.as_deref(), |output| answer(model, &set, arguments, output))?;
    if refused > 0 {
        bail!("{refused} of {} series could not be answered", set.len());
    }
    Ok(())
}

/// What a model reads of a series.
fn encoder(model: &Model) -> infer::Result<&SeriesEncoder> {
    match model.get::<Regress>() {
        Some(model) => Ok(&model.config().input),
        None => Ok(&model.expect::<ClassifySeries>()?.config().input),
    }
}

/// The answers of a model, each as a JSON object.
fn predict(model: &Model, series: &[&[f64]]) -> infer::Result<Vec<infer::Result<Value>>> {
    const JSON: &str = "predictions have a JSON form";
    Ok(match model.get::<Regress>() {
        Some(model) => {
            let answers = model.regress(series).into_iter();
            answers.map(|answer| Ok(serde_json::to_value(answer?).expect(JSON))).collect()
        }
        None => {
            let answers = model.expect::<ClassifySeries>()?.classify(series).into_iter();
            answers.map(|answer| Ok(serde_json::to_value(answer?).expect(JSON))).collect()
        }
    })
}

/// How many series could not be answered.
fn answer(model: &Model, set: &SeriesSet, arguments: &PredictArguments, output: &mut Output<'_>) -> Result<usize> {
    let mut answers = Answers::new(arguments.format, output);
    let (mut refused, mut had_classes) = (0, false);
    let indices: Vec<usize> = (0..set.len()).collect();
    for indices in indices.chunks(SERIES_AT_ONCE) {
        let series: Vec<&[f64]> = indices.iter().map(|&index| set.values(index)).collect();
        for (answer, &index) in predict(model, &series)?.into_iter().zip(indices) {
            match answer {
                Ok(mut answer) => {
                    had_classes |= keep_classes(&mut answer, top(arguments));
                    answer[SERIES] = set.name(index).into();
                    answers.push(answer);
                }
                Err(wrong) => {
                    answers.flush()?;
                    refused += 1;
                    note(&format!("error: {}: {wrong}", set.place(index)));
                }
            }
        }
        answers.flush()?;
    }
    answers.finish()?;
    warn_of_top(arguments, set.len() - refused, had_classes);
    Ok(refused)
}
