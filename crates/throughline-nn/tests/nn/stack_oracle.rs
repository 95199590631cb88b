//! Stacks in f64 against the oracle: values, states and exact derivatives of everything; then dropout between layers.

use crate::common::{Flat, Numbers, assert_close_tensors, oracle_cell};
use throughline_kernels::cells::CellKind;
use throughline_kernels::for_each_cell;
use throughline_kernels::random::{Philox, Purpose};
use throughline_kernels::sequence::Ragged;
use throughline_nn::layers::recurrent::InitialState;
use throughline_nn::layers::{Recurrent, RecurrentConfig};
use throughline_nn::parameters::Builder;
use throughline_nn::standalone::Stack;
use throughline_nn::state::StateShape;
use throughline_nn::{Layer, Module, Pass};
use throughline_testkit::{
    BatchInput, BatchRun, Network, Number, OracleConfig, State, assert_close, assert_same_bits, central_difference,
    exact_gradient,
};

/// Against the oracle, values and derivatives alike.
const ORACLE_TOLERANCE: f64 = 1e-12;
/// Against the five-point difference of the stack's own forward pass, and its step.
const DIFFERENCE_TOLERANCE: f64 = 1e-9;
const DIFFERENCE_STEP: f64 = 1e-4;

const INPUT: usize = 2;
const HIDDEN: usize = 3;
/// Unsorted, with an empty and a one-step sequence and equal lengths.
const LENGTHS: [usize; 5] = [2, 0, 4, 1, 4];
const STEPS: usize = 4;

fn config(cell: CellKind, layers: usize, bidirectional: bool) -> RecurrentConfig {
    RecurrentConfig { layers, bidirectional, ..RecurrentConfig::new(cell, INPUT, HIDDEN) }
}

/// A stack over a padded batch, drawn at random.
struct Problem {
    config: RecurrentConfig,
    lengths: Vec<usize>,
    /// `[T, B]`
    resets: Option<Vec<bool>>,
    /// `[T, B, I]`
    x: Vec<f64>,
    given: Option<Flat<f64>>,
    shape: StateShape,
    /// In the order of the layout.
    parameters: Vec<Vec<f64>>,
    /// The weight in the loss of each number of the outputs `[T, B, D·H]` and of the last states.
    d_outputs: Vec<f64>,
    d_last: Flat<f64>,
}

impl Problem {
    fn new(config: RecurrentConfig, lengths: &[usize], resets: bool, given: bool, seed: u64) -> Self {
        let mut numbers = Numbers::new(seed);
        let cells = STEPS * lengths.len();
        let mut builder = Builder::new();
        let shape = Recurrent::new(&mut builder, "", config).state_shape();
        let mut states = || Flat::of(&config, &numbers.state(&shape, lengths.len(), 1.0));
        let (given, d_last) = (given.then(&mut states), states());
        let layout = builder.into_layout();
        Self {
            config,
            lengths: lengths.to_vec(),
            resets: resets.then(|| numbers.tokens(cells, 3).into_iter().map(|token| token == 0).collect()),
            x: numbers.draw(cells * INPUT, 1.5),
            given,
            shape,
            parameters: layout.tensors().iter().map(|tensor| numbers.draw(tensor.count(), 0.9)).collect(),
            d_outputs: numbers.draw(cells * config.output(), 1.0),
            d_last,
        }
    }

    fn batch(&self) -> Ragged {
        let mut batch = Ragged::new(&self.lengths);
        if let Some(resets) = &self.resets {
            batch.set_resets(|sequence, t| resets[t * self.lengths.len() + sequence]);
        }
        batch
    }

    /// The stack with the parameters of the problem.
    fn stack(&self) -> Stack<f64> {
        let mut stack = Stack::new(self.config, 1);
        stack.set_parameters(|layout, parameters| {
            for (tensor, values) in layout.tensors().iter().zip(&self.parameters) {
                parameters[tensor.range()].copy_from_slice(values);
            }
        });
        stack
    }

    fn start(&self) -> Option<throughline_nn::State<f64>> {
        self.given.as_ref().map(|given| given.state(&self.shape, self.lengths.len()))
    }

    fn rows(&self, batch: &Ragged, padded: &[f64], features: usize) -> Vec<f64> {
        let mut rows = vec![0.0; batch.rows() * features];
        batch.pack_time_major(padded, features, &mut rows);
        rows
    }

    fn padded(&self, batch: &Ragged, rows: &[f64], features: usize) -> Vec<f64> {
        let mut padded = vec![f64::NAN; STEPS * self.lengths.len() * features];
        batch.unpack_time_major(rows, features, &mut padded);
        padded
    }

    /// All that a derivative is taken of, one after another: parameters, x, given states.
    fn leaves(&self) -> Vec<f64> {
        let given = self.given.iter().flat_map(|given| given.h.iter().chain(&given.c));
        self.parameters.iter().flatten().chain(&self.x).chain(given).copied().collect()
    }

