//! Regression: numbers for each series of numbers. Recurrent stack, pooling, a linear map and a loss of its residuals.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use throughline_data::Regressed;
use throughline_kernels::ops::{Residual, residual_loss};
use throughline_nn::heads::Regression;
use throughline_nn::layers::Pooling;
use throughline_nn::module::{Cpu, Layer};
use throughline_nn::network::Network;
use throughline_nn::parameters::Builder;

use crate::config::{ConfigError, RecurrentSettings, Regularisation};
use crate::error::Result;
use crate::files::Files;
use crate::model::Served;
use crate::series::{
    self, Channel, SeriesBody, SeriesEncoder, SeriesFacts, body, check_channels, for_each_batch, outputs_of,
    outputs_of_lines,
};
use crate::serve::{Evaluation, Examples, Info, Runner, Sample, Serve};

/// The task `regress`.
#[derive(Clone, Copy, Debug)]
pub enum Regress {}

/// The configuration of a model that predicts numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The recurrent stack.
    pub recurrent: RecurrentSettings,
    /// What it reads of a series.
    pub input: SeriesEncoder,
    /// The K numbers that it predicts, with the scale in which they are learned.
    pub targets: Vec<Channel>,
    /// How the states of a series are pooled.
    pub pooling: Pooling,
    /// What is minimised.
    pub loss: Loss,
}

/// A loss of the residuals of scaled targets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Loss {
    /// The mean squared error.
    #[default]
    Squared,
    /// The mean absolute error.
    Absolute,
    /// Huber's, squared up to this residual and absolute beyond.
    Huber(f64),
}

impl Loss {
    fn residual(self) -> Residual {
        match self {
            Self::Squared => Residual::Squared,
            Self::Absolute => Residual::Absolute,
            Self::Huber(delta) => Residual::Huber(delta),
        }
    }
}

/// Encoded series with the numbers to predict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TargetedSeries {
    /// The features of each series, `[T, I]`.
    pub series: Vec<Vec<f32>>,
    /// `[series, K]`, as they are in the data.
    pub targets: Vec<f64>,
}

/// The prediction for a series.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeriesRegression {
    /// The numbers, by name.
    pub values: BTreeMap<String, f64>,
    /// What else is said of the series.
    #[serde(flatten)]
    pub facts: SeriesFacts,
}

impl Config {
    /// The `targets` `[series, K]` as the network learns them.
    pub fn scaled(&self, targets: &[f64]) -> Vec<f32> {
        let scales = self.targets.iter().map(|target| target.scale).cycle();
        targets.iter().zip(scales).map(|(target, scale)| scale.apply(*target) as f32).collect()
    }

    /// The numbers of the data that the network's `outputs` `[series, K]` stand for.
    fn unscaled(&self, outputs: &[f32]) -> Vec<f64> {
        let scales = self.targets.iter().map(|target| target.scale).cycle();
        outputs.iter().zip(scales).map(|(output, scale)| scale.undo(f64::from(*output))).collect()
    }

    fn regression(&self, (outputs, facts): (Vec<f32>, SeriesFacts)) -> SeriesRegression {
        let names = self.targets.iter().map(|target| target.name.clone());
        SeriesRegression { values: names.zip(self.unscaled(&outputs)).collect(), facts }
    }
}

/// Mean absolute error (`mae`), root mean squared error (`rmse`) and coefficient of determination (`r2`) of `predictions`
/// `[series, K]`. Of several targets these are the means, and each has its own beside them, such as `mae.height`. A target that
/// does not vary has no `r2`.
pub fn metrics<'a>(
    names: impl Iterator<Item = &'a str>,
    targets: &[f64],
    predictions: &[f64],
) -> BTreeMap<String, f64> {
    let names: Vec<&str> = names.collect();
    let of = |numbers: &[f64], target: usize| -> Vec<f64> {
        numbers.iter().skip(target).step_by(names.len()).copied().collect()
    };
    let mut metrics = BTreeMap::new();
    let mut sums = BTreeMap::<&str, (f64, usize)>::new();
    for (target, name) in names.iter().enumerate() {
        let scores = Regressed::of(&of(targets, target), &of(predictions, target));
        let scores = [("mae", Some(scores.mean_absolute)), ("rmse", Some(scores.root_mean_squared)), ("r2", scores.r2)];
        for (metric, score) in scores.into_iter().filter_map(|(metric, score)| Some((metric, score?))) {
            let sum = sums.entry(metric).or_default();
            *sum = (sum.0 + score, sum.1 + 1);
            if names.len() > 1 {
                metrics.insert(format!("{metric}.{name}"), score);
            }
        }
    }
    metrics.extend(sums.into_iter().map(|(metric, (sum, count))| (metric.to_owned(), sum / count as f64)));
    metrics
}

