//! What a task says of its models in use.

use std::collections::BTreeMap;
use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use throughline_data::ConfusionMatrix;
use throughline_nn::heads::Head;
use throughline_nn::module::Module;
use throughline_nn::network::{Network, Weights, Workspace};

use crate::config::{ConfigError, Dropouts};
use crate::error::Result;
use crate::files::Files;

/// What people and programs are told of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Its name in recipes, files and on the command line.
    pub name: &'static str,
    /// What its models are, such as `language model`.
    pub title: &'static str,
    /// A line about it.
    pub about: &'static str,
    /// By what models are compared, such as `the lowest loss`.
    pub best: &'static str,
    /// What a loss is the mean over, in the plural: `units`, `texts`.
    pub counted: &'static str,
    /// Commands that use one of its models, `{run}` standing for the run.
    pub usage: &'static [&'static str],
}

/// How good a model is on some data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// What the loss is the mean over: units that were predicted, or texts.
    pub count: usize,
    /// Mean loss in nats.
    pub loss: f64,
    /// The task's metrics by name.
    #[serde(flatten)]
    pub metrics: BTreeMap<String, f64>,
    /// The share of units that the model has never seen, from 0 to 1.
    pub unknown_share: f64,
    /// Of a classifier, who was taken for whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confusion: Option<ConfusionMatrix>,
}

/// A network at work: its weights, and the memory of one caller.
pub struct Runner<'a, T: Serve> {
    /// The network.
    pub network: &'a Network<T::Body, T::Head>,
    /// Its weights, and what computes.
    pub weights: Weights<'a, f32, T::Body, T::Head>,
    /// The caller's memory.
    pub workspace: &'a mut RunnerWorkspace<T>,
}

/// The memory of a [`Runner`].
pub type RunnerWorkspace<T> = Workspace<f32, <T as Serve>::Body, <T as Serve>::Head>;

/// A task's models in use. What trains them is elsewhere.
pub trait Serve: Sized + Send + Sync + 'static {
    /// What people are told.
    const INFO: Info;

    /// Everything that makes a network, as it stands in `config.json`.
    type Config: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static;
    /// From an input to what the network reads.
    type Encoder: Send + Sync + 'static;
    /// The network but for its head.
    type Body: Module<f32, Packed: Send + Sync, Tape: Send> + Send + Sync;
    /// What it ends in.
    type Head: Head<f32, Packed: Send + Sync, Tape: Send> + Send + Sync;
    /// Encoded data to be measured on.
    type Data;
    /// The answer to one input.
    type Prediction: Clone + Debug + PartialEq + Serialize;

    /// Checks a configuration from outside.
    ///
    /// # Errors
    /// Names the key, what it must be and what it is.
    fn check(config: &Self::Config) -> std::result::Result<(), ConfigError>;

    /// The cells of the network, for the metadata of its weights.
    fn cells(config: &Self::Config) -> Vec<throughline_kernels::cells::CellKind>;

    /// The network; a model in use drops nothing.
    fn network(config: &Self::Config, dropouts: Dropouts) -> Network<Self::Body, Self::Head>;

    /// Reads the encoder's files.
    ///
    /// # Errors
    /// If a file is missing, damaged, or does not fit `config`.
    fn open_encoder(config: &Self::Config, files: &Files) -> Result<Self::Encoder>;

    /// Name and bytes of the files that [`open_encoder`](Self::open_encoder) reads.
    fn encoder_files(encoder: &Self::Encoder) -> Vec<(&'static str, Vec<u8>)>;

    /// Measures a model; `None` where there is nothing to measure on.
    fn evaluate(
        runner: &mut Runner<'_, Self>,
        config: &Self::Config,
        encoder: &Self::Encoder,
        data: &Self::Data,
    ) -> Option<Evaluation>;

    /// What the best model has least of.
    fn score(evaluation: &Evaluation) -> f64;

    /// Answers inputs, in their order; the same bits for any company.
    fn predict(
        runner: &mut Runner<'_, Self>,
        config: &Self::Config,
        encoder: &Self::Encoder,
        inputs: &[&str],
    ) -> Vec<Result<Self::Prediction>>;
}
