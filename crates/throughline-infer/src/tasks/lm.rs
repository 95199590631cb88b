//! Language modelling: embedding, recurrent stack, softmax over the vocabulary at every step.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};
use throughline_data::{TextRules, UNKNOWN, Vocabulary};
use throughline_kernels::ops::IGNORED;
use throughline_kernels::random::{Philox, Purpose, Stream};
use throughline_kernels::sequence::Ragged;
use throughline_nn::chain::Chain;
use throughline_nn::decode::{Sampling, sample};
use throughline_nn::heads::{Loss, Softmax};
use throughline_nn::layers::{Embedding, Recurrent};
use throughline_nn::module::Layer;
use throughline_nn::network::{Input, Network, Wanted};
use throughline_nn::parameters::Builder;
use throughline_nn::state::State;

use crate::batches::like_length;
use crate::config::{ConfigError, RecurrentSettings, Regularisation};
use crate::encoder::TextEncoder;
use crate::error::{Error, Result};
use crate::files::Files;
use crate::model::Served;
use crate::serve::{Evaluation, Examples, Generation, Info, Runner, Sample, Serve};

/// The task `lm`.
#[derive(Clone, Copy, Debug)]
pub enum LanguageModel {}

/// The configuration of a language model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The recurrent stack, which reads the embedding. It reads forward only.
    pub recurrent: RecurrentSettings,
    /// V, the number of units, the unknown one included.
    pub vocabulary: usize,
    /// Whether the softmax shares the weight of the embedding (Press and Wolf 2017).
    pub tied: bool,
    /// How texts are cleaned.
    pub text: TextRules,
}

/// The prediction for a text: how likely it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Likelihood {
    /// The text.
    pub text: String,
    /// The mean loss in nats of all units but the first; `None` for fewer than two units.
    pub loss: Option<f64>,
    /// exp(loss).
    pub perplexity: Option<f64>,
    /// The loss in bits, loss / ln 2.
    pub bits_per_unit: Option<f64>,
    /// The share of the text's units that are not in the vocabulary, from 0 to 1.
    pub unknown_share: f64,
}

/// How many steps one pass reads.
const WINDOW: usize = 128;
/// The most parallel streams of an evaluation, and the fewest units of each.
const STREAMS: usize = 16;
const SHORTEST_STREAM: usize = 1024;
/// How many units each stream but the first reads before it is scored, so that every unit is scored with context.
const LEAD: usize = 256;

/// Perplexity and bits per unit of a loss in nats per unit, by the names `perplexity` and `bits_per_unit`.
pub fn metrics(loss: f64) -> BTreeMap<String, f64> {
    let bits = loss / std::f64::consts::LN_2;
    BTreeMap::from([("bits_per_unit".to_owned(), bits), ("perplexity".to_owned(), loss.exp())])
}

/// The loss of all units of `tokens` but the first, read in at most `streams` parallel streams, one window at a time;
/// `None` for fewer than two units.
///
/// Of B streams of L units each, stream b reads the units from b·L to (b+1)·L + lead. The first is scored from its
/// beginning, the others after their lead, so that every unit is scored once. Units past the end are ignored.
fn loss(runner: &mut Runner<'_, LanguageModel>, tokens: &[u32], streams: usize) -> Option<Loss> {
    let scored = tokens.len().checked_sub(1).filter(|&scored| scored > 0)?;
    let streams = (scored / SHORTEST_STREAM).clamp(1, streams);
    let lead = if streams > 1 { LEAD } else { 0 };
    let length = (scored - lead).div_ceil(streams);
    let unit = |stream: usize, t: usize| {
        let place = stream * length + t;
        if place >= scored {
            return (UNKNOWN, IGNORED);
        }
        (tokens[place], if stream == 0 || t >= lead { tokens[place + 1] } else { IGNORED })
    };
    let Runner { network, weights, workspace } = runner;
    let mut state = State::new(&network.state_shape(), streams);
    let mut total = Loss::default();
    for start in (0..length + lead).step_by(WINDOW) {
        let end = (length + lead).min(start + WINDOW);
        let units = (start..end).flat_map(|t| (0..streams).map(move |stream| (stream, t)));
        let (inputs, targets): (Vec<u32>, Vec<u32>) = units.map(|(stream, t)| unit(stream, t)).unzip();
        let rows = Ragged::even(end - start, streams);
        let input = Input { rows: &rows, x: &inputs[..], start: Some(&state) };
        total += network.evaluate(*weights, input, Wanted::new(&targets), workspace);
        network.end(&rows, workspace, &mut state);
    }
    Some(total)
}

