//! Every registered cell in f64 against the oracle: outputs, states and the gradient of everything.

mod common;

use common::{Outcome, Problem, Setup};
use throughline_kernels::Isa;
use throughline_kernels::cells::CellKind;
use throughline_kernels::for_each_cell;
use throughline_kernels::threads::Threads;
use throughline_testkit::oracle::run_direction;
use throughline_testkit::{Dual, Number, OracleCell, State, Weights, assert_close, central_difference};

/// The engine in f64 against the oracle, values and exact derivatives alike.
const ORACLE_TOLERANCE: f64 = 1e-12;
/// Gradients against the five-point difference of the engine's own forward pass, and its step.
const DIFFERENCE_TOLERANCE: f64 = 1e-9;
const DIFFERENCE_STEP: f64 = 1e-4;

/// Unsorted, with empty and one-step sequences and equal lengths.
const LENGTHS: [usize; 6] = [3, 0, 5, 1, 5, 2];

/// (I, H) whose derivatives are taken one number at a time.
const SMALL: [(usize, usize); 5] = [(1, 1), (3, 4), (4, 3), (1, 5), (5, 1)];
/// (I, H) whose derivatives are taken along random directions, tensor by tensor.
const LARGE: [(usize, usize); 5] = [(16, 17), (17, 16), (20, 33), (33, 20), (4, 20)];

/// Every combination of one and two directions, with and without biases and boundaries.
fn setups(cell: CellKind, (input, hidden): (usize, usize)) -> impl Iterator<Item = Setup> {
    (0..8).map(move |bits| Setup {
        directions: 1 + bits % 2,
        bias: bits & 2 != 0,
        resets: bits & 4 != 0,
        seed: 100 + bits as u64,
        ..Setup::new(cell, input, hidden, &LENGTHS)
    })
}

/// The oracle's account of a problem.
fn outcomes<N: Number>(problem: &Problem<N>) -> Vec<Outcome<N>> {
    let shape = problem.shape;
    let (hidden, output) = (shape.hidden, shape.output());
    let cell = OracleCell::from_name(shape.cell.name());
    let bias = |bias: &Vec<N>| (!bias.is_empty()).then(|| bias.clone());
    let weights: Vec<Weights<N>> = problem
        .parameters
        .iter()
        .map(|p| Weights {
            weight_ih: p.weight_ih.clone(),
            weight_hh: p.weight_hh.clone(),
            bias_ih: bias(&p.bias_ih),
            bias_hh: bias(&p.bias_hh),
        })
        .collect();
    let state = |direction: usize, h: &[N], c: &[N]| {
        let part = |all: &[N]| all.iter().skip(direction * hidden).take(hidden).copied().collect();
        State { h: part(h), c: part(c) }
    };
    let run = |sequence: &common::Sequence<N>| {
        let xs: Vec<Vec<N>> = sequence.x.chunks(shape.input).map(<[N]>::to_vec).collect();
        let mut outcome =
            Outcome { y: vec![N::from(0.0); sequence.length() * output], h_n: Vec::new(), c_n: Vec::new() };
        for (direction, weights) in weights.iter().enumerate() {
            let entry = state(direction, &sequence.h0, &sequence.c0);
            let restart = state(direction, &problem.restart_h, &problem.restart_c);
            let reverse = direction == 1;
            let (ys, last) = run_direction(cell, weights, reverse, &xs, &sequence.reset, &entry, &restart);
            for (t, y) in ys.iter().enumerate() {
                outcome.y[t * output + direction * hidden..][..hidden].copy_from_slice(y);
            }
            outcome.h_n.extend(last.h);
            outcome.c_n.extend(last.c);
        }
        outcome
    };
    problem.sequences.iter().map(run).collect()
}

/// The sum of everything returned, each number weighted by the gradient that reaches it.
fn loss<N: Number>(problem: &Problem<N>, outcomes: &[Outcome<N>]) -> N {
    let mut sum = N::from(0.0);
    for (sequence, outcome) in problem.sequences.iter().zip(outcomes) {
        let pairs = [(&outcome.y, &sequence.dy), (&outcome.h_n, &sequence.dh_n), (&outcome.c_n, &sequence.dc_n)];
        for (values, weights) in pairs {
            for (value, weight) in values.iter().zip(weights) {
                sum = sum + *value * *weight;
            }
        }
    }
    sum
}

