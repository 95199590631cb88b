//! Classification of texts.

mod options;

pub use options::{Examples, Options, Pooling, Reading};
