//! Decoding: from logits to tokens.

pub mod sample;

pub use sample::{Sampling, sample};
