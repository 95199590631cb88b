//! One product of a step and the cell's map after it, panel by panel.

use core::marker::PhantomData;
use core::ops::Range;

use throughline_simd::{Element as _, Kernel, Lane};

use super::super::regularisation::RowMasks;
use super::super::{load, maps, store};
use crate::Element;
use crate::cells::{Cell, Dropout, Forward, MAX_SLOTS, TINY_STATE, zoneout};
use crate::gemm::accumulate::accumulate_panel;
use crate::gemm::{Panels, RowGroup};

/// With at least so many rows, each panel is mapped before the next one is multiplied.
const FEW_ROWS: usize = 4;

/// The memory of one row of a step.
#[derive(Clone, Copy)]
pub(super) struct MapRow<E> {
    /// Its place in the memory of sums.
    pub place: usize,
    pub slots: *mut E,
    /// Where the slots are kept before they are mapped; null for nowhere.
    pub pre_activations: *mut E,
    pub h_previous: *const E,
    pub h: *mut E,
    pub c_previous: *const E,
    pub c: *mut E,
    /// Where c is also written; null for nowhere.
    pub c_tape: *mut E,
    /// Where c' is written instead, to be normalised before it is read out; null where it is read out at once.
    pub proposed: *mut E,
}

/// One product of a step and the cell's map, panel by panel: a panel holds all gates of its units, so they are mapped
/// while their sums are in the nearest cache. Only a REGULARISED one reads masks.
pub(super) struct PhaseKernel<'a, C, E: Element, const REGULARISED: bool> {
    pub cell: PhantomData<C>,
    pub index: usize,
    pub hidden: usize,
    pub panels: &'a Panels<E>,
    pub which: Range<usize>,
    pub group: &'a RowGroup<E>,
    pub rows: &'a [MapRow<E>],
    /// Of each row; empty unless REGULARISED.
    pub masks: &'a [RowMasks<E>],
}

impl<C: Cell, E: Element, const REGULARISED: bool> Kernel<E> for PhaseKernel<'_, C, E, REGULARISED> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        // The sums of a few rows stay in the cache over all panels, and their maps are faster one right after another.
        let together = if self.rows.len() < FEW_ROWS { self.which.len().max(1) } else { 1 };
        for first in self.which.clone().step_by(together) {
            let panels = first..self.which.end.min(first + together);
            for panel in panels.clone() {
                // SAFETY: `DirectionForward::phase` made the group: its operands have H elements, the depth of the
                // panels, and these units of the slots belong to this task alone.
                unsafe { accumulate_panel(lane, self.panels, panel, 0..self.hidden, self.group) };
            }
            let per_panel = self.panels.units_per_panel();
            let (first, end) = (panels.start * per_panel, self.hidden.min(panels.end * per_panel));
            for (place, row) in self.rows.iter().enumerate() {
                for first in (first..end).step_by(L::WIDTH) {
                    // SAFETY: the units lie below H, and `map_row` made every pointer valid for H elements (slots:
                    // S·H).
                    unsafe {
                        if end - first >= L::WIDTH {
                            self.map::<L, true>(lane, place, row, first, L::WIDTH);
                        } else {
                            self.map::<L, false>(lane, place, row, first, end - first);
                        }
                    }
                }
            }
        }
    }
}

impl<C: Cell, E: Element, const REGULARISED: bool> PhaseKernel<'_, C, E, REGULARISED> {
    /// Units `first .. first + count` of the row in place `place`.
    ///
    /// # Safety
    /// They lie below H, and every pointer of the row that the cell uses is valid for H elements (slots: S·H).
    #[inline(always)]
    unsafe fn map<L: Lane<Element = E>, const FULL: bool>(
        &self,
        lane: L,
        place: usize,
        row: &MapRow<E>,
        first: usize,
        count: usize,
    ) {
        // SAFETY: `first + count <= H`, and the caller guarantees H elements at each pointer (slots: S·H). The c
        // pointers of a cell without cell state are never touched, and masks only where there are any.
        unsafe {
            let zero = lane.splat(E::ZERO);
            let mut slots = [zero; MAX_SLOTS];
            for slot in 0..C::SLOTS {
                slots[slot] = load::<L, FULL>(lane, row.slots.add(slot * self.hidden + first), count);
            }
            let c = if C::HAS_CELL_STATE { load::<L, FULL>(lane, row.c_previous.add(first), count) } else { zero };
            let h = load::<L, FULL>(lane, row.h_previous.add(first), count);
            let one = lane.splat(E::ONE);
            let mut dropout = Dropout { hidden: one, candidate: one };
            if REGULARISED {
                dropout.hidden = load::<L, FULL>(lane, self.masks[place].hidden.add(first), count);
                dropout.candidate = load::<L, FULL>(lane, self.masks[place].candidate.add(first), count);
            }
            let mut unit = Forward { slots, h, c, dropout };
            C::forward(lane, self.index, &mut unit);
            if !row.pre_activations.is_null() {
                let before = C::pre_activations(lane, slots, &unit.slots);
                for slot in 0..C::SLOTS {
                    if maps::<C>(self.index, slot) {
                        let to = row.pre_activations.add(slot * self.hidden + first);
                        store::<L, FULL>(lane, to, count, before[slot]);
                    }
                }
            }
            for slot in 0..C::SLOTS {
                if maps::<C>(self.index, slot) {
                    store::<L, FULL>(lane, row.slots.add(slot * self.hidden + first), count, unit.slots[slot]);
                }
            }
            if self.index + 1 == C::PHASES.len() {
                if C::HAS_CELL_STATE && !row.proposed.is_null() {
                    store::<L, FULL>(lane, row.proposed.add(first), count, unit.c);
                    return;
                }
                if C::HAS_CELL_STATE {
                    unit.h = C::read_out(lane, &unit.slots, unit.c);
                }
                let masks = if REGULARISED { Some(&self.masks[place]) } else { None };
                conclude::<C, L, FULL>(lane, row, masks, first, count, [unit.h, unit.c]);
            }
        }
    }
}

/// The end of a step for units `first .. first + count` of a row: zoneout of h' and c', and what is kept of them.
///
/// # Safety
/// They lie below H, and every pointer of the row and its masks that the cell uses is valid for H elements.
#[inline(always)]
pub(super) unsafe fn conclude<C: Cell, L: Lane, const FULL: bool>(
    lane: L,
    row: &MapRow<L::Element>,
    masks: Option<&RowMasks<L::Element>>,
    first: usize,
    count: usize,
    [mut h, mut c]: [L::Vector; 2],
) {
    let tiny = L::Element::from_f64(TINY_STATE);
    // SAFETY: `first + count <= H`, and the caller guarantees H elements at each pointer. The c pointers of a cell
    // without cell state are never touched.
    unsafe {
        if let Some(masks) = masks {
            let keep = load::<L, FULL>(lane, masks.keep_hidden.add(first), count);
            h = zoneout::forward(lane, keep, load::<L, FULL>(lane, row.h_previous.add(first), count), h);
            if C::HAS_CELL_STATE {
                let keep = load::<L, FULL>(lane, masks.keep_cell.add(first), count);
                let previous = load::<L, FULL>(lane, row.c_previous.add(first), count);
                c = lane.flush_below(tiny, zoneout::forward(lane, keep, previous, c));
            }
        }
        store::<L, FULL>(lane, row.h.add(first), count, lane.flush_below(tiny, h));
        if C::HAS_CELL_STATE {
            store::<L, FULL>(lane, row.c.add(first), count, c);
            if !row.c_tape.is_null() {
                store::<L, FULL>(lane, row.c_tape.add(first), count, c);
            }
        }
    }
}
