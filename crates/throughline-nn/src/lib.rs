//! Recurrent models of Throughline, put together from modules.
//!
//! The crate computes and neither reads files nor prints. [`Layer`]s say which parameters they have; the
//! parameters, the packed weights and the tapes belong to the caller, so that one model serves any number of threads.
//!
//! | | |
//! |---|---|
//! | [`module`] | what a module is, forward, backward and a step at a time |
//! | [`layers`] | embedding, recurrent stacks, linear, pooling |
//! | [`chain`] | modules one after another, or side by side |
//! | [`heads`] | what a network ends in: projection and loss |
//! | [`network`] | a body and a head |
//! | [`standalone`] | a module with its own parameters, for a loss of one's own |
//! | [`state`] | what streams remember |
//! | [`parameters`], [`initialise`], [`weights`] | parameters in one buffer, how they begin, their file |
//! | [`decode`] | from logits to decisions |
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod chain;
pub mod decode;
mod error;
pub mod heads;
pub mod initialise;
pub mod layers;
pub mod module;
pub mod network;
pub mod parameters;
pub mod standalone;
pub mod state;
pub mod weights;

pub use error::{Error, Result};
pub use heads::{Head, Loss};
pub use layers::recurrent::checkpointing;
pub use module::{Context, Cpu, Layer, Module, Pass};
pub use network::Network;
pub use state::State;
