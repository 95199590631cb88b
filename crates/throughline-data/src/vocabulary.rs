//! Vocabularies: the tokens of a model.

use std::collections::HashMap;
use std::hash::Hash;

use crate::error::{Error, Result};
use crate::unit::{Unit, words};

mod decoder;
mod saved;

pub use decoder::Decoder;

/// The index of the unknown token.
pub const UNKNOWN: u32 = 0;

/// The text of the unknown token. In a word vocabulary the same word in a text, which some corpora have, is the unknown
/// token.
pub const UNKNOWN_TOKEN: &str = "<unk>";

/// Which units of the training text become tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VocabularyOptions {
    /// The most tokens, the unknown token included; at least 2. The most frequent units are kept. No limit by default.
    pub max_size: Option<usize>,
    /// How often a unit must occur to become a token; at least 1, the default.
    pub min_count: u64,
}

impl Default for VocabularyOptions {
    fn default() -> Self {
        Self { max_size: None, min_count: 1 }
    }
}

/// The tokens of a model, and the encoding of text as their indices.
///
/// Index 0 is the unknown token [`UNKNOWN_TOKEN`]. Characters and words follow by descending frequency, and by code
/// point if equally frequent. A byte vocabulary always has all 256 bytes in order, byte `b` at index `b + 1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    unit: Unit,
    tokens: Vec<String>,
    lookup: Lookup,
}

/// The index of each unit.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Lookup {
    /// By code point, up to the largest in the vocabulary.
    Char(Vec<u32>),
    Byte,
    Word(HashMap<String, u32>),
}

impl Vocabulary {
    /// The most tokens of a vocabulary, the unknown token included.
    pub const MAX_TOKENS: usize = 1 << 20;

    /// The most bytes of all tokens together, in UTF-8.
    pub const MAX_TOKEN_BYTES: usize = 16 << 20;

    /// Builds the vocabulary of training texts, which must be [cleaned](crate::TextRules::clean). Use the training
    /// split only.
    ///
    /// # Errors
    /// [`Error::Setting`] if an option is out of its range, is given for bytes, or leaves more than
    /// [`MAX_TOKENS`](Self::MAX_TOKENS) or [`MAX_TOKEN_BYTES`](Self::MAX_TOKEN_BYTES); [`Error::TooFew`] if nothing is
    /// left but the unknown token.
    pub fn build<'a>(
        unit: Unit,
        training: impl IntoIterator<Item = &'a str>,
        options: VocabularyOptions,
    ) -> Result<Self> {
        options.check(unit)?;
        let training = training.into_iter();
        let ranked: Vec<String> = match unit {
            Unit::Char => options.rank(training.flat_map(str::chars)).into_iter().map(String::from).collect(),
            Unit::Byte => (0..=u8::MAX).map(byte_token).collect(),
            Unit::Word => {
                let known = training.flat_map(words).filter(|&word| word != UNKNOWN_TOKEN);
                options.rank(known).into_iter().map(String::from).collect()
            }
        };
        let bytes: usize = ranked.iter().map(String::len).sum();
        if ranked.len() >= Self::MAX_TOKENS || bytes > Self::MAX_TOKEN_BYTES {
            let expected = format!(
                "a limit that leaves at most {} tokens of {} bytes in all",
                Self::MAX_TOKENS,
                Self::MAX_TOKEN_BYTES
            );
            return Err(Error::setting(
                "max_size",
                expected,
                format!("{} tokens of {bytes} bytes in all", ranked.len() + 1),
            ));
        }
        if ranked.is_empty() {
            let hint = "use more training text or a smaller min_count";
            return Err(Error::TooFew { what: "tokens in the vocabulary", needed: 2, found: 1, hint });
        }
        Ok(Self::of(unit, [UNKNOWN_TOKEN.into()].into_iter().chain(ranked).collect()))
    }

    /// A vocabulary of `tokens`, which must be valid for `unit`.
    fn of(unit: Unit, tokens: Vec<String>) -> Self {
        let indexed = tokens.iter().zip(0u32..).skip(1);
        let lookup = match unit {
            Unit::Char => {
                let mut index_of = Vec::new();
                for (code, index) in indexed.flat_map(|(token, index)| token.chars().map(move |c| (c as usize, index)))
                {
                    if code >= index_of.len() {
                        index_of.resize(code + 1, UNKNOWN);
                    }
                    index_of[code] = index;
                }
                Lookup::Char(index_of)
            }
            Unit::Byte => Lookup::Byte,
            Unit::Word => Lookup::Word(indexed.map(|(token, index)| (token.clone(), index)).collect()),
        };
        Self { unit, tokens, lookup }
    }

    /// The unit that texts are cut into.
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// V, the number of tokens, the unknown token included; at least 2.
    #[expect(clippy::len_without_is_empty, reason = "a vocabulary is never empty")]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The tokens, in the order of their indices. A byte is two hexadecimal digits.
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// The indices of the units of `text`, each below [`len`](Self::len).
    pub fn encode(&self, text: &str) -> Vec<u32> {
        match &self.lookup {
            Lookup::Char(index_of) => {
                text.chars().map(|c| index_of.get(c as usize).copied().unwrap_or(UNKNOWN)).collect()
            }
            Lookup::Byte => text.bytes().map(|byte| u32::from(byte) + 1).collect(),
            Lookup::Word(index_of) => words(text).map(|word| index_of.get(word).copied().unwrap_or(UNKNOWN)).collect(),
        }
    }

    fn token(&self, index: u32) -> &str {
        let size = self.tokens.len();
        self.tokens
            .get(index as usize)
            .unwrap_or_else(|| panic!("token {index} is not below the vocabulary size {size}"))
    }

    /// The share of unknown tokens among `tokens`, from 0 to 1; 0 for no tokens.
    pub fn unknown_share(tokens: &[u32]) -> f64 {
        let unknown = tokens.iter().filter(|&&token| token == UNKNOWN).count();
        unknown as f64 / tokens.len().max(1) as f64
    }
}

