//! Units of text and their indices.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, quoted};
use crate::text::TextReader;

/// The index of the unknown token.
pub const UNKNOWN: u32 = 0;

/// How the unknown token is written. The same word in a text, as some corpora have it, is the unknown token.
pub const UNKNOWN_TOKEN: &str = "<unk>";

/// What a text is cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Unit {
    /// A character (Unicode scalar value).
    Char,
    /// A byte of the UTF-8 form of the text.
    Byte,
    /// A word between white space. A line feed is a word of its own, so that lines survive; other white space is lost.
    Word,
}

impl Unit {
    /// All units.
    pub const ALL: [Self; 3] = [Self::Char, Self::Byte, Self::Word];

    /// `char`, `byte` or `word`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Char => "char",
            Self::Byte => "byte",
            Self::Word => "word",
        }
    }

    /// How many of this unit `text` has.
    pub fn count(self, text: &str) -> usize {
        match self {
            Self::Char => text.chars().count(),
            Self::Byte => text.len(),
            Self::Word => words(text).count(),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Unit {
    type Err = Error;

    /// # Errors
    /// [`Error::Setting`] for anything but a [`name`](Unit::name).
    fn from_str(name: &str) -> Result<Self> {
        let unit = Self::ALL.into_iter().find(|unit| unit.name() == name);
        unit.ok_or_else(|| Error::setting("unit", "`char`, `byte` or `word`", quoted(name)))
    }
}

/// The words of `text`, with a `"\n"` at the end of each line that has one.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n').flat_map(|line| line.split_whitespace().chain(line.ends_with('\n').then_some("\n")))
}

/// Which units of the training text become tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VocabularyOptions {
    /// The most tokens kept, the unknown token included; at least 2. The most frequent ones stay. No limit by default.
    pub max_size: Option<usize>,
    /// How often a unit must occur to become a token; at least 1, which is the default.
    pub min_count: u64,
}

impl Default for VocabularyOptions {
    fn default() -> Self {
        Self { max_size: None, min_count: 1 }
    }
}

/// The tokens a model knows, and the way from text to indices and back.
///
/// Index 0 is the unknown token [`UNKNOWN_TOKEN`]. Characters and words follow by descending frequency, equally
/// frequent ones by code point. A byte vocabulary always holds all 256 bytes in order, byte `b` at index `b + 1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    unit: Unit,
    tokens: Vec<String>,
    lookup: Lookup,
}

/// The way from a unit to its index.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Lookup {
    /// Indexed by code point, up to the largest in the vocabulary.
    Char(Vec<u32>),
    Byte,
    Word(HashMap<String, u32>),
}

/// `vocabulary.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    format_version: u32,
    unit: Unit,
    /// In the order of their indices; bytes as two hexadecimal digits.
    tokens: Vec<String>,
}

impl Vocabulary {
    /// The version of the JSON form that this crate reads and writes.
    pub const FORMAT_VERSION: u32 = 1;

    /// The most tokens of a vocabulary, the unknown token included.
    pub const MAX_TOKENS: usize = 1 << 20;

    /// The longest that all tokens together may be, in bytes of UTF-8.
    pub const MAX_TOKEN_BYTES: usize = 16 << 20;

    /// Room for [`MAX_TOKENS`](Self::MAX_TOKENS) tokens of [`MAX_TOKEN_BYTES`](Self::MAX_TOKEN_BYTES) together, each
    /// byte of them escaped.
    const MAX_JSON_BYTES: u64 = 128 << 20;

