//! Cleaning of texts before they are cut into units, in the same way for training, evaluation and use.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// The byte order mark. Inside a text it is left over from concatenated files.
pub(crate) const BYTE_ORDER_MARK: char = '\u{FEFF}';

/// The rules for cleaning texts. A model must be used with the rules it was trained with, so they are saved with it.
///
/// Whatever the rules, byte order marks (U+FEFF) are removed everywhere and line ends become line feeds. Cleaning is
/// idempotent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TextRules {
    /// Whether texts are normalised to Unicode NFC (UAX #15), so that `é` is one character however it was typed; `true`
    /// by default.
    pub nfc: bool,
}

impl Default for TextRules {
    fn default() -> Self {
        Self { nfc: true }
    }
}

impl TextRules {
    /// Removes byte order marks, turns all line ends into line feeds, and normalises to NFC if [`nfc`](Self::nfc) is
    /// set.
    pub fn clean<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut cleaned = Cow::Borrowed(text);
        if text.contains(BYTE_ORDER_MARK) {
            cleaned = Cow::Owned(text.replace(BYTE_ORDER_MARK, ""));
        }
        if cleaned.contains('\r') {
            cleaned = Cow::Owned(cleaned.replace("\r\n", "\n").replace('\r', "\n"));
        }
        if self.nfc && !cleaned.is_ascii() && is_nfc_quick(cleaned.chars()) != IsNormalized::Yes {
            cleaned = Cow::Owned(cleaned.nfc().collect());
        }
        cleaned
    }

    /// Cleans a text to classify or a label, and trims the white space around it.
    pub fn clean_example<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.clean(text) {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
            Cow::Owned(text) => Cow::Owned(text.trim().into()),
        }
    }

    /// [`clean`](Self::clean) for an owned text, which is returned as it is if there is nothing to do.
    pub(crate) fn clean_owned(&self, text: String) -> String {
        let changed = match self.clean(&text) {
            Cow::Borrowed(_) => None,
            Cow::Owned(cleaned) => Some(cleaned),
        };
        changed.unwrap_or(text)
    }
}

/// The number of line ends in `bytes`: LF, CR, and CR LF, which counts once.
pub(crate) fn line_ends(bytes: &[u8]) -> usize {
    let after = bytes.iter().skip(1).map(Some).chain([None]);
    bytes.iter().zip(after).filter(|&(byte, after)| *byte == b'\n' || *byte == b'\r' && after != Some(&b'\n')).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: TextRules = TextRules { nfc: false };

    #[test]
    fn marks_line_ends_and_forms() {
        let rules = TextRules::default();
        assert_eq!(rules.clean("\u{FEFF}a\r\nb\rc\n\r\n\u{FEFF}d"), "a\nb\nc\n\nd");
        assert_eq!(rules.clean("cafe\u{301} \u{212B}"), "caf\u{E9} \u{C5}");
        assert_eq!(PLAIN.clean("cafe\u{301}"), "cafe\u{301}");
        assert_eq!(rules.clean_example("\u{FEFF} \u{FEFF}cafe\u{301}\r\n"), "caf\u{E9}");
        assert_eq!(rules.clean_example(" x\t"), "x");
    }

    #[test]
    fn a_clean_text_is_not_copied() {
        for text in ["", "two\nlines", "caf\u{E9}", "文字"] {
            assert!(matches!(TextRules::default().clean(text), Cow::Borrowed(_)), "{text}");
        }
        assert!(matches!(TextRules::default().clean_example(" x "), Cow::Borrowed("x")));
        assert!(matches!(PLAIN.clean("e\u{301}"), Cow::Borrowed(_)));
    }

    #[test]
    fn the_rules_are_saved_by_name() {
        assert_eq!(serde_json::to_string(&TextRules::default()).unwrap(), r#"{"nfc":true}"#);
        assert_eq!(serde_json::from_str::<TextRules>("{}").unwrap(), TextRules::default());
        assert_eq!(serde_json::from_str::<TextRules>(r#"{"nfc":false}"#).unwrap(), PLAIN);
    }

    proptest! {
        #[test]
        fn a_cleaned_text_is_clean(text in "[ae\u{301}\u{327}\u{FEFF}\r\n \u{1100}\u{1161}\u{11A8}\u{0338}<]{0,20}") {
            for rules in [TextRules::default(), PLAIN] {
                let cleaned = rules.clean(&text).into_owned();
                prop_assert!(!cleaned.contains(['\r', BYTE_ORDER_MARK]));
                prop_assert_eq!(rules.clean(&cleaned), &*cleaned);
                prop_assert_eq!(line_ends(cleaned.as_bytes()), cleaned.matches('\n').count());
                let without_marks = text.replace(BYTE_ORDER_MARK, "");
                prop_assert_eq!(line_ends(without_marks.as_bytes()), line_ends(cleaned.as_bytes()));
                let example = rules.clean_example(&text).into_owned();
                prop_assert_eq!(cleaned.trim(), &*example);
                prop_assert_eq!(rules.clean_example(&example), &*example);
            }
        }

        #[test]
        fn separators_keep_texts_apart(
            fields in prop::collection::vec("[ae\u{301}\u{327}\u{0338}<\u{1100}\u{1161}]{0,6}", 1..6),
            separator in "[,\t\n\" ]",
        ) {
            // Cleaning a file and cleaning its fields is the same.
            let rules = TextRules::default();
            let whole = fields.join(&separator);
            let each: Vec<String> = fields.iter().map(|field| rules.clean(field).into_owned()).collect();
            prop_assert_eq!(rules.clean(&whole), each.join(&separator));
        }
    }
}
