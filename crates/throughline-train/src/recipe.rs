//! Recipes: everything that decides a training run, in one TOML file.
//!
//! A recipe is a TOML file, `--set key=value` overrides and `--data` paths, resolved into one [`Recipe`]
//! ([`Recipe::resolve`]). Written back ([`Recipe::to_toml`]) it spells out every default that has an effect and reads again
//! identically. Every key has a default but `task` and `data.paths`. The fields below are the keys, with their units,
//! defaults and ranges; a key that has no effect beside the others (`optimiser.momentum` with Adam, say) must be left at its
//! default, so that no setting is ever ignored in silence.

mod build;
mod check;
mod nearest;
mod resolve;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use throughline_data::{Format, Unit};
pub use throughline_nn::checkpointing::Checkpointing;
pub use throughline_nn::config::Task;
pub use throughline_nn::initialise::Initialisation;
pub use throughline_nn::recurrent::InitialState;

pub(crate) use build::recurrent_config;

/// What to train, on what and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// `"lm"` or `"classify"`. No default.
    pub task: Task,
    /// Name of the run folder: letters, digits, `-`, `_` and `.`. Default `""`: the task and the first free number.
    pub name: String,
    /// Seed of every random number of the run. Default 1.
    pub seed: u64,
    /// Threads, 0 to 1024; 0 takes all that are available. The results are the same for any number. Default 0.
    pub threads: usize,
    /// Folder of the run folders. Default `"runs"`.
    pub runs_dir: PathBuf,
    /// Table `[data]`.
    pub data: Data,
    /// Table `[model]`.
    pub model: Model,
    /// Table `[train]`.
    pub train: Train,
    /// Table `[optimiser]`.
    pub optimiser: Optimiser,
    /// Table `[schedule]`.
    pub schedule: Schedule,
    /// Table `[sample]`, language models only.
    pub sample: Sample,
}

/// Where the texts come from and how they are cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Files or folders with the texts, relative to the current folder. No default; `--data` takes their place.
    pub paths: Vec<PathBuf>,
    /// Files or folders of the validation part; `paths` is then not cut for it. Default `[]`.
    pub validation: Vec<PathBuf>,
    /// Files or folders of the test part; `paths` is then not cut for it. Default `[]`.
    pub test: Vec<PathBuf>,
    /// Shares of the training, validation and test part of `paths`, together at most 1. A part with paths of its own is not
    /// cut out of `paths`, whatever its share. Default `[0.9, 0.05, 0.05]`.
    pub split: [f64; 3],
    /// What one step of the network reads: `"char"`, `"byte"` or `"word"`. Default `"char"`.
    pub unit: Unit,
    /// Encoding of the files, by its WHATWG label. Default `"utf-8"`.
    pub encoding: String,
    /// Most units in the vocabulary, the unknown one counted, the most frequent first, at least 2; 0: no limit. Default 0.
    pub max_vocabulary: usize,
    /// How often a unit must occur in the training part to enter the vocabulary, at least 1. Default 1.
    pub min_count: usize,
    /// Use only the first so many units (`lm`) or examples (`classify`); 0: all. Default 0.
    pub limit: usize,
    /// How the examples lie in the files (`classify`): `"auto"`, `"csv"`, `"tsv"`, `"folder-per-class"`, `"file-per-class"`
    /// or `"label-first"`. Default `"auto"`, here `None`: found out from the files ([`Format::detect`]).
    #[serde(with = "auto_or_format")]
    pub format: Option<Format>,
    /// Column of the text in CSV and TSV files (`classify`): its name, or with both columns its number from 1 in a file
    /// without header. Default `""`: the column called `text`.
    pub text_column: String,
    /// Column of the label, given like `text_column`. Default `""`: the column called `label`.
    pub label_column: String,
    /// Keep only the first of equal examples (`classify`). Default false.
    pub deduplicate: bool,
    /// Longest text in units, longer ones are cut (`classify`); 0: no limit. Default 0.
    pub max_length: usize,
}

