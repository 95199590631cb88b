//! Texts from files into one text for each split.

use std::path::{Path, PathBuf};

use throughline_data::{Skipped, Splits, TextReader, first_units, join_texts};

use super::Options;
use crate::run::card::grouped;
use crate::{Error, Result};

/// The path that stands for the text inside the program.
pub const BUILT_IN: &str = "built-in";
/// A text about recurrent networks, written for this program.
const BUILT_IN_TEXT: &str = include_str!("built_in.txt");

/// The texts of a run, split by split.
pub(super) struct Texts {
    pub splits: Splits<String>,
    /// What was not read.
    pub skipped: Vec<Skipped>,
}

impl Texts {
    /// Reads the texts of a recipe and cuts them into splits.
    pub fn read(options: &Options) -> Result<Self> {
        let (files, unit) = (&options.files, options.units.unit);
        files.check_twice()?;
        let reader = options.cleaning.reader()?;
        let mut skipped = Vec::new();
        let mut text = join(&reader, &files.paths, &mut skipped)?;
        if files.limit > 0 {
            text.truncate(first_units(&text, unit, files.limit).len());
        }
        let Splits { train, validation, test } = files.fractions()?.split_text(&text, unit);
        let mut own = |paths: &[PathBuf], cut: &str| -> Result<String> {
            if paths.is_empty() { Ok(cut.to_owned()) } else { join(&reader, paths, &mut skipped) }
        };
        let splits = Splits {
            train: train.to_owned(),
            validation: own(&files.validation, validation)?,
            test: own(&files.test, test)?,
        };
        Ok(Self { splits, skipped })
    }
}

/// The texts at `paths` one after another, a line end between two of them where there is none.
pub(super) fn join(reader: &TextReader, paths: &[PathBuf], skipped: &mut Vec<Skipped>) -> Result<String> {
    let mut texts = Vec::new();
    for path in paths {
        if path == Path::new(BUILT_IN) {
            texts.push(BUILT_IN_TEXT.to_owned());
        } else {
            let read = reader.read(path)?;
            skipped.extend(read.skipped);
            texts.extend(read.documents.into_iter().map(|document| document.text));
        }
    }
    Ok(join_texts(texts))
}

/// Every stream must be at least one window long, and there must be something to evaluate on.
pub(super) fn check_length(options: &Options, batch: usize, splits: &Splits<Vec<u32>>) -> Result<()> {
    let path = options.files.place();
    let window = options.windows.gradient_window();
    let needed = batch * window + 1;
    if splits.train.len() < needed {
        let expected = format!(
            "at least {} units ({batch} streams of one window of {window} units, and one more); \
             give more text or set a smaller train.batch, train.stride or train.window",
            grouped(needed),
        );
        let found = format_args!("{} units", grouped(splits.train.len()));
        return Err(Error::file(path, "training split", expected, found));
    }
    if splits.validation.len() < 2 {
        let found = format_args!("{} units", splits.validation.len());
        return Err(Error::file(path, "validation split", "at least 2 units; give more text or a larger share", found));
    }
    Ok(())
}
