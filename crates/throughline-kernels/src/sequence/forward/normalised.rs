//! The row stage of a normalised layer: what a step adds up is normalised before the cell maps it, and c' before it is
//! read out. See [`normalisation`](crate::sequence::normalisation).

use core::marker::PhantomData;
use core::ops::Range;

use throughline_simd::{Kernel, Lane};

use super::super::normalisation::{NormalisedRows, PackedNormalisation, Sums, sums};
use super::super::regularisation::RowMasks;
use super::super::{GROUP, load};
use super::DirectionForward;
use super::phase::{MapRow, PhaseKernel, conclude};
use crate::Element;
use crate::cells::{Cell, MAX_SLOTS, with_cell};
use crate::disjoint::Disjoint;
use crate::gemm::{RowGroup, accumulate};
use crate::list::List;
use crate::ops::layer_norm::{AddNormalised, Moments, ROWS, Row, inverse_deviation, mean, normalised};

/// A term of a sum.
#[derive(Clone, Copy)]
enum Term {
    Input,
    Hidden,
}

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
        let mut group = RowGroup::from_init(&weights.zeros);
        for &(row, place) in rows {
            // SAFETY: the slots and sums of a row belong to this task alone.
            let (slots, sums) =
                unsafe { (slots.slice(place * width..(place + 1) * width), normalised.row(place).input) };
            slots.copy_from_slice(&self.packed.bias);
            group.push(self.pass.inputs.x[row * input..].as_ptr(), sums.as_mut_ptr());
        }
        let panels = &self.packed.input;
        // SAFETY: x holds I elements from each row's start (`forward` checked [N, I]), and the sums are G·H elements of
        // rows that belong to this task alone; so are the zeros long.
        unsafe { accumulate(isa, panels, 0..panels.count(), 0..input, &group) };
        let places = || rows.iter().map(|&(_, place)| place);
        for sums in sums(&self.shape) {
            self.add_normalised(Term::Input, &sums, weights, slots, normalised, places());
        }
    }

    /// slots += weight · n(x) for the rows in those places, x what the product of one term has added up; keeps the moments.
    fn add_normalised(
        &self,
        term: Term,
        sums: &Sums,
        weights: &PackedNormalisation<E>,
        slots: Disjoint<'_, E>,
        normalised: NormalisedRows<'_, E>,
        mut places: impl Iterator<Item = usize> + Clone,
    ) {
        let (isa, width) = (self.pass.inputs.layer.isa, self.shape.slot_width());
        let (weight, columns, moments) = match term {
            Term::Input => (&weights.input, &sums.gates, sums.moments[0]),
            Term::Hidden => (&weights.hidden, &sums.slots, sums.moments[1]),
        };
        loop {
            let (of_group, mut count) = (places.clone(), 0);
            let mut rows: [Row<'_, E>; ROWS] = Default::default();
            for (row, place) in rows.iter_mut().zip(places.by_ref()) {
                // SAFETY: the slots and sums of a row belong to this task alone, and its product is done with them.
                let (slots, kept) = unsafe { (slots.slice(place * width..(place + 1) * width), normalised.row(place)) };
                let x = match term {
                    Term::Input => kept.input,
                    Term::Hidden => kept.hidden,
                };
                let moments = Moments::default();
                *row = Row { x: &x[columns.clone()], y: &mut slots[columns.clone()], moments };
                count += 1;
            }
            if count == 0 {
                return;
            }
            E::dispatch(isa, AddNormalised { weight: &weight[columns.clone()], rows: &mut rows[..count] });
            for (row, place) in rows[..count].iter().zip(of_group) {
                // SAFETY: as above.
                unsafe { normalised.row(place) }.moments[moments] = row.moments;
            }
        }
    }

    /// One product of a step, its normalisation and the cell's map, for `rows`; without regularisers there are no masks.
    pub(super) fn normalised_phase(
        &self,
        index: usize,
        weights: &PackedNormalisation<E>,
        slots: Disjoint<'_, E>,
        normalised: NormalisedRows<'_, E>,
        rows: &[MapRow<E>],
        masks: &[RowMasks<E>],
    ) {
        let (isa, panels) = (self.pass.inputs.layer.isa, &self.packed.hidden[index]);
        let mut group = RowGroup::from_init(&weights.zeros);
        for (place, row) in rows.iter().enumerate() {
            // SAFETY: the sums of a row belong to this task alone.
            let sums = unsafe { normalised.row(row.place) }.hidden;
            group.push(self.operand(index, row, masks.get(place)), sums.as_mut_ptr());
        }
        // SAFETY: an operand has H elements that were given by the caller or finished in an earlier step or phase; the
        // sums are S·H elements of rows that belong to this task alone; so are the zeros long.
        unsafe { accumulate(isa, panels, 0..panels.count(), 0..self.shape.hidden, &group) };
        for sums in sums(&self.shape).filter(|sums| sums.phase == index) {
            let places = rows.iter().map(|row| row.place);
            self.add_normalised(Term::Hidden, &sums, weights, slots, normalised, places);
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
        for (chunk, rows) in with_proposed.chunks(ROWS).enumerate() {
            let masks = masks.get(chunk * ROWS..).unwrap_or(&[]);
            let mut moments = [Moments::default(); ROWS];
            let of_rows = &mut moments[..rows.len()];
            // The pointers are as in the kernel above, whose map is done with c'.
            with_cell!(cell, C => {
                E::dispatch(isa, ReadOut::<C, E> { cell: PhantomData, hidden, rows, masks, weights, moments: of_rows })
            });
            for (row, moments) in rows.iter().zip(moments) {
                // SAFETY: what is kept of a row belongs to this task alone.
                let of_row = unsafe { normalised.row(row.place) }.moments;
                of_row[of_row.len() - 1] = moments;
            }
        }
    }
}

/// h' = o tanh(weight · n(c') + bias) for some rows, and the end of their step. Without regularisers there are no masks.
struct ReadOut<'a, C, E> {
    cell: PhantomData<C>,
    hidden: usize,
    rows: &'a [MapRow<E>],
    masks: &'a [RowMasks<E>],
    weights: &'a PackedNormalisation<E>,
    /// Out: those of each row's c'.
    moments: &'a mut [Moments<E>],
}

