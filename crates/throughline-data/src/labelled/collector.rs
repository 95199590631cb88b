//! A labelled set while it is being read.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::reader::LabelledReader;
use super::{Example, LabelledSet};
use crate::error::{Error, Result, quoted, quoted_list};
use crate::folder::Skipped;
use crate::format::Format;

/// A labelled set while it is being read.
pub(super) struct Collector<'a> {
    reader: &'a LabelledReader,
    /// How many bytes may still be read.
    pub(super) budget: u64,
    /// The labels in the order in which they were given or found.
    labels: Vec<String>,
    index_of: HashMap<String, u32>,
    pub(super) examples: Vec<Example>,
    pub(super) files: Vec<PathBuf>,
    pub(super) blank: usize,
    pub(super) skipped: Vec<Skipped>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(reader: &'a LabelledReader) -> Result<Self> {
        let labels = reader.labels.clone().unwrap_or_default();
        let index_of: HashMap<String, u32> = labels.iter().cloned().zip(0..).collect();
        if index_of.len() < labels.len() || labels.len() > LabelledSet::MAX_CLASSES {
            let expected = format!("each label once, at most {}", LabelledSet::MAX_CLASSES);
            let found = quoted_list(labels.iter().map(String::as_str));
            return Err(Error::setting("labels", expected, found));
        }
        Ok(Self {
            reader,
            budget: reader.text.limit(),
            labels,
            index_of,
            examples: Vec::new(),
            files: Vec::new(),
            blank: 0,
            skipped: Vec::new(),
        })
    }

    /// Opens a file and returns its text. Examples pushed next are from this file.
    pub(super) fn open(&mut self, path: &Path) -> Result<String> {
        self.files.push(path.into());
        self.reader.text.load(path, &mut self.budget)
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
        let label = match self.index_of.get(label) {
            Some(&label) => label,
            None if self.reader.labels.is_some() => {
                let known = quoted_list(self.labels.iter().map(String::as_str));
                return Err(Error::UnknownLabel { path: path.clone(), line, label: quoted(label), known });
            }
            None if label.is_empty() => {
                return Err(Error::malformed(
                    path,
                    Some(line),
                    "a label",
                    "none",
                    "add the label or remove the example",
                ));
            }
            None if self.labels.len() == LabelledSet::MAX_CLASSES => {
                let expected = format!("at most {} different labels", LabelledSet::MAX_CLASSES);
                let hint = "check which column or word is the label";
                return Err(Error::malformed(path, Some(line), expected, "another one", hint));
            }
            None => {
                self.labels.push(label.into());
                self.index_of.insert(label.into(), self.labels.len() as u32 - 1);
                self.labels.len() as u32 - 1
            }
        };
        self.examples.push(Example { label, text: text.into(), file: self.files.len() as u32 - 1, line });
        Ok(())
    }

    /// The set, with its labels sorted by name unless they were given. An error about them names `path`.
    pub(super) fn finish(mut self, path: &Path, format: Format) -> Result<LabelledSet> {
        if self.reader.labels.is_none() {
            if let [only] = &self.labels[..] {
                let hint = "add examples of another class";
                return Err(Error::malformed(
                    path,
                    None,
                    "at least two classes",
                    format!("only {}", quoted(only)),
                    hint,
                ));
            }
            self.labels.sort();
            let sorted: HashMap<&str, u32> = self.labels.iter().map(String::as_str).zip(0..).collect();
            let mut place_of = vec![0; self.labels.len()];
            for (label, &found) in &self.index_of {
                place_of[found as usize] = sorted[label.as_str()];
            }
            self.examples.iter_mut().for_each(|example| example.label = place_of[example.label as usize]);
        }
        let Self { labels, examples, files, blank, mut skipped, .. } = self;
        skipped.sort();
        Ok(LabelledSet { labels, examples, files, blank, skipped, format })
    }
}
