//! Every registered cell in f64 against the oracle: outputs, states and the gradient of everything.

use crate::common::{Numbers, Problem, Setup, loss};
use throughline_kernels::Isa;
use throughline_kernels::cells::CellKind;
use throughline_kernels::for_each_cell;
use throughline_kernels::threads::Threads;
use throughline_testkit::{Dual, assert_close, central_difference};

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

fn check_forward(setup: &Setup) {
    let problem = Problem::<f64>::new(setup);
    let got = problem.forward(Isa::detect(), Threads::ONE, None);
    for (b, (got, want)) in got.iter().zip(problem.oracle()).enumerate() {
        let name = |what| format!("{what} of sequence {b} of {setup:?}");
        assert_close(&name("y"), &got.y, &want.y, ORACLE_TOLERANCE);
        assert_close(&name("h_n"), &got.h_n, &want.h_n, ORACLE_TOLERANCE);
        assert_close(&name("c_n"), &got.c_n, &want.c_n, ORACLE_TOLERANCE);
    }
}

/// The derivative with respect to every number, exactly.
fn check_every_derivative(setup: &Setup) {
    let problem = Problem::<f64>::new(setup);
    let got = problem.solve(Isa::detect(), Threads::ONE, None).leaf_gradients();
    let mut dual = problem.convert(Dual::from);
    for (index, name) in problem.leaf_names().iter().enumerate() {
        let mut want = Vec::new();
        for k in 0..dual.leaves_mut()[index].len() {
            dual.leaves_mut()[index][k].slope = 1.0;
            want.push(loss(&dual, &dual.oracle()).slope);
            dual.leaves_mut()[index][k].slope = 0.0;
        }
        assert_close(&format!("gradient of {name} of {setup:?}"), &got[index], &want, ORACLE_TOLERANCE);
    }
}

/// The derivative along a random direction of each tensor, exactly.
fn check_directional_derivatives(setup: &Setup) {
    let problem = Problem::<f64>::new(setup);
    let got = problem.solve(Isa::detect(), Threads::ONE, None).leaf_gradients();
    let mut dual = problem.convert(Dual::from);
    let mut numbers = Numbers::new(setup.seed + 1);
    for (index, name) in problem.leaf_names().iter().enumerate() {
        let direction: Vec<f64> = numbers.draw(got[index].len(), 1.0);
        dual.leaves_mut()[index].iter_mut().zip(&direction).for_each(|(x, slope)| x.slope = *slope);
        let want = loss(&dual, &dual.oracle()).slope;
        dual.leaves_mut()[index].iter_mut().for_each(|x| x.slope = 0.0);
        let got: f64 = got[index].iter().zip(&direction).map(|(gradient, slope)| gradient * slope).sum();
        assert_close(&format!("slope along {name} of {setup:?}"), &[got], &[want], ORACLE_TOLERANCE);
    }
}

/// The derivative with respect to every number, from the engine's own forward pass.
fn check_differences(setup: &Setup) {
    let problem = Problem::<f64>::new(setup);
    let got = problem.solve(Isa::detect(), Threads::ONE, None).leaf_gradients();
    let mut moved = problem.clone();
    for (index, name) in problem.leaf_names().iter().enumerate() {
        let mut point = moved.leaves_mut()[index].clone();
        let want = central_difference(
            |point| {
                moved.leaves_mut()[index].copy_from_slice(point);
                loss(&moved, &moved.forward(Isa::detect(), Threads::ONE, None))
            },
            &mut point,
            DIFFERENCE_STEP,
        );
        moved.leaves_mut()[index].copy_from_slice(&point);
        assert_close(&format!("gradient of {name} of {setup:?}"), &got[index], &want, DIFFERENCE_TOLERANCE);
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
