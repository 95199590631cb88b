//! Gradients inside a layer, row by row: memory of the backward pass, open to inspection where it is asked to keep
//! them.

use crate::Element;

use super::shape::LayerShape;
use crate::buffer::Buffer;
use crate::disjoint::Disjoint;

/// Memory of the backward pass of a layer. Kept between calls.
///
/// Ordinarily it holds the gradients of the gates for a chunk of steps at a time and shows nothing. Made
/// [`of_every_row`](Self::of_every_row), it shows after a pass, for every packed row, the gradient of the loss with
/// respect to every gate's pre-activation, to the hidden state h_t and to the cell state c_t.
#[derive(Debug, Default)]
pub struct RowGradients<E> {
    every_row: bool,
    /// The layer and the rows of the last pass, if all of its gradients are here.
    kept: Option<(LayerShape, usize)>,
    directions: [DirectionGradients<E>; 2],
    /// `[chunk rows, H]`
    operands: Buffer<E>,
    sums: SumGradients<E>,
}

/// Gradients of what a normalised layer's products and cell state were before they were normalised; nothing for a layer
/// that is not.
#[derive(Debug, Default)]
struct SumGradients<E> {
    /// `[chunk rows, G·H]`
    input: Buffer<E>,
    /// `[chunk rows, S·H]`
    hidden: Buffer<E>,
    /// `[chunk rows, H]`
    read_out: Buffer<E>,
    /// `[chunk rows, H]`
    proposed: Buffer<E>,
}

#[derive(Debug, Default)]
struct DirectionGradients<E> {
    /// `[rows, S·H]`
    slots: Buffer<E>,
    /// `[N, H]`
    hidden: Buffer<E>,
    /// `[N, H]`
    cell: Buffer<E>,
}

/// Where a direction's gradients are written. `hidden` and `cell` are empty where they are not kept.
pub(super) struct RowMemory<'a, E> {
    pub slots: Disjoint<'a, E>,
    pub hidden: Disjoint<'a, E>,
    pub cell: Disjoint<'a, E>,
    /// What the products of a chunk's rows take of h_(t-1), from its first row; empty where it is h_(t-1) itself.
    pub operands: Disjoint<'a, E>,
    /// Those of a normalised layer, from a chunk's first row.
    pub sums: Option<SumGradientRows<'a, E>>,
}

/// Where the gradients of a chunk's [`SumGradients`] are written.
pub(super) struct SumGradientRows<'a, E> {
    /// Of W_ih x.
    pub input: Disjoint<'a, E>,
    /// Of W_hh u.
    pub hidden: Disjoint<'a, E>,
    /// Of what was read out of c', weight · n(c') + bias; empty for a cell without cell state.
    pub read_out: Disjoint<'a, E>,
    /// Of c', through what was read out of it; likewise.
    pub proposed: Disjoint<'a, E>,
}

impl<E> Clone for SumGradientRows<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E> Copy for SumGradientRows<'_, E> {}

impl<E: Element> SumGradients<E> {
    fn at_least(&mut self, shape: &LayerShape, rows: usize) -> SumGradientRows<'_, E> {
        let cells = if shape.cell.has_cell_state() { rows * shape.hidden } else { 0 };
        SumGradientRows {
            input: Disjoint::new(self.input.at_least(rows * shape.gate_rows())),
            hidden: Disjoint::new(self.hidden.at_least(rows * shape.slot_width())),
            read_out: Disjoint::new(self.read_out.at_least(cells)),
            proposed: Disjoint::new(self.proposed.at_least(cells)),
        }
    }
}

impl<E> Clone for RowMemory<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E> Copy for RowMemory<'_, E> {}

impl<E: Element> RowGradients<E> {
    /// Memory that keeps the gradients of every row.
    pub fn of_every_row() -> Self {
        Self { every_row: true, ..Self::default() }
    }

