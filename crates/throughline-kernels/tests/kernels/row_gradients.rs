//! The gradients of every row against exact derivatives of the oracle: a number inside the layer is moved at one step.

use crate::common::{Problem, Setup, loss};
use throughline_kernels::cells::CellKind;
use throughline_kernels::sequence::RowGradients;
use throughline_kernels::threads::Threads;
use throughline_kernels::{Isa, for_each_cell};
use throughline_testkit::oracle::step;
use throughline_testkit::{Dual, OracleCell, assert_close};

/// The engine in f64 against the oracle's exact derivatives.
const TOLERANCE: f64 = 1e-12;

/// What is moved.
#[derive(Clone, Copy, PartialEq)]
enum Moved {
    /// h_t
    Hidden,
    /// c_t
    Cell,
    /// The input term of a gate, W_ih x + b_ih.
    Input(usize),
    /// The hidden term of a gate, W_hh h + b_hh.
    Recurrent(usize),
}

/// The derivative of the loss with respect to one unit at (direction, sequence, step).
fn derivative(problem: &Problem<Dual>, place: (usize, usize, usize), moved: Moved, unit: usize) -> f64 {
    let cell = OracleCell::from_name(problem.shape.cell.name());
    let (input, hidden) = (problem.shape.input, problem.shape.hidden);
    let weights = problem.oracle_weights();
    let outcomes = problem.collect_outcomes(|direction, b, sequence| {
        let mut state = problem.state(direction, &sequence.h0, &sequence.c0);
        let length = sequence.length();
        let mut ys = vec![Vec::new(); length];
        for done in 0..length {
            let (t, boundary) = match direction {
                0 => (done, sequence.reset[done]),
                _ => (length - 1 - done, done > 0 && sequence.reset[length - done]),
            };
            if boundary {
                state = problem.state(direction, &problem.restart_h, &problem.restart_c);
            }
            let here = place == (direction, b, t);
            let mut weights = weights[direction].clone();
            match moved {
                Moved::Input(gate) if here => weights.bias_ih.as_mut().unwrap()[gate * hidden + unit].slope = 1.0,
                Moved::Recurrent(gate) if here => weights.bias_hh.as_mut().unwrap()[gate * hidden + unit].slope = 1.0,
                _ => {}
            }
            state = step(cell, &weights, &sequence.x[t * input..][..input], &state);
            match moved {
                Moved::Hidden if here => state.h[unit].slope += 1.0,
                // h = o tanh(c): moving c moves h by o (1 - tanh(c)²).
                Moved::Cell if here => {
                    let q = state.c[unit].value.tanh();
                    state.h[unit].slope += state.h[unit].value / q * (1.0 - q * q);
                    state.c[unit].slope += 1.0;
                }
                _ => {}
            }
            ys[t] = state.h.clone();
        }
        (ys, state)
    });
    loss(problem, &outcomes).slope
}

fn check(cell: CellKind) {
    let lengths = [3, 0, 4, 1, 4];
    let problem = Problem::<f64>::new(&Setup { directions: 2, resets: true, ..Setup::new(cell, 2, 3, &lengths) });
    assert!(problem.sequences.iter().any(|s| s.reset.iter().any(|&reset| reset)), "there are boundaries");
    let hidden = problem.shape.hidden;
    let got = problem.solve(Isa::detect(), Threads::ONE, None);
    let dual = problem.convert(Dual::from);
    for (b, sequence) in problem.sequences.iter().enumerate() {
        let solution = &got.sequences[b];
        for (direction, t) in [0, 1].into_iter().flat_map(|d| (0..sequence.length()).map(move |t| (d, t))) {
            let row = direction * sequence.length() + t;
            let want = |moved| (0..hidden).map(|unit| derivative(&dual, (direction, b, t), moved, unit)).collect();
            let compare = |name: &str, got: &[f64], want: Vec<f64>| {
                let what = format!("{name} of {} at step {t} of sequence {b}, direction {direction}", cell.name());
                assert_close(&what, got, &want, TOLERANCE);
            };
            compare("dh", &solution.d_h[row * hidden..][..hidden], want(Moved::Hidden));
            if cell.has_cell_state() {
                compare("dc", &solution.d_c[row * hidden..][..hidden], want(Moved::Cell));
            }
            let gate = |slot: usize| &solution.d_slots[(row * cell.slots() + slot) * hidden..][..hidden];
            for g in 0..cell.gates() {
                compare(cell.slot_names()[g], gate(g), want(Moved::Input(g)));
            }
            match cell {
                CellKind::GruAfter => compare("hidden_new", gate(3), want(Moved::Recurrent(2))),
                // r h reaches the loss through W_hn alone.
                CellKind::GruBefore => {
                    let new: Vec<f64> = want(Moved::Input(2));
                    let w = &problem.parameters[direction].weight_hh[2 * hidden * hidden..];
                    let through = |unit| (0..hidden).map(|k| w[k * hidden + unit] * new[k]).sum();
                    compare("reset_hidden", gate(3), (0..hidden).map(through).collect());
                }
                CellKind::RnnTanh | CellKind::RnnRelu | CellKind::Lstm => {}
            }
        }
    }
}

/// Steps that no gradient reaches are passed over where those of parameters are not wanted, and nothing else changes.
#[test]
fn steps_without_gradient() {
    for cell in [CellKind::Lstm, CellKind::GruBefore] {
        for normalised in [false, true] {
            // More rows than two chunks have; what has a gradient is in the middle, whichever direction reads.
            let lengths = [3000, 2900, 20];
            let setup = Setup { directions: 2, normalised, ..Setup::new(cell, 2, 3, &lengths) };
            let mut problem = Problem::<f64>::new(&setup);
            let width = problem.shape.output();
            for sequence in &mut problem.sequences {
                for (place, dy) in sequence.dy.iter_mut().enumerate() {
                    if !(1400..1410).contains(&(place / width)) {
                        *dy = 0.0;
                    }
                }
                sequence.dh_n.fill(0.0);
                sequence.dc_n.fill(0.0);
            }
            let threads = &Threads::new(2);
            let want = problem.solve(Isa::detect(), threads, None).sequences;
            let got = problem.solve_into(&mut [], Isa::detect(), threads, None);
            for (want, got) in want.iter().zip(&got) {
                for (name, want, got) in [
                    ("dx", &want.dx, &got.dx),
                    ("dh0", &want.dh0, &got.dh0),
                    ("dc0", &want.dc0, &got.dc0),
                    ("slots", &want.d_slots, &got.d_slots),
                    ("dh", &want.d_h, &got.d_h),
                    ("dc", &want.d_c, &got.d_c),
                ] {
                    assert_eq!(want, got, "{name} of {}", cell.name());
                }
            }
        }
    }
}

#[test]
#[should_panic = "run a backward pass with RowGradients::of_every_row"]
fn gradients_that_were_not_kept_are_refused() {
    RowGradients::<f32>::default().hidden(0, 0);
}

macro_rules! stamp {
    ($($name:ident: $cell:ident,)*) => {
        $(#[test]
        fn $name() {
            check(CellKind::$cell);
        })*
    };
}
for_each_cell!(stamp);
