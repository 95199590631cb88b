//! Series of numbers: at every step one number for each of C channels.

use std::ops::Range;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::folder::Skipped;
use crate::printable::Shown;

mod collector;
mod files;
mod long;
pub(crate) mod reader;
pub(crate) mod scaling;
mod ts;
mod values;

/// A format of series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SeriesFormat {
    /// A `.ts` file of sktime and aeon: a series a line, its channels parted by colons.
    Ts,
    /// A table with a row for each step, and a column that says which series it belongs to.
    Long,
    /// A folder of tables, each a series.
    Folder,
}

impl SeriesFormat {
    /// All formats.
    pub const ALL: [Self; 3] = [Self::Ts, Self::Long, Self::Folder];

    /// `ts`, `long` or `folder`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ts => "ts",
            Self::Long => "long",
            Self::Folder => "folder",
        }
    }
}

impl std::fmt::Display for SeriesFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What is known of each series besides its numbers.
#[derive(Clone, Debug, PartialEq)]
pub enum Answers {
    /// Nothing.
    None,
    /// A class.
    Classes {
        /// The names of the classes: those given, or those found, sorted by code point.
        labels: Vec<String>,
        /// The class of each series.
        classes: Vec<u32>,
    },
    /// K numbers.
    Numbers {
        /// Their names.
        names: Vec<String>,
        /// `[series, K]`
        values: Vec<f64>,
    },
}

impl Answers {
    /// Those of `series` alone, in this order.
    fn select(&self, series: &[usize]) -> Self {
        match self {
            Self::None => Self::None,
            Self::Classes { labels, classes } => {
                let classes = series.iter().map(|&index| classes[index]).collect();
                Self::Classes { labels: labels.clone(), classes }
            }
            Self::Numbers { names, values } => {
                let of = |&index: &usize| values[index * names.len()..][..names.len()].iter().copied();
                Self::Numbers { names: names.clone(), values: series.iter().flat_map(of).collect() }
            }
        }
    }
}

/// Where a series is from, and which steps are its own.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    name: String,
    steps: Range<usize>,
    file: u32,
    line: usize,
}

/// Series of the same channels.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesSet {
    /// The names of the C channels.
    pub channels: Vec<String>,
    /// What is known of each series.
    pub answers: Answers,
    /// The files that were read.
    pub files: Vec<PathBuf>,
    /// What was found in folders but not read, in the order of the paths.
    pub skipped: Vec<Skipped>,
    /// The format of all files, given or detected. Pass it on to a reader of more data of the same kind.
    pub format: SeriesFormat,
    series: Vec<Place>,
    /// `[steps, C]`, series after series; NaN where a number is missing.
    values: Vec<f64>,
}

impl SeriesSet {
    /// The number of series.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    /// Whether there is no series. A set that was read has at least one.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// The steps of each series, at least 1.
    pub fn lengths(&self) -> Vec<usize> {
        self.series.iter().map(|series| series.steps.len()).collect()
    }

    /// The numbers of a series, `[steps, C]`: finite, or NaN where one is missing. Not all are missing.
    ///
    /// # Panics
    /// If there is no such series.
    pub fn values(&self, series: usize) -> &[f64] {
        let Range { start, end } = self.series[series].steps;
        &self.values[start * self.channels.len()..end * self.channels.len()]
    }

    /// What the file calls a series: its identifier, its file below a folder, or its number from 1.
    ///
    /// # Panics
    /// If there is no such series.
    pub fn name(&self, series: usize) -> &str {
        &self.series[series].name
    }

    /// `file:line` where a series begins, for a message.
    ///
    /// # Panics
    /// If there is no such series.
    pub fn place(&self, series: usize) -> String {
        let Place { file, line, .. } = self.series[series];
        format!("{}:{line}", Shown(&self.files[file as usize]))
    }

    /// How many numbers are missing in a series.
    ///
    /// # Panics
    /// If there is no such series.
    pub fn missing(&self, series: usize) -> usize {
        self.values(series).iter().filter(|value| value.is_nan()).count()
    }

    /// A set of only these series, in this order, with everything else the same.
    ///
    /// # Panics
    /// If an index is not below the number of series.
    pub fn select(&self, series: &[usize]) -> Self {
        let mut values = Vec::new();
        let mut places = Vec::new();
        let channels = self.channels.len();
        for &index in series {
            let start = values.len() / channels;
            values.extend_from_slice(self.values(index));
            places.push(Place { steps: start..values.len() / channels, ..self.series[index].clone() });
        }
        Self {
            channels: self.channels.clone(),
            answers: self.answers.select(series),
            files: self.files.clone(),
            skipped: self.skipped.clone(),
            format: self.format,
            series: places,
            values,
        }
    }
}
