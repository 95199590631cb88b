//! Example 7: several notes at once, and what cannot be known about them.
//!
//! Two voices play a canon: each step the first draws one of eight keys at random, and the second plays, an octave higher,
//! what the first played four steps before. The next step is predicted from those before it, each of the 16 keys on its
//! own:
//!
//!     x      = W keys + b                              [N, I]      the sum of one vector for each key that sounds
//!     h      = GRU(x)                                  [N, H]
//!     logits = W h + b                                 [N, K]
//!     loss   = mean over steps of the sum over keys of -ln σ(±logit)
//!
//! The second voice can be known for certain by a model that remembers. The first cannot: a key that sounds one time in
//! eight costs H(1/8) nats, its entropy, and eight of them are the least loss that there is.
//!
//!     cargo run --release -p throughline --example 07_piano_roll

use throughline::engine::clipping_factor;
use throughline::engine::reduce;
use throughline::nn::Bernoulli;
use throughline::prelude::*;

const VOICE: usize = 8;
const KEYS: usize = 2 * VOICE;
const DELAY: usize = 4;
const STEPS: usize = 40;
const PIECES: usize = 32;
const UPDATES: u64 = 400;
const LEARNING_RATE: f64 = 0.01;

fn main() {
    let mut builder = Builder::new();
    let embedding = Linear::new(&mut builder, "embedding", KEYS, 16);
    let gru = Recurrent::new(&mut builder, "rnn", RecurrentConfig::new(CellKind::GruAfter, 16, 64));
    let head = Bernoulli::new(&mut builder, "head", 64, KEYS);
    let network = embedding.then(gru).ending_in(head, builder);

    let cpu = Cpu::new(1);
    let mut parameters = network.initialise(&Initialise::new(1));
    let mut gradients = network.layout().zeros();
    let mut optimiser = Optimiser::new(Method::Adam(Adam::default()), network.layout().length());
    let mut packed = network.packed(&cpu, &parameters, true);
    let mut workspace = Workspace::default();
    let rows = Ragged::even(STEPS, PIECES);
    let mut loss = Loss::default();
    for update in 1..=UPDATES {
        let (x, targets) = canon(update);
        gradients.fill(0.0);
        let weights = Weights { cpu: &cpu, parameters: &parameters, packed: &packed };
        let (input, wanted) = (Input::new(&rows, &x[..]), Wanted::new(&targets[..]));
        loss = network.learn(weights, input, wanted, Pass::Traced, &mut gradients, &mut workspace);
        let norm = reduce::sum_of_squares(cpu.isa, &cpu.threads, &gradients).sqrt();
        let factor = clipping_factor(norm, 1.0);
        optimiser.step(cpu.isa, &cpu.threads, LEARNING_RATE, factor, &mut parameters, &gradients);
        network.pack(&cpu, &parameters, &mut packed);
        if update == 1 || update % 50 == 0 {
            println!("update {update:>3}   loss {:.4}", loss.mean());
        }
    }

    // In the first steps the second voice has nothing to repeat, and is silent.
    let entropy = |p: f64| -p * p.ln() - (1.0 - p) * (1.0 - p).ln();
    let least = VOICE as f64 * entropy(1.0 / VOICE as f64);
    println!("\nthe least that can be reached: {least:.4}");
    assert!(loss.mean() > 0.97 * least && loss.mean() < 1.1 * least, "the loss is {}", loss.mean());
}

/// New pieces as packed rows, step by step: the keys of each step, and those of the step after it.
fn canon(update: u64) -> (Vec<f32>, Vec<f32>) {
    let mut random = Philox::new(1, Purpose::Benchmark, update).stream();
    let voice: Vec<Vec<usize>> = (0..PIECES).map(|_| (0..=STEPS).map(|_| random.below(VOICE)).collect()).collect();
    let mut steps = vec![0.0; (STEPS + 1) * PIECES * KEYS];
    for (row, keys) in steps.chunks_mut(KEYS).enumerate() {
        let (t, piece) = (row / PIECES, row % PIECES);
        keys[voice[piece][t]] = 1.0;
        if t >= DELAY {
            keys[VOICE + voice[piece][t - DELAY]] = 1.0;
        }
    }
    let targets = steps[PIECES * KEYS..].to_vec();
    steps.truncate(STEPS * PIECES * KEYS);
    (steps, targets)
}
