//! The tape: what forward keeps for backward.

use alloc::vec::Vec;
use core::ops::Range;

use crate::Element;

use super::batch::Ragged;
use super::normalisation::NormalisationMemory;
use super::regularisation::Regularisation;
use super::shape::LayerShape;
use crate::buffer::Buffer;

/// What forward keeps of one direction of a layer. Row n of every array belongs to packed row n of the batch.
///
/// The hidden states are not here: they are the layer's output.
#[derive(Debug, Default)]
pub struct DirectionTape<E> {
    pub(crate) slots: Buffer<E>,
    pub(crate) cell: Buffer<E>,
    pub(crate) extra: Buffer<E>,
    pub(crate) pre_activations: Buffer<E>,
    pub(crate) normalisation: NormalisationMemory<E>,
}

/// The tape of a layer. After a forward pass it shows every gate of every row: to trace a model, run a training forward
/// pass and read its tape.
///
/// | cell | its gates |
/// |---|---|
/// | RNN | `activation` |
/// | LSTM | `input`, `forget`, `cell`, `output` |
/// | GRU, reset after | `reset`, `update`, `new`, and `hidden_new`: W_hn h + b_hn |
/// | GRU, reset before | `reset`, `update`, `new`, and `reset_hidden`: r h |
#[derive(Debug, Default)]
pub struct Tape<E> {
    shape: Option<LayerShape>,
    batch: Ragged,
    keep_pre_activations: bool,
    pub(crate) directions: Vec<DirectionTape<E>>,
    /// M, numbers of the step input's memory for each row.
    step_width: usize,
    regularisation: Regularisation,
    /// `[N, M]` for each direction.
    pub(crate) step_memory: [Buffer<E>; 2],
}

impl<E: Element> Tape<E> {
    /// An empty tape; forward makes it as long as it needs.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty tape that also keeps the pre-activations: the same arrays before the activation.
    pub fn with_pre_activations() -> Self {
        Self { keep_pre_activations: true, ..Self::default() }
    }

    /// Makes room for `rows` rows of a layer; allocates only when it never held as many. The tape counts as empty
    /// until [`complete`](Self::complete) is called, also if forward panics in between.
    pub(crate) fn prepare(&mut self, shape: LayerShape, rows: usize, step_width: usize) {
        self.invalidate();
        self.step_width = step_width;
        for memory in &mut self.step_memory[..shape.directions] {
            memory.at_least(rows * step_width);
        }
        self.directions.resize_with(shape.directions, DirectionTape::default);
        for tape in &mut self.directions {
            tape.slots.at_least(rows * shape.slot_width());
            tape.extra.at_least(rows * shape.extra);
            if shape.cell.has_cell_state() {
                tape.cell.at_least(rows * shape.hidden);
            }
            tape.normalisation.at_least(&shape, rows);
            if self.keep_pre_activations {
                tape.pre_activations.at_least(rows * shape.slot_width());
            }
        }
    }

    /// Marks all rows of a layer over `batch` as written.
    pub(crate) fn complete(&mut self, shape: LayerShape, regularisation: Regularisation, batch: &Ragged) {
        self.shape = Some(shape);
        self.regularisation = regularisation;
        self.batch.set_window(batch, 0..batch.steps());
    }

    /// Empties it: its layer has run without it.
    pub fn invalidate(&mut self) {
        self.shape = None;
    }

    /// Packed rows that the last forward pass kept.
    pub fn rows(&self) -> usize {
        if self.shape.is_some() { self.batch.rows() } else { 0 }
    }

    /// The batch that the last forward pass kept.
    ///
    /// # Panics
    /// If the tape is empty.
    pub fn batch(&self) -> &Ragged {
        self.shape();
        &self.batch
    }

    pub(crate) fn assert_is_of(
        &self,
        shape: LayerShape,
        regularisation: Regularisation,
        batch: &Ragged,
        step_width: usize,
    ) {
        let kept = self.step_width;
        assert_eq!(
            kept, step_width,
            "the tape has {kept} numbers a row for the step input, which asks for {step_width}"
        );
        assert!(
            self.shape == Some(shape),
            "the tape is of {:?}, not of {shape:?}: run forward on this batch first",
            self.shape
        );
        assert!(
            self.regularisation == regularisation,
            "the tape is of a pass with {:?}, not {regularisation:?}: run forward with the same first",
            self.regularisation
        );
        assert!(
            self.batch == *batch,
            "the tape is of {} sequences with {} rows and their own order of lengths and boundaries, not of these {} \
             sequences with {} rows: run forward on this batch first",
            self.batch.batch(),
            self.batch.rows(),
            batch.batch(),
            batch.rows()
        );
    }

