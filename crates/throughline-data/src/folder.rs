//! The files of a folder, and what is skipped and why.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::printable::Shown;

/// A file or folder that was found but not read. A folder is listed once, without its content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skipped {
    /// The file or folder.
    pub path: PathBuf,
    /// Why not.
    pub reason: SkipReason,
}

/// Why a file or folder was not read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SkipReason {
    /// Its name begins with a dot.
    Hidden,
    /// A folder of build output: `target`, `node_modules` or `__pycache__`.
    BuildFolder,
    /// A file with a NUL among its first 8 KiB.
    Binary,
    /// A file with bytes that are invalid in the given encoding.
    Invalid {
        /// The name of the encoding.
        encoding: &'static str,
        /// The line of the first such byte, from 1.
        line: usize,
    },
    /// A file that is evidently in another encoding, this one.
    OtherEncoding(&'static str),
    /// A file without text. Among labelled texts, also one of white space only.
    Empty,
    /// A file beside the folders of the classes.
    OutsideClasses,
    /// A file whose name does not end in `.txt`, where each `.txt` file is a class.
    Extension,
    /// A file whose name does not end as that of a table, where each table is a series.
    NotTable,
    /// A file whose name does not end in `.mid`, `.midi` or `.json`, where pieces of music are read.
    NotMusic,
    /// A folder, where each file is a class.
    Folder,
    /// A link to nothing.
    DanglingLink,
    /// A link to something that is read anyway.
    AlreadyRead,
    /// Neither a file nor a folder: a pipe, a socket, a device.
    Special,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hidden => f.write_str("hidden"),
            Self::BuildFolder => f.write_str("a folder of build output"),
            Self::Binary => f.write_str("a binary file"),
            Self::Invalid { encoding, line } => write!(f, "not valid {encoding}, line {line}"),
            Self::OtherEncoding(encoding) => write!(f, "a file in {encoding}"),
            Self::Empty => f.write_str("no text in it"),
            Self::OutsideClasses => f.write_str("a file next to the class folders"),
            Self::Extension => f.write_str("not a `.txt` file"),
            Self::NotTable => f.write_str("not a table"),
            Self::NotMusic => f.write_str("neither MIDI nor JSON"),
            Self::Folder => f.write_str("a folder next to the class files"),
            Self::DanglingLink => f.write_str("a broken link"),
            Self::AlreadyRead => f.write_str("a link to something read already"),
            Self::Special => f.write_str("neither a file nor a folder"),
        }
    }
}

/// `path: reason`
impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", Shown(&self.path), self.reason)
    }
}

/// The first few of `skipped`, for a message.
pub(crate) fn skipped_list(skipped: &[Skipped]) -> String {
    const MOST: usize = 5;
    let mut list: Vec<String> = skipped.iter().take(MOST).map(Skipped::to_string).collect();
    if let Some(more @ 1..) = skipped.len().checked_sub(MOST) {
        list.push(format!("{more} more"));
    }
    list.join("; ")
}

/// The entries of a folder in the order of their names: those that are not hidden, and those that are.
pub(crate) fn entries(folder: &Path) -> Result<(Vec<PathBuf>, Vec<Skipped>)> {
    let (mut visible, mut hidden) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            hidden.push(Skipped { path: entry.path(), reason: SkipReason::Hidden });
        } else {
            visible.push(entry.path());
        }
    }
    visible.sort();
    hidden.sort();
    Ok((visible, hidden))
}

/// The regular files below `folder` in the order of their paths, and what was skipped, in no particular order.
pub(crate) fn files_below(folder: &Path) -> Result<(Vec<PathBuf>, Vec<Skipped>)> {
    let (mut files, mut skipped) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    let mut pending = vec![folder.to_path_buf()];
    while let Some(path) = pending.pop() {
        let real = match path.canonicalize() {
            Ok(real) => real,
            Err(_) if path.is_symlink() => {
                skipped.push(Skipped { path, reason: SkipReason::DanglingLink });
                continue;
            }
            Err(source) => return Err(Error::Io { path, source }),
        };
        let is_folder = path.is_dir();
        // Files are identified by their canonical path, so a loop of links ends at a folder already seen.
        let reason = if is_folder && path != folder && is_build_folder(&path) {
            SkipReason::BuildFolder
        } else if !seen.insert(real) {
            SkipReason::AlreadyRead
        } else if is_folder {
            let (visible, hidden) = entries(&path)?;
            skipped.extend(hidden);
            // The last pushed is the first popped.
            pending.extend(visible.into_iter().rev());
            continue;
        } else if path.is_file() {
            files.push(path);
            continue;
        } else {
            SkipReason::Special
        };
        skipped.push(Skipped { path, reason });
    }
    Ok((files, skipped))
}

fn is_build_folder(path: &Path) -> bool {
    ["target", "node_modules", "__pycache__"].iter().any(|name| path.ends_with(name))
}
