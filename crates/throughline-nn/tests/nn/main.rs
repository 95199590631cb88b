//! Networks against PyTorch, oracles and hostile files. One binary: the generic driver is compiled once.

mod common;
mod network_gradient;
