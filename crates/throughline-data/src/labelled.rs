//! Labelled texts for classification.

use std::path::PathBuf;

use crate::folder::Skipped;
use crate::format::Format;

mod collector;
pub(crate) mod columns;
pub(crate) mod duplicates;
pub(crate) mod reader;

/// One labelled text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The class, an index into [`LabelledSet::labels`].
    pub label: u32,
    /// The text, cleaned and trimmed; never empty.
    pub text: String,
    /// The file it was read from, an index into [`LabelledSet::files`].
    pub file: u32,
    /// The line of the file where it begins, or in Parquet the number of its row, from 1.
    pub line: usize,
}

/// Labelled texts, and where they are from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledSet {
    /// The names of the classes: those given, or those found, sorted by code point.
    pub labels: Vec<String>,
    /// The examples, in the order in which they were read.
    pub examples: Vec<Example>,
    /// The files that were read.
    pub files: Vec<PathBuf>,
    /// How many lines and records were left out because they have no text.
    pub blank: usize,
    /// What was found in folders but not read, in the order of the paths.
    pub skipped: Vec<Skipped>,
    /// The format of all files, given or detected. Pass it on to a reader of more data of the same kind.
    pub format: Format,
}

impl LabelledSet {
    /// The most classes that a set may have. With more, the labels were probably read from the wrong column.
    pub const MAX_CLASSES: usize = 4096;

    /// The class of each example.
    pub fn classes(&self) -> Vec<u32> {
        self.examples.iter().map(|example| example.label).collect()
    }

    /// A set of only these examples, in this order, with everything else the same.
    ///
    /// # Panics
    /// If an index is not below the number of examples.
    pub fn select(&self, examples: &[usize]) -> Self {
        let examples = examples.iter().map(|&index| self.examples[index].clone()).collect();
        Self {
            labels: self.labels.clone(),
            examples,
            files: self.files.clone(),
            skipped: self.skipped.clone(),
            blank: self.blank,
            format: self.format,
        }
    }

    /// `file:line` of an example, for a message.
    ///
    /// # Panics
    /// If `example` is not below the number of examples.
    pub fn place(&self, example: usize) -> String {
        let Example { file, line, .. } = self.examples[example];
        format!("{}:{line}", crate::printable::Shown(&self.files[file as usize]))
    }
}
