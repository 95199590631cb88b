//! `throughline predict`

use std::io::{BufReader, Stdin};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use throughline::data::{BoundedLines, Line};
use throughline::infer::{Model, Tag};

use super::warning_of_unknown;
use crate::arguments::PredictArguments;
use crate::output::{Output, note};
use answers::Answers;

mod answers;
mod columns;
mod series;

/// The longest line that is read, in bytes.
const LONGEST_LINE: usize = 16 << 20;
/// Lines that are answered together at most, and their bytes. What is there is answered at once, never waited for.
const MOST_LINES: usize = 4096;
const MOST_BYTES: usize = 4 << 20;
/// Classes that are written where `--top` does not say how many.
const TOP: u16 = 3;
/// Bytes that are read at a time.
const BUFFER: usize = 1 << 20;

pub fn run(arguments: &PredictArguments) -> Result<()> {
    let (folder, model) = super::open(&arguments.run)?;
    if !arguments.columns.is_empty() {
        let model = model.expect::<Tag>().with_context(|| folder.path().display().to_string())?;
        return columns::run(model, arguments);
    }
    if !arguments.series.is_empty() {
        return series::run(&model, arguments).with_context(|| folder.path().display().to_string());
    }
    let mut lines = Lines::new(BoundedLines::new(BufReader::with_capacity(BUFFER, std::io::stdin()), LONGEST_LINE));
    let top = top(arguments);
    let totals = Output::open(arguments.out.as_deref(), |output| {
        let mut answers = Answers::new(arguments.format, output);
        let mut totals = Totals::default();
        while let Some(batch) = lines.next_batch()? {
            answer(&model, batch, top, &mut answers, &mut totals)?;
        }
        answers.finish()?;
        // A file with no answer takes the place of none.
        if totals.answered == 0 { totals.complaint().map(|()| totals) } else { Ok(totals) }
    })?;
    warn_of_top(arguments, totals.answered, totals.had_classes);
    let share = totals.unknown / totals.answered.max(1) as f64;
    if let Some(warning) = warning_of_unknown("these lines", share) {
        note(&warning);
    }
    totals.complaint()
}

/// How many classes are written.
fn top(arguments: &PredictArguments) -> usize {
    usize::from(arguments.top.unwrap_or(TOP))
}

fn warn_of_top(arguments: &PredictArguments, answered: usize, had_classes: bool) {
    if arguments.top.is_some() && answered > 0 && !had_classes {
        note("warning: --top has no effect: the answers of this model have no list of classes");
    }
}

/// What was done so far.
#[derive(Default)]
struct Totals {
    answered: usize,
    refused: usize,
    /// Whether an answer had a list of classes.
    had_classes: bool,
    /// The sum of the answers' shares of unknown units.
    unknown: f64,
}

impl Totals {
    /// An error if a line was refused.
    fn complaint(&self) -> Result<()> {
        let Self { answered, refused, .. } = self;
        ensure!(*refused == 0, "standard input: {refused} of {} lines could not be answered", refused + answered);
        Ok(())
    }
}

/// A line to answer, or why there is none.
type Numbered = (usize, Result<String, String>);

/// Answers the lines of a batch, in their order.
fn answer(
    model: &Model,
    batch: Vec<Numbered>,
    top: usize,
    written: &mut Answers<'_, '_>,
    totals: &mut Totals,
) -> Result<()> {
    let texts: Vec<&str> = batch.iter().filter_map(|(_, line)| line.as_deref().ok()).collect();
    let mut answers = model.predict_lines(&texts).into_iter();
    for (number, line) in &batch {
        let answered = match line {
            Ok(_) => answers.next().expect("an answer for each line").map_err(|error| error.to_string()),
            Err(wrong) => Err(wrong.clone()),
        };
        match answered {
            Ok(mut answer) => {
                totals.had_classes |= keep_classes(&mut answer, top);
                totals.answered += 1;
                totals.unknown += answer["unknown_share"].as_f64().unwrap_or(0.0);
                written.push(answer);
            }
            Err(wrong) => {
                // What was answered before comes before the complaint.
                written.flush()?;
                totals.refused += 1;
                note(&format!("error: standard input, line {number}: {wrong}"));
            }
        }
    }
    written.flush()
}

/// Leaves the `top` most probable classes of an answer; `false` if it has no list of classes.
fn keep_classes(answer: &mut Value, top: usize) -> bool {
    let classes = answer.get_mut("classes").and_then(Value::as_array_mut);
    classes.map(|classes| classes.truncate(top)).is_some()
}

/// Lines of standard input, as many at a time as have arrived.
struct Lines {
    lines: BoundedLines<BufReader<Stdin>>,
}

impl Lines {
    fn new(lines: BoundedLines<BufReader<Stdin>>) -> Self {
        Self { lines }
    }

    /// The next lines; nothing at the end of the input.
    fn next_batch(&mut self) -> Result<Option<Vec<Numbered>>> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < MOST_LINES && bytes < MOST_BYTES && (batch.is_empty() || self.has_arrived()) {
            let Some(line) = self.lines.next_line().context("standard input")? else { break };
            batch.push(match line {
                Line::Text { number, text } => {
                    bytes += text.len();
                    (number, Ok(text.to_owned()))
                }
                Line::TooLong { number, bytes } => {
                    (number, Err(format!("expected at most {LONGEST_LINE} bytes, found {bytes}")))
                }
                Line::Invalid { number, offset } => {
                    (number, Err(format!("expected UTF-8, found an invalid byte at {offset}")))
                }
            });
        }
        Ok((!batch.is_empty()).then_some(batch))
    }

    /// Whether a whole line is there, so that reading it will not wait.
    fn has_arrived(&self) -> bool {
        self.lines.input().buffer().contains(&b'\n')
    }
}
