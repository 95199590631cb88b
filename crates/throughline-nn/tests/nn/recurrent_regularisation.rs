//! Regularisers inside the recurrence of stacks. Their equations are tested with the kernels; here are the masks of
//! passes and layers, dropped weights, and models in use.

use crate::common::{Numbers, assert_close_tensors, training};
use throughline_kernels::cells::CellKind;
use throughline_kernels::for_each_cell;
use throughline_kernels::random::{Philox, Purpose};
use throughline_kernels::sequence::Ragged;
use throughline_nn::Pass;
use throughline_nn::layers::RecurrentConfig;
use throughline_nn::layers::recurrent::{Checkpointing, InitialState, RecurrentRegularisation};
use throughline_nn::module::TapeSetting;
use throughline_nn::standalone::Stack;
use throughline_testkit::{assert_close, assert_same_bits, central_difference};

/// Against the five-point difference of the stack's own forward pass, and its step.
const DIFFERENCE_TOLERANCE: f64 = 1e-9;
const DIFFERENCE_STEP: f64 = 1e-4;
/// Parameter gradients whose rows are added in another order.
const SUM_TOLERANCE: f64 = 1e-12;

const INPUT: usize = 2;
const HIDDEN: usize = 5;
const LENGTHS: [usize; 5] = [2, 0, 9, 1, 4];

/// Everything that acts on `cell`.
pub fn regularisation(cell: CellKind) -> RecurrentRegularisation {
    RecurrentRegularisation {
        weight_dropout: 0.4,
        recurrent_dropout: 0.3,
        candidate_dropout: if cell.has_candidate() { 0.4 } else { 0.0 },
        zoneout_hidden: 0.25,
        zoneout_cell: if cell.has_cell_state() { 0.35 } else { 0.0 },
    }
}

fn config(cell: CellKind, bidirectional: bool) -> RecurrentConfig {
    RecurrentConfig {
        layers: 2,
        bidirectional,
        initial_state: InitialState::Learned,
        regularisation: regularisation(cell),
        ..RecurrentConfig::new(cell, INPUT, HIDDEN)
    }
}

/// A stack with random parameters over a batch with boundaries.
struct Problem {
    stack: Stack<f64>,
    batch: Ragged,
    x: Vec<f64>,
    dy: Vec<f64>,
}

/// Outputs, dx and the gradients of the parameters.
#[derive(Clone)]
struct Solution {
    y: Vec<f64>,
    dx: Vec<f64>,
    gradients: Vec<f64>,
}

impl Problem {
    fn new(config: RecurrentConfig, threads: usize) -> Self {
        let mut numbers = Numbers::new(7);
        let mut stack = Stack::on_threads(config, 1, threads);
        let drawn = numbers.parameters::<f64>(stack.layout(), 0.9);
        stack.set_parameters(|_, parameters| parameters.copy_from_slice(&drawn));
        let mut batch = Ragged::new(&LENGTHS);
        batch.set_resets(|sequence, t| (sequence + t) % 4 == 3);
        let (x, dy) = (numbers.draw(batch.rows() * INPUT, 1.5), numbers.draw(batch.rows() * config.output(), 1.0));
        Self { stack, batch, x, dy }
    }

    fn forward(&mut self, pass: Pass) -> Vec<f64> {
        self.stack.set_pass(pass);
        self.stack.run(&self.batch, &self.x, None).output
    }

    fn loss(&mut self, pass: Pass) -> f64 {
        self.forward(pass).iter().zip(&self.dy).map(|(y, weight)| y * weight).sum()
    }

    fn solve(&mut self, pass: Pass) -> Solution {
        let y = self.forward(pass);
        self.stack.clear_gradients();
        let dx = self.stack.backward(&self.batch, &self.x, None, Some(&self.dy), None).x;
        Solution { y, dx, gradients: self.stack.gradients().to_vec() }
    }
}

/// The gradient of everything against central differences, with the masks of training and as a model in use.
fn check_differences(cell: CellKind) {
    for pass in [training(4), Pass::Traced] {
        let mut problem = Problem::new(config(cell, true), 1);
        let got = problem.solve(pass);
        let (parameters, x) = (problem.stack.parameters().to_vec(), problem.x.clone());
        let want = central_difference(
            |point| {
                problem.stack.set_parameters(|_, parameters| parameters.copy_from_slice(point));
                problem.loss(pass)
            },
            &mut parameters.clone(),
            DIFFERENCE_STEP,
        );
        assert_close_tensors("gradient", problem.stack.layout(), &got.gradients, &want, DIFFERENCE_TOLERANCE);
        problem.stack.set_parameters(|_, old| old.copy_from_slice(&parameters));
        let want = central_difference(
            |point| {
                problem.x.copy_from_slice(point);
                problem.loss(pass)
            },
            &mut x.clone(),
            DIFFERENCE_STEP,
        );
        assert_close("gradient of x", &got.dx, &want, DIFFERENCE_TOLERANCE);
    }
}

