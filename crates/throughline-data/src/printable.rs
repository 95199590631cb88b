//! Escaping of text for a terminal.
//!
//! Labels, texts and file names may come from anyone. Printed as they are, they could send escape sequences to the
//! terminal, break lines, or reverse the writing direction.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

/// The most characters that [`printable`] returns.
pub const PRINTABLE_WIDTH: usize = 40;

/// A label or short text for one line of a message or a table. Control characters and controls of the writing direction
/// are escaped (as `\n` or `\u{1b}`); a text longer than [`PRINTABLE_WIDTH`] characters is cut and ends in `…`.
///
/// The width is in characters, not in columns of the terminal.
pub fn printable(text: &str) -> String {
    let beginning = text.char_indices().nth(PRINTABLE_WIDTH + 1).map_or(text, |(end, _)| &text[..end]);
    let escaped = escape(beginning, is_harmless);
    match escaped.char_indices().nth(PRINTABLE_WIDTH) {
        None => escaped.into_owned(),
        Some(_) => escaped.chars().take(PRINTABLE_WIDTH - 1).chain(['…']).collect(),
    }
}

/// Running text for a terminal: escaped as by [`printable`], but with line feeds and tabs, and not cut.
pub fn printable_text(text: &str) -> Cow<'_, str> {
    escape(text, |c| is_harmless(c) || matches!(c, '\n' | '\t'))
}

/// A path, escaped for a message.
pub(crate) struct Shown<'a>(pub(crate) &'a Path);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape(&self.0.to_string_lossy(), is_harmless))
    }
}

fn escape(text: &str, stays: fn(char) -> bool) -> Cow<'_, str> {
    if text.chars().all(stays) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if stays(c) {
            escaped.push(c);
        } else {
            escaped.extend(c.escape_default());
        }
    }
    Cow::Owned(escaped)
}

/// Whether `c` is not a control character (C0, DEL, C1), a control of the writing direction (UAX #9), or a line or
/// paragraph separator.
fn is_harmless(c: char) -> bool {
    let direction = matches!(
        c,
        '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}'
    );
    !c.is_control() && !direction && !matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(printable("\u{1b}[2J\u{9b}31m\u{7f}\r\n\t"), r"\u{1b}[2J\u{9b}31m\u{7f}\r\n\t");
        assert_eq!(printable("a\u{202E}b\u{2066}c\u{200F}d\u{2028}"), r"a\u{202e}b\u{2066}c\u{200f}d\u{2028}");
        assert_eq!(printable("comédie 文字"), "comédie 文字");
        assert_eq!(printable_text("one\n\ttwo\r\u{1b}]0;x\u{7}"), "one\n\ttwo\\r\\u{1b}]0;x\\u{7}");
        assert!(matches!(printable_text("one\n\ttwo"), Cow::Borrowed(_)));
        assert_eq!(Shown(Path::new("a\u{1b}[31m/b\n.txt")).to_string(), r"a\u{1b}[31m/b\n.txt");
    }

    #[test]
    fn what_is_long_is_cut() {
        let fits = "é".repeat(PRINTABLE_WIDTH);
        assert_eq!(printable(&fits), fits);
        let cut = format!("{}…", "é".repeat(PRINTABLE_WIDTH - 1));
        assert_eq!(printable(&format!("{fits}x")), cut);
        assert_eq!(printable(&"é".repeat(1 << 20)), cut);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_short_and_harmless(text in any::<String>(), controls in "[\\x00-\\x9f]{0,60}") {
            for text in [&text, &controls] {
                let shown = printable(text);
                prop_assert!(shown.chars().count() <= PRINTABLE_WIDTH && shown.chars().all(is_harmless));
                let running = printable_text(text);
                prop_assert!(running.chars().all(|c| is_harmless(c) || c == '\n' || c == '\t'));
                prop_assert_eq!(running.matches('\n').count(), text.matches('\n').count());
            }
        }
    }
}
