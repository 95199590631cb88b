//! What traces cost: every gate, state and hidden state of an LSTM of 2 x 256 units against the plain forward pass, and the gradients
//! of all of them against forward and backward.
//!
//! The plain pass and each trace take turns. For every size it prints the median time of the plain pass, and of each trace the
//! median of its times divided by the plain one's just before.
//!
//! Arguments: threads (1), pairs (21).

use std::hint::black_box;
use std::time::Instant;

use throughline_inspect::{Selection, Subject, Tracer};
use throughline_kernels::cells::CellKind;
use throughline_kernels::sequence::Ragged;
use throughline_nn::heads::Softmax;
use throughline_nn::initialise::Initialise;
use throughline_nn::layers::{Recurrent, RecurrentConfig};
use throughline_nn::module::{Cpu, Layer, Pass};
use throughline_nn::network::{Input, Wanted, Weights, Workspace};
use throughline_nn::parameters::Builder;

const UNITS: usize = 256;
const CLASSES: usize = 8;
/// Steps and sequences.
const SIZES: [(usize, usize); 2] = [(100, 32), (200, 100)];
/// What is traced.
const TRACES: [(&str, &[&str]); 4] = [
    ("one gate", &["*.forget"]),
    ("every gate, c and h", &["*.input", "*.forget", "*.cell", "*.output", "*.c", "*.h"]),
    ("pre-activations, too", &["*.input", "*.forget", "*.cell", "*.output", "*.c", "*.h", "*.pre_*"]),
    ("everything", &["*"]),
];

fn main() {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse().expect("a number"));
    let (threads, pairs) = (arguments.next().unwrap_or(1), arguments.next().unwrap_or(21));
    let cpu = Cpu::new(threads);
    let mut builder = Builder::new();
    let config = RecurrentConfig { layers: 2, ..RecurrentConfig::new(CellKind::Lstm, UNITS, UNITS) };
    let stack = Recurrent::new(&mut builder, "rnn", config);
    let head = Softmax::new(&mut builder, "head", config.output(), CLASSES);
    let network = stack.ending_in(head, builder);
    let parameters = network.initialise(&Initialise::new(1));
    let packed = network.packed(&cpu, &parameters[..], true);
    let weights = Weights { cpu: &cpu, parameters: &parameters[..], packed: &packed };
    for (steps, sequences) in SIZES {
        let rows = Ragged::even(steps, sequences);
        let x: Vec<f32> = (0..rows.rows() * UNITS).map(|place| (place * 37 % 101) as f32 / 50.0 - 1.0).collect();
        let targets: Vec<u32> = (0..rows.rows()).map(|row| (row % CLASSES) as u32).collect();
        let subject = Subject { network: &network, weights, rows: &rows, x: &x[..], targets: &targets[..] };
        let (mut workspace, mut gradients) = (Workspace::default(), vec![0.0; parameters.len()]);
        let mut forward = || {
            let begun = Instant::now();
            network.read(weights, Input::new(&rows, &x[..]), &mut workspace);
            begun.elapsed().as_secs_f64()
        };
        let mut workspace = Workspace::default();
        let mut both_ways = || {
            let begun = Instant::now();
            let (input, wanted) = (Input::new(&rows, &x[..]), Wanted::new(&targets[..]));
            network.learn(weights, input, wanted, Pass::Traced, &mut gradients, &mut workspace);
            begun.elapsed().as_secs_f64()
        };
        println!("{steps} steps, {sequences} sequences:");
        for (name, patterns) in TRACES {
            let selection = Selection::new(patterns).expect("patterns");
            let mut tracer = Tracer::new(&network, selection);
            let mut trace = || {
                let begun = Instant::now();
                black_box(tracer.trace(subject));
                begun.elapsed().as_secs_f64()
            };
            let mut plain: &mut dyn FnMut() -> f64 = &mut forward;
            if patterns == ["*"] {
                plain = &mut both_ways;
            }
            let (mut times, mut ratios) = (Vec::new(), Vec::new());
            for pair in 0..=pairs {
                let (before, traced) = (plain(), trace());
                // The first pair grows the memory.
                if pair > 0 {
                    times.push(before);
                    ratios.push(traced / before);
                }
            }
            println!("{name:24} {:8.1} ms plain, ratio {:.3}", 1e3 * median(&mut times), median(&mut ratios));
        }
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
