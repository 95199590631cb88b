//! From text to tokens, in the same way for training, evaluation and prediction.

use std::borrow::Cow;
use std::collections::BTreeSet;

use throughline_data::{TextRules, Vocabulary};

use crate::error::{Error, Result};
use crate::files::Files;
use crate::serve::Pieces;

/// Cleans texts and encodes them as tokens of a vocabulary.
#[derive(Clone, Debug, PartialEq)]
pub struct TextEncoder {
    /// How texts are cleaned.
    pub rules: TextRules,
    /// The tokens.
    pub vocabulary: Vocabulary,
}

/// The file of the vocabulary.
const VOCABULARY: &str = "vocabulary.json";

impl TextEncoder {
    /// Reads `vocabulary.json`, which must have `units` units, the unknown one included.
    ///
    /// # Errors
    /// If the file is missing or damaged, or has another number of units.
    pub fn open(files: &Files, rules: TextRules, units: usize) -> Result<Self> {
        let json = files.read_text(VOCABULARY, Vocabulary::MAX_JSON_BYTES)?;
        let place = files.place(VOCABULARY);
        let vocabulary = Vocabulary::from_json(&json, place.as_ref())?;
        if vocabulary.len() != units {
            let expected = format_args!("{units} units, as config.json says");
            return Err(Error::model(&place, "vocabulary", expected, vocabulary.len()));
        }
        Ok(Self { rules, vocabulary })
    }

    /// The name and content of each file that [`open`](Self::open) reads.
    pub fn files(&self) -> Vec<(&'static str, Vec<u8>)> {
        vec![(VOCABULARY, self.vocabulary.to_json().into_bytes())]
    }

    /// Cleans a text and returns its tokens.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.vocabulary.encode(&self.rules.clean(text))
    }

    /// What `tokens`, one a row, stand for.
    pub fn pieces(&self, tokens: &[u32]) -> Pieces {
        Pieces::new(self.vocabulary.tokens().to_vec(), tokens.to_vec())
    }

    /// Cleans a text to classify, trims the white space around it, and returns its first `longest` tokens (0 for all).
    pub fn encode_example(&self, text: &str, longest: usize) -> Vec<u32> {
        let text: Cow<'_, str> = self.rules.clean_example(text);
        let mut tokens = self.vocabulary.encode(&text);
        if longest > 0 {
            tokens.truncate(longest);
        }
        tokens
    }
}

/// The most bytes of a file of names.
const LARGEST_NAMES: u64 = 16 << 20;

/// Reads `file`, a JSON list of `count` different names, of which each is a `name` and all are `names`: `class`, `classes`.
pub(crate) fn read_names(
    files: &Files,
    file: &str,
    key: &str,
    [name, names]: [&str; 2],
    count: usize,
) -> Result<Vec<String>> {
    let place = files.place(file);
    let list: Vec<String> = serde_json::from_str(&files.read_text(file, LARGEST_NAMES)?)
        .map_err(|error| Error::model(&place, key, format_args!("a JSON list of {name} names"), error))?;
    if list.len() != count {
        return Err(Error::model(&place, key, format_args!("{count} {names}, as config.json says"), list.len()));
    }
    let mut known = BTreeSet::new();
    if let Some(twice) = list.iter().find(|one| !known.insert(*one)) {
        return Err(Error::model(&place, key, format_args!("each {name} once"), format_args!("{twice:?} twice")));
    }
    Ok(list)
}

/// The text of a file that [`read_names`] reads.
pub(crate) fn names_json(names: &[String]) -> Vec<u8> {
    (serde_json::to_string_pretty(names).expect("strings have a JSON form") + "\n").into_bytes()
}
