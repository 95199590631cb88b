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
//! | module | contents |
//! |---|---|
//! | [`prelude`] | what most programs need, with one `use` |
//! | [`nn`] | modules, heads, networks and states, from which models are composed |
//! | [`your_own_model`] | how to compose a model, train it with a custom loss, and save it |
//! | [`engine`] | ragged batches, cells, tapes, threads, random numbers, optimisers, losses |
//! | [`data`] | readers, text cleaning, vocabularies, splits, batches, baselines, metrics |
//! | [`train`] | recipes, the trainer, run folders |
//! | [`train::settings`] | all settings of all tasks, with types and defaults |
//! | [`infer`] | trained models in use: open, predict, evaluate, generate |
//! | [`inspect`] | a look inside: gradient flow, gates, memory, a diagnosis, traces |
//! | [`lab`] | experiments of minutes: what is remembered, and what gates, sharing, directions and depth buy |
//!
//! Where to start:
//!
//! | to | use |
//! |---|---|
//! | run a layer forward and backward, and inspect its gates | [`Stack`](nn::Stack) |
//! | train your own model with a custom loss | [`Standalone`](nn::Standalone) |
//! | train a classifier or language model in your own loop | [`Network`](nn::Network), [`Softmax`](nn::Softmax) |
//! | train from a recipe, as the program does | [`train::train`] |
//! | use a model that the program has trained | [`Model::open`](infer::Model::open) |
//!
//! The examples in the repository are commented programs, from an LSTM written by hand to taggers, piano rolls and
//! series.
#![forbid(unsafe_code)]

/// Layers, modules, heads, networks and states, from which models are composed.
///
/// A [`Layer`](nn::Layer) describes a module; a [`Module`](nn::Module) runs it forward, backward and one step at a
/// time. [`Layer::then`](nn::Layer::then) chains two modules. A [`Network`](nn::Network) is a body of modules and a
/// [`Head`](nn::Head), which has the loss. A [`Builder`](nn::Builder) names the parameters, which are in one buffer,
/// and makes the [`Layout`](nn::Layout) of the buffer.
pub mod nn {
    pub use throughline_nn::chain::{Chain, ChainTape};
    pub use throughline_nn::concat::{Concat, ConcatTape};
    pub use throughline_nn::decode::{Sampling, sample};
    pub use throughline_nn::heads::bernoulli::BernoulliTape;
    pub use throughline_nn::heads::crf::{Constraints, CrfTape, Decoded, PackedCrf};
    pub use throughline_nn::heads::regression::RegressionTape;
    pub use throughline_nn::heads::softmax::SoftmaxTape;
    pub use throughline_nn::heads::tagger::{PackedTagger, TaggerTape, Tags};
    pub use throughline_nn::heads::{Bernoulli, Crf, Head, HeadCall, Loss, Regression, Softmax, Tagger};
    pub use throughline_nn::initialise::{self, EmbeddingInitialisation, Initialisation, Initialise};
    pub use throughline_nn::layers::embedding::EmbeddingTape;
    pub use throughline_nn::layers::gelu::GeluTape;
    pub use throughline_nn::layers::layer_norm::{LayerNormTape, PackedLayerNorm};
    pub use throughline_nn::layers::linear::LinearTape;
    pub use throughline_nn::layers::pool::PoolTape;
    pub use throughline_nn::layers::recurrent::{
        ActivationPenalty, InitialState, Readout, RecurrentRegularisation, RecurrentTape,
    };
    pub use throughline_nn::layers::transformer::{
        AttentionPart, CausalAttentionTape, FeedForwardPart, PackedPositions, PositionsTape,
    };
    pub use throughline_nn::layers::words::WordsTape;
    pub use throughline_nn::layers::{
        CausalAttention, Embedding, Gelu, LayerNorm, Linear, Pool, Pooling, Positions, Recurrent, RecurrentConfig,
        Transformer, TransformerBlock, TransformerConfig, WordRows, Words,
    };
    pub use throughline_nn::module::{Call, Context, Cpu, Gradients, Layer, Module, Pass, Step, TapeSetting, Visit};
    pub use throughline_nn::network::{Input, Network, PackedNetwork, Wanted, Weights, Workspace};
    pub use throughline_nn::parameters::{Builder, DropoutMask, Layout, Tensor, TensorId};
    pub use throughline_nn::repeated::{Repeated, RepeatedTape};
    pub use throughline_nn::residual::{Residual, ResidualTape};
    pub use throughline_nn::standalone::{InputGradients, Run, Stack, Standalone};
    pub use throughline_nn::state::{Start, State, StateArray, StateShape};
    pub use throughline_nn::{Error, Result, checkpointing, weights};
}

/// The engine below the models: cells, ragged batches, tapes, threads, random numbers, optimisers, losses.
pub mod engine {
    pub use throughline_kernels::buffer::Buffer;
    pub use throughline_kernels::cells::{CellKind, Names, PyTorch};
    pub use throughline_kernels::ops::{
        Classified, IGNORED, LossSum, Residual, RowLoss, bernoulli_cross_entropy, bernoulli_loss, cross_entropy,
        log_softmax, reduce, residual_loss, softmax, softmax_cross_entropy,
    };
    pub use throughline_kernels::optim::{Adam, Average, Averaging, Method, Optimiser, RmsProp, Sgd, clipping_factor};
    pub use throughline_kernels::random::{Philox, Purpose, Stream};
    pub use throughline_kernels::sequence::{Direction, Previous, Ragged, RowGradients, Tape};
    pub use throughline_kernels::threads::{Refused, Threads, Worker};
    pub use throughline_kernels::{Element, Isa, IsaName, NoSuchIsa};
}