/// The summed loss of each of several short texts, read in one batch. It is the same bits as one text at a time: rows
/// do not depend on their batch, and the losses of a text are added up in the order of its units.
fn losses(runner: &mut Runner<'_, LanguageModel>, texts: &[&[u32]]) -> Vec<f64> {
    let lengths: Vec<usize> = texts.iter().map(|text| text.len() - 1).collect();
    let rows = Ragged::new(&lengths);
    let (mut inputs, mut targets) = (Vec::new(), Vec::new());
    rows.for_each_row(|_, text, t| {
        inputs.push(texts[text][t]);
        targets.push(texts[text][t + 1]);
    });
    let Runner { network, weights, workspace } = runner;
    network.evaluate(*weights, Input::new(&rows, &inputs), Wanted::new(&targets), workspace);
    let mut sums = vec![0.0; texts.len()];
    let of_rows = workspace.head.row_losses();
    rows.for_each_row(|row, text, _| sums[text] += of_rows[row].loss);
    sums
}

impl Serve for LanguageModel {
    const INFO: Info = Info {
        name: "lm",
        title: "language model",
        about: "the next character, byte or word of a text",
        best: "the lowest loss",
        metrics: &[],
        counted: "units",
        usage: &[
            "throughline generate {run} --prompt \"Once\" --length 500 --temperature 0.8",
            "throughline predict {run} < lines.txt",
            "throughline eval {run}",
        ],
    };

    type Config = Config;
    type Encoder = TextEncoder;
    type Body = Chain<Embedding, Recurrent>;
    type Head = Softmax;
    /// The tokens of one long text.
    type Data = Vec<u32>;
    type Prediction = Likelihood;

    fn check(config: &Config) -> std::result::Result<(), ConfigError> {
        let RecurrentSettings { input, hidden, bidirectional, .. } = config.recurrent;
        config.recurrent.check(config.vocabulary, config.vocabulary)?;
        if bidirectional {
            return Err(ConfigError::new(
                "bidirectional",
                "false, since a language model must not see the future",
                true,
            ));
        }
        if config.tied && input != hidden {
            let expected = format_args!("false unless input ({input}) equals hidden ({hidden})");
            return Err(ConfigError::new("tied", expected, true));
        }
        Ok(())
    }

    fn network(config: &Config, regularisation: Regularisation) -> Network<Self::Body, Softmax> {
        let builder = &mut Builder::new().with_dropout_mask(regularisation.dropout_mask);
        let settings = &config.recurrent;
        let mut embedding = Embedding::new(builder, "embedding", config.vocabulary, settings.input)
            .with_dropout(builder, regularisation.embedding_dropout);
        let recurrent = Recurrent::new(builder, "rnn", settings.config(regularisation));
        let head = if config.tied {
            embedding = embedding.scaled();
            Softmax::tied(builder, "head", &embedding)
        } else {
            Softmax::new(builder, "head", settings.output(), config.vocabulary)
        };
        let recurrent =
            recurrent.with_dropout(builder, regularisation.output_dropout).with_penalty(regularisation.penalty);
        let embedding = embedding.with_token_dropout(builder, regularisation.token_dropout);
        embedding.then(recurrent).ending_in(head, std::mem::take(builder))
    }

    fn open_encoder(config: &Config, files: &Files) -> Result<TextEncoder> {
        TextEncoder::open(files, config.text, config.vocabulary)
    }

    fn encoder_files(encoder: &TextEncoder) -> Vec<(&'static str, Vec<u8>)> {
        encoder.files()
    }

    fn evaluate(runner: &mut Runner<'_, Self>, _: &Config, _: &TextEncoder, tokens: &Vec<u32>) -> Option<Evaluation> {
        let total = loss(runner, tokens, STREAMS)?;
        Some(Evaluation {
            count: total.weight as usize,
            loss: total.mean(),
            metrics: metrics(total.mean()),
            unknown_share: Vocabulary::unknown_share(tokens),
            confusion: None,
        })
    }

    fn sample(_: &Config, encoder: &TextEncoder, tokens: &Vec<u32>, sample: Sample<'_>) -> Examples<[u32], [u32]> {
        // Each window has as many targets as inputs, one unit later.
        let scored = tokens.len().saturating_sub(1);
        let window = sample.window.min(scored).max(1);
        let steps = sample.cut(window);
        let indices = sample.of(scored / window);
        let starts: Vec<usize> = indices.iter().map(|index| index * window).collect();
        let rows = Ragged::even(steps, starts.len());
        let at = |later: usize| -> Vec<u32> {
            (0..steps)
                .flat_map(|t| starts.iter().map(move |start| start + t))
                .map(|place| tokens[place + later])
                .collect()
        };
        let x = at(0);
        Examples { indices, pieces: Some(encoder.pieces(&x)), columns: Vec::new(), x, targets: at(1), rows }
    }