impl VocabularyOptions {
    fn check(&self, unit: Unit) -> Result<()> {
        if unit == Unit::Byte && *self != Self::default() {
            let expected = "no max_size or min_count for bytes, since all bytes are always in the vocabulary";
            return Err(Error::setting("unit", expected, format!("{self:?}")));
        }
        if let Some(size @ ..2) = self.max_size {
            return Err(Error::setting("max_size", "at least 2, the unknown token included", size.to_string()));
        }
        if self.min_count == 0 {
            return Err(Error::setting("min_count", "at least 1", "0"));
        }
        Ok(())
    }

    /// The units to keep, most frequent first.
    fn rank<T: Copy + Ord + Hash>(&self, units: impl Iterator<Item = T>) -> Vec<T> {
        let mut counts = HashMap::<T, u64>::new();
        units.for_each(|unit| *counts.entry(unit).or_default() += 1);
        let mut ranked: Vec<(T, u64)> = counts.into_iter().filter(|&(_, count)| count >= self.min_count).collect();
        ranked.sort_unstable_by(|(a, a_count), (b, b_count)| b_count.cmp(a_count).then_with(|| a.cmp(b)));
        ranked.truncate(self.max_size.map_or(usize::MAX, |size| size - 1));
        ranked.into_iter().map(|(unit, _)| unit).collect()
    }
}

fn byte_token(byte: u8) -> String {
    format!("{byte:02x}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn vocabulary(unit: Unit, text: &str) -> Vocabulary {
        Vocabulary::build(unit, [text], VocabularyOptions::default()).unwrap()
    }

    #[test]
    fn tokens_are_ordered_by_frequency_then_code_point() {
        assert_eq!(vocabulary(Unit::Char, "bbcaéa").tokens(), ["<unk>", "a", "b", "c", "é"]);
        let words = vocabulary(Unit::Word, "the cat\r\nthe <unk>\ta\n\n");
        assert_eq!(words.tokens(), ["<unk>", "\n", "the", "a", "cat"]);
        assert_eq!(words.encode("a <unk> dog\n"), [3, 0, 0, 1]);
        let bytes = vocabulary(Unit::Byte, "");
        assert_eq!((bytes.len(), bytes.tokens()[0x42].as_str()), (257, "41"));
        assert_eq!(bytes.encode("é"), [0xC3 + 1, 0xA9 + 1]);
    }

    #[test]
    fn options_limit_the_vocabulary() {
        let build =
            |unit, max_size, min_count| Vocabulary::build(unit, ["aaabbc"], VocabularyOptions { max_size, min_count });
        assert_eq!(build(Unit::Char, Some(2), 1).unwrap().tokens(), ["<unk>", "a"]);
        assert_eq!(build(Unit::Char, None, 2).unwrap().tokens(), ["<unk>", "a", "b"]);
        assert!(matches!(build(Unit::Char, None, 9), Err(Error::TooFew { needed: 2, .. })));
        assert!(matches!(build(Unit::Char, Some(1), 1), Err(Error::Setting { key: "max_size", .. })));
        assert!(matches!(build(Unit::Char, None, 0), Err(Error::Setting { key: "min_count", .. })));
        assert!(matches!(build(Unit::Byte, Some(9), 1), Err(Error::Setting { key: "unit", .. })));
        let word = "x".repeat(Vocabulary::MAX_TOKEN_BYTES + 1);
        let too_long = Vocabulary::build(Unit::Word, [word.as_str()], VocabularyOptions::default());
        assert!(matches!(too_long, Err(Error::Setting { key: "max_size", .. })));
    }

    #[test]
    fn unknown_units_are_counted_and_shown() {
        let chars = vocabulary(Unit::Char, "ab");
        let tokens = chars.encode("axb\u{10FFFF}");
        assert_eq!(tokens, [1, UNKNOWN, 2, UNKNOWN]);
        assert_eq!(chars.decode(&tokens), "a\u{FFFD}b\u{FFFD}");
        assert_eq!((Vocabulary::unknown_share(&tokens), Vocabulary::unknown_share(&[])), (0.5, 0.0));
        let words = vocabulary(Unit::Word, "a b\n");
        assert_eq!(words.decode(&words.encode("a  c\n\n b a")), "a <unk>\n\nb a");
    }

    #[test]
    #[should_panic(expected = "token 257 is not below the vocabulary size 257")]
    fn tokens_of_another_vocabulary_are_refused() {
        vocabulary(Unit::Byte, "").decode_bytes(&[257]);
    }

    proptest! {
        #[test]
        fn known_text_survives(text in ".{1,80}") {
            for unit in [Unit::Char, Unit::Byte] {
                let vocabulary = vocabulary(unit, &text);
                let tokens = vocabulary.encode(&text);
                prop_assert_eq!(tokens.len(), unit.count(&text));
                prop_assert_eq!(vocabulary.decode_bytes(&tokens), text.as_bytes());
                prop_assert_eq!(vocabulary.decode(&tokens), &*text);
            }
        }

        #[test]
        fn words_and_lines_survive(lines in prop::collection::vec("[a-c]{1,3}( [a-c]{1,3}){0,4}", 1..5)) {
            let text = lines.join("\n");
            let vocabulary = vocabulary(Unit::Word, &text);
            let tokens = vocabulary.encode(&text);
            prop_assert_eq!(tokens.len(), Unit::Word.count(&text));
            prop_assert_eq!(vocabulary.decode(&tokens), text);
        }

    }
}
