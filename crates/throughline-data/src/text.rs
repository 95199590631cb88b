//! Text from files and folders, decoded strictly: a byte that means nothing in the wanted encoding is never replaced.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use encoding_rs::{DecoderResult, Encoding, REPLACEMENT, UTF_8, UTF_16BE, UTF_16LE};

use crate::error::{Error, Result, quoted};

/// Reads text files of one encoding, up to a size limit.
///
/// A byte order mark of the wanted encoding is dropped, one of another encoding is an error. Line ends stay as they
/// are.
#[derive(Clone, Copy, Debug)]
pub struct TextReader {
    encoding: &'static Encoding,
    max_bytes: u64,
}

impl Default for TextReader {
    /// UTF-8, at most [`TextReader::DEFAULT_MAX_BYTES`].
    fn default() -> Self {
        Self { encoding: UTF_8, max_bytes: Self::DEFAULT_MAX_BYTES }
    }
}

/// What a folder or a file held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Texts {
    /// The texts in the order of their paths. Some, but not all, may be empty.
    pub documents: Vec<Document>,
    /// What was found in a folder and not read: binary files, files that are not valid text of the wanted encoding,
    /// links that lead nowhere or to something read already. Hidden entries are not listed.
    pub skipped: Vec<PathBuf>,
}

/// One text file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Where it was read.
    pub path: PathBuf,
    /// Its whole text, line ends as they are.
    pub text: String,
}

impl TextReader {
    /// 1 GiB.
    pub const DEFAULT_MAX_BYTES: u64 = 1 << 30;

    /// The same reader for files of another encoding, named by a label of the WHATWG Encoding Standard such as `utf-8`,
    /// `windows-1252`, `shift_jis` or `utf-16le`. In that standard `latin1` and `iso-8859-1` mean `windows-1252`, in
    /// which every byte is valid.
    ///
    /// # Errors
    /// [`Error::Setting`] when the standard has no such label.
    pub fn encoding(self, label: &str) -> Result<Self> {
        match Encoding::for_label(label.as_bytes()) {
            Some(encoding) if encoding != REPLACEMENT => Ok(Self { encoding, ..self }),
            _ => {
                let expected = "the label of an encoding, such as `utf-8`, `windows-1252`, `shift_jis` or `utf-16le`";
                Err(Error::setting("encoding", expected, quoted(label)))
            }
        }
    }

    /// The same reader with another limit, in bytes, on all that one call may read.
    pub fn max_bytes(self, max_bytes: u64) -> Self {
        Self { max_bytes, ..self }
    }

    /// The most bytes that one call may read.
    pub(crate) fn limit(&self) -> u64 {
        self.max_bytes
    }

    /// The text of one file.
    ///
    /// # Errors
    /// [`Error::Encoding`] with line and byte offset when the file is not valid text of the wanted encoding,
    /// [`Error::TooLarge`], [`Error::Empty`] and [`Error::Io`].
    pub fn read_file(&self, path: impl AsRef<Path>) -> Result<String> {
        let path = path.as_ref();
        let text = self.load(path, &mut self.max_bytes.clone())?;
        if text.is_empty() { Err(empty(path)) } else { Ok(text) }
    }

    /// The text of a file, or of all text files in a folder and its subfolders, in the order of their paths.
    ///
    /// A file named directly must be valid. In a folder, hidden entries and folders named `target` are passed over, and
    /// what is not text is left out and listed in [`Texts::skipped`]: binary files (a NUL among the first 8 KiB), files
    /// not valid in the wanted encoding, special files. Links are followed; what they reach is read once.
    ///
    /// # Errors
    /// As [`read_file`](Self::read_file); [`Error::Empty`] when a folder holds no text at all.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Texts> {
        let path = path.as_ref();
        if !path.is_dir() {
            let text = self.read_file(path)?;
            return Ok(Texts { documents: vec![Document { path: path.into(), text }], skipped: Vec::new() });
        }
        let texts = self.load_folder(path, &mut self.max_bytes.clone())?;
        if texts.documents.iter().all(|document| document.text.is_empty()) { Err(empty(path)) } else { Ok(texts) }
    }

    /// The text of a file, which may be empty. Its size is taken from `budget`.
    pub(crate) fn load(&self, path: &Path, budget: &mut u64) -> Result<String> {
        let file = File::open(path).map_err(Error::io(path))?;
        let mut bytes = Vec::new();
        file.take(budget.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::io(path))?;
        *budget = budget
            .checked_sub(bytes.len() as u64)
            .ok_or_else(|| Error::TooLarge { path: path.into(), limit: *budget })?;
        self.decode(bytes, path)
    }

    /// The texts below a folder, some or all of which may be empty.
    pub(crate) fn load_folder(&self, folder: &Path, budget: &mut u64) -> Result<Texts> {
        let (files, mut skipped) = files_below(folder)?;
        let mut documents = Vec::new();
        for path in files {
            if self.looks_binary(&path)? {
                skipped.push(path);
                continue;
            }
            match self.load(&path, budget) {
                Ok(text) => documents.push(Document { path, text }),
                Err(Error::Encoding { .. } | Error::Malformed { .. }) => skipped.push(path),
                Err(error) => return Err(error),
            }
        }
        skipped.sort();
        Ok(Texts { documents, skipped })
    }

    fn looks_binary(&self, path: &Path) -> Result<bool> {
        if [UTF_16LE, UTF_16BE].contains(&self.encoding) {
            return Ok(false);
        }
        let mut beginning = Vec::new();
        let file = File::open(path).map_err(Error::io(path))?;
        file.take(8 << 10).read_to_end(&mut beginning).map_err(Error::io(path))?;
        Ok(beginning.contains(&0))
    }

    fn decode(&self, mut bytes: Vec<u8>, path: &Path) -> Result<String> {
        let mark = match Encoding::for_bom(&bytes) {
            Some((marked, length)) if marked == self.encoding => length,
            Some((marked, _)) => {
                let found = format!("the byte order mark of {}", marked.name());
                let hint = format!("name the encoding `{}`", marked.name().to_lowercase());
                return Err(Error::malformed(path, Some(1), format!("{} text", self.encoding.name()), found, hint));
            }
            None => 0,
        };
        let invalid = |prefix: &[u8], offset: usize| Error::Encoding {
            path: path.into(),
            line: 1 + prefix.iter().filter(|&&byte| byte == b'\n').count(),
            offset,
            encoding: self.encoding.name(),
        };
        if self.encoding == UTF_8 {
            bytes.drain(..mark);
            return String::from_utf8(bytes).map_err(|error| {
                let offset = error.utf8_error().valid_up_to();
                invalid(&error.as_bytes()[..offset], mark + offset)
            });
        }
        let mut decoder = self.encoding.new_decoder_without_bom_handling();
        let (mut text, mut position) = (String::new(), mark);
        loop {
            let rest = &bytes[position..];
            let (result, read) = decoder.decode_to_string_without_replacement(rest, &mut text, true);
            position += read;
            match result {
                DecoderResult::InputEmpty => return Ok(text),
                DecoderResult::OutputFull => text.reserve(rest.len().max(16)),
                DecoderResult::Malformed(length, after) => {
                    return Err(invalid(text.as_bytes(), position - usize::from(length) - usize::from(after)));
                }
            }
        }
    }
}

