//! The trait of a task whose models are used.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::io;

use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer};
use throughline_data::ConfusionMatrix;
use throughline_kernels::sequence::Ragged;
use throughline_nn::decode::Sampling;
use throughline_nn::heads::Head;
use throughline_nn::module::Module;
use throughline_nn::network::{Network, Weights, Workspace};

use crate::config::{ConfigError, Regularisation};
use crate::error::{Error, Result};
use crate::files::Files;

/// The name and description of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// The name in recipes, in files and on the command line, such as `lm`.
    pub name: &'static str,
    /// What a model of the task is called, such as `language model`.
    pub title: &'static str,
    /// What it predicts, in one line.
    pub about: &'static str,
    /// What the best model has, such as `the lowest loss`.
    pub best: &'static str,
    /// The metrics that models are compared by, of which more is better: by the first that was measured, and by the loss if none
    /// was.
    pub metrics: &'static [&'static str],
    /// What the loss is averaged over, in the plural: `units` or `texts`.
    pub counted: &'static str,
    /// Commands that use a model of the task; `{run}` stands for the run folder.
    pub usage: &'static [&'static str],
}

impl Info {
    /// The metric among `measured` that models are compared by; `None` if it is the loss.
    pub fn deciding(&self, measured: &BTreeMap<String, f64>) -> Option<&'static str> {
        self.metrics.iter().copied().find(|name| measured.contains_key(*name))
    }

    /// The number that models are compared by; lower is better.
    pub fn score(&self, evaluation: &Evaluation) -> f64 {
        self.deciding(&evaluation.metrics).map_or(evaluation.loss, |name| 1.0 - evaluation.metrics[name])
    }
}

/// How well a model does on some data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// How many predictions the loss is the mean over: units or texts.
    pub count: usize,
    /// The mean loss in nats.
    pub loss: f64,
    /// The metrics of the task, by name.
    #[serde(flatten)]
    pub metrics: BTreeMap<String, f64>,
    /// The share of units that are not in the vocabulary, from 0 to 1.
    pub unknown_share: f64,
    /// For a classifier or a tagger: how often each true class or tag was predicted as each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confusion: Option<ConfusionMatrix>,
}

/// What a model is asked to write.
#[derive(Clone, Copy, Debug)]
pub struct Generation<'a> {
    /// What it continues, in the form that the task reads; empty: nothing.
    pub prompt: &'a str,
    /// How many units or steps are written after the prompt.
    pub length: usize,
    /// How they are drawn.
    pub sampling: Sampling,
    /// The same seed writes the same.
    pub seed: u64,
    /// The ending of the file that it is written to, in lower case, such as `mid`; `None` for running text.
    pub ending: Option<&'a str>,
}

/// A list with that of each row.
impl Serialize for Pieces {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// How much of some data is looked at: some of their sequences that have a step, and of each the first steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample<'a> {
    /// Which sequences.
    pub chosen: Chosen<'a>,
    /// The most steps of each.
    pub steps: usize,
    /// The steps of the sequences that running text is cut into.
    pub window: usize,
}

/// Some of the sequences that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chosen<'a> {
    /// At most so many, spread evenly.
    Spread(usize),
    /// Those with these indices.
    These(&'a [usize]),
}

impl Sample<'_> {
    /// At most so many sequences, spread evenly, and of each at most so many steps.
    pub const fn spread(sequences: usize, steps: usize) -> Self {
        Self { chosen: Chosen::Spread(sequences), steps, window: steps }
    }

    /// The indices of its sequences among so many.
    ///
    /// # Panics
    /// If one that is chosen is not there.
    pub fn of(self, count: usize) -> Vec<usize> {
        match self.chosen {
            Chosen::Spread(most) => {
                let sequences = most.min(count);
                (0..sequences).map(|index| index * count / sequences).collect()
            }
            Chosen::These(indices) => {
                assert!(indices.iter().all(|&index| index < count), "one of {indices:?} is not below {count}");
                indices.to_vec()
            }
        }
    }

    /// The steps that are read of a sequence of `length`.
    pub fn cut(self, length: usize) -> usize {
        self.steps.min(length)
    }
}

/// Sequences with their targets as a batch: inputs `X`, targets `Y` of a head.
#[derive(Debug)]
pub struct Examples<X: ToOwned + ?Sized, Y: ToOwned + ?Sized> {
    /// Which sequences they are, among those of the data that have a step.
    pub indices: Vec<usize>,
    /// The shape of the batch.
    pub rows: Ragged,
    /// What the network reads.
    pub x: X::Owned,
    /// What its head is to find.
    pub targets: Y::Owned,
    /// What is read at each packed row, such as a character, a word or a chord; `None` where it is numbers.
    pub pieces: Option<Pieces>,
    /// Where it is numbers, the names of the columns of `x`.
    pub columns: Vec<String>,
}

/// What is read at each packed row of a batch, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pieces {
    names: Vec<String>,
    of_rows: Vec<u32>,
}

impl Pieces {
    /// Row n reads `names[of_rows[n]]`.
    ///
    /// # Panics
    /// If there is no such name.
    pub fn new(names: Vec<String>, of_rows: Vec<u32>) -> Self {
        let most = of_rows.iter().max().map_or(0, |&last| last as usize + 1);
        assert!(most <= names.len(), "a row reads piece {most} of {}", names.len());
        Self { names, of_rows }
    }

