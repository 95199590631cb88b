//! The settings of regression.

use serde::{Deserialize, Serialize};
use throughline_data::{Scaling, WantedAnswers};
use throughline_infer::Serve;
use throughline_infer::tasks::{Regress, regress};

use crate::Result;
use crate::recipe::{Check, TaskOptions, Train, options, settings};
use crate::tasks::shared::{DataFiles, Reading, RecurrentModel, SeriesTables, check_columns};

options! {
    /// The settings that regression has beside those of every task.
    pub struct Options {
        /// Where the series are.
        [data] files: DataFiles,
        /// How they lie in the files.
        [data] tables: SeriesTables,
        /// The numbers to predict.
        [data] targets: Targets,
        /// The recurrent layers.
        [model] model: RecurrentModel,
        /// How they read a series.
        [model] reading: Reading,
        /// What is minimised.
        [train] loss: RegressionLoss,
    }
}

settings! {
    /// In table `[data]`: the numbers to predict.
    pub struct Targets {
        /// Columns of a table with the numbers to predict. Empty: `target`.
        target_columns: Vec<String> = Vec::new(),
        /// How they are scaled for training, as fitted on the training split: `"standard"`, `"range"` or `"none"`. Predictions
        /// and errors are in the units of the data; the loss is in those of the scale.
        target_scaling: Scaling = Scaling::Standard,
    }
}

settings! {
    /// In table `[train]`: what is minimised.
    pub struct RegressionLoss {
        /// `"squared"` (mean squared error), `"absolute"` (mean absolute error, which follows outliers less) or `"huber"`
        /// (Huber 1964: squared for small errors, absolute for large ones).
        loss: LossKind = LossKind::Squared,
        /// The error, on the scale of training, from which on `huber` is absolute, above 0, at most 1000000.
        huber_delta: f64 = 1.0,
    }
}

/// A loss of the residual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LossKind {
    /// `"squared"`
    Squared,
    /// `"absolute"`
    Absolute,
    /// `"huber"`
    Huber,
}

impl RegressionLoss {
    /// The loss as a model has it.
    pub(super) fn of_model(&self) -> regress::Loss {
        match self.loss {
            LossKind::Squared => regress::Loss::Squared,
            LossKind::Absolute => regress::Loss::Absolute,
            LossKind::Huber => regress::Loss::Huber(self.huber_delta),
        }
    }
}

impl Options {
    /// What is wanted of each series.
    pub(super) fn wanted(&self) -> WantedAnswers {
        WantedAnswers::Numbers { columns: self.targets.target_columns.clone() }
    }
}

impl TaskOptions for Options {
    const NAME: &'static str = Regress::INFO.name;

    fn check(&self, train: &Train, check: &Check<'_>) -> Result<()> {
        self.files.check(check)?;
        self.tables.check(check)?;
        check_columns(check, "data.target_columns", &self.targets.target_columns)?;
        check.above_zero("train.huber_delta", self.loss.huber_delta, 1e6)?;
        let normal = self.loss.huber_delta as f32 > 0.0;
        check.require("train.huber_delta", normal, "a number above 0 in 32 bits", self.loss.huber_delta)?;
        self.model.check(train, self.reading.bidirectional, check)
    }

    fn unused(&self, key: &str) -> Option<&'static str> {
        match key {
            "train.checkpoint_every" => self.reading.bidirectional.then_some("model.bidirectional = false"),
            "train.huber_delta" => (self.loss.loss != LossKind::Huber).then_some("train.loss = \"huber\""),
            _ => self.tables.unused(key).or_else(|| self.model.unused(key)),
        }
    }
}
