//! `metrics.jsonl`: one JSON object a line, so that a run can be watched, plotted and gone on with.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};
use throughline_data::Split;

use super::events::EventFile;
use crate::{Error, Result, write_atomically};

/// No line is longer, in bytes.
const LONGEST_LINE: usize = 1 << 16;

/// One line of `metrics.jsonl`. A number that is infinite, not a number or not applicable is `null` in the file and NaN here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Updates done.
    pub step: u64,
    /// Epoch of the last update, from 1.
    pub epoch: u64,
    /// What the row was measured on.
    pub split: Split,
    /// Mean loss in nats per unit (`lm`) or per example (`classify`).
    #[serde(deserialize_with = "null_is_nan")]
    pub loss: f64,
    /// Learning rate of the last update.
    #[serde(deserialize_with = "null_is_nan")]
    pub lr: f64,
    /// Global norm of the gradient before clipping; training only.
    #[serde(deserialize_with = "null_is_nan")]
    pub grad_norm: f64,
    /// Real units per second; padding does not exist.
    #[serde(deserialize_with = "null_is_nan")]
    pub tokens_per_s: f64,
    /// Seconds of training so far, over all sessions of the run.
    #[serde(deserialize_with = "null_is_nan")]
    pub seconds: f64,
    /// The task's own metrics, each a key of its own: `perplexity`, `bits_per_unit`, `accuracy`, `macro_f1`, ...
    #[serde(flatten, deserialize_with = "nulls_are_nan")]
    pub metrics: BTreeMap<String, f64>,
}

fn null_is_nan<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

fn nulls_are_nan<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<BTreeMap<String, f64>, D::Error> {
    let metrics = BTreeMap::<String, Option<f64>>::deserialize(deserializer)?;
    Ok(metrics.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::NAN))).collect())
}

/// Reads all rows of the file at `path`. A last line that is torn, as a crash leaves it, is left out.
///
/// # Errors
/// [`Error::Io`], and [`Error::File`] for any other line that is not a row.
pub fn read_rows(path: &Path) -> Result<Vec<Row>> {
    Ok(read_lines(path)?.into_iter().map(|(row, _)| row).collect())
}

/// Rows with their lines.
fn read_lines(path: &Path) -> Result<Vec<(Row, String)>> {
    let mut reader = BufReader::new(File::open(path).map_err(Error::io(path, "open"))?);
    let mut rows = Vec::new();
    for number in 1.. {
        let mut line = Vec::new();
        reader.by_ref().take(LONGEST_LINE as u64).read_until(b'\n', &mut line).map_err(Error::io(path, "read"))?;
        let last = line.len() < LONGEST_LINE && !line.ends_with(b"\n");
        match parse(&line) {
            Ok(row) if !last => rows.push(row),
            Err(found) if !last && !at_end(&mut reader, path)? => {
                return Err(Error::File {
                    path: path.to_path_buf(),
                    line: Some(number),
                    what: "metrics".to_owned(),
                    expected: "a JSON object with the keys of a row; remove the line".to_owned(),
                    found,
                });
            }
            _ => break,
        }
    }
    Ok(rows)
}

fn at_end(reader: &mut impl BufRead, path: &Path) -> Result<bool> {
    Ok(reader.fill_buf().map_err(Error::io(path, "read"))?.is_empty())
}

fn parse(line: &[u8]) -> std::result::Result<(Row, String), String> {
    let text = std::str::from_utf8(line).map_err(|error| error.to_string())?;
    let row = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Ok((row, text.to_owned()))
}

/// The metrics of a run, open for appending.
#[derive(Debug)]
pub struct MetricsLog {
    path: PathBuf,
    file: File,
    events: Option<EventFile>,
}

impl MetricsLog {
    /// Opens the file at `path` to go on after update `step` (0 for a new run): what a resumed run writes anew, later rows
    /// and the test row of that step, and a torn last line are removed.
    ///
    /// # Errors
    /// As [`read_rows`] and [`write_atomically`].
    pub fn open(path: &Path, step: u64) -> Result<Self> {
        if path.exists() {
            let stays = |row: &Row| row.step < step || (row.step == step && row.split != Split::Test);
            let kept = read_lines(path)?.into_iter().filter(|(row, _)| stays(row)).map(|(_, line)| line);
            write_atomically(path, kept.collect::<String>().as_bytes())?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(Error::io(path, "open"))?;
        Ok(Self { path: path.to_path_buf(), file, events: None })
    }

    /// The same, and what is appended also goes to a new event file of TensorBoard beside it.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn with_events(self, step: u64) -> Result<Self> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        Ok(Self { events: Some(EventFile::begin(folder, step)?), ..self })
    }

