//! The error of this crate.

use alloc::string::String;

/// Weights that do not fit the model, or a step that a module cannot run.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The weights do not fit the model. The caller knows the name of the file and adds it.
    #[error("weights: {place}: expected {expected}, found {found}")]
    Weights {
        /// The tensor, or where in the file.
        place: String,
        /// What the model expects.
        expected: String,
        /// What the file has.
        found: String,
    },
    /// A module that needs the whole sequence was asked to run one step.
    #[error("the module `{module}` cannot run step by step: {why}")]
    NoSteps {
        /// The name of the module.
        module: String,
        /// Why not.
        why: &'static str,
    },
    /// A stream has reached the most steps that a module can remember.
    #[error(
        "the module `{module}` sees at most {most} steps, and stream {stream} has seen them all: end the stream, or make the \
         module for more"
    )]
    TooLong {
        /// The name of the module.
        module: String,
        /// The first stream that is too long.
        stream: usize,
        /// The most steps.
        most: usize,
    },
}

/// A result with this crate's [`Error`].
pub type Result<T> = core::result::Result<T, Error>;
