//! One layer forward: every direction over a whole ragged batch.
//!
//! Each task owns one direction of a run of columns (whole sequences), so a layer is one fork and join. A task goes through
//! time in chunks: first the input product of all the chunk's rows, W_ih x, as the prefix of each row's chain; then, step by
//! step, the products with the state go on with those chains and the cell maps them. A chunk is small enough that its rows
//! are still in the cache when their step comes.

use core::marker::PhantomData;
use core::ops::Range;

use throughline_simd::{Element, Isa, Kernel, Lane};

use super::batch::{Direction, Previous, Ragged};
use super::plan::{LayerShape, PackedDirection, PackedLayer, Scratch};
use super::step_input::{StepAt, StepInput};
use super::tape::{DirectionTape, Tape};
use super::{GROUP, load, store};
use crate::buffer::Buffer;
use crate::cells::{Cell, Forward, MAX_SLOTS, Operand, TINY_STATE, with_cell};
use crate::disjoint::Disjoint;
use crate::gemm::{RowGroup, accumulate};
use crate::threads::Threads;

/// Rows whose input products are computed together.
const CHUNK: usize = 96;

/// The states a layer starts from.
#[derive(Clone, Copy, Debug)]
pub struct InitialStates<'a, E> {
    /// `[D, B, H]`: the hidden state with which a direction enters each column.
    pub h: &'a [E],
    /// `[D, B, H]`, empty for a cell without cell state.
    pub c: &'a [E],
    /// `[D, H]`: the hidden state after a boundary; may be empty where the batch has none.
    pub restart_h: &'a [E],
    /// `[D, H]`: the cell state after a boundary; may be empty where there is none.
    pub restart_c: &'a [E],
}

impl<E> InitialStates<'_, E> {
    pub(super) fn check(&self, shape: &LayerShape, batch: &Ragged) {
        let states = shape.directions * batch.batch() * shape.hidden;
        let restarts = if batch.restarts() > 0 { shape.directions * shape.hidden } else { 0 };
        assert_eq!(self.h.len(), states, "h is [D, B, H]");
        assert!(self.restart_h.len() >= restarts, "a batch with resets needs restart states [D, H]");
        if shape.cell.has_cell_state() {
            assert_eq!(self.c.len(), states, "c is [D, B, H]");
            assert!(self.restart_c.len() >= restarts, "a batch with resets needs restart cell states [D, H]");
        }
    }
}

/// What forward keeps.
#[derive(Debug)]
pub enum Record<'a, E> {
    /// Nothing: inference.
    Nothing,
    /// All that backward and inspection need.
    Tape(&'a mut Tape<E>),
}

/// Runs a layer over a batch.
///
/// | array | shape | |
/// |---|---|---|
/// | `x` | `[N, I]` | packed rows |
/// | `initial` | `[D, B, H]` | in column order |
/// | `y` | `[N, D·H]` | overwritten; direction d in columns d·H.. |
/// | `h_n`, `c_n` | `[D, B, H]` | overwritten with the states after each column's last row |
/// | `scratch` | one for each thread | |
///
/// # Panics
/// If an array has another length, or `step_input` is missing for a layer with extra columns.
#[allow(clippy::too_many_arguments)]
pub fn forward<E: Element>(
    layer: &PackedLayer<E>,
    threads: &Threads,
    batch: &Ragged,
    x: &[E],
    initial: &InitialStates<'_, E>,
    y: &mut [E],
    h_n: &mut [E],
    c_n: &mut [E],
    record: Record<'_, E>,
    scratch: &mut [Scratch<E>],
    step_input: Option<&dyn StepInput<E>>,
) {
    let shape = layer.shape;
    let states = shape.directions * batch.batch() * shape.hidden;
    assert_eq!(x.len(), batch.rows() * shape.input, "x is [N, I]");
    assert_eq!(y.len(), batch.rows() * shape.output(), "y is [N, D·H]");
    assert_eq!(h_n.len(), states, "h_n is [D, B, H]");
    initial.check(&shape, batch);
    assert_eq!(step_input.is_some(), shape.extra > 0, "extra columns and a step input go together");
    if shape.cell.has_cell_state() {
        assert_eq!(c_n.len(), states, "c_n is [D, B, H]");
        c_n.copy_from_slice(initial.c);
    }
    let tape = match record {
        Record::Nothing => None,
        Record::Tape(tape) => {
            tape.prepare(shape, batch.rows());
            Some(tape)
        }
    };
    let mut tapes = [None, None];
    if let Some(tape) = tape {
        for (memory, direction) in tapes.iter_mut().zip(&mut tape.directions) {
            *memory = Some(TapeMemory::new(direction));
        }
    }
    let (y_memory, c_memory) = (Disjoint::new(y), Disjoint::new(c_n));
    let parts = threads.count().div_ceil(shape.directions);
    threads.for_each(shape.directions * parts, scratch, |task, scratch| {
        let (index, part) = (task % shape.directions, task / shape.directions);
        DirectionForward {
            shape,
            isa: layer.isa,
            packed: &layer.directions[index],
            batch,
            direction: Direction::BOTH[index],
            index,
            columns: batch.column_cut(parts, part)..batch.column_cut(parts, part + 1),
            x,
            initial,
            y: y_memory,
            c: c_memory,
            tape: tapes[index],
            step_input,
        }
        .run(scratch);
    });
    last_states(&shape, batch, initial.h, y, h_n);
}

