//! Classification of texts: embedding, recurrent stack, pooling, softmax over the classes.

use serde::{Deserialize, Serialize};
use throughline_data::{TextRules, Vocabulary};
use throughline_kernels::sequence::Ragged;
use throughline_nn::chain::Chain;
use throughline_nn::heads::Softmax;
use throughline_nn::layers::{Embedding, Pool, Pooling, Recurrent};
use throughline_nn::module::Layer;
use throughline_nn::network::{Input, Network};
use throughline_nn::parameters::Builder;

use crate::batches::like_length;
pub use crate::classes::{ClassProbability, confusion, metrics};
use crate::classes::{Judged, probabilities};
use crate::config::{ConfigError, RecurrentSettings, Regularisation};
use crate::encoder::{TextEncoder, names_json, read_names};
use crate::error::{Error, Result};
use crate::files::Files;
use crate::serve::{Evaluation, Examples, Info, Runner, Sample, Serve};

/// The task `classify`.
#[derive(Clone, Copy, Debug)]
pub enum Classify {}

/// The configuration of a classifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The recurrent stack, which reads the embedding.
    pub recurrent: RecurrentSettings,
    /// V, the number of units, the unknown one included.
    pub vocabulary: usize,
    /// The number of classes.
    pub classes: usize,
    /// How the states of a text are pooled for the softmax.
    pub pooling: Pooling,
    /// The most units of a text that are read; the rest is cut off. 0 for no limit.
    pub max_length: usize,
    /// How texts are cleaned.
    pub text: TextRules,
}

/// Encodes texts, and names the classes.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// From text to tokens.
    pub text: TextEncoder,
    /// The name of each class.
    pub labels: Vec<String>,
}

/// Encoded texts with their classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// The tokens of each text.
    pub tokens: Vec<Vec<u32>>,
    /// The class of each text.
    pub classes: Vec<u32>,
}

/// The prediction for a text.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Classification {
    /// The text.
    pub text: String,
    /// The most probable class.
    pub label: String,
    /// Its probability.
    pub probability: f64,
    /// All classes, the most probable first.
    pub classes: Vec<ClassProbability>,
    /// The share of the text's units that are not in the vocabulary, from 0 to 1.
    pub unknown_share: f64,
}

/// Texts packed into a ragged batch. The memory is reused.
#[derive(Debug, Default)]
pub struct Batch {
    lengths: Vec<usize>,
    rows: Ragged,
    tokens: Vec<u32>,
}

impl Batch {
    /// Packs `sequences` of tokens, any of which may be empty.
    pub fn set(&mut self, sequences: &[&[u32]]) {
        self.lengths.clear();
        self.lengths.extend(sequences.iter().map(|sequence| sequence.len()));
        self.rows.set(&self.lengths);
        self.tokens.clear();
        let tokens = &mut self.tokens;
        self.rows.for_each_row(|_, sequence, t| tokens.push(sequences[sequence][t]));
    }

    /// The batch as the input of a network.
    pub fn input(&self) -> Input<'_, f32, [u32]> {
        Input::new(&self.rows, &self.tokens)
    }

    /// N, the number of tokens.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }
}

const LABELS: &str = "labels.json";
/// The most numbers that a text may take in memory: 256 MiB of f32.
const MOST_NUMBERS: usize = 1 << 26;

impl Config {
    /// The length, in units, of the longest text that the model takes. It bounds the memory for one text to 256 MiB.
    pub fn longest(&self) -> usize {
        MOST_NUMBERS / self.recurrent.numbers_per_row()
    }
}