    /// Rows that read `pieces`.
    pub fn of(pieces: impl IntoIterator<Item = String>) -> Self {
        let (mut found, mut index_of) = (Self::default(), HashMap::new());
        for piece in pieces {
            let next = found.names.len() as u32;
            found.of_rows.push(*index_of.entry(piece).or_insert_with_key(|piece| {
                found.names.push(piece.clone());
                next
            }));
        }
        found
    }

    /// That of row `row`.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn at(&self, row: usize) -> &str {
        &self.names[self.of_rows[row] as usize]
    }

    /// That of each row.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.of_rows.len()).map(|row| self.at(row))
    }
}

/// The [`Examples`] of a task.
pub type ExamplesOf<T> =
    Examples<<<T as Serve>::Body as Module<f32>>::Input, <<T as Serve>::Head as Head<f32>>::Target>;

/// A network with its weights, and the working memory of one caller.
pub struct Runner<'a, T: Serve> {
    /// The network.
    pub network: &'a Network<T::Body, T::Head>,
    /// Its weights, and the CPU to run on.
    pub weights: Weights<'a, f32, T::Body, T::Head>,
    /// The caller's working memory.
    pub workspace: &'a mut RunnerWorkspace<T>,
}

/// The working memory of a [`Runner`].
pub type RunnerWorkspace<T> = Workspace<f32, <T as Serve>::Body, <T as Serve>::Head>;

/// What using the trained models of a task needs. Training them is the business of another crate.
pub trait Serve: Sized + Send + Sync + 'static {
    /// The name and description of the task.
    const INFO: Info;

    /// The configuration of a model, stored in `config.json`: everything that determines its network and its encoder.
    type Config: Clone + Debug + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static;
    /// Encodes texts as the network's input.
    type Encoder: Send + Sync + 'static;
    /// The body of the network.
    type Body: Module<f32, Packed: Send + Sync, Tape: Send, Input: ToOwned> + Send + Sync;
    /// The head of the network.
    type Head: Head<f32, Packed: Send + Sync, Tape: Send, Target: ToOwned> + Send + Sync;
    /// Encoded data to evaluate on.
    type Data;
    /// The answer to one input.
    type Prediction: Clone + Debug + PartialEq + Serialize;

    /// Checks a configuration that comes from a file.
    ///
    /// # Errors
    /// Names the key, its range and its value.
    fn check(config: &Self::Config) -> std::result::Result<(), ConfigError>;

    /// The network, with what regularises it in training.
    fn network(config: &Self::Config, regularisation: Regularisation) -> Network<Self::Body, Self::Head>;

    /// Reads the files of the encoder.
    ///
    /// # Errors
    /// If a file is missing or damaged, or does not match `config`.
    fn open_encoder(config: &Self::Config, files: &Files) -> Result<Self::Encoder>;

    /// The name and content of each file that [`open_encoder`](Self::open_encoder) reads.
    fn encoder_files(encoder: &Self::Encoder) -> Vec<(&'static str, Vec<u8>)>;

    /// Evaluates the model; `None` if `data` has nothing to predict.
    fn evaluate(
        runner: &mut Runner<'_, Self>,
        config: &Self::Config,
        encoder: &Self::Encoder,
        data: &Self::Data,
    ) -> Option<Evaluation>;

    /// Some of `data`, as a batch.
    fn sample(
        config: &Self::Config,
        encoder: &Self::Encoder,
        data: &Self::Data,
        sample: Sample<'_>,
    ) -> ExamplesOf<Self>;

    /// The predictions for `inputs`, in their order. A prediction is the same bits whatever the other inputs are.
    fn predict(
        runner: &mut Runner<'_, Self>,
        config: &Self::Config,
        encoder: &Self::Encoder,
        inputs: &[&str],
    ) -> Vec<Result<Self::Prediction>>;

    /// Writes the prompt and what follows it, for tasks whose models write. Running text comes in pieces, each of whole
    /// characters.
    ///
    /// # Errors
    /// If models of this task do not write, the prompt or the ending is none that the task takes, or `write` fails.
    fn generate(
        runner: &mut Runner<'_, Self>,
        config: &Self::Config,
        encoder: &Self::Encoder,
        generation: &Generation<'_>,
        write: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<()> {
        let _ = (runner, config, encoder, generation, write);
        Err(Error::Input { expected: "a model that writes".to_owned(), found: format!("a {}", Self::INFO.title) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_kept_once() {
        let pieces = Pieces::of(["a", "b", "a"].map(str::to_owned));
        assert_eq!(pieces, Pieces::new(vec!["a".to_owned(), "b".to_owned()], vec![0, 1, 0]));
        assert_eq!(pieces.iter().collect::<String>(), "aba");
    }

    #[test]
    fn a_sample_is_spread_evenly() {
        let sample = Sample::spread(3, 5);
        assert_eq!(sample.of(10), [0, 3, 6]);
        assert_eq!(sample.of(2), [0, 1]);
        assert_eq!(sample.of(0), [0usize; 0]);
        assert_eq!(Sample { chosen: Chosen::These(&[7, 2]), ..sample }.of(8), [7, 2]);
        assert_eq!((sample.cut(9), sample.cut(4)), (5, 4));
    }
}
