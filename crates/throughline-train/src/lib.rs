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
mod generate;
mod lesson;
pub mod metrics;
mod model;
pub mod recipe;
mod run_folder;
pub mod schedule;
pub mod settings;
pub mod tasks;
#[cfg(test)]
mod testing;
mod trainer;

pub use checkpoint::Progress;
pub use digest::Digest;
pub use error::{Error, Origin, RecipeError, Result};
pub use files::{check_replaceable, read_at_most, replace, write_atomically};
pub use generate::generate;
pub use lesson::{BUILT_IN, Evaluation, Lesson, Model, Place};
pub use metrics::{MetricsLog, Part, Row};
pub use model::{Prediction, Report, TrainedModel};
pub use recipe::Recipe;
pub use run_folder::{RunFolder, RunLock};
pub use schedule::Plateau;
pub use throughline_nn::config::Task;
pub use trainer::{Event, Outcome, resume, train};