impl Serve for Classify {
    const INFO: Info = Info {
        name: "classify",
        title: "text classifier",
        about: "one class for each text",
        best: "the fewest errors, and among those the lowest loss,",
        metrics: &["accuracy"],
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

    fn network(config: &Config, regularisation: Regularisation) -> Network<Self::Body, Softmax> {
        let builder = &mut Builder::new().with_dropout_mask(regularisation.dropout_mask);
        let (settings, output) = (&config.recurrent, config.recurrent.output());
        let embedding = Embedding::new(builder, "embedding", config.vocabulary, settings.input)
            .with_dropout(builder, regularisation.embedding_dropout);
        let recurrent =
            Recurrent::new(builder, "rnn", settings.config(regularisation)).with_penalty(regularisation.penalty);
        let pooled =
            Pool::of(builder, "pool", recurrent, config.pooling).with_dropout(builder, regularisation.output_dropout);
        let head = Softmax::new(builder, "head", output, config.classes);
        let embedding = embedding.with_token_dropout(builder, regularisation.token_dropout);
        embedding.then(pooled).ending_in(head, std::mem::take(builder))
    }

    fn open_encoder(config: &Config, files: &Files) -> Result<Encoder> {
        let text = TextEncoder::open(files, config.text, config.vocabulary)?;
        let labels = read_names(files, LABELS, "labels", ["class", "classes"], config.classes)?;
        Ok(Encoder { text, labels })
    }

    fn encoder_files(encoder: &Encoder) -> Vec<(&'static str, Vec<u8>)> {
        let mut files = encoder.text.files();
        files.push((LABELS, names_json(&encoder.labels)));
        files
    }

    fn evaluate(runner: &mut Runner<'_, Self>, config: &Config, encoder: &Encoder, data: &Texts) -> Option<Evaluation> {
        let lengths: Vec<usize> = data.tokens.iter().map(Vec::len).collect();
        if lengths.is_empty() {
            return None;
        }
        let mut judged = Judged::new(&data.classes);
        let mut batch = Batch::default();
        for indices in like_length(&lengths) {
            let texts: Vec<&[u32]> = indices.iter().map(|&index| &data.tokens[index][..]).collect();
            batch.set(&texts);
            let Runner { network, weights, workspace } = runner;
            let logits = network.predict(*weights, batch.input(), workspace);
            judged.take(weights.cpu, &indices, config.classes, logits);
        }
        let (loss, metrics, matrix) = judged.finish(&encoder.labels, &lengths);
        let all: Vec<u32> = data.tokens.iter().flatten().copied().collect();
        let unknown_share = Vocabulary::unknown_share(&all);
        Some(Evaluation { count: lengths.len(), loss, metrics, unknown_share, confusion: Some(matrix) })
    }

    fn sample(_: &Config, encoder: &Encoder, data: &Texts, sample: Sample<'_>) -> Examples<[u32], [u32]> {
        let texts: Vec<usize> = (0..data.tokens.len()).filter(|&index| !data.tokens[index].is_empty()).collect();
        let indices = sample.of(texts.len());
        let chosen: Vec<usize> = indices.iter().map(|&place| texts[place]).collect();
        let tokens = |index: &usize| &data.tokens[*index][..sample.cut(data.tokens[*index].len())];
        let mut batch = Batch::default();
        batch.set(&chosen.iter().map(tokens).collect::<Vec<_>>());
        let targets = chosen.iter().map(|&index| data.classes[index]).collect();
        let pieces = encoder.text.pieces(&batch.tokens);
        Examples { indices, rows: batch.rows, x: batch.tokens, targets, pieces: Some(pieces), columns: Vec::new() }
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
                let unknown_share = Vocabulary::unknown_share(&tokens[index]);
                let text = inputs[index].to_owned();
                answers[index] = Some(Classification { text, label, probability, classes, unknown_share });
            }
        }
        let units = encoder.text.vocabulary.unit().plural();
        let too_long = |tokens: &Vec<u32>| Error::Input {
            expected: format!("a text of at most {longest} {units}, the limit of memory for one text"),
            found: tokens.len().to_string(),
        };
        answers.into_iter().zip(&tokens).map(|(answer, tokens)| answer.ok_or_else(|| too_long(tokens))).collect()
    }
}
