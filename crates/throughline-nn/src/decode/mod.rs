//! From logits to decisions.

pub mod sample;

pub use sample::{Sampling, sample};
