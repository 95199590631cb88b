//! A trained model from its run folder: what evaluation, prediction and generation work with.

use std::path::PathBuf;

use throughline_data::{Unit, Vocabulary};
use throughline_kernels::Isa;
use throughline_kernels::buffer::Buffer;
use throughline_kernels::random::{Philox, Purpose};
use throughline_kernels::threads::Threads;
use throughline_nn::classifier::Sequences;
use throughline_nn::config::ModelConfig;
use throughline_nn::network::{Dropouts, Network, PackedNetwork, Weights, Workspace};
use throughline_nn::recurrent::Pass;
use throughline_nn::sampling::Sampling;

use crate::lesson::{self, Evaluation, Model};
use crate::tasks::classify;
use crate::{Error, Recipe, Result, RunFolder, Task, generate, read_at_most};

/// The most bytes of a `config.json` or `labels.json`.
const LARGEST_DESCRIPTION: u64 = 16 << 20;

/// A model that was trained, ready to be used.
pub struct TrainedModel {
    folder: RunFolder,
    recipe: Recipe,
    network: Network,
    vocabulary: Vocabulary,
    labels: Vec<String>,
    parameters: Buffer<f32>,
    packed: PackedNetwork<f32>,
    workspace: Workspace<f32>,
    threads: Threads,
}

/// What a classifier says of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Every class with its probability, the most probable first.
    pub classes: Vec<(String, f64)>,
}

/// The text of `labels.json`.
pub(crate) fn labels_json(labels: &[String]) -> String {
    serde_json::to_string_pretty(labels).expect("strings have a JSON form") + "\n"
}

/// More bytes than the weights of `network` can take: the numbers, and room for the header.
pub(crate) fn largest_weights(network: &Network) -> u64 {
    let header: usize = network.layout().tensors().iter().map(|tensor| tensor.name().len() + 512).sum();
    4 * network.layout().parameter_count() as u64 + header as u64 + (1 << 16)
}

/// Commands that use a model of a run.
pub(crate) fn usage(task: Task, name: &str) -> Vec<String> {
    match task {
        Task::Lm => vec![
            format!("throughline generate {name} --prompt \"Once\" --length 500 --temperature 0.8"),
            format!("throughline predict {name} < lines.txt"),
            format!("throughline eval {name}"),
        ],
        Task::Classify => vec![format!("throughline predict {name} < lines.txt"), format!("throughline eval {name}")],
    }
}

impl TrainedModel {
    /// Loads the best model of a run, to compute with `threads` threads (`None`: as the recipe says).
    ///
    /// # Errors
    /// If a file of the run is missing, damaged, of another version, or does not fit the others.
    pub fn load(folder: RunFolder, threads: Option<usize>) -> Result<Self> {
        let recipe = Recipe::resolve(Some(&folder.config_toml()), &[], &[])?;
        let path = folder.config_json();
        let text = read_text(&path)?;
        let config =
            ModelConfig::from_json(&text).map_err(|error| Error::file(&path, "model", "a model description", error))?;
        let wrong = |what: &str, expected: String, found: String| Err(Error::file(&path, what, expected, found));
        if config.task != lesson::task_of(&recipe) {
            let expected = format!("\"{}\", as config.toml says", recipe.task());
            return wrong("task", expected, config.task.name().to_owned());
        }
        let vocabulary = Vocabulary::load(folder.vocabulary())?;
        if vocabulary.len() != config.vocabulary {
            let expected = format!("{}, the units in vocabulary.json", vocabulary.len());
            return wrong("vocabulary", expected, config.vocabulary.to_string());
        }
        let labels = match config.classes {
            None => Vec::new(),
            Some(classes) => read_labels(&folder, classes)?,
        };
        let network = Network::new(config, Dropouts::default())
            .map_err(|error| Error::file(&path, "model", "a model that can be built", error))?;
        let path = folder.model();
        let bytes = read_at_most(&path, largest_weights(&network))?;
        let held = network.layout().parameter_count() as u64 * 4;
        if (bytes.len() as u64) < held {
            let expected = format!("at least {held} bytes of weights, as config.json describes");
            return Err(Error::file(&path, "model", expected, format_args!("{} bytes", bytes.len())));
        }
        let mut parameters = network.layout().zeros();
        throughline_nn::weights::load(network.config(), network.layout(), &bytes, &mut parameters)
            .map_err(|error| Error::file(&path, "model", "the weights of this model", error))?;
        let threads = recipe.start_threads(threads)?;
        Ok(Self {
            packed: network.packed(Isa::detect(), &threads, &parameters, false),
            workspace: network.workspace(&threads),
            folder,
            recipe,
            network,
            vocabulary,
            labels,
            parameters,
            threads,
        })
    }

