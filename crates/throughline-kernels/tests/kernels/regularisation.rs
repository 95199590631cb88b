//! Dropout inside the step and zoneout, and layer-normalised cells with and without them: every cell against an oracle
//! with the same masks, and the arithmetic contract.

use crate::common::invariants::{same_alone, same_in_chunks, same_in_steps, same_on_every_cpu};
use crate::common::{Problem, Setup, loss};
use throughline_kernels::cells::CellKind;
use throughline_kernels::random::{Philox, Purpose};
use throughline_kernels::sequence::{Masks, Regularisation};
use throughline_kernels::threads::Threads;
use throughline_kernels::{Isa, for_each_cell};
use throughline_testkit::{Dual, assert_close, central_difference};

/// The engine in f64 against the oracle, values and exact derivatives alike.
const ORACLE_TOLERANCE: f64 = 1e-12;
/// Gradients against the five-point difference of the engine's own forward pass, and its step.
const DIFFERENCE_TOLERANCE: f64 = 1e-9;
const DIFFERENCE_STEP: f64 = 1e-4;
/// Parameter gradients of a batch against the sum over its sequences or chunks.
const SUM_TOLERANCE: f64 = 1e-5;

const LENGTHS: [usize; 6] = [3, 0, 5, 1, 5, 2];

/// Everything that acts on `cell`.
fn all(cell: CellKind) -> Regularisation {
    Regularisation {
        recurrent_dropout: 0.3,
        candidate_dropout: if cell.has_candidate() { 0.4 } else { 0.0 },
        zoneout_hidden: 0.25,
        zoneout_cell: if cell.has_cell_state() { 0.35 } else { 0.0 },
        masks: Some(Masks { philox: Philox::new(11, Purpose::Dropout, 3), place: 5 }),
    }
}

/// Each by itself, all together, and all in use, where zoneout is left.
fn each(cell: CellKind) -> [Regularisation; 6] {
    let all = all(cell);
    let none = Regularisation { masks: all.masks, ..Regularisation::NONE };
    [
        Regularisation { recurrent_dropout: all.recurrent_dropout, ..none },
        Regularisation { candidate_dropout: all.candidate_dropout, ..none },
        Regularisation { zoneout_hidden: all.zoneout_hidden, ..none },
        Regularisation { zoneout_cell: all.zoneout_cell, ..none },
        all,
        Regularisation { masks: None, ..all },
    ]
}

fn problem<E: throughline_kernels::Element>(setup: &Setup, regularisation: Regularisation) -> Problem<E> {
    Problem { regularisation, ..Problem::new(setup) }
}

/// A cell, and whether it is layer-normalised.
type Kind = (CellKind, bool);

/// A batch with boundaries.
fn setup((cell, normalised): Kind, input: usize, hidden: usize, lengths: &[usize]) -> Setup {
    Setup { resets: true, normalised, ..Setup::new(cell, input, hidden, lengths) }
}

/// Values, and the derivative with respect to every number, exactly.
fn check_oracle(kind: Kind) {
    let none = kind.1.then_some(Regularisation::NONE);
    for regularisation in each(kind.0).into_iter().chain(none) {
        for (input, hidden, directions) in [(3, 4, 2), (2, 6, 1)] {
            let setup = Setup { directions, bias: directions == 2, ..setup(kind, input, hidden, &LENGTHS) };
            let problem = problem::<f64>(&setup, regularisation);
            let name = |what: &str| format!("{what} of {setup:?}, {regularisation:?}");
            let outcomes = problem.forward(Isa::detect(), Threads::ONE, None);
            for (got, want) in outcomes.iter().zip(problem.oracle()) {
                assert_close(&name("y"), &got.y, &want.y, ORACLE_TOLERANCE);
                assert_close(&name("h_n"), &got.h_n, &want.h_n, ORACLE_TOLERANCE);
                assert_close(&name("c_n"), &got.c_n, &want.c_n, ORACLE_TOLERANCE);
            }
            let got = problem.solve(Isa::detect(), Threads::ONE, None).leaf_gradients();
            let mut dual = problem.convert(Dual::from);
            for (index, leaf) in problem.leaf_names().iter().enumerate() {
                let mut want = Vec::new();
                for k in 0..got[index].len() {
                    dual.leaves_mut()[index][k].slope = 1.0;
                    want.push(loss(&dual, &dual.oracle()).slope);
                    dual.leaves_mut()[index][k].slope = 0.0;
                }
                assert_close(&name(leaf), &got[index], &want, ORACLE_TOLERANCE);
            }
        }
    }
}