    /// Whether it keeps the gradients of every row.
    pub(super) fn keeps_every_row(&self) -> bool {
        self.every_row
    }

    /// Memory for a pass over `rows` packed rows in chunks of at most `chunk` rows, for each direction. `operands` tells
    /// whether products take something else than h_(t-1).
    pub(super) fn prepare(
        &mut self,
        shape: &LayerShape,
        rows: usize,
        chunk: usize,
        operands: bool,
    ) -> [RowMemory<'_, E>; 2] {
        self.kept = None;
        let (width, hidden) = (shape.slot_width(), shape.hidden);
        let [first, second] = &mut self.directions;
        // Directions go back one after the other and may use the same memory.
        let operands = Disjoint::new(self.operands.at_least(if operands { chunk * hidden } else { 0 }));
        let sums = shape.normalised.then(|| self.sums.at_least(shape, chunk));
        if !self.every_row {
            let slots = Disjoint::new(first.slots.at_least(chunk * width));
            let none = || Disjoint::new(&mut []);
            return [RowMemory { slots, hidden: none(), cell: none(), operands, sums }; 2];
        }
        let cells = if shape.cell.has_cell_state() { rows } else { 0 };
        let second_rows = if shape.directions == 2 { [rows, cells] } else { [0, 0] };
        [(first, [rows, cells]), (second, second_rows)].map(|(memory, [rows, cells])| RowMemory {
            slots: Disjoint::new(memory.slots.at_least(rows * width)),
            hidden: Disjoint::new(memory.hidden.at_least(rows * hidden)),
            cell: Disjoint::new(memory.cell.at_least(cells * hidden)),
            operands,
            sums,
        })
    }

    /// Marks a pass over `rows` packed rows as fully written.
    pub(super) fn complete(&mut self, shape: LayerShape, rows: usize) {
        self.kept = self.every_row.then_some((shape, rows));
    }

    /// The shape of the layer, if row `row` of direction `direction` is here.
    fn shape_of(&self, direction: usize, row: usize) -> LayerShape {
        let Some((shape, rows)) = self.kept else {
            panic!("no gradients of rows are kept: run a backward pass with RowGradients::of_every_row");
        };
        assert!(row < rows && direction < shape.directions, "row {row} of {rows}, direction {direction} of {shape:?}");
        shape
    }

    /// The gradient of a gate's pre-activation at packed row `row` of direction `direction`: H values. Gates are named
    /// as on the [`Tape`](super::Tape). That of a GRU's `hidden_new` or `reset_hidden`, which has no activation, is
    /// that of its value.
    ///
    /// # Panics
    /// If the cell has no such gate, there is no such row or direction, or the last pass kept none.
    pub fn gate(&self, gate: &str, direction: usize, row: usize) -> &[E] {
        let shape = self.shape_of(direction, row);
        let start = row * shape.slot_width() + shape.cell.slot(gate) * shape.hidden;
        &self.directions[direction].slots[start..][..shape.hidden]
    }

    /// The gradient of the hidden state h_t at packed row `row`, through the output and all later steps: H values. Tiny
    /// ones are 0.
    ///
    /// # Panics
    /// If there is no such row or direction, or the last pass kept none.
    pub fn hidden(&self, direction: usize, row: usize) -> &[E] {
        let hidden = self.shape_of(direction, row).hidden;
        &self.directions[direction].hidden[row * hidden..][..hidden]
    }

    /// The gradient of the cell state c_t at packed row `row`, through h_t and all later steps: H values; `None` for a
    /// cell without one. With zoneout it is that of the c' which the step proposes.
    ///
    /// # Panics
    /// If there is no such row or direction, or the last pass kept none.
    pub fn cell(&self, direction: usize, row: usize) -> Option<&[E]> {
        let LayerShape { cell, hidden, .. } = self.shape_of(direction, row);
        cell.has_cell_state().then(|| &self.directions[direction].cell[row * hidden..][..hidden])
    }
}
