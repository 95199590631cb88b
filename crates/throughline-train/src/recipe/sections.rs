//! The settings of every task, table by table.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use throughline_nn::checkpointing::Checkpointing;

use super::settings::settings;

settings! {
    /// The keys above all tables.
    pub struct General {
        /// What to train; `throughline recipe` lists the tasks. It decides which other keys there are.
        task: String = String::new() => "\"lm\"",
        /// Name of the run folder: letters, digits, `-`, `_` and `.`. Empty: the task and the first free number.
        name: String = String::new(),
        /// Seed of every random number of the run.
        seed: u64 = 1,
        /// Threads, 0 to 1024; 0 takes all that are available. The results are the same for any number.
        threads: usize = 0,
        /// Folder of the run folders.
        runs_dir: PathBuf = PathBuf::from("runs"),
    }
}

settings! {
    /// Table `[train]`: the course of training.
    pub struct Train {
        /// Passes over the training split, 1 to 1,000,000.
        epochs: u64 = 10,
        /// Updates, 0 to 10^12; if not 0, it decides the length of the run in place of `epochs`.
        steps: u64 = 0,
        /// Sequences per batch, 1 to 65536; an update is of one batch.
        batch: usize = 32,
        /// Batches whose gradients make one update, 1 to 65536: as one batch of so many times the size, in the memory of one. The
        /// last update of an epoch is of those that are left. Batches drop activations of their own, and the windows of a text
        /// follow each other.
        accumulate: u64 = 1,
        /// Checkpointing in time, to train on long sequences in little memory: keep the states after every so many steps and
        /// recompute the rest where the gradient needs it, 0 to 1048576. 0: keep everything; `"auto"`: about the square root
        /// of the length of each batch. With k steps of T, the recurrent layers need memory for k steps and T/k states beside
        /// their output, and training takes at most one more forward pass. Gradients differ in rounding. Only for models that
        /// read in one direction.
        #[serde(with = "auto_or_steps")]
        checkpoint_every: Checkpointing = Checkpointing::Off,
        /// Largest global norm of the gradient (Pascanu et al. 2013), 0 to 1e6; 0: no limit.
        clip_norm: f64 = 1.0,
        /// Largest absolute value of an element of the gradient, 0 to 1e6; 0: no limit.
        clip_value: f64 = 0.0,
        /// Evaluations on the validation split, evenly over the run, 5 to 100,000.
        evaluations: u64 = 10,
        /// Seconds between checkpoints, 1 to 604,800.
        checkpoint_seconds: u64 = 60,
        /// Stop and finish cleanly after so many seconds of training; 0: no limit.
        max_seconds: u64 = 0,
        /// Stop and finish after so many evaluations in a row without a better model, 0 to 10^12; 0: never. With more
        /// `evaluations` than the default give it more patience.
        patience: u64 = 5,
        /// Write the metrics for TensorBoard, too: a new file `events.out.tfevents...` in the run folder whenever the run begins or
        /// goes on.
        tensorboard: bool = false,
        /// Write a page with figures at the end, `report.html` in the run folder, where there is a test split: what
        /// `throughline inspect --html` shows, of fewer sequences.
        report: bool = true,
    }
}

settings! {
    /// Table `[optimiser]`: how gradients become updates, with PyTorch's definitions.
    pub struct Optimiser {
        /// `"adamw"` (Loshchilov and Hutter 2019), `"adam"` (Kingma and Ba 2015), `"sgd"` or `"rmsprop"`.
        kind: OptimiserKind = OptimiserKind::AdamW,
        /// Peak learning rate, above 0, at most 1000.
        learning_rate: f64 = 2e-3,
        /// Decay of the weights, 0 to 1000: decoupled with `adamw`, added to the gradient with the others. If it is not given,
        /// 0.01 with `adamw` and 0 with the others.
        weight_decay: f64 = 0.01,
        /// Share of the last update that is kept (`sgd`, `rmsprop`), 0 to below 1.
        momentum: f64 = 0.0,
        /// Decay of the gradient's mean (`adam`, `adamw`), 0 to below 1.
        beta1: f64 = 0.9,
        /// Decay of the squared gradient's mean (`adam`, `adamw`), 0 to below 1.
        beta2: f64 = 0.999,
        /// Decay of the squared gradient's mean (`rmsprop`), 0 to below 1.
        alpha: f64 = 0.99,
        /// Added to the denominator (not with `sgd`), 1e-12 to 1.
        epsilon: f64 = 1e-8,
    }
}