/// The derivative with respect to every number, from the engine's own forward pass.
fn check_differences(kind: Kind) {
    for regularisation in [all(kind.0), Regularisation { masks: None, ..all(kind.0) }] {
        let setup = Setup { directions: 2, ..setup(kind, 3, 5, &LENGTHS) };
        let problem = problem::<f64>(&setup, regularisation);
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
            assert_close(
                &format!("gradient of {name} with {regularisation:?}"),
                &got[index],
                &want,
                DIFFERENCE_TOLERANCE,
            );
        }
    }
}

/// Tails of vectors, units that are no whole blocks of random numbers, more columns than a group, and more steps than
/// backward takes at a time.
fn setups(kind: Kind) -> [Setup; 3] {
    let many: Vec<usize> = (0..200).map(|b| b * 7 % 5).collect();
    [
        Setup { directions: 2, ..setup(kind, 5, 17, &LENGTHS) },
        setup(kind, 3, 70, &many),
        Setup { directions: 2, ..setup(kind, 3, 70, &[300, 3, 10, 300]) },
    ]
}

fn check_every_cpu(kind: Kind) {
    let threads = [1, 2, 3].map(Threads::new);
    for setup in setups(kind) {
        same_on_every_cpu(&format!("{setup:?}"), &problem::<f32>(&setup, all(kind.0)), &threads);
    }
    let setup = &setups(kind)[0];
    let in_use = Regularisation { masks: None, ..all(kind.0) };
    same_on_every_cpu(&format!("{setup:?} in use"), &problem::<f32>(setup, in_use), &threads);
    same_on_every_cpu(&format!("{setup:?} in f64"), &problem::<f64>(setup, all(kind.0)), &threads);
}

fn check_alone(kind: Kind) {
    for setup in setups(kind).iter().take(1).chain(&setups(kind)[2..]) {
        same_alone(&format!("{setup:?}"), &problem::<f32>(setup, all(kind.0)), SUM_TOLERANCE);
    }
}

fn check_chunks(kind: Kind) {
    for setup in setups(kind) {
        let setup = Setup { directions: 1, ..setup };
        let steps = *setup.lengths.iter().max().unwrap();
        let cuts: Vec<usize> = [0, 1, 3, 4, 100].into_iter().filter(|&cut| cut < steps).chain([steps]).collect();
        same_in_chunks(&format!("{setup:?}"), &problem::<f32>(&setup, all(kind.0)), &cuts, SUM_TOLERANCE);
    }
}

fn check_steps(kind: Kind) {
    for setup in setups(kind) {
        let setup = Setup { directions: 1, ..setup };
        same_in_steps(&format!("{setup:?}"), &problem::<f32>(&setup, Regularisation { masks: None, ..all(kind.0) }));
    }
}

#[test]
#[should_panic = "the cell rnn_tanh has no candidate to drop: use recurrent dropout, or an LSTM or a GRU"]
fn a_plain_network_has_no_candidate() {
    Regularisation { candidate_dropout: 0.1, ..Regularisation::NONE }.check(CellKind::RnnTanh);
}

#[test]
#[should_panic = "the cell gru_after has no cell state: use zoneout of h, or an LSTM"]
fn a_gru_has_no_cell_state() {
    Regularisation { zoneout_cell: 0.1, ..Regularisation::NONE }.check(CellKind::GruAfter);
}

#[test]
#[should_panic = "a rate of zoneout of h is at least 0 and below 1, not 1"]
fn a_rate_is_below_one() {
    Regularisation { zoneout_hidden: 1.0, ..Regularisation::NONE }.check(CellKind::Lstm);
}

macro_rules! stamp {
    ($($name:ident: $cell:ident,)*) => {
        $(mod $name {
            use super::*;

            stamp!(plain, (CellKind::$cell, false));
            stamp!(normalised, (CellKind::$cell, true));
        })*
    };
    ($name:ident, $kind:expr) => {
        mod $name {
            use super::*;

            #[test]
            fn oracle() {
                check_oracle($kind);
            }
            #[test]
            fn central_differences() {
                check_differences($kind);
            }
            #[test]
            fn every_cpu() {
                check_every_cpu($kind);
            }
            #[test]
            fn alone() {
                check_alone($kind);
            }
            #[test]
            fn chunks() {
                check_chunks($kind);
            }
            #[test]
            fn steps() {
                check_steps($kind);
            }
        }
    };
}
for_each_cell!(stamp);