impl<C: Cell, E: Element> Kernel<E> for ReadOut<'_, C, E> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        let mut proposed: [&[E]; ROWS] = [&[]; ROWS];
        for (proposed, row) in proposed.iter_mut().zip(self.rows) {
            // SAFETY: c' is H elements that the map of this step has written.
            *proposed = unsafe { core::slice::from_raw_parts(row.proposed.cast_const(), self.hidden) };
        }
        for (moments, proposed) in self.moments.iter_mut().zip(proposed) {
            moments.mean = mean(lane, proposed);
        }
        for (moments, proposed) in self.moments.iter_mut().zip(proposed) {
            moments.inverse_deviation = inverse_deviation(lane, proposed, moments.mean);
        }
        for place in 0..self.rows.len() {
            for first in (0..self.hidden).step_by(L::WIDTH) {
                // SAFETY: the units lie below H, and every pointer of the row and its masks is valid for H elements
                // (slots: S·H), as `map_row` and `row_masks` made them.
                unsafe {
                    if self.hidden - first >= L::WIDTH {
                        self.vector::<L, true>(lane, place, first, L::WIDTH);
                    } else {
                        self.vector::<L, false>(lane, place, first, self.hidden - first);
                    }
                }
            }
        }
    }
}

impl<C: Cell, E: Element> ReadOut<'_, C, E> {
    /// Units `first .. first + count` of the row in place `place`.
    ///
    /// # Safety
    /// They lie below H, and every pointer of the row and its masks is valid for H elements (slots: S·H).
    #[inline(always)]
    unsafe fn vector<L: Lane<Element = E>, const FULL: bool>(&self, lane: L, place: usize, first: usize, count: usize) {
        let (row, weights) = (&self.rows[place], self.weights);
        // SAFETY: `first + count <= H`, and the caller guarantees H elements at each pointer (slots: S·H).
        unsafe {
            let mut slots = [lane.splat(E::ZERO); MAX_SLOTS];
            for slot in 0..C::SLOTS {
                slots[slot] = load::<L, FULL>(lane, row.slots.add(slot * self.hidden + first), count);
            }
            let c = load::<L, FULL>(lane, row.proposed.add(first), count);
            let weight = load::<L, FULL>(lane, weights.cell[first..].as_ptr(), count);
            let bias = load::<L, FULL>(lane, weights.cell_bias[first..].as_ptr(), count);
            let h = C::read_out(lane, &slots, lane.fma(weight, normalised(lane, self.moments[place], c), bias));
            conclude::<C, L, FULL>(lane, row, self.masks.get(place), first, count, [h, c]);
        }
    }
}
