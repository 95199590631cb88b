//! `[data]` of tasks that read texts.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use throughline_data::Unit;

use crate::Result;
use crate::recipe::{Check, LARGEST_COUNT, settings};

settings! {
    /// Table `[data]`: where the texts are, how they are divided into splits and how they become units.
    pub struct TextData {
        /// Files or folders with the texts, relative to the current folder. There is no default; `--data` takes their place.
        paths: Vec<PathBuf> = Vec::new() => "[\"texts\"]",
        /// Files or folders of the validation split; then none of `paths` is held out for it.
        validation: Vec<PathBuf> = Vec::new(),
        /// Files or folders of the test split; then none of `paths` is held out for it.
        test: Vec<PathBuf> = Vec::new(),
        /// Shares of the training, validation and test split in `paths`, together at most 1. A split with paths of its own is
        /// not taken out of `paths`, whatever its share.
        split: [f64; 3] = [0.9, 0.05, 0.05],
        /// What one step of the network reads: `"char"`, `"byte"` or `"word"`.
        unit: Unit = Unit::Char,
        /// Encoding of the files, by its WHATWG label.
        encoding: String = "utf-8".to_owned(),
        /// Unicode normalisation of every text, in training and in use: `"nfc"`, so that a letter with its accent is one
        /// character however it was typed, or `"none"`.
        normalise: Normalise = Normalise::Nfc,
        /// Most units in the vocabulary, the unknown one counted, the most frequent first, at least 2; 0: no limit.
        max_vocabulary: usize = 0,
        /// How often a unit must occur in the training split to enter the vocabulary, at least 1.
        min_count: usize = 1,
        /// Probability, 0 to below 1, with which a unit that occurs once in the training split is read as the unknown one while
        /// training, so that the model learns what to make of units it has never seen. The default is that of Kiperwasser and
        /// Goldberg (2016) for a word that occurs once, 0.25 / (1 + 0.25): enough that even the few such characters of a text
        /// train the unknown unit within some epochs, and so little that such words are still learned.
        unknown: f64 = 0.2,
        /// Use only so many units (of a running text) or examples, from the first; 0: all.
        limit: usize = 0,
    }
}

/// Unicode normalisation of texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalise {
    /// `"nfc"`: canonical composition.
    #[default]
    Nfc,
    /// `"none"`: texts stay as they are.
    None,
}

impl TextData {
    /// Checks the ranges.
    pub(crate) fn check(&self, check: &Check<'_>) -> Result<()> {
        for (key, paths) in
            [("data.paths", &self.paths), ("data.validation", &self.validation), ("data.test", &self.test)]
        {
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
        check.require("data.encoding", !self.encoding.is_empty(), "the label of an encoding", &self.encoding)?;
        let largest = LARGEST_COUNT as usize;
        let vocabulary = self.max_vocabulary != 1 && self.max_vocabulary <= largest;
        check.require("data.max_vocabulary", vocabulary, format!("0, or 2 to {largest}"), self.max_vocabulary)?;
        check.within("data.min_count", self.min_count, 1..=largest)?;
        check.share_below_one("data.unknown", self.unknown)?;
        check.within("data.limit", self.limit, 0..=largest)
    }

    /// With what `key` has an effect, if it has none.
    pub(crate) fn unused(&self, key: &str) -> Option<&'static str> {
        let of_vocabulary = matches!(key, "data.max_vocabulary" | "data.min_count" | "data.unknown");
        (of_vocabulary && self.unit == Unit::Byte).then_some("data.unit = \"char\" or \"word\"")
    }
}
