//! Example 1: what a recurrent network computes.
//!
//! An LSTM is written here in plain Rust, one step at a time, and compared with the engine on three sequences of
//! different lengths. Then it shows the gates while the network reads.
//!
//!     cargo run --release -p throughline --example 01_forward

use throughline::prelude::*;

/// I, the numbers that each step reads.
const INPUT: usize = 2;
/// H, the hidden units.
const HIDDEN: usize = 3;

fn main() {
    // The engine's LSTM: one layer, one direction, weights uniform in ±1/sqrt(H).
    let mut stack = Stack::<f32>::new(RecurrentConfig::new(CellKind::Lstm, INPUT, HIDDEN), 7);
    let by_hand = Lstm::from(&stack);

    // Three sequences of 3, 5 and 1 steps. `sequences[b][t]` is the input x_t of sequence b.
    let lengths = [3, 5, 1];
    let sequences: Vec<Vec<[f32; INPUT]>> = (0..lengths.len()).map(|b| wave(b, lengths[b])).collect();

    // The engine reads them as one ragged batch. Padding would compute 3 · 5 = 15 rows; there are 9 real ones, and only
    // these are stored: time-major, the longest sequence first. `batch_sizes[t]` sequences are still alive at step t.
    let batch = Ragged::new(&lengths);
    println!("batch_sizes {:?}, {} rows where padding would have 15", batch.batch_sizes(), batch.rows());
    assert_eq!(batch.batch_sizes(), [3, 2, 2, 1, 1]);
    let mut x = vec![0.0; batch.rows() * INPUT];
    batch.for_each_row(|row, b, t| x[row * INPUT..][..INPUT].copy_from_slice(&sequences[b][t]));
    let run = stack.run(&batch, &x, None);

    // By hand, one sequence at a time, from a state of zeros.
    let steps_by_hand: Vec<Vec<Step>> = sequences.iter().map(|sequence| by_hand.read(sequence)).collect();
    let mut largest_difference = 0.0f32;
    let mut compare = |engine: &[f32], hand: &[f32]| {
        for (engine, hand) in engine.iter().zip(hand) {
            let difference = (engine - hand).abs();
            assert!(difference < 1e-6, "the two are the same function up to rounding: {engine} and {hand}");
            largest_difference = largest_difference.max(difference);
        }
    };
    batch.for_each_row(|row, b, t| {
        let step = &steps_by_hand[b][t];
        compare(&run.output[row * HIDDEN..][..HIDDEN], &step.h);
        // What the engine keeps for the backward pass is called the tape. It has every gate of every row.
        let gates = [("input", step.i), ("forget", step.f), ("cell", step.g), ("output", step.o)];
        for (name, gate) in &gates {
            compare(stack.tape(0).gate(name, 0, row), gate);
        }
    });
    // The final state of each sequence, in the caller's order and not sorted by length.
    for (b, steps) in steps_by_hand.iter().enumerate() {
        let last = steps.last().expect("every sequence here has a step");
        compare(run.last.array("h_l0").of(b), &last.h);
        compare(run.last.array("c_l0").of(b), &last.c);
    }
    println!("largest difference between the engine and the plain code: {largest_difference:e}");

    look_at_the_gates(&stack, &batch);
    neighbours_do_not_matter(&mut stack, &sequences[1], &run.last);
    one_step_at_a_time(&mut stack, &sequences[1], &run.last);
}

/// x_t = (sin, cos) of an angle that grows with t at a speed of the sequence's own.
fn wave(b: usize, length: usize) -> Vec<[f32; INPUT]> {
    let angle = |t: usize| (0.4 + 0.3 * b as f32) * t as f32;
    (0..length).map(|t| [angle(t).sin(), angle(t).cos()]).collect()
}

/// The weights of an LSTM, in PyTorch's names and gate order i, f, g, o: row `gate · H + unit` belongs to that gate of
/// that unit.
struct Lstm {
    /// `[4H, I]`
    weight_ih: Vec<f32>,
    /// `[4H, H]`
    weight_hh: Vec<f32>,
    /// `[4H]`
    bias_ih: Vec<f32>,
    /// `[4H]`
    bias_hh: Vec<f32>,
}

/// Everything that one step computes.
struct Step {
    i: [f32; HIDDEN],
    f: [f32; HIDDEN],
    g: [f32; HIDDEN],
    o: [f32; HIDDEN],
    c: [f32; HIDDEN],
    h: [f32; HIDDEN],
}