/// From files to batches, with baselines and metrics.
pub mod data {
    pub use throughline_data::{
        Answers, BoundedLines, Chunk, ClassScores, ConfusionMatrix, Decoder, Document, Entity, EntityScores,
        EntityTags, Error, Example, Format, Fractions, FrameScores, LabelledReader, LabelledSet, LengthBuckets, Line,
        MissingNumbers, NaiveBayes, NaiveBayesOptions, NgramModel, PianoRoll, PieceReader, Pieces, Pitches, Regressed,
        Result, Scale, Scaling, Sentences, SeriesFormat, SeriesReader, SeriesSet, SharedExample, SkipReason, Skipped,
        Split, Splits, StreamWindow, Streams, TagScheme, TaggedFormat, TaggedReader, TaggedSet, TextReader, TextRules,
        Texts, UNKNOWN, UNKNOWN_TOKEN, Unit, UnknownEpoch, UnknownReplacement, Vocabulary, VocabularyOptions,
        WantedAnswers, WordVectorReader, WordVectors, join_texts, majority_class, piano_roll_from_json,
        piano_roll_to_json, piano_roll_to_midi, printable, printable_text, remove_duplicates, shared_examples,
    };
    #[cfg(feature = "parquet")]
    pub use throughline_data::{ParquetWriter, panic_is_caught};
}

/// Recipes, the trainer, run folders.
///
/// How a task is trained is its [`Learn`](train::Learn) in [`tasks`](train::tasks). The settings of a task in a recipe
/// are, for example, `recipe.options::<tasks::lm::Options>()`.
pub mod train {
    pub use throughline_train::checkpoint::Reached;
    pub use throughline_train::tasks::lm::BUILT_IN;
    pub use throughline_train::tasks::{TASKS, Task};
    pub use throughline_train::{
        DataRecord, DataReport, Description, Digest, End, Error, Event, Examined, Guess, Learn, Learned, Lengths, Look,
        Measured, MetricsLog, Origin, Outcome, Overview, Place, RangeRow, RangeTest, RateRange, Recipe, RecipeError,
        Report, Result, Row, RunFolder, RunLock, Score, Sign, SplitRecord, SplitReport, Tracing, check_replaceable,
        check_writable, evaluate, examine, find_learning_rate, guess, inspect, read_rows, recipe, replace, resume,
        settings, tasks, trace, train, write_atomically,
    };
}

/// Trained models in use.
///
/// A [`Model`](infer::Model) is opened from a folder or from bytes, without its recipe. Threads can share it, and it
/// predicts in batches. [`Model::get`](infer::Model::get) returns the [`Served`](infer::Served) of its task, with
/// types.
pub mod infer {
    pub use throughline_infer::tasks::{
        Classify, ClassifySeries, LanguageModel, Regress, Roll, Tag, classify, classify_series, lm, regress, roll, tag,
    };
    pub use throughline_infer::{
        Channel, Chosen, ConfigError, Error, Evaluation, Files, Generation, Info, Model, Parts, Pieces,
        RecurrentSettings, Regularisation, Result, Runner, RunnerWorkspace, Sample, SeriesBatch, SeriesBody,
        SeriesEncoder, SeriesFacts, Serve, Served, TextEncoder, tasks,
    };
}

/// A look inside recurrent networks: what they remember, how they learn it, and what is wrong with them.
///
/// [`train::inspect`] looks into the model of a run. Each measurement also runs alone, on any network.
pub mod inspect {
    pub use throughline_inspect::{
        Activation, AtLag, Attribution, BINS, Column, Effect, Example, ExchangeRows, Explained, Fault, Finding, Flow,
        GateStatistics, Gates, Inspectable, Inspection, Options, Probe, Quantiles, ReadsVectors, RepeatRows, Report,
        Selection, Site, Spectrum, StateStatistics, Subject, Trace, TraceArray, TraceFormat, Tracer, Training,
        UnitTrace, Update, attributions, diagnose, examples, gate_statistics, gradient_flow, inspect, interventions,
        largest_singular_value, spectra, spectral_radius, trace,
    };
}

/// Experiments of minutes on recurrent networks, each with tables, a figure and a paragraph on what was seen.
pub mod lab {
    pub use throughline_lab::{Bench, EXPERIMENTS, Effort, Experiment, Outcome, Table, Text};
}

/// What most programs need.
pub mod prelude {
    pub use crate::engine::{
        Adam, CellKind, Element, Isa, Method, Optimiser, Philox, Purpose, Ragged, RmsProp, Sgd, Threads,
    };
    pub use crate::infer::Model;
    pub use crate::nn::checkpointing::Checkpointing;
    pub use crate::nn::{
        Builder, Chain, Cpu, Embedding, Head, Initialisation, Initialise, Input, Layer, LayerNorm, Layout, Linear,
        Loss, Module, Network, Pass, Pool, Pooling, Recurrent, RecurrentConfig, Sampling, Softmax, Stack, Standalone,
        State, TapeSetting, Wanted, Weights, Workspace,
    };
    pub use crate::train::{Recipe, RunFolder};
}

#[doc = include_str!("your_own_model.md")]
#[doc = "```"]
// The program itself, so that the page cannot differ from it.
#[doc = include_str!("../examples/05_your_own_model.rs")]
#[doc = "```"]
#[doc = include_str!("beyond_your_own_model.md")]
pub mod your_own_model {}

/// Compiles and runs the Rust code in the README.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
