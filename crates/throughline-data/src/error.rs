//! The error of this crate: where, what was expected, what was found, and what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::compressed::Damaged;
use crate::printable::Shown;

/// Input that cannot be used.
///
/// Messages read `path:line: expected ..., found ...; what to do`. Wrong use by a programmer is a panic instead; each
/// function documents its panics.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder cannot be read.
    #[error("{}: cannot be read: {source}", Shown(.path))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The reason the system gave.
        source: io::Error,
    },
    /// Bytes that are invalid in the given encoding.
    #[error(
        "{}:{line}: expected {encoding} text, found invalid bytes at byte offset {offset}; \
         set data.encoding to the file's encoding (for example `windows-1252`), or repair the file",
        Shown(.path)
    )]
    Encoding {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The offset of the first invalid byte in the file, from 0.
        offset: usize,
        /// The name of the encoding.
        encoding: &'static str,
    },
    /// More bytes to be kept in memory than the limit allows.
    #[error(
        "{}: expected at most {limit} more bytes to keep in memory, found more; use less data (a program can raise the \
         limit: `TextReader::max_bytes`)",
        Shown(.path)
    )]
    TooLarge {
        /// The file that exceeds the limit.
        path: PathBuf,
        /// How many bytes were left of the limit.
        limit: u64,
    },
    /// A file or folder without what was expected in it.
    #[error("{}: expected {expected}, found nothing; {hint}", Shown(.path))]
    Empty {
        /// The file or folder.
        path: PathBuf,
        /// What it should have.
        expected: String,
        /// What to do.
        hint: String,
    },
    /// A file or folder of the wrong form.
    #[error("{}: expected {expected}, found {found}; {hint}", Place(.path, *.line))]
    Malformed {
        /// The file or folder.
        path: PathBuf,
        /// The line, from 1, if the error has one.
        line: Option<usize>,
        /// What it should have.
        expected: String,
        /// What it has.
        found: String,
        /// What to do.
        hint: String,
    },
    /// A label that is not among the given ones.
    #[error(
        "{}:{line}: expected one of the labels {known}, found {label}; correct the label, or train a model with it",
        Shown(.path)
    )]
    UnknownLabel {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The label, quoted.
        label: String,
        /// The given labels, quoted.
        known: String,
    },
    /// A setting out of its range, or settings that exclude each other.
    #[error("{key}: expected {expected}, found {found}")]
    Setting {
        /// The setting.
        key: &'static str,
        /// Its range.
        expected: String,
        /// Its value, quoted if it is text.
        found: String,
    },
    /// Valid data, but too little of it.
    #[error("{what}: expected at least {needed}, found {found}; {hint}")]
    TooFew {
        /// Of what there is too little.
        what: &'static str,
        /// How many are needed.
        needed: usize,
        /// How many there are.
        found: usize,
        /// What to do.
        hint: &'static str,
    },
}

/// The result of reading or preparing data.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The error for a file at `path` that cannot be read, or whose compressed data are damaged.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| match source.get_ref().and_then(|cause| cause.downcast_ref::<Damaged>()) {
            Some(damaged) => {
                let hint = "fetch the file again, or compress it anew";
                Self::malformed(path, None, damaged.expected(), &damaged.found, hint)
            }
            None => Self::Io { path: path.into(), source },
        }
    }

    pub(crate) fn malformed(
        path: &Path,
        line: Option<usize>,
        expected: impl Into<String>,
        found: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::Malformed { path: path.into(), line, expected: expected.into(), found: found.into(), hint: hint.into() }
    }

    pub(crate) fn setting(key: &'static str, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Setting { key, expected: expected.into(), found: found.into() }
    }
}

/// `path:line`, or `path` without a line.
struct Place<'a>(&'a Path, Option<usize>);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Shown(self.0))?;
        self.1.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

/// `text` quoted, with control characters escaped, and cut to 100 characters.
pub(crate) fn quoted(text: &str) -> String {
    const LONGEST: usize = 100;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// The names, quoted and separated by commas; of many, the first 20 and how many more there are.
pub(crate) fn quoted_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 20;
    let mut names = names.into_iter();
    let shown: Vec<String> = names.by_ref().take(MOST).map(quoted).collect();
    match names.count() {
        0 if shown.is_empty() => "none".into(),
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_says_where_what_and_what_to_do() {
        let error = Error::malformed(Path::new("a.csv"), Some(3), "2 fields", "5", "quote the text");
        assert_eq!(error.to_string(), "a.csv:3: expected 2 fields, found 5; quote the text");
        let error = Error::malformed(Path::new("a"), None, "a file", "a folder", "name the file");
        assert_eq!(error.to_string(), "a: expected a file, found a folder; name the file");
    }

    #[test]
    fn long_and_hostile_text_is_cut_and_escaped() {
        assert_eq!(quoted("a\u{1b}[31m\n"), "\"a\\u{1b}[31m\\n\"");
        assert_eq!(quoted(&"é".repeat(1000)).chars().count(), 100 + 2 + 3);
        assert_eq!(quoted_list(["a", "b"]), "\"a\", \"b\"");
        assert!(quoted_list(["a"; 50]).ends_with("and 30 more"));
        assert_eq!(quoted_list([]), "none");
    }
}
