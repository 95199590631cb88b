//! `[data]` of every task: where the data are, and how they are divided into splits.

use std::path::{Path, PathBuf};

use throughline_data::Fractions;

use crate::recipe::{Check, LARGEST_COUNT, settings};
use crate::{Error, Result};

settings! {
    /// In table `[data]`: where the data are, and how they are divided into splits.
    pub struct DataFiles {
        /// Files or folders with the data, relative to the current folder. There is no default; `--data` takes their place.
        paths: Vec<PathBuf> = Vec::new() => "[\"data\"]",
        /// Files or folders of the validation split; then none of `paths` is held out for it.
        validation: Vec<PathBuf> = Vec::new(),
        /// Files or folders of the test split; then none of `paths` is held out for it.
        test: Vec<PathBuf> = Vec::new(),
        /// Shares of the training, validation and test split in `paths`, together at most 1. A split with paths of its own is
        /// not taken out of `paths`, whatever its share.
        split: [f64; 3] = [0.9, 0.05, 0.05],
        /// Use only so many units (of a running text) or examples, from the first; 0: all.
        limit: usize = 0,
    }
}

impl DataFiles {
    /// Checks the ranges.
    pub(crate) fn check(&self, check: &Check<'_>) -> Result<()> {
        for (key, paths) in self.by_key() {
            let usable = paths.iter().all(|path| path.to_str().is_some_and(|path| !path.is_empty()));
            check.require(key, usable, "paths in Unicode", paths)?;
        }
        check.require("data.paths", !self.paths.is_empty(), "at least one path (--data PATH)", &self.paths)?;
        for share in self.split {
            check.within("data.split", share, 0.0..=1.0)?;
        }
        let [train, validation, _] = self.split;
        let rounding = 1e-9;
        let sum: f64 = self.split.iter().sum();
        check.require("data.split", sum <= 1.0 + rounding, "shares that add up to at most 1", sum)?;
        check.require("data.split", train > 0.0, "a training share above 0", train)?;
        let validated = validation > 0.0 || !self.validation.is_empty();
        check.require("data.split", validated, "a validation share above 0, or data.validation", validation)?;
        check.within("data.limit", self.limit, 0..=LARGEST_COUNT as usize)
    }

    /// Checks that no split is given a file or folder twice.
    ///
    /// # Errors
    /// If two paths of a key lead to the same file or folder. A path that leads nowhere is an error of whoever reads it.
    pub(crate) fn check_twice(&self) -> Result<()> {
        for (key, paths) in self.by_key() {
            let real: Vec<Option<PathBuf>> = paths.iter().map(|path| path.canonicalize().ok()).collect();
            let twice = (0..real.len()).find(|&index| real[index].is_some() && real[..index].contains(&real[index]));
            if let Some(index) = twice {
                return Err(Error::file(&paths[index], key, "each file or folder once", "it twice"));
            }
        }
        Ok(())
    }

    /// A warning of a split that repeats another: scores on it say nothing about other data.
    pub(crate) fn warning_of_repetition(&self) -> Option<String> {
        let mut seen: Vec<(PathBuf, &str)> = Vec::new();
        for (key, path) in self.by_key().into_iter().flat_map(|(key, paths)| paths.iter().map(move |path| (key, path)))
        {
            let Ok(real) = path.canonicalize() else { continue };
            if let Some((_, before)) = seen.iter().find(|(other, _)| *other == real) {
                let path = path.display();
                return Some(format!("{path} is in {before} and in {key}: scores on what was trained on say little"));
            }
            seen.push((real, key));
        }
        None
    }

    /// The format of other files than those at `data.paths`: `beside` tells that of each beside the first of these. Of files of
    /// several formats there is none, and their reader says which they are.
    pub(crate) fn format_beside<F: Copy + PartialEq>(
        &self,
        paths: &[PathBuf],
        beside: impl Fn(&Path, &Path) -> Option<F>,
    ) -> Option<F> {
        let mut formats = paths.iter().map(|path| beside(self.place(), path));
        let first = formats.next()?;
        if formats.all(|format| format == first) { first } else { None }
    }

    fn by_key(&self) -> [(&'static str, &[PathBuf]); 3] {
        [("data.paths", &self.paths), ("data.validation", &self.validation), ("data.test", &self.test)]
    }

    /// Where the data are, for messages about all of them.
    pub(crate) fn place(&self) -> &Path {
        self.paths.first().map_or(Path::new("data.paths"), PathBuf::as_path)
    }

    /// The shares of the splits of `paths`. A split with paths of its own is not cut; its share stays with the training split.
    ///
    /// # Errors
    /// If the shares make no splits.
    pub fn fractions(&self) -> Result<Fractions> {
        let [mut train, mut validation, mut test] = self.split;
        if !self.validation.is_empty() {
            train += std::mem::take(&mut validation);
        }
        if !self.test.is_empty() {
            train += std::mem::take(&mut test);
        }
        Ok(Fractions::new(train.min(1.0), validation, test)?)
    }
}
