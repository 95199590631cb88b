//! Piano rolls: the pitches of the next step. A linear map of the keys that sound, a recurrent stack, and a sigmoid for each
//! key.
//!
//! A piece begins after a silent step, so that a model can also begin one: the input of its first step is silence, that of
//! each other step the step before it. How likely a piece is leaves its first step out, as in the literature
//! (Boulanger-Lewandowski et al. 2012; Bai et al. 2018), where step t + 1 is predicted from the steps up to t.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use throughline_data::{
    FrameScores, PianoRoll, PieceReader, Pitches, piano_roll_from_json, piano_roll_to_json, piano_roll_to_midi,
};
use throughline_kernels::random::{Philox, Purpose};
use throughline_kernels::sequence::{Direction, Ragged};
use throughline_nn::chain::Chain;
use throughline_nn::decode::Sampling;
use throughline_nn::heads::{Bernoulli, Head, HeadCall, Loss};
use throughline_nn::layers::{Linear, Recurrent};
use throughline_nn::module::Layer;
use throughline_nn::network::{Input, Network};
use throughline_nn::parameters::Builder;
use throughline_nn::state::State;

use crate::batches::like_length;
use crate::config::{ConfigError, RecurrentSettings, Regularisation};
use crate::error::{Error, Result};
use crate::files::Files;
use crate::serve::{Evaluation, Examples, Generation, Info, Pieces, Runner, Sample, Serve};

/// The task `roll`.
#[derive(Clone, Copy, Debug)]
pub enum Roll {}

/// The configuration of a model of piano rolls.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The recurrent stack, which reads a linear map of the keys. It reads forward only.
    pub recurrent: RecurrentSettings,
    /// The keys.
    pub keys: Keys,
    /// Steps in a quarter note of a MIDI file, 1 to 480.
    pub steps_per_beat: u32,
    /// A key whose probability is above this is taken to sound, above 0 and below 1.
    pub threshold: f64,
}

/// The pitches that a model knows: all from the lowest to the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// The lowest pitch.
    pub lowest: u8,
    /// The highest pitch, at most 127.
    pub highest: u8,
}

impl Keys {
    /// K, how many.
    pub fn count(self) -> usize {
        usize::from(self.highest - self.lowest) + 1
    }

    /// The pitches.
    pub fn pitches(self) -> Pitches {
        (self.lowest..=self.highest).collect()
    }

    /// Appends a row of K numbers to `rows`: 1 for a key that sounds, 0 for the others.
    fn push(self, step: Pitches, rows: &mut Vec<f32>) {
        rows.extend((self.lowest..=self.highest).map(|pitch| f32::from(u8::from(step.contains(pitch)))));
    }

    /// The pitches whose key is on.
    pub fn of(self, on: impl Iterator<Item = bool>) -> Pitches {
        (self.lowest..=self.highest).zip(on).filter_map(|(pitch, on)| on.then_some(pitch)).collect()
    }

    /// How many notes there are in `steps`, and how many of them have no key.
    pub fn notes<'a>(self, steps: impl IntoIterator<Item = &'a Pitches>) -> (usize, usize) {
        let known = self.pitches();
        steps.into_iter().fold((0, 0), |(all, unknown), step| (all + step.len(), unknown + step.without(known).len()))
    }

    /// The share of the notes in `steps` that have no key.
    fn unknown_share<'a>(self, steps: impl IntoIterator<Item = &'a Pitches>) -> f64 {
        let (all, unknown) = self.notes(steps);
        unknown as f64 / all.max(1) as f64
    }
}

/// What a model expects after a piece.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NextStep {
    /// How many steps the piece has.
    pub steps: usize,
    /// The pitches of the next step whose probability is above the threshold.
    pub pitches: Vec<u8>,
    /// The pitch of the first probability.
    pub lowest: u8,
    /// The probability that each key sounds at the next step, from the lowest up.
    pub probabilities: Vec<f32>,
    /// The share of the piece's notes that have no key, from 0 to 1.
    pub unknown_share: f64,
}

/// Numbers that reading a piece may hold at most: 256 MiB of f32.
const MOST_NUMBERS: usize = 1 << 26;
/// The most steps that are written.
const MOST_STEPS: usize = 1 << 20;
/// Steps of a prompt that one pass reads.
const WINDOW: usize = 1024;

impl Config {
    /// The longest piece, in steps, that the memory for one piece has room for.
    pub fn longest(&self) -> usize {
        MOST_NUMBERS / (self.recurrent.numbers_per_row() + 4 * self.keys.count())
    }
}

/// Steps of pieces as a ragged batch, with the memory to hold it.
#[derive(Debug, Default)]
pub struct Batch {
    rows: Ragged,
    x: Vec<f32>,
    targets: Vec<f32>,
}

