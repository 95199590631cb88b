//! What is to be learnt: the data of a run, cut into updates and evaluations. One implementation for each task; the
//! [`trainer`](crate::trainer) does the rest for both.

mod classify;
mod language_model;
mod report;

use std::collections::BTreeMap;

use throughline_data::{Unit, Vocabulary, VocabularyOptions};
use throughline_kernels::ops::cross_entropy::Classified;
use throughline_nn::config::ModelConfig;
use throughline_nn::network::{Network, Weights, Workspace};
use throughline_nn::recurrent::Pass;

use crate::card::Score;
use crate::recipe::TaskOptions;
use crate::tasks::classify as classifier;
use crate::tasks::lm;
use crate::tasks::shared::{RecurrentModel, TextData};
use crate::{Part, Recipe, Result, Task};

pub use classify::ClassifyLesson;
pub(crate) use classify::encode_text;
pub use language_model::{BUILT_IN, LanguageModelLesson};
pub(crate) use language_model::{evaluate as evaluate_tokens, metrics as language_metrics};
pub(crate) use report::report;

/// The network of a run at work.
#[derive(Clone, Copy)]
pub struct Model<'a> {
    /// Its parts.
    pub network: &'a Network,
    /// Its weights, and the threads to compute with.
    pub weights: Weights<'a, f32>,
}

/// Which update of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Epochs completed before it.
    pub epoch: u64,
    /// Updates before it in its epoch.
    pub index: u64,
}

/// What the model reached on a part of the data.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean loss in nats: per unit for a language model, per text for a classifier.
    pub loss: f64,
    /// What the best model has least of: the loss of a language model, the error rate of a classifier.
    pub score: f64,
    /// The task's metrics.
    pub metrics: BTreeMap<String, f64>,
}

/// A named array for a checkpoint.
pub type NamedTensor<'a> = (String, Vec<usize>, &'a [f32]);

/// The data of a run.
pub trait Lesson: Send {
    /// The model that fits the data and the recipe.
    fn model_config(&self) -> ModelConfig;
    /// Updates in an epoch.
    fn updates_per_epoch(&self) -> u64;
    /// Adds the gradients of one update to `gradients`. Returns its loss and how many units were read.
    fn learn(
        &mut self,
        place: Place,
        model: Model<'_>,
        pass: Pass,
        gradients: &mut [f32],
        workspace: &mut Workspace<f32>,
    ) -> (Classified, usize);
    /// What the model reaches on a part; `None` if the part is empty.
    fn evaluate(&mut self, part: Part, model: Model<'_>, workspace: &mut Workspace<f32>) -> Option<Evaluation>;
    /// Units (of a language model) or texts (of a classifier) in a part.
    fn count(&self, part: Part) -> usize;
    /// What simple methods reach on the same parts.
    fn baselines(&self) -> Result<Vec<Score>>;
    /// A text that the model writes, for a task that has one. The same for the same step.
    fn sample(&self, step: u64, model: Model<'_>, workspace: &mut Workspace<f32>) -> Option<String>;
    /// What must be kept between updates beside the parameters.
    fn carried(&self) -> Vec<NamedTensor<'_>>;
    /// Takes back what [`carried`](Self::carried) gave, in its order.
    fn restore(&mut self, tensors: Vec<Vec<f32>>);
    /// A digest of all data.
    fn digest(&self) -> String;
    /// Facts about the data, for people.
    fn facts(&self) -> Vec<(String, String)>;
    /// What the units are.
    fn vocabulary(&self) -> &Vocabulary;
    /// The classes of a classifier.
    fn labels(&self) -> Option<&[String]>;
}

/// The task of a recipe, as `config.json` names it.
pub(crate) fn task_of(recipe: &Recipe) -> Task {
    if recipe.task() == lm::Options::NAME { Task::Lm } else { Task::Classify }
}

/// `[data]` of a recipe.
pub(crate) fn data_of(recipe: &Recipe) -> &TextData {
    match task_of(recipe) {
        Task::Lm => &recipe.options::<lm::Options>().data,
        Task::Classify => &recipe.options::<classifier::Options>().data,
    }
}

/// `[model]` of a recipe, and whether it reads in both directions.
pub(crate) fn model_of(recipe: &Recipe) -> (&RecurrentModel, bool) {
    match task_of(recipe) {
        Task::Lm => (&recipe.options::<lm::Options>().model, false),
        Task::Classify => {
            let options = recipe.options::<classifier::Options>();
            (&options.model, options.reading.bidirectional)
        }
    }
}

/// Whether the model writes a text after every evaluation.
pub(crate) fn samples(recipe: &Recipe) -> bool {
    task_of(recipe) == Task::Lm && recipe.options::<lm::Options>().sample.every_evaluation
}

/// Reads the data of a recipe.
///
/// # Errors
/// If a file cannot be read or used, or there is too little in it.
pub fn load(recipe: &Recipe) -> Result<Box<dyn Lesson>> {
    Ok(match task_of(recipe) {
        Task::Lm => Box::new(LanguageModelLesson::load(recipe)?),
        Task::Classify => Box::new(ClassifyLesson::load(recipe)?),
    })
}

/// What the vocabulary holds. Bytes have no choice: there are 256.
fn vocabulary_options(data: &TextData) -> VocabularyOptions {
    match data.unit {
        Unit::Byte => VocabularyOptions::default(),
        _ => VocabularyOptions {
            max_size: (data.max_vocabulary > 0).then_some(data.max_vocabulary),
            min_count: data.min_count as u64,
        },
    }
}

/// A whole number such as 1234567 as "1,234,567".
pub(crate) fn grouped(number: impl std::fmt::Display) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The shares of the parts that are cut out of `data.paths`. A part with paths of its own is not cut; its share stays with
/// the training part.
fn fractions(data: &TextData) -> Result<throughline_data::Fractions> {
    let [mut train, mut validation, mut test] = data.split;
    if !data.validation.is_empty() {
        train += std::mem::take(&mut validation);
    }
    if !data.test.is_empty() {
        train += std::mem::take(&mut test);
    }
    Ok(throughline_data::Fractions::new(train.min(1.0), validation, test)?)
}
