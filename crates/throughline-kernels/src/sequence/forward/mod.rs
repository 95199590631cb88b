//! One layer forward: every direction over a whole ragged batch.
//!
//! Each task owns one direction of a run of columns (whole sequences) or, where these are too few, a run of hidden
//! units of all columns; see [`plan`](super::plan). Either way a layer is one fork and join. A task goes through time
//! in chunks: first the input product of all the chunk's rows, W_ih x, as the prefix of each row's chain; then, step by
//! step, the products with the state continue those chains and the cell maps them. A chunk is small enough that its
//! rows are still in the cache when their step comes. A step's products and maps are in `phase`, the stage that a
//! normalised layer has between them in `normalised`.

mod normalised;
mod phase;

use core::marker::PhantomData;
use core::ops::Range;

use phase::{MapRow, PhaseKernel};

use super::batch::{Direction, Previous, Ragged};
use super::layer::{PackedDirection, PackedLayer, Scratch};
use super::normalisation::NormalisedRows;
use super::plan::Split;
use super::regularisation::{Regularisation, RowMasks, WorkerMasks};
use super::shape::LayerShape;
use super::step_input::{StepAt, StepInput};
use super::tape::{DirectionTape, Tape};
use super::{GROUP, Share};
use crate::Element;
use crate::buffer::Buffer;
use crate::cells::{Operand, with_cell};
use crate::disjoint::Disjoint;
use crate::gemm::{RowGroup, accumulate};
use crate::list::List;
use crate::threads::Threads;

/// Rows whose input products are computed together.
const CHUNK: usize = 96;

/// What both passes over a layer read.
///
/// # Panics
/// [`forward`] and [`backward`](super::backward()) panic if a length does not fit, a layer with extra columns has no
/// `step_input`, or one without has, or a rate is out of range or acts on something that the cell does not have.
pub struct Inputs<'a, E> {
    /// The weights.
    pub layer: &'a PackedLayer<E>,
    /// Threads to compute with.
    pub threads: &'a Threads,
    /// The shape of the batch.
    pub batch: &'a Ragged,
    /// `[N, I]`: packed rows.
    pub x: &'a [E],
    /// The states that the layer starts from.
    pub initial: InitialStates<'a, E>,
    /// What regularises the steps.
    pub regularisation: Regularisation,
    /// What fills the extra columns of a layer that has them.
    pub step_input: Option<&'a dyn StepInput<E>>,
}

impl<E: Element> Inputs<'_, E> {
    /// The state before packed row `row` in direction `direction`, given the output `y` `[N, D·H]` of [`forward`]: H
    /// values.
    ///
    /// # Panics
    /// If a length does not fit, or there is no such row or direction.
    pub fn h_previous<'a>(&'a self, y: &'a [E], direction: usize, row: usize) -> &'a [E] {
        let LayerShape { hidden, directions, .. } = self.layer.shape;
        assert!(direction < directions, "direction {direction} of {directions}");
        assert_eq!(y.len(), self.batch.rows() * directions * hidden, "y is [N, D·H]");
        let (t, column) = self.batch.place(row);
        let from = match self.batch.previous(Direction::BOTH[direction], t, column) {
            Previous::Row(row) => &y[(row * directions + direction) * hidden..],
            Previous::Given => &self.initial.h[(direction * self.batch.batch() + column) * hidden..],
            Previous::Restart => &self.initial.restart_h[direction * hidden..],
        };
        &from[..hidden]
    }
}

/// What [`forward`] writes.
#[derive(Debug)]
pub struct ForwardPass<'a, E> {
    /// `[N, D·H]`: overwritten; direction d in columns d·H ...
    pub y: &'a mut [E],
    /// `[D, B, H]`: overwritten with the hidden states after each column's last row.
    pub h_n: &'a mut [E],
    /// `[D, B, H]`, empty for a cell without cell state: likewise for the cell states.
    pub c_n: &'a mut [E],
    /// What is kept.
    pub record: Record<'a, E>,
}