impl Batch {
    /// Takes `steps` of each piece as what is predicted: the input of each is the step before it, which for the first step of
    /// a piece, and after the end of a piece, is silence.
    pub fn set(&mut self, keys: Keys, pieces: &[(&[Pitches], Range<usize>)]) {
        let Self { rows, x, targets } = self;
        rows.set(&pieces.iter().map(|(_, steps)| steps.len()).collect::<Vec<_>>());
        x.clear();
        targets.clear();
        rows.for_each_row(|_, index, t| {
            let (piece, steps) = &pieces[index];
            let step = steps.start + t;
            let at = |step: Option<usize>| step.and_then(|step| piece.get(step)).copied().unwrap_or_default();
            keys.push(at(step.checked_sub(1)), x);
            keys.push(at(Some(step)), targets);
        });
    }

    /// What a network reads.
    pub fn input(&self) -> Input<'_, f32, [f32]> {
        Input::new(&self.rows, &self.x)
    }

    /// `[N, K]`: what is predicted.
    pub fn targets(&self) -> &[f32] {
        &self.targets
    }

    /// N, the number of steps.
    pub fn rows(&self) -> usize {
        self.rows.rows()
    }
}

/// The scores of the pitches found, by name.
pub fn metrics(scores: &FrameScores) -> BTreeMap<String, f64> {
    let all = [
        ("frame_accuracy", scores.accuracy()),
        ("f1", scores.f1()),
        ("precision", scores.precision()),
        ("recall", scores.recall()),
    ];
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Predicts all steps of `pieces` but the first of each: the loss, and the scores of the pitches found.
fn measure(runner: &mut Runner<'_, Roll>, config: &Config, pieces: &[PianoRoll]) -> (Loss, FrameScores) {
    let (keys, threshold) = (config.keys, config.threshold as f32);
    let known = keys.pitches();
    let (mut loss, mut scores) = (Loss::default(), FrameScores::default());
    let mut batch = Batch::default();
    let lengths: Vec<usize> = pieces.iter().map(Vec::len).collect();
    for indices in like_length(&lengths) {
        let of_batch: Vec<(&[Pitches], Range<usize>)> =
            indices.iter().map(|&index| (&pieces[index][..], 0..lengths[index])).collect();
        batch.set(keys, &of_batch);
        let Runner { network, weights, workspace } = runner;
        network.read(*weights, batch.input(), workspace);
        let head = network.head();
        // Rows are packed step by step: those of the first steps come first.
        let first = batch.rows.batch_sizes().first().copied().unwrap_or(0);
        let scored = first..batch.rows();
        let call = HeadCall { scored: scored.clone(), ..network.head_call(*weights, &batch.rows, &workspace.body) };
        loss += head.evaluate(call, batch.targets(), &mut workspace.head);
        let call = HeadCall { scored, ..network.head_call(*weights, &batch.rows, &workspace.body) };
        let probabilities = head.probabilities(call, &mut workspace.head);
        let mut of_rows = probabilities.chunks_exact(keys.count());
        batch.rows.for_each_row(|row, index, t| {
            if row >= first {
                let probabilities = of_rows.next().expect("a row of probabilities for each row that is scored");
                let found = keys.of(probabilities.iter().map(|&probability| probability > threshold));
                scores.add(of_batch[index].0[t].and(known), found);
            }
        });
    }
    (loss, scores)
}

impl Serve for Roll {
    const INFO: Info = Info {
        name: "roll",
        title: "model of piano rolls",
        about: "the pitches of the next step of a piece of music",
        best: "the lowest loss",
        metrics: &[],
        counted: "steps",
        usage: &[
            "throughline generate {run} --prompt piece.mid --length 256 --out continued.mid",
            "throughline predict {run} < pieces.jsonl",
            "throughline eval {run}",
        ],
    };

    type Config = Config;
    type Encoder = Keys;
    type Body = Chain<Linear, Recurrent>;
    type Head = Bernoulli;
    type Data = Vec<PianoRoll>;
    type Prediction = NextStep;

    fn check(config: &Config) -> std::result::Result<(), ConfigError> {
        let Config { recurrent, keys: Keys { lowest, highest }, steps_per_beat, threshold } = *config;
        if lowest > highest || usize::from(highest) >= Pitches::COUNT {
            let found = format_args!("{lowest} to {highest}");
            return Err(ConfigError::new("keys", "pitches from 0 to 127, the lowest first", found));
        }
        if !(1..=480).contains(&steps_per_beat) {
            return Err(ConfigError::new("steps_per_beat", "1 to 480", steps_per_beat));
        }
        if !(threshold > 0.0 && threshold < 1.0) {
            return Err(ConfigError::new("threshold", "a number above 0 and below 1", threshold));
        }
        if recurrent.bidirectional {
            let expected = "false, since the next step must not be seen";
            return Err(ConfigError::new("bidirectional", expected, true));
        }
        recurrent.check(config.keys.count(), config.keys.count())
    }

    fn network(config: &Config, regularisation: Regularisation) -> Network<Self::Body, Bernoulli> {
        let builder = &mut Builder::new().with_dropout_mask(regularisation.dropout_mask);
        let (settings, keys) = (&config.recurrent, config.keys.count());
        let embedding = Linear::new(builder, "embedding", keys, settings.input)
            .with_dropout(builder, regularisation.embedding_dropout);
        let recurrent = Recurrent::new(builder, "rnn", settings.config(regularisation))
            .with_dropout(builder, regularisation.output_dropout)
            .with_penalty(regularisation.penalty);
        let head = Bernoulli::new(builder, "head", settings.output(), keys);
        embedding.then(recurrent).ending_in(head, std::mem::take(builder))
    }

    fn open_encoder(config: &Config, _: &Files) -> Result<Keys> {
        Ok(config.keys)
    }

    fn encoder_files(_: &Keys) -> Vec<(&'static str, Vec<u8>)> {
        Vec::new()
    }

    fn evaluate(
        runner: &mut Runner<'_, Self>,
        config: &Config,
        keys: &Keys,
        pieces: &Vec<PianoRoll>,
    ) -> Option<Evaluation> {
        let (loss, scores) = measure(runner, config, pieces);
        if loss.weight == 0.0 {
            return None;
        }
        Some(Evaluation {
            count: loss.weight as usize,
            loss: loss.mean(),
            metrics: metrics(&scores),
            unknown_share: keys.unknown_share(pieces.iter().flatten()),
            confusion: None,
        })
    }

    fn sample(_: &Config, keys: &Keys, pieces: &Vec<PianoRoll>, sample: Sample<'_>) -> Examples<[f32], [f32]> {
        let readable: Vec<&PianoRoll> = pieces.iter().filter(|piece| !piece.is_empty()).collect();
        let indices = sample.of(readable.len());
        let part = |&index: &usize| (&readable[index][..], 0..sample.cut(readable[index].len()));
        let chosen: Vec<(&[Pitches], Range<usize>)> = indices.iter().map(part).collect();
        let mut batch = Batch::default();
        batch.set(*keys, &chosen);
        let chord = |keys_of_step: &[f32]| {
            let sounding = (keys.lowest..).zip(keys_of_step).filter(|(_, sounds)| **sounds > 0.0);
            sounding.map(|(pitch, _)| pitch.to_string()).collect::<Vec<_>>().join(" ")
        };
        let pieces = Pieces::of(batch.x.chunks(keys.count()).map(chord));
        Examples {
            indices,
            rows: batch.rows,
            x: batch.x,
            targets: batch.targets,
            pieces: Some(pieces),
            columns: Vec::new(),
        }
    }

    /// Each input is a piece in JSON, a list of steps, and a step a list of pitches.
    fn predict(runner: &mut Runner<'_, Self>, config: &Config, keys: &Keys, inputs: &[&str]) -> Vec<Result<NextStep>> {
        let longest = config.longest();
        let parse = |text: &&str| {
            let piece = from_json(text)?;
            let expected = format!("a piece of fewer than {longest} steps, which is what fits the memory for one");
            let fits = piece.len() < longest;
            if fits { Ok(piece) } else { Err(Error::Input { expected, found: piece.len().to_string() }) }
        };
        let pieces: Vec<Result<PianoRoll>> = inputs.iter().map(parse).collect();
        let (places, readable): (Vec<usize>, Vec<&PianoRoll>) =
            pieces.iter().enumerate().filter_map(|(place, piece)| Some((place, piece.as_ref().ok()?))).unzip();
        let mut expected = vec![Vec::new(); inputs.len()];
        let mut batch = Batch::default();
        for indices in like_length(&readable.iter().map(|piece| piece.len()).collect::<Vec<_>>()) {
            // The step after the last one.
            let of_batch: Vec<(&[Pitches], Range<usize>)> =
                indices.iter().map(|&index| (&readable[index][..], 0..readable[index].len() + 1)).collect();
            batch.set(*keys, &of_batch);
            let Runner { network, weights, workspace } = runner;
            network.read(*weights, batch.input(), workspace);
            let call = network.head_call(*weights, &batch.rows, &workspace.body);
            let probabilities = network.head().probabilities(call, &mut workspace.head);
            for (column, &index) in batch.rows.order().iter().enumerate() {
                let row = batch.rows.last_row(Direction::Forward, column).expect("a piece has a next step");
                let of_row = &probabilities[row * keys.count()..][..keys.count()];
                expected[places[indices[index]]] = of_row.to_vec();
            }
        }
        let answer = |(piece, probabilities): (Result<PianoRoll>, Vec<f32>)| {
            let piece = piece?;
            let found = keys.of(probabilities.iter().map(|&probability| probability > config.threshold as f32));
            Ok(NextStep {
                steps: piece.len(),
                pitches: found.iter().collect(),
                lowest: keys.lowest,
                probabilities,
                unknown_share: keys.unknown_share(&piece),
            })
        };
        pieces.into_iter().zip(expected).map(answer).collect()
    }

    /// The prompt is a piece in JSON, or the name of a MIDI or JSON file with one piece. The piece and what follows it are
    /// written as JSON, or as MIDI where a file's name ends in `.mid` or `.midi`.
    fn generate(
        runner: &mut Runner<'_, Self>,
        config: &Config,
        keys: &Keys,
        generation: &Generation<'_>,
        write: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<()> {
        let Generation { prompt, length, sampling, seed, ending } = *generation;
        let midi = match ending {
            None | Some("json") => false,
            Some("mid" | "midi") => true,
            Some(other) => {
                let expected = "a file that ends in .mid, .midi or .json".to_owned();
                return Err(Error::Input { expected, found: format!("one that ends in .{other}") });
            }
        };
        let Sampling { temperature, top_k, top_p } = sampling;
        if top_k > 0 || top_p < 1.0 {
            let expected = "no top_k and no top_p, since each key is drawn on its own".to_owned();
            return Err(Error::Input { expected, found: format!("top_k {top_k}, top_p {top_p}") });
        }
        if length > MOST_STEPS {
            let expected = format!("a length of at most {MOST_STEPS} steps");
            return Err(Error::Input { expected, found: length.to_string() });
        }
        let mut piece = read_prompt(config, prompt)?;
        continue_piece(runner, *keys, &mut piece, length, temperature, seed);
        let bytes = if midi {
            piano_roll_to_midi(&piece, config.steps_per_beat)
        } else {
            piano_roll_to_json(&piece).into_bytes()
        };
        write(&bytes).map_err(Error::Write)
    }
}

fn from_json(text: &str) -> Result<PianoRoll> {
    piano_roll_from_json(text).map_err(|wrong| Error::Input { expected: wrong.expected, found: wrong.found })
}

fn read_prompt(config: &Config, prompt: &str) -> Result<PianoRoll> {
    if prompt.is_empty() {
        return Ok(PianoRoll::new());
    }
    if prompt.starts_with('[') {
        return from_json(prompt);
    }
    let reader = PieceReader { steps_per_beat: config.steps_per_beat, ..PieceReader::default() };
    let mut pieces = reader.read(&[prompt.into()])?.pieces;
    match pieces.pop() {
        Some((_, piece)) if pieces.is_empty() => Ok(piece),
        last => {
            let found = pieces.len() + usize::from(last.is_some());
            Err(Error::Input { expected: format!("one piece in {prompt}"), found: found.to_string() })
        }
    }
}

/// Reads the piece, then appends `length` steps, each drawn key by key from its probability at this temperature: σ(logit /
/// temperature), or of 0 the likelier of on and off. The same seed appends the same steps.
fn continue_piece(
    runner: &mut Runner<'_, Roll>,
    keys: Keys,
    piece: &mut PianoRoll,
    length: usize,
    temperature: f64,
    seed: u64,
) {
    let Runner { network, weights, workspace } = runner;
    let mut state = State::new(&network.state_shape(), 1);
    let mut batch = Batch::default();
    for start in (0..piece.len()).step_by(WINDOW) {
        let end = piece.len().min(start + WINDOW);
        batch.set(keys, &[(&piece[..], start..end)]);
        network.read(*weights, Input { start: Some(&state), ..batch.input() }, workspace);
        network.end(&batch.rows, workspace, &mut state);
    }
    let mut random = Philox::new(seed, Purpose::Sample, 0).stream();
    let mut x = Vec::with_capacity(keys.count());
    for _ in 0..length {
        x.clear();
        keys.push(piece.last().copied().unwrap_or_default(), &mut x);
        let logits = network.step(*weights, &x, &mut state, workspace).expect("the model reads forward");
        let on = |&logit: &f32| {
            if temperature <= 0.0 {
                return logit > 0.0;
            }
            random.uniform() < 1.0 / (1.0 + (-f64::from(logit) / temperature).exp())
        };
        piece.push(keys.of(logits.iter().map(on)));
    }
}
