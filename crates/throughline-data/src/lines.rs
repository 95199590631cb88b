//! Lines from a stream in bounded memory. A line that is too long does not affect the lines after it.

use std::io::{self, BufRead};

use unicode_normalization::char::canonical_combining_class;
use unicode_normalization::{IsNormalized, is_nfc_quick};

/// Reads lines, or long lines in several chunks, and never keeps more than a limit of bytes.
///
/// LF, CR LF and CR each end a line, as everywhere in this crate; what follows the last line end is a line if it is not
/// empty. A byte order mark at the beginning of the stream is dropped. Texts are not cleaned: pass them to
/// [`TextRules`](crate::TextRules).
///
/// ```
/// use throughline_data::{BoundedLines, Line};
///
/// let mut lines = BoundedLines::new("fine\nfar too long\ndull".as_bytes(), 8);
/// assert_eq!(lines.next_line()?, Some(Line::Text { number: 1, text: "fine" }));
/// assert_eq!(lines.next_line()?, Some(Line::TooLong { number: 2, bytes: 12 }));
/// assert_eq!(lines.next_line()?, Some(Line::Text { number: 3, text: "dull" }));
/// assert_eq!(lines.next_line()?, None);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct BoundedLines<R> {
    input: R,
    limit: usize,
    /// Bytes of the current line. The first `taken` of them have been returned.
    buffer: Vec<u8>,
    taken: usize,
    /// The number of the current line, from 1.
    number: usize,
    /// How many bytes of this line have been returned or dropped.
    passed: u64,
    /// Whether the end of this line is still to be read.
    in_line: bool,
    /// Whether the last line ended in CR, so that a following LF belongs to it.
    after_carriage_return: bool,
    /// Whether the input has ended. It is not read again, since a terminal would wait for more.
    ended: bool,
}

/// A line, or why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A line, without its line end.
    Text {
        /// Its number, from 1.
        number: usize,
        /// Its text.
        text: &'a str,
    },
    /// A line longer than the limit. It was read to its end and dropped.
    TooLong {
        /// Its number, from 1.
        number: usize,
        /// Its length in bytes without the line end.
        bytes: u64,
    },
    /// A line that is not valid UTF-8. It was read to its end and dropped.
    Invalid {
        /// Its number, from 1.
        number: usize,
        /// The offset of the first invalid byte in the line, from 0.
        offset: u64,
    },
}

/// A chunk of a line, or why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk<'a> {
    /// The next chunk of a line, without the line end. Only the first chunk of a line may be empty.
    Text {
        /// The number of the line, from 1.
        number: usize,
        /// The text.
        text: &'a str,
        /// Whether it is the first chunk of its line.
        first: bool,
        /// Whether it is the last one.
        last: bool,
    },
    /// The line goes on with invalid UTF-8. The rest of it was read and dropped.
    Invalid {
        /// The number of the line, from 1.
        number: usize,
        /// The offset of the first invalid byte in the line, from 0.
        offset: u64,
    },
}

/// Where reading into the buffer stopped.
#[derive(Clone, Copy, PartialEq)]
enum Stop {
    /// At the end of the line.
    LineEnd,
    /// In the line, because the buffer is full.
    Full,
    /// At the end of the input.
    End,
}

impl<R: BufRead> BoundedLines<R> {
    /// The lines of `input`, at most `limit` bytes of one at a time.
    ///
    /// # Panics
    /// If `limit` is below 4, the length of the longest character.
    pub fn new(input: R, limit: usize) -> Self {
        assert!(limit >= 4, "the limit must be at least 4 bytes, the length of the longest character, not {limit}");
        Self {
            input,
            limit,
            buffer: Vec::new(),
            taken: 0,
            number: 0,
            passed: 0,
            in_line: false,
            after_carriage_return: false,
            ended: false,
        }
    }

    /// The input that the lines are read from.
    pub fn input(&self) -> &R {
        &self.input
    }

