//! Modules and networks against PyTorch, oracles, derivatives and hostile files. One binary: the generic driver is
//! compiled once.

mod allocation;
mod bernoulli;
mod checkpointing;
mod common;
mod crf;
mod encoder_decoder;
mod files;
mod misuse;
mod modules;
mod network_gradient;
mod pooling;
mod pytorch_vectors;
mod recurrent_regularisation;
mod regularisation;
mod series;
mod stack_oracle;
mod standalone;
mod torch_loads;
mod traces;
mod training_steps;
mod transformer;
mod truncated_bptt;
mod words;
