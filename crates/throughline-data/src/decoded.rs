//! The text of a file, decoded strictly and a chunk at a time, and its lines.

use std::borrow::Cow;
use std::io::Read;
use std::path::{Path, PathBuf};

use encoding_rs::{Decoder, DecoderResult, Encoding};

use crate::clean::{BYTE_ORDER_MARK, TextRules, line_ends};
use crate::compressed::open;
use crate::error::{Error, Result};

/// Bytes that are decoded at a time. The first of them show which encoding a file has.
const CHUNK: u64 = 1 << 16;

/// The text of a file, as it is but for a byte order mark at its beginning.
pub(crate) struct Decoded {
    path: PathBuf,
    source: Box<dyn Read>,
    encoding: &'static Encoding,
    decoder: Decoder,
    /// The first chunk, until it is decoded.
    first: Option<Vec<u8>>,
    /// Bytes of the file before those that are decoded next.
    offset: usize,
    /// Line ends before them, and whether the last is a CR, which a LF may follow.
    lines: usize,
    after_carriage_return: bool,
    ended: bool,
}

impl Decoded {
    /// Opens a file. `check` sees its first bytes.
    pub(crate) fn open(
        path: &Path,
        encoding: &'static Encoding,
        check: impl FnOnce(&[u8]) -> Result<()>,
    ) -> Result<Self> {
        Self::new(path, open(path)?, encoding, check)
    }

    /// The same for what a file holds.
    pub(crate) fn new(
        path: &Path,
        mut source: Box<dyn Read>,
        encoding: &'static Encoding,
        check: impl FnOnce(&[u8]) -> Result<()>,
    ) -> Result<Self> {
        let mut first = Vec::new();
        (&mut source).take(CHUNK).read_to_end(&mut first).map_err(Error::io(path))?;
        if first.starts_with(b"PAR1") {
            let hint = "a table of Parquet is read where its name ends in .parquet";
            return Err(Error::malformed(path, None, "text", "Parquet, which begins with PAR1", hint));
        }
        check(&first)?;
        let mark = Encoding::for_bom(&first).map_or(0, |(_, length)| length);
        first.drain(..mark);
        Ok(Self {
            path: path.into(),
            source,
            encoding,
            decoder: encoding.new_decoder_without_bom_handling(),
            first: Some(first),
            offset: mark,
            lines: 0,
            after_carriage_return: false,
            ended: false,
        })
    }

    /// Bytes of the file that were read so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.offset as u64
    }

    /// Appends the next chunk to `text`; `false` at the end of the file.
    pub(crate) fn read(&mut self, text: &mut String) -> Result<bool> {
        if self.ended {
            return Ok(false);
        }
        let bytes = match self.first.take() {
            Some(first) => first,
            None => {
                let mut bytes = Vec::new();
                (&mut self.source).take(CHUNK).read_to_end(&mut bytes).map_err(Error::io(&self.path))?;
                bytes
            }
        };
        self.ended = bytes.is_empty();
        let begin = text.len();
        let mut position = 0;
        loop {
            let rest = &bytes[position..];
            let (result, read) = self.decoder.decode_to_string_without_replacement(rest, text, self.ended);
            position += read;
            match result {
                DecoderResult::InputEmpty => break,
                DecoderResult::OutputFull => text.reserve(rest.len().max(16)),
                DecoderResult::Malformed(length, after) => {
                    let again = self.after_carriage_return && text[begin..].starts_with('\n');
                    return Err(Error::Encoding {
                        path: self.path.clone(),
                        line: 1 + self.lines + line_ends(&text.as_bytes()[begin..]) - usize::from(again),
                        offset: self.offset + position - usize::from(length) - usize::from(after),
                        encoding: self.encoding.name(),
                    });
                }
            }
        }
        let decoded = &text.as_bytes()[begin..];
        let again = self.after_carriage_return && decoded.first() == Some(&b'\n');
        self.lines += line_ends(decoded) - usize::from(again);
        self.after_carriage_return = decoded.last().map_or(self.after_carriage_return, |&byte| byte == b'\r');
        self.offset += bytes.len();
        Ok(!self.ended)
    }
}

/// The cleaned lines of a file. The file is never in memory as a whole, but a line is.
pub(crate) struct Lines {
    decoded: Decoded,
    rules: TextRules,
    /// The longest line, in bytes.
    longest: u64,
    /// Text without byte order marks. The first `taken` bytes were returned.
    buffer: String,
    taken: usize,
    /// Of the text after them, so many bytes have no line end.
    searched: usize,
    number: usize,
}

impl Lines {
    pub(crate) fn new(decoded: Decoded, rules: TextRules, longest: u64) -> Self {
        Self { decoded, rules, longest, buffer: String::new(), taken: 0, searched: 0, number: 0 }
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.decoded.path
    }

