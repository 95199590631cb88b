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
//! | [`prelude`] | what most programs need, with one `use` |
//! | [`nn`] | modules, heads, networks, states: what models are composed of |
//! | [`your_own_model`] | how to compose one, train it with a loss of your own and save it |
//! | [`engine`] | ragged batches, cells, tapes, threads, random numbers, optimisers, losses |
//! | [`data`] | readers, cleaning of texts, vocabularies, splits, batches, baselines, metrics |
//! | [`train`] | recipes, the trainer, run folders |
//! | [`train::settings`] | every key of every task, with type and default |
//! | [`infer`] | trained models in use: open, predict, evaluate, generate |
//!
//! Where to begin:
//!
//! | to | use |
//! |---|---|
//! | run a layer forward and back, and look at its gates | [`Stack`](nn::Stack) |
//! | train a model of your own with a loss of your own | [`Standalone`](nn::Standalone) |
//! | train a classifier or language model in a loop of your own | [`Network`](nn::Network), [`Softmax`](nn::Softmax) |
//! | train as the program does, from a recipe | [`train::train`] |
//! | use a model that the program has trained | [`Model::open`](infer::Model::open) |
//!
//! The examples 01 to 05 in the repository are programs that explain themselves, from an LSTM written by hand to a trained
//! language model.
#![forbid(unsafe_code)]

/// What models are composed of: layers, modules, heads, networks and their state.
///
/// A [`Layer`](nn::Layer) says what a module is, a [`Module`](nn::Module) runs it forward, backward and a step at a time, and
/// [`Layer::then`](nn::Layer::then) joins two. A [`Network`](nn::Network) is a body of modules that ends in a
/// [`Head`](nn::Head), which owns the loss. Parameters are named by a [`Builder`](nn::Builder) and lie in one buffer, whose
/// [`Layout`](nn::Layout) it makes.
pub mod nn {
    pub use throughline_nn::chain::{Chain, ChainTape, Concat, ConcatTape};
    pub use throughline_nn::decode::{Sampling, sample};
    pub use throughline_nn::heads::softmax::SoftmaxTape;
    pub use throughline_nn::heads::{Head, HeadCall, Loss, Softmax};
    pub use throughline_nn::initialise::{self, Initialisation, Initialise};
    pub use throughline_nn::layers::embedding::EmbeddingTape;
    pub use throughline_nn::layers::linear::LinearTape;
    pub use throughline_nn::layers::pool::PoolTape;
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

/// The engine below the models: cells, ragged batches, what a pass keeps, threads, random numbers, optimisers, losses.
pub mod engine {
    pub use throughline_kernels::buffer::Buffer;
    pub use throughline_kernels::cells::{CellKind, Names, PyTorch};
    pub use throughline_kernels::ops::{
        Classified, IGNORED, LossSum, RowLoss, cross_entropy, log_softmax, mean_squared_error, reduce, softmax,
        softmax_cross_entropy,
    };
    pub use throughline_kernels::optim::{Adam, Method, Optimiser, RmsProp, Sgd, clipping_factor};
    pub use throughline_kernels::random::{Philox, Purpose, Stream};
    pub use throughline_kernels::sequence::{Direction, Previous, Ragged, RowGradients, Tape};
    pub use throughline_kernels::threads::{Refused, Threads, Worker};
    pub use throughline_kernels::{Element, Isa, IsaName, NoSuchIsa};
}

/// From files to batches, and what a model has to beat.
pub mod data {
    pub use throughline_data::{
        BoundedLines, Chunk, ClassScores, ConfusionMatrix, Decoder, Document, Error, Example, Format, Fractions,
        LabelledReader, LabelledSet, LengthBuckets, Line, NaiveBayes, NaiveBayesOptions, NgramModel, Result,
        SharedExample, SkipReason, Skipped, Split, Splits, StreamWindow, Streams, TextReader, TextRules, Texts,
        UNKNOWN, UNKNOWN_TOKEN, Unit, UnknownEpoch, UnknownReplacement, Vocabulary, VocabularyOptions, join_texts,
        majority_class, printable, printable_text, remove_duplicates, shared_examples,
    };
}

/// Recipes, the trainer, run folders.
///
/// What a task has of its own for training is its [`Learn`](train::Learn) in [`tasks`](train::tasks); its settings are
/// `recipe.options::<tasks::lm::Options>()`.
pub mod train {
    pub use throughline_train::checkpoint::Reached;
    pub use throughline_train::tasks::lm::BUILT_IN;
    pub use throughline_train::tasks::{TASKS, Task};
    pub use throughline_train::{
        DataRecord, Description, Digest, End, Error, Event, Learn, Learned, Measured, MetricsLog, Origin, Outcome,
        Place, Recipe, RecipeError, Report, Result, Row, RunFolder, RunLock, Score, SplitRecord, evaluate, read_rows,
        recipe, resume, settings, tasks, train,
    };
}

/// Trained models in use.
///
/// A [`Model`](infer::Model) is opened from a folder or from bytes, needs nothing of how it was trained, is shared by threads
/// and predicts in batches. [`Model::get`](infer::Model::get) gives the [`Served`](infer::Served) of its task, with types.
pub mod infer {
    pub use throughline_infer::tasks::{Classify, LanguageModel, classify, lm};
    pub use throughline_infer::{
        ConfigError, Dropouts, Error, Evaluation, Files, Info, Model, RecurrentSettings, Result, Runner,
        RunnerWorkspace, Serve, Served, TextEncoder, tasks,
    };
}

/// What most programs need.
pub mod prelude {
    pub use crate::engine::{
        Adam, CellKind, Element, Isa, Method, Optimiser, Philox, Purpose, Ragged, RmsProp, Sgd, Threads,
    };
    pub use crate::infer::Model;
    pub use crate::nn::checkpointing::Checkpointing;
    pub use crate::nn::{
        Builder, Chain, Cpu, Embedding, Head, Initialisation, Initialise, Input, Layer, Layout, Linear, Loss, Module,
        Network, Pass, Pool, Pooling, Recurrent, RecurrentConfig, Sampling, Softmax, Stack, Standalone, State,
        TapeSetting, Wanted, Weights, Workspace,
    };
    pub use crate::train::{Recipe, RunFolder};
}

#[doc = include_str!("your_own_model.md")]
#[doc = "```"]
// The program itself, so that this page cannot differ from what is run.
#[doc = include_str!("../examples/05_your_own_model.rs")]
#[doc = "```"]
#[doc = include_str!("beyond_your_own_model.md")]
pub mod your_own_model {}

/// Compiles and runs the Rust code in the README.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