/// The network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// `"lstm"`, `"gru"` (reset after the product, PyTorch's), `"gru-before"` (reset before it, Cho et al. 2014), `"rnn"`
    /// (tanh) or `"rnn-relu"`. Default `"lstm"`.
    pub cell: Cell,
    /// Numbers per embedded unit, 1 to 65536. Default 64.
    pub embedding: usize,
    /// Hidden units per layer and direction, 1 to 65536. Default 256.
    pub hidden: usize,
    /// Layers, 1 to 64. Default 2.
    pub layers: usize,
    /// Read in both directions. Default true for `classify`; a language model cannot.
    pub bidirectional: bool,
    /// Share of the activations dropped between layers, 0 to below 1. Default 0.
    pub dropout: f64,
    /// Share of the embedding's activations dropped, 0 to below 1. Default 0.
    pub embedding_dropout: f64,
    /// Share of the last layer's activations dropped before the output layer, 0 to below 1. Default 0.
    pub output_dropout: f64,
    /// Biases in the recurrent layers. Default true.
    pub bias: bool,
    /// The output layer uses the embedding's weights (`lm`; Press and Wolf 2017); needs `embedding == hidden`.
    /// Default false.
    pub tied: bool,
    /// State before the first unit: `"zero"` or `"learned"`. Default `"zero"`.
    pub initial_state: InitialState,
    /// Initial weights: `"uniform"` within ±1/sqrt(hidden) (PyTorch's), `"xavier"` (Glorot and Bengio 2010) or
    /// `"orthogonal"` (Saxe et al. 2014) for the recurrent ones. Default `"uniform"`.
    pub initialise: Initialisation,
    /// Added to the input bias of the LSTM's forget gate at the start, -10 to 10 (Gers et al. 2000; often 1). Default 0.
    pub forget_bias: f64,
}

/// The recurrent cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Cell {
    /// `"lstm"`.
    Lstm,
    /// `"gru"`: the reset gate acts after the product.
    Gru,
    /// `"gru-before"`: the reset gate acts before the product.
    GruBefore,
    /// `"rnn"`: tanh.
    Rnn,
    /// `"rnn-relu"`.
    RnnRelu,
}

/// The course of training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// Passes over the training part, 1 to 1,000,000. Default 10.
    pub epochs: u64,
    /// Updates; where not 0 it decides the length of the run in place of `epochs`. Default 0.
    pub steps: u64,
    /// Sequences per update, 1 to 65536. Default 32.
    pub batch: usize,
    /// Units that each stream moves on per update (`lm`), 1 to 1048576. Default 64.
    pub stride: usize,
    /// Units through which the gradient flows back (`lm`): 0 stands for `stride`, else `stride` to 1048576. Default 0.
    pub window: usize,
    /// Checkpointing in time, to train through long sequences in little memory: keep the states after every so many steps and
    /// compute the rest anew where the gradient needs it, 0 to 1048576. 0: keep everything; `"auto"`: about the square root
    /// of the length of each batch (`lm`: of its window). With k steps of T, memory for the recurrent layers beside their
    /// output is that of k steps and T/k states, and training takes at most one more forward pass. Gradients differ in
    /// rounding. Only where the model does not read in both directions ([`throughline_nn::checkpointing`]). Default 0.
    #[serde(with = "auto_or_steps")]
    pub checkpoint_every: Checkpointing,
    /// Largest global norm of the gradient (Pascanu et al. 2013), 0 to 1e6; 0: no limit. Default 1.
    pub clip_norm: f64,
    /// Largest absolute value of an element of the gradient, 0 to 1e6; 0: no limit. Default 0.
    pub clip_value: f64,
    /// Evaluations on the validation part, evenly over the run, 5 to 100,000. Default 10.
    pub evaluations: u64,
    /// Seconds between checkpoints, 1 to 604,800. Default 60.
    pub checkpoint_seconds: u64,
    /// After so many seconds of training stop and finish cleanly; 0: no limit. Default 0.
    pub max_seconds: u64,
    /// After so many evaluations in a row without a better model (`lm`: lower loss; `classify`: fewer errors) stop and finish;
    /// 0: never. Default 0.
    pub patience: u64,
}

/// How gradients become updates, with PyTorch's definitions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Optimiser {
    /// `"adamw"` (Loshchilov and Hutter 2019), `"adam"` (Kingma and Ba 2015), `"sgd"` or `"rmsprop"`. Default `"adamw"`.
    pub kind: OptimiserKind,
    /// Peak learning rate, above 0, at most 1000. Default 0.002.
    pub learning_rate: f64,
    /// Decay of the weights, 0 to 1000: decoupled with `adamw`, added to the gradient with the others. Default 0.01 with
    /// `adamw`, else 0.
    pub weight_decay: f64,
    /// Share of the last update that is kept (`sgd`, `rmsprop`), 0 to below 1. Default 0.
    pub momentum: f64,
    /// Decay of the gradient's mean (`adam`, `adamw`), 0 to below 1. Default 0.9.
    pub beta1: f64,
    /// Decay of the squared gradient's mean (`adam`, `adamw`), 0 to below 1. Default 0.999.
    pub beta2: f64,
    /// Decay of the squared gradient's mean (`rmsprop`), 0 to below 1. Default 0.99.
    pub alpha: f64,
    /// Added to the denominator (not with `sgd`), 1e-12 to 1. Default 1e-8.
    pub epsilon: f64,
}

