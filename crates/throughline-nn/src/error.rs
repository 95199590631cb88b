//! What can be wrong with a model that comes from outside.

use alloc::string::String;

/// A model description or weights that cannot be used. The caller knows the file and adds its name.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `config.json` is no valid description of a model.
    #[error("model configuration, {place}: expected {expected}, found {found}")]
    Config {
        /// The key, or the line and column.
        place: String,
        /// What would be valid.
        expected: String,
        /// What is there.
        found: String,
    },
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
}

/// A result with this crate's [`Error`].
pub type Result<T> = core::result::Result<T, Error>;