impl Serve for Regress {
    const INFO: Info = Info {
        name: "regress",
        title: "regression of series",
        about: "numbers for each series of numbers",
        best: "the lowest loss",
        metrics: &[],
        counted: "series",
        usage: &["throughline predict {run} --series FILE", "throughline eval {run}"],
    };

    type Config = Config;
    type Encoder = ();
    type Body = SeriesBody;
    type Head = Regression;
    type Data = TargetedSeries;
    type Prediction = SeriesRegression;

    fn check(config: &Config) -> std::result::Result<(), ConfigError> {
        check_channels("targets", &config.targets)?;
        config.recurrent.check(1, config.targets.len())?;
        config.input.check(config.recurrent.input)?;
        match config.loss {
            Loss::Huber(delta) if !((delta as f32) > 0.0 && delta.is_finite()) => {
                Err(ConfigError::new("loss", "a finite number above 0 for huber", delta))
            }
            _ => Ok(()),
        }
    }

    fn network(config: &Config, regularisation: Regularisation) -> Network<Self::Body, Regression> {
        let builder = &mut Builder::new().with_dropout_mask(regularisation.dropout_mask);
        let body = body(builder, &config.recurrent, config.pooling, regularisation);
        let head = Regression::new(builder, "head", body.width(), config.targets.len(), config.loss.residual());
        body.ending_in(head, std::mem::take(builder))
    }

    fn open_encoder(_: &Config, _: &Files) -> Result<()> {
        Ok(())
    }

    fn encoder_files((): &()) -> Vec<(&'static str, Vec<u8>)> {
        Vec::new()
    }

    fn evaluate(runner: &mut Runner<'_, Self>, config: &Config, (): &(), data: &TargetedSeries) -> Option<Evaluation> {
        if data.series.is_empty() {
            return None;
        }
        let (count, width) = (data.series.len(), config.targets.len());
        let mut outputs = vec![0.0; count * width];
        let series: Vec<&[f32]> = data.series.iter().map(Vec::as_slice).collect();
        for_each_batch(runner, config.input.features(), &series, |indices, of_batch, _| {
            for (&index, numbers) in indices.iter().zip(of_batch.chunks(width)) {
                outputs[index * width..][..width].copy_from_slice(numbers);
            }
        });
        let Cpu { isa, threads } = runner.weights.cpu;
        let scaled = config.scaled(&data.targets);
        let loss = residual_loss(*isa, threads, config.loss.residual(), &outputs, &scaled, 1.0, None).mean();
        let names = config.targets.iter().map(|target| target.name.as_str());
        let metrics = metrics(names, &data.targets, &config.unscaled(&outputs));
        Some(Evaluation { count, loss, metrics, unknown_share: 0.0, confusion: None })
    }

    fn sample(config: &Config, _: &(), data: &TargetedSeries, sample: Sample<'_>) -> Examples<[f32], [f32]> {
        let (rows, x, indices) = series::sample(config.input.features(), &data.series, sample);
        let width = config.targets.len();
        let targets: Vec<f64> =
            indices.iter().flat_map(|index| &data.targets[index * width..][..width]).copied().collect();
        Examples { indices, rows, x, targets: config.scaled(&targets), pieces: None, columns: config.input.columns() }
    }

    fn predict(
        runner: &mut Runner<'_, Self>,
        config: &Config,
        (): &(),
        inputs: &[&str],
    ) -> Vec<Result<SeriesRegression>> {
        let outputs = outputs_of_lines(runner, &config.input, &config.recurrent, inputs);
        outputs.into_iter().map(|output| Ok(config.regression(output?))).collect()
    }
}

impl Served<Regress> {
    /// Predicts the numbers of series, each `[T, C]`, with NaN for a missing number.
    pub fn regress(&self, series: &[&[f64]]) -> Vec<Result<SeriesRegression>> {
        let config = self.config();
        let outputs = self.run(|runner| outputs_of(runner, &config.input, &config.recurrent, series));
        outputs.into_iter().map(|output| Ok(config.regression(output?))).collect()
    }
}
