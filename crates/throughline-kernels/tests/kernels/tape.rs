//! The tape shows what its documentation says: every gate, before and after its activation.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::common::{Problem, Setup};
use throughline_kernels::Isa;
use throughline_kernels::cells::CellKind;
use throughline_kernels::sequence::{
    BackwardPass, BackwardStates, ForwardPass, InitialStates, Inputs, LayerGradients, Ragged, Record, Regularisation,
    RowGradients, Scratch, StepAt, StepBackward, StepInput, Tape, backward, forward,
};
use throughline_kernels::threads::Threads;
use throughline_testkit::{assert_close, assert_same_bits};

const TOLERANCE: f64 = 1e-12;

fn sigmoid(x: &f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The activations, slot by slot, of the pre-activations of a row whose previous hidden state was `h`.
fn activations(cell: CellKind, before: &[Vec<f64>], h: &[f64]) -> Vec<Vec<f64>> {
    let apply = |function: fn(&f64) -> f64, slot: usize| -> Vec<f64> { before[slot].iter().map(function).collect() };
    let tanh = |x: &f64| x.tanh();
    let r = || apply(sigmoid, 0);
    let times = |a: Vec<f64>, b: &[f64]| -> Vec<f64> { a.iter().zip(b).map(|(a, b)| a * b).collect() };
    match cell {
        CellKind::RnnTanh => vec![apply(tanh, 0)],
        CellKind::RnnRelu => vec![apply(|x| x.max(0.0), 0)],
        CellKind::Lstm => vec![apply(sigmoid, 0), apply(sigmoid, 1), apply(tanh, 2), apply(sigmoid, 3)],
        CellKind::GruAfter => vec![r(), apply(sigmoid, 1), apply(tanh, 2), before[3].clone()],
        CellKind::GruBefore => vec![r(), apply(sigmoid, 1), apply(tanh, 2), times(r(), h)],
    }
}

fn check(cell: CellKind) {
    let (input, hidden, directions, lengths) = (3, 5, 2, [4, 1, 3]);
    let problem = Problem::<f64>::new(&Setup { directions, ..Setup::new(cell, input, hidden, &lengths) });
    let layer = problem.packed_layer(Isa::detect(), Threads::ONE, false);
    let batch = problem.batch();
    let mut x = vec![0.0; batch.rows() * input];
    batch.for_each_row(|row, b, t| {
        x[row * input..][..input].copy_from_slice(&problem.sequences[b].x[t * input..][..input]);
    });
    let states = vec![0.25; directions * lengths.len() * hidden];
    let c: &[f64] = if cell.has_cell_state() { &states } else { &[] };
    let initial = InitialStates { h: &states, c, restart_h: &[], restart_c: &[] };
    let run = |tape: &mut Tape<f64>| {
        let mut y = vec![0.0; batch.rows() * directions * hidden];
        let (mut h_n, mut c_n) = (states.clone(), c.to_vec());
        let inputs = Inputs {
            layer: &layer,
            threads: Threads::ONE,
            batch: &batch,
            x: &x,
            initial,
            regularisation: Regularisation::NONE,
            step_input: None,
        };
        let pass = ForwardPass { y: &mut y, h_n: &mut h_n, c_n: &mut c_n, record: Record::Tape(tape) };
        forward(&inputs, pass, &mut Scratch::for_threads(Threads::ONE));
        y
    };
    let (mut plain, mut tape) = (Tape::new(), Tape::with_pre_activations());
    let y = run(&mut plain);
    assert_same_bits("y", &run(&mut tape), &y);
    assert_eq!((tape.rows(), plain.rows()), (batch.rows(), batch.rows()));
    assert!(plain.pre_activation(cell.slot_names()[0], 0, 0).is_none());

    for direction in 0..directions {
        batch.for_each_row(|row, b, t| {
            let before: Vec<Vec<f64>> = cell
                .slot_names()
                .iter()
                .map(|gate| tape.pre_activation(gate, direction, row).unwrap().to_vec())
                .collect();
            let first = if direction == 0 { t == 0 } else { t + 1 == lengths[b] };
            let previous = if direction == 0 { t.wrapping_sub(1) } else { t + 1 };
            let column = batch.order().iter().position(|&sequence| sequence == b).unwrap();
            let h = match first {
                true => &states[..hidden],
                false => &y[batch.row(previous, column) * directions * hidden + direction * hidden..][..hidden],
            };
            for (gate, want) in cell.slot_names().iter().zip(&activations(cell, &before, h)) {
                let name = format!("{gate} of {} at step {t} of sequence {b}", cell.name());
                assert_close(&name, tape.gate(gate, direction, row), want, TOLERANCE);
                assert_same_bits(&name, plain.gate(gate, direction, row), tape.gate(gate, direction, row));
            }
            assert_eq!(tape.cell_state(direction, row).is_some(), cell.has_cell_state());
            if let Some(c) = tape.cell_state(direction, row) {
                let h: Vec<f64> =
                    c.iter().zip(tape.gate("output", direction, row)).map(|(c, o)| o * c.tanh()).collect();
                assert_close("h = o tanh(c)", &y[(row * directions + direction) * hidden..][..hidden], &h, TOLERANCE);
            }
        });
    }
}

#[test]
fn every_gate_is_shown() {
    CellKind::ALL.iter().for_each(|&cell| check(cell));
}

/// Zeros, until the step it panics at.
struct PanicsAt(usize);

impl StepInput<f32> for PanicsAt {
    fn forward(&self, at: StepAt, _: &[f32], _: &mut [f32], extra: &mut [f32]) {
        assert!(at.time < self.0, "no further than step {}", self.0);
        extra.fill(0.0);
    }

    fn backward(&self, _: StepAt, _: StepBackward<'_, f32>) {}
}

/// A panic in forward leaves the tape empty: backward uses neither rows of an earlier pass nor half of this one's.
#[test]
fn a_forward_pass_that_panics_leaves_an_empty_tape() {
    let (input, hidden, steps) = (3, 5, 6);
    let setup = Setup { extra: 1, ..Setup::new(CellKind::GruAfter, input, hidden, &[steps]) };
    let problem = Problem::<f32>::new(&setup);
    let layer = problem.packed_layer(Isa::detect(), Threads::ONE, true);
    let (batch, sequence) = (Ragged::even(steps, 1), &problem.sequences[0]);
    let initial = InitialStates { h: &sequence.h0, c: &[], restart_h: &[], restart_c: &[] };
    let mut tape = Tape::new();
    let mut run = |x: &[f32], panics_at: usize| {
        let (mut y, mut h_n) = (vec![0.0; steps * hidden], vec![0.0; hidden]);
        let finished = catch_unwind(AssertUnwindSafe(|| {
            let step_input: Option<&dyn StepInput<f32>> = Some(&PanicsAt(panics_at));
            let inputs = Inputs {
                layer: &layer,
                threads: Threads::ONE,
                batch: &batch,
                x,
                initial,
                regularisation: Regularisation::NONE,
                step_input,
            };
            let pass = ForwardPass { y: &mut y, h_n: &mut h_n, c_n: &mut [], record: Record::Tape(&mut tape) };
            forward(&inputs, pass, &mut Scratch::for_threads(Threads::ONE));
        }));
        (finished.is_ok(), tape.rows())
    };
    for (x, panics_at) in [(&sequence.x[..], 3), (&sequence.x[input..], steps)] {
        assert_eq!(run(&sequence.x, steps), (true, steps));
        assert_eq!(run(x, panics_at), (false, 0));
    }
}

/// Two batches of as many rows: the tape of one is refused for the other.
#[test]
#[should_panic = "the tape is of 2 sequences with 3 rows"]
fn a_tape_of_another_order_of_lengths_is_refused() {
    let problem = Problem::<f32>::new(&Setup::new(CellKind::RnnTanh, 1, 1, &[2, 1]));
    let layer = problem.packed_layer(Isa::detect(), Threads::ONE, true);
    let initial = InitialStates { h: &[0.0; 2], c: &[], restart_h: &[], restart_c: &[] };
    let scratch = &mut Scratch::for_threads(Threads::ONE);
    let (mut y, mut tape) = ([0.0; 3], Tape::new());
    let (batch, other) = (Ragged::new(&[2, 1]), Ragged::new(&[1, 2]));
    let inputs = Inputs {
        layer: &layer,
        threads: Threads::ONE,
        batch: &batch,
        x: &[1.0; 3],
        initial,
        regularisation: Regularisation::NONE,
        step_input: None,
    };
    let pass = ForwardPass { y: &mut y, h_n: &mut [0.0; 2], c_n: &mut [], record: Record::Tape(&mut tape) };
    forward(&inputs, pass, scratch);
    let pass = BackwardPass {
        y: &y,
        tape: &mut tape,
        dy: None,
        states: BackwardStates { dh: &mut [0.0; 2], dc: &mut [], restart_h: &mut [], restart_c: &mut [] },
        dx: None,
        gradients: &mut [LayerGradients {
            weight_ih: &mut [0.0],
            weight_hh: &mut [0.0],
            bias_ih: &mut [],
            bias_hh: &mut [],
            normalisation: None,
        }],
        row_gradients: &mut RowGradients::default(),
    };
    backward(&Inputs { batch: &other, ..inputs }, pass, scratch);
}
