//! From tokens back to text.

use super::{UNKNOWN, Vocabulary};
use crate::unit::Unit;

/// Decodes tokens one at a time, so that text can be shown while it is generated.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    vocabulary: &'a Vocabulary,
    /// Bytes of an incomplete character.
    pending: Vec<u8>,
    /// Whether a word needs a space before it.
    after_word: bool,
}

impl Vocabulary {
    /// The text of `tokens`. Unknown characters and bytes, and bytes that are not valid UTF-8, become U+FFFD. Words are
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

    /// The bytes of `tokens`: of a byte vocabulary exactly those that were encoded, with U+FFFD in UTF-8 for an unknown
    /// byte; otherwise the UTF-8 bytes of [`decode`](Self::decode).
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

    /// A decoder for the beginning of a text.
    pub fn decoder(&self) -> Decoder<'_> {
        self.decoder_after("")
    }

    /// A decoder for the continuation of `text`, such as a prompt: if `text` does not end in white space, the first
    /// word is preceded by a space.
    pub fn decoder_after(&self, text: &str) -> Decoder<'_> {
        let after_word = text.chars().next_back().is_some_and(|last| !last.is_whitespace());
        Decoder { vocabulary: self, pending: Vec::new(), after_word }
    }

    fn push_byte(&self, token: u32, bytes: &mut Vec<u8>) {
        self.token(token);
        match token.checked_sub(1) {
            Some(byte) => bytes.push(byte as u8),
            None => bytes.extend("\u{FFFD}".as_bytes()),
        }
    }
}

impl Decoder<'_> {
    /// The text that `token` completes; empty while the bytes of a character are incomplete.
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

    /// The text left at the end: U+FFFD if the bytes end inside a character, otherwise empty.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }

    /// Removes from the pending bytes the characters that no further byte can change, and returns them.
    fn complete_characters(&mut self) -> String {
        let mut text = String::new();
        let mut incomplete = 0;
        let mut chunks = self.pending.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text += chunk.valid();
            let last = chunks.peek().is_none();
            // `utf8_chunks` does not tell whether an invalid chunk at the end is incomplete.
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
    use crate::vocabulary::VocabularyOptions;

    fn vocabulary(unit: Unit, text: &str) -> Vocabulary {
        Vocabulary::build(unit, [text], VocabularyOptions::default()).unwrap()
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
    fn a_word_is_kept_apart_from_the_prompt() {
        let words = vocabulary(Unit::Word, "the cat\n");
        let after = |prompt: &str, text: &str| {
            let mut decoder = words.decoder_after(prompt);
            words.encode(text).into_iter().map(|token| decoder.push(token)).collect::<String>()
        };
        assert_eq!(after("the", "cat the"), " cat the");
        assert_eq!(after("the", "\ncat"), "\ncat");
        for prompt in ["", "the ", "the\n"] {
            assert_eq!(after(prompt, "cat the"), "cat the");
        }
        let chars = vocabulary(Unit::Char, "the cat");
        assert_eq!(chars.decoder_after("the").push(chars.encode("c")[0]), "c");
    }

    proptest! {
        #[test]
        fn streamed_bytes_are_the_lossy_text(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let tokens: Vec<u32> = bytes.iter().map(|&byte| u32::from(byte) + 1).collect();
            let vocabulary = vocabulary(Unit::Byte, "");
            prop_assert_eq!(vocabulary.decode(&tokens), String::from_utf8_lossy(&bytes));
            prop_assert_eq!(vocabulary.decode_bytes(&tokens), bytes);
        }
    }
}
