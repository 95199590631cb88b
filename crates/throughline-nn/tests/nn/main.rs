//! Networks against PyTorch, oracles and hostile files. One binary: the generic driver is compiled once.

mod checkpointing;
mod common;
mod files;
mod network_gradient;
mod pytorch_vectors;
mod stack_oracle;
mod torch_loads;
mod training_steps;