fn check_forward(setup: &Setup) {
    let problem = Problem::<f64>::new(setup);
    let got = problem.forward(Isa::detect(), Threads::ONE, None);
    for (b, (got, want)) in got.iter().zip(outcomes(&problem)).enumerate() {
        let name = |what| format!("{what} of sequence {b} of {setup:?}");
        assert_close(&name("y"), &got.y, &want.y, ORACLE_TOLERANCE);
        assert_close(&name("h_n"), &got.h_n, &want.h_n, ORACLE_TOLERANCE);
        assert_close(&name("c_n"), &got.c_n, &want.c_n, ORACLE_TOLERANCE);
    }
}

/// Every number's derivative, exactly.
fn check_every_derivative(setup: &Setup) {
    let mut problem = Problem::<f64>::new(setup);
    let got = problem.solve(Isa::detect(), Threads::ONE, None).leaf_gradients();
    let mut dual = problem.convert(Dual::from);
    for (index, (name, leaf)) in problem.leaves_mut().into_iter().enumerate() {
        let want: Vec<f64> = (0..leaf.len())
            .map(|k| {
                dual.leaves_mut()[index].1[k] = Dual::variable(leaf[k]);
                let slope = loss(&dual, &outcomes(&dual)).slope;
                dual.leaves_mut()[index].1[k] = Dual::from(leaf[k]);
                slope
            })
            .collect();
        assert_close(&format!("gradient of {name} of {setup:?}"), &got[index], &want, ORACLE_TOLERANCE);
    }
}

/// The derivative along one random direction of each tensor, exactly.
fn check_directional_derivatives(setup: &Setup) {
    let mut problem = Problem::<f64>::new(setup);
    let got = problem.solve(Isa::detect(), Threads::ONE, None).leaf_gradients();
    let mut dual = problem.convert(Dual::from);
    let mut numbers = common::Numbers::new(setup.seed + 1);
    for (index, (name, leaf)) in problem.leaves_mut().into_iter().enumerate() {
        let direction: Vec<f64> = numbers.draw(leaf.len(), 1.0);
        for (k, slope) in direction.iter().enumerate() {
            dual.leaves_mut()[index].1[k].slope = *slope;
        }
        let want = loss(&dual, &outcomes(&dual)).slope;
        dual.leaves_mut()[index].1.iter_mut().for_each(|x| x.slope = 0.0);
        let got: f64 = got[index].iter().zip(&direction).map(|(gradient, slope)| gradient * slope).sum();
        assert_close(&format!("slope along {name} of {setup:?}"), &[got], &[want], ORACLE_TOLERANCE);
    }
}

fn check_differences(setup: &Setup) {
    let problem = Problem::<f64>::new(setup);
    let got = problem.solve(Isa::detect(), Threads::ONE, None).leaf_gradients();
    let mut moved = problem.clone();
    for (index, got) in got.iter().enumerate() {
        let (name, mut leaf) = {
            let (name, leaf) = moved.leaves_mut().swap_remove(index);
            (name, leaf.clone())
        };
        let value = |x: &[f64]| {
            moved.leaves_mut()[index].1.copy_from_slice(x);
            loss(&moved, &moved.forward(Isa::detect(), Threads::ONE, None))
        };
        let want = central_difference(value, &mut leaf, DIFFERENCE_STEP);
        moved.leaves_mut()[index].1.copy_from_slice(&leaf);
        assert_close(&format!("gradient of {name} of {setup:?}"), got, &want, DIFFERENCE_TOLERANCE);
    }
}

macro_rules! stamp {
    ($($name:ident: $cell:ident,)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn forward() {
                SMALL.iter().chain(&LARGE).flat_map(|&sizes| setups(CellKind::$cell, sizes)).for_each(|s| check_forward(&s));
            }

            #[test]
            fn every_derivative() {
                SMALL.iter().flat_map(|&sizes| setups(CellKind::$cell, sizes)).for_each(|s| check_every_derivative(&s));
            }

            #[test]
            fn directional_derivatives() {
                LARGE.iter().flat_map(|&sizes| setups(CellKind::$cell, sizes)).for_each(|s| check_directional_derivatives(&s));
            }

            #[test]
            fn central_differences() {
                [(3, 4), (4, 5)].iter().flat_map(|&sizes| setups(CellKind::$cell, sizes)).for_each(|s| check_differences(&s));
            }
        })*
    };
}
for_each_cell!(stamp);
