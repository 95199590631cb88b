//! `[data]` of tasks that read texts: how they are cleaned, what they are cut into, and which of their units a model knows.

use std::path::Path;

use serde::{Deserialize, Serialize};
use throughline_data::{Skipped, TextReader, TextRules, UNKNOWN, Unit, VocabularyOptions};

use crate::recipe::{Check, LARGEST_COUNT, settings};
use crate::run::card::grouped;
use crate::{Error, Result};

settings! {
    /// In table `[data]`: how texts are decoded and cleaned.
    pub struct TextCleaning {
        /// Encoding of the files, by its WHATWG label.
        encoding: String = "utf-8".to_owned(),
        /// Unicode normalisation of every text, in training and in use: `"nfc"`, so that a letter with its accent is one
        /// character however it was typed, or `"none"`.
        normalise: Normalise = Normalise::Nfc,
    }
}

settings! {
    /// In table `[data]`: what texts are cut into.
    pub struct TextUnits {
        /// What one step of the network reads: `"char"`, `"byte"` or `"word"`.
        unit: Unit = Unit::Char,
    }
}

settings! {
    /// In table `[data]`: which units a model knows, and how it learns what to make of others.
    pub struct KnownUnits {
        /// Most units in the vocabulary, the unknown one counted, the most frequent first, at least 2; 0: no limit.
        max_vocabulary: usize = 0,
        /// How often a unit must occur in the training split to enter the vocabulary, at least 1.
        min_count: usize = 1,
        /// Probability, 0 to below 1, with which a unit that is rare in the training split is read as the unknown one while
        /// training, so that the model learns what to make of units it has never seen. Rare are the units that occur once, or
        /// as seldom as any, and then the probability is so many times smaller. `"auto"`: 0.2 for words, which is that of
        /// Kiperwasser and Goldberg (2016) for a word that occurs once, 0.25 / (1 + 0.25); 0 for characters, of which few are
        /// rare and none may be lost; bytes are never unknown.
        #[serde(with = "auto_or_probability")]
        unknown: Option<f64> = None,
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

impl TextCleaning {
    /// Checks the ranges.
    pub(crate) fn check(&self, check: &Check<'_>) -> Result<()> {
        check.require("data.encoding", !self.encoding.is_empty(), "the label of an encoding", &self.encoding)
    }

    /// How texts are cleaned.
    pub fn rules(&self) -> TextRules {
        TextRules { nfc: self.normalise == Normalise::Nfc }
    }

    /// What reads the files.
    ///
    /// # Errors
    /// If there is no such encoding.
    pub fn reader(&self) -> Result<TextReader> {
        Ok(TextReader::default().encoding(&self.encoding)?.with_rules(self.rules()))
    }
}

impl KnownUnits {
    /// Checks the ranges.
    pub(crate) fn check(&self, check: &Check<'_>) -> Result<()> {
        let largest = LARGEST_COUNT as usize;
        let vocabulary = self.max_vocabulary != 1 && self.max_vocabulary <= largest;
        check.require("data.max_vocabulary", vocabulary, format!("0, or 2 to {largest}"), self.max_vocabulary)?;
        check.within("data.min_count", self.min_count, 1..=largest)?;
        check.share_below_one("data.unknown", self.unknown.unwrap_or(0.0))
    }

    /// What a vocabulary of this unit holds. Bytes have no choice: there are 256.
    pub fn vocabulary(&self, unit: Unit) -> VocabularyOptions {
        match unit {
            Unit::Byte => VocabularyOptions::default(),
            _ => VocabularyOptions {
                max_size: (self.max_vocabulary > 0).then_some(self.max_vocabulary),
                min_count: self.min_count as u64,
            },
        }
    }

    /// The probability with which a rare unit is read as unknown while training.
    pub fn unknown_probability(&self, unit: Unit) -> f64 {
        match (unit, self.unknown) {
            (Unit::Byte, _) => 0.0,
            (_, Some(probability)) => probability,
            (Unit::Word, None) => 0.2,
            (_, None) => 0.0,
        }
    }

    /// With what `key` has an effect on units of this kind, if it has none.
    pub(crate) fn unused(&self, unit: Unit, key: &str) -> Option<&'static str> {
        let of_vocabulary = matches!(key, "data.max_vocabulary" | "data.min_count" | "data.unknown");
        (of_vocabulary && unit == Unit::Byte).then_some("data.unit = \"char\" or \"word\"")
    }
}

/// Checks that the `classes` or `tags` of a run's own data, which are at `place`, are those of its model.
pub(crate) fn check_names(place: &Path, what: &str, now: &[String], known: &[String]) -> Result<()> {
    if now == known {
        return Ok(());
    }
    let only = |of: &[String], others: &[String]| -> String {
        let only: Vec<String> =
            of.iter().filter(|name| !others.contains(name)).map(|name| format!("{name:?}")).collect();
        if only.is_empty() { "none".to_owned() } else { only.join(", ") }
    };
    let expected = format!("the {what} that the model was trained with; name the files to measure on with --data");
    let (new, missing) = (only(now, known), only(known, now));
    let found = if new == missing {
        "the same in another order".to_owned()
    } else {
        format!("other {what}: new ones: {new}; missing ones: {missing}")
    };
    Err(Error::file(place, "data", expected, found))
}

/// How many units there are, and how many of them are unknown, in words.
pub(crate) fn text_counts<'a>(unit: Unit, tokens: impl IntoIterator<Item = &'a u32>) -> String {
    let (mut count, mut unknown) = (0_usize, 0_usize);
    for &token in tokens {
        count += 1;
        unknown += usize::from(token == UNKNOWN);
    }
    let unknown = if unknown > 0 { format!(", {} unknown", grouped(unknown)) } else { String::new() };
    format!("{} {}{unknown}", grouped(count), unit.plural())
}

/// What was not read, a note for each of the first few and one for the rest.
pub(crate) fn skipped_notes(skipped: &[Skipped]) -> impl Iterator<Item = String> {
    const NAMED: usize = 10;
    let more = skipped.len().saturating_sub(NAMED);
    let more = (more > 0).then(|| format!("and {} more files or folders", grouped(more)));
    skipped.iter().take(NAMED).map(ToString::to_string).chain(more).collect::<Vec<_>>().into_iter()
}

/// [`KnownUnits::unknown`] in TOML: `None` is `"auto"`.
mod auto_or_probability {
    use std::fmt;

    use serde::de::{Deserializer, Error, Unexpected, Visitor};
    use serde::{Serialize, Serializer};

    const AUTO: &str = "auto";

    pub fn serialize<S: Serializer>(probability: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        match probability {
            Some(probability) => probability.serialize(serializer),
            None => AUTO.serialize(serializer),
        }
    }

    struct AutoOrProbability;

    impl Visitor<'_> for AutoOrProbability {
        type Value = Option<f64>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a number from 0 to below 1, or \"{AUTO}\"")
        }

        fn visit_f64<E: Error>(self, probability: f64) -> Result<Option<f64>, E> {
            Ok(Some(probability))
        }

        fn visit_i64<E: Error>(self, probability: i64) -> Result<Option<f64>, E> {
            Ok(Some(probability as f64))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Option<f64>, E> {
            if text == AUTO { Ok(None) } else { Err(E::invalid_value(Unexpected::Str(text), &self)) }
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
        deserializer.deserialize_any(AutoOrProbability)
    }
}
