//! From a text to tokens: the one way for training, evaluation and prediction.

use std::borrow::Cow;

use throughline_data::{TextRules, UNKNOWN, Vocabulary};

use crate::error::{Error, Result};
use crate::files::Files;

/// Cleans texts and turns them into the units of a vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub struct TextEncoder {
    /// How texts are cleaned.
    pub rules: TextRules,
    /// The units.
    pub vocabulary: Vocabulary,
}

/// The file of the units.
const VOCABULARY: &str = "vocabulary.json";

impl TextEncoder {
    /// The most bytes of `vocabulary.json`.
    const LARGEST_VOCABULARY: u64 = 128 << 20;

    /// Reads `vocabulary.json`, which must have `units` units.
    ///
    /// # Errors
    /// If the file is missing, damaged, or does not fit.
    pub fn open(files: &Files, rules: TextRules, units: usize) -> Result<Self> {
        let json = files.read_text(VOCABULARY, Self::LARGEST_VOCABULARY)?;
        let place = files.place(VOCABULARY);
        let vocabulary = Vocabulary::from_json(&json, place.as_ref())?;
        if vocabulary.len() != units {
            let expected = format_args!("{units} units, as config.json says");
            return Err(Error::model(&place, "vocabulary", expected, vocabulary.len()));
        }
        Ok(Self { rules, vocabulary })
    }

    /// Name and bytes of the files that [`open`](Self::open) reads.
    pub fn files(&self) -> Vec<(&'static str, Vec<u8>)> {
        vec![(VOCABULARY, self.vocabulary.to_json().into_bytes())]
    }

    /// The tokens of a text, cleaned by the rules.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.vocabulary.encode(&self.rules.clean(text))
    }

    /// The tokens of an example to classify: cleaned, without the white space around it, and at most `longest` (0: all).
    pub fn encode_example(&self, text: &str, longest: usize) -> Vec<u32> {
        let text: Cow<'_, str> = self.rules.clean_example(text);
        let mut tokens = self.vocabulary.encode(&text);
        if longest > 0 {
            tokens.truncate(longest);
        }
        tokens
    }

    /// Of how many of `tokens` the model has never seen the unit, as a share from 0 to 1.
    pub fn unknown_share(tokens: &[u32]) -> f64 {
        let unknown = tokens.iter().filter(|&&token| token == UNKNOWN).count();
        unknown as f64 / tokens.len().max(1) as f64
    }
}
