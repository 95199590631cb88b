//! Trained models in use: opened from a folder or from bytes, shared by threads, predicting in batches.
//!
//! A [`Model`] is opened from `config.json`, `model.safetensors` and the files of its encoder (`vocabulary.json`, and
//! `labels.json` for a classifier); it needs no recipe and no training code. It is immutable and `Send + Sync`, so
//! threads can share it in an `Arc`.
//!
//! ```no_run
//! # fn main() -> throughline_infer::Result<()> {
//! use throughline_infer::{Model, tasks::Classify};
//!
//! let model = Model::open("runs/sentiment", None)?;
//! for answer in model.predict_lines(&["a gripping film", "two hours of my life"]) {
//!     println!("{}", answer?);
//! }
//! // With the types of the task, where it is known:
//! let classifier = model.get::<Classify>().expect("a classifier");
//! let answers = classifier.predict(&["a gripping film"]);
//! println!("{:?}", answers[0].as_ref().map(|answer| &answer.label));
//! # Ok(())
//! # }
//! ```
//!
//! Each task is a file in [`tasks`]: its [`Serve`] has the configuration, the network and the predictions of its
//! models, and one line registers it.
#![forbid(unsafe_code)]

mod batches;
mod classes;
mod config;
mod encoder;
mod error;
mod files;
mod model;
mod series;
mod serve;
pub mod tasks;

pub use batches::like_length;
pub use config::{ConfigError, RecurrentSettings, Regularisation};
pub use encoder::TextEncoder;
pub use error::{Error, Result};
pub use files::{Files, read_at_most};
pub use model::{Model, Parts, Served, config_json, cpu, kind_json};
pub use series::{Channel, SeriesBatch, SeriesBody, SeriesEncoder, SeriesFacts};
pub use serve::{
    Chosen, Evaluation, Examples, ExamplesOf, Generation, Info, Pieces, Runner, RunnerWorkspace, Sample, Serve,
};
