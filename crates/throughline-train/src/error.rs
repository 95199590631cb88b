//! The one error of this crate: wrong input from outside, or an outside that fails.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Result of everything here that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, where, what was expected, what was found and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A recipe has a key or a value that cannot be used.
    #[error(transparent)]
    Recipe(#[from] Box<RecipeError>),
    /// A recipe is not TOML.
    #[error("{}:{line}: not valid TOML: {message}", path.display())]
    Toml {
        /// The recipe's file.
        path: PathBuf,
        /// Line of the file, from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A file or a folder is not what it should be.
    #[error("{}{}: {what}: {}", path.display(), at_line(*line), expected_and_found(expected, found))]
    File {
        /// The file or folder.
        path: PathBuf,
        /// Line of the file, from 1, where there is one.
        line: Option<usize>,
        /// What in it is wrong.
        what: String,
        /// What should be there, and where it helps what to do, after a semicolon.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The operating system refused an operation on a file or a folder.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried: "read", "write", ...
        action: &'static str,
        /// What the operating system answered.
        source: io::Error,
    },
    /// The texts cannot be read or used.
    #[error(transparent)]
    Data(throughline_data::Error),
    /// A trained model cannot be used.
    #[error(transparent)]
    Model(#[from] throughline_infer::Error),
    /// The run was stopped from outside after it had saved a checkpoint.
    #[error("interrupted after update {step}; {} can be resumed from there", run.display())]
    Interrupted {
        /// Updates done, all of them in the checkpoint.
        step: u64,
        /// The run folder.
        run: PathBuf,
    },
    /// The training loss is infinite or not a number: the run diverged.
    #[error(
        "the loss is {loss} at update {step} (gradient norm {grad_norm}): training diverged; \
         use a smaller optimiser.learning_rate or a smaller train.clip_norm{}",
        kept(checkpoint)
    )]
    NonFiniteLoss {
        /// Updates done before this one.
        step: u64,
        /// The loss, in nats.
        loss: f64,
        /// Global norm of the gradient before clipping.
        grad_norm: f64,
        /// The last good checkpoint, if one was written.
        checkpoint: Option<PathBuf>,
    },
}

impl From<throughline_data::Error> for Error {
    /// A setting of a reader is a key of `[data]` in a recipe.
    fn from(error: throughline_data::Error) -> Self {
        match error {
            throughline_data::Error::Setting { key, expected, found } => {
                Self::recipe(&Origin::Default, &format!("data.{key}"), expected, found)
            }
            other => Self::Data(other),
        }
    }
}

impl Error {
    /// An [`Error::Io`], for `map_err`.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, action, source }
    }

    /// An [`Error::Recipe`] about a value.
    pub(crate) fn recipe(origin: &Origin, key: &str, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self::from(Box::new(RecipeError {
            origin: origin.clone(),
            key: key.to_owned(),
            expected: expected.to_string(),
            found: found.to_string(),
            nearest: None,
        }))
    }

    /// An [`Error::File`] about a whole file or folder.
    pub(crate) fn file(path: &Path, what: &str, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self::File {
            path: path.to_path_buf(),
            line: None,
            what: what.to_owned(),
            expected: expected.to_string(),
            found: found.to_string(),
        }
    }
}

fn at_line(line: Option<usize>) -> String {
    line.map(|line| format!(":{line}")).unwrap_or_default()
}

/// `expected X, found Y`, and then what to do, which follows what was expected after a semicolon.
fn expected_and_found(expected: &str, found: &str) -> String {
    match expected.split_once("; ") {
        Some((expected, advice)) => format!("expected {expected}, found {found}; {advice}"),
        None => format!("expected {expected}, found {found}"),
    }
}

fn kept(checkpoint: &Option<PathBuf>) -> String {
    checkpoint.as_ref().map(|path| format!("; the last good state is kept in {}", path.display())).unwrap_or_default()
}

/// A key or a value of a recipe that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipeError {
    /// Where the value was given.
    pub origin: Origin,
    /// The dotted key, such as `model.hidden`.
    pub key: String,
    /// What can stand there.
    pub expected: String,
    /// What stands there, as TOML.
    pub found: String,
    /// The valid key nearest to an unknown one.
    pub nearest: Option<String>,
}

impl fmt::Display for RecipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, key, expected, found, nearest } = self;
        write!(f, "{origin}: {key}: {}", expected_and_found(expected, found))?;
        match nearest {
            Some(nearest) => write!(f, "; did you mean {nearest}?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for RecipeError {}

/// Where a value of a recipe comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A line of a recipe file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An override `--set key=value`.
    Set,
    /// A path given by `--data`.
    Data,
    /// A default, or a value set by the program.
    #[default]
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Set => f.write_str("--set"),
            Self::Data => f.write_str("--data"),
            Self::Default => f.write_str("recipe"),
        }
    }
}