    fn predict(
        runner: &mut Runner<'_, Self>,
        _: &Config,
        encoder: &TextEncoder,
        inputs: &[&str],
    ) -> Vec<Result<Likelihood>> {
        let tokens: Vec<Vec<u32>> = inputs.iter().map(|text| encoder.encode(text)).collect();
        let mut means: Vec<Option<f64>> = vec![None; inputs.len()];
        let (short, long): (Vec<usize>, Vec<usize>) = (0..inputs.len())
            .filter(|&index| tokens[index].len() > 1)
            .partition(|&index| tokens[index].len() <= WINDOW);
        let lengths: Vec<usize> = short.iter().map(|&index| tokens[index].len()).collect();
        for places in like_length(&lengths) {
            let indices: Vec<usize> = places.into_iter().map(|place| short[place]).collect();
            let texts: Vec<&[u32]> = indices.iter().map(|&index| &tokens[index][..]).collect();
            for (&index, sum) in indices.iter().zip(losses(runner, &texts)) {
                means[index] = Some(sum / (tokens[index].len() - 1) as f64);
            }
        }
        for index in long {
            means[index] = loss(runner, &tokens[index], 1).map(|total| total.mean());
        }
        let answer = |((text, tokens), loss): ((&&str, &Vec<u32>), Option<f64>)| {
            Ok(Likelihood {
                text: (*text).to_owned(),
                loss,
                perplexity: loss.map(f64::exp),
                bits_per_unit: loss.map(|loss| loss / std::f64::consts::LN_2),
                unknown_share: Vocabulary::unknown_share(tokens),
            })
        };
        inputs.iter().zip(&tokens).zip(means).map(answer).collect()
    }

    /// The prompt is a text.
    fn generate(
        runner: &mut Runner<'_, Self>,
        _: &Config,
        encoder: &TextEncoder,
        generation: &Generation<'_>,
        write: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<()> {
        let Generation { prompt, length, sampling, seed, .. } = *generation;
        let continuation = Continuation { prompt, length, sampling };
        let mut write = |text: &str| write(text.as_bytes()).map_err(Error::Write);
        write(prompt)?;
        generate(runner, encoder, continuation, random(seed), &mut write)
    }
}

/// The random numbers of a text.
fn random(seed: u64) -> Stream {
    Philox::new(seed, Purpose::Sample, 0).stream()
}

/// How to continue a text.
#[derive(Clone, Copy, Debug)]
pub struct Continuation<'a> {
    /// The beginning of the text. If it is empty, the text begins like a line: after a line feed, or after the unknown
    /// unit if the vocabulary has no line feed.
    pub prompt: &'a str,
    /// How many units to generate.
    pub length: usize,
    /// How to sample them.
    pub sampling: Sampling,
}

/// Reads the prompt, then generates text and passes it to `write` as soon as its characters are complete. The prompt
/// itself is not passed on, and the unknown unit is never generated.
///
/// # Errors
/// Stops at the first error of `write` and returns it.
pub fn generate<E>(
    runner: &mut Runner<'_, LanguageModel>,
    encoder: &TextEncoder,
    continuation: Continuation<'_>,
    mut random: Stream,
    write: &mut dyn FnMut(&str) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let Continuation { prompt, length, sampling } = continuation;
    let prompt = encoder.rules.clean(prompt);
    let mut tokens = encoder.encode(if prompt.is_empty() { "\n" } else { &prompt });
    if tokens.is_empty() {
        tokens.push(UNKNOWN);
    }
    let Runner { network, weights, workspace } = runner;
    let mut state = State::new(&network.state_shape(), 1);
    let (last, before) = tokens.split_last().expect("the prompt has a unit");
    for before in before.chunks(WINDOW) {
        let rows = Ragged::even(before.len(), 1);
        network.read(*weights, Input { rows: &rows, x: before, start: Some(&state) }, workspace);
        network.end(&rows, workspace, &mut state);
    }
    let mut decoder = encoder.vocabulary.decoder_after(&prompt);
    let mut token = *last;
    for _ in 0..length {
        let logits = network.step(*weights, &[token], &mut state, workspace).expect("a language model reads forward");
        token = sample(logits, &sampling, random.uniform(), Some(UNKNOWN as usize)) as u32;
        let text = decoder.push(token);
        if !text.is_empty() {
            write(&text)?;
        }
    }
    let rest = decoder.finish();
    if rest.is_empty() { Ok(()) } else { write(&rest) }
}

impl Served<LanguageModel> {
    /// Continues a text and passes what it generates to `write` as soon as its characters are complete. The same seed
    /// generates the same text.
    ///
    /// # Errors
    /// Stops at the first error of `write` and returns it.
    pub fn generate<E>(
        &self,
        continuation: Continuation<'_>,
        seed: u64,
        write: &mut dyn FnMut(&str) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        self.run(|runner| generate(runner, self.encoder(), continuation, random(seed), write))
    }
}
