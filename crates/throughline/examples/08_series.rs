//! Example 8: a number from a series, and where the network looked for it.
//!
//! A series has two channels. The first is noise, uniform in ±√3; the second is 1 at a single step and 0 elsewhere. The number to find is
//! what the first channel was at that step. A bidirectional GRU reads the series, and attention (Yang et al. 2016) takes a
//! mean over its steps whose weights it learns:
//!
//!     h      = bidirectional GRU(x)                                     [N, 2H]
//!     a_t    = softmax over t of query · tanh(W h_t + b)                [N]        the weights, which can be read
//!     answer = W_out (sum over t of a_t h_t) + b_out                    [B, 1]
//!     loss   = mean of (answer - target)²
//!
//! A network that had learned nothing would answer with the mean, 0, and err by the variance of the noise, 1.
//!
//!     cargo run --release -p throughline --example 08_series

use throughline::engine::{Residual, Stream, clipping_factor, reduce};
use throughline::nn::Regression;
use throughline::prelude::*;

const CHANNELS: usize = 2;
const LONGEST: usize = 50;
const BATCH: usize = 32;
const UPDATES: u64 = 400;
const LEARNING_RATE: f64 = 0.01;

fn main() {
    let mut builder = Builder::new();
    let gru = RecurrentConfig { bidirectional: true, ..RecurrentConfig::new(CellKind::GruAfter, CHANNELS, 32) };
    let gru = Recurrent::new(&mut builder, "rnn", gru);
    let pooled = Pool::of(&mut builder, "pool", gru, Pooling::Attention);
    let head = Regression::new(&mut builder, "head", pooled.width(), 1, Residual::Squared);
    let network = pooled.ending_in(head, builder);

    let cpu = Cpu::new(2);
    let mut parameters = network.initialise(&Initialise::new(1));
    let mut gradients = network.layout().zeros();
    let mut optimiser = Optimiser::new(Method::Adam(Adam::default()), network.layout().length());
    let mut packed = network.packed(&cpu, &parameters, true);
    let mut workspace = Workspace::default();
    let mut random = Philox::new(1, Purpose::Benchmark, 0).stream();
    for update in 1..=UPDATES {
        let batch = Batch::draw(&mut random, BATCH);
        gradients.fill(0.0);
        let weights = Weights { cpu: &cpu, parameters: &parameters, packed: &packed };
        let (input, wanted) = (Input::new(&batch.rows, &batch.x[..]), Wanted::new(&batch.targets[..]));
        let loss = network.learn(weights, input, wanted, Pass::Traced, &mut gradients, &mut workspace);
        let norm = reduce::sum_of_squares(cpu.isa, &cpu.threads, &gradients).sqrt();
        let factor = clipping_factor(norm, 1.0);
        // The rate falls to 0 in a straight line.
        let rate = LEARNING_RATE * (1.0 - (update - 1) as f64 / UPDATES as f64);
        optimiser.step(cpu.isa, &cpu.threads, rate, factor, &mut parameters, &gradients);
        network.pack(&cpu, &parameters, &mut packed);
        if update == 1 || update % 50 == 0 {
            println!("update {update:>3}   loss {:.4}", loss.mean());
        }
    }

    // Series that training never saw: how far off is the answer, and how much of the attention is on the marked step?
    let batch = Batch::draw(&mut random, 500);
    let weights = Weights { cpu: &cpu, parameters: &parameters, packed: &packed };
    let answers = network.predict(weights, Input::new(&batch.rows, &batch.x[..]), &mut workspace).to_vec();
    let errors = answers.iter().zip(&batch.targets).map(|(answer, target)| f64::from(answer - target).powi(2));
    let mse = errors.sum::<f64>() / answers.len() as f64;
    let pool = network.body().second();
    let attention = pool.weights(workspace.body.second()).expect("the pooling is attention");
    let marked = batch.x.chunks(CHANNELS).zip(attention).filter(|(step, _)| step[1] == 1.0);
    let on_marked = marked.map(|(_, &weight)| f64::from(weight)).sum::<f64>() / answers.len() as f64;
    println!(
        "\nheld-out mean squared error {mse:.4}; {:.0} % of the attention is on the marked step",
        100.0 * on_marked
    );
    assert!(mse < 0.05, "the mean squared error is {mse}");
    assert!(on_marked > 0.5, "{on_marked} of the attention is on the marked step");
}

/// Series as packed rows, and a number for each.
struct Batch {
    rows: Ragged,
    /// `[N, C]`
    x: Vec<f32>,
    /// `[B, 1]`
    targets: Vec<f32>,
}

impl Batch {
    /// `count` series of 10 to [`LONGEST`] steps.
    fn draw(random: &mut Stream, count: usize) -> Self {
        let lengths: Vec<usize> = (0..count).map(|_| 10 + random.below(LONGEST - 9)).collect();
        let marked: Vec<usize> = lengths.iter().map(|&length| random.below(length)).collect();
        let (rows, mut x, mut targets) = (Ragged::new(&lengths), Vec::new(), vec![0.0; count]);
        rows.for_each_row(|_, series, t| {
            let value = (3f64.sqrt() * (2.0 * random.uniform() - 1.0)) as f32;
            let mark = if t == marked[series] { 1.0 } else { 0.0 };
            x.extend([value, mark]);
            if t == marked[series] {
                targets[series] = value;
            }
        });
        Self { rows, x, targets }
    }
}
