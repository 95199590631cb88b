//! One product of a step and the cell's map after it, panel by panel.

use core::marker::PhantomData;
use core::ops::Range;

use throughline_simd::{Kernel, Lane};

use super::super::{load, maps, store};
use crate::Element;
use crate::cells::{Cell, Forward, MAX_SLOTS, TINY_STATE};
use crate::gemm::accumulate::accumulate_panel;
use crate::gemm::{Panels, RowGroup};

/// Rows from which on a panel is mapped before the next one is multiplied.
const FEW_ROWS: usize = 4;

/// The memory of one row of a step.
#[derive(Clone, Copy)]
pub(super) struct MapRow<E> {
    pub slots: *mut E,
    /// Where the slots are kept before they are mapped; null for nowhere.
    pub pre_activations: *mut E,
    pub h_previous: *const E,
    pub h: *mut E,
    pub c_previous: *const E,
    pub c: *mut E,
    /// Where else c is written; null for nowhere.
    pub c_tape: *mut E,
}

/// One product of a step and the cell's map, panel by panel: a panel holds all gates of its units, so they are mapped while
/// their sums are in the nearest cache.
pub(super) struct PhaseKernel<'a, C, E: Element> {
    pub cell: PhantomData<C>,
    pub index: usize,
    pub hidden: usize,
    pub panels: &'a Panels<E>,
    pub which: Range<usize>,
    pub group: &'a RowGroup<E>,
    pub rows: &'a [MapRow<E>],
}

impl<C: Cell, E: Element> Kernel<E> for PhaseKernel<'_, C, E> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        // The maps of a few rows are over sooner than what they read has left the cache, and go faster side by side.
        let together = if self.rows.len() < FEW_ROWS { self.which.len().max(1) } else { 1 };
        for first in self.which.clone().step_by(together) {
            let panels = first..self.which.end.min(first + together);
            for panel in panels.clone() {
                // SAFETY: whoever made the rows vouches for them; the panels' depth is H.
                unsafe { accumulate_panel(lane, self.panels, panel, 0..self.hidden, self.group) };
            }
            let per_panel = self.panels.units_per_panel();
            let (first, end) = (panels.start * per_panel, self.hidden.min(panels.end * per_panel));
            for row in self.rows {
                for first in (first..end).step_by(L::WIDTH) {
                    // SAFETY: the units lie below H, and whoever made the rows vouches for H elements behind every pointer.
                    unsafe {
                        if end - first >= L::WIDTH {
                            self.map::<L, true>(lane, row, first, L::WIDTH);
                        } else {
                            self.map::<L, false>(lane, row, first, end - first);
                        }
                    }
                }
            }
        }
    }
}

impl<C: Cell, E: Element> PhaseKernel<'_, C, E> {
    /// Units `first .. first + count` of one row.
    ///
    /// # Safety
    /// They lie below H, and every pointer of the row that the cell uses is valid for H elements (slots: S·H).
    #[inline(always)]
    unsafe fn map<L: Lane<Element = E>, const FULL: bool>(&self, lane: L, row: &MapRow<E>, first: usize, count: usize) {
        // SAFETY: `first + count <= H`, and the driver vouches for H elements behind each pointer (slots: S·H). A cell
        // without cell state never has its c pointers touched.
        unsafe {
            let zero = lane.splat(E::ZERO);
            let mut slots = [zero; MAX_SLOTS];
            for slot in 0..C::SLOTS {
                slots[slot] = load::<L, FULL>(lane, row.slots.add(slot * self.hidden + first), count);
                if !row.pre_activations.is_null() && maps::<C>(self.index, slot) {
                    let to = row.pre_activations.add(slot * self.hidden + first);
                    store::<L, FULL>(lane, to, count, slots[slot]);
                }
            }
            let c = if C::HAS_CELL_STATE { load::<L, FULL>(lane, row.c_previous.add(first), count) } else { zero };
            let mut unit = Forward { slots, h: load::<L, FULL>(lane, row.h_previous.add(first), count), c };
            C::forward(lane, self.index, &mut unit);
            for slot in 0..C::SLOTS {
                if maps::<C>(self.index, slot) {
                    store::<L, FULL>(lane, row.slots.add(slot * self.hidden + first), count, unit.slots[slot]);
                }
            }
            if self.index + 1 == C::PHASES.len() {
                store::<L, FULL>(lane, row.h.add(first), count, lane.flush_below(E::from_f64(TINY_STATE), unit.h));
                if C::HAS_CELL_STATE {
                    store::<L, FULL>(lane, row.c.add(first), count, unit.c);
                    if !row.c_tape.is_null() {
                        store::<L, FULL>(lane, row.c_tape.add(first), count, unit.c);
                    }
                }
            }
        }
    }
}