/// The states a layer starts from, in column order.
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

/// Runs a layer over a batch; `scratch` has one element for each thread.
///
/// # Panics
/// If a length does not fit, or the layer has extra columns and no step input, or the reverse.
pub fn forward<E: Element>(inputs: &Inputs<'_, E>, pass: ForwardPass<'_, E>, scratch: &mut [Scratch<E>]) {
    E::run_forward(inputs, pass, scratch);
}

/// See [`forward`].
pub(crate) fn run_forward<E: Element>(inputs: &Inputs<'_, E>, pass: ForwardPass<'_, E>, scratch: &mut [Scratch<E>]) {
    let Inputs { layer, threads, batch, x, initial, regularisation, step_input } = inputs;
    let ForwardPass { y, h_n, c_n, record } = pass;
    let shape = layer.shape;
    let step_width = step_input.map_or(0, |hook| hook.memory());
    // Before anything can panic: a tape must not keep the rows of an earlier pass then.
    let mut tape = match record {
        Record::Nothing => None,
        Record::Tape(tape) => {
            tape.prepare(shape, batch.rows(), step_width);
            Some(tape)
        }
    };
    let states = shape.directions * batch.batch() * shape.hidden;
    assert_eq!(x.len(), batch.rows() * shape.input, "x is [N, I]");
    assert_eq!(y.len(), batch.rows() * shape.output(), "y is [N, D·H]");
    assert_eq!(h_n.len(), states, "h_n is [D, B, H]");
    initial.check(&shape, batch);
    regularisation.check(shape.cell);
    assert_eq!(step_input.is_some(), shape.extra > 0, "extra columns and a step input go together");
    if shape.cell.has_cell_state() {
        assert_eq!(c_n.len(), states, "c_n is [D, B, H]");
        c_n.copy_from_slice(initial.c);
    }
    let mut tapes = [None, None];
    if let Some(tape) = &mut tape {
        let directions = tape.directions.iter_mut().zip(&mut tape.step_memory);
        for (memory, (direction, step)) in tapes.iter_mut().zip(directions) {
            *memory = Some(TapeMemory::new(&shape, batch.rows(), direction, step));
        }
    }
    let plan = layer.plan(batch, threads);
    let workers = plan.workers.min(threads.count()).min(scratch.len());
    let pass = Pass { shape, inputs, y: Disjoint::new(y), c: Disjoint::new(c_n), tapes };
    match plan.split {
        Split::Columns => {
            // At most as many columns per run as a group has rows, so that the chains a chunk starts are still in the
            // cache when their step comes; and a multiple of the workers, so that each gets as many runs.
            let of_direction = workers.div_ceil(shape.directions);
            let runs = batch.batch().div_ceil(GROUP).max(1).next_multiple_of(of_direction);
            let scratch = &mut scratch[..workers];
            threads.for_each(shape.directions * runs, scratch, |task, scratch| {
                let (index, run) = (task % shape.directions, task / shape.directions);
                let cut = |run| batch.column_cut(&(0..batch.steps()), runs, run);
                let columns = cut(run)..cut(run + 1);
                pass.direction(index, columns, Share::ALL).run(None, scratch);
            });
        }
        Split::Units => {
            // Without a tape, the slots of a chunk are in memory that all workers share.
            let rows = if pass.tapes[0].is_none() { batch.rows().min(CHUNK.max(batch.batch())) } else { 0 };
            let mut slots = core::mem::take(&mut scratch[0].rows);
            let shared = Disjoint::new(slots.at_least(rows * shape.slot_width()));
            threads.together(workers, scratch, |worker, scratch| {
                for index in 0..shape.directions {
                    pass.direction(index, 0..batch.batch(), Share::of(&worker)).run(Some(shared), scratch);
                }
            });
            scratch[0].rows = slots;
        }
    }
    last_states(&shape, batch, initial.h, y, h_n);
    if let Some(tape) = tape {
        tape.complete(shape, *regularisation, batch);
    }
}

