//! The textbook's GRU, h' = (1 - z) h + z n, is this one with the rows of z negated.

use crate::common::{Problem, Setup};
use throughline_kernels::Isa;
use throughline_kernels::cells::{CellKind, negate_update_gate};
use throughline_kernels::threads::Threads;
use throughline_testkit::assert_close;

const TOLERANCE: f64 = 1e-12;

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The textbook's cell over the first sequence: its hidden state after every step, one after another.
fn textbook(problem: &Problem<f64>) -> Vec<f64> {
    let (hidden, sequence, p) = (problem.shape.hidden, &problem.sequences[0], &problem.parameters[0]);
    let row = |w: &[f64], bias: f64, row: usize, x: &[f64]| {
        bias + w[row * x.len()..].iter().zip(x).map(|(w, x)| w * x).sum::<f64>()
    };
    let mut h = sequence.h0.clone();
    let mut y = Vec::new();
    for x in sequence.x.chunks(problem.shape.input) {
        let from_x = |gate: usize, u: usize| row(&p.weight_ih, p.bias_ih[gate * hidden + u], gate * hidden + u, x);
        let from_h =
            |gate: usize, u: usize, h: &[f64]| row(&p.weight_hh, p.bias_hh[gate * hidden + u], gate * hidden + u, h);
        let gate =
            |gate: usize| -> Vec<f64> { (0..hidden).map(|u| sigmoid(from_x(gate, u) + from_h(gate, u, &h))).collect() };
        let (r, z) = (gate(0), gate(1));
        let reset_h: Vec<f64> = r.iter().zip(&h).map(|(r, h)| r * h).collect();
        let n = |u: usize| match problem.shape.cell {
            CellKind::GruBefore => (from_x(2, u) + from_h(2, u, &reset_h)).tanh(),
            _ => (from_x(2, u) + r[u] * from_h(2, u, &h)).tanh(),
        };
        h = (0..hidden).map(|u| (1.0 - z[u]) * h[u] + z[u] * n(u)).collect();
        y.extend_from_slice(&h);
    }
    y
}

#[test]
fn negated_rows_turn_the_update_gate_around() {
    for cell in [CellKind::GruAfter, CellKind::GruBefore] {
        let mut problem = Problem::<f64>::new(&Setup::new(cell, 3, 5, &[6]));
        let want = textbook(&problem);
        let p = &mut problem.parameters[0];
        for w in [&mut p.weight_ih, &mut p.weight_hh, &mut p.bias_ih, &mut p.bias_hh] {
            negate_update_gate(w);
        }
        let got = problem.forward(Isa::detect(), Threads::ONE, None);
        assert_close(cell.name(), &got[0].y, &want, TOLERANCE);
    }
}

#[test]
fn negating_twice_changes_nothing() {
    let mut w = [1.0f32, -2.0, 3.0, 4.0, -5.0, 6.0];
    negate_update_gate(&mut w);
    assert_eq!(w, [1.0, -2.0, -3.0, -4.0, -5.0, 6.0]);
    negate_update_gate(&mut w);
    assert_eq!(w, [1.0, -2.0, 3.0, 4.0, -5.0, 6.0]);
}

#[test]
#[should_panic(expected = "three blocks")]
fn weights_of_another_cell_are_refused() {
    negate_update_gate(&mut [0.0f32; 4]);
}
