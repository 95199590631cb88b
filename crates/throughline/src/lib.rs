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
//! | module | what is in it |
//! |---|---|
//! | [`prelude`] | what most programs need |
//! | [`nn`] | modules, heads and networks to compose a model of one's own; [`your_own_model`] shows how |
//! | [`engine`] | ragged batches, tapes, threads, random numbers, optimisers, losses |
//! | [`data`] | readers, vocabularies, batches, splits, baselines |
//! | [`train`] | recipes, the trainer, run folders |
//! | [`infer`] | trained models in use |
#![forbid(unsafe_code)]

/// What models are put together from.
pub mod nn {
    pub use throughline_nn::chain::{Chain, Concat};
    pub use throughline_nn::decode::{Sampling, sample};
    pub use throughline_nn::heads::{Head, HeadCall, Loss, Softmax};
    pub use throughline_nn::initialise::{Initialisation, Initialise};
    pub use throughline_nn::layers::recurrent::{InitialState, Readout, RecurrentTape};
    pub use throughline_nn::layers::{Embedding, Linear, Pool, Pooling, Recurrent, RecurrentConfig};
    pub use throughline_nn::module::{
        Call, Context, Cpu, Gradients, Layer, Module, Pass, Start, Step, TapeSetting, Visit,
    };
    pub use throughline_nn::network::{Input, Network, PackedNetwork, Wanted, Weights, Workspace};
    pub use throughline_nn::parameters::{Builder, Layout, Tensor, TensorId};
    pub use throughline_nn::standalone::{InputGradients, Run, Stack, Standalone};
    pub use throughline_nn::state::{State, StateArray, StateShape};
    pub use throughline_nn::{Error, Result, checkpointing, weights};
}

/// The engine below the models.
pub mod engine {
    pub use throughline_kernels::buffer::Buffer;
    pub use throughline_kernels::cells::{CellKind, Names, PyTorch};
    pub use throughline_kernels::ops::{
        Classified, IGNORED, RowLoss, cross_entropy, log_softmax, mean_squared_error, reduce, softmax,
        softmax_cross_entropy,
    };
    pub use throughline_kernels::optim::{Adam, Method, Optimiser, RmsProp, Sgd, clipping_factor};
    pub use throughline_kernels::random::{Philox, Purpose, Stream};
    pub use throughline_kernels::sequence::{Direction, Previous, Ragged, RowGradients, Tape};
    pub use throughline_kernels::threads::Threads;
    pub use throughline_kernels::{Element, Isa, IsaName, NoSuchIsa};
}

/// From files to batches, and what a model has to beat.
pub mod data {
    pub use throughline_data::{
        BoundedLines, Chunk, ConfusionMatrix, Decoder, Error, Example, Format, Fractions, LabelledReader, LabelledSet,
        LengthBuckets, Line, NaiveBayes, NaiveBayesOptions, NgramModel, Result, Skipped, Split, Splits, StreamWindow,
        Streams, TextReader, TextRules, UNKNOWN, UNKNOWN_TOKEN, Unit, UnknownReplacement, Vocabulary,
        VocabularyOptions, majority_class, printable, printable_text, remove_duplicates, shared_examples,
    };
}

/// Recipes, the trainer, run folders.
pub mod train {
    pub use throughline_train::tasks::{TASKS, Task, lm::BUILT_IN};
    pub use throughline_train::{
        DataRecord, Description, End, Error, Event, Learn, MetricsLog, Outcome, Recipe, Report, Result, Row, RunFolder,
        Score, evaluate, read_rows, recipe, resume, settings, train,
    };
}

/// Trained models in use.
pub mod infer {
    pub use throughline_infer::tasks::{Classify, LanguageModel, classify, lm};
    pub use throughline_infer::{Error, Evaluation, Info, Model, Result, Runner, Serve, Served, TextEncoder, tasks};
}

/// What most programs need.
pub mod prelude {
    pub use crate::engine::{
        Adam, CellKind, Element, Isa, Method, Optimiser, Philox, Purpose, Ragged, RmsProp, Sgd, Threads,
    };
    pub use crate::infer::Model;
    pub use crate::nn::checkpointing::Checkpointing;
    pub use crate::nn::{
        Builder, Cpu, Embedding, Head, Initialisation, Initialise, Input, Layer, Layout, Linear, Loss, Module, Network,
        Pass, Pool, Pooling, Recurrent, RecurrentConfig, Sampling, Softmax, Stack, Standalone, State, TapeSetting,
        Wanted, Weights, Workspace,
    };
    pub use crate::train::{Recipe, RunFolder};
}

#[doc = include_str!("your_own_model.md")]
pub mod your_own_model {}

/// Compiles and runs the Rust code in the README.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