    /// The layer that the last forward pass was of.
    ///
    /// # Panics
    /// If the tape is empty.
    pub fn shape(&self) -> LayerShape {
        self.shape.expect("the tape is empty: run a forward pass with it first")
    }

    /// Where a gate of packed row `row` is.
    fn place(&self, gate: &str, row: usize) -> Range<usize> {
        let shape = self.shape();
        assert!(row < self.batch.rows(), "row {row} of {}", self.batch.rows());
        let start = row * shape.slot_width() + shape.cell.slot(gate) * shape.hidden;
        start..start + shape.hidden
    }

    /// The gate of that name (the table above) of packed row `row` in direction `direction`: H activations.
    ///
    /// # Panics
    /// If the cell has no such gate, or there is no such row or direction.
    pub fn gate(&self, gate: &str, direction: usize, row: usize) -> &[E] {
        &self.directions[direction].slots[self.place(gate, row)]
    }

    /// The cell state c of packed row `row`: H values; `None` for a cell without one.
    ///
    /// # Panics
    /// If there is no such row or direction.
    pub fn cell_state(&self, direction: usize, row: usize) -> Option<&[E]> {
        let shape = self.shape();
        assert!(row < self.batch.rows(), "row {row} of {}", self.batch.rows());
        shape.cell.has_cell_state().then(|| &self.directions[direction].cell[row * shape.hidden..][..shape.hidden])
    }

    /// What [`gate`](Self::gate) is the activation of, the whole sum; `None` unless the tape was made
    /// [`with_pre_activations`](Self::with_pre_activations).
    ///
    /// # Panics
    /// As [`gate`](Self::gate).
    pub fn pre_activation(&self, gate: &str, direction: usize, row: usize) -> Option<&[E]> {
        let place = self.place(gate, row);
        self.keep_pre_activations.then(|| &self.directions[direction].pre_activations[place])
    }

    /// The step input's extra columns of packed row `row`.
    ///
    /// # Panics
    /// If there is no such row or direction.
    pub fn extra(&self, direction: usize, row: usize) -> &[E] {
        let shape = self.shape();
        assert!(row < self.batch.rows(), "row {row} of {}", self.batch.rows());
        &self.directions[direction].extra[row * shape.extra..][..shape.extra]
    }

    /// Where the step input's memory of packed row `row` is.
    fn step_place(&self, direction: usize, row: usize) -> Range<usize> {
        let (directions, rows) = (self.shape().directions, self.batch.rows());
        assert!(row < rows && direction < directions, "row {row} of {rows}, direction {direction} of {directions}");
        row * self.step_width..(row + 1) * self.step_width
    }

    /// The step input's memory of packed row `row`: M numbers, as its hook left them
    /// ([`StepInput::memory`](super::StepInput::memory)).
    ///
    /// # Panics
    /// If there is no such row or direction.
    pub fn step_memory(&self, direction: usize, row: usize) -> &[E] {
        &self.step_memory[direction][self.step_place(direction, row)]
    }

    /// The same, mutable: to pass something to the hook's backward.
    ///
    /// # Panics
    /// If there is no such row or direction.
    pub fn step_memory_mut(&mut self, direction: usize, row: usize) -> &mut [E] {
        let place = self.step_place(direction, row);
        &mut self.step_memory[direction][place]
    }

    /// The size of the tape's arrays in bytes.
    pub fn bytes(&self) -> usize {
        let of_direction = |tape: &DirectionTape<E>| {
            let elements = tape.slots.len() + tape.cell.len() + tape.extra.len() + tape.pre_activations.len();
            elements * size_of::<E>() + tape.normalisation.bytes()
        };
        let step_memory = self.step_memory.iter().map(|memory| memory.len() * size_of::<E>());
        self.directions.iter().map(of_direction).chain(step_memory).sum()
    }
}
