//! Backward through time, one direction:
//!
//! - dh_t = dy_t + (the gradient from step t+1) goes into the transposed map, which yields ds;
//! - dh_(t-1) = (what bypasses the products) + W_hh' ds, against the reading order.

use core::marker::PhantomData;
use core::ops::Range;

use throughline_simd::{Kernel, Lane};

use crate::Element;

use super::super::batch::{Direction, Previous};
use super::super::layer::{PackedDirection, Scratch};
use super::super::shape::LayerShape;
use super::super::step_input::{StepAt, StepBackward, StepInput};
use super::super::tape::DirectionTape;
use super::super::{GROUP, Share, load, store};
use super::{Pass, RowSources};
use crate::cells::{Backward, Cell, MAX_SLOTS, Operand, TINY_GRADIENT, with_cell};
use crate::disjoint::Disjoint;
use crate::gemm::{RowGroup, accumulate};
use crate::list::List;

/// One worker's share of going back through a chunk: the units `units` of the columns `columns` in one direction.
pub(super) struct ThroughTime<'a, E> {
    pub pass: &'a Pass<'a, E>,
    pub shape: LayerShape,
    pub packed: &'a PackedDirection<E>,
    pub rows: RowSources<'a, E>,
    /// The chunk's first row.
    pub first_row: usize,
    pub columns: Range<usize>,
    pub units: Range<usize>,
    pub share: Share<'a>,
    pub tape: &'a DirectionTape<E>,
}

