//! A small causal Transformer beside an LSTM of as many parameters: what they learn of recall, how fast, what they must keep
//! to read on, and how long a token takes when it is read alone.
//!
//! The task: pairs of a key and a value, then some of the keys again; the answer to each is its value (associative recall).
//! Sequences have different numbers of pairs. Only answers are scored.
//!
//! Arguments: threads (1), updates (3600), the last position of the stream (16384).
//!
//!     cargo run --release -p throughline-nn --example transformer

use std::time::Instant;

use throughline_kernels::buffer::Buffer;
use throughline_kernels::cells::CellKind;
use throughline_kernels::ops::{IGNORED, reduce};
use throughline_kernels::optim::{Adam, Method, Optimiser, clipping_factor};
use throughline_kernels::random::{Philox, Purpose, Stream};
use throughline_kernels::sequence::Ragged;
use throughline_nn::heads::Softmax;
use throughline_nn::initialise::Initialise;
use throughline_nn::layers::{Embedding, Recurrent, RecurrentConfig, Transformer, TransformerConfig};
use throughline_nn::network::{Input, PackedNetwork, Wanted, Weights, Workspace};
use throughline_nn::parameters::Builder;
use throughline_nn::{Cpu, Layer, Loss, Module, Network, Pass, State};

const KEYS: usize = 32;
const VALUES: usize = 32;
/// Keys and values.
const VOCABULARY: usize = KEYS + VALUES;
/// Pairs of a sequence, at least and at most.
const PAIRS: [usize; 2] = [4, 12];
/// Questions of a sequence.
const QUESTIONS: usize = 4;
const SEQUENCES: usize = 32;
const WIDTH: usize = 64;
const CLIP_NORM: f64 = 1.0;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse().expect("a number"));
    let mut argument = |default| arguments.next().unwrap_or(default);
    let (threads, updates, positions) = (argument(1), argument(3600), argument(16_384));

    let transformer = transformer(positions);
    let wanted = transformer.layout().parameter_count();
    let hidden =
        (1..).find(|&hidden| lstm(hidden).layout().parameter_count() >= wanted).expect("some LSTM is as large");
    println!("recall of {PAIRS:?} pairs of {KEYS} keys and {VALUES} values, {updates} updates on {threads} threads");
    report("Transformer, 2 blocks, 4 heads", transformer, 1e-3, threads, updates, positions);
    report(&format!("LSTM, {hidden} units"), lstm(hidden), 3e-3, threads, updates, positions);
}

fn transformer(most_steps: usize) -> Network<impl Module<f32, Input = [u32]>, Softmax> {
    let mut builder = Builder::new();
    let embedding = Embedding::new(&mut builder, "embedding", VOCABULARY, WIDTH);
    let config = TransformerConfig { most_steps, ..TransformerConfig::new(2, 4, WIDTH) };
    let transformer = Transformer::of(&mut builder, "transformer", &config);
    let head = Softmax::new(&mut builder, "head", WIDTH, VOCABULARY);
    embedding.then(transformer).ending_in(head, builder)
}

fn lstm(hidden: usize) -> Network<impl Module<f32, Input = [u32]>, Softmax> {
    let mut builder = Builder::new();
    let embedding = Embedding::new(&mut builder, "embedding", VOCABULARY, WIDTH);
    let lstm = Recurrent::new(&mut builder, "lstm", RecurrentConfig::new(CellKind::Lstm, WIDTH, hidden));
    let head = Softmax::new(&mut builder, "head", hidden, VOCABULARY);
    embedding.then(lstm).ending_in(head, builder)
}

/// Sequences of recall.
struct Recall {
    rows: Ragged,
    /// `[N]`
    tokens: Vec<u32>,
    /// `[N]`: the value at a question, otherwise ignored.
    answers: Vec<u32>,
}

impl Recall {
    fn draw(random: &mut Stream) -> Self {
        let (mut tokens, mut answers): (Vec<Vec<u32>>, Vec<Vec<u32>>) =
            (0..SEQUENCES).map(|_| sequence(random)).unzip();
        let rows = Ragged::new(&tokens.iter().map(Vec::len).collect::<Vec<_>>());
        let pack = |sequences: &mut Vec<Vec<u32>>| {
            let mut packed = Vec::new();
            rows.for_each_row(|_, sequence, t| packed.push(sequences[sequence][t]));
            packed
        };
        let (tokens, answers) = (pack(&mut tokens), pack(&mut answers));
        Self { rows, tokens, answers }
    }
}

