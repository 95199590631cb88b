//! The `throughline` program, run as a user runs it: each test in a fresh folder, with tiny models.
#![forbid(unsafe_code)]

mod budgets;
mod classifier;
mod comparison;
mod compressed;
mod data_check;
mod faults;
mod folder;
mod guess;
mod help;
mod inside;
mod interruption;
mod lab;
mod language_model;
mod music;
#[cfg(feature = "parquet")]
mod parquet;
mod pipes;
mod range_test;
mod results;
mod runs;
mod schedules;
mod series;
mod tagger;
mod tensorboard;
mod trained;
mod wrong_files;
mod wrong_input;
