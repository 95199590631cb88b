//! The JSON form of a vocabulary, `vocabulary.json`.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{UNKNOWN_TOKEN, Vocabulary, byte_token};
use crate::error::{Error, Result, quoted};
use crate::text::TextReader;
use crate::unit::{Unit, words};

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
    /// The version of the JSON form.
    pub const FORMAT_VERSION: u32 = 1;

    /// The most bytes of the JSON form: enough for [`MAX_TOKENS`](Self::MAX_TOKENS) tokens of
    /// [`MAX_TOKEN_BYTES`](Self::MAX_TOKEN_BYTES) in all, even if every byte is escaped.
    pub const MAX_JSON_BYTES: u64 = 128 << 20;

    /// The JSON form: `format_version`, `unit`, and `tokens` in the order of their indices.
    pub fn to_json(&self) -> String {
        let saved = Saved { format_version: Self::FORMAT_VERSION, unit: self.unit, tokens: self.tokens.clone() };
        serde_json::to_string_pretty(&saved).expect("strings and numbers always have a JSON form") + "\n"
    }

    /// Reads a vocabulary from a file in the form of [`to_json`](Self::to_json).
    ///
    /// # Errors
    /// [`Error::Malformed`] if the file has another form or version, a token is not a unit, or one occurs twice;
    /// [`Error::Encoding`], [`Error::TooLarge`] and [`Error::Io`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        // Tokens must not be cleaned: they follow the rules of their own texts.
        let json = TextReader::default().load_unchanged(path, &mut Self::MAX_JSON_BYTES.clone())?;
        Self::from_json(&json, path)
    }

    /// Reads the JSON form from memory. `path` is the file's name in errors.
    ///
    /// # Errors
    /// [`Error::Malformed`] as [`load`](Self::load).
    pub fn from_json(json: &str, path: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        const HINT: &str = "use the file that was saved with the model";
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
            let hint = "use the version of Throughline that wrote it";
            return Err(Error::malformed(path, None, expected, format_version.to_string(), hint));
        }
        let Saved { unit, tokens, .. } = serde_json::from_str(json).map_err(not_json)?;
        check_tokens(unit, &tokens).map_err(|(expected, found)| Error::malformed(path, None, expected, found, HINT))?;
        Ok(Self::of(unit, tokens))
    }
}

/// Checks tokens that were read; an error has what was expected and what was found.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::Folder;
    use crate::vocabulary::VocabularyOptions;

    #[test]
    fn a_saved_vocabulary_is_the_same() {
        for unit in Unit::ALL {
            // What cleaning would change stays as it is.
            let text = "to be\nor \"not\" \u{1} to be\u{301} \u{FEFF}x\n";
            let built = Vocabulary::build(unit, [text], VocabularyOptions::default()).unwrap();
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

    proptest! {
        #[test]
        fn no_json_makes_a_vocabulary_panic(unit in "char|byte|word|x", tokens in r#"("<unk>"|"[a ]{0,2}"|,|9){0,5}"#) {
            let json = format!(r#"{{"format_version": 1, "unit": "{unit}", "tokens": [{tokens}]}}"#);
            let _ = Vocabulary::from_json(&json, Path::new("v.json"));
        }
    }
}
