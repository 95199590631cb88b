//! The trainer against a plain account of it, interruption and divergence. One binary: the generic driver is compiled once.

mod checkpointing;
mod common;
mod divergence;
mod resume;
mod truncated_bptt;
