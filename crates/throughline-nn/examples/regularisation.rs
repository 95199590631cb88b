//! What each regulariser of the recurrence, and layer normalisation, adds to the time of training, forward and backward,
//! and of a model in use.
//!
//! Each variant and the plain layer take turns. For every size it prints the median time of the plain layer, and of each
//! variant the median of its times divided by the plain one's just before.
//!
//! Arguments: threads (1), pairs (101).

use std::time::Instant;

use throughline_kernels::cells::CellKind;
use throughline_kernels::random::{Philox, Purpose};
use throughline_kernels::sequence::Ragged;
use throughline_nn::Pass;
use throughline_nn::layers::RecurrentConfig;
use throughline_nn::layers::recurrent::RecurrentRegularisation;
use throughline_nn::standalone::Stack;

/// Steps, sequences, and units of the input and the layer.
const SIZES: [(usize, usize, usize); 3] = [(100, 32, 64), (35, 20, 200), (35, 20, 650)];

/// A layer, and how often it runs at a time, so that the time of a small one is not too short.
struct Variant {
    name: &'static str,
    stack: Stack<f32>,
    repeat: usize,
}

impl Variant {
    /// Seconds of training on one batch.
    fn train(&mut self, batch: &Ragged, x: &[f32], dy: &[f32]) -> f64 {
        let begun = Instant::now();
        for update in 0..self.repeat as u64 {
            self.stack.set_pass(Pass::Training(Philox::new(1, Purpose::Dropout, update)));
            self.stack.run(batch, x, None);
            self.stack.backward(batch, x, None, Some(dy), None);
        }
        begun.elapsed().as_secs_f64() / self.repeat as f64
    }

    /// Seconds of inference on one batch.
    fn infer(&mut self, batch: &Ragged, x: &[f32]) -> f64 {
        self.stack.set_pass(Pass::Inference);
        let begun = Instant::now();
        for _ in 0..self.repeat {
            self.stack.run(batch, x, None);
        }
        begun.elapsed().as_secs_f64() / self.repeat as f64
    }
}

/// Names and what differs from the plain layer, `config`.
fn variants(config: RecurrentConfig) -> Vec<(&'static str, RecurrentConfig)> {
    let (cell, none) = (config.cell, RecurrentRegularisation::default());
    let mut variants = vec![
        ("plain", none),
        ("weight dropout 0.5", RecurrentRegularisation { weight_dropout: 0.5, ..none }),
        ("recurrent dropout 0.25", RecurrentRegularisation { recurrent_dropout: 0.25, ..none }),
        ("zoneout of h 0.1", RecurrentRegularisation { zoneout_hidden: 0.1, ..none }),
    ];
    if cell.has_candidate() {
        variants.push(("candidate dropout 0.25", RecurrentRegularisation { candidate_dropout: 0.25, ..none }));
    }
    if cell.has_cell_state() {
        variants
            .push(("zoneout of h and c", RecurrentRegularisation { zoneout_hidden: 0.1, zoneout_cell: 0.1, ..none }));
    }
    let regularised =
        variants.into_iter().map(|(name, regularisation)| (name, RecurrentConfig { regularisation, ..config }));
    regularised.chain([("layer normalisation", RecurrentConfig { layer_norm: true, ..config })]).collect()
}

/// Times pairs of `plain` and each variant, and prints the medians.
fn compare(
    what: &str,
    plain: &mut Variant,
    variants: &mut [Variant],
    pairs: usize,
    time: impl Fn(&mut Variant) -> f64,
) {
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    time(plain);
    println!("  {what}: plain {:.3} ms", median((0..pairs).map(|_| time(plain)).collect()) * 1e3);
    for variant in variants {
        time(variant);
        let ratios = (0..pairs).map(|_| {
            let plain = time(plain);
            time(variant) / plain
        });
        let ratio = median(ratios.collect());
        println!("    {:24} {ratio:.3}", variant.name);
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse().expect("a number"));
    let (threads, pairs) = (arguments.next().unwrap_or(1), arguments.next().unwrap_or(101));
    for cell in [CellKind::Lstm, CellKind::GruAfter, CellKind::GruBefore, CellKind::RnnTanh] {
        for (steps, sequences, units) in SIZES {
            println!("{}, T {steps}, B {sequences}, I and H {units}, {threads} threads", cell.name());
            let batch = Ragged::even(steps, sequences);
            let mut random = Philox::new(1, Purpose::Benchmark, 0).stream();
            let mut noise = || (0..batch.rows() * units).map(|_| random.uniform() as f32 - 0.5).collect::<Vec<f32>>();
            let (x, dy) = (noise(), noise());
            let variant = |name, config| Variant {
                name,
                stack: Stack::on_threads(config, 1, threads),
                repeat: (400 / units).max(1),
            };
            let config = RecurrentConfig::new(cell, units, units);
            let mut plain = variant("", config);
            let mut variants: Vec<Variant> =
                variants(config).into_iter().map(|(name, config)| variant(name, config)).collect();
            compare("training", &mut plain, &mut variants, pairs, |variant| variant.train(&batch, &x, &dy));
            compare("inference", &mut plain, &mut variants, pairs, |variant| variant.infer(&batch, &x));
        }
    }
}
