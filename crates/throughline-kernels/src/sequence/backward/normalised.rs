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
use super::super::{GROUP, load, store};
use super::products::Products;
use super::time::{MapRow, ThroughTime, hidden_gradient};
use crate::Element;
use crate::cells::{Backward, Cell, Dropout, MAX_SLOTS, with_cell, zoneout};
use crate::list::List;
use crate::ops::layer_norm::{AddParameterGradients, GradientRow, InputGradient, Moments, ROWS, Strided, normalised};

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
        let (cell, hidden, kept) = (self.shape.cell, self.shape.hidden, self.tape.normalisation.rows(&self.shape));
        let mut of_rows: List<ReadOutRow<'_, E>, GROUP> = List::new();
        for ((place, row), column) in rows.iter().enumerate().zip(columns) {
            let packed_row = self.rows.batch.row(t, column);
            let tape = kept.row(packed_row);
            of_rows.push(ReadOutRow {
                row,
                masks: masks.get(place),
                proposed: tape.proposed,
                moments: tape.moments[tape.moments.len() - 1],
                d_read_out: gradients.read_out.at((packed_row - self.first_row) * hidden),
            });
        }
        for rows in of_rows.chunks(ROWS) {
            // The pointers of the rows are valid for H (slots: S·H) elements that belong to this worker alone.
            with_cell!(cell, C => {
                E::dispatch(self.pass.inputs.layer.isa, ReadOutBackward::<C, E> { cell: PhantomData, hidden, rows, weights })
            });
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
        let kept = self.tape.normalisation.rows(&self.shape);
        let rows = self.rows.batch.row(t, columns.start)..self.rows.batch.row(t, columns.start) + columns.len();
        for first in rows.clone().step_by(ROWS) {
            let rows = first..rows.end.min(first + ROWS);
            for Sums { gates, slots, moments, .. } in sums(&self.shape).filter(|sums| sums.phase == index) {
                let mut input: [GradientRow<'_, E>; ROWS] = Default::default();
                let mut hidden: [GradientRow<'_, E>; ROWS] = Default::default();
                for ((input, hidden), row) in input.iter_mut().zip(&mut hidden).zip(rows.clone()) {
                    let (tape, at) = (kept.row(row), row - self.first_row);
                    let d_slots = self.pass.d_slots(self.rows.index, self.first_row, row);
                    // SAFETY: the gradients of a row belong to this worker alone; it has S·H of slots.
                    let (d_slots, d_input, d_hidden) = unsafe {
                        (
                            core::slice::from_raw_parts(d_slots.cast_const(), width),
                            gradients.input.slice(at * gate_rows..(at + 1) * gate_rows),
                            gradients.hidden.slice(at * width..(at + 1) * width),
                        )
                    };
                    *input = GradientRow {
                        x: &tape.input[gates.clone()],
                        dy: &d_slots[gates.clone()],
                        moments: tape.moments[moments[0]],
                        dx: &mut d_input[gates.clone()],
                    };
                    *hidden = GradientRow {
                        x: &tape.hidden[slots.clone()],
                        dy: &d_slots[slots.clone()],
                        moments: tape.moments[moments[1]],
                        dx: &mut d_hidden[slots.clone()],
                    };
                }
                E::dispatch(isa, InputGradient { weight: &weights.input[gates], rows: &mut input[..rows.len()] });
                E::dispatch(isa, InputGradient { weight: &weights.hidden[slots], rows: &mut hidden[..rows.len()] });
            }
        }
    }
}

/// A row of [`ReadOutBackward`].
#[derive(Clone, Copy)]
struct ReadOutRow<'a, E> {
    row: &'a MapRow<'a, E>,
    masks: Option<&'a RowMasks<E>>,
    proposed: &'a [E],
    moments: Moments<E>,
    d_read_out: *mut E,
}

/// The transpose of h' = o tanh(r), r = weight · n(c') + bias, for some rows: writes dr, the slot gradients that come of
/// it, and the gradient of c' through r.
struct ReadOutBackward<'a, C, E> {
    cell: PhantomData<C>,
    hidden: usize,
    rows: &'a [ReadOutRow<'a, E>],
    weights: &'a PackedNormalisation<E>,
}