/// `h_n`: the last output row of each column, or the initial state of an empty one.
fn last_states<E: Element>(shape: &LayerShape, batch: &Ragged, h: &[E], y: &[E], h_n: &mut [E]) {
    let hidden = shape.hidden;
    for (index, direction) in Direction::BOTH.into_iter().enumerate().take(shape.directions) {
        for column in 0..batch.batch() {
            let at = (index * batch.batch() + column) * hidden;
            let from = match batch.last_row(direction, column) {
                Some(row) => &y[row * shape.output() + index * hidden..][..hidden],
                None => &h[at..at + hidden],
            };
            h_n[at..at + hidden].copy_from_slice(from);
        }
    }
}

/// Where a direction's tape is written; each task writes the rows of its own columns.
struct TapeMemory<'a, E> {
    slots: Disjoint<'a, E>,
    cell: Disjoint<'a, E>,
    extra: Disjoint<'a, E>,
    pre_activations: Disjoint<'a, E>,
}

impl<E> Clone for TapeMemory<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E> Copy for TapeMemory<'_, E> {}

impl<'a, E: Element> TapeMemory<'a, E> {
    fn new(tape: &'a mut DirectionTape<E>) -> Self {
        Self {
            slots: Disjoint::new(&mut tape.slots),
            cell: Disjoint::new(&mut tape.cell),
            extra: Disjoint::new(&mut tape.extra),
            pre_activations: Disjoint::new(&mut tape.pre_activations),
        }
    }
}

/// One task: one direction of the columns `columns`.
struct DirectionForward<'a, E> {
    shape: LayerShape,
    isa: Isa,
    packed: &'a PackedDirection<E>,
    batch: &'a Ragged,
    direction: Direction,
    index: usize,
    columns: Range<usize>,
    x: &'a [E],
    initial: &'a InitialStates<'a, E>,
    y: Disjoint<'a, E>,
    c: Disjoint<'a, E>,
    tape: Option<TapeMemory<'a, E>>,
    step_input: Option<&'a dyn StepInput<E>>,
}

