//! The row stage of a normalised layer: what a step adds up is normalised before the cell maps it, and c' before it is
//! read out. See [`normalisation`](crate::sequence::normalisation).

use core::marker::PhantomData;
use core::ops::Range;

use throughline_simd::{Kernel, Lane};

use super::super::normalisation::{NormalisedRows, PackedNormalisation, sums};
use super::super::regularisation::RowMasks;
use super::super::{GROUP, load};
use super::DirectionForward;
use super::phase::{MapRow, PhaseKernel, conclude};
use crate::Element;
use crate::cells::{Cell, MAX_SLOTS, with_cell};
use crate::disjoint::Disjoint;
use crate::gemm::{RowGroup, accumulate};
use crate::list::List;
use crate::ops::layer_norm::{AddNormalised, Moments, moments, normalised};

impl<E: Element> DirectionForward<'_, E> {
    /// Starts the slots of every row of the chunk: the biases, then weight_ih · n(W_ih x).
    pub(super) fn normalised_input_terms(
        &self,
        chunk: Range<usize>,
        weights: &PackedNormalisation<E>,
        slots: Disjoint<'_, E>,
        normalised: NormalisedRows<'_, E>,
    ) {
        let mut rows = self.rows(chunk);
        loop {
            let mut of_group: List<(usize, usize), GROUP> = List::new();
            rows.by_ref().take(GROUP).for_each(|row| of_group.push(row));
            if of_group.is_empty() {
                break;
            }
            self.normalised_input_rows(&of_group, weights, slots, normalised);
        }
    }

    /// The same for packed rows and their places in the memory of sums.
    fn normalised_input_rows(
        &self,
        rows: &[(usize, usize)],
        weights: &PackedNormalisation<E>,
        slots: Disjoint<'_, E>,
        normalised: NormalisedRows<'_, E>,
    ) {
        let (input, width, isa) = (self.shape.input, self.shape.slot_width(), self.pass.inputs.layer.isa);
        let mut group = RowGroup::default();
        for &(row, place) in rows {
            // SAFETY: the sums of a row belong to this task alone.
            let sums = unsafe { normalised.row(place) }.input;
            sums.fill(E::ZERO);
            group.push(self.pass.inputs.x[row * input..].as_ptr(), sums.as_mut_ptr());
        }
        let panels = &self.packed.input;
        // SAFETY: x holds I elements from each row's start (`forward` checked [N, I]), and the sums are G·H elements of
        // rows that belong to this task alone.
        unsafe { accumulate(isa, panels, 0..panels.count(), 0..input, &group) };
        for &(_, place) in rows {
            // SAFETY: the slots and sums of a row belong to this task alone, and the product above is done with them.
            let (slots, row) = unsafe { (slots.slice(place * width..(place + 1) * width), normalised.row(place)) };
            slots.copy_from_slice(&self.packed.bias);
            for sums in sums(&self.shape) {
                let (x, y) = (&row.input[sums.gates.clone()], &mut slots[sums.gates.clone()]);
                row.moments[sums.moments[0]] =
                    E::dispatch(isa, AddNormalised { x, weight: &weights.input[sums.gates], y });
            }
        }
    }

    /// One product of a step, its normalisation and the cell's map, for `rows`; without regularisers there are no masks.
    pub(super) fn normalised_phase(
        &self,
        index: usize,
        weights: &PackedNormalisation<E>,
        normalised: NormalisedRows<'_, E>,
        rows: &[MapRow<E>],
        masks: &[RowMasks<E>],
    ) {
        let (isa, width, panels) = (self.pass.inputs.layer.isa, self.shape.slot_width(), &self.packed.hidden[index]);
        let of_phase = || sums(&self.shape).filter(|sums| sums.phase == index);
        let mut group = RowGroup::default();
        for (place, row) in rows.iter().enumerate() {
            // SAFETY: the sums of a row belong to this task alone.
            let sums = unsafe { normalised.row(row.place) }.hidden;
            of_phase().for_each(|of| sums[of.slots].fill(E::ZERO));
            group.push(self.operand(index, row, masks.get(place)), sums.as_mut_ptr());
        }
        // SAFETY: an operand has H elements that were given by the caller or finished in an earlier step or phase; the
        // sums are S·H elements of rows that belong to this task alone.
        unsafe { accumulate(isa, panels, 0..panels.count(), 0..self.shape.hidden, &group) };
        for row in rows {
            // SAFETY: the slots and sums of a row belong to this task alone, and the product above is done with them.
            let (slots, sums) =
                unsafe { (core::slice::from_raw_parts_mut(row.slots, width), normalised.row(row.place)) };
            for of in of_phase() {
                let (x, y) = (&sums.hidden[of.slots.clone()], &mut slots[of.slots.clone()]);
                sums.moments[of.moments[1]] =
                    E::dispatch(isa, AddNormalised { x, weight: &weights.hidden[of.slots], y });
            }
        }
        if masks.is_empty() {
            self.map_normalised::<false>(index, weights, normalised, rows, masks);
        } else {
            self.map_normalised::<true>(index, weights, normalised, rows, masks);
        }
    }

    /// The cell's map of the normalised sums, and the hidden state read out of what normalisation makes of c'.
    fn map_normalised<const REGULARISED: bool>(
        &self,
        index: usize,
        weights: &PackedNormalisation<E>,
        normalised: NormalisedRows<'_, E>,
        rows: &[MapRow<E>],
        masks: &[RowMasks<E>],
    ) {
        let (cell, hidden, isa) = (self.shape.cell, self.shape.hidden, self.pass.inputs.layer.isa);
        let reads_out = cell.has_cell_state() && index + 1 == cell.phases().len();
        let mut with_proposed: List<MapRow<E>, GROUP> = List::new();
        for row in rows {
            // SAFETY: what is kept of a row belongs to this task alone.
            let proposed = unsafe { normalised.row(row.place) }.proposed;
            with_proposed.push(MapRow {
                proposed: if reads_out { proposed.as_mut_ptr() } else { core::ptr::null_mut() },
                ..*row
            });
        }
        let panels = &self.packed.hidden[index];
        // The products are done: the group is empty. Every pointer of a `MapRow` is valid for H elements (slots: S·H) and
        // belongs to this task alone.
        with_cell!(cell, C => E::dispatch(isa, PhaseKernel::<C, E, REGULARISED> {
            cell: PhantomData,
            index,
            hidden,
            panels,
            which: 0..panels.count(),
            group: &RowGroup::default(),
            rows: &with_proposed,
            masks,
        }));
        if !reads_out {
            return;
        }
        for (place, row) in with_proposed.iter().enumerate() {
            // SAFETY: what is kept of a row belongs to this task alone, and the map is done with it.
            let kept = unsafe { normalised.row(row.place) };
            let (masks, proposed, of_cell) = (masks.get(place), &*kept.proposed, kept.moments.len() - 1);
            kept.moments[of_cell] = with_cell!(cell, C => {
                E::dispatch(isa, ReadOut::<C, E> { cell: PhantomData, hidden, row, masks, proposed, weights })
            });
        }
    }
}

