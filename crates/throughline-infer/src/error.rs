//! The error of this crate.

use std::fmt::Display;
use std::io;
use std::path::PathBuf;

/// A model that cannot be opened, or an input that it cannot take.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("{path}: cannot {action}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried: `open` or `read`.
        action: &'static str,
        /// The reason the system gave.
        source: io::Error,
    },
    /// A file of a model is missing or damaged, has another version, or does not match the others.
    #[error("{file}: {what}: expected {expected}, found {found}")]
    Model {
        /// The file.
        file: String,
        /// The key, or where in the file.
        what: String,
        /// What it should have.
        expected: String,
        /// What it has.
        found: String,
    },
    /// An input that the model cannot take.
    #[error("expected {expected}, found {found}")]
    Input {
        /// What it can take.
        expected: String,
        /// What it was given.
        found: String,
    },
    /// What a model wrote could not be passed on.
    #[error("{0}")]
    Write(#[source] io::Error),
    /// The model belongs to another task.
    #[error("expected a model of task \"{expected}\", found one of task \"{found}\"")]
    Task {
        /// The task asked for.
        expected: &'static str,
        /// The model's task.
        found: &'static str,
    },
    /// The system could not start the threads.
    #[error("cannot start {count} threads: {why}; ask for fewer")]
    Threads {
        /// How many were asked for.
        count: usize,
        /// The reason the system gave.
        why: String,
    },
    /// The vocabulary is damaged, or a file that the model is to continue cannot be read.
    #[error(transparent)]
    Data(#[from] throughline_data::Error),
}

/// A result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn model(file: &str, what: &str, expected: impl Display, found: impl Display) -> Self {
        let (file, what) = (file.to_owned(), what.to_owned());
        Self::Model { file, what, expected: expected.to_string(), found: found.to_string() }
    }
}
