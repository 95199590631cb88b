//! Backward through time, one direction:
//!
//! - dh_t = dy_t + (the gradient from step t+1) goes into the transposed map, which yields ds;
//! - dh_(t-1) = (what bypasses the products) + W_hh' ds, against the reading order; where the products took
//!   u = m h_(t-1), m the mask of recurrent dropout, it is du = W_hh' ds and dh_(t-1) = (...) + m du.

use core::marker::PhantomData;
use core::ops::Range;

use throughline_simd::{Element as _, Kernel, Lane};

use crate::Element;

use super::super::batch::{Direction, Previous};
use super::super::layer::{PackedDirection, Scratch};
use super::super::regularisation::{RowMasks, WorkerMasks};
use super::super::shape::LayerShape;
use super::super::step_input::{StepAt, StepBackward, StepInput};
use super::super::tape::DirectionTape;
use super::super::{GROUP, Share, load, store};
use super::{Pass, RowSources};
use crate::cells::{Backward, Cell, Dropout, MAX_SLOTS, Operand, Phase, TINY_GRADIENT, with_cell, zoneout};
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
        let mut memory = core::mem::take(&mut scratch.masks);
        let units = [self.units.clone(), self.units.clone()];
        let masks = WorkerMasks::new(self.pass.inputs, self.rows.index, self.columns.clone(), units, &mut memory);
        for done in 0..steps.len() {
            let t = match self.rows.direction {
                Direction::Forward => steps.end - 1 - done,
                Direction::Reverse => steps.start + done,
            };
            self.step(t, masks.as_ref(), scratch);
        }
        scratch.masks = memory;
    }

    /// Place of a column's state gradient in `[D, B, H]`.
    fn state(&self, column: usize) -> usize {
        (self.rows.index * self.rows.batch.batch() + column) * self.shape.hidden
    }

    /// One time step of all columns that are alive, a group of rows at a time.
    fn step(&self, t: usize, masks: Option<&WorkerMasks<'_, E>>, scratch: &mut Scratch<E>) {
        let (cell, memory) = (self.shape.cell, self.pass.rows[self.rows.index]);
        let columns = self.columns.start..self.columns.end.min(self.rows.batch.batch_sizes()[t]);
        let groups = || columns.clone().step_by(GROUP).map(|start| start..columns.end.min(start + GROUP));
        let rows = &mut List::new();
        for (index, phase) in cell.phases().iter().enumerate().rev() {
            for columns in groups() {
                self.map_rows(t, columns.clone(), rows);
                let mut of_rows: List<RowMasks<E>, GROUP> = List::new();
                if let Some(masks) = masks {
                    if index + 1 == cell.phases().len() {
                        masks.draw(t, columns.clone());
                    }
                    for (place, column) in columns.clone().enumerate() {
                        let operand =
                            self.pass.operand(self.rows.index, self.first_row, self.rows.batch.row(t, column));
                        of_rows.push(RowMasks { operand, ..masks.row(place, column) });
                    }
                }
                if let (Some(weights), Some(gradients)) = (&self.packed.normalisation, memory.sums) {
                    if cell.has_cell_state() && index + 1 == cell.phases().len() {
                        self.back_through_read_out(t, columns.clone(), weights, gradients, rows, &of_rows);
                    }
                    self.map(index, rows, &of_rows);
                    self.back_through_normalisation(index, t, columns, weights, gradients);
                } else {
                    self.map(index, rows, &of_rows);
                }
            }
            // The product reads what all workers have mapped.
            self.share.barrier();
            for columns in groups() {
                self.map_rows(t, columns.clone(), rows);
                match masks {
                    Some(masks) if masks.drops_hidden() && phase.operand == Operand::Hidden => {
                        self.products_through_dropout(index, phase, columns, masks, rows);
                    }
                    _ => self.products(index, phase, rows),
                }
            }
        }
        for columns in groups() {
            if let Some(hook) = self.pass.inputs.step_input {
                self.map_rows(t, columns.clone(), rows);
                self.back_through_hook(hook, t, columns.clone(), rows, scratch);
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

    /// Makes `rows` those of a group of columns.
    fn map_rows<'a>(&'a self, t: usize, columns: Range<usize>, rows: &mut List<MapRow<'a, E>, GROUP>) {
        let LayerShape { cell, hidden, .. } = self.shape;
        let (batch, width, has_c) = (self.rows.batch, self.shape.slot_width(), cell.has_cell_state());
        let nothing: &[E] = &[];
        let memory = self.pass.rows[self.rows.index];
        let kept = |memory: Disjoint<'_, E>, row: usize| match memory.length() {
            0 => core::ptr::null_mut(),
            _ => memory.at(row * hidden),
        };
        rows.clear();
        for column in columns {
            let row = batch.row(t, column);
            let dh = self.pass.dh.at(self.state(column));
            rows.push(MapRow {
                slots: &self.tape.slots[row * width..][..width],
                h_previous: self.rows.h_previous(t, column),
                c_previous: if has_c { self.rows.c_previous(self.tape, t, column) } else { nothing },
                dy: match self.pass.dy {
                    Some(dy) => &dy[row * self.shape.output() + self.rows.index * hidden..][..hidden],
                    None => nothing,
                },
                d_slots: self.pass.d_slots(self.rows.index, self.first_row, row),
                d_sums: self.pass.d_hidden_sums(self.rows.index, self.first_row, row),
                d_proposed: match memory.sums {
                    Some(sums) if has_c => sums.proposed.at((row - self.first_row) * hidden),
                    _ => core::ptr::null_mut(),
                },
                dh,
                d_operand: dh,
                dc: if has_c { self.pass.dc.at(self.state(column)) } else { core::ptr::null_mut() },
                dh_total: kept(memory.hidden, row),
                dc_total: kept(memory.cell, row),
            });
        }
    }

    /// Without regularisers there are no masks.
    fn map(&self, index: usize, rows: &[MapRow<'_, E>], masks: &[RowMasks<E>]) {
        if masks.is_empty() {
            self.run_map::<false>(index, rows, masks);
        } else {
            self.run_map::<true>(index, rows, masks);
        }
    }

    fn run_map<const REGULARISED: bool>(&self, index: usize, rows: &[MapRow<'_, E>], masks: &[RowMasks<E>]) {
        let (cell, hidden, units) = (self.shape.cell, self.shape.hidden, self.units.clone());
        // The pointers of the rows are valid for H (slots: S·H) elements; these units of those written belong to this
        // worker's columns.
        with_cell!(cell, C => E::dispatch(
            self.pass.inputs.layer.isa,
            Map::<C, E, REGULARISED> { phase: index, hidden, units, rows, masks, cell: PhantomData }
        ));
    }

    /// The gradient of the operand of phase `index` through its product.
    fn products(&self, index: usize, phase: &Phase, rows: &[MapRow<'_, E>]) {
        for (gate, slot, count) in phase.runs() {
            self.product(index, phase.operand, gate, slot, count, rows);
        }
    }

    /// The same where the operand is m h_(t-1): dh_(t-1) += m du.
    fn products_through_dropout(
        &self,
        index: usize,
        phase: &Phase,
        columns: Range<usize>,
        masks: &WorkerMasks<'_, E>,
        rows: &[MapRow<'_, E>],
    ) {
        let mut through: List<MapRow<'_, E>, GROUP> = List::new();
        for (place, row) in rows.iter().enumerate() {
            through.push(MapRow { d_operand: masks.operand_gradient(place), ..*row });
        }
        self.products(index, phase, &through);
        for ((place, column), row) in columns.enumerate().zip(&*through) {
            let (units, m) = (self.units.clone(), masks.row(place, column).hidden);
            // The row's mask and the gradients of its operand and state have H elements, and these units of the
            // gradients belong to this worker.
            E::dispatch(self.pass.inputs.layer.isa, AddThroughDropout { units, m, du: row.d_operand, dh: row.dh });
        }
    }

    /// `count` gates of phase `index`, which stand in the slots from `slot`: the gradient of their operand.
    fn product(&self, index: usize, operand: Operand, gate: usize, slot: usize, count: usize, rows: &[MapRow<'_, E>]) {
        let hidden = self.shape.hidden;
        let mut group = RowGroup::default();
        for row in rows {
            let to = match operand {
                Operand::Hidden => row.d_operand,
                Operand::Slot(slot) => row.d_slots.wrapping_add(slot * hidden),
            };
            group.push(row.d_sums.wrapping_add(slot * hidden).cast_const(), to);
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
pub(super) struct MapRow<'a, E> {
    pub slots: &'a [E],
    h_previous: &'a [E],
    c_previous: &'a [E],
    dy: &'a [E],
    pub d_slots: *mut E,
    /// The gradient of what the products with the state added up: that of the slots, unless it was normalised first.
    d_sums: *mut E,
    /// The gradient of c' through what was read out of it, where the slot gradients of that are there too; null where it
    /// is read out in the cell's map.
    pub d_proposed: *mut E,
    dh: *mut E,
    /// Where the products add the gradient of what they took of h_(t-1).
    d_operand: *mut E,
    dc: *mut E,
    /// Where the whole gradients of h_t and c_t are kept; null for nowhere.
    dh_total: *mut E,
    dc_total: *mut E,
}

/// The transpose of the cell's map before one product's transpose, for the rows of a step. Only a REGULARISED one reads
/// masks.
struct Map<'a, C, E, const REGULARISED: bool> {
    cell: PhantomData<C>,
    phase: usize,
    hidden: usize,
    units: Range<usize>,
    rows: &'a [MapRow<'a, E>],
    /// Of each row; empty unless REGULARISED.
    masks: &'a [RowMasks<E>],
}

impl<C: Cell, E: Element, const REGULARISED: bool> Kernel<E> for Map<'_, C, E, REGULARISED> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        let Range { start, end } = self.units;
        for (place, row) in self.rows.iter().enumerate() {
            for first in (start..end).step_by(L::WIDTH) {
                // SAFETY: the units lie below H, and `map_rows` made every pointer valid for H elements (slots: S·H).
                unsafe {
                    if end - first >= L::WIDTH {
                        self.vector::<L, true>(lane, place, row, first, L::WIDTH);
                    } else {
                        self.vector::<L, false>(lane, place, row, first, end - first);
                    }
                }
            }
        }
    }
}

impl<C: Cell, E: Element, const REGULARISED: bool> Map<'_, C, E, REGULARISED> {
    /// Units `first .. first + count` of the row in place `place`.
    ///
    /// # Safety
    /// They lie below H, and every pointer of the row that the cell uses is valid for H elements (slots: S·H).
    #[inline(always)]
    unsafe fn vector<L: Lane<Element = E>, const FULL: bool>(
        &self,
        lane: L,
        place: usize,
        row: &MapRow<'_, E>,
        first: usize,
        count: usize,
    ) {
        let runs_first = self.phase + 1 == C::PHASES.len();
        // SAFETY: `first + count <= H`, and the caller guarantees H elements (slots: S·H) in every slice and at every
        // pointer. The c's of a cell without cell state and an empty dy are never touched, and masks only where there
        // are any.
        unsafe {
            let tiny = E::from_f64(TINY_GRADIENT);
            let zero = lane.splat(E::ZERO);
            let (mut slots, mut d) = ([zero; MAX_SLOTS], [zero; MAX_SLOTS]);
            for slot in 0..C::SLOTS {
                slots[slot] = load::<L, FULL>(lane, row.slots.as_ptr().add(slot * self.hidden + first), count);
                if !runs_first || !row.d_proposed.is_null() {
                    d[slot] = load::<L, FULL>(lane, row.d_slots.add(slot * self.hidden + first), count);
                }
            }
            let (mut dh, mut dc, mut c_previous) = (load::<L, FULL>(lane, row.dh.add(first), count), zero, zero);
            if runs_first {
                dh = hidden_gradient::<L, FULL>(lane, row, first, count);
                if !row.dh_total.is_null() {
                    store::<L, FULL>(lane, row.dh_total.add(first), count, dh);
                }
            }
            if C::HAS_CELL_STATE {
                dc = lane.flush_below(tiny, load::<L, FULL>(lane, row.dc.add(first), count));
                c_previous = load::<L, FULL>(lane, row.c_previous.as_ptr().add(first), count);
            }
            let h_previous = load::<L, FULL>(lane, row.h_previous.as_ptr().add(first), count);
            let one = lane.splat(E::ONE);
            let mut dropout = Dropout { hidden: one, candidate: one };
            // What of the gradients of h_t and c_t goes to the states before by zoneout.
            let (mut kept_dh, mut kept_dc) = (zero, zero);
            if REGULARISED {
                dropout.hidden = load::<L, FULL>(lane, self.masks[place].hidden.add(first), count);
                dropout.candidate = load::<L, FULL>(lane, self.masks[place].candidate.add(first), count);
                if runs_first {
                    let keep = load::<L, FULL>(lane, self.masks[place].keep_hidden.add(first), count);
                    [kept_dh, dh] = zoneout::backward(lane, keep, dh);
                    if C::HAS_CELL_STATE {
                        let keep = load::<L, FULL>(lane, self.masks[place].keep_cell.add(first), count);
                        [kept_dc, dc] = zoneout::backward(lane, keep, dc);
                    }
                    if !self.masks[place].operand.is_null() {
                        store::<L, FULL>(
                            lane,
                            self.masks[place].operand.add(first),
                            count,
                            lane.mul(h_previous, dropout.hidden),
                        );
                    }
                }
            }
            let mut unit = Backward { slots, d, h_previous, c_previous, dh, dc, dropout };
            if C::HAS_CELL_STATE && runs_first {
                if row.d_proposed.is_null() {
                    C::read_out_backward(lane, C::cell_state(lane, &unit), &mut unit);
                } else {
                    unit.dc = lane.add(unit.dc, load::<L, FULL>(lane, row.d_proposed.add(first), count));
                }
                if !row.dc_total.is_null() {
                    store::<L, FULL>(lane, row.dc_total.add(first), count, unit.dc);
                }
            }
            C::backward(lane, self.phase, &mut unit);
            if REGULARISED && runs_first {
                unit.dh = lane.add(unit.dh, kept_dh);
                unit.dc = lane.add(unit.dc, kept_dc);
            }
            for slot in 0..C::SLOTS {
                if runs_first || C::PHASES[self.phase].slots.contains(&slot) {
                    store::<L, FULL>(lane, row.d_slots.add(slot * self.hidden + first), count, unit.d[slot]);
                }
            }
            store::<L, FULL>(lane, row.dh.add(first), count, unit.dh);
            if C::HAS_CELL_STATE {
                store::<L, FULL>(lane, row.dc.add(first), count, unit.dc);
            }
        }
    }
}

/// The whole gradient of h_t, tiny values taken as 0: units `first .. first + count` of a row.
///
/// # Safety
/// They lie below H; dh and dy, unless that is empty, have H elements.
#[inline(always)]
pub(super) unsafe fn hidden_gradient<L: Lane, const FULL: bool>(
    lane: L,
    row: &MapRow<'_, L::Element>,
    first: usize,
    count: usize,
) -> L::Vector {
    // SAFETY: `first + count <= H`, and the caller guarantees H elements.
    unsafe {
        let mut dh = load::<L, FULL>(lane, row.dh.add(first), count);
        if !row.dy.is_empty() {
            dh = lane.add(load::<L, FULL>(lane, row.dy.as_ptr().add(first), count), dh);
        }
        lane.flush_below(L::Element::from_f64(TINY_GRADIENT), dh)
    }
}

/// dh_(t-1) += m du for one row, m the mask of recurrent dropout and du the gradient of m h_(t-1).
struct AddThroughDropout<E> {
    units: Range<usize>,
    m: *const E,
    du: *const E,
    dh: *mut E,
}

impl<E: Element> Kernel<E> for AddThroughDropout<E> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        let Range { start, end } = self.units;
        for first in (start..end).step_by(L::WIDTH) {
            let count = L::WIDTH.min(end - first);
            // SAFETY: the units lie below H, and `products_through_dropout` passes pointers that are valid for H
            // elements.
            unsafe {
                let m = lane.load_first(self.m.add(first), count);
                let du = lane.load_first(self.du.add(first), count);
                let dh = lane.load_first(self.dh.add(first), count);
                lane.store_first(self.dh.add(first), count, lane.fma(m, du, dh));
            }
        }
    }
}