impl<E: Element> ThroughTime<'_, E> {
    pub fn run(&self, steps: Range<usize>, scratch: &mut Scratch<E>) {
        for done in 0..steps.len() {
            let t = match self.rows.direction {
                Direction::Forward => steps.end - 1 - done,
                Direction::Reverse => steps.start + done,
            };
            self.step(t, scratch);
        }
    }

    /// Place of a column's state gradient in `[D, B, H]`.
    fn state(&self, column: usize) -> usize {
        (self.rows.index * self.rows.batch.batch() + column) * self.shape.hidden
    }

    /// One time step of all columns that are alive, a group of rows at a time.
    fn step(&self, t: usize, scratch: &mut Scratch<E>) {
        let cell = self.shape.cell;
        let columns = self.columns.start..self.columns.end.min(self.rows.batch.batch_sizes()[t]);
        let groups = || columns.clone().step_by(GROUP).map(|start| start..columns.end.min(start + GROUP));
        for (index, phase) in cell.phases().iter().enumerate().rev() {
            for columns in groups() {
                self.map(index, &self.map_rows(t, columns));
            }
            // The product reads what all workers have mapped.
            self.share.barrier();
            for columns in groups() {
                let rows = self.map_rows(t, columns);
                for (gate, slot, count) in phase.runs() {
                    self.product(index, phase.operand, gate, slot, count, &rows);
                }
            }
        }
        for columns in groups() {
            if let Some(hook) = self.pass.inputs.step_input {
                self.back_through_hook(hook, t, columns.clone(), &self.map_rows(t, columns.clone()), scratch);
            }
            for column in columns {
                if self.rows.previous(t, column) == Previous::Restart {
                    self.leave_at_boundary(self.pass.dh, self.pass.restart_h, column);
                    if cell.has_cell_state() {
                        self.leave_at_boundary(self.pass.dc, self.pass.restart_c, column);
                    }
                }
            }
        }
    }

    fn map_rows(&self, t: usize, columns: Range<usize>) -> List<MapRow<'_, E>, GROUP> {
        let LayerShape { cell, hidden, .. } = self.shape;
        let (batch, width, has_c) = (self.rows.batch, self.shape.slot_width(), cell.has_cell_state());
        let nothing: &[E] = &[];
        let memory = self.pass.rows[self.rows.index];
        let kept = |memory: Disjoint<'_, E>, row: usize| match memory.length() {
            0 => core::ptr::null_mut(),
            _ => memory.at(row * hidden),
        };
        let mut rows = List::new();
        for column in columns {
            let row = batch.row(t, column);
            rows.push(MapRow {
                slots: &self.tape.slots[row * width..][..width],
                h_previous: self.rows.h_previous(t, column),
                c_previous: if has_c { self.rows.c_previous(self.tape, t, column) } else { nothing },
                c: if has_c { &self.tape.cell[row * hidden..][..hidden] } else { nothing },
                dy: match self.pass.dy {
                    Some(dy) => &dy[row * self.shape.output() + self.rows.index * hidden..][..hidden],
                    None => nothing,
                },
                d_slots: self.pass.d_slots(self.rows.index, self.first_row, row),
                dh: self.pass.dh.at(self.state(column)),
                dc: if has_c { self.pass.dc.at(self.state(column)) } else { core::ptr::null_mut() },
                dh_total: kept(memory.hidden, row),
                dc_total: kept(memory.cell, row),
            });
        }
        rows
    }

    fn map(&self, index: usize, rows: &[MapRow<'_, E>]) {
        let (cell, hidden, units) = (self.shape.cell, self.shape.hidden, self.units.clone());
        // The pointers of the rows are valid for H (slots: S·H) elements; these units of those written belong to this
        // worker's columns.
        with_cell!(cell, C => E::dispatch(
            self.pass.inputs.layer.isa,
            Map::<C, E> { phase: index, hidden, units, rows, cell: PhantomData }
        ));
    }

    /// `count` gates of phase `index`, which stand in the slots from `slot`: the gradient of their operand.
    fn product(&self, index: usize, operand: Operand, gate: usize, slot: usize, count: usize, rows: &[MapRow<'_, E>]) {
        let hidden = self.shape.hidden;
        let mut group = RowGroup::default();
        for row in rows {
            let to = match operand {
                Operand::Hidden => row.dh,
                Operand::Slot(slot) => row.d_slots.wrapping_add(slot * hidden),
            };
            group.push(row.d_slots.wrapping_add(slot * hidden).cast_const(), to);
        }
        let panels = &self.packed.hidden_back[index];
        let k = gate * hidden..(gate + count) * hidden;
        // SAFETY: count·H slot gradients of each row are read, which all workers that share the rows finished before
        // the barrier in `step`; these units of the operand's gradient are written, which are other slots or the
        // state's gradient and belong to this worker alone.
        unsafe { accumulate(self.pass.inputs.layer.isa, panels, panels.of_units(self.units.clone()), k, &group) };
    }

    /// The gradient that reaches a boundary belongs to the restart state; none crosses.
    fn leave_at_boundary(&self, state: Disjoint<'_, E>, restart: Disjoint<'_, E>, column: usize) {
        let first = self.state(column);
        let units = first + self.units.start..first + self.units.end;
        // SAFETY: these units of this column belong to this worker alone, and the two arrays are different.
        let (state, restart) = unsafe { (state.slice(units.clone()), restart.slice(units)) };
        for (restart, gradient) in restart.iter_mut().zip(state) {
            *restart = *restart + core::mem::take(gradient);
        }
    }

    fn back_through_hook(
        &self,
        hook: &dyn StepInput<E>,
        t: usize,
        columns: Range<usize>,
        rows: &[MapRow<'_, E>],
        scratch: &mut Scratch<E>,
    ) {
        let LayerShape { hidden, extra: width, cell, .. } = self.shape;
        let first = self.rows.batch.row(t, columns.start);
        let Scratch { extra: d_extra, gathered, .. } = scratch;
        let d_extra = d_extra.at_least(rows.len() * width);
        d_extra.fill(E::ZERO);
        let mut group = RowGroup::default();
        for (row, d_extra) in rows.iter().zip(d_extra.chunks_mut(width)) {
            group.push(row.d_slots.cast_const(), d_extra.as_mut_ptr());
        }
        let panels = &self.packed.extra_back;
        // SAFETY: G·H slot gradients of each row are read (slot g is gate g's input term), `width` elements written.
        unsafe { accumulate(self.pass.inputs.layer.isa, panels, 0..panels.count(), 0..cell.gates() * hidden, &group) };
        let h_previous = gathered.at_least(rows.len() * hidden);
        for (row, h) in rows.iter().zip(h_previous.chunks_mut(hidden)) {
            h.copy_from_slice(row.h_previous);
        }
        let extra = &self.tape.extra[first * width..][..rows.len() * width];
        let states = self.state(columns.start)..self.state(columns.end);
        // SAFETY: the state gradients of consecutive columns are contiguous and belong to this worker alone.
        let dh = unsafe { self.pass.dh.slice(states) };
        let at = StepAt { direction: self.rows.direction, time: self.rows.batch.first_step() + t, columns };
        let of_row = hook.memory();
        let memory = self.pass.step_memory[self.rows.index];
        // SAFETY: the rows of consecutive columns of a step are contiguous and belong to this worker alone.
        let memory = unsafe { memory.slice(first * of_row..(first + rows.len()) * of_row) };
        hook.backward(at, StepBackward { h_previous, extra, d_extra, memory, dh_previous: dh });
    }
}

/// The memory of one row of a step; `dy` is empty for zero, the c's are empty for a cell without cell state.
#[derive(Clone, Copy)]
struct MapRow<'a, E> {
    slots: &'a [E],
    h_previous: &'a [E],
    c_previous: &'a [E],
    c: &'a [E],
    dy: &'a [E],
    d_slots: *mut E,
    dh: *mut E,
    dc: *mut E,
    /// Where the whole gradients of h_t and c_t are kept; null for nowhere.
    dh_total: *mut E,
    dc_total: *mut E,
}

/// The transpose of the cell's map before one product's transpose, for the rows of a step.
struct Map<'a, C, E> {
    cell: PhantomData<C>,
    phase: usize,
    hidden: usize,
    units: Range<usize>,
    rows: &'a [MapRow<'a, E>],
}