/// A stack that drops weights is one without those weights, and the gradients of the others are scaled like them.
fn check_dropped_weights(cell: CellKind) {
    let rate = 0.4f32;
    let plain = RecurrentConfig { regularisation: RecurrentRegularisation::default(), ..config(cell, true) };
    let dropping = RecurrentRegularisation { weight_dropout: rate, ..RecurrentRegularisation::default() };
    let philox = Philox::new(3, Purpose::Dropout, 9);
    let got = Problem::new(RecurrentConfig { regularisation: dropping, ..plain }, 1).solve(Pass::Training(philox));
    let mut masked = Problem::new(plain, 1);
    // The documented counters, weight by weight.
    let factor = |layer: u32, direction: u32, row: u32, column: u32| {
        let number = philox.block([layer | (9 + direction) << 24, row, 0, column / 4])[column as usize % 4];
        if f64::from(number) / 4_294_967_296.0 < f64::from(rate) { 0.0 } else { 1.0 / (1.0 - f64::from(rate)) }
    };
    let mut factors = vec![1.0; masked.stack.parameters().len()];
    for tensor in masked.stack.layout().tensors() {
        let Some(suffix) = tensor.name().strip_prefix("weight_hh_l") else { continue };
        let (layer, direction) = (suffix[..1].parse().unwrap(), u32::from(suffix.ends_with("_reverse")));
        for (at, to) in factors[tensor.range()].iter_mut().enumerate() {
            *to = factor(layer, direction, (at / HIDDEN) as u32, (at % HIDDEN) as u32);
        }
    }
    masked.stack.set_parameters(|_, parameters| parameters.iter_mut().zip(&factors).for_each(|(w, f)| *w *= f));
    let mut want = masked.solve(Pass::Training(philox));
    want.gradients.iter_mut().zip(&factors).for_each(|(gradient, factor)| *gradient *= factor);
    assert_same_bits("y", &got.y, &want.y);
    assert_same_bits("dx", &got.dx, &want.dx);
    // Zeros may differ in their sign: the sum of a gradient begins with +0.
    assert_close("gradients", &got.gradients, &want.gradients, 0.0);
}

/// Masks are those of the update, whatever else the stack has computed; a model in use has none.
fn check_masks(cell: CellKind) {
    let mut problem = Problem::new(config(cell, true), 1);
    let first = problem.solve(training(1));
    let in_use = problem.forward(Pass::Inference);
    assert_same_bits("a traced pass", &problem.forward(Pass::Traced), &in_use);
    assert!(first.y != in_use, "training draws masks");
    assert!(problem.forward(training(2)) != first.y, "every update has its own masks");
    let again = problem.solve(training(1));
    assert_same_bits("y of the same update", &again.y, &first.y);
    assert_same_bits("gradients of the same update", &again.gradients, &first.gradients);
    let several = Problem::new(config(cell, true), 3).solve(training(1));
    assert_same_bits("y on three threads", &several.y, &first.y);
    assert_same_bits("dx on three threads", &several.dx, &first.dx);
    assert_same_bits("gradients on three threads", &several.gradients, &first.gradients);
    let expectation = RecurrentRegularisation {
        weight_dropout: 0.0,
        recurrent_dropout: 0.0,
        candidate_dropout: 0.0,
        ..regularisation(cell)
    };
    let zoneout = RecurrentConfig { regularisation: expectation, ..config(cell, true) };
    assert_same_bits("of a model in use zoneout is left", &Problem::new(zoneout, 1).forward(Pass::Inference), &in_use);
    let plain = RecurrentConfig { regularisation: RecurrentRegularisation::default(), ..zoneout };
    assert!(Problem::new(plain, 1).forward(Pass::Inference) != in_use, "zoneout stays");
}

/// The segments of a pass draw the masks of the whole.
fn check_checkpointing(cell: CellKind) {
    let mut problem = Problem::new(config(cell, false), 1);
    let want = problem.solve(training(1));
    for segment in [1, 4] {
        problem.stack.set(TapeSetting::Checkpointing(Checkpointing::every(segment)));
        let got = problem.solve(training(1));
        assert_same_bits("y", &got.y, &want.y);
        assert_same_bits("dx", &got.dx, &want.dx);
        assert_close("gradients", &got.gradients, &want.gradients, SUM_TOLERANCE);
    }
}

/// A model in use yields the same bits step by step.
fn check_steps(cell: CellKind) {
    let mut problem = Problem::new(config(cell, false), 1);
    problem.batch = Ragged::even(7, 2);
    problem.x = Numbers::new(3).draw(14 * INPUT, 1.5);
    let want = problem.forward(Pass::Inference);
    let mut state = problem.stack.new_state(2);
    for (x, want) in problem.x.chunks(2 * INPUT).zip(want.chunks(2 * HIDDEN)) {
        assert_same_bits("a step", problem.stack.step(x, &mut state).expect("it reads forward"), want);
    }
}

macro_rules! stamp {
    ($($name:ident: $cell:ident,)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn central_differences() {
                check_differences(CellKind::$cell);
            }

            #[test]
            fn dropped_weights() {
                check_dropped_weights(CellKind::$cell);
            }

            #[test]
            fn masks() {
                check_masks(CellKind::$cell);
            }

            #[test]
            fn checkpointing() {
                check_checkpointing(CellKind::$cell);
            }

            #[test]
            fn steps() {
                check_steps(CellKind::$cell);
            }
        })*
    };
}
for_each_cell!(stamp);
