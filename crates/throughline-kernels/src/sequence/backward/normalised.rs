//! The row stage of a normalised layer, backward; see [`normalisation`](crate::sequence::normalisation).
//!
//! With s = bias + weight_ih · n(W_ih x) + weight_hh · n(W_hh u) and ds from the cell's map: the biases receive the sum
//! of ds, the weights that of ds n, and the products the gradient of n at weight · ds, all in
//! [`ops::layer_norm`](crate::ops::layer_norm). What was read out of c' goes first: its gradient adds to that of c'
//! before the cell's map takes it.

use core::marker::PhantomData;
use core::ops::Range;

use throughline_simd::{Kernel, Lane};

use super::super::normalisation::{PackedNormalisation, Sums, sums};
use super::super::regularisation::RowMasks;
use super::super::row_gradients::SumGradientRows;
use super::super::{load, store};
use super::products::Products;
use super::time::{MapRow, ThroughTime, hidden_gradient};
use crate::Element;
use crate::cells::{Backward, Cell, Dropout, MAX_SLOTS, with_cell, zoneout};
use crate::ops::layer_norm::{AddParameterGradients, InputGradient, Moments, normalised};

impl<E: Element> ThroughTime<'_, E> {
    /// The gradients of c' and of the slots through what was read out of c', for a group of columns.
    pub(super) fn back_through_read_out(
        &self,
        t: usize,
        columns: Range<usize>,
        weights: &PackedNormalisation<E>,
        gradients: SumGradientRows<'_, E>,
        rows: &[MapRow<'_, E>],
        masks: &[RowMasks<E>],
    ) {
        let (cell, hidden) = (self.shape.cell, self.shape.hidden);
        for ((place, row), column) in rows.iter().enumerate().zip(columns) {
            let packed_row = self.rows.batch.row(t, column);
            let tape = self.tape.normalisation.row(&self.shape, packed_row);
            let units = (packed_row - self.first_row) * hidden;
            let units = units..units + hidden;
            // SAFETY: the gradients of a row belong to this worker alone.
            let [d_read_out, d_proposed] =
                unsafe { [gradients.read_out.slice(units.clone()), gradients.proposed.slice(units)] };
            let moments = tape.moments[tape.moments.len() - 1];
            let (proposed, masks) = (tape.proposed, masks.get(place));
            with_cell!(cell, C => E::dispatch(self.pass.inputs.layer.isa, ReadOutBackward::<C, E> {
                cell: PhantomData, hidden, row, masks, proposed, weights, moments, d_read_out, d_proposed,
            }));
        }
    }

    /// The gradients of the sums that the slots of phase `index` were made of, for a group of columns.
    pub(super) fn back_through_normalisation(
        &self,
        index: usize,
        t: usize,
        columns: Range<usize>,
        weights: &PackedNormalisation<E>,
        gradients: SumGradientRows<'_, E>,
    ) {
        let (isa, gate_rows, width) = (self.pass.inputs.layer.isa, self.shape.gate_rows(), self.shape.slot_width());
        for column in columns {
            let packed_row = self.rows.batch.row(t, column);
            let tape = self.tape.normalisation.row(&self.shape, packed_row);
            let (row, d_slots) =
                (packed_row - self.first_row, self.pass.d_slots(self.rows.index, self.first_row, packed_row));
            // SAFETY: the gradients of a row belong to this worker alone; it has S·H of slots.
            let (d_slots, d_input, d_hidden) = unsafe {
                (
                    core::slice::from_raw_parts(d_slots.cast_const(), width),
                    gradients.input.slice(row * gate_rows..(row + 1) * gate_rows),
                    gradients.hidden.slice(row * width..(row + 1) * width),
                )
            };
            for Sums { gates, slots, moments, .. } in sums(&self.shape).filter(|sums| sums.phase == index) {
                let [of_input, of_hidden] = moments.map(|place| tape.moments[place]);
                let input = InputGradient {
                    x: &tape.input[gates.clone()],
                    dy: &d_slots[gates.clone()],
                    weight: &weights.input[gates.clone()],
                    moments: of_input,
                    dx: &mut d_input[gates],
                };
                E::dispatch(isa, input);
                let hidden = InputGradient {
                    x: &tape.hidden[slots.clone()],
                    dy: &d_slots[slots.clone()],
                    weight: &weights.hidden[slots.clone()],
                    moments: of_hidden,
                    dx: &mut d_hidden[slots],
                };
                E::dispatch(isa, hidden);
            }
        }
    }
}

/// The transpose of h' = o tanh(r), r = weight · n(c') + bias, for one row: writes dr, the slot gradients that come of it,
/// and the gradient of c' through r.
struct ReadOutBackward<'a, C, E> {
    cell: PhantomData<C>,
    hidden: usize,
    row: &'a MapRow<'a, E>,
    masks: Option<&'a RowMasks<E>>,
    proposed: &'a [E],
    weights: &'a PackedNormalisation<E>,
    moments: Moments<E>,
    d_read_out: &'a mut [E],
    d_proposed: &'a mut [E],
}

impl<C: Cell, E: Element> Kernel<E> for ReadOutBackward<'_, C, E> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lane<Element = E>>(mut self, lane: L) {
        for first in (0..self.hidden).step_by(L::WIDTH) {
            // SAFETY: the units lie below H, and `map_rows` made every pointer valid for H elements (slots: S·H).
            unsafe {
                if self.hidden - first >= L::WIDTH {
                    self.vector::<L, true>(lane, first, L::WIDTH);
                } else {
                    self.vector::<L, false>(lane, first, self.hidden - first);
                }
            }
        }
        let Self { proposed: x, d_read_out, d_proposed: dx, weights, moments, .. } = self;
        InputGradient { x, dy: d_read_out, weight: &weights.cell, moments, dx }.run(lane);
    }
}

