//! A labelled set while it is being read.

use std::path::{Path, PathBuf};

use super::reader::LabelledReader;
use super::{Example, LabelledSet};
use crate::decoded::Lines;
use crate::error::Result;
use crate::folder::Skipped;
use crate::format::Format;
use crate::labels::Labels;
use crate::text::take;

/// A labelled set while it is being read.
pub(super) struct Collector<'a> {
    reader: &'a LabelledReader,
    /// How many bytes may still be kept.
    pub(super) budget: u64,
    labels: Labels,
    pub(super) examples: Vec<Example>,
    pub(super) files: Vec<PathBuf>,
    pub(super) blank: usize,
    pub(super) skipped: Vec<Skipped>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(reader: &'a LabelledReader) -> Result<Self> {
        Ok(Self {
            reader,
            budget: reader.text.limit(),
            labels: Labels::new(reader.labels.as_deref())?,
            examples: Vec::new(),
            files: Vec::new(),
            blank: 0,
            skipped: Vec::new(),
        })
    }

    /// Says that the examples pushed next are from this file.
    pub(super) fn begin(&mut self, path: &Path) {
        self.files.push(path.into());
    }

    /// Opens a file and returns its lines. Examples pushed next are from this file.
    pub(super) fn open(&mut self, path: &Path) -> Result<Lines> {
        self.begin(path);
        self.reader.text.lines(path)
    }

    /// Adds an example, or counts it as blank if it has no text.
    pub(super) fn push(&mut self, label: &str, text: &str, line: usize) -> Result<()> {
        let rules = self.reader.text.rules();
        let (label, text) = (&*rules.clean_example(label), &*rules.clean_example(text));
        if text.is_empty() {
            self.blank += 1;
            return Ok(());
        }
        let path = self.files.last().expect("a file is open");
        take(&mut self.budget, (size_of::<Example>() + text.len()) as u64, path)?;
        let label = self.labels.index(label, path, line)?;
        self.examples.push(Example { label, text: text.into(), file: self.files.len() as u32 - 1, line });
        Ok(())
    }

    /// The set, with its labels sorted by name unless they were given. An error about them names `path`.
    pub(super) fn finish(self, path: &Path, format: Format) -> Result<LabelledSet> {
        let Self { labels, mut examples, files, blank, mut skipped, .. } = self;
        let labels = labels.finish(path, examples.iter_mut().map(|example| &mut example.label))?;
        skipped.sort();
        Ok(LabelledSet { labels, examples, files, blank, skipped, format })
    }
}
