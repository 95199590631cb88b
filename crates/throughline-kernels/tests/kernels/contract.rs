//! The arithmetic contract, cell by cell: the same bits on every instruction set, with any number of threads, alone or
//! in any batch, in one run or cut into chunks and steps; and no tiny numbers.

use crate::common::invariants::{assert_same_solution, same_alone, same_in_chunks, same_in_steps, same_on_every_cpu};
use crate::common::{Numbers, Problem, Setup};
use throughline_kernels::cells::{CellKind, TINY_STATE};
use throughline_kernels::threads::Threads;
use throughline_kernels::{Element, Isa, for_each_cell};
use throughline_testkit::assert_same_bits;
use throughline_testkit::gradient::Bits;

/// Parameter gradients of a batch against the sum over its sequences or chunks: the rows are added in another order.
const SUM_TOLERANCE_F32: f64 = 1e-5;
const SUM_TOLERANCE_F64: f64 = 1e-12;

/// Layers that reach every corner of the engine: tails of vectors, more columns and rows than a group, a chunk or a
/// block of outer products holds, chains long enough to be blocked, and more steps than backward takes at a time.
fn setups(cell: CellKind) -> Vec<Setup> {
    let many: Vec<usize> = (0..200).map(|b| b * 7 % 5).collect();
    vec![
        Setup { directions: 2, resets: true, ..Setup::new(cell, 5, 17, &[3, 0, 5, 1, 5, 2]) },
        Setup { directions: 2, bias: false, ..Setup::new(cell, 16, 4, &[1, 9, 4]) },
        Setup { resets: true, ..Setup::new(cell, 3, 5, &many) },
        Setup { bias: false, ..Setup::new(cell, 20, 33, &[2, 4, 4]) },
        Setup::new(cell, 165, 20, &[2, 1, 3, 2, 1, 2, 1, 3]),
        Setup { resets: true, ..Setup::new(cell, 1, 163, &[2, 1, 2, 2, 2, 1, 1, 2]) },
        Setup { directions: 2, resets: true, ..Setup::new(cell, 2, 5, &[1100, 1, 1000]) },
        Setup { directions: 2, resets: true, ..Setup::new(cell, 3, 70, &[700, 3, 10, 700]) },
    ]
}

/// The same with one direction, which can be cut.
fn cuttable(cell: CellKind) -> impl Iterator<Item = Setup> {
    setups(cell).into_iter().map(|setup| Setup { directions: 1, ..setup })
}

fn check_every_cpu(cell: CellKind) {
    let threads = [1, 2, 3].map(Threads::new);
    for setup in setups(cell) {
        same_on_every_cpu(&format!("{setup:?}"), &Problem::<f32>::new(&setup), &threads);
    }
    let setup = Setup { directions: 2, resets: true, ..Setup::new(cell, 5, 17, &[3, 0, 5, 1, 5, 2]) };
    same_on_every_cpu(&format!("{setup:?}"), &Problem::<f64>::new(&setup), &threads);
}

fn check_alone(cell: CellKind) {
    for setup in setups(cell) {
        same_alone(&format!("{setup:?}"), &Problem::<f32>::new(&setup), SUM_TOLERANCE_F32);
        same_alone(&format!("{setup:?}"), &Problem::<f64>::new(&setup), SUM_TOLERANCE_F64);
    }
}

fn check_chunks(cell: CellKind) {
    for setup in cuttable(cell) {
        let steps = *setup.lengths.iter().max().unwrap();
        let mut numbers = Numbers::new(setup.seed);
        let mut at_random: Vec<usize> = (1..steps).filter(|_| numbers.0.below(3) == 0).collect();
        at_random.insert(0, 0);
        at_random.push(steps);
        let every_step: Vec<usize> = (0..=steps).collect();
        for cuts in [at_random, every_step] {
            same_in_chunks(&format!("{setup:?}"), &Problem::<f32>::new(&setup), &cuts, SUM_TOLERANCE_F32);
            same_in_chunks(&format!("{setup:?}"), &Problem::<f64>::new(&setup), &cuts, SUM_TOLERANCE_F64);
        }
    }
}

fn check_steps(cell: CellKind) {
    for setup in cuttable(cell) {
        same_in_steps(&format!("{setup:?}"), &Problem::<f32>::new(&setup));
        same_in_steps(&format!("{setup:?}"), &Problem::<f64>::new(&setup));
    }
}

/// No gradient of the outputs is a gradient of zero.
fn check_no_output_gradient(cell: CellKind) {
    let setup = Setup { directions: 2, ..Setup::new(cell, 5, 17, &[3, 0, 5]) };
    let [zero, none] = [true, false].map(|zero| {
        let mut problem = Problem::<f32>::new(&setup);
        for sequence in &mut problem.sequences {
            if zero { sequence.dy.fill(0.0) } else { sequence.dy.clear() }
        }
        problem.solve(Isa::detect(), Threads::ONE, None)
    });
    assert_same_solution(cell.name(), &none, &zero);
}

const HIDDEN: usize = 17;
/// Long enough for every trace of one end to be gone at the other.
const STEPS: usize = 400;