/// h' = o tanh(weight · n(c') + bias) for one row, and the end of its step.
struct ReadOut<'a, C, E> {
    cell: PhantomData<C>,
    hidden: usize,
    row: &'a MapRow<E>,
    masks: Option<&'a RowMasks<E>>,
    proposed: &'a [E],
    weights: &'a PackedNormalisation<E>,
}

impl<C: Cell, E: Element> Kernel<E> for ReadOut<'_, C, E> {
    type Output = Moments<E>;

    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) -> Moments<E> {
        let moments = moments(lane, self.proposed);
        for first in (0..self.hidden).step_by(L::WIDTH) {
            // SAFETY: the units lie below H, and every pointer of the row and its masks is valid for H elements (slots:
            // S·H), as `map_row` and `row_masks` made them.
            unsafe {
                if self.hidden - first >= L::WIDTH {
                    self.vector::<L, true>(lane, moments, first, L::WIDTH);
                } else {
                    self.vector::<L, false>(lane, moments, first, self.hidden - first);
                }
            }
        }
        moments
    }
}

impl<C: Cell, E: Element> ReadOut<'_, C, E> {
    /// Units `first .. first + count`.
    ///
    /// # Safety
    /// They lie below H, and every pointer of the row and its masks is valid for H elements (slots: S·H).
    #[inline(always)]
    unsafe fn vector<L: Lane<Element = E>, const FULL: bool>(
        &self,
        lane: L,
        moments: Moments<E>,
        first: usize,
        count: usize,
    ) {
        let Self { hidden, row, masks, proposed, weights, .. } = *self;
        // SAFETY: `first + count <= H`, and the caller guarantees H elements at each pointer (slots: S·H).
        unsafe {
            let mut slots = [lane.splat(E::ZERO); MAX_SLOTS];
            for slot in 0..C::SLOTS {
                slots[slot] = load::<L, FULL>(lane, row.slots.add(slot * hidden + first), count);
            }
            let [c, weight, bias] = [proposed, &weights.cell, &weights.cell_bias]
                .map(|of_units| load::<L, FULL>(lane, of_units[first..].as_ptr(), count));
            let h = C::read_out(lane, &slots, lane.fma(weight, normalised(lane, moments, c), bias));
            conclude::<C, L, FULL>(lane, row, masks, first, count, [h, c]);
        }
    }
}
