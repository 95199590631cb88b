//! Stacks in f64 against the oracle: values, states and exact derivatives of everything; then dropout between layers.

use crate::common::{Numbers, assert_close_tensors, oracle_cell};
use throughline_kernels::Isa;
use throughline_kernels::buffer::Buffer;
use throughline_kernels::cells::CellKind;
use throughline_kernels::for_each_cell;
use throughline_kernels::random::{Philox, Purpose};
use throughline_kernels::sequence::Ragged;
use throughline_kernels::threads::Threads;
use throughline_nn::parameters::Layout;
use throughline_nn::recurrent::{
    Context, InitialState, PackedRecurrent, Pass, Recurrent, RecurrentConfig, RecurrentWorkspace, States,
};
use throughline_nn::stack::Stack;
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
    given: Option<States<f64>>,
    /// In the order of the layout.
    parameters: Vec<Vec<f64>>,
    /// The weight in the loss of each number of the outputs `[T, B, D·H]` and of the last states.
    d_outputs: Vec<f64>,
    d_last: States<f64>,
}

impl Problem {
    fn new(config: RecurrentConfig, lengths: &[usize], resets: bool, given: bool, seed: u64) -> Self {
        let mut numbers = Numbers::new(seed);
        let cells = STEPS * lengths.len();
        let zeros = States::<f64>::zeros(&config, lengths.len());
        let mut states = || States { h: numbers.draw(zeros.h.len(), 1.0), c: numbers.draw(zeros.c.len(), 1.0) };
        let (given, d_last) = (given.then(&mut states), states());
        let mut layout = Layout::new();
        Recurrent::new(config, &mut layout, "");
        Self {
            config,
            lengths: lengths.to_vec(),
            resets: resets.then(|| numbers.tokens(cells, 3).into_iter().map(|token| token == 0).collect()),
            x: numbers.draw(cells * INPUT, 1.5),
            given,
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
        let RecurrentConfig { cell, input, hidden, layers, bidirectional, bias, initial_state, .. } = self.config;
        let config = OracleConfig { cell: oracle_cell(cell), input, hidden, layers, bidirectional, bias };
        let mut rest = leaves;
        let mut take = |count: usize| {
            let (head, tail) = rest.split_at(count);
            rest = tail;
            head
        };
        // The layout has the learned states of a direction after its weights and biases, the oracle keeps them apart.
        let (mut flat, mut restart) = (Vec::new(), Vec::new());
        let mut sizes = self.parameters.iter().map(Vec::len);
        for _ in 0..config.state_count() {
            for size in sizes.by_ref().take(if bias { 4 } else { 2 }) {
                flat.extend_from_slice(take(size));
            }
            let mut state = State::zero(config.cell, hidden);
            if initial_state == InitialState::Learned {
                for part in [&mut state.h, &mut state.c].into_iter().filter(|part| !part.is_empty()) {
                    part.copy_from_slice(take(sizes.next().expect("a learned state")));
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
        let mut stack = Stack::<f64>::new(self.config, 1);
        stack.set_parameters(|layout, parameters| {
            for (tensor, values) in layout.tensors().iter().zip(&self.parameters) {
                parameters[tensor.range()].copy_from_slice(values);
            }
        });
        let x = self.rows(&batch, &self.x, INPUT);
        let run = stack.run(&batch, &x, self.given.as_ref());
        let leaves = self.leaves();
        let want = self.oracle(&leaves);
        let name = |what: &str| format!("{what} of {name}");
        let outputs = self.padded(&batch, &run.output, features);
        assert_close(&name("outputs"), &outputs, &want.outputs, ORACLE_TOLERANCE);
        assert_close(&name("h_n"), &run.last.h, &want.h_n, ORACLE_TOLERANCE);
        assert_close(&name("c_n"), &run.last.c, &want.c_n, ORACLE_TOLERANCE);

        let dy = self.rows(&batch, &self.d_outputs, features);
        let got = stack.backward(&batch, &x, self.given.as_ref(), Some(&dy), Some(&self.d_last));
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
            check("h0", &got.states.h);
            check("c0", &got.states.c);
        }
        assert!(rest.is_empty());
    }
}

/// Every depth and direction, each with and without boundaries, given states and learned ones; every other without biases.
fn check_stacks(cell: CellKind) {
    for (layers, bidirectional) in [1, 2, 3].into_iter().flat_map(|layers| [(layers, false), (layers, true)]) {
        for bits in 0..8u32 {
            let (resets, given, learned) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
            let initial_state = if learned { InitialState::Learned } else { InitialState::Zero };
            let bias = bits.count_ones() % 2 == 0;
            let config = RecurrentConfig { bias, initial_state, ..config(cell, layers, bidirectional) };
            let problem = Problem::new(config, &LENGTHS, resets, given, u64::from(bits));
            problem.check(&format!("{config:?}, resets {resets}, given states {given}"));
        }
    }
}

/// A stack without a [`Stack`] around it.
struct Bare {
    recurrent: Recurrent,
    layout: Layout,
    parameters: Buffer<f64>,
    packed: PackedRecurrent<f64>,
    workspace: RecurrentWorkspace<f64>,
}

impl Bare {
    fn new(problem: &Problem) -> Self {
        let mut layout = Layout::new();
        let recurrent = Recurrent::new(problem.config, &mut layout, "");
        let mut parameters = layout.zeros();
        for (tensor, values) in layout.tensors().iter().zip(&problem.parameters) {
            parameters[tensor.range()].copy_from_slice(values);
        }
        let mut packed = recurrent.packed(Isa::detect(), true);
        recurrent.pack(Threads::ONE, &layout, &parameters, &mut packed);
        let workspace = recurrent.workspace(Threads::ONE);
        Self { recurrent, layout, parameters, packed, workspace }
    }

    fn set(&mut self, parameters: &[f64]) {
        self.parameters.copy_from_slice(parameters);
        self.recurrent.pack(Threads::ONE, &self.layout, &self.parameters, &mut self.packed);
    }

    fn forward(&mut self, batch: &Ragged, x: &[f64], given: Option<&States<f64>>, pass: Pass) -> Vec<f64> {
        let Self { recurrent, layout, parameters, packed, workspace } = self;
        let context = Context { threads: Threads::ONE, packed, parameters, layout };
        recurrent.forward(context, batch, x, given, pass, workspace);
        workspace.output(batch.rows(), recurrent.config().output()).to_vec()
    }

    fn backward(&mut self, batch: &Ragged, x: &[f64], pass: Pass, dy: &[f64]) -> (Vec<f64>, Buffer<f64>) {
        let Self { recurrent, layout, parameters, packed, workspace } = self;
        let context = Context { threads: Threads::ONE, packed, parameters, layout };
        let (mut dx, mut gradients) = (vec![f64::NAN; x.len()], layout.zeros());
        recurrent.backward(context, batch, x, false, pass, Some(dy), None, Some(&mut dx), &mut gradients, workspace);
        (dx, gradients)
    }
}

/// The states in mid-sequence are those of the sequences cut there.
fn check_states_after(cell: CellKind) {
    for bits in 0..8u32 {
        let (resets, given, learned) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
        let initial_state = if learned { InitialState::Learned } else { InitialState::Zero };
        let config = RecurrentConfig { initial_state, ..config(cell, 2, false) };
        let mut problem = Problem::new(config, &[3, 4, 2], resets, given, 20 + u64::from(bits));
        let (batch, mut bare) = (problem.batch(), Bare::new(&problem));
        let x = problem.rows(&batch, &problem.x, INPUT);
        bare.forward(&batch, &x, problem.given.as_ref(), Pass::Traced);
        for steps in 0..=2 {
            let mut got = States::default();
            bare.recurrent.states_after(&batch, steps, &bare.workspace, &mut got);
            problem.lengths = vec![steps; 3];
            let want = problem.oracle(&problem.leaves());
            let name = |what: &str| format!("{what} after {steps} steps of {config:?}");
            assert_close(&name("h"), &got.h, &want.h_n, ORACLE_TOLERANCE);
            assert_close(&name("c"), &got.c, &want.c_n, ORACLE_TOLERANCE);
        }
    }
}

/// Dropout is off but in training; its masks are the same in backward as in forward, and follow the sequence, not the batch.
fn check_dropout(cell: CellKind) {
    let plain = RecurrentConfig { initial_state: InitialState::Learned, ..config(cell, 3, true) };
    let dropping = RecurrentConfig { dropout: 0.4, ..plain };
    let problem = Problem::new(dropping, &LENGTHS, true, false, 40);
    let (batch, mut bare) = (problem.batch(), Bare::new(&problem));
    let x = problem.rows(&batch, &problem.x, INPUT);
    let pass = Pass::Training(Philox::new(5, Purpose::Dropout, 6));

    let without = Bare::new(&Problem { config: plain, ..Problem::new(plain, &LENGTHS, true, false, 40) }).forward(
        &batch,
        &x,
        None,
        Pass::Traced,
    );
    for pass in [Pass::Traced, Pass::Inference] {
        assert_same_bits("outputs without masks", &bare.forward(&batch, &x, None, pass), &without);
    }
    let with = bare.forward(&batch, &x, None, pass);
    assert!(with != without, "training drops something");
    let other = Pass::Training(Philox::new(5, Purpose::Dropout, 7));
    assert!(bare.forward(&batch, &x, None, other) != with, "every update has its own masks");

    let dy = problem.rows(&batch, &problem.d_outputs, dropping.output());
    bare.forward(&batch, &x, None, pass);
    let (dx, gradients) = bare.backward(&batch, &x, pass, &dy);
    let loss = |y: Vec<f64>| -> f64 { y.iter().zip(&dy).map(|(y, weight)| y * weight).sum() };
    let parameters = bare.parameters.to_vec();
    let want = central_difference(
        |parameters| {
            bare.set(parameters);
            loss(bare.forward(&batch, &x, None, pass))
        },
        &mut parameters.clone(),
        DIFFERENCE_STEP,
    );
    assert_close_tensors("gradient", &bare.layout, &gradients, &want, DIFFERENCE_TOLERANCE);
    bare.set(&parameters);
    let want = central_difference(|x| loss(bare.forward(&batch, x, None, pass)), &mut x.clone(), DIFFERENCE_STEP);
    assert_close("gradient of x", &dx, &want, DIFFERENCE_TOLERANCE);

    let alone = Ragged::new(&LENGTHS[..1]);
    let first = |rows: &[f64], features: usize| -> Vec<f64> {
        let padded = problem.padded(&batch, rows, features);
        (0..LENGTHS[0]).flat_map(|t| padded[t * LENGTHS.len() * features..][..features].to_vec()).collect()
    };
    let mut unbroken = batch.clone();
    unbroken.set_resets(|_, _| false);
    let with = bare.forward(&unbroken, &x, None, pass);
    let without_others = bare.forward(&alone, &first(&x, INPUT), None, pass);
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
