//! What has run once over a batch runs over it and over any smaller one without allocating.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use crate::common::Numbers;
use throughline_kernels::cells::CellKind;
use throughline_kernels::sequence::{
    BackwardPass, BackwardStates, DirectionWeights, ForwardPass, InitialStates, Inputs, LayerGradients, LayerShape,
    NormalisationGradients, NormalisationWeights, PackedLayer, Ragged, Record, Regularisation, RowGradients, Scratch,
    Step, Tape, backward, forward, step,
};
use throughline_kernels::threads::Threads;
use throughline_kernels::{Isa, for_each_cell};

/// The system's allocator, counting what the calling thread asks of it.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every request goes to the system's allocator unchanged; counting touches a thread-local number that needs
// neither initialisation nor destruction.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise about `at` and `layout` is passed on; `at` came from the system's allocator.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as for `dealloc`.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` allocates on this thread.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

const INPUT: usize = 7;
const HIDDEN: usize = 19;

/// A layer's weights, and all memory that a training step over `rows` rows of `batch` sequences touches.
struct Workshop {
    shape: LayerShape,
    layer: PackedLayer<f32>,
    weights: [Vec<f32>; 4],
    batch: Ragged,
    x: Vec<f32>,
    states: Vec<f32>,
    restart: Vec<f32>,
    y: Vec<f32>,
    final_states: [Vec<f32>; 2],
    state_gradients: [Vec<f32>; 4],
    dx: Vec<f32>,
    gradients: [Vec<f32>; 8],
    normalisation: [Vec<f32>; 4],
    normalisation_gradients: [[Vec<f32>; 4]; 2],
    tape: Tape<f32>,
    row_gradients: RowGradients<f32>,
    scratch: [Scratch<f32>; 1],
}

impl Workshop {
    fn new(cell: CellKind, directions: usize, normalised: bool, rows: usize, batch: usize) -> Self {
        let shape = LayerShape { cell, input: INPUT, extra: 0, hidden: HIDDEN, directions, normalised };
        let numbers = &mut Numbers::new(1);
        let gates = shape.gate_rows();
        let sizes = [gates * INPUT, gates * HIDDEN, gates, gates];
        let of_cell = if cell.has_cell_state() { HIDDEN } else { 0 };
        let of_normalisation = [gates, gates, of_cell, of_cell];
        let state = directions * batch * HIDDEN;
        Self {
            shape,
            layer: PackedLayer::new(shape, Isa::detect(), true),
            weights: sizes.map(|size| numbers.draw(size, 0.2)),
            batch: Ragged::default(),
            x: numbers.draw(rows * INPUT, 1.0),
            states: numbers.draw(state, 1.0),
            restart: numbers.draw(directions * HIDDEN, 1.0),
            y: vec![0.0; rows * shape.output()],
            final_states: [0, 1].map(|_| vec![0.0; state]),
            state_gradients: [0, 1, 2, 3].map(|_| vec![0.0; state]),
            dx: vec![0.0; rows * INPUT],
            gradients: [0, 1, 2, 3, 0, 1, 2, 3].map(|k| vec![0.0; sizes[k]]),
            normalisation: of_normalisation.map(|size| numbers.draw(size, 1.0)),
            normalisation_gradients: [0, 1].map(|_| of_normalisation.map(|size| vec![0.0; size])),
            tape: Tape::new(),
            row_gradients: RowGradients::default(),
            scratch: Default::default(),
        }
    }

    fn pack(&mut self) {
        let [weight_ih, weight_hh, bias_ih, bias_hh] = &self.weights;
        let [input, hidden, cell, cell_bias] = &self.normalisation;
        let normalisation = self.shape.normalised.then_some(NormalisationWeights { input, hidden, cell, cell_bias });
        let weights = DirectionWeights { weight_ih, weight_hh, bias_ih, bias_hh, normalisation };
        self.layer.pack(Threads::ONE, &[weights; 2][..self.shape.directions]);
    }

