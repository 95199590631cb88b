//! Classification of texts: embedding, recurrent stack, pooling, softmax over the classes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use throughline_data::{ConfusionMatrix, TextRules};
use throughline_kernels::cells::CellKind;
use throughline_kernels::ops::{RowLoss, cross_entropy};
use throughline_kernels::sequence::Ragged;
use throughline_nn::chain::Chain;
use throughline_nn::heads::Softmax;
use throughline_nn::layers::{Embedding, Pool, Pooling, Recurrent};
use throughline_nn::module::{Cpu, Layer};
use throughline_nn::network::{Input, Network};
use throughline_nn::parameters::Builder;

use crate::batches::like_length;
use crate::config::{ConfigError, Dropouts, RecurrentSettings};
use crate::encoder::TextEncoder;
use crate::error::{Error, Result};
use crate::files::Files;
use crate::serve::{Evaluation, Info, Runner, Serve};

/// The task `classify`.
#[derive(Clone, Copy, Debug)]
pub enum Classify {}

/// A classifier without its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The stack; its input is the embedding.
    pub recurrent: RecurrentSettings,
    /// V, rows of the embedding.
    pub vocabulary: usize,
    /// How many classes.
    pub classes: usize,
    /// What the softmax reads.
    pub pooling: Pooling,
    /// Longest text in units, longer ones are cut; 0: no limit.
    pub max_length: usize,
    /// How texts are cleaned.
    pub text: TextRules,
}

/// From a text to tokens, and from a class to its label.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// From a text to tokens.
    pub text: TextEncoder,
    /// The names of the classes.
    pub labels: Vec<String>,
}

/// Texts as tokens, with their classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// The tokens of each text.
    pub tokens: Vec<Vec<u32>>,
    /// The class of each text.
    pub classes: Vec<u32>,
}

/// What a classifier says of a text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Classification {
    /// The text.
    pub text: String,
    /// The most probable class.
    pub label: String,
    /// Its probability.
    pub probability: f64,
    /// Every class, the most probable first.
    pub classes: Vec<ClassProbability>,
    /// The share of the text's units that the model has never seen, from 0 to 1.
    pub unknown_share: f64,
}

/// A class and its probability.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassProbability {
    /// The name of the class.
    pub label: String,
    /// From 0 to 1.
    pub probability: f64,
}

/// Some texts as a ragged batch, with the memory to hold them.
#[derive(Debug, Default)]
pub struct Batch {
    lengths: Vec<usize>,
    rows: Ragged,
    tokens: Vec<u32>,
}

impl Batch {
    /// Takes the token sequences of one batch; any of them may be empty.
    pub fn set(&mut self, sequences: &[&[u32]]) {
        self.lengths.clear();
        self.lengths.extend(sequences.iter().map(|sequence| sequence.len()));
        self.rows.set(&self.lengths);
        self.tokens.clear();
        let tokens = &mut self.tokens;
        self.rows.for_each_row(|_, sequence, t| tokens.push(sequences[sequence][t]));
    }

    /// What a network reads.
    pub fn input(&self) -> Input<'_, f32, [u32]> {
        Input::new(&self.rows, &self.tokens)
    }

    /// How many tokens.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }
}

const LABELS: &str = "labels.json";
/// The most bytes of a `labels.json`.
const LARGEST_LABELS: u64 = 16 << 20;
/// Numbers that reading a text may hold at most: 256 MiB of f32.
const MOST_NUMBERS: usize = 1 << 26;

impl Config {
    /// The longest text, in units, that the memory for one text has room for.
    pub fn longest(&self) -> usize {
        MOST_NUMBERS / self.recurrent.numbers_per_row()
    }
}

/// Accuracy and macro F1.
fn metrics(confusion: &ConfusionMatrix) -> BTreeMap<String, f64> {
    BTreeMap::from([("accuracy".to_owned(), confusion.accuracy()), ("macro_f1".to_owned(), confusion.macro_f1())])
}

