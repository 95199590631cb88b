//! A set of series while it is being read.

use std::path::{Path, PathBuf};

use super::reader::{SeriesReader, WantedAnswers};
use super::values::number;
use super::{Answers, Place, SeriesFormat, SeriesSet};
use crate::error::{Error, Result, quoted, quoted_list};
use crate::folder::Skipped;
use crate::labels::Labels;
use crate::text::take;

/// The default names of the columns of answers.
pub(super) const LABEL: &str = "label";
pub(super) const TARGET: &str = "target";

/// A set of series while it is being read.
pub(super) struct Collector<'a> {
    pub(super) reader: &'a SeriesReader,
    /// How many bytes may still be kept.
    budget: u64,
    pub(super) skipped: Vec<Skipped>,
    /// The channels, once they are known.
    channels: Vec<String>,
    labels: Labels,
    classes: Vec<u32>,
    numbers: Vec<f64>,
    files: Vec<PathBuf>,
    series: Vec<Place>,
    values: Vec<f64>,
}

/// A series as a file has it.
pub(super) struct Read<'s> {
    pub(super) name: String,
    /// The line, from 1, where it begins.
    pub(super) line: usize,
    /// `[steps, C]`
    pub(super) values: &'s [f64],
    /// The class, or the numbers, as they are written; as many as the reader [wants](Collector::answers).
    pub(super) answers: &'s [String],
}

impl<'a> Collector<'a> {
    pub(super) fn new(reader: &'a SeriesReader) -> Result<Self> {
        let given = match &reader.wanted {
            WantedAnswers::Classes { labels, .. } => labels.as_deref(),
            _ => None,
        };
        Ok(Self {
            reader,
            budget: reader.text.limit(),
            skipped: Vec::new(),
            channels: reader.channels.clone(),
            labels: Labels::new(given)?,
            classes: Vec::new(),
            numbers: Vec::new(),
            files: Vec::new(),
            series: Vec::new(),
            values: Vec::new(),
        })
    }

    /// Says that the series pushed next are from this file.
    pub(super) fn begin(&mut self, path: &Path) {
        self.files.push(path.into());
    }

    /// Counts so many numbers as kept.
    pub(super) fn keep(&mut self, numbers: usize) -> Result<()> {
        self.take(numbers * size_of::<f64>())
    }

    /// Counts a name or an answer of a series as kept, with what its text takes besides its bytes.
    pub(super) fn keep_text(&mut self, text: &str) -> Result<()> {
        self.take(size_of::<Place>() + text.len())
    }

    fn take(&mut self, bytes: usize) -> Result<()> {
        let path = self.files.last().expect("a file is open");
        take(&mut self.budget, bytes as u64, path)
    }

    /// The columns of the answers that are wanted.
    pub(super) fn answers(&self) -> Vec<String> {
        match &self.reader.wanted {
            WantedAnswers::Nothing => Vec::new(),
            WantedAnswers::Classes { column, .. } => vec![column.clone().unwrap_or_else(|| LABEL.to_owned())],
            WantedAnswers::Numbers { columns } if columns.is_empty() => vec![TARGET.to_owned()],
            WantedAnswers::Numbers { columns } => columns.clone(),
        }
    }

    /// Says which channels the series that follow have. They must be those of the series before.
    pub(super) fn set_channels(&mut self, channels: Vec<String>, line: usize) -> Result<()> {
        if self.channels.is_empty() && !channels.is_empty() {
            self.channels = channels;
            return Ok(());
        }
        if self.channels == channels && !channels.is_empty() {
            return Ok(());
        }
        let list = |names: &[String]| quoted_list(names.iter().map(String::as_str));
        let (expected, found) = match (self.channels.len(), channels.len()) {
            (_, 0) => ("at least one channel of numbers".to_owned(), "none".to_owned()),
            (before, now) if before != now => (format!("{before} channels, as before"), now.to_string()),
            _ => (format!("the channels {}, as before", list(&self.channels)), list(&channels)),
        };
        let hint = "every series has the same channels; name those to read in data.channels";
        Err(Error::malformed(self.path(), Some(line), expected, found, hint))
    }

    /// Adds a series.
    pub(super) fn push(&mut self, read: Read<'_>) -> Result<()> {
        let Read { name, line, values, answers } = read;
        let steps = values.len() / self.channels.len().max(1);
        if steps == 0 {
            return Err(self.wrong(line, "at least one step", "none", "leave the series out"));
        }
        if values.iter().all(|value| value.is_nan()) {
            return Err(self.wrong(line, "a series with numbers", "only missing ones", "leave the series out"));
        }
        match &self.reader.wanted {
            WantedAnswers::Nothing => {}
            WantedAnswers::Classes { .. } => {
                let path = self.files.last().expect("a file is open");
                let class = self.labels.index(answers[0].trim(), path, line)?;
                self.classes.push(class);
            }
            WantedAnswers::Numbers { .. } => {
                for (answer, column) in answers.iter().zip(self.answers()) {
                    let value = number(answer).unwrap_or(f64::NAN);
                    if value.is_nan() {
                        let expected = format!("a number in {}", quoted(&column));
                        let hint = "every series needs the number that is to be predicted";
                        return Err(self.wrong(line, &expected, &quoted(answer), hint));
                    }
                    self.numbers.push(value);
                }
            }
        }
        let begin = self.values.len() / self.channels.len();
        let (steps, file) = (begin..begin + steps, self.files.len() as u32 - 1);
        self.values.extend_from_slice(values);
        self.series.push(Place { name, steps, file, line });
        Ok(())
    }

    /// How many series there are so far.
    pub(super) fn len(&self) -> usize {
        self.series.len()
    }

    /// An error of the file that is open.
    pub(super) fn wrong(&self, line: usize, expected: &str, found: &str, hint: &str) -> Error {
        Error::malformed(self.path(), Some(line), expected, found, hint)
    }

    fn path(&self) -> &Path {
        self.files.last().expect("a file is open")
    }

    /// The set. An error about its labels names `path`.
    pub(super) fn finish(self, path: &Path, format: SeriesFormat) -> Result<SeriesSet> {
        let names = self.answers();
        let Self { reader, mut skipped, channels, labels, mut classes, numbers, files, series, values, .. } = self;
        let answers = match reader.wanted {
            WantedAnswers::Nothing => Answers::None,
            WantedAnswers::Classes { .. } => {
                Answers::Classes { labels: labels.finish(path, classes.iter_mut())?, classes }
            }
            WantedAnswers::Numbers { .. } => Answers::Numbers { names, values: numbers },
        };
        skipped.sort();
        Ok(SeriesSet { channels, answers, files, skipped, format, series, values })
    }
}