    /// What the oracle makes of other values of the leaves.
    fn oracle<N: Number>(&self, leaves: &[N]) -> BatchRun<N> {
        let RecurrentConfig {
            cell,
            input,
            hidden,
            layers,
            bidirectional,
            bias,
            layer_norm: normalised,
            initial_state,
            ..
        } = self.config;
        let config = OracleConfig { cell: oracle_cell(cell), input, hidden, layers, bidirectional, bias, normalised };
        let mut rest = leaves;
        let mut take = |count: usize| {
            let (head, tail) = rest.split_at(count);
            rest = tail;
            head
        };
        // The layout has the learned states of a direction after its other parameters, the oracle keeps them apart.
        let (mut flat, mut restart) = (Vec::new(), Vec::new());
        let mut sizes = self.parameters.iter().map(Vec::len);
        let of_direction = config.parameters().len() / config.state_count();
        for _ in 0..config.state_count() {
            for size in sizes.by_ref().take(of_direction) {
                flat.extend_from_slice(take(size));
            }
            let mut state = State::zero(config.cell, hidden);
            if initial_state == InitialState::Learned {
                for array in [&mut state.h, &mut state.c].into_iter().filter(|array| !array.is_empty()) {
                    array.copy_from_slice(take(sizes.next().expect("a learned state")));
                }
            }
            restart.push(state);
        }
        let mut network = Network::from_flat(config, &flat);
        network.restart = restart;
        let x = take(self.x.len());
        let h0 = self.given.as_ref().map(|given| take(given.h.len()));
        let c0 = self.given.as_ref().filter(|_| cell.has_cell_state()).map(|given| take(given.c.len()));
        network.run_batch(BatchInput { x, lengths: &self.lengths, reset: self.resets.as_deref(), h0, c0 })
    }

    fn check(&self, name: &str) {
        let (batch, features) = (self.batch(), self.config.output());
        let (mut stack, start) = (self.stack(), self.start());
        let x = self.rows(&batch, &self.x, INPUT);
        let run = stack.run(&batch, &x, start.as_ref());
        let last = Flat::of(&self.config, &run.last);
        let leaves = self.leaves();
        let want = self.oracle(&leaves);
        let name = |what: &str| format!("{what} of {name}");
        let outputs = self.padded(&batch, &run.output, features);
        assert_close(&name("outputs"), &outputs, &want.outputs, ORACLE_TOLERANCE);
        assert_close(&name("h_n"), &last.h, &want.h_n, ORACLE_TOLERANCE);
        assert_close(&name("c_n"), &last.c, &want.c_n, ORACLE_TOLERANCE);

        let dy = self.rows(&batch, &self.d_outputs, features);
        let d_last = self.d_last.state(&self.shape, self.lengths.len());
        let got = stack.backward(&batch, &x, start.as_ref(), Some(&dy), Some(&d_last));
        let d_start = Flat::of(&self.config, &got.start);
        let loss = |leaves: &[_]| self.oracle(leaves).weighted_sum(&self.d_outputs, &self.d_last.h, &self.d_last.c);
        let want = exact_gradient(loss, &leaves);
        let mut rest = want.as_slice();
        let mut check = |what: &str, got: &[f64]| {
            let (want, tail) = rest.split_at(got.len());
            assert_close(&name(&format!("gradient of {what}")), got, want, ORACLE_TOLERANCE);
            rest = tail;
        };
        for tensor in stack.layout().tensors() {
            check(tensor.name(), &stack.gradients()[tensor.range()]);
        }
        check("x", &self.padded(&batch, &got.x, INPUT));
        if self.given.is_some() {
            check("h0", &d_start.h);
            check("c0", &d_start.c);
        }
        assert!(rest.is_empty());
    }
}

/// Every depth and direction, each with and without boundaries, given states and learned ones; every other without
/// biases, and some layer-normalised.
fn check_stacks(cell: CellKind) {
    for (layers, bidirectional) in [1, 2, 3].into_iter().flat_map(|layers| [(layers, false), (layers, true)]) {
        for bits in 0..8u32 {
            let (resets, given, learned) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
            let initial_state = if learned { InitialState::Learned } else { InitialState::Zero };
            let bias = bits.count_ones() % 2 == 0;
            let layer_norm = layers == 2 || bits == 7;
            let config = RecurrentConfig { bias, layer_norm, initial_state, ..config(cell, layers, bidirectional) };
            let problem = Problem::new(config, &LENGTHS, resets, given, u64::from(bits));
            problem.check(&format!("{config:?}, resets {resets}, given states {given}"));
        }
    }
}