impl Texts {
    /// All documents one after another, with nothing between them.
    pub fn concatenated(mut self) -> String {
        match self.documents.as_mut_slice() {
            [only] => std::mem::take(&mut only.text),
            several => several.iter().map(|document| document.text.as_str()).collect(),
        }
    }
}

fn empty(path: &Path) -> Error {
    Error::Empty { path: path.into(), expected: "text", hint: "name a file or folder that holds some" }
}

/// The entries of one folder that are not hidden, in the order of their names.
pub(crate) fn visible_entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            entries.push(entry.path());
        }
    }
    entries.sort();
    Ok(entries)
}

/// The regular files below `folder` in the order of their paths, and what was skipped.
fn files_below(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let (mut files, mut skipped) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    let mut pending = vec![folder.to_path_buf()];
    while let Some(path) = pending.pop() {
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(_) if path.is_symlink() => {
                skipped.push(path);
                continue;
            }
            Err(source) => return Err(Error::Io { path, source }),
        };
        // The identity of a file is where its links end: a loop of links comes back to a folder already seen.
        if !seen.insert(real) {
            skipped.push(path);
        } else if path.is_dir() {
            let entries = visible_entries(&path)?;
            let wanted = entries.into_iter().filter(|entry| !(entry.ends_with("target") && entry.is_dir()));
            // The last pushed is the first popped.
            pending.extend(wanted.rev());
        } else if path.is_file() {
            files.push(path);
        } else {
            skipped.push(path);
        }
    }
    Ok((files, skipped))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    #[test]
    fn a_named_file_keeps_its_line_ends_and_loses_its_mark() {
        let folder = Folder::new(&[("a.txt", b"\xEF\xBB\xBFone\r\ntwo\n")]);
        assert_eq!(TextReader::default().read_file(folder.join("a.txt")).unwrap(), "one\r\ntwo\n");
    }

    #[test]
    fn invalid_bytes_are_named_by_line_and_offset() {
        let folder = Folder::new(&[("a.txt", b"\xEF\xBB\xBFone\ntw\xFF\xFFo\n"), ("b.txt", b"one\n\x81\x20")]);
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
        ]);
        let texts = TextReader::default().read(folder.path()).unwrap();
        let names: Vec<_> = texts.documents.iter().map(|d| (d.path.clone(), d.text.as_str())).collect();
        let (nothing, z, b) = (folder.join("a/nothing.txt"), folder.join("a/z.txt"), folder.join("b.txt"));
        assert_eq!(names, [(nothing, ""), (z, "z"), (b, "b")]);
        assert_eq!(texts.skipped, [folder.join("a/latin.txt"), folder.join("a/picture.bin")]);
        assert_eq!(texts.concatenated(), "zb");
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
        assert_eq!(texts.skipped, [folder.join("a/dangling"), folder.join("a/loop"), folder.join("itself")]);
    }

    #[test]
    fn nothing_to_read_is_an_error() {
        let folder = Folder::new(&[("empty.txt", b""), ("folder/.hidden", b"x"), ("hollow/empty.txt", b"")]);
        let reader = TextReader::default();
        for name in ["empty.txt", "folder", "hollow"] {
            assert!(matches!(reader.read(folder.join(name)), Err(Error::Empty { .. })), "{name}");
        }
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
