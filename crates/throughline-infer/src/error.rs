//! What can be wrong with a model's files, or with an input.

use std::fmt::Display;
use std::io;
use std::path::PathBuf;

/// A model or an input that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("{path}: cannot {action}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A file of a model is missing, damaged, of another version, or does not fit the others.
    #[error("{file}: {what}: expected {expected}, found {found}")]
    Model {
        /// The file.
        file: String,
        /// The key, or where in the file.
        what: String,
        /// What would be right.
        expected: String,
        /// What is there.
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
    /// A model of another task was asked for something that it cannot do.
    #[error("expected a model of task \"{expected}\", found one of task \"{found}\"")]
    Task {
        /// The task that can.
        expected: &'static str,
        /// The model's task.
        found: &'static str,
    },
    /// More threads than the system starts.
    #[error("threads: expected fewer ({why}), found {count}")]
    Threads {
        /// How many were asked for.
        count: usize,
        /// What the system said.
        why: String,
    },
    /// A vocabulary that cannot be used.
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