impl<C: Cell, E: Element> Kernel<E> for Map<'_, C, E> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        let Range { start, end } = self.units;
        for row in self.rows {
            for first in (start..end).step_by(L::WIDTH) {
                // SAFETY: the units lie below H, and `map_rows` made every pointer valid for H elements (slots: S·H).
                unsafe {
                    if end - first >= L::WIDTH {
                        self.vector::<L, true>(lane, row, first, L::WIDTH);
                    } else {
                        self.vector::<L, false>(lane, row, first, end - first);
                    }
                }
            }
        }
    }
}

impl<C: Cell, E: Element> Map<'_, C, E> {
    /// Units `first .. first + count` of one row.
    ///
    /// # Safety
    /// They lie below H, and every pointer of the row that the cell uses is valid for H elements (slots: S·H).
    #[inline(always)]
    unsafe fn vector<L: Lane<Element = E>, const FULL: bool>(
        &self,
        lane: L,
        row: &MapRow<'_, E>,
        first: usize,
        count: usize,
    ) {
        let runs_first = self.phase + 1 == C::PHASES.len();
        // SAFETY: `first + count <= H`, and the caller guarantees H elements (slots: S·H) in every slice and at every
        // pointer. The c's of a cell without cell state and an empty dy are never touched.
        unsafe {
            let tiny = E::from_f64(TINY_GRADIENT);
            let zero = lane.splat(E::ZERO);
            let (mut slots, mut d) = ([zero; MAX_SLOTS], [zero; MAX_SLOTS]);
            for slot in 0..C::SLOTS {
                slots[slot] = load::<L, FULL>(lane, row.slots.as_ptr().add(slot * self.hidden + first), count);
                if !runs_first {
                    d[slot] = load::<L, FULL>(lane, row.d_slots.add(slot * self.hidden + first), count);
                }
            }
            let (mut dh, mut dc, mut c, mut c_previous) =
                (load::<L, FULL>(lane, row.dh.add(first), count), zero, zero, zero);
            if runs_first {
                if !row.dy.is_empty() {
                    dh = lane.add(load::<L, FULL>(lane, row.dy.as_ptr().add(first), count), dh);
                }
                dh = lane.flush_below(tiny, dh);
                if !row.dh_total.is_null() {
                    store::<L, FULL>(lane, row.dh_total.add(first), count, dh);
                }
            }
            if C::HAS_CELL_STATE {
                dc = lane.flush_below(tiny, load::<L, FULL>(lane, row.dc.add(first), count));
                c = load::<L, FULL>(lane, row.c.as_ptr().add(first), count);
                c_previous = load::<L, FULL>(lane, row.c_previous.as_ptr().add(first), count);
            }
            let mut unit = Backward {
                slots,
                d,
                h_previous: load::<L, FULL>(lane, row.h_previous.as_ptr().add(first), count),
                c_previous,
                c,
                dh,
                dc,
                dc_total: zero,
            };
            C::backward(lane, self.phase, &mut unit);
            for slot in 0..C::SLOTS {
                if runs_first || C::PHASES[self.phase].slots.contains(&slot) {
                    store::<L, FULL>(lane, row.d_slots.add(slot * self.hidden + first), count, unit.d[slot]);
                }
            }
            store::<L, FULL>(lane, row.dh.add(first), count, unit.dh);
            if C::HAS_CELL_STATE {
                store::<L, FULL>(lane, row.dc.add(first), count, unit.dc);
                if runs_first && !row.dc_total.is_null() {
                    store::<L, FULL>(lane, row.dc_total.add(first), count, unit.dc_total);
                }
            }
        }
    }
}