    /// The vocabulary of the training texts. Validation and test text must not take part.
    ///
    /// # Errors
    /// [`Error::Setting`] when an option is out of its range, is given for bytes (which are always all there), or
    /// leaves more than [`MAX_TOKENS`](Self::MAX_TOKENS) or [`MAX_TOKEN_BYTES`](Self::MAX_TOKEN_BYTES);
    /// [`Error::TooFew`] when nothing is left but the unknown token.
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
                "a limit that leaves at most {} tokens of {} bytes together",
                Self::MAX_TOKENS,
                Self::MAX_TOKEN_BYTES
            );
            return Err(Error::setting("max_size", expected, format!("{} tokens of {bytes} bytes", ranked.len() + 1)));
        }
        if ranked.is_empty() {
            let hint = "give more training text or a smaller min_count";
            return Err(Error::TooFew { what: "tokens in the vocabulary", needed: 2, found: 1, hint });
        }
        Ok(Self::of(unit, [UNKNOWN_TOKEN.into()].into_iter().chain(ranked).collect()))
    }

    /// `tokens` are known to be valid for `unit`.
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

    /// What this vocabulary cuts a text into.
    pub fn unit(&self) -> Unit {
        self.unit
    }

    /// The number of tokens, the unknown token included: the `V` of a model. At least 2.
    #[expect(clippy::len_without_is_empty, reason = "a vocabulary is never empty")]
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// The tokens in the order of their indices. A byte is written as two hexadecimal digits.
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

    /// The text of `tokens`. An unknown character or byte, and bytes that are not UTF-8, become U+FFFD; words are
    /// separated by one space, lines by their line feed.
    ///
    /// # Panics
    /// If a token is not below [`len`](Self::len).
    pub fn decode(&self, tokens: &[u32]) -> String {
        let mut decoder = self.decoder();
        let mut text: String = tokens.iter().map(|&token| decoder.push(token)).collect();
        text += &decoder.finish();
        text
    }

    /// The bytes of `tokens`: for bytes exactly those that were encoded, otherwise the UTF-8 form of
    /// [`decode`](Self::decode). An unknown byte becomes the UTF-8 form of U+FFFD.
    ///
    /// # Panics
    /// If a token is not below [`len`](Self::len).
    pub fn decode_bytes(&self, tokens: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(tokens.len());
        match self.unit {
            Unit::Byte => tokens.iter().for_each(|&token| self.push_byte(token, &mut bytes)),
            Unit::Char | Unit::Word => bytes = self.decode(tokens).into_bytes(),
        }
        bytes
    }

    /// A decoder that takes one token after another.
    pub fn decoder(&self) -> Decoder<'_> {
        Decoder { vocabulary: self, pending: Vec::new(), after_word: false }
    }

    /// A decoder whose text stands right behind `before`: the first word is set off from one that ends there.
    pub fn decoder_after(&self, before: &str) -> Decoder<'_> {
        let after_word = before.chars().next_back().is_some_and(|last| !last.is_whitespace());
        Decoder { after_word, ..self.decoder() }
    }

    fn push_byte(&self, token: u32, bytes: &mut Vec<u8>) {
        self.token(token);
        match token.checked_sub(1) {
            Some(byte) => bytes.push(byte as u8),
            None => bytes.extend("\u{FFFD}".as_bytes()),
        }
    }

    fn token(&self, index: u32) -> &str {
        let size = self.tokens.len();
        self.tokens
            .get(index as usize)
            .unwrap_or_else(|| panic!("token {index} is not below the vocabulary size {size}"))
    }

    /// The share of unknown tokens among `tokens`, from 0 to 1; 0 if there are none.
    pub fn unknown_share(tokens: &[u32]) -> f64 {
        let unknown = tokens.iter().filter(|&&token| token == UNKNOWN).count();
        unknown as f64 / tokens.len().max(1) as f64
    }

    /// The JSON form: `format_version`, `unit` and `tokens` in the order of their indices.
    pub fn to_json(&self) -> String {
        let saved = Saved { format_version: Self::FORMAT_VERSION, unit: self.unit, tokens: self.tokens.clone() };
        serde_json::to_string_pretty(&saved).expect("strings and numbers always have a JSON form") + "\n"
    }

    /// Reads a vocabulary from a file in the form of [`to_json`](Self::to_json).
    ///
    /// # Errors
    /// [`Error::Malformed`] naming file and line when the file has another form or version, a token does not fit the
    /// unit, or one occurs twice; [`Error::Encoding`], [`Error::TooLarge`] and [`Error::Io`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        // Tokens are kept as they are, whatever the rules were by which texts were cleaned.
        let json = TextReader::default().load_unchanged(path, &mut Self::MAX_JSON_BYTES.clone())?;
        Self::from_json(&json, path)
    }

    /// Reads the JSON form from memory; `path` says in errors where it came from.
    ///
    /// # Errors
    /// [`Error::Malformed`] as [`load`](Self::load).
    pub fn from_json(json: &str, path: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        const HINT: &str = "use the file as it was written with the model";
        let not_json = |error: serde_json::Error| {
            Error::malformed(
                path,
                Some(error.line()),
                "the JSON form of a vocabulary",
                quoted(&error.to_string()),
                HINT,
            )
        };
        let Version { format_version } = serde_json::from_str(json).map_err(not_json)?;
        if format_version != Self::FORMAT_VERSION {
            let expected = format!("format_version {}", Self::FORMAT_VERSION);
            let hint = "use the version of the program that wrote it";
            return Err(Error::malformed(path, None, expected, format_version.to_string(), hint));
        }
        let Saved { unit, tokens, .. } = serde_json::from_str(json).map_err(not_json)?;
        check_tokens(unit, &tokens).map_err(|(expected, found)| Error::malformed(path, None, expected, found, HINT))?;
        Ok(Self::of(unit, tokens))
    }
}

