//! The trainer against a plain account of it, interruption and divergence. One binary: the generic driver is compiled once.

mod accumulation;
mod averaging;
mod checkpointing;
mod common;
mod data;
mod divergence;
mod folder;
mod resume;
mod rolls;
mod selection;
mod series;
mod tagging;
mod truncated_bptt;