/// The optimiser's rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum OptimiserKind {
    /// `"adamw"`.
    AdamW,
    /// `"adam"`.
    Adam,
    /// `"sgd"`.
    Sgd,
    /// `"rmsprop"`.
    RmsProp,
}

impl OptimiserKind {
    /// PyTorch's default of the weight decay.
    pub fn default_weight_decay(self) -> f64 {
        if self == Self::AdamW { 0.01 } else { 0.0 }
    }
}

/// How the learning rate changes; the formulas are at [`Schedule::factor`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// `"constant"`, `"step"`, `"cosine"` (Loshchilov and Hutter 2017) or `"plateau"`. Default `"constant"`.
    pub kind: ScheduleKind,
    /// Updates in which the rate rises linearly to its peak. Default 0.
    pub warmup: u64,
    /// Updates between two steps (`step`), at least 1. Default 1000.
    pub step_every: u64,
    /// Factor of a step (`step`, `plateau`), above 0, below 1. Default 0.5.
    pub gamma: f64,
    /// Smallest rate as a share of the peak (not with `constant`), 0 to 1. Default 0.01.
    pub floor: f64,
    /// Evaluations in a row without a new lowest validation loss before a step (`plateau`), at least 1. Default 2.
    pub patience: u64,
}

/// The shape of a [`Schedule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ScheduleKind {
    /// `"constant"`.
    Constant,
    /// `"step"`.
    Step,
    /// `"cosine"`.
    Cosine,
    /// `"plateau"`.
    Plateau,
}

/// The texts that a language model writes while it is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Units, 1 to 1,000,000. Default 200.
    pub length: usize,
    /// Divides the logits, 0 to 100; 0 takes the most likely unit. Default 0.8.
    pub temperature: f64,
    /// What the text begins with. Default `""`.
    pub prompt: String,
    /// Write one after every evaluation. Default true.
    pub every_evaluation: bool,
}

impl Recipe {
    /// The built-in recipe of `task`: every default. It lacks only `data.paths`.
    pub fn default_for(task: Task) -> Self {
        Self {
            task,
            name: String::new(),
            seed: 1,
            threads: 0,
            runs_dir: PathBuf::from("runs"),
            data: Data::default(),
            model: Model::default_for(task),
            train: Train::default(),
            optimiser: Optimiser::default_for(OptimiserKind::AdamW),
            schedule: Schedule::default(),
            sample: Sample::default(),
        }
    }

    /// A digest of what decides the numbers of the run: all but where it lies, its threads, when it saves and when it stops.
    /// A checkpoint resumes only under a recipe of the same identity.
    ///
    /// # Errors
    /// As [`Recipe::to_toml`].
    pub fn identity(&self) -> crate::Result<String> {
        Ok(crate::Digest::of(self.deciding().to_toml()?.as_bytes()))
    }

    /// The keys that give this recipe another [`identity`](Self::identity) than `other`.
    ///
    /// # Errors
    /// As [`Recipe::to_toml`], for either of them.
    pub fn deciding_keys_unlike(&self, other: &Self) -> crate::Result<Vec<String>> {
        self.check()?;
        other.check()?;
        let [ours, theirs] = [self, other].map(|recipe| recipe.deciding().to_table());
        let mut keys = resolve::dotted_keys(&ours, "");
        keys.retain(|key| match check::value_at(&ours, key) {
            Some(toml::Value::Table(_)) => false,
            value => value != check::value_at(&theirs, key),
        });
        Ok(keys)
    }

    /// This recipe with defaults for all that does not decide the numbers of the run.
    fn deciding(&self) -> Self {
        let defaults = Self::default_for(self.task);
        let train = Train {
            epochs: defaults.train.epochs,
            steps: defaults.train.steps,
            evaluations: defaults.train.evaluations,
            checkpoint_seconds: defaults.train.checkpoint_seconds,
            max_seconds: defaults.train.max_seconds,
            patience: defaults.train.patience,
            ..self.train.clone()
        };
        let Self { seed, data, model, optimiser, schedule, .. } = self.clone();
        Self { seed, data, model, train, optimiser, schedule, ..defaults }
    }
}