impl VocabularyOptions {
    fn check(&self, unit: Unit) -> Result<()> {
        if unit == Unit::Byte && *self != Self::default() {
            let expected = "no max_size and no min_count for bytes, which are always all in the vocabulary";
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

    /// The units kept, most frequent first.
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

/// What was expected and what was found, where tokens read from outside break a rule of [`Vocabulary`].
fn check_tokens(unit: Unit, tokens: &[String]) -> std::result::Result<(), (String, String)> {
    if !(2..=Vocabulary::MAX_TOKENS).contains(&tokens.len()) {
        return Err((format!("2 to {} tokens", Vocabulary::MAX_TOKENS), tokens.len().to_string()));
    }
    if tokens[0] != UNKNOWN_TOKEN {
        return Err((format!("{UNKNOWN_TOKEN:?} as the first token"), quoted(&tokens[0])));
    }
    if unit == Unit::Byte && !tokens[1..].iter().cloned().eq((0..=u8::MAX).map(byte_token)) {
        return Err((r#"the bytes "00" to "ff" after the first token"#.into(), "other tokens".into()));
    }
    let mut places = HashMap::from([(UNKNOWN_TOKEN, 0)]);
    for (place, token) in tokens.iter().enumerate().skip(1) {
        let one_unit = match unit {
            Unit::Char => token.chars().nth(1).is_none() && !token.is_empty(),
            Unit::Byte => true,
            Unit::Word => words(token).eq([token.as_str()]),
        };
        if !one_unit {
            return Err((format!("one {unit} as the token at index {place}"), quoted(token)));
        }
        if let Some(earlier) = places.insert(token, place) {
            return Err(("each token once".into(), format!("{} at the indices {earlier} and {place}", quoted(token))));
        }
    }
    Ok(())
}

/// Turns tokens into text one at a time, so that a text can be shown while it is written.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    vocabulary: &'a Vocabulary,
    /// Bytes that may become a character with those to come.
    pending: Vec<u8>,
    /// Whether a word needs a space before it.
    after_word: bool,
}

impl Decoder<'_> {
    /// What can be shown now that `token` is known: nothing as long as the bytes of a character are not all there.
    ///
    /// # Panics
    /// If `token` is not below the size of the vocabulary.
    pub fn push(&mut self, token: u32) -> String {
        match self.vocabulary.unit {
            Unit::Char if token == UNKNOWN => "\u{FFFD}".into(),
            Unit::Char => self.vocabulary.token(token).into(),
            Unit::Byte => {
                self.vocabulary.push_byte(token, &mut self.pending);
                self.complete_characters()
            }
            Unit::Word => {
                let word = self.vocabulary.token(token);
                let line_end = word == "\n";
                let space = if self.after_word && !line_end { " " } else { "" };
                self.after_word = !line_end;
                [space, word].concat()
            }
        }
    }

    /// What is left at the end: U+FFFD if the bytes end within a character.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }

    /// Takes the characters that no further byte can change from the pending bytes.
    fn complete_characters(&mut self) -> String {
        let mut text = String::new();
        let mut incomplete = 0;
        let mut chunks = self.pending.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text += chunk.valid();
            let last = chunks.peek().is_none();
            // The standard library does not say whether an invalid chunk at the end could still be completed.
            if last && std::str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none()) {
                incomplete = chunk.invalid().len();
            } else if !chunk.invalid().is_empty() {
                text.push('\u{FFFD}');
            }
        }
        self.pending.drain(..self.pending.len() - incomplete);
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::Folder;

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
    fn bytes_are_shown_as_soon_as_they_are_characters() {
        let bytes = vocabulary(Unit::Byte, "");
        let mut decoder = bytes.decoder();
        let shown: Vec<String> = [0x61, 0xE2, 0x82, 0xAC, 0xE2, 0xE2, 0x82].map(|byte| decoder.push(byte + 1)).into();
        assert_eq!(shown, ["a", "", "", "€", "", "\u{FFFD}", ""]);
        assert_eq!(decoder.finish(), "\u{FFFD}");
        assert_eq!(bytes.decode_bytes(&[0xFF + 1, UNKNOWN]), b"\xFF\xEF\xBF\xBD");
    }

    #[test]
    #[should_panic(expected = "token 257 is not below the vocabulary size 257")]
    fn tokens_of_another_vocabulary_are_refused() {
        vocabulary(Unit::Byte, "").decode_bytes(&[257]);
    }

    #[test]
    fn a_saved_vocabulary_is_the_same() {
        for unit in Unit::ALL {
            let built = vocabulary(unit, "to be\nor \"not\" \u{1} to bé\n");
            let folder = Folder::new(&[("vocabulary.json", built.to_json().as_bytes())]);
            let loaded = Vocabulary::load(folder.join("vocabulary.json")).unwrap();
            assert_eq!(loaded, built);
        }
    }

    #[test]
    fn a_hostile_vocabulary_is_refused() {
        let cases = [
            ("", "JSON"),
            ("[]", "JSON"),
            (r#"{"format_version": 2, "more": 1}"#, "expected format_version 1, found 2"),
            (r#"{"format_version": 1, "unit": "char", "tokens": ["<unk>", "a"], "x": 1}"#, "unknown field"),
            (r#"{"format_version": 1, "unit": "syllable", "tokens": ["<unk>", "a"]}"#, "unknown variant"),
            (r#"{"format_version": 1, "unit": "char", "tokens": ["<unk>"]}"#, "2 to 1048576 tokens"),
            (r#"{"format_version": 1, "unit": "char", "tokens": ["a", "b"]}"#, "as the first token"),
            (r#"{"format_version": 1, "unit": "char", "tokens": ["<unk>", ""]}"#, "one char"),
            (r#"{"format_version": 1, "unit": "char", "tokens": ["<unk>", "ab"]}"#, "one char"),
            (r#"{"format_version": 1, "unit": "char", "tokens": ["<unk>", "a", "b", "a"]}"#, "indices 1 and 3"),
            (r#"{"format_version": 1, "unit": "word", "tokens": ["<unk>", "<unk>"]}"#, "indices 0 and 1"),
            (r#"{"format_version": 1, "unit": "word", "tokens": ["<unk>", "a b"]}"#, "one word"),
            (r#"{"format_version": 1, "unit": "word", "tokens": ["<unk>", "a\n"]}"#, "one word"),
            (r#"{"format_version": 1, "unit": "byte", "tokens": ["<unk>", "00"]}"#, "the bytes"),
        ];
        for (json, message) in cases {
            let error = Vocabulary::from_json(json, Path::new("v.json")).unwrap_err().to_string();
            assert!(error.starts_with("v.json") && error.contains(message), "{json}: {error}");
        }
        let many =
            format!(r#"{{"format_version": 1, "unit": "char", "tokens": ["<unk>"{}]}}"#, r#","a""#.repeat(1 << 20));
        assert!(Vocabulary::from_json(&many, Path::new("v.json")).is_err());
        let deep = format!(r#"{{"format_version": {}"#, "[".repeat(100_000));
        assert!(Vocabulary::from_json(&deep, Path::new("v.json")).is_err());
    }

    #[test]
    fn units_have_names() {
        for unit in Unit::ALL {
            assert_eq!(unit.to_string().parse::<Unit>().unwrap(), unit);
            assert_eq!(serde_json::to_string(&unit).unwrap(), format!("\"{unit}\""));
        }
        assert!(matches!("chars".parse::<Unit>(), Err(Error::Setting { key: "unit", .. })));
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

        #[test]
        fn streamed_bytes_are_the_lossy_text(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let tokens: Vec<u32> = bytes.iter().map(|&byte| u32::from(byte) + 1).collect();
            let vocabulary = vocabulary(Unit::Byte, "");
            prop_assert_eq!(vocabulary.decode(&tokens), String::from_utf8_lossy(&bytes));
            prop_assert_eq!(vocabulary.decode_bytes(&tokens), bytes);
        }

        #[test]
        fn no_json_makes_a_vocabulary_panic(unit in "char|byte|word|x", tokens in r#"("<unk>"|"[a ]{0,2}"|,|9){0,5}"#) {
            let json = format!(r#"{{"format_version": 1, "unit": "{unit}", "tokens": [{tokens}]}}"#);
            let _ = Vocabulary::from_json(&json, Path::new("v.json"));
        }
    }
}
