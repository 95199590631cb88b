//! What a task brings to training: its data, the order in which it learns from them, its baselines. What serves a trained
//! model is the task's [`Serve`]; the [`trainer`](crate::trainer) does everything else for all tasks alike.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use throughline_data::{Glimpse, Split, Splits};
use throughline_infer::{Regularisation, Runner, Serve};
use throughline_nn::heads::Loss;
use throughline_nn::initialise::Initialise;
use throughline_nn::module::Pass;
use throughline_nn::network::Network;
use throughline_nn::state::{State, StateArray};

use crate::recipe::TaskOptions;
use crate::{Digest, Recipe, Result};

/// Which batch of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Epochs completed before it.
    pub epoch: u64,
    /// Batches before it in its epoch.
    pub index: u64,
}

/// What one batch was made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learned {
    /// Its loss.
    pub loss: Loss,
    /// How many units were read.
    pub units: usize,
}

/// What identifies the data of a split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitRecord {
    /// Units of a text, or examples.
    pub count: usize,
    /// [`Digest`] of all that is in it.
    pub digest: String,
}

/// What identifies the data of a run; kept in `data.json` and in the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRecord {
    /// What a count is of, in the plural: `characters`, `texts`.
    pub counted: String,
    /// The training split.
    pub train: SplitRecord,
    /// The validation split.
    pub validation: SplitRecord,
    /// The test split.
    pub test: SplitRecord,
}

impl DataRecord {
    /// A record of `splits`, each of which is taken in by `take`, with its count.
    pub fn of<D>(counted: &str, splits: Splits<D>, take: impl Fn(&D, &mut Digest) -> usize) -> Self {
        let Splits { train, validation, test } = splits.map(|split| {
            let mut digest = Digest::default();
            let count = take(&split, &mut digest);
            SplitRecord { count, digest: digest.finish() }
        });
        Self { counted: counted.to_owned(), train, validation, test }
    }

    /// The record of one split.
    pub fn of_split(&self, split: Split) -> &SplitRecord {
        match split {
            Split::Train => &self.train,
            Split::Validation => &self.validation,
            Split::Test => &self.test,
        }
    }

    /// What of `splits` is not as it is `now`, in words; `None` where all are the same.
    pub fn differences(&self, now: &Self, splits: &[Split]) -> Option<String> {
        let of_split = |&split: &Split| {
            let (then, now) = (self.of_split(split), now.of_split(split));
            let (name, counted) = (split.name(), &self.counted);
            if then.count != now.count {
                return Some(format!("the {name} split has {} {counted} and had {}", now.count, then.count));
            }
            (then.digest != now.digest)
                .then(|| format!("the {name} split has other {counted}, {} as before", now.count))
        };
        let differences: Vec<String> = splits.iter().filter_map(of_split).collect();
        (!differences.is_empty()).then(|| differences.join("; "))
    }
}

/// What people are told of a model and its data, in a run's output and on its card.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Description {
    /// What the network is, in words: `bidirectional LSTM, 2 layers of 256 hidden units`.
    pub network: String,
    /// Files and folders of the data.
    pub files: Vec<PathBuf>,
    /// Sizes of the network by name.
    pub sizes: Vec<(String, String)>,
    /// What is in the data, by name.
    pub data: Vec<(String, String)>,
    /// What may be wrong with the data, a sentence each.
    pub warnings: Vec<String>,
    /// How the weights go elsewhere.
    pub exchange: String,
    /// What the model reads: `characters`.
    pub units: String,
}

/// What is in a split, for a look at the data before training.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Examined {
    /// What it has several of: `texts`, `sentences`, or of a running text its `lines`.
    pub what: &'static str,
    /// The length of each, in [units](Description::units).
    pub lengths: Vec<usize>,
    /// Of each a number that equal ones have in common; empty where equal ones are nothing to look for.
    pub keys: Vec<u64>,
    /// Every label, the same in all splits, with how often it occurs in this one.
    pub labels: Vec<(String, usize)>,
    /// The share of units that are not in the vocabulary, from 0 to 1.
    pub unknown_share: f64,
}

/// A number that equal values have in common.
pub(crate) fn key(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// `labels` with how often each occurs in `given`.
pub(crate) fn count_labels(labels: &[String], given: impl Iterator<Item = u32>) -> Vec<(String, usize)> {
    let mut counts = vec![0; labels.len()];
    given.for_each(|label| counts[label as usize] += 1);
    labels.iter().cloned().zip(counts).collect()
}

/// Data to be measured on.
#[derive(Debug)]
pub struct Measured<D> {
    /// The data, encoded.
    pub data: D,
    /// What they are: `test split`, or the files.
    pub what: String,
    /// What was left out of them or may be wrong with them, a sentence each.
    pub notes: Vec<String>,
    /// Of the run's own data, what identifies them now.
    pub record: Option<SplitRecord>,
}

/// What says which task data are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// What the data have and those of other tasks have not, in words: `the columns text and label`.
    Clear(&'static str),
    /// What the data of other tasks may have, too; it counts where those have no sign of their own.
    Faint(&'static str),
}

impl Sign {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Clear(words) | Self::Faint(words) => words,
        }
    }
}

/// The network of a task in training.
pub type NetworkOf<L> = Network<<<L as Learn>::Serve as Serve>::Body, <<L as Learn>::Serve as Serve>::Head>;