    /// What the model was trained for.
    pub fn task(&self) -> Task {
        self.network.config().task
    }

    /// The recipe it was trained by.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Its run folder.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// Its network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Its vocabulary.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// The classes of a classifier.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    pub(crate) fn parts(&mut self) -> (Model<'_>, &mut Workspace<f32>) {
        let weights = Weights { parameters: &self.parameters, packed: &self.packed, threads: &self.threads };
        (Model { network: &self.network, weights }, &mut self.workspace)
    }

    fn expect_task(&self, task: Task, what: &str) -> Result<()> {
        if self.task() == task {
            return Ok(());
        }
        let expected = format!("a run of task \"{}\" to {what}", task.name());
        Err(Error::file(self.folder.path(), "task", expected, format_args!("\"{}\"", self.recipe.task())))
    }

    /// The logits `[classes]` of one text for a classifier.
    fn logits(&mut self, text: &str) -> Vec<f32> {
        let tokens =
            lesson::encode_text(self.recipe.options::<classify::Options>().examples.max_length, &self.vocabulary, text);
        let (model, workspace) = self.parts();
        let mut sequences = Sequences::default();
        sequences.set(std::iter::once(&tokens[..]));
        model.network.classify(model.weights, &sequences, Pass::Inference, workspace).to_vec()
    }

    /// Classifies one text.
    ///
    /// # Errors
    /// If the model is no classifier.
    pub fn classify(&mut self, text: &str) -> Result<Prediction> {
        self.expect_task(Task::Classify, "classify with")?;
        let logits = self.logits(text);
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<f64> = logits.iter().map(|&logit| f64::from(logit - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut classes: Vec<(String, f64)> =
            self.labels.iter().cloned().zip(weights.iter().map(|weight| weight / total)).collect();
        classes.sort_by(|a, b| b.1.total_cmp(&a.1));
        Ok(Prediction { classes })
    }

    /// The mean loss of a text in nats per unit, read from the initial state; `None` for fewer than two units.
    ///
    /// # Errors
    /// If the model is no language model.
    pub fn text_loss(&mut self, text: &str) -> Result<Option<Evaluation>> {
        self.expect_task(Task::Lm, "score texts with")?;
        let tokens = self.vocabulary.encode(text);
        let (model, workspace) = self.parts();
        Ok(lesson::evaluate_tokens(&tokens, 1, model, workspace).map(|(evaluation, _)| evaluation))
    }

    /// Continues `prompt` by `length` units, handing every piece to `write` as soon as it is whole.
    ///
    /// # Errors
    /// If the model is no language model, or what `write` returns.
    pub fn generate(
        &mut self,
        prompt: &str,
        length: usize,
        sampling: &Sampling,
        seed: u64,
        write: &mut dyn FnMut(&str) -> std::io::Result<()>,
    ) -> Result<std::io::Result<()>> {
        self.expect_task(Task::Lm, "generate with")?;
        let vocabulary = self.vocabulary.clone();
        let random = Philox::new(seed, Purpose::Sample, 0).stream();
        let (model, workspace) = self.parts();
        Ok(generate::generate(model, &vocabulary, prompt, length, sampling, random, workspace, write))
    }

    /// Measures the model on labelled texts or on a text: those at `paths`, or the test part of its own data.
    ///
    /// # Errors
    /// If the data cannot be read or used.
    pub fn evaluate(&mut self, paths: &[PathBuf]) -> Result<Report> {
        lesson::report(self, paths)
    }

    /// What one unit of its texts is.
    pub fn unit(&self) -> Unit {
        self.vocabulary.unit()
    }
}

/// What [`TrainedModel::evaluate`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// What was measured: "test part", or the files.
    pub what: String,
    /// Units that were predicted, or texts.
    pub count: usize,
    /// Loss and metrics.
    pub evaluation: Evaluation,
    /// Of a classifier, who was taken for whom.
    pub confusion: Option<throughline_data::ConfusionMatrix>,
}

fn read_text(path: &std::path::Path) -> Result<String> {
    let bytes = read_at_most(path, LARGEST_DESCRIPTION)?;
    String::from_utf8(bytes).map_err(|error| Error::file(path, "text", "UTF-8", error))
}

fn read_labels(folder: &RunFolder, classes: usize) -> Result<Vec<String>> {
    let path = folder.labels();
    let labels: Vec<String> = serde_json::from_str(&read_text(&path)?)
        .map_err(|error| Error::file(&path, "labels", "a JSON list of class names", error))?;
    if labels.len() != classes {
        let expected = format!("{classes} classes, as config.json says");
        return Err(Error::file(&path, "labels", expected, labels.len()));
    }
    Ok(labels)
}
