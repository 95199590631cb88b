//! Models in use: opened from a folder or from bytes, shared by threads, predicting in batches.
//!
//! A [`Model`] needs `config.json`, the weights and what encodes its inputs (`vocabulary.json`, `labels.json`), and nothing
//! of how it was trained. It is immutable and `Send + Sync`: put it into an `Arc` and call it from anywhere.
//!
//! ```no_run
//! # fn main() -> throughline_infer::Result<()> {
//! use throughline_infer::{Model, tasks::Classify};
//!
//! let model = Model::open("runs/sentiment", None)?;
//! for answer in model.predict_lines(&["a gripping film", "two hours of my life"]) {
//!     println!("{}", answer?);
//! }
//! // The same with types, where the task is known.
//! let classifier = model.get::<Classify>().expect("a classifier");
//! let answers = classifier.predict(&["a gripping film"]);
//! println!("{:?}", answers[0].as_ref().map(|answer| &answer.label));
//! # Ok(())
//! # }
//! ```
//!
//! A task is a folder of its own: its [`Serve`] says what its models are made of and what they answer, and one line in
//! [`tasks`] registers it.
#![forbid(unsafe_code)]

mod batches;
mod config;
mod encoder;
mod error;
mod files;
mod model;
mod serve;
pub mod tasks;

pub use batches::like_length;
pub use config::{ConfigError, Dropouts, RecurrentSettings};
pub use encoder::TextEncoder;
pub use error::{Error, Result};
pub use files::{Files, read_at_most};
pub use model::{Model, Served, config_json, kind_json};
pub use serve::{Evaluation, Info, Runner, RunnerWorkspace, Serve};
