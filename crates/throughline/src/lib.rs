//! Throughline: recurrent networks (vanilla RNN, LSTM, GRU) that train fast on a CPU, show what they remember, and run
//! anywhere a step at a time.
//!
//! ```
//! use throughline::prelude::*;
//!
//! // A bidirectional LSTM over three sequences of different lengths, 4 features a step.
//! let config = RecurrentConfig { bidirectional: true, ..RecurrentConfig::new(CellKind::Lstm, 4, 8) };
//! let mut lstm = Stack::<f32>::new(config, 1);
//! let batch = Ragged::new(&[5, 2, 3]);
//! let x = vec![0.5; batch.rows() * 4];
//! let run = lstm.run(&batch, &x, None);
//! assert_eq!(run.output.len(), batch.rows() * 16);
//! ```
//!
//! | crate | what is in it |
//! |---|---|
//! | [`kernels`] | cells, the sequence driver, products, fused operators, optimisers |
//! | [`nn`] | parameters, recurrent stacks, the language model, the classifier |
//! | [`data`] | readers, vocabularies, batches, splits, baselines |
//! | [`train`] | recipes, the trainer, run folders, trained models |
#![forbid(unsafe_code)]

pub use throughline_data as data;
pub use throughline_kernels as kernels;
pub use throughline_nn as nn;
pub use throughline_train as train;

/// What most programs need.
pub mod prelude {
    pub use throughline_kernels::cells::CellKind;
    pub use throughline_kernels::ops::cross_entropy::Classified;
    pub use throughline_kernels::optim::{Adam, Method, Optimiser, RmsProp, Sgd};
    pub use throughline_kernels::random::{Philox, Purpose};
    pub use throughline_kernels::sequence::Ragged;
    pub use throughline_kernels::threads::Threads;
    pub use throughline_kernels::{Element, Isa};
    pub use throughline_nn::checkpointing::Checkpointing;
    pub use throughline_nn::classifier::Sequences;
    pub use throughline_nn::config::{ModelConfig, Task};
    pub use throughline_nn::initialise::Initialisation;
    pub use throughline_nn::language_model::Window;
    pub use throughline_nn::network::{Dropouts, Network, Weights};
    pub use throughline_nn::parameters::Layout;
    pub use throughline_nn::recurrent::{Pass, Recurrent, RecurrentConfig, States};
    pub use throughline_nn::sampling::Sampling;
    pub use throughline_nn::stack::Stack;
    pub use throughline_train::{Recipe, RunFolder, TrainedModel};
}

/// Compiles and runs the Rust code in the README.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
