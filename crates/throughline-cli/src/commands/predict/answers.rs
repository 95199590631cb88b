//! Answers of a model of any task, as JSON lines, as a table, or for people.

use std::borrow::Cow;

use anyhow::{Result, bail};
use serde_json::{Map, Value};
#[cfg(feature = "parquet")]
use throughline::data::ParquetWriter;

use crate::arguments::OutputFormat;
use crate::output::{Output, cell, csv};

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
    #[cfg(feature = "parquet")]
    parquet: Option<ParquetWriter>,
}

impl<'o, 'f> Answers<'o, 'f> {
    pub fn new(format: OutputFormat, output: &'o mut Output<'f>) -> Self {
        Self {
            format,
            output,
            columns: None,
            waiting: Vec::new(),
            #[cfg(feature = "parquet")]
            parquet: None,
        }
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
                let begins = self.columns.is_none() && !answers.is_empty();
                let columns = self.columns(&answers, "csv")?;
                let header = begins.then(|| columns.iter().map(|column| Cow::Borrowed(column.as_str())).collect());
                let rows = answers.iter().map(|answer| values(answer, columns).map(cell).collect());
                let table = csv(header.into_iter().chain(rows))?;
                Ok(self.output.text(&table)?)
            }
            #[cfg(feature = "parquet")]
            OutputFormat::Parquet => {
                let columns = self.columns(&answers, "parquet")?.to_vec();
                if columns.is_empty() {
                    return Ok(());
                }
                let table = self.parquet.get_or_insert_with(|| ParquetWriter::new(columns.clone()));
                for answer in &answers {
                    self.output.bytes(&table.push(values(answer, &columns).cloned().collect())?)?;
                }
                Ok(())
            }
            OutputFormat::Text => Ok(self.output.text(&answers.iter().map(for_people).collect::<String>())?),
        }
    }

    /// Writes what a format needs at its end.
    pub fn finish(self) -> Result<()> {
        #[cfg(feature = "parquet")]
        if self.format == OutputFormat::Parquet {
            let table = self.parquet.unwrap_or_else(|| ParquetWriter::new(vec![TEXT.to_owned()]));
            self.output.bytes(&table.finish()?)?;
        }
        Ok(())
    }

    /// The columns of a table, which are those of the first answer; none as long as there is none.
    fn columns(&mut self, answers: &[Map<String, Value>], format: &str) -> Result<&[String]> {
        if let (None, Some(first)) = (&self.columns, answers.first()) {
            let of_what = if first.contains_key(SERIES) { SERIES } else { TEXT };
            let others = first.keys().filter(|key| *key != of_what).cloned();
            self.columns = Some(std::iter::once(of_what.to_owned()).chain(others).collect());
        }
        let columns = self.columns.as_deref().unwrap_or_default();
        if let Some(key) = answers.iter().flat_map(Map::keys).find(|key| !columns.contains(key)) {
            bail!("--format {format}: expected the columns {}, found an answer with {key}", columns.join(", "));
        }
        Ok(columns)
    }
}

/// The values of an answer in the order of the columns.
fn values<'a>(answer: &'a Map<String, Value>, columns: &'a [String]) -> impl Iterator<Item = &'a Value> {
    columns.iter().map(|column| answer.get(column).unwrap_or(&Value::Null))
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
