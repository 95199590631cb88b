//! Labelled texts for classification.

use std::path::PathBuf;

use crate::folder::Skipped;
use crate::format::Format;

mod collector;
pub(crate) mod duplicates;
pub(crate) mod reader;

/// One labelled text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The class, an index into [`LabelledSet::labels`].
    pub label: u32,
    /// The cleaned text without the white space around it; never empty.
    pub text: String,
    /// The file it was read from, an index into [`LabelledSet::files`].
    pub file: u32,
    /// The line on which it begins, from 1.
    pub line: usize,
}

/// Labelled texts, and where they came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledSet {
    /// The names of the classes: those given, or those found, ordered by code point.
    pub labels: Vec<String>,
    /// The examples in the order in which they were read.
    pub examples: Vec<Example>,
    /// The files read.
    pub files: Vec<PathBuf>,
    /// How many lines and records were left out because they hold no text.
    pub blank: usize,
    /// What was found in folders and not read, in the order of the paths.
    pub skipped: Vec<Skipped>,
    /// The format of all files, given or detected. Whoever reads more data of the same kind should give it.
    pub format: Format,
}

impl LabelledSet {
    /// The most classes a set may have. More of them mean that a column of numbers or of text was taken for the labels.
    pub const MAX_CLASSES: usize = 4096;

    /// The class of each example.
    pub fn classes(&self) -> Vec<u32> {
        self.examples.iter().map(|example| example.label).collect()
    }

    /// A set of these examples alone, in this order; everything else stays as it is.
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
    /// If there is no such example.
    pub fn place(&self, example: usize) -> String {
        let Example { file, line, .. } = self.examples[example];
        format!("{}:{line}", crate::printable::Shown(&self.files[file as usize]))
    }
}
