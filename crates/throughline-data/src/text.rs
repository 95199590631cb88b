//! Text from files and folders, decoded strictly: invalid bytes are errors and never replaced.

use std::path::{Path, PathBuf};

use encoding_rs::{Encoding, REPLACEMENT, UTF_8, UTF_16BE, UTF_16LE};

use crate::clean::TextRules;
use crate::compressed::beginning;
use crate::decoded::{Decoded, Lines};
use crate::error::{Error, Result, quoted};
use crate::folder::{SkipReason, Skipped, files_below, skipped_list};

/// Reads text files of one encoding, up to a size limit.
///
/// A file may be compressed with gzip or zstd, which is told by its first bytes; its name is then read without a `.gz` or
/// `.zst` at its end. The size limit counts the bytes of what is kept in memory.
///
/// A byte order mark of another encoding is an error, and so is a file that is evidently UTF-16 if that was not asked
/// for. All texts are [cleaned](TextRules::clean).
#[derive(Clone, Copy, Debug)]
pub struct TextReader {
    encoding: &'static Encoding,
    max_bytes: u64,
    rules: TextRules,
}

impl Default for TextReader {
    /// UTF-8, at most [`TextReader::DEFAULT_MAX_BYTES`], the default [`TextRules`].
    fn default() -> Self {
        Self { encoding: UTF_8, max_bytes: Self::DEFAULT_MAX_BYTES, rules: TextRules::default() }
    }
}

/// The texts of a file or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts {
    /// The texts in the order of their paths. None is empty.
    pub documents: Vec<Document>,
    /// What was found in a folder but not read, in the order of the paths.
    pub skipped: Vec<Skipped>,
}

/// One text file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The file.
    pub path: PathBuf,
    /// Its text, cleaned.
    pub text: String,
}

impl TextReader {
    /// 1 GiB.
    pub const DEFAULT_MAX_BYTES: u64 = 1 << 30;

    /// Sets the encoding by a label of the WHATWG Encoding Standard, such as `utf-8`, `windows-1252`, `shift_jis` or
    /// `utf-16le`. In that standard `latin1` and `iso-8859-1` mean `windows-1252`, in which every byte is valid.
    ///
    /// # Errors
    /// [`Error::Setting`] if the standard has no such label.
    pub fn encoding(self, label: &str) -> Result<Self> {
        match Encoding::for_label(label.as_bytes()) {
            Some(encoding) if encoding != REPLACEMENT => Ok(Self { encoding, ..self }),
            _ => {
                let expected = "the label of an encoding, such as `utf-8`, `windows-1252`, `shift_jis` or `utf-16le`";
                Err(Error::setting("encoding", expected, quoted(label)))
            }
        }
    }

    /// Sets the limit, in bytes, on what is kept in memory of all files of one call together.
    pub fn max_bytes(self, max_bytes: u64) -> Self {
        Self { max_bytes, ..self }
    }

    /// Sets the rules for cleaning texts.
    pub fn with_rules(self, rules: TextRules) -> Self {
        Self { rules, ..self }
    }

    /// The rules for cleaning texts.
    pub fn rules(&self) -> TextRules {
        self.rules
    }

    /// The limit, in bytes, on what is kept of all files of one call together.
    pub(crate) fn limit(&self) -> u64 {
        self.max_bytes
    }

    /// The text of one file.
    ///
    /// # Errors
    /// [`Error::Encoding`], with line and byte offset, if the file is not valid in the encoding, [`Error::Malformed`]
    /// if it is evidently in another encoding, [`Error::TooLarge`], [`Error::Empty`] and [`Error::Io`].
    pub fn read_file(&self, path: impl AsRef<Path>) -> Result<String> {
        let path = path.as_ref();
        let text = self.load(path, &mut self.max_bytes.clone())?;
        if text.is_empty() { Err(empty(path, &[])) } else { Ok(text) }
    }