/// The states in mid-sequence are those of the sequences cut there.
fn check_states_after(cell: CellKind) {
    for bits in 0..8u32 {
        let (resets, given, learned) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
        let initial_state = if learned { InitialState::Learned } else { InitialState::Zero };
        let config = RecurrentConfig { initial_state, ..config(cell, 2, false) };
        let mut problem = Problem::new(config, &[3, 4, 2], resets, given, 20 + u64::from(bits));
        let (batch, mut stack) = (problem.batch(), problem.stack());
        let x = problem.rows(&batch, &problem.x, INPUT);
        stack.run(&batch, &x, problem.start().as_ref());
        for steps in 0..=2 {
            let mut got = stack.new_state(3);
            stack.module().state_after(&batch, steps, stack.module_tape(), got.arrays_mut());
            let got = Flat::of(&config, &got);
            problem.lengths = vec![steps; 3];
            let want = problem.oracle(&problem.leaves());
            let name = |what: &str| format!("{what} after {steps} steps of {config:?}");
            assert_close(&name("h"), &got.h, &want.h_n, ORACLE_TOLERANCE);
            assert_close(&name("c"), &got.c, &want.c_n, ORACLE_TOLERANCE);
        }
    }
}

/// Dropout is off but in training; its masks are the same in backward as in forward, and follow the sequence, not the
/// batch.
fn check_dropout(cell: CellKind) {
    let plain = RecurrentConfig { initial_state: InitialState::Learned, ..config(cell, 3, true) };
    let dropping = RecurrentConfig { dropout: 0.4, ..plain };
    let problem = Problem::new(dropping, &LENGTHS, true, false, 40);
    let (batch, mut stack) = (problem.batch(), problem.stack());
    let x = problem.rows(&batch, &problem.x, INPUT);
    let pass = Pass::Training(Philox::new(5, Purpose::Dropout, 6));

    let run = |stack: &mut Stack<f64>, batch: &Ragged, x: &[f64], pass: Pass| {
        stack.set_pass(pass);
        stack.run(batch, x, None).output
    };
    let plain = Problem { config: plain, ..Problem::new(plain, &LENGTHS, true, false, 40) };
    let without = run(&mut plain.stack(), &batch, &x, Pass::Traced);
    for pass in [Pass::Traced, Pass::Inference] {
        assert_same_bits("outputs without masks", &run(&mut stack, &batch, &x, pass), &without);
    }
    let with = run(&mut stack, &batch, &x, pass);
    assert!(with != without, "training drops something");
    let other = Pass::Training(Philox::new(5, Purpose::Dropout, 7));
    assert!(run(&mut stack, &batch, &x, other) != with, "every update has its own masks");

    let dy = problem.rows(&batch, &problem.d_outputs, dropping.output());
    run(&mut stack, &batch, &x, pass);
    let dx = stack.backward(&batch, &x, None, Some(&dy), None).x;
    let loss = |y: Vec<f64>| -> f64 { y.iter().zip(&dy).map(|(y, weight)| y * weight).sum() };
    let (parameters, gradients) = (stack.parameters().to_vec(), stack.gradients().to_vec());
    let want = central_difference(
        |parameters| {
            stack.set_parameters(|_, buffer| buffer.copy_from_slice(parameters));
            loss(run(&mut stack, &batch, &x, pass))
        },
        &mut parameters.clone(),
        DIFFERENCE_STEP,
    );
    assert_close_tensors("gradient", stack.layout(), &gradients, &want, DIFFERENCE_TOLERANCE);
    stack.set_parameters(|_, buffer| buffer.copy_from_slice(&parameters));
    let want = central_difference(|x| loss(run(&mut stack, &batch, x, pass)), &mut x.clone(), DIFFERENCE_STEP);
    assert_close("gradient of x", &dx, &want, DIFFERENCE_TOLERANCE);

    let alone = Ragged::new(&LENGTHS[..1]);
    let first = |rows: &[f64], features: usize| -> Vec<f64> {
        let padded = problem.padded(&batch, rows, features);
        (0..LENGTHS[0]).flat_map(|t| padded[t * LENGTHS.len() * features..][..features].to_vec()).collect()
    };
    let mut unbroken = batch.clone();
    unbroken.set_resets(|_, _| false);
    let with = run(&mut stack, &unbroken, &x, pass);
    let without_others = run(&mut stack, &alone, &first(&x, INPUT), pass);
    assert_same_bits("sequence 0 alone", &without_others, &first(&with, dropping.output()));
}

macro_rules! stamp {
    ($($name:ident: $cell:ident,)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn values_and_derivatives() {
                check_stacks(CellKind::$cell);
            }

            #[test]
            fn states_in_mid_sequence() {
                check_states_after(CellKind::$cell);
            }

            #[test]
            fn dropout_between_layers() {
                check_dropout(CellKind::$cell);
            }
        })*
    };
}
for_each_cell!(stamp);
