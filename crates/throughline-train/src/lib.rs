//! Training for Throughline: recipes, schedules, truncated BPTT, run folders, checkpoints.
//!
//! A [`Recipe`] says what to train and how; a [`RunFolder`] keeps what comes of it: the resolved recipe, the metrics, the
//! checkpoint and the finished model with its card.
#![forbid(unsafe_code)]

pub mod card;
pub mod checkpoint;
mod digest;
mod error;
mod files;
pub mod metrics;
pub mod recipe;
mod run_folder;
pub mod schedule;
#[cfg(test)]
mod testing;

pub use checkpoint::Progress;
pub use digest::Digest;
pub use error::{Error, Origin, RecipeError, Result};
pub use files::{read_at_most, replace, write_atomically};
pub use metrics::{MetricsLog, Part, Row};
pub use recipe::{Recipe, Task};
pub use run_folder::{RunFolder, RunLock};
pub use schedule::Plateau;
