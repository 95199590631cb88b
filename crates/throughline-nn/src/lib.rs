//! Recurrent models of Throughline: parameters, stacks, the language model and the classifier.
//!
//! The crate computes and neither reads files nor prints. A [`network::Network`] says which parameters a model has; the
//! parameters, the packed weights and the workspace belong to the caller, so that one model serves any number of threads.
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod checkpointing;
pub mod classifier;
pub mod config;
mod error;
pub mod initialise;
pub mod language_model;
pub mod network;
pub mod parameters;
pub mod recurrent;
pub mod sampling;
pub mod stack;
pub mod weights;

pub use error::{Error, Result};