impl<C: Cell, E: Element> Kernel<E> for ReadOutBackward<'_, C, E> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        let mut of_rows: [GradientRow<'_, E>; ROWS] = Default::default();
        for (of_row, row) in of_rows.iter_mut().zip(self.rows) {
            for first in (0..self.hidden).step_by(L::WIDTH) {
                // SAFETY: the units lie below H, and `back_through_read_out` passes pointers that are valid for H
                // elements (slots: S·H).
                unsafe {
                    if self.hidden - first >= L::WIDTH {
                        self.vector::<L, true>(lane, row, first, L::WIDTH);
                    } else {
                        self.vector::<L, false>(lane, row, first, self.hidden - first);
                    }
                }
            }
            // SAFETY: as above; the two arrays are different, and the first is written.
            let (dy, dx) = unsafe {
                (
                    core::slice::from_raw_parts(row.d_read_out.cast_const(), self.hidden),
                    core::slice::from_raw_parts_mut(row.row.d_proposed, self.hidden),
                )
            };
            *of_row = GradientRow { x: row.proposed, dy, moments: row.moments, dx };
        }
        InputGradient { weight: &self.weights.cell, rows: &mut of_rows[..self.rows.len()] }.run(lane);
    }
}

impl<C: Cell, E: Element> ReadOutBackward<'_, C, E> {
    /// dr and the slot gradients of units `first .. first + count` of a row.
    ///
    /// # Safety
    /// They lie below H, and every pointer of the row and its masks is valid for H elements (slots: S·H).
    #[inline(always)]
    unsafe fn vector<L: Lane<Element = E>, const FULL: bool>(
        &self,
        lane: L,
        ReadOutRow { row, masks, proposed, moments, d_read_out }: &ReadOutRow<'_, E>,
        first: usize,
        count: usize,
    ) {
        let hidden = self.hidden;
        // SAFETY: `first + count <= H`, and the caller guarantees H elements (slots: S·H) in every slice and at every
        // pointer.
        unsafe {
            let (zero, one) = (lane.splat(E::ZERO), lane.splat(E::ONE));
            let mut dh = hidden_gradient::<L, FULL>(lane, row, first, count);
            if let Some(masks) = masks {
                let keep = load::<L, FULL>(lane, masks.keep_hidden.add(first), count);
                [_, dh] = zoneout::backward(lane, keep, dh);
            }
            let mut slots = [zero; MAX_SLOTS];
            for slot in 0..C::SLOTS {
                slots[slot] = load::<L, FULL>(lane, row.slots.as_ptr().add(slot * hidden + first), count);
            }
            let c = load::<L, FULL>(lane, proposed[first..].as_ptr(), count);
            let weight = load::<L, FULL>(lane, self.weights.cell[first..].as_ptr(), count);
            let bias = load::<L, FULL>(lane, self.weights.cell_bias[first..].as_ptr(), count);
            let r = lane.fma(weight, normalised(lane, *moments, c), bias);
            let dropout = Dropout { hidden: one, candidate: one };
            let mut unit =
                Backward { slots, d: [zero; MAX_SLOTS], h_previous: zero, c_previous: zero, dh, dc: zero, dropout };
            C::read_out_backward(lane, r, &mut unit);
            store::<L, FULL>(lane, d_read_out.add(first), count, unit.dc);
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
        if self.rows.is_empty() || columns.is_empty() {
            return;
        }
        // SAFETY: these elements of the gradients belong to this task alone.
        let (d_weight, d_bias) = unsafe {
            (weight.slice(parameters.clone()), bias.slice(if bias.length() > 0 { parameters } else { 0..0 }))
        };
        let first = self.rows.start;
        let kept = pass.tape[self.index].normalisation.rows(&shape).from(first);
        let ((x, place), (dy, dy_stride)) = match part {
            Part::Input(sums) => {
                ((kept.input, sums.moments[0]), (pass.d_slots(self.index, first, first), shape.slot_width()))
            }
            Part::Hidden(sums) => {
                ((kept.hidden, sums.moments[1]), (pass.d_slots(self.index, first, first), shape.slot_width()))
            }
            Part::ReadOut => ((kept.proposed, kept.moments.stride - 1), (of_rows.read_out.at(0), shape.hidden)),
        };
        let length = (self.rows.len() - 1) * dy_stride + columns.len();
        // SAFETY: the columns lie within each row, which has S·H elements of slots or H of what was read out; there is a
        // barrier between writing them and here, and one before they are written again.
        let dy = unsafe { core::slice::from_raw_parts(dy.cast_const().add(columns.start), length) };
        let gradients = AddParameterGradients {
            rows: self.rows.len(),
            moments: Strided { numbers: &kept.moments.numbers[place..], stride: kept.moments.stride },
            x: Strided { numbers: &x.numbers[columns.start..], stride: x.stride },
            dy: Strided { numbers: dy, stride: dy_stride },
            d_weight,
            d_bias,
        };
        E::dispatch(pass.inputs.layer.isa, gradients);
    }
}
