//! What can be wrong with a model that comes from outside.

use alloc::string::String;

/// Weights or labels that cannot be used, where the caller knows the file and adds its name; or a step that a module cannot
/// take.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The weights do not fit the model.
    #[error("weights, {place}: expected {expected}, found {found}")]
    Weights {
        /// The tensor, or the part of the file.
        place: String,
        /// What the model needs.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The names of tags do not fit how they are to mark spans.
    #[error("labels: expected {expected}, found {found}")]
    Labels {
        /// What labels are.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A module that needs the whole sequence was asked for one step.
    #[error("the module `{module}` cannot go step by step: {why}")]
    NoSteps {
        /// The module's name.
        module: String,
        /// Why it cannot.
        why: &'static str,
    },
}

/// A result with this crate's [`Error`].
pub type Result<T> = core::result::Result<T, Error>;
