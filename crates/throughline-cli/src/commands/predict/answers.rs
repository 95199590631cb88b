//! Answers of a model of any task, as JSON lines, as a table, or for people.

use std::borrow::Cow;

use anyhow::{Result, bail};
use serde_json::{Map, Value};

use crate::arguments::OutputFormat;
use crate::output::{Output, csv};

/// The keys of an answer that are not predictions: the line itself or the name of a series, and what share of it is unknown.
const TEXT: &str = "text";
pub const SERIES: &str = "series";
const UNKNOWN: &str = "unknown_share";

/// Writes answers as they come.
pub struct Answers<'o, 'f> {
    format: OutputFormat,
    output: &'o mut Output<'f>,
    /// The columns of the table, once its header is written.
    columns: Option<Vec<String>>,
    waiting: Vec<Map<String, Value>>,
}

impl<'o, 'f> Answers<'o, 'f> {
    pub fn new(format: OutputFormat, output: &'o mut Output<'f>) -> Self {
        Self { format, output, columns: None, waiting: Vec::new() }
    }

    /// Takes in an answer; [`flush`](Self::flush) writes it.
    pub fn push(&mut self, answer: Value) {
        let Value::Object(answer) = answer else { unreachable!("an answer is a JSON object") };
        self.waiting.push(answer);
    }

    /// Writes what was taken in.
    pub fn flush(&mut self) -> Result<()> {
        let answers = std::mem::take(&mut self.waiting);
        match self.format {
            OutputFormat::Json => {
                let lines = answers.into_iter().map(|answer| format!("{}\n", Value::Object(answer)));
                Ok(self.output.json(&lines.collect::<String>())?)
            }
            OutputFormat::Csv => {
                let table = self.table(&answers)?;
                Ok(self.output.text(&table)?)
            }
            OutputFormat::Text => Ok(self.output.text(&answers.iter().map(for_people).collect::<String>())?),
        }
    }

    /// A row for each answer, below the header if there was none yet.
    fn table(&mut self, answers: &[Map<String, Value>]) -> Result<String> {
        let mut rows: Vec<Vec<Cow<'_, str>>> = Vec::new();
        if let (None, Some(first)) = (&self.columns, answers.first()) {
            let of_what = if first.contains_key(SERIES) { SERIES } else { TEXT };
            let others = first.keys().filter(|key| *key != of_what).cloned();
            let columns: Vec<String> = std::iter::once(of_what.to_owned()).chain(others).collect();
            rows.push(columns.iter().map(|column| Cow::Owned(column.clone())).collect());
            self.columns = Some(columns);
        }
        let columns = self.columns.as_deref().unwrap_or_default();
        for answer in answers {
            if let Some(key) = answer.keys().find(|key| !columns.contains(key)) {
                bail!("--format csv: expected the columns {}, found an answer with {key}", columns.join(", "));
            }
            rows.push(columns.iter().map(|column| cell(answer.get(column).unwrap_or(&Value::Null))).collect());
        }
        csv(rows)
    }
}

fn cell(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed(""),
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

/// The words with their tags, or else what was predicted in a line, and the text that it is of.
fn for_people(answer: &Map<String, Value>) -> String {
    if let Some(words) = answer.get("words").and_then(Value::as_array) {
        let line = |word: &Value| format!("{}\t{}\n", cell(&word["word"]), cell(&word["tag"]));
        return words.iter().map(line).collect::<String>() + "\n";
    }
    let mut text = String::new();
    for (key, value) in answer.iter().filter(|(key, _)| ![TEXT, SERIES, UNKNOWN].contains(&key.as_str())) {
        text += &part_for_people(key, value);
    }
    let of_what = answer.get(SERIES).or_else(|| answer.get(TEXT));
    text + &of_what.map_or(Cow::Borrowed(""), cell) + "\n"
}

fn part_for_people(key: &str, value: &Value) -> String {
    match value {
        Value::String(name) => format!("{name}  "),
        Value::Number(number) if number.is_u64() => format!("{} {number}  ", key.replace('_', " ")),
        Value::Number(number) => format!("{} {:.4}  ", key.replace('_', " "), number.as_f64().unwrap_or(f64::NAN)),
        Value::Null => format!("{} -  ", key.replace('_', " ")),
        Value::Object(parts) => parts.iter().map(|(key, value)| part_for_people(key, value)).collect(),
        // Whole numbers, such as pitches, are what was predicted; probabilities are for programs.
        Value::Array(numbers) if numbers.iter().all(Value::is_u64) => {
            let numbers: Vec<String> = numbers.iter().map(Value::to_string).collect();
            format!(
                "{} {}  ",
                key.replace('_', " "),
                if numbers.is_empty() { "-".to_owned() } else { numbers.join(" ") }
            )
        }
        _ => String::new(),
    }
}