/// Tokens and answers of one sequence.
fn sequence(random: &mut Stream) -> (Vec<u32>, Vec<u32>) {
    let pairs = PAIRS[0] + random.below(PAIRS[1] - PAIRS[0] + 1);
    let mut keys: Vec<u32> = (0..KEYS as u32).collect();
    let mut tokens = Vec::new();
    for pair in 0..pairs {
        keys.swap(pair, pair + random.below(KEYS - pair));
        tokens.extend([keys[pair], (KEYS + random.below(VALUES)) as u32]);
    }
    let mut answers = vec![IGNORED; tokens.len()];
    for _ in 0..QUESTIONS {
        let pair = random.below(pairs);
        answers.push(tokens[2 * pair + 1]);
        tokens.push(keys[pair]);
    }
    (tokens, answers)
}

/// Trains a network, streams through it, and prints what was measured.
fn report<B: Module<f32, Input = [u32]>>(
    name: &str,
    network: Network<B, Softmax>,
    learning_rate: f64,
    threads: usize,
    updates: usize,
    positions: usize,
) {
    println!("\n{name}: {} parameters", network.layout().parameter_count());
    let cpu = Cpu::new(threads);
    let mut parameters = network.initialise(&Initialise { forget_bias: 1.0, ..Initialise::new(1) });
    let mut packed = network.packed(&cpu, &parameters, true);
    train(&network, &cpu, &mut parameters, &mut packed, learning_rate, updates);
    stream(&network, Weights { cpu: &cpu, parameters: &parameters, packed: &packed }, positions);
}

fn train<B: Module<f32, Input = [u32]>>(
    network: &Network<B, Softmax>,
    cpu: &Cpu,
    parameters: &mut Buffer<f32>,
    packed: &mut PackedNetwork<f32, B, Softmax>,
    learning_rate: f64,
    updates: usize,
) {
    let mut random = Philox::new(1, Purpose::Benchmark, 0).stream();
    let mut optimiser = Optimiser::new(Method::Adam(Adam::default()), network.layout().length());
    let (mut gradients, mut workspace) = (network.layout().zeros(), Workspace::default());
    let (mut sum, mut tokens, mut seconds) = (Loss::default(), 0, 0.0);
    for update in 1..=updates {
        let batch = Recall::draw(&mut random);
        let begun = Instant::now();
        let weights = Weights { cpu, parameters: &*parameters, packed: &*packed };
        let (input, wanted) = (Input::new(&batch.rows, &batch.tokens[..]), Wanted::new(&batch.answers[..]));
        sum += network.learn(weights, input, wanted, Pass::Traced, &mut gradients, &mut workspace);
        let factor = clipping_factor(reduce::sum_of_squares(cpu.isa, &cpu.threads, &gradients).sqrt(), CLIP_NORM);
        // A rate that rises at first and ends at a tenth.
        let rate = learning_rate * (update as f64 / 100.0).min(1.0) * (1.0 - 0.9 * update as f64 / updates as f64);
        optimiser.step(cpu.isa, &cpu.threads, rate, factor, parameters, &gradients);
        network.pack(cpu, parameters, packed);
        gradients.fill(0.0);
        seconds += begun.elapsed().as_secs_f64();
        tokens += batch.tokens.len();
        if update % (updates / 5).max(1) == 0 {
            let right = 100.0 * sum.correct / sum.weight;
            println!("  update {update:5}: loss {:.3}, {right:.1} % of answers right", sum.mean());
            sum = Loss::default();
        }
    }
    println!("  training: {:.0} tokens/s", tokens as f64 / seconds);
}

/// Reads random tokens one at a time, and prints bytes of state and the median time of a token up to each position.
fn stream<B: Module<f32, Input = [u32]>>(
    network: &Network<B, Softmax>,
    weights: Weights<'_, f32, B, Softmax>,
    positions: usize,
) {
    let mut random = Philox::new(2, Purpose::Benchmark, 0).stream();
    let (mut state, mut workspace) = (State::new(&network.state_shape(), 1), Workspace::default());
    let mut recent = Vec::new();
    println!("  position  bytes of state  µs a token");
    for position in 1..=positions {
        let token = [random.below(VOCABULARY) as u32];
        let begun = Instant::now();
        network.step(weights, &token, &mut state, &mut workspace).expect("the stream is no longer than it may be");
        recent.push(begun.elapsed().as_secs_f64() * 1e6);
        if position.is_power_of_two() && position.trailing_zeros().is_multiple_of(2) || position == positions {
            // The last 33 tokens, or as many as there were since the last line.
            let mut times = recent.split_off(recent.len().saturating_sub(33));
            times.sort_by(f64::total_cmp);
            println!("  {position:8}  {:14}  {:10.2}", state.bytes(), times[times.len() / 2]);
            recent.clear();
        }
    }
}