/// What all tasks of a pass have in common.
struct Pass<'a, E> {
    shape: LayerShape,
    inputs: &'a Inputs<'a, E>,
    y: Disjoint<'a, E>,
    c: Disjoint<'a, E>,
    tapes: [Option<TapeMemory<'a, E>>; 2],
}

impl<E: Element> Pass<'_, E> {
    fn direction<'a>(&'a self, index: usize, columns: Range<usize>, share: Share<'a>) -> DirectionForward<'a, E> {
        DirectionForward {
            pass: self,
            shape: self.shape,
            packed: &self.inputs.layer.directions[index],
            direction: Direction::BOTH[index],
            index,
            columns,
            units: share.units(|| self.inputs.layer.unit_block(), self.shape.hidden),
            share,
            tape: self.tapes[index],
        }
    }
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
    step: Disjoint<'a, E>,
    pre_activations: Disjoint<'a, E>,
    normalised: Option<NormalisedRows<'a, E>>,
}

impl<E> Clone for TapeMemory<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E> Copy for TapeMemory<'_, E> {}

impl<'a, E: Element> TapeMemory<'a, E> {
    fn new(shape: &LayerShape, rows: usize, tape: &'a mut DirectionTape<E>, step: &'a mut [E]) -> Self {
        Self {
            slots: Disjoint::new(&mut tape.slots),
            cell: Disjoint::new(&mut tape.cell),
            extra: Disjoint::new(&mut tape.extra),
            step: Disjoint::new(step),
            pre_activations: Disjoint::new(&mut tape.pre_activations),
            normalised: tape.normalisation.at_least(shape, rows),
        }
    }
}

/// Where the sums of rows are: on the tape, or in memory for a chunk of steps.
#[derive(Clone, Copy)]
struct SumMemory<'a, E> {
    slots: Disjoint<'a, E>,
    normalised: Option<NormalisedRows<'a, E>>,
}

/// A task's memory for the step input.
struct HookScratch<'a, E> {
    gathered: &'a mut Buffer<E>,
    extra: &'a mut Buffer<E>,
    memory: &'a mut Buffer<E>,
}

/// One task: the units `units` of one direction of the columns `columns`.
struct DirectionForward<'a, E> {
    pass: &'a Pass<'a, E>,
    shape: LayerShape,
    packed: &'a PackedDirection<E>,
    direction: Direction,
    index: usize,
    columns: Range<usize>,
    units: Range<usize>,
    share: Share<'a>,
    tape: Option<TapeMemory<'a, E>>,
}