impl<E: Element> DirectionForward<'_, E> {
    /// The time of the `done`-th step in reading order.
    fn time(&self, done: usize) -> usize {
        match self.direction {
            Direction::Forward => done,
            Direction::Reverse => self.batch.steps() - 1 - done,
        }
    }

    /// This task's columns that are alive at step `t`.
    fn alive(&self, t: usize) -> Range<usize> {
        self.columns.start..self.columns.end.min(self.batch.batch_sizes()[t]).max(self.columns.start)
    }

    fn run(&self, scratch: &mut Scratch<E>) {
        let steps = self.batch.steps();
        let mut done = 0;
        while done < steps {
            let (mut end, mut rows) = (done, 0);
            while end < steps && (rows == 0 || rows + self.alive(self.time(end)).len() <= CHUNK) {
                rows += self.alive(self.time(end)).len();
                end += 1;
            }
            let local = match self.tape {
                Some(_) => Disjoint::new(&mut []),
                None => Disjoint::new(scratch.rows.at_least(rows * self.shape.slot_width())),
            };
            self.input_products(done..end, local);
            let mut first = 0;
            for step in done..end {
                let t = self.time(step);
                self.step(t, first, local, &mut scratch.gathered, &mut scratch.extra);
                first += self.alive(t).len();
            }
            done = end;
        }
    }

    /// Where the slots of (t, column) are: on the tape, or at place `local_row` of the chunk's own memory.
    #[inline(always)]
    fn slots(&self, t: usize, column: usize, local_row: usize, local: Disjoint<'_, E>) -> *mut E {
        match &self.tape {
            Some(tape) => tape.slots.at(self.batch.row(t, column) * self.shape.slot_width()),
            None => local.at(local_row * self.shape.slot_width()),
        }
    }

    /// Starts the chain of every row of the chunk: its biases, then W_ih x.
    fn input_products(&self, chunk: Range<usize>, local: Disjoint<'_, E>) {
        let input = self.shape.input;
        let mut group = RowGroup::default();
        let flush = |group: &mut RowGroup<E>| {
            // SAFETY: x holds I elements from each row's start (`forward` checked [N, I]); the slots are S·H elements of
            // rows that belong to this task alone, on the tape or in its own chunk.
            unsafe { accumulate(self.isa, &self.packed.input, 0..input, group) };
            group.clear();
        };
        let mut local_row = 0;
        for step in chunk {
            let t = self.time(step);
            for column in self.alive(t) {
                let slots = self.slots(t, column, local_row, local);
                // SAFETY: `slots` has room for S·H elements that only this task touches; the bias has as many.
                unsafe { slots.copy_from_nonoverlapping(self.packed.bias.as_ptr(), self.packed.bias.len()) };
                group.push(self.x[self.batch.row(t, column) * input..].as_ptr(), slots);
                local_row += 1;
                if group.is_full() {
                    flush(&mut group);
                }
            }
        }
        flush(&mut group);
    }

    fn h_previous(&self, t: usize, column: usize) -> *const E {
        let (hidden, places) = (self.shape.hidden, self.index * self.batch.batch());
        match self.batch.previous(self.direction, t, column) {
            Previous::Row(row) => self.y.at(row * self.shape.output() + self.index * hidden),
            Previous::Given => self.initial.h[(places + column) * hidden..].as_ptr(),
            Previous::Restart => self.initial.restart_h[self.index * hidden..].as_ptr(),
        }
    }

    /// One time step of all alive columns, a group of rows at a time. `first` is the chunk's place of the first of them.
    fn step(&self, t: usize, first: usize, local: Disjoint<'_, E>, gathered: &mut Buffer<E>, extra: &mut Buffer<E>) {
        let LayerShape { cell, hidden, .. } = self.shape;
        let alive = self.alive(t);
        for start in alive.clone().step_by(GROUP) {
            let columns = start..alive.end.min(start + GROUP);
            let mut rows = MapRows::default();
            for column in columns.clone() {
                let row = self.batch.row(t, column);
                let state = (self.index * self.batch.batch() + column) * hidden;
                let at_boundary = self.batch.previous(self.direction, t, column) == Previous::Restart;
                let (c, c_previous, c_tape) = if cell.has_cell_state() {
                    let c = self.c.at(state);
                    let restart = || self.initial.restart_c[self.index * hidden..].as_ptr();
                    let tape = self.tape.map_or(core::ptr::null_mut(), |tape| tape.cell.at(row * hidden));
                    (c, if at_boundary { restart() } else { c.cast_const() }, tape)
                } else {
                    (core::ptr::null_mut(), core::ptr::null(), core::ptr::null_mut())
                };
                rows.push(MapRow {
                    slots: self.slots(t, column, first + column - alive.start, local),
                    h_previous: self.h_previous(t, column),
                    h: self.y.at(row * self.shape.output() + self.index * hidden),
                    c_previous,
                    c,
                    c_tape,
                });
            }
            if let Some(hook) = self.step_input {
                self.extra_products(hook, t, columns.clone(), rows.get(), gathered, extra);
            }
            for (index, phase) in cell.phases().iter().enumerate() {
                let mut group = RowGroup::default();
                for row in rows.get() {
                    let operand = match phase.operand {
                        Operand::Hidden => row.h_previous,
                        Operand::Slot(slot) => row.slots.wrapping_add(slot * hidden).cast_const(),
                    };
                    group.push(operand, row.slots);
                }
                // SAFETY: an operand is a state of H elements that was finished in an earlier step or given by the caller,
                // or a slot that this phase's panels do not write; the slots belong to this task alone.
                unsafe { accumulate(self.isa, &self.packed.hidden[index], 0..hidden, &group) };
                self.keep_pre_activations(t, columns.clone(), index, rows.get());
                // SAFETY: every pointer of a `MapRow` is valid for its H (slots: S·H) elements, and those that are written
                // belong to this task's columns alone. c and c_previous may be the same memory, as the map allows.
                with_cell!(cell, C => E::dispatch(self.isa, Map::<C, E> {
                    phase: index, hidden, rows: rows.get(), cell: PhantomData,
                }));
            }
        }
    }

    /// Goes on with the chains of a step by the extra columns of the step input.
    fn extra_products(
        &self,
        hook: &dyn StepInput<E>,
        t: usize,
        columns: Range<usize>,
        rows: &[MapRow<E>],
        gathered: &mut Buffer<E>,
        extra: &mut Buffer<E>,
    ) {
        let LayerShape { hidden, extra: width, .. } = self.shape;
        let h_previous = gathered.at_least(rows.len() * hidden);
        for (row, h) in rows.iter().zip(h_previous.chunks_mut(hidden)) {
            // SAFETY: the previous state has H elements, finished in an earlier step or given by the caller.
            h.copy_from_slice(unsafe { core::slice::from_raw_parts(row.h_previous, hidden) });
        }
        let extra = extra.at_least(rows.len() * width);
        let at = StepAt { direction: self.direction, time: t, columns: columns.clone() };
        hook.forward(at, h_previous, extra);
        let mut group = RowGroup::default();
        for ((column, row), extra) in columns.zip(rows).zip(extra.chunks(width)) {
            group.push(extra.as_ptr(), row.slots);
            if let Some(tape) = &self.tape {
                let to = tape.extra.at(self.batch.row(t, column) * width);
                // SAFETY: the tape has room for `width` elements of this row, which belongs to this task alone.
                unsafe { to.copy_from_nonoverlapping(extra.as_ptr(), width) };
            }
        }
        // SAFETY: the extra columns are in this task's scratch, the slots belong to this task alone.
        unsafe { accumulate(self.isa, &self.packed.extra, 0..width, &group) };
    }

    /// Copies the slots of the phase that are about to be mapped; in the first phase all of them, since some take no
    /// hidden term.
    fn keep_pre_activations(&self, t: usize, columns: Range<usize>, phase: usize, rows: &[MapRow<E>]) {
        let LayerShape { cell, hidden, .. } = self.shape;
        let Some(tape) = self.tape.filter(|tape| tape.pre_activations.length() > 0) else { return };
        for (column, row) in columns.zip(rows) {
            let to = tape.pre_activations.at(self.batch.row(t, column) * self.shape.slot_width());
            for slot in 0..cell.slots() {
                if phase == 0 || cell.phases()[phase].slots.contains(&slot) {
                    let offset = slot * hidden;
                    // SAFETY: both rows have S·H elements and belong to this task alone.
                    unsafe { to.add(offset).copy_from_nonoverlapping(row.slots.add(offset), hidden) };
                }
            }
        }
    }
}