    /// The text of a file, or of all text files in a folder and its subfolders, in the order of their paths.
    ///
    /// A file that is named directly must be valid. In a folder, what is not text is skipped and listed in
    /// [`Texts::skipped`] with the reason: binary files (a NUL in the first 8 KiB), files that are not valid in the
    /// encoding, empty and special files, hidden entries, folders of build output (`target`, `node_modules`,
    /// `__pycache__`). Links are followed, but nothing is read twice.
    ///
    /// # Errors
    /// As [`read_file`](Self::read_file); [`Error::Empty`] if a folder has no text at all.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Texts> {
        let path = path.as_ref();
        if !path.is_dir() {
            let text = self.read_file(path)?;
            return Ok(Texts { documents: vec![Document { path: path.into(), text }], skipped: Vec::new() });
        }
        let texts = self.load_folder(path, &mut self.max_bytes.clone())?;
        if texts.documents.is_empty() { Err(empty(path, &texts.skipped)) } else { Ok(texts) }
    }

    /// The text of a file, which may be empty. Its size is subtracted from `budget`.
    pub(crate) fn load(&self, path: &Path, budget: &mut u64) -> Result<String> {
        Ok(self.rules.clean_owned(self.load_unchanged(path, budget)?))
    }

    /// The text of a file, not cleaned, without a byte order mark at its beginning.
    pub(crate) fn load_unchanged(&self, path: &Path, budget: &mut u64) -> Result<String> {
        let mut decoded = self.open(path)?;
        let mut text = String::new();
        while decoded.read(&mut text)? {
            if decoded.bytes() > *budget {
                break;
            }
        }
        take(budget, decoded.bytes(), path)?;
        Ok(text)
    }

    /// The cleaned lines of a file, of which none is longer than the limit.
    pub(crate) fn lines(&self, path: &Path) -> Result<Lines> {
        Ok(Lines::new(self.open(path)?, self.rules, self.max_bytes))
    }

    /// The lines of a text as if it were in a file.
    #[cfg(test)]
    pub(crate) fn lines_of(&self, path: &Path, text: String) -> Result<Lines> {
        let source = Box::new(std::io::Cursor::new(text));
        Ok(Lines::new(Decoded::new(path, source, self.encoding, |_| Ok(()))?, self.rules, self.max_bytes))
    }

    fn open(&self, path: &Path) -> Result<Decoded> {
        Decoded::open(path, self.encoding, |beginning| match self.other_encoding(beginning) {
            None => Ok(()),
            Some((other, sign)) => {
                let found = format!("{sign} {}", other.name());
                let hint = format!("set data.encoding to `{}`, or save the file as UTF-8", other.name().to_lowercase());
                Err(Error::malformed(path, Some(1), format!("{} text", self.encoding.name()), found, hint))
            }
        })
    }

    /// The texts below a folder, of which there may be none.
    pub(crate) fn load_folder(&self, folder: &Path, budget: &mut u64) -> Result<Texts> {
        let (files, mut skipped) = files_below(folder)?;
        let mut documents = Vec::new();
        for path in files {
            let reason = match self.unfit(&path)? {
                Some(reason) => reason,
                None => match self.load(&path, budget) {
                    Ok(text) if text.is_empty() => SkipReason::Empty,
                    Ok(text) => {
                        documents.push(Document { path, text });
                        continue;
                    }
                    Err(Error::Encoding { line, encoding, .. }) => SkipReason::Invalid { encoding, line },
                    Err(error) => return Err(error),
                },
            };
            skipped.push(Skipped { path, reason });
        }
        skipped.sort();
        Ok(Texts { documents, skipped })
    }

    /// Why a file is not read, judging by its first 8 KiB.
    fn unfit(&self, path: &Path) -> Result<Option<SkipReason>> {
        let beginning = beginning(path, 8 << 10)?;
        let binary = !self.is_utf_16() && beginning.contains(&0);
        Ok(match self.other_encoding(&beginning) {
            Some((other, _)) => Some(SkipReason::OtherEncoding(other.name())),
            None => binary.then_some(SkipReason::Binary),
        })
    }

    fn is_utf_16(&self) -> bool {
        [UTF_16LE, UTF_16BE].contains(&self.encoding)
    }

    /// The encoding that `bytes` evidently have if it is another one, and the evidence.
    fn other_encoding(&self, bytes: &[u8]) -> Option<(&'static Encoding, &'static str)> {
        match Encoding::for_bom(bytes) {
            Some((marked, _)) => (marked != self.encoding).then_some((marked, "the byte order mark of")),
            None if self.is_utf_16() => None,
            None => unmarked_utf_16(bytes).map(|encoding| (encoding, "a NUL in every second byte, as in")),
        }
    }
}

/// Takes `bytes` from what may still be kept in memory.
pub(crate) fn take(budget: &mut u64, bytes: u64, path: &Path) -> Result<()> {
    let left = budget.checked_sub(bytes);
    *budget = left.ok_or_else(|| Error::TooLarge { path: path.into(), limit: *budget })?;
    Ok(())
}

/// The encoding of text that looks like UTF-16 without a byte order mark in its first 4 KiB: nearly all NULs are in the
/// upper bytes, and are most of these (ASCII text), or at least every sixteenth (the spaces and line ends of another
/// alphabet).
fn unmarked_utf_16(bytes: &[u8]) -> Option<&'static Encoding> {
    let sample = &bytes[..bytes.len().min(4 << 10)];
    let nuls_from = |first: usize| sample.iter().skip(first).step_by(2).filter(|&&byte| byte == 0).count();
    let (even, odd) = (nuls_from(0), nuls_from(1));
    let (upper, lower, encoding) = if odd > even { (odd, even, UTF_16LE) } else { (even, odd, UTF_16BE) };
    let units = sample.len() / 2;
    let many = upper >= 2 && upper > units / 2 || upper >= 8 && upper >= units / 16;
    (many && lower <= upper / 16).then_some(encoding)
}