    /// Forward and backward over sequences of `lengths` with boundaries.
    fn train(&mut self, lengths: &[usize]) {
        let shape = self.shape;
        self.batch.set(lengths);
        self.batch.set_resets(|sequence, t| (sequence + t) % 3 == 0);
        let (rows, state) = (self.batch.rows(), shape.directions * self.batch.batch() * HIDDEN);
        let x = &self.x[..rows * INPUT];
        let y = &mut self.y[..rows * shape.output()];
        let [h_n, c_n] = self.final_states.each_mut().map(|states| &mut states[..state]);
        let h = &self.states[..state];
        let initial = InitialStates { h, c: h, restart_h: &self.restart, restart_c: &self.restart };
        let record = Record::Tape(&mut self.tape);
        let (layer, batch) = (&self.layer, &self.batch);
        let inputs = Inputs {
            layer,
            threads: Threads::ONE,
            batch,
            x,
            initial,
            regularisation: Regularisation::NONE,
            step_input: None,
        };
        forward(&inputs, ForwardPass { y: &mut *y, h_n, c_n, record }, &mut self.scratch);
        let [dh, dc, restart_h, restart_c] = self.state_gradients.each_mut().map(|states| &mut states[..state]);
        let states = BackwardStates { dh, dc, restart_h, restart_c };
        let dx = Some(&mut self.dx[..rows * INPUT]);
        let [a, b, c, d, e, f, g, i] = &mut self.gradients;
        let mut of_normalisation = self.normalisation_gradients.iter_mut().map(|[input, hidden, cell, cell_bias]| {
            shape.normalised.then_some(NormalisationGradients { input, hidden, cell, cell_bias })
        });
        let mut next = || of_normalisation.next().flatten();
        let mut gradients = [
            LayerGradients { weight_ih: a, weight_hh: b, bias_ih: c, bias_hh: d, normalisation: next() },
            LayerGradients { weight_ih: e, weight_hh: f, bias_ih: g, bias_hh: i, normalisation: next() },
        ];
        let gradients = &mut gradients[..shape.directions];
        let (tape, row_gradients) = (&mut self.tape, &mut self.row_gradients);
        let pass = BackwardPass { y, tape, dy: Some(y), states, dx, gradients, row_gradients };
        backward(&inputs, pass, &mut self.scratch);
    }
}

fn check_training(cell: CellKind) {
    for (directions, normalised) in [(1, false), (2, false), (1, true), (2, true)] {
        let mut workshop = Workshop::new(cell, directions, normalised, 60 * 9, 60);
        workshop.pack();
        workshop.train(&[9; 60]);
        for lengths in [&[9; 60][..], &[3, 8, 0, 1, 8], &[], &[1; 49]] {
            let count = allocations(|| workshop.train(lengths));
            assert_eq!(count, 0, "{} allocates {count} times over lengths {lengths:?}", cell.name());
        }
    }
}

fn check_step(cell: CellKind) {
    [false, true].into_iter().for_each(|normalised| check_step_of(cell, normalised));
}

fn check_step_of(cell: CellKind, normalised: bool) {
    const BATCH: usize = 50;
    let mut workshop = Workshop::new(cell, 1, normalised, BATCH, BATCH);
    workshop.pack();
    let batches = [BATCH, 1, 3].map(|batch| Ragged::even(1, batch));
    let mut run = |batch: &Ragged| {
        let state = batch.batch() * HIDDEN;
        let x = &workshop.x[..batch.batch() * INPUT];
        let (h, c) = (&workshop.states[..state], &workshop.states[..state]);
        let [h_n, c_n] = workshop.final_states.each_mut().map(|states| &mut states[..state]);
        let (layer, y) = (&workshop.layer, &mut workshop.y[..state]);
        step(
            Step { layer, batch, x, h, c, regularisation: Regularisation::NONE, y, h_next: h_n, c_next: c_n },
            &mut workshop.scratch[0],
        );
    };
    run(&batches[0]);
    for batch in &batches {
        let count = allocations(|| run(batch));
        assert_eq!(count, 0, "a step of {} with {} sequences allocates {count} times", cell.name(), batch.batch());
    }
}

#[test]
fn allocations_are_counted() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1u8; 100]))), 1);
    assert_eq!(allocations(|| ()), 0);
}

macro_rules! stamp {
    ($($name:ident: $cell:ident,)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn training() {
                check_training(CellKind::$cell);
            }
            #[test]
            fn one_step() {
                check_step(CellKind::$cell);
            }
        })*
    };
}
for_each_cell!(stamp);
