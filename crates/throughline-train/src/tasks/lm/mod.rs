//! Language modelling: the next unit of a text.

mod options;

pub use options::{Options, OutputLayer, Sample, Windows};