settings! {
    /// Table `[schedule]`: how the learning rate changes. The formulas are at [`Schedule::factor`].
    pub struct Schedule {
        /// `"constant"`, `"step"`, `"cosine"` (Loshchilov and Hutter 2017), `"plateau"` or `"one-cycle"` (Smith and Topin 2018;
        /// the momentum stays as it is).
        kind: ScheduleKind = ScheduleKind::Constant,
        /// Updates in which the rate rises linearly to its peak (not with `one-cycle`, which has a rise of its own).
        warmup: u64 = 0,
        /// Updates after which `cosine` or `one-cycle` has reached its floor, 0 to 10^12; 0: those of the run. A run that is
        /// resumed with more or fewer updates keeps its learning rate if the length that it began with is given here.
        steps: u64 = 0,
        /// Units between two steps (`step`), at least 1.
        step_every: u64 = 1000,
        /// Units before the first step (`step`), 0 to 10^12; 0: as many as between two.
        first_step: u64 = 0,
        /// What these units are (`step`): `"updates"` since the warm-up, or `"epochs"` since the beginning.
        step_unit: StepUnit = StepUnit::Updates,
        /// Factor of a step (`step`, `plateau`), above 0, below 1.
        gamma: f64 = 0.5,
        /// Smallest rate as a share of the peak (not with `constant`), 0 to 1.
        floor: f64 = 0.01,
        /// Evaluations in a row without a new lowest validation loss before a step (`plateau`), at least 1.
        patience: u64 = 2,
        /// Go back to the kept update at every step (`plateau`): to its parameters, the optimiser's moments and the average.
        restart: bool = false,
        /// Rate at both ends of the cycle as a share of the peak (`one-cycle`), `floor` to 1.
        start: f64 = 0.1,
        /// Share of the updates that the cycle takes, half of them up and half of them down; the others go down to the floor
        /// (`one-cycle`), above 0, at most 1.
        cycle: f64 = 0.9,
    }
}

settings! {
    /// Table `[average]`: the average of the parameters over updates. Where there is one, it is evaluated and kept in place of
    /// the parameters that learn.
    pub struct Average {
        /// `"none"`, `"exponential"` (the last updates weigh most), or `"uniform"` (all updates weigh the same since averaging
        /// began; Polyak and Juditsky 1992).
        kind: AverageKind = AverageKind::None,
        /// Share of the average that an update keeps (`exponential`), 0 to below 1; an update counts for about 1 / (1 - decay)
        /// updates. The first ones are weighed so that the average begins at the parameters.
        decay: f64 = 0.999,
        /// Evaluations in a row without a new lowest validation loss after which averaging begins (`uniform`); 0: with the first
        /// update. With a constant rate of plain `sgd` it is NT-ASGD (Merity et al. 2018).
        patience: u64 = 5,
    }
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

/// The shape of a [`Schedule`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
    /// `"one-cycle"`.
    OneCycle,
}

/// What [`Schedule::step_every`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepUnit {
    /// `"updates"`.
    Updates,
    /// `"epochs"`.
    Epochs,
}

/// The kind of an [`Average`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AverageKind {
    /// `"none"`.
    None,
    /// `"exponential"`.
    Exponential,
    /// `"uniform"`.
    Uniform,
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