/// Counts `predictions` against `classes`; with the metrics of the counts.
pub fn confusion(labels: &[String], classes: &[u32], predictions: &[u32]) -> (ConfusionMatrix, BTreeMap<String, f64>) {
    let mut matrix = ConfusionMatrix::new(labels.to_vec());
    for (&truth, &prediction) in classes.iter().zip(predictions) {
        matrix.add(truth, prediction);
    }
    let metrics = metrics(&matrix);
    (matrix, metrics)
}

/// The sum of `losses`, whatever the batches: by rising length of the texts, 256 at a time.
fn sum_of(lengths: &[usize], losses: &[RowLoss]) -> f64 {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&index| lengths[index]);
    let of_some = |indices: &[usize]| indices.iter().map(|&index| losses[index].loss).sum::<f64>();
    order.chunks(256).map(of_some).sum()
}

/// The index of the largest logit, the first of equal ones.
fn most_probable(logits: &[f32]) -> usize {
    (0..logits.len()).reduce(|best, i| if logits[i] > logits[best] { i } else { best }).unwrap_or(0)
}

/// The probability of every class, the most probable first.
fn probabilities(labels: &[String], logits: &[f32]) -> Vec<ClassProbability> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits.iter().map(|&logit| f64::from(logit - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    let of_class =
        |(label, weight): (&String, &f64)| ClassProbability { label: label.clone(), probability: weight / total };
    let mut classes: Vec<ClassProbability> = labels.iter().zip(&weights).map(of_class).collect();
    classes.sort_by(|a, b| b.probability.total_cmp(&a.probability));
    classes
}

impl Serve for Classify {
    const INFO: Info = Info {
        name: "classify",
        title: "text classifier",
        about: "one class for each text",
        best: "the fewest errors, and among those the lowest loss,",
        counted: "texts",
        usage: &["throughline predict {run} < lines.txt", "throughline eval {run}"],
    };

    type Config = Config;
    type Encoder = Encoder;
    type Body = Chain<Embedding, Chain<Recurrent, Pool>>;
    type Head = Softmax;
    type Data = Texts;
    type Prediction = Classification;

    fn check(config: &Config) -> std::result::Result<(), ConfigError> {
        config.recurrent.check(config.vocabulary, config.classes)
    }

    fn cells(config: &Config) -> Vec<CellKind> {
        vec![config.recurrent.cell]
    }

    fn network(config: &Config, dropouts: Dropouts) -> Network<Self::Body, Softmax> {
        let builder = &mut Builder::new();
        let (settings, output) = (&config.recurrent, config.recurrent.output());
        let embedding = Embedding::new(builder, "embedding", config.vocabulary, settings.input)
            .with_dropout(builder, dropouts.embedding);
        let recurrent = Recurrent::new(builder, "rnn", settings.config(dropouts.layers));
        let pooled = Pool::of(builder, "pool", recurrent, config.pooling).with_dropout(builder, dropouts.output);
        let head = Softmax::new(builder, "head", output, config.classes);
        embedding.then(pooled).ending_in(head, std::mem::take(builder))
    }

    fn open_encoder(config: &Config, files: &Files) -> Result<Encoder> {
        let text = TextEncoder::open(files, config.text, config.vocabulary)?;
        let place = files.place(LABELS);
        let labels: Vec<String> = serde_json::from_str(&files.read_text(LABELS, LARGEST_LABELS)?)
            .map_err(|error| Error::model(&place, "labels", "a JSON list of class names", error))?;
        if labels.len() != config.classes {
            let expected = format_args!("{} classes, as config.json says", config.classes);
            return Err(Error::model(&place, "labels", expected, labels.len()));
        }
        let mut known = BTreeSet::new();
        if let Some(label) = labels.iter().find(|label| !known.insert(*label)) {
            return Err(Error::model(&place, "labels", "each class once", format_args!("{label:?} twice")));
        }
        Ok(Encoder { text, labels })
    }

    fn encoder_files(encoder: &Encoder) -> Vec<(&'static str, Vec<u8>)> {
        let labels = serde_json::to_string_pretty(&encoder.labels).expect("strings have a JSON form") + "\n";
        let mut files = encoder.text.files();
        files.push((LABELS, labels.into_bytes()));
        files
    }

    fn evaluate(runner: &mut Runner<'_, Self>, config: &Config, encoder: &Encoder, data: &Texts) -> Option<Evaluation> {
        let lengths: Vec<usize> = data.tokens.iter().map(Vec::len).collect();
        if lengths.is_empty() {
            return None;
        }
        let mut predictions = vec![0; lengths.len()];
        let mut losses = vec![RowLoss::default(); lengths.len()];
        let mut batch = Batch::default();
        for indices in like_length(&lengths) {
            let texts: Vec<&[u32]> = indices.iter().map(|&index| &data.tokens[index][..]).collect();
            let targets: Vec<u32> = indices.iter().map(|&index| data.classes[index]).collect();
            batch.set(&texts);
            let Runner { network, weights, workspace } = runner;
            let Cpu { isa, threads } = weights.cpu;
            let logits = network.predict(*weights, batch.input(), workspace);
            let mut of_batch = vec![RowLoss::default(); indices.len()];
            cross_entropy(*isa, threads, logits, config.classes, &targets, &mut of_batch);
            for ((&index, logits), loss) in indices.iter().zip(logits.chunks(config.classes)).zip(of_batch) {
                (predictions[index], losses[index]) = (most_probable(logits) as u32, loss);
            }
        }
        let loss = sum_of(&lengths, &losses) / lengths.len() as f64;
        let (matrix, mut metrics) = confusion(&encoder.labels, &data.classes, &predictions);
        // A loss that is not a number must not look like a good score.
        if !loss.is_finite() {
            metrics.values_mut().for_each(|value| *value = f64::NAN);
        }
        let all: Vec<u32> = data.tokens.iter().flatten().copied().collect();
        let unknown_share = TextEncoder::unknown_share(&all);
        Some(Evaluation { count: lengths.len(), loss, metrics, unknown_share, confusion: Some(matrix) })
    }

    fn score(evaluation: &Evaluation) -> f64 {
        1.0 - evaluation.metrics["accuracy"]
    }

    fn predict(
        runner: &mut Runner<'_, Self>,
        config: &Config,
        encoder: &Encoder,
        inputs: &[&str],
    ) -> Vec<Result<Classification>> {
        let longest = config.longest();
        let tokens: Vec<Vec<u32>> =
            inputs.iter().map(|text| encoder.text.encode_example(text, config.max_length)).collect();
        let mut answers: Vec<Option<Classification>> = inputs.iter().map(|_| None).collect();
        let readable: Vec<usize> = (0..inputs.len()).filter(|&index| tokens[index].len() <= longest).collect();
        let lengths: Vec<usize> = readable.iter().map(|&index| tokens[index].len()).collect();
        let mut batch = Batch::default();
        for places in like_length(&lengths) {
            let indices: Vec<usize> = places.into_iter().map(|place| readable[place]).collect();
            let texts: Vec<&[u32]> = indices.iter().map(|&index| &tokens[index][..]).collect();
            batch.set(&texts);
            let Runner { network, weights, workspace } = runner;
            let logits = network.predict(*weights, batch.input(), workspace);
            for (&index, logits) in indices.iter().zip(logits.chunks(config.classes)) {
                let classes = probabilities(&encoder.labels, logits);
                let ClassProbability { label, probability } = classes[0].clone();
                let unknown_share = TextEncoder::unknown_share(&tokens[index]);
                let text = inputs[index].to_owned();
                answers[index] = Some(Classification { text, label, probability, classes, unknown_share });
            }
        }
        let units = encoder.text.vocabulary.unit().plural();
        let too_long = |tokens: &Vec<u32>| Error::Input {
            expected: format!("a text of at most {longest} {units}, which is what fits the memory for one text"),
            found: format!("{}", tokens.len()),
        };
        answers.into_iter().zip(&tokens).map(|(answer, tokens)| answer.ok_or_else(|| too_long(tokens))).collect()
    }
}