/// The memory of one row of a step.
struct MapRow<E> {
    slots: *mut E,
    h_previous: *const E,
    h: *mut E,
    c_previous: *const E,
    c: *mut E,
    /// Where else c is written; null for nowhere.
    c_tape: *mut E,
}

impl<E> MapRow<E> {
    const NOWHERE: Self = Self {
        slots: core::ptr::null_mut(),
        h_previous: core::ptr::null(),
        h: core::ptr::null_mut(),
        c_previous: core::ptr::null(),
        c: core::ptr::null_mut(),
        c_tape: core::ptr::null_mut(),
    };
}

/// Up to [`GROUP`] rows.
struct MapRows<E> {
    rows: [MapRow<E>; GROUP],
    length: usize,
}

impl<E> Default for MapRows<E> {
    fn default() -> Self {
        Self { rows: [MapRow::NOWHERE; GROUP], length: 0 }
    }
}

impl<E> MapRows<E> {
    fn push(&mut self, row: MapRow<E>) {
        self.rows[self.length] = row;
        self.length += 1;
    }
    fn get(&self) -> &[MapRow<E>] {
        &self.rows[..self.length]
    }
}

/// The cell's map after one product, for the rows of a step.
struct Map<'a, C, E> {
    cell: PhantomData<C>,
    phase: usize,
    hidden: usize,
    rows: &'a [MapRow<E>],
}

impl<C: Cell, E: Element> Kernel<E> for Map<'_, C, E> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        for row in self.rows {
            let whole = self.hidden - self.hidden % L::WIDTH;
            for first in (0..whole).step_by(L::WIDTH) {
                // SAFETY: the units lie below H, and whoever made the rows vouches for H elements behind every pointer.
                unsafe { self.vector::<L, true>(lane, row, first, L::WIDTH) };
            }
            if whole < self.hidden {
                // SAFETY: as above.
                unsafe { self.vector::<L, false>(lane, row, whole, self.hidden - whole) };
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
        row: &MapRow<E>,
        first: usize,
        count: usize,
    ) {
        // SAFETY: `first + count <= H`, and the driver vouches for H elements behind each pointer (slots: S·H). A cell
        // without cell state never has its c pointers touched.
        unsafe {
            let zero = lane.splat(E::ZERO);
            let mut slots = [zero; MAX_SLOTS];
            for slot in 0..C::SLOTS {
                slots[slot] = load::<L, FULL>(lane, row.slots.add(slot * self.hidden + first), count);
            }
            let c = if C::HAS_CELL_STATE { load::<L, FULL>(lane, row.c_previous.add(first), count) } else { zero };
            let mut unit = Forward { slots, h: load::<L, FULL>(lane, row.h_previous.add(first), count), c };
            C::forward(lane, self.phase, &mut unit);
            for slot in 0..C::SLOTS {
                store::<L, FULL>(lane, row.slots.add(slot * self.hidden + first), count, unit.slots[slot]);
            }
            if self.phase + 1 == C::PHASES.len() {
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