impl Lstm {
    fn from(stack: &Stack<f32>) -> Self {
        let tensor = |name: &str| {
            let id = stack.layout().find(name).expect("a layer has this tensor");
            stack.layout().view(stack.parameters(), id).to_vec()
        };
        Self {
            weight_ih: tensor("weight_ih_l0"),
            weight_hh: tensor("weight_hh_l0"),
            bias_ih: tensor("bias_ih_l0"),
            bias_hh: tensor("bias_hh_l0"),
        }
    }

    /// One step (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000):
    ///
    ///     i, f, o = sigmoid(W_ih x + b_ih + W_hh h + b_hh)      how much to write, to keep, to show
    ///     g       = tanh   (W_ih x + b_ih + W_hh h + b_hh)      what to write
    ///     c'      = f c + i g                                   the memory: kept, then added to
    ///     h'      = o tanh(c')                                  what the rest of the network sees
    fn step(&self, x: &[f32; INPUT], h: &[f32; HIDDEN], c: &[f32; HIDDEN]) -> Step {
        let pre_activation = |gate: usize, unit: usize| {
            let row = gate * HIDDEN + unit;
            let from_input: f32 = (0..INPUT).map(|k| self.weight_ih[row * INPUT + k] * x[k]).sum();
            let from_hidden: f32 = (0..HIDDEN).map(|k| self.weight_hh[row * HIDDEN + k] * h[k]).sum();
            from_input + self.bias_ih[row] + from_hidden + self.bias_hh[row]
        };
        let gate = |gate: usize, activation: fn(f32) -> f32| -> [f32; HIDDEN] {
            std::array::from_fn(|unit| activation(pre_activation(gate, unit)))
        };
        let (i, f, g, o) = (gate(0, sigmoid), gate(1, sigmoid), gate(2, f32::tanh), gate(3, sigmoid));
        let c = std::array::from_fn(|unit| f[unit] * c[unit] + i[unit] * g[unit]);
        let h = std::array::from_fn(|unit| o[unit] * c[unit].tanh());
        Step { i, f, g, o, c, h }
    }

    /// A recurrent network is no more than this loop: the same step, again and again, on its own last state.
    fn read(&self, sequence: &[[f32; INPUT]]) -> Vec<Step> {
        let (mut h, mut c) = ([0.0; HIDDEN], [0.0; HIDDEN]);
        let steps = sequence.iter().map(|x| {
            let step = self.step(x, &h, &c);
            (h, c) = (step.h, step.c);
            step
        });
        steps.collect()
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// The forget gate and the cell state of the longest sequence, step by step.
fn look_at_the_gates(stack: &Stack<f32>, batch: &Ragged) {
    println!("\nsequence 1: forget gate f and cell state c");
    let column = batch.order().iter().position(|&b| b == 1).expect("there is a sequence 1");
    for t in 0..batch.length_of(column) {
        let row = batch.row(t, column);
        let forget = stack.tape(0).gate("forget", 0, row);
        let cell_state = stack.tape(0).cell_state(0, row).expect("an LSTM has a cell state");
        println!("  t = {t}   f {forget:6.3?}   c {cell_state:6.3?}");
        assert!(forget.iter().all(|f| (0.0..=1.0).contains(f)), "a gate is between 0 and 1");
    }
}

/// Read alone, a sequence ends in the same state as in a batch with others, bit for bit.
fn neighbours_do_not_matter(stack: &mut Stack<f32>, sequence: &[[f32; INPUT]], in_batch: &State<f32>) {
    let alone = stack.run(&Ragged::new(&[sequence.len()]), sequence.as_flattened(), None);
    assert_eq!(alone.last, in_batch.gather(&[1]));
    println!("\nread alone, sequence 1 ends in the same bits");
}

/// The same holds when it is read one step at a time, with the state passed from call to call, as a stream is read.
fn one_step_at_a_time(stack: &mut Stack<f32>, sequence: &[[f32; INPUT]], at_once: &State<f32>) {
    let mut state = stack.new_state(1);
    for x in sequence {
        stack.step(x, &mut state).expect("a stack that reads forward can step");
    }
    assert_eq!(state, at_once.gather(&[1]));
    println!("read one step at a time, too");
}
