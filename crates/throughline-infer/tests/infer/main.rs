//! Models in use: opened, asked, and given damaged files. One binary: the generic driver is compiled once.

mod common;
mod generation;
mod hostile;
mod opening;
mod prediction;
mod rolls;
mod samples;
mod series;
mod tagging;