    /// The number of the line that was read last, from 1; 0 before the first.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// The longest line, in bytes.
    pub(crate) fn longest(&self) -> u64 {
        self.longest
    }

    /// The number and the text of the next line, without its end; `None` at the end of the file.
    pub(crate) fn next(&mut self) -> Result<Option<(usize, Cow<'_, str>)>> {
        let (length, end) = loop {
            if let Some(found) = self.find_end() {
                break found;
            }
            self.searched = self.buffer.len() - self.taken;
            if self.searched as u64 > self.longest {
                let expected = format!("a line of at most {} bytes, the limit of memory", self.longest);
                let hint = "use a file that has line ends; a program can raise the limit: `TextReader::max_bytes`";
                return Err(Error::malformed(self.path(), Some(self.number + 1), expected, "a longer one", hint));
            }
            if !self.read()? {
                let rest = self.buffer.len() - self.taken;
                if rest == 0 {
                    return Ok(None);
                }
                break if self.buffer.ends_with('\r') { (rest - 1, 1) } else { (rest, 0) };
            }
        };
        let begin = self.taken;
        self.taken += length + end;
        self.searched = 0;
        self.number += 1;
        Ok(Some((self.number, self.rules.clean(&self.buffer[begin..begin + length]))))
    }

    /// The length of the next line and of its end, if that is certain already.
    fn find_end(&self) -> Option<(usize, usize)> {
        let rest = &self.buffer.as_bytes()[self.taken..];
        let place = self.searched.saturating_sub(1);
        let length = place + rest[place..].iter().position(|&byte| byte == b'\n' || byte == b'\r')?;
        match (rest[length], rest.get(length + 1)) {
            (b'\n', _) => Some((length, 1)),
            (_, Some(b'\n')) => Some((length, 2)),
            (_, Some(_)) => Some((length, 1)),
            // What comes next may belong to it.
            (_, None) => None,
        }
    }

    /// Reads on; `false` at the end of the file.
    fn read(&mut self) -> Result<bool> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let begin = self.buffer.len();
        let more = self.decoded.read(&mut self.buffer)?;
        if self.buffer[begin..].contains(BYTE_ORDER_MARK) {
            let cleaned = self.buffer[begin..].replace(BYTE_ORDER_MARK, "");
            self.buffer.truncate(begin);
            self.buffer += &cleaned;
        }
        Ok(more)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::Folder;
    use crate::text::TextReader;

    fn lines(content: &[u8], longest: u64) -> Result<Vec<(usize, String)>> {
        let folder = Folder::new(&[("a", content)]);
        let mut lines = TextReader::default().max_bytes(longest).lines(&folder.join("a"))?;
        let mut read = Vec::new();
        while let Some((number, line)) = lines.next()? {
            read.push((number, line.into_owned()));
        }
        Ok(read)
    }

    /// The same of the whole text.
    fn oracle(content: &str) -> Vec<(usize, String)> {
        (1..).zip(TextRules::default().clean(content).lines().map(str::to_owned)).collect()
    }

    #[test]
    fn lines_are_those_of_the_whole_text_whatever_the_chunks() {
        // Line ends, marks and letters of several bytes lie on the border of the chunks.
        for end in ["\r\n", "\r", "\n", "\u{FEFF}\r\n", "\r\u{FEFF}\n", "é", "e\u{301}\n"] {
            for length in CHUNK as usize - 5..CHUNK as usize + 3 {
                let content = format!("{}{end}\nnext{end}{end}last", "x".repeat(length));
                assert_eq!(lines(content.as_bytes(), 1 << 20).unwrap(), oracle(&content), "{end:?} {length}");
            }
        }
    }

    #[test]
    fn errors_name_line_and_offset_in_a_later_chunk() {
        for length in CHUNK as usize - 4..CHUNK as usize + 2 {
            let content = [&vec![b'x'; length][..], b"\r\n\r\nab\xFF"].concat();
            let error = lines(&content, 1 << 20).unwrap_err();
            assert!(matches!(error, Error::Encoding { line: 3, offset, .. } if offset == length + 6), "{error}");
        }
    }

    #[test]
    fn a_line_that_never_ends_is_not_kept() {
        let content = format!("short\n{}", "x".repeat(3 * CHUNK as usize));
        let error = lines(content.as_bytes(), 1000).unwrap_err().to_string();
        assert!(error.contains("a:2: expected a line of at most 1000 bytes"), "{error}");
    }

    proptest! {
        #[test]
        fn lines_are_those_of_the_whole_text(content in "[ab\r\n\u{FEFF}é\u{301}]{0,20}") {
            prop_assert_eq!(lines(content.as_bytes(), 1 << 20).unwrap(), oracle(&content));
        }
    }
}