impl<E: Element> DirectionForward<'_, E> {
    fn batch(&self) -> &Ragged {
        self.pass.inputs.batch
    }

    /// The time of the `done`-th step in reading order.
    fn time(&self, done: usize) -> usize {
        match self.direction {
            Direction::Forward => done,
            Direction::Reverse => self.batch().steps() - 1 - done,
        }
    }

    /// This task's columns that are alive at step `t`.
    fn alive(&self, t: usize) -> Range<usize> {
        self.columns.start..self.columns.end.min(self.batch().batch_sizes()[t]).max(self.columns.start)
    }

    /// `shared` is the memory for a chunk's slots where several workers share them and there is no tape.
    fn run(&self, shared: Option<Disjoint<'_, E>>, scratch: &mut Scratch<E>) {
        let Scratch { rows: own, gathered, extra, step: step_memory, masks, normalisation } = scratch;
        let units = [0..self.shape.hidden, self.units.clone()];
        let mut masks = WorkerMasks::new(self.pass.inputs, self.index, self.columns.clone(), units, masks);
        let mut of_hook = HookScratch { gathered, extra, memory: step_memory };
        let steps = self.batch().steps();
        let mut done = 0;
        while done < steps {
            let (mut end, mut rows) = (done, 0);
            while end < steps && (rows == 0 || rows + self.alive(self.time(end)).len() <= CHUNK) {
                rows += self.alive(self.time(end)).len();
                end += 1;
            }
            let memory = match (self.tape, shared) {
                (Some(tape), _) => SumMemory { slots: tape.slots, normalised: tape.normalised },
                (None, Some(shared)) => SumMemory { slots: shared, normalised: None },
                (None, None) => SumMemory {
                    slots: Disjoint::new(own.at_least(rows * self.shape.slot_width())),
                    normalised: normalisation.at_least(&self.shape, rows),
                },
            };
            match (&self.packed.normalisation, memory.normalised) {
                (Some(weights), Some(normalised)) => {
                    self.normalised_input_terms(done..end, weights, memory.slots, normalised);
                }
                _ => self.input_products(done..end, memory.slots),
            }
            let mut first = 0;
            for step in done..end {
                let t = self.time(step);
                self.step(t, first, memory, &mut masks, &mut of_hook);
                first += self.alive(t).len();
            }
            done = end;
        }
    }

    /// The rows of a chunk of steps: each one's packed row and its place in the memory of sums.
    fn rows(&self, chunk: Range<usize>) -> impl Iterator<Item = (usize, usize)> {
        let rows = chunk.flat_map(move |step| {
            let t = self.time(step);
            self.alive(t).map(move |column| self.batch().row(t, column))
        });
        rows.enumerate().map(move |(local, row)| (row, self.place(row, local)))
    }

    /// The place in the memory of sums of packed row `row`, which is row `local` of the chunk.
    #[inline(always)]
    fn place(&self, row: usize, local: usize) -> usize {
        if self.tape.is_some() { row } else { local }
    }

    /// Starts the chain of every row of the chunk: its biases, then W_ih x.
    fn input_products(&self, chunk: Range<usize>, slots: Disjoint<'_, E>) {
        let LayerShape { input, hidden, cell, .. } = self.shape;
        let panels = &self.packed.input;
        // Slots of gates start from their biases and take W_ih x; the others only start.
        let mut group = RowGroup::from_init(&self.packed.bias);
        let others = cell.gates() * hidden..cell.slots() * hidden;
        let flush = |group: &mut RowGroup<E>| {
            // SAFETY: x holds I elements from each row's start (`forward` checked [N, I]); the slots are S·H elements
            // of rows of which these units belong to this task alone, on the tape or in the chunk's memory; so is the
            // bias.
            unsafe {
                accumulate(self.pass.inputs.layer.isa, panels, panels.of_units(self.units.clone()), 0..input, group)
            };
            group.clear();
        };
        for (row, place) in self.rows(chunk) {
            let slots = slots.at(place * self.shape.slot_width());
            for slot in others.clone().step_by(hidden) {
                let bias = &self.packed.bias[slot..][self.units.clone()];
                let to = slots.wrapping_add(slot + self.units.start);
                // SAFETY: `slots` has room for S·H elements, and only this task touches these units of them.
                unsafe { to.copy_from_nonoverlapping(bias.as_ptr(), bias.len()) };
            }
            group.push(self.pass.inputs.x[row * input..].as_ptr(), slots);
            if group.is_full() {
                flush(&mut group);
            }
        }
        flush(&mut group);
    }

    fn h_previous(&self, t: usize, column: usize) -> *const E {
        let Pass { inputs: Inputs { batch, initial, .. }, y, .. } = self.pass;
        let (hidden, places) = (self.shape.hidden, self.index * batch.batch());
        match batch.previous(self.direction, t, column) {
            Previous::Row(row) => y.at(row * self.shape.output() + self.index * hidden),
            Previous::Given => initial.h[(places + column) * hidden..].as_ptr(),
            Previous::Restart => initial.restart_h[self.index * hidden..].as_ptr(),
        }
    }

    /// One time step of all alive columns, a group of rows at a time. `first` is the chunk's place of the first of
    /// them.
    fn step(
        &self,
        t: usize,
        first: usize,
        memory: SumMemory<'_, E>,
        masks: &mut Option<WorkerMasks<'_, E>>,
        of_hook: &mut HookScratch<'_, E>,
    ) {
        let cell = self.shape.cell;
        let alive = self.alive(t);
        for index in 0..cell.phases().len() {
            for start in alive.clone().step_by(GROUP) {
                let columns = start..alive.end.min(start + GROUP);
                let mut rows: List<MapRow<E>, GROUP> = List::new();
                for column in columns.clone() {
                    rows.push(self.map_row(t, column, first + column - alive.start, memory));
                }
                let mut of_rows: List<RowMasks<E>, GROUP> = List::new();
                if let Some(masks) = masks {
                    if index + 1 == cell.phases().len() {
                        masks.draw(t, columns.clone());
                    }
                    for (place, (column, row)) in columns.clone().zip(&*rows).enumerate() {
                        of_rows.push(self.row_masks(masks, place, column, row));
                    }
                }
                if let (Some(hook), 0) = (self.pass.inputs.step_input, index) {
                    self.extra_products(hook, t, columns, &rows, of_hook);
                }
                if let (Some(weights), Some(normalised)) = (&self.packed.normalisation, memory.normalised) {
                    self.normalised_phase(index, weights, memory.slots, normalised, &rows, &of_rows);
                } else {
                    self.phase(index, &rows, &of_rows);
                }
            }
            // The next product reads what all workers have mapped.
            self.share.barrier();
        }
    }

    fn map_row(&self, t: usize, column: usize, local: usize, memory: SumMemory<'_, E>) -> MapRow<E> {
        let LayerShape { cell, hidden, .. } = self.shape;
        let Pass { inputs: Inputs { batch, initial, .. }, y, c, .. } = self.pass;
        let row = batch.row(t, column);
        let (c, c_previous, c_tape) = if cell.has_cell_state() {
            let c = c.at((self.index * batch.batch() + column) * hidden);
            let at_boundary = batch.previous(self.direction, t, column) == Previous::Restart;
            let restart = || initial.restart_c[self.index * hidden..].as_ptr();
            let tape = self.tape.map_or(core::ptr::null_mut(), |tape| tape.cell.at(row * hidden));
            (c, if at_boundary { restart() } else { c.cast_const() }, tape)
        } else {
            (core::ptr::null_mut(), core::ptr::null(), core::ptr::null_mut())
        };
        let place = self.place(row, local);
        let kept = self.tape.map(|tape| tape.pre_activations).filter(|kept| kept.length() > 0);
        MapRow {
            place,
            slots: memory.slots.at(place * self.shape.slot_width()),
            pre_activations: kept.map_or(core::ptr::null_mut(), |kept| kept.at(row * self.shape.slot_width())),
            h_previous: self.h_previous(t, column),
            h: y.at(row * self.shape.output() + self.index * hidden),
            c_previous,
            c,
            c_tape,
            proposed: core::ptr::null_mut(),
        }
    }

    /// The masks of the row in place `place` of a group, and what the products take of its h_(t-1).
    fn row_masks(&self, masks: &WorkerMasks<'_, E>, place: usize, column: usize, row: &MapRow<E>) -> RowMasks<E> {
        let of_row = masks.row(place, column);
        if !masks.drops_hidden() {
            return of_row;
        }
        // SAFETY: the previous state has H elements, finished in an earlier step or given by the caller.
        let h_previous = unsafe { core::slice::from_raw_parts(row.h_previous, self.shape.hidden) };
        RowMasks { operand: masks.operand(place, column, h_previous), ..of_row }
    }

    /// One product of a step and the cell's map after it, for this task's units of `rows`; without regularisers there
    /// are no masks.
    fn phase(&self, index: usize, rows: &[MapRow<E>], masks: &[RowMasks<E>]) {
        if masks.is_empty() {
            self.run_phase::<false>(index, rows, masks);
        } else {
            self.run_phase::<true>(index, rows, masks);
        }
    }

    /// What the product of phase `index` takes.
    fn operand(&self, index: usize, row: &MapRow<E>, masks: Option<&RowMasks<E>>) -> *const E {
        match self.shape.cell.phases()[index].operand {
            Operand::Hidden => match masks.map(|masks| masks.operand).filter(|operand| !operand.is_null()) {
                Some(dropped) => dropped.cast_const(),
                None => row.h_previous,
            },
            Operand::Slot(slot) => row.slots.wrapping_add(slot * self.shape.hidden).cast_const(),
        }
    }

    fn run_phase<const REGULARISED: bool>(&self, index: usize, rows: &[MapRow<E>], masks: &[RowMasks<E>]) {
        let LayerShape { cell, hidden, .. } = self.shape;
        let mut group = RowGroup::default();
        for (place, row) in rows.iter().enumerate() {
            group.push(self.operand(index, row, masks.get(place)), row.slots);
        }
        let panels = &self.packed.hidden[index];
        // Operands are states of H elements that were given by the caller or finished in an earlier step, their copies
        // in this task's memory, or a slot that an earlier phase has mapped and this one does not write; there is a barrier in between for workers that
        // share rows. Every pointer of a `MapRow` is valid for H elements (slots: S·H), and these units of what is
        // written belong to this task alone.
        with_cell!(cell, C => E::dispatch(self.pass.inputs.layer.isa, PhaseKernel::<C, E, REGULARISED> {
            cell: PhantomData,
            index,
            hidden,
            panels,
            which: panels.of_units(self.units.clone()),
            group: &group,
            rows,
            masks,
        }));
    }

    /// Continues the chains of a step with the extra columns of the step input.
    fn extra_products(
        &self,
        hook: &dyn StepInput<E>,
        t: usize,
        columns: Range<usize>,
        rows: &[MapRow<E>],
        HookScratch { gathered, extra, memory }: &mut HookScratch<'_, E>,
    ) {
        let LayerShape { hidden, extra: width, .. } = self.shape;
        let h_previous = gathered.at_least(rows.len() * hidden);
        for (row, h) in rows.iter().zip(h_previous.chunks_mut(hidden)) {
            // SAFETY: the previous state has H elements, finished in an earlier step or given by the caller.
            h.copy_from_slice(unsafe { core::slice::from_raw_parts(row.h_previous, hidden) });
        }
        let extra = extra.at_least(rows.len() * width);
        let at = StepAt { direction: self.direction, time: self.batch().first_step() + t, columns: columns.clone() };
        let of_row = hook.memory();
        let memory = match &self.tape {
            Some(tape) => {
                let first = self.batch().row(t, columns.start) * of_row;
                // SAFETY: the rows of consecutive columns of a step are contiguous and belong to this task alone.
                unsafe { tape.step.slice(first..first + rows.len() * of_row) }
            }
            None => memory.at_least(rows.len() * of_row),
        };
        hook.forward(at, h_previous, memory, extra);
        let mut group = RowGroup::default();
        for ((column, row), extra) in columns.zip(rows).zip(extra.chunks(width)) {
            group.push(extra.as_ptr(), row.slots);
            if let Some(tape) = &self.tape {
                let to = tape.extra.at(self.batch().row(t, column) * width);
                // SAFETY: the tape has room for `width` elements of this row, which belongs to this task alone.
                unsafe { to.copy_from_nonoverlapping(extra.as_ptr(), width) };
            }
        }
        // SAFETY: each row of `extra` in this task's scratch has `width` elements, the depth of the panels; a row of
        // slots has S·H elements, of which the panels write the G·H of the input terms, and belongs to this task alone.
        unsafe {
            accumulate(self.pass.inputs.layer.isa, &self.packed.extra, 0..self.packed.extra.count(), 0..width, &group)
        };
    }
}