    /// The next line, or the rest of a line whose first chunks were read; `None` at the end of the input.
    ///
    /// # Errors
    /// Any error of the input, except interruptions.
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        let stop = self.fill()?;
        if stop == Stop::End {
            return Ok(None);
        }
        let (number, before) = (self.number, self.passed);
        if stop == Stop::Full {
            self.drop_rest()?;
            return Ok(Some(Line::TooLong { number, bytes: self.passed }));
        }
        self.pass(self.buffer.len());
        Ok(Some(match std::str::from_utf8(&self.buffer) {
            Ok(text) => Line::Text { number, text },
            Err(error) => Line::Invalid { number, offset: before + error.valid_up_to() as u64 },
        }))
    }

    /// The next chunk of a line, no longer than the limit; `None` at the end of the input. A short line is one chunk. A
    /// long line is cut after white space if there is any in the second half of a chunk, so that words stay whole;
    /// otherwise between two characters that normalisation does not join, if there are such.
    ///
    /// # Errors
    /// Any error of the input, except interruptions.
    pub fn next_chunk(&mut self) -> io::Result<Option<Chunk<'_>>> {
        let stop = self.fill()?;
        if stop == Stop::End {
            return Ok(None);
        }
        let (number, before) = (self.number, self.passed);
        let valid = match std::str::from_utf8(&self.buffer) {
            Ok(text) => text,
            // The last character may be cut by the limit.
            Err(error) if stop == Stop::Full && error.error_len().is_none() => {
                std::str::from_utf8(&self.buffer[..error.valid_up_to()]).expect("valid up to there")
            }
            Err(error) => {
                let offset = before + error.valid_up_to() as u64;
                self.drop_rest()?;
                return Ok(Some(Chunk::Invalid { number, offset }));
            }
        };
        let length = if stop == Stop::Full { place_to_cut(valid) } else { valid.len() };
        self.pass(length);
        let text = std::str::from_utf8(&self.buffer[..length]).expect("just checked");
        Ok(Some(Chunk::Text { number, text, first: before == 0, last: stop == Stop::LineEnd }))
    }

    /// Marks the first `length` bytes of the buffer as returned; they stay until the next call.
    fn pass(&mut self, length: usize) {
        self.taken = length;
        self.passed += length as u64;
    }

    /// Reads and drops the rest of the line.
    fn drop_rest(&mut self) -> io::Result<()> {
        self.pass(self.buffer.len());
        while self.in_line {
            self.fill()?;
            self.pass(self.buffer.len());
        }
        Ok(())
    }

    /// Drops what was returned, and reads until the line ends or the buffer is full.
    fn fill(&mut self) -> io::Result<Stop> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        if !self.in_line && !self.begin_line()? {
            return Ok(Stop::End);
        }
        let stop = self.read_on()?;
        if self.number == 1 && self.passed == 0 && self.buffer.starts_with(MARK) {
            self.buffer.drain(..MARK.len());
            // There is room for more now.
            return if stop == Stop::Full { self.read_on() } else { Ok(stop) };
        }
        Ok(stop)
    }

    /// Goes to the beginning of the next line; `false` if there is none.
    fn begin_line(&mut self) -> io::Result<bool> {
        if self.has_more()? && self.input.fill_buf()?[0] == b'\n' && self.after_carriage_return {
            self.input.consume(1);
        }
        self.after_carriage_return = false;
        self.in_line = self.has_more()?;
        self.number += usize::from(self.in_line);
        self.passed = 0;
        Ok(self.in_line)
    }

    /// Waits for input; `false` at its end.
    fn has_more(&mut self) -> io::Result<bool> {
        while !self.ended {
            match self.input.fill_buf() {
                Ok(available) if !available.is_empty() => return Ok(true),
                Ok(_) => self.ended = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Reads until the line ends or the buffer is full. A line that fits exactly ends.
    fn read_on(&mut self) -> io::Result<Stop> {
        loop {
            if !self.has_more()? {
                self.in_line = false;
                return Ok(Stop::LineEnd);
            }
            let available = self.input.fill_buf()?;
            let room = self.limit - self.buffer.len();
            let visible = &available[..available.len().min(room + 1)];
            let end = visible.iter().position(|&byte| byte == b'\n' || byte == b'\r');
            let length = end.unwrap_or(visible.len()).min(room);
            let needed = self.buffer.len() + length;
            if needed > self.buffer.capacity() {
                // Doubled as usual, but never above the limit.
                let capacity = (2 * self.buffer.capacity()).clamp(needed, self.limit);
                self.buffer.reserve_exact(capacity - self.buffer.len());
            }
            self.buffer.extend(&visible[..length]);
            if let Some(end) = end {
                self.after_carriage_return = visible[end] == b'\r';
                self.in_line = false;
                self.input.consume(end + 1);
                return Ok(Stop::LineEnd);
            }
            let full = visible.len() > room;
            self.input.consume(length);
            if full {
                return Ok(Stop::Full);
            }
        }
    }
}

/// The byte order mark in UTF-8.
const MARK: &[u8] = "\u{FEFF}".as_bytes();

/// Where to cut `text`, which fills a chunk and is followed by more of the line; see [`BoundedLines::next_chunk`].
fn place_to_cut(text: &str) -> usize {
    let after_space = text.char_indices().rev().find(|(_, c)| c.is_whitespace()).map(|(at, c)| at + c.len_utf8());
    if let Some(cut) = after_space.filter(|&cut| 2 * cut > text.len()) {
        return cut;
    }
    // UAX #15: normalisation joins nothing to what is before a starter that may stand in NFC.
    let begins_anew = |c: char| {
        c != '\u{FEFF}' && canonical_combining_class(c) == 0 && is_nfc_quick([c].into_iter()) == IsNormalized::Yes
    };
    let cut = text.char_indices().rev().find(|&(_, c)| begins_anew(c)).map_or(0, |(at, _)| at);
    if cut > 0 { cut } else { text.len() }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;

    use super::*;
    use crate::clean::TextRules;

    type Result<T> = std::result::Result<T, (bool, u64)>;

    /// All lines, read `buffer` bytes at a time: texts, or whether a line was too long, and the number that goes with
    /// it.
    fn lines(input: &[u8], limit: usize, buffer: usize) -> Vec<Result<String>> {
        let mut lines = BoundedLines::new(BufReader::with_capacity(buffer, input), limit);
        let mut read = Vec::new();
        while let Some(line) = lines.next_line().unwrap() {
            let (number, line) = match line {
                Line::Text { number, text } => (number, Ok(text.to_owned())),
                Line::TooLong { number, bytes } => (number, Err((true, bytes))),
                Line::Invalid { number, offset } => (number, Err((false, offset))),
            };
            read.push(line);
            assert_eq!(number, read.len());
            assert!(lines.buffer.capacity() <= limit);
        }
        assert_eq!(lines.next_line().unwrap(), None);
        read
    }

    /// The chunks of each line, and the offset at which a line is invalid.
    fn chunks(input: &[u8], limit: usize, buffer: usize) -> Vec<(Vec<String>, Option<u64>)> {
        let mut lines = BoundedLines::new(BufReader::with_capacity(buffer, input), limit);
        let mut read: Vec<(Vec<String>, Option<u64>)> = Vec::new();
        let mut open = false;
        while let Some(chunk) = lines.next_chunk().unwrap() {
            let number = match chunk {
                Chunk::Text { number, text, first, last } => {
                    assert!(first != open && text.len() <= limit && (first || !text.is_empty()));
                    if first {
                        read.push(Default::default());
                    }
                    open = !last;
                    read.last_mut().unwrap().0.push(text.to_owned());
                    number
                }
                Chunk::Invalid { number, offset } => {
                    if !std::mem::take(&mut open) {
                        read.push(Default::default());
                    }
                    read.last_mut().unwrap().1 = Some(offset);
                    number
                }
            };
            assert_eq!(number, read.len());
            assert!(lines.buffer.capacity() <= limit);
        }
        assert!(!open);
        read
    }

    fn text(text: &str) -> Result<String> {
        Ok(text.into())
    }

    #[test]
    fn a_long_or_invalid_line_does_not_end_the_stream() {
        let input = b"\xEF\xBB\xBFfine\r\n12345678\r123456789\n\nd\xFFll\nlast";
        let expected = [text("fine"), text("12345678"), Err((true, 9)), text(""), Err((false, 1)), text("last")];
        for buffer in [1, 2, 3, 64] {
            assert_eq!(lines(input, 8, buffer), expected);
        }
        assert_eq!(lines(b"", 8, 4), []);
        assert_eq!(lines(b"\n", 8, 4), [text("")]);
        assert_eq!(lines("é\u{20AC}".as_bytes(), 8, 1), [text("é€")]);
        assert_eq!(lines(b"caf\xC3\nx", 8, 1), [Err((false, 3)), text("x")]);
    }

    #[test]
    fn a_long_line_comes_in_chunks() {
        let cut = |input: &str| chunks(input.as_bytes(), 8, 3).into_iter().map(|line| line.0).collect::<Vec<_>>();
        assert_eq!(cut("to be or not to be\n\nthat"), [vec!["to be ", "or not ", "to be"], vec![""], vec!["that"]]);
        // After the x, which can be joined to nothing before it; never within a letter and its accents.
        assert_eq!(cut("aaaaaaxe\u{301}\u{327}\u{301}"), [["aaaaaax", "e\u{301}\u{327}\u{301}"]]);
        // A chunk of nothing but accents is cut between two.
        assert_eq!(cut(&"\u{301}".repeat(5)), [["\u{301}".repeat(4), "\u{301}".into()]]);
        assert_eq!(
            chunks(b"12345678 \xFFxxxxxxxxxxxxxx\nx", 8, 3)[..],
            [(vec!["1234567".into()], Some(9)), (vec!["x".into()], None)]
        );
    }

    #[test]
    fn the_rest_of_a_line_can_be_passed_over() {
        let mut lines = BoundedLines::new("one two three\nfour".as_bytes(), 8);
        let first = Chunk::Text { number: 1, text: "one two ", first: true, last: false };
        assert_eq!(lines.next_chunk().unwrap(), Some(first));
        assert_eq!(lines.next_line().unwrap(), Some(Line::Text { number: 1, text: "three" }));
        assert_eq!(lines.next_line().unwrap(), Some(Line::Text { number: 2, text: "four" }));
    }

    #[test]
    fn the_end_is_read_once_and_interruptions_do_not_matter() {
        /// Gives one byte, an interruption and so on, and panics if asked for more after the end.
        struct Terminal(Vec<Option<u8>>);
        impl io::Read for Terminal {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                match self.0.pop().expect("the end was read before") {
                    Some(0) => return Err(io::ErrorKind::Interrupted.into()),
                    Some(byte) => buffer[0] = byte,
                    None => return Ok(0),
                }
                Ok(1)
            }
        }
        let bytes = b"\0a\0b\0\r\0\n\0c".iter().copied().map(Some).chain([None]).rev().collect();
        let mut lines = BoundedLines::new(BufReader::new(Terminal(bytes)), 8);
        assert_eq!(lines.next_line().unwrap(), Some(Line::Text { number: 1, text: "ab" }));
        assert_eq!(lines.next_line().unwrap(), Some(Line::Text { number: 2, text: "c" }));
        assert_eq!(lines.next_line().unwrap(), None);
        assert_eq!(lines.next_chunk().unwrap(), None);
    }

    #[test]
    #[should_panic(expected = "the limit must be at least 4 bytes")]
    fn a_limit_holds_a_character() {
        BoundedLines::new(io::empty(), 3);
    }

    #[test]
    fn errors_of_the_stream_are_handed_over() {
        struct Broken;
        impl io::Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let mut lines = BoundedLines::new(BufReader::new(io::Read::chain(&b"one\ntw"[..], Broken)), 8);
        assert!(matches!(lines.next_line(), Ok(Some(Line::Text { text: "one", .. }))));
        assert!(lines.next_line().is_err() && lines.next_line().is_err());
    }

    proptest! {
        #[test]
        fn lines_are_those_of_the_whole_text(
            input in "[ab é\u{301}\r\n]{0,60}",
            limit in 4usize..20,
            buffer in 1usize..9,
        ) {
            let whole = input.replace("\r\n", "\n").replace('\r', "\n");
            let expected: Vec<Result<String>> = whole
                .lines()
                .map(|line| if line.len() <= limit { text(line) } else { Err((true, line.len() as u64)) })
                .collect();
            prop_assert_eq!(lines(input.as_bytes(), limit, buffer), expected);
        }

        #[test]
        fn chunks_make_up_the_lines(
            input in "[ab eé\u{301}\u{327}\u{1100}\u{1161}\r\n]{0,60}",
            limit in 16usize..24,
            buffer in 1usize..9,
        ) {
            let whole = input.replace("\r\n", "\n").replace('\r', "\n");
            let read = chunks(input.as_bytes(), limit, buffer);
            let joined: Vec<String> = read.iter().map(|line| line.0.concat()).collect();
            prop_assert!(whole.lines().eq(joined.iter().map(String::as_str)), "{:?}", read);
            // Cleaning the chunks is cleaning the line, unless a letter has more accents than a chunk holds.
            let rules = TextRules::default();
            for (chunks, _) in read.iter().filter(|line| !line.0.concat().contains("\u{301}\u{301}")) {
                let marks = |c: char| matches!(c, '\u{301}' | '\u{327}');
                let crowded = chunks.concat().split(|c| !marks(c)).any(|run| run.len() + 3 > limit);
                let cleaned: String = chunks.iter().map(|chunk| rules.clean(chunk)).collect();
                prop_assert!(crowded || rules.clean(&chunks.concat()) == cleaned, "{:?}", chunks);
            }
        }

        #[test]
        fn no_bytes_make_it_panic_or_lose_a_line(
            input in prop::collection::vec(prop::sample::select(b"a\n\r\xC3\xA9\xE2\x82\xAC\xFF ".to_vec()), 0..40),
            limit in 4usize..10,
            buffer in 1usize..9,
        ) {
            let ends = crate::clean::line_ends(&input);
            let open = input.last().is_some_and(|&byte| byte != b'\n' && byte != b'\r');
            prop_assert_eq!(lines(&input, limit, buffer).len(), ends + usize::from(open));
            let by_chunks = chunks(&input, limit, buffer);
            for (line, (chunks, invalid)) in lines(&input, limit, buffer).into_iter().zip(&by_chunks) {
                match line {
                    Ok(text) => prop_assert_eq!((chunks.concat(), *invalid), (text, None)),
                    Err((false, offset)) => prop_assert_eq!(*invalid, Some(offset)),
                    Err((true, bytes)) => prop_assert!(invalid.is_some() || chunks.concat().len() as u64 == bytes),
                }
            }
            prop_assert_eq!(by_chunks.len(), ends + usize::from(open));
        }
    }
}
