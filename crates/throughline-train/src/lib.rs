//! Training for Throughline: recipes, schedules, truncated BPTT, run folders, checkpoints.
//!
//! A [`Recipe`] says what to train and how; a [`RunFolder`] keeps what comes of it: the resolved recipe, the metrics, the
//! checkpoint and the finished model with its card. What a task has of its own is its [`Learn`] in [`tasks`].
#![forbid(unsafe_code)]

mod averaging;
mod digest;
mod error;
mod evaluate;
mod examine;
mod files;
mod guess;
mod inspect;
mod learn;
pub mod recipe;
mod run;
pub mod schedule;
pub mod settings;
pub mod tasks;
#[cfg(test)]
mod testing;
mod trainer;

pub use averaging::Averaged;
pub use digest::Digest;
pub use error::{Error, Origin, RecipeError, Result};
pub use evaluate::Report;
pub use examine::{DataReport, Lengths, SplitReport};
pub use files::{check_replaceable, check_writable, read_at_most, replace, write_atomically};
pub use guess::{Guess, guess};
pub use inspect::{Look, Tracing};
pub use learn::{DataRecord, Description, Examined, Learn, Learned, Measured, Place, Score, Sign, SplitRecord};
pub use recipe::Recipe;
pub use run::card::Card;
pub use run::checkpoint::{self, Progress, Reached};
pub use run::folder::{RunFolder, RunLock};
pub use run::metrics::{MetricsLog, Row, read_rows};
pub use run::overview::Overview;
pub use schedule::Plateau;
pub use tasks::{evaluate, examine, find_learning_rate, inspect, resume, trace, train};
pub use trainer::{End, Event, Outcome, RangeRow, RangeTest, RateRange};
