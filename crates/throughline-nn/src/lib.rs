//! Modules, heads and networks: the models of Throughline.
//!
//! The crate only computes; it opens no files and prints nothing. A [`Layer`] describes its parameters, but the
//! parameters, the packed weights and the tapes belong to the caller, so that several threads can share one model.
//!
//! | | |
//! |---|---|
//! | [`module`] | the traits of a module: forward, backward, one step at a time |
//! | [`layers`] | embedding, recurrent stack, linear, pooling, Transformer |
//! | [`chain`], [`repeated`] | two modules in sequence, or many of one type |
//! | [`mod@concat`], [`residual`] | two modules side by side, or one beside its input |
//! | [`heads`] | the end of a network: projection and loss |
//! | [`network`] | a body and a head |
//! | [`standalone`] | a module with its own parameters, for a custom loss |
//! | [`state`] | the state of parallel streams |
//! | [`parameters`], [`initialise`], [`weights`] | parameters in one buffer, their initial values, their file |
//! | [`decode`] | sampling from logits |
//!
//! # Composing a model
//! Constructors take the model's [`Builder`](parameters::Builder), and the width of their input where it is not known:
//!
//! ```
//! use throughline_kernels::cells::CellKind;
//! use throughline_kernels::sequence::Ragged;
//! use throughline_nn::heads::Softmax;
//! use throughline_nn::initialise::Initialise;
//! use throughline_nn::layers::{Embedding, Linear, Pool, Pooling, Recurrent, RecurrentConfig};
//! use throughline_nn::network::{Input, Wanted, Weights, Workspace};
//! use throughline_nn::parameters::Builder;
//! use throughline_nn::{Cpu, Layer, Pass};
//!
//! // A vocabulary of 100 words, texts of 3 classes.
//! let b = &mut Builder::new();
//! let embedding = Embedding::new(b, "embedding", 100, 8);
//! let lstm = RecurrentConfig { bidirectional: true, ..RecurrentConfig::new(CellKind::Lstm, 8, 16) };
//! let lstm = Recurrent::new(b, "rnn", lstm);
//! let last = Pool::of(b, "pool", lstm, Pooling::LastStates);
//! let linear = Linear::new(b, "linear", last.width(), 10);
//! let head = Softmax::new(b, "head", 10, 3);
//! let network = embedding.then(last).then(linear).ending_in(head, std::mem::take(b));
//!
//! let cpu = Cpu::new(1);
//! let parameters = network.initialise(&Initialise::new(1));
//! let packed = network.packed(&cpu, &parameters, true);
//! let weights = Weights { cpu: &cpu, parameters: &parameters, packed: &packed };
//! // Two texts, `7 3` and `5`, packed step by step, and their classes.
//! let (rows, tokens, classes) = (Ragged::new(&[2, 1]), [7, 5, 3], [0, 2]);
//! let (input, wanted) = (Input::new(&rows, &tokens[..]), Wanted::new(&classes[..]));
//! let (mut gradients, mut workspace) = (network.layout().zeros(), Workspace::default());
//! let loss = network.learn(weights, input, wanted, Pass::Traced, &mut gradients, &mut workspace);
//! assert!(loss.mean() > 0.0 && gradients.iter().any(|&x| x != 0.0));
//! assert_eq!(network.predict(weights, input, &mut workspace).len(), 2 * 3);
//! ```
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod chain;
pub mod concat;
pub mod decode;
mod error;
pub mod heads;
pub mod initialise;
pub mod layers;
mod memory;
pub mod module;
pub mod network;
pub mod parameters;
pub mod repeated;
pub mod residual;
pub mod standalone;
pub mod state;
pub mod weights;

pub use error::{Error, Result};
pub use heads::{Head, Loss};
pub use layers::recurrent::checkpointing;
pub use module::{Context, Cpu, Layer, Module, Pass};
pub use network::Network;
pub use state::State;