    /// Appends `row`; when it returns, the line has left the process.
    ///
    /// # Errors
    /// [`Error::Io`]; what was written of the line is taken back.
    pub fn append(&mut self, row: &Row) -> Result<()> {
        let mut line = serde_json::to_string(row).expect("a row has only numbers and string keys");
        line.push('\n');
        let length = self.file.metadata().map_err(Error::io(&self.path, "read the length of"))?.len();
        self.file.write_all(line.as_bytes()).map_err(|error| {
            self.file.set_len(length).ok();
            Error::io(&self.path, "append to")(error)
        })?;
        self.events.as_mut().map_or(Ok(()), |events| events.append(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestFolder;

    fn row(step: u64) -> Row {
        Row {
            step,
            epoch: 1,
            split: Split::Validation,
            loss: 1.5,
            lr: 0.002,
            grad_norm: 0.25,
            tokens_per_s: 1e5,
            seconds: 2.0,
            metrics: BTreeMap::from([("perplexity".to_owned(), 4.5), ("bits_per_unit".to_owned(), 2.25)]),
        }
    }

    #[test]
    fn a_row_is_one_flat_object() {
        let folder = TestFolder::new();
        let path = folder.join("metrics.jsonl");
        MetricsLog::open(&path, 0).unwrap().append(&row(7)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\"step\":7,\"epoch\":1,\"split\":\"val\",\"loss\":1.5,\"lr\":0.002,\"grad_norm\":0.25,\
             \"tokens_per_s\":100000.0,\"seconds\":2.0,\"bits_per_unit\":2.25,\"perplexity\":4.5}\n"
        );
        assert_eq!(read_rows(&path).unwrap(), [row(7)]);
    }

    #[test]
    fn numbers_without_a_value_are_null() {
        let folder = TestFolder::new();
        let path = folder.join("metrics.jsonl");
        let mut written = row(1);
        (written.loss, written.grad_norm) = (f64::INFINITY, f64::NAN);
        written.metrics.insert("perplexity".to_owned(), f64::INFINITY);
        MetricsLog::open(&path, 0).unwrap().append(&written).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("\"loss\":null") && text.contains("\"perplexity\":null"), "{text}");
        let read = &read_rows(&path).unwrap()[0];
        assert!(read.loss.is_nan() && read.grad_norm.is_nan() && read.metrics["perplexity"].is_nan());
        assert_eq!(read.metrics["bits_per_unit"], 2.25);
    }

    #[test]
    fn a_torn_last_line_is_left_out_and_a_torn_line_elsewhere_is_named() {
        let folder = TestFolder::new();
        let path = folder.join("metrics.jsonl");
        let whole = serde_json::to_string(&row(1)).unwrap();
        for cut in 0..=whole.len() {
            std::fs::write(&path, format!("{whole}\n{}", &whole[..cut])).unwrap();
            assert_eq!(read_rows(&path).unwrap().len(), 1, "cut at {cut}");
        }
        for torn in ["\0\0\0\n", "{}\n", "\u{1}"] {
            std::fs::write(&path, format!("{whole}\n{torn}")).unwrap();
            assert_eq!(read_rows(&path).unwrap().len(), 1);
        }
        std::fs::write(&path, format!("{whole}\n{{\n{whole}\n")).unwrap();
        assert!(matches!(read_rows(&path), Err(Error::File { line: Some(2), .. })));
        std::fs::write(&path, "x".repeat(3 * LONGEST_LINE)).unwrap();
        assert!(matches!(read_rows(&path), Err(Error::File { line: Some(1), .. })));
    }

    #[test]
    fn a_resumed_run_goes_on_after_its_checkpoint() {
        let folder = TestFolder::new();
        let path = folder.join("metrics.jsonl");
        let mut log = MetricsLog::open(&path, 0).unwrap();
        for step in [10, 20, 20, 30] {
            log.append(&row(step)).unwrap();
        }
        log.file.write_all(b"{\"step\":4").unwrap();
        let mut log = MetricsLog::open(&path, 20).unwrap();
        log.append(&row(40)).unwrap();
        let steps: Vec<u64> = read_rows(&path).unwrap().iter().map(|row| row.step).collect();
        assert_eq!(steps, [10, 20, 20, 40]);
    }
}