/// A task in training: the data of a run.
pub trait Learn: Sized + 'static {
    /// Its models in use.
    type Serve: Serve;
    /// Its settings.
    type Options: TaskOptions;

    /// What says that a file or folder has data of this task, if anything does.
    fn recognises(seen: &Glimpse) -> Option<Sign>;

    /// Reads the data of a recipe.
    ///
    /// # Errors
    /// If a file cannot be read or used, or there is too little in it.
    fn read(recipe: &Recipe) -> Result<Self>;

    /// Writes down in the recipe what was found out from the data, so that it is not guessed anew.
    fn write_down(&self, recipe: &mut Recipe) {
        let _ = recipe;
    }

    /// The model that fits the data and the recipe.
    fn config(&self) -> &<Self::Serve as Serve>::Config;

    /// From inputs to what the network reads.
    fn encoder(&self) -> &<Self::Serve as Serve>::Encoder;

    /// What regularises training.
    fn regularisation(recipe: &Recipe) -> Regularisation;

    /// How the parameters begin.
    fn initialise(recipe: &Recipe) -> Initialise;

    /// The network that is trained.
    fn network(&self, recipe: &Recipe) -> NetworkOf<Self> {
        Self::Serve::network(self.config(), Self::regularisation(recipe))
    }

    /// Sets parameters that come from the data and not from chance, such as word vectors: once before the first update, and
    /// `after_update` those that are to stay as they are.
    fn set_parameters(&self, network: &NetworkOf<Self>, parameters: &mut [f32], after_update: bool) {
        let _ = (network, parameters, after_update);
    }

    /// Batches in an epoch; an update is of one, or of as many as `train.accumulate` says.
    fn batches_per_epoch(&self) -> u64;

    /// The weight of a batch, which its loss will have: of a text or of words its units, of examples their number.
    fn weight(&mut self, place: Place) -> f64;

    /// Adds the gradients of one batch, divided by `normaliser`, to `gradients`. The normaliser is the weight of all batches of
    /// the update.
    fn learn(
        &mut self,
        place: Place,
        normaliser: f64,
        pass: Pass,
        runner: &mut Runner<'_, Self::Serve>,
        gradients: &mut [f32],
    ) -> Learned;

    /// The data of a split, to measure a model on.
    fn data(&self, split: Split) -> &<Self::Serve as Serve>::Data;

    /// What simple methods reach on the validation and the test split.
    ///
    /// # Errors
    /// If there are too few data for one of them.
    fn baselines(&self) -> Result<Vec<Score>>;

    /// The task's metrics of a training loss.
    fn training_metrics(loss: &Loss) -> BTreeMap<String, f64>;

    /// What the model writes after an evaluation, for a task that has such a thing. The same for the same step.
    fn sample(&self, step: u64, runner: &mut Runner<'_, Self::Serve>) -> Option<String> {
        let _ = (step, runner);
        None
    }

    /// What must be kept between updates beside the parameters.
    fn state(&self) -> Option<&State<f32>> {
        None
    }

    /// The same, to take up a run again.
    fn state_mut(&mut self) -> Option<&mut State<f32>> {
        None
    }

    /// What identifies the data.
    fn record(&self) -> DataRecord;

    /// What people are told.
    fn describe(&self) -> Description;

    /// What is in a split.
    fn examine(&self, split: Split) -> Examined {
        let _ = split;
        Examined::default()
    }

    /// Data to measure a trained model on: the files at `paths`, or the test split of the run's own data if there are none.
    ///
    /// # Errors
    /// If the data cannot be read or used, or do not fit the model.
    fn measured(
        recipe: &Recipe,
        config: &<Self::Serve as Serve>::Config,
        encoder: &<Self::Serve as Serve>::Encoder,
        paths: &[PathBuf],
    ) -> Result<Measured<<Self::Serve as Serve>::Data>>;
}

/// Names, shapes and numbers of a state, for a checkpoint.
pub(crate) fn state_tensors(state: &State<f32>) -> impl Iterator<Item = (String, Vec<usize>, &[f32])> {
    let streams = state.streams();
    let tensor = move |array: &'_ StateArray<f32>| (format!("state.{}", array.name()), vec![streams, array.width()]);
    state.arrays().iter().map(move |array| {
        let (name, shape) = tensor(array);
        (name, shape, array.values())
    })
}

/// A line of the table of results.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// What was measured: "this model", "trigram", ...
    pub method: String,
    /// On what it was measured.
    pub split: Split,
    /// The metrics by name. NaN stands for a value that does not exist.
    pub metrics: BTreeMap<String, f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(train: &str, test: &str) -> DataRecord {
        let splits = Splits { train: train.to_owned(), validation: "val".to_owned(), test: test.to_owned() };
        DataRecord::of("characters", splits, |text, digest| {
            digest.bytes(text.as_bytes());
            text.len()
        })
    }

    #[test]
    fn what_differs_is_said_split_by_split() {
        let then = record("abc", "def");
        assert_eq!(then.differences(&record("abc", "def"), &Split::ALL), None);
        let both = then.differences(&record("abcd", "dex"), &Split::ALL).unwrap();
        let want = "the training split has 4 characters and had 3; the test split has other characters, 3 as before";
        assert_eq!(both, want);
        assert_eq!(then.differences(&record("abcd", "def"), &[Split::Test]), None);
    }
}