impl<C: Cell, E: Element> ReadOutBackward<'_, C, E> {
    /// dr and the slot gradients of units `first .. first + count`.
    ///
    /// # Safety
    /// They lie below H, and every pointer of the row and its masks is valid for H elements (slots: S·H).
    #[inline(always)]
    unsafe fn vector<L: Lane<Element = E>, const FULL: bool>(&mut self, lane: L, first: usize, count: usize) {
        let (row, hidden) = (self.row, self.hidden);
        // SAFETY: `first + count <= H`, and the caller guarantees H elements (slots: S·H) in every slice and at every
        // pointer.
        unsafe {
            let (zero, one) = (lane.splat(E::ZERO), lane.splat(E::ONE));
            let mut dh = hidden_gradient::<L, FULL>(lane, row, first, count);
            if let Some(masks) = self.masks {
                let keep = load::<L, FULL>(lane, masks.keep_hidden.add(first), count);
                [_, dh] = zoneout::backward(lane, keep, dh);
            }
            let mut slots = [zero; MAX_SLOTS];
            for slot in 0..C::SLOTS {
                slots[slot] = load::<L, FULL>(lane, row.slots.as_ptr().add(slot * hidden + first), count);
            }
            let [c, weight, bias] = [self.proposed, &self.weights.cell, &self.weights.cell_bias]
                .map(|of_units| load::<L, FULL>(lane, of_units[first..].as_ptr(), count));
            let r = lane.fma(weight, normalised(lane, self.moments, c), bias);
            let dropout = Dropout { hidden: one, candidate: one };
            let mut unit =
                Backward { slots, d: [zero; MAX_SLOTS], h_previous: zero, c_previous: zero, dh, dc: zero, dropout };
            C::read_out_backward(lane, r, &mut unit);
            store::<L, FULL>(lane, self.d_read_out[first..].as_mut_ptr(), count, unit.dc);
            for slot in 0..C::SLOTS {
                store::<L, FULL>(lane, row.d_slots.add(slot * hidden + first), count, unit.d[slot]);
            }
        }
    }
}

/// Parameters of a normalisation whose gradients a task adds up.
pub(super) enum Part {
    Input(Sums),
    Hidden(Sums),
    ReadOut,
}

impl<E: Element> Products<'_, E> {
    /// All of a normalised layer's.
    pub(super) fn normalised_parts(&self) -> impl Iterator<Item = Part> + use<E> {
        let shape = self.pass.shape;
        let terms = sums(&shape).flat_map(|sums| [Part::Input(sums.clone()), Part::Hidden(sums)]);
        let parts = terms.chain(shape.cell.has_cell_state().then_some(Part::ReadOut));
        parts.take(if shape.normalised { usize::MAX } else { 0 })
    }

    /// One of several equal shares of a part's columns: dweight += sum ds n, dbias += sum ds.
    pub(super) fn normalisation_gradient(&self, part: &Part, [share, shares]: [usize; 2]) {
        let (pass, shape) = (self.pass, self.pass.shape);
        let memory = pass.gradients[self.index].as_ref().expect("gradients for every direction");
        let of_rows = pass.rows[self.index].sums.as_ref().expect("a normalised layer has gradients of its sums");
        let to = memory.normalisation.as_ref().expect("gradients for a layer's normalisation");
        // Where the part begins among the parameters and in a row of what was normalised, and how long it is.
        let (weight, bias, parameter, start, length) = match part {
            Part::Input(sums) => (to.input, memory.bias_ih, sums.gates.start, sums.gates.start, sums.gates.len()),
            Part::Hidden(sums) => (to.hidden, memory.bias_hh, sums.gates.start, sums.slots.start, sums.gates.len()),
            Part::ReadOut => (to.cell, to.cell_bias, 0, 0, shape.hidden),
        };
        let columns = share * length / shares..(share + 1) * length / shares;
        let parameters = parameter + columns.start..parameter + columns.end;
        let columns = start + columns.start..start + columns.end;
        // SAFETY: these elements of the gradients belong to this task alone.
        let (d_weight, d_bias) = unsafe {
            (weight.slice(parameters.clone()), bias.slice(if bias.length() > 0 { parameters } else { 0..0 }))
        };
        for row in self.rows.clone() {
            let tape = pass.tape[self.index].normalisation.row(&shape, row);
            let (x, place) = match part {
                Part::Input(sums) => (tape.input, sums.moments[0]),
                Part::Hidden(sums) => (tape.hidden, sums.moments[1]),
                Part::ReadOut => (tape.proposed, tape.moments.len() - 1),
            };
            let dy = match part {
                Part::Input(_) | Part::Hidden(_) => pass.d_slots(self.index, self.rows.start, row),
                Part::ReadOut => of_rows.read_out.at((row - self.rows.start) * shape.hidden),
            };
            // SAFETY: the columns lie within the row, which has S·H elements of slots or H of what was read out; there
            // is a barrier between writing them and here, and one before they are written again.
            let dy = unsafe { core::slice::from_raw_parts(dy.cast_const().add(columns.start), columns.len()) };
            let (moments, x) = (tape.moments[place], &x[columns.clone()]);
            let terms = AddParameterGradients { moments, x, dy, d_weight: &mut *d_weight, d_bias: &mut *d_bias };
            E::dispatch(pass.inputs.layer.isa, terms);
        }
    }
}