impl Texts {
    /// All documents as one text: see [`join_texts`].
    pub fn concatenated(self) -> String {
        join_texts(self.documents.into_iter().map(|document| document.text))
    }
}

/// Concatenates texts, with a line feed after each that does not end in one, except the last, so that no word runs into
/// the next text. Empty texts are left out.
pub fn join_texts(texts: impl IntoIterator<Item = impl Into<String>>) -> String {
    let mut texts = texts.into_iter().map(Into::into).filter(|text| !text.is_empty());
    let mut joined: String = texts.next().unwrap_or_default();
    for text in texts {
        if !joined.ends_with('\n') {
            joined.push('\n');
        }
        joined += &text;
    }
    joined
}

fn empty(path: &Path, skipped: &[Skipped]) -> Error {
    let skipped = if skipped.is_empty() { String::new() } else { format!(" (skipped: {})", skipped_list(skipped)) };
    let hint = format!("name a file or folder that has some{skipped}");
    Error::Empty { path: path.into(), expected: "text".into(), hint }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    #[test]
    fn a_text_is_cleaned() {
        let content = "\u{FEFF}one\r\ntwo\rcafe\u{301}\n\u{FEFF}end";
        let folder = Folder::new(&[("a.txt", content.as_bytes())]);
        let read = |reader: TextReader| reader.read_file(folder.join("a.txt")).unwrap();
        assert_eq!(read(TextReader::default()), "one\ntwo\ncaf\u{E9}\nend");
        assert_eq!(read(TextReader::default().with_rules(TextRules { nfc: false })), "one\ntwo\ncafe\u{301}\nend");
    }

    #[test]
    fn utf_16_without_a_mark_is_told_from_text() {
        let little = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
        let big = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
        let russian = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива. ".repeat(3);
        let cases = [
            (little("hi"), "utf-16le"),
            (big("It was the best of times,\r\n"), "utf-16be"),
            (little("café Ā Ā noir, crème brûlée and a good deal of other food\n"), "utf-16le"),
            (little(&russian), "utf-16le"),
            (big(&russian), "utf-16be"),
        ];
        for (bytes, encoding) in cases {
            let folder = Folder::new(&[("wide.txt", &bytes), ("plain.txt", b"plain")]);
            for reader in [TextReader::default(), TextReader::default().encoding("latin1").unwrap()] {
                let error = reader.read_file(folder.join("wide.txt")).unwrap_err().to_string();
                assert!(error.contains(&format!("set data.encoding to `{encoding}`")), "{error}");
                let texts = reader.read(folder.path()).unwrap();
                let reason = SkipReason::OtherEncoding(if encoding == "utf-16le" { "UTF-16LE" } else { "UTF-16BE" });
                assert_eq!(texts.skipped, [folder.skipped("wide.txt", reason)]);
            }
            let reader = TextReader::default().encoding(encoding).unwrap();
            assert!(reader.read_file(folder.join("wide.txt")).is_ok());
        }
        for plain in ["a\0", "one\0two\0three\0", "file\0", "no NUL at all", ""] {
            assert_eq!(unmarked_utf_16(plain.as_bytes()), None, "{plain:?}");
        }
        let folder = Folder::new(&[("a.txt", b"one\0two\0three\n")]);
        assert_eq!(TextReader::default().read_file(folder.join("a.txt")).unwrap(), "one\0two\0three\n");
    }

    #[test]
    fn texts_are_joined_between_their_words() {
        assert_eq!(join_texts(["one", "two\n", "three\n", "", "four"]), "one\ntwo\nthree\nfour");
        assert_eq!(join_texts(["", "", "one", ""]), "one");
        assert_eq!(join_texts([""; 0]), "");
    }

    #[test]
    fn invalid_bytes_are_named_by_line_and_offset() {
        let folder = Folder::new(&[("a.txt", b"\xEF\xBB\xBFone\rtw\xFF\xFFo\r\n"), ("b.txt", b"one\r\x81\x20")]);
        let error = TextReader::default().read_file(folder.join("a.txt")).unwrap_err();
        assert!(matches!(error, Error::Encoding { line: 2, offset: 9, encoding: "UTF-8", .. }), "{error}");
        let reader = TextReader::default().encoding("shift_jis").unwrap();
        let error = reader.read_file(folder.join("b.txt")).unwrap_err();
        assert!(matches!(error, Error::Encoding { line: 2, offset: 4, encoding: "Shift_JIS", .. }), "{error}");
    }

    #[test]
    fn other_encodings_are_decoded() {
        let utf_16: Vec<u8> = [0xFEFFu16].into_iter().chain("né\n".encode_utf16()).flat_map(u16::to_le_bytes).collect();
        let folder = Folder::new(&[("latin.txt", b"caf\xE9"), ("wide.txt", &utf_16), ("odd.txt", &utf_16[..5])]);
        let read = |label, name| TextReader::default().encoding(label)?.read_file(folder.join(name));
        assert_eq!(read("latin1", "latin.txt").unwrap(), "café");
        assert_eq!(read("utf-16le", "wide.txt").unwrap(), "né\n");
        assert!(matches!(read("utf-16le", "odd.txt"), Err(Error::Encoding { offset: 4, .. })));
        let error = read("utf-8", "wide.txt").unwrap_err().to_string();
        assert!(error.contains("byte order mark of UTF-16LE"), "{error}");
        for label in ["klingon", "replacement", ""] {
            assert!(matches!(read(label, "wide.txt"), Err(Error::Setting { key: "encoding", .. })), "{label}");
        }
    }

    #[test]
    fn a_folder_gives_its_text_files_in_order() {
        let folder = Folder::new(&[
            ("b.txt", b"b"),
            ("a/z.txt", b"z"),
            ("a/nothing.txt", b""),
            ("a/picture.bin", b"\x00\x01"),
            ("a/latin.txt", b"caf\xE9"),
            (".hidden/x.txt", b"x"),
            (".git", b"x"),
            ("target/x.txt", b"x"),
            ("a/target/x.txt", b"x"),
            ("c.TXT", b"c"),
        ]);
        let texts = TextReader::default().read(folder.path()).unwrap();
        let names: Vec<_> = texts.documents.iter().map(|d| (d.path.clone(), d.text.as_str())).collect();
        let (z, b, c) = (folder.join("a/z.txt"), folder.join("b.txt"), folder.join("c.TXT"));
        assert_eq!(names, [(z, "z"), (b, "b"), (c, "c")]);
        let skipped = [
            (".git", SkipReason::Hidden),
            (".hidden", SkipReason::Hidden),
            ("a/latin.txt", SkipReason::Invalid { encoding: "UTF-8", line: 1 }),
            ("a/nothing.txt", SkipReason::Empty),
            ("a/picture.bin", SkipReason::Binary),
            ("a/target", SkipReason::BuildFolder),
            ("target", SkipReason::BuildFolder),
        ];
        assert_eq!(texts.skipped, skipped.map(|(name, reason)| folder.skipped(name, reason)));
        assert!(texts.skipped[2].to_string().ends_with("a/latin.txt: not valid UTF-8, line 1"));
        assert_eq!(texts.concatenated(), "z\nb\nc");
    }

    #[cfg(unix)]
    #[test]
    fn loops_of_links_end() {
        use std::os::unix::fs::symlink;
        let folder = Folder::new(&[("a/x.txt", b"x")]);
        symlink(folder.path(), folder.join("a/loop")).unwrap();
        symlink(folder.join("nowhere"), folder.join("a/dangling")).unwrap();
        symlink(folder.join("itself"), folder.join("itself")).unwrap();
        let texts = TextReader::default().read(folder.path()).unwrap();
        assert_eq!(texts.documents.len(), 1);
        let dangling = |name| folder.skipped(name, SkipReason::DanglingLink);
        let read_already = folder.skipped("a/loop", SkipReason::AlreadyRead);
        assert_eq!(texts.skipped, [dangling("a/dangling"), read_already, dangling("itself")]);
    }

    #[test]
    fn nothing_to_read_is_an_error() {
        let folder = Folder::new(&[("empty.txt", b""), ("folder/.hidden", b"x"), ("hollow/empty.txt", b"")]);
        let reader = TextReader::default();
        for name in ["empty.txt", "folder", "hollow"] {
            assert!(matches!(reader.read(folder.join(name)), Err(Error::Empty { .. })), "{name}");
        }
        let error = reader.read(folder.join("folder")).unwrap_err().to_string();
        assert!(error.contains("(skipped: ") && error.contains(".hidden: hidden)"), "{error}");
        let error = reader.read(folder.join("missing.txt")).unwrap_err();
        assert!(matches!(&error, Error::Io { path, .. } if path.ends_with("missing.txt")), "{error}");
    }

    #[test]
    fn the_size_limit_holds_for_all_files_together() {
        let folder = Folder::new(&[("a.txt", b"12345"), ("b.txt", b"12345")]);
        assert!(TextReader::default().max_bytes(10).read(folder.path()).is_ok());
        let error = TextReader::default().max_bytes(9).read(folder.path()).unwrap_err();
        assert!(matches!(&error, Error::TooLarge { path, limit: 4 } if path.ends_with("b.txt")), "{error}");
        assert!(TextReader::default().max_bytes(u64::MAX).read(folder.path()).is_ok());
    }
}
