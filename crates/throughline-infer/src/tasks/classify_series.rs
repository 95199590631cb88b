//! Classification of series of numbers: recurrent stack, pooling, softmax over the classes.

use serde::{Deserialize, Serialize};
use throughline_nn::heads::Softmax;
use throughline_nn::layers::Pooling;
use throughline_nn::module::Layer;
use throughline_nn::network::Network;
use throughline_nn::parameters::Builder;

pub use crate::classes::{ClassProbability, confusion, metrics};
use crate::classes::{Judged, probabilities};
use crate::config::{ConfigError, RecurrentSettings, Regularisation};
use crate::encoder::{names_json, read_names};
use crate::error::Result;
use crate::files::Files;
use crate::model::Served;
use crate::series::{self, SeriesBody, SeriesEncoder, SeriesFacts, body, for_each_batch, outputs_of, outputs_of_lines};
use crate::serve::{Evaluation, Examples, Info, Runner, Sample, Serve};

/// The task `classify-series`.
#[derive(Clone, Copy, Debug)]
pub enum ClassifySeries {}

/// The configuration of a classifier of series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The recurrent stack.
    pub recurrent: RecurrentSettings,
    /// What it reads of a series.
    pub input: SeriesEncoder,
    /// The number of classes.
    pub classes: usize,
    /// How the states of a series are pooled for the softmax.
    pub pooling: Pooling,
}

/// Encoded series with their classes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelledSeries {
    /// The features of each series, `[T, I]`.
    pub series: Vec<Vec<f32>>,
    /// The class of each series.
    pub classes: Vec<u32>,
}

/// The prediction for a series.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeriesClassification {
    /// The most probable class.
    pub label: String,
    /// Its probability.
    pub probability: f64,
    /// All classes, the most probable first.
    pub classes: Vec<ClassProbability>,
    /// What else is said of the series.
    #[serde(flatten)]
    pub facts: SeriesFacts,
}

const LABELS: &str = "labels.json";

impl Serve for ClassifySeries {
    const INFO: Info = Info {
        name: "classify-series",
        title: "classifier of series",
        about: "one class for each series of numbers",
        best: "the fewest errors, and among those the lowest loss,",
        metrics: &["accuracy"],
        counted: "series",
        usage: &["throughline predict {run} --series FILE", "throughline eval {run}"],
    };

    type Config = Config;
    /// The names of the classes.
    type Encoder = Vec<String>;
    type Body = SeriesBody;
    type Head = Softmax;
    type Data = LabelledSeries;
    type Prediction = SeriesClassification;

    fn check(config: &Config) -> std::result::Result<(), ConfigError> {
        config.recurrent.check(1, config.classes)?;
        config.input.check(config.recurrent.input)
    }

    fn network(config: &Config, regularisation: Regularisation) -> Network<Self::Body, Softmax> {
        let builder = &mut Builder::new().with_dropout_mask(regularisation.dropout_mask);
        let body = body(builder, &config.recurrent, config.pooling, regularisation);
        let head = Softmax::new(builder, "head", body.width(), config.classes);
        body.ending_in(head, std::mem::take(builder))
    }

    fn open_encoder(config: &Config, files: &Files) -> Result<Vec<String>> {
        read_names(files, LABELS, "labels", ["class", "classes"], config.classes)
    }

    fn encoder_files(labels: &Vec<String>) -> Vec<(&'static str, Vec<u8>)> {
        vec![(LABELS, names_json(labels))]
    }

    fn evaluate(
        runner: &mut Runner<'_, Self>,
        config: &Config,
        labels: &Vec<String>,
        data: &LabelledSeries,
    ) -> Option<Evaluation> {
        if data.series.is_empty() {
            return None;
        }
        let (features, cpu) = (config.input.features(), runner.weights.cpu);
        let mut judged = Judged::new(&data.classes);
        let series: Vec<&[f32]> = data.series.iter().map(Vec::as_slice).collect();
        for_each_batch(runner, features, &series, |indices, logits, _| {
            judged.take(cpu, indices, config.classes, logits);
        });
        let lengths: Vec<usize> = data.series.iter().map(|series| series.len() / features).collect();
        let (loss, metrics, matrix) = judged.finish(labels, &lengths);
        Some(Evaluation { count: lengths.len(), loss, metrics, unknown_share: 0.0, confusion: Some(matrix) })
    }

    fn sample(config: &Config, _: &Vec<String>, data: &LabelledSeries, sample: Sample<'_>) -> Examples<[f32], [u32]> {
        let (rows, x, indices) = series::sample(config.input.features(), &data.series, sample);
        let targets = indices.iter().map(|&index| data.classes[index]).collect();
        Examples { indices, rows, x, targets, pieces: None, columns: config.input.columns() }
    }

    fn predict(
        runner: &mut Runner<'_, Self>,
        config: &Config,
        labels: &Vec<String>,
        inputs: &[&str],
    ) -> Vec<Result<SeriesClassification>> {
        let outputs = outputs_of_lines(runner, &config.input, &config.recurrent, inputs);
        outputs.into_iter().map(|output| Ok(classification(labels, output?))).collect()
    }
}

impl Served<ClassifySeries> {
    /// Classifies series, each `[T, C]`, with NaN for a missing number.
    pub fn classify(&self, series: &[&[f64]]) -> Vec<Result<SeriesClassification>> {
        let Config { input, recurrent, .. } = self.config();
        let outputs = self.run(|runner| outputs_of(runner, input, recurrent, series));
        outputs.into_iter().map(|output| Ok(classification(self.encoder(), output?))).collect()
    }
}

fn classification(labels: &[String], (logits, facts): (Vec<f32>, SeriesFacts)) -> SeriesClassification {
    let classes = probabilities(labels, &logits);
    let ClassProbability { label, probability } = classes[0].clone();
    SeriesClassification { label, probability, classes, facts }
}