/// A layer that forgets, with units that stay active: weights and inputs are positive.
fn forgetful(cell: CellKind) -> Problem<f32> {
    let mut problem = Problem::<f32>::new(&Setup { bias: false, ..Setup::new(cell, 3, HIDDEN, &[STEPS]) });
    let parameters = &mut problem.parameters[0];
    parameters.weight_hh.iter_mut().for_each(|w| *w = w.abs() * 0.2);
    parameters.weight_ih.iter_mut().for_each(|w| *w = w.abs());
    problem.sequences[0].x.iter_mut().for_each(|x| *x = x.abs() * 0.5);
    problem
}

/// An input at the first step alone: its traces go from normal numbers to 0 without a subnormal between.
fn check_tiny_states(cell: CellKind) {
    let mut problem = forgetful(cell);
    problem.sequences[0].x[3..].fill(0.0);
    let got = problem.solve(Isa::detect(), Threads::ONE, None).sequences.remove(0);
    for (name, tensor) in [("y", &got.outcome.y), ("c", &got.c), ("slots", &got.slots)] {
        assert_eq!(tensor.iter().position(|x| x.is_subnormal()), None, "{name} holds a subnormal number");
    }
    for (name, tensor) in [("y", &got.outcome.y), ("c", &got.c)] {
        assert!(tensor.iter().all(|&x| x == 0.0 || f64::from(x.abs()) >= TINY_STATE), "{name} holds a tiny number");
    }
    assert!(got.outcome.y[9 * HIDDEN..10 * HIDDEN].iter().any(|&x| x != 0.0), "the input fades away, but not at once");
    assert_eq!(got.outcome.h_n, [0.0; HIDDEN], "every trace of the input is gone");
}

/// A gradient at the last step alone, propagated back step by step (the same bits as in one run): likewise.
fn check_tiny_gradients(cell: CellKind) {
    let mut problem = forgetful(cell);
    problem.sequences[0].dy.fill(0.0);
    let whole = problem.solve(Isa::detect(), Threads::ONE, None).sequences.remove(0);
    let (mut dh, mut dc) = (problem.sequences[0].dh_n.clone(), problem.sequences[0].dc_n.clone());
    for t in (0..STEPS).rev() {
        let mut step = problem.steps(t..t + 1);
        let sequence = &mut step.sequences[0];
        if t > 0 {
            sequence.h0 = whole.outcome.y[(t - 1) * HIDDEN..][..HIDDEN].to_vec();
            sequence.c0 = whole.c.iter().skip((t - 1) * HIDDEN).take(HIDDEN).copied().collect();
        }
        (sequence.dh_n, sequence.dc_n) = (dh, dc);
        let got = step.solve(Isa::detect(), Threads::ONE, None).sequences.remove(0);
        let mut all = got.dh0.iter().chain(&got.dc0).chain(&got.d_slots);
        assert!(!all.any(|x| x.is_subnormal()), "step {t} has a subnormal gradient");
        (dh, dc) = (got.dh0, got.dc0);
        assert!(t < STEPS - 9 || dh.iter().any(|&x| x != 0.0), "the gradient fades away, but not at once");
    }
    assert!(dh.iter().chain(&dc).all(|&x| x == 0.0), "every trace of the gradient is gone: {dh:?}, {dc:?}");
}

/// The derivative of relu hides no NaN, and is +0 where the unit is closed: the same bits on every instruction set.
#[test]
fn a_broken_activation_of_relu_has_a_broken_gradient() {
    fn check<E: Element + Bits>() {
        let mut problem = Problem::<E>::new(&Setup::new(CellKind::RnnRelu, 3, 37, &[1; 9]));
        for unit in [0, 5, 16, 36] {
            problem.parameters[0].bias_ih[unit] = E::from_f64(f64::NAN);
        }
        let want = problem.solve(Isa::SCALAR, Threads::ONE, None);
        for isa in Isa::available() {
            let got = problem.solve(isa, Threads::ONE, None);
            for (got, want) in got.sequences.iter().zip(&want.sequences) {
                assert_same_bits(&format!("activations on {isa:?}"), &got.slots, &want.slots);
                assert_same_bits(&format!("gradients on {isa:?}"), &got.d_slots, &want.d_slots);
                for (&a, &d) in got.slots.iter().zip(&got.d_slots) {
                    let (a, d) = (a.to_f64(), d.to_f64());
                    assert_eq!(a.is_nan(), d.is_nan(), "{isa:?}: {d} where the activation is {a}");
                    assert!(a != 0.0 || d.to_bits() == 0, "{isa:?}: {d} where the activation is {a}");
                }
            }
        }
        let closed = want.sequences.iter().flat_map(|sequence| &sequence.slots).filter(|a| a.to_f64() == 0.0).count();
        assert!(closed > 9, "{closed} closed units");
    }
    check::<f32>();
    check::<f64>();
}

macro_rules! stamp {
    ($($name:ident: $cell:ident,)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn every_cpu() {
                check_every_cpu(CellKind::$cell);
            }
            #[test]
            fn alone() {
                check_alone(CellKind::$cell);
            }
            #[test]
            fn chunks() {
                check_chunks(CellKind::$cell);
            }
            #[test]
            fn steps() {
                check_steps(CellKind::$cell);
            }
            #[test]
            fn no_output_gradient() {
                check_no_output_gradient(CellKind::$cell);
            }
            #[test]
            fn tiny_states() {
                check_tiny_states(CellKind::$cell);
            }
            #[test]
            fn tiny_gradients() {
                check_tiny_gradients(CellKind::$cell);
            }
        })*
    };
}
for_each_cell!(stamp);
