//! The `throughline-bench` program, run as a user runs it, at sizes too small to say anything about speed.
#![forbid(unsafe_code)]

mod folder;
mod help;
mod timing;
mod written;
