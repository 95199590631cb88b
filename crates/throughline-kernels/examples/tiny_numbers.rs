//! How long a step of the backward pass takes when the only loss is at the end of a long sequence and the gradient dies
//! out on its way back. Without the rule for tiny numbers, subnormal arithmetic makes the long sequence several times
//! slower.
//!
//! Prints nanoseconds of the backward pass per step and row, medians of interleaved runs: T = 50, T = 1000, and
//! T = 1000 with recurrent weights so large that the gradient stays alive. The first ratio includes the effect of larger
//! arrays (they do not fit the nearest caches); the second is the effect of tiny numbers alone.

use std::time::Instant;

use throughline_kernels::Isa;
use throughline_kernels::cells::CellKind;
use throughline_kernels::random::{Philox, Purpose};
use throughline_kernels::sequence::{
    BackwardPass, BackwardStates, DirectionWeights, ForwardPass, InitialStates, Inputs, LayerGradients, LayerShape,
    PackedLayer, Ragged, Record, Regularisation, RowGradients, Scratch, Tape, backward, forward,
};
use throughline_kernels::threads::Threads;

const INPUT: usize = 32;
const HIDDEN: usize = 64;
const BATCH: usize = 4;
const ROUNDS: usize = 31;

struct Run {
    layer: PackedLayer<f32>,
    batch: Ragged,
    x: Vec<f32>,
    y: Vec<f32>,
    tape: Tape<f32>,
    gradients: [Vec<f32>; 2],
    row_gradients: RowGradients<f32>,
    scratch: Vec<Scratch<f32>>,
}

impl Run {
    fn new(time: usize, scale: f64) -> Self {
        let shape = LayerShape {
            cell: CellKind::RnnTanh,
            input: INPUT,
            extra: 0,
            hidden: HIDDEN,
            directions: 1,
            normalised: false,
        };
        let mut random = Philox::new(1, Purpose::Benchmark, 0).stream();
        let mut noise = |count: usize, limit: f64| -> Vec<f32> {
            (0..count).map(|_| ((2.0 * random.uniform() - 1.0) * limit) as f32).collect()
        };
        let limit = 1.0 / (HIDDEN as f64).sqrt();
        let (weight_ih, weight_hh) = (noise(HIDDEN * INPUT, limit), noise(HIDDEN * HIDDEN, scale * limit));
        let mut layer = PackedLayer::new(shape, Isa::detect(), true);
        let weights = DirectionWeights {
            weight_ih: &weight_ih,
            weight_hh: &weight_hh,
            bias_ih: &[],
            bias_hh: &[],
            normalisation: None,
        };
        layer.pack(Threads::ONE, &[weights]);
        let batch = Ragged::even(time, BATCH);
        let x = noise(batch.rows() * INPUT, 1.0);
        let y = vec![0.0; batch.rows() * HIDDEN];
        let gradients = [vec![0.0; HIDDEN * INPUT], vec![0.0; HIDDEN * HIDDEN]];
        let (tape, row_gradients) = (Tape::new(), RowGradients::default());
        Self { layer, batch, x, y, tape, gradients, row_gradients, scratch: Scratch::for_threads(Threads::ONE) }
    }

    /// Nanoseconds of the backward pass per step and row.
    fn time(&mut self) -> f64 {
        let zeros = vec![0.0; BATCH * HIDDEN];
        let initial = InitialStates { h: &zeros, c: &[], restart_h: &[], restart_c: &[] };
        let (mut h_n, mut dh) = (zeros.clone(), vec![1.0; BATCH * HIDDEN]);
        let Self { layer, batch, x, y, tape, gradients, row_gradients, scratch } = self;
        let inputs = Inputs {
            layer,
            threads: Threads::ONE,
            batch,
            x,
            initial,
            regularisation: Regularisation::NONE,
            step_input: None,
        };
        let pass = ForwardPass { y, h_n: &mut h_n, c_n: &mut [], record: Record::Tape(tape) };
        forward(&inputs, pass, scratch);
        let [weight_ih, weight_hh] = gradients;
        let gradients =
            LayerGradients { weight_ih, weight_hh, bias_ih: &mut [], bias_hh: &mut [], normalisation: None };
        let states = BackwardStates { dh: &mut dh, dc: &mut [], restart_h: &mut [], restart_c: &mut [] };
        let gradients = &mut [gradients];
        let pass = BackwardPass { y, tape, dy: None, states, dx: None, gradients, row_gradients };
        let begun = Instant::now();
        backward(&inputs, pass, scratch);
        begun.elapsed().as_secs_f64() * 1e9 / batch.rows() as f64
    }
}

fn main() {
    let mut runs = [Run::new(50, 1.0), Run::new(1000, 1.0), Run::new(1000, 4.0)];
    let mut rounds: Vec<[f64; 3]> = (0..ROUNDS).map(|_| runs.each_mut().map(Run::time)).collect();
    let mut median = |key: fn(&[f64; 3]) -> f64| {
        rounds.sort_by(|a, b| key(a).total_cmp(&key(b)));
        key(&rounds[ROUNDS / 2])
    };
    println!("T = 50, dying gradient:    {:7.1} ns per step and row", median(|round| round[0]));
    println!("T = 1000, dying gradient:  {:7.1} ns per step and row", median(|round| round[1]));
    println!("T = 1000, living gradient: {:7.1} ns per step and row", median(|round| round[2]));
    println!("T = 1000 to T = 50:        {:7.2}", median(|round| round[1] / round[0]));
    println!("dying to living:           {:7.2}", median(|round| round[1] / round[2]));
}