impl Default for Data {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            validation: Vec::new(),
            test: Vec::new(),
            split: [0.9, 0.05, 0.05],
            unit: Unit::Char,
            encoding: "utf-8".to_owned(),
            max_vocabulary: 0,
            min_count: 1,
            limit: 0,
            format: None,
            text_column: String::new(),
            label_column: String::new(),
            deduplicate: false,
            max_length: 0,
        }
    }
}

/// [`Data::format`] in TOML: `None` is `"auto"`.
mod auto_or_format {
    use serde::de::{Deserializer, Error};
    use serde::{Deserialize, Serializer};
    use throughline_data::Format;

    const AUTO: &str = "auto";

    pub fn serialize<S: Serializer>(format: &Option<Format>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(format.map_or(AUTO, Format::name))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Format>, D::Error> {
        let name = String::deserialize(deserializer)?;
        let format = Format::ALL.into_iter().find(|format| format.name() == name);
        if format.is_none() && name != AUTO {
            let names = Format::ALL.map(|format| format!("`{}`", format.name())).join(", ");
            return Err(D::Error::custom(format_args!("expected one of `{AUTO}`, {names}")));
        }
        Ok(format)
    }
}

/// [`Train::checkpoint_every`] in TOML: `Off` is 0, `Auto` is `"auto"`.
mod auto_or_steps {
    use std::fmt;

    use serde::de::{Deserializer, Error, Unexpected, Visitor};
    use serde::{Serialize, Serializer};
    use throughline_nn::checkpointing::Checkpointing;

    const AUTO: &str = "auto";

    pub fn serialize<S: Serializer>(checkpointing: &Checkpointing, serializer: S) -> Result<S::Ok, S::Error> {
        match checkpointing {
            Checkpointing::Off => 0.serialize(serializer),
            Checkpointing::Every(steps) => steps.serialize(serializer),
            Checkpointing::Auto => AUTO.serialize(serializer),
        }
    }

    struct AutoOrSteps;

    impl Visitor<'_> for AutoOrSteps {
        type Value = Checkpointing;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a whole number of steps, 0 or more, or \"{AUTO}\"")
        }

        fn visit_i64<E: Error>(self, steps: i64) -> Result<Checkpointing, E> {
            let steps = usize::try_from(steps).map_err(|_| E::invalid_value(Unexpected::Signed(steps), &self))?;
            Ok(Checkpointing::every(steps))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Checkpointing, E> {
            if text == AUTO { Ok(Checkpointing::Auto) } else { Err(E::invalid_value(Unexpected::Str(text), &self)) }
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Checkpointing, D::Error> {
        deserializer.deserialize_any(AutoOrSteps)
    }
}

impl Model {
    /// The defaults for `task`.
    pub fn default_for(task: Task) -> Self {
        Self {
            cell: Cell::Lstm,
            embedding: 64,
            hidden: 256,
            layers: 2,
            bidirectional: task == Task::Classify,
            dropout: 0.0,
            embedding_dropout: 0.0,
            output_dropout: 0.0,
            bias: true,
            tied: false,
            initial_state: InitialState::Zero,
            initialise: Initialisation::Uniform,
            forget_bias: 0.0,
        }
    }
}

impl Train {
    /// Units through which the gradient flows back: `window`, or `stride` where that is 0.
    pub fn gradient_window(&self) -> usize {
        if self.window == 0 { self.stride } else { self.window }
    }
}

impl Default for Train {
    fn default() -> Self {
        Self {
            epochs: 10,
            steps: 0,
            batch: 32,
            stride: 64,
            window: 0,
            checkpoint_every: Checkpointing::Off,
            clip_norm: 1.0,
            clip_value: 0.0,
            evaluations: 10,
            checkpoint_seconds: 60,
            max_seconds: 0,
            patience: 0,
        }
    }
}

impl Optimiser {
    /// The defaults for `kind`.
    pub fn default_for(kind: OptimiserKind) -> Self {
        Self {
            kind,
            learning_rate: 2e-3,
            weight_decay: kind.default_weight_decay(),
            momentum: 0.0,
            beta1: 0.9,
            beta2: 0.999,
            alpha: 0.99,
            epsilon: 1e-8,
        }
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self { kind: ScheduleKind::Constant, warmup: 0, step_every: 1000, gamma: 0.5, floor: 0.01, patience: 2 }
    }
}

impl Default for Sample {
    fn default() -> Self {
        Self { length: 200, temperature: 0.8, prompt: String::new(), every_evaluation: true }
    }
}
