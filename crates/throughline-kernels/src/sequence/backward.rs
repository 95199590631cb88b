//! One layer backward: back-propagation through time over a whole ragged batch.
//!
//! For one row, with s the slots before the cell's map (s = bias + W_ih x + W_hh h_(t-1)) and ds their gradients:
//!
//! - the state carries dh_t = dy_t + (what step t+1 passed on) into the transposed map, which yields ds;
//! - dh_(t-1) = (what bypasses the products) + W_hh' ds, going against the reading order;
//! - dx_t = W_ih' ds, added over directions;
//! - dW_ih = sum ds x', dW_hh = sum ds h_(t-1)', db = sum ds, over all rows in packed order.
//!
//! The first pair of items needs time order, the rest are products over many rows. So a direction goes back in chunks of
//! steps whose slot gradients stay in the cache: first through the chunk's steps, shared out by columns or units as in
//! forward, then the products over its rows, shared out by output. The chunks depend on the batch alone, never on threads.

use core::marker::PhantomData;
use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

use throughline_simd::{Element, Kernel, Lane};

use super::batch::{Direction, Previous, Ragged};
use super::forward::{InitialStates, Inputs};
use super::layer::{LayerShape, PackedDirection, Scratch};
use super::plan::Split;
use super::step_input::{StepAt, StepInput};
use super::tape::{DirectionTape, Tape};
use super::{GROUP, Share, load, store};
use crate::buffer::Buffer;
use crate::cells::{Backward, Cell, MAX_SLOTS, Operand, TINY_GRADIENT, with_cell};
use crate::disjoint::Disjoint;
use crate::gemm::{OuterProducts, RowGroup, accumulate, add_outer_products};
use crate::list::List;
use crate::threads::Worker;

/// Slot gradients of a chunk: 1.5 MiB of f32 stay in a core's cache,
const CHUNK: usize = 3 << 17;
/// but a chunk has at least so many rows, to pay for reading and writing the weight gradients once,
const LEAST_ROWS: usize = 256;
/// and at most so many.
const MOST_ROWS: usize = 2048;
/// Rows of dx that make one task.
const DX_ROWS: usize = 96;

/// Gradients of one direction's parameters, in the layout of the parameters. They accumulate.
#[derive(Debug)]
pub struct LayerGradients<'a, E> {
    /// `[G·H, I + extra]`
    pub weight_ih: &'a mut [E],
    /// `[G·H, H]`
    pub weight_hh: &'a mut [E],
    /// `[G·H]`, or empty for no bias.
    pub bias_ih: &'a mut [E],
    /// `[G·H]`, or empty for no bias.
    pub bias_hh: &'a mut [E],
}

/// Gradients of the states. What is carried to the step before a run is handed out as it is; the rule for tiny numbers is
/// applied where a step takes it in, so that a run cut into chunks gives the same bits. `dh` and `dc` are overwritten, `restart_*` overwritten too (the caller adds them where the
/// restart state came from).
#[derive(Debug)]
pub struct BackwardStates<'a, E> {
    /// `[D, B, H]`. In: the gradient of `h_n`. Out: the gradient of the initial hidden state.
    pub dh: &'a mut [E],
    /// `[D, B, H]`, or empty. In: the gradient of `c_n`. Out: the gradient of the initial cell state.
    pub dc: &'a mut [E],
    /// `[D, B, H]`: what each column's boundaries give the restart state; may be empty where the batch has no resets.
    pub restart_h: &'a mut [E],
    /// `[D, B, H]`: likewise for the cell state; may be empty.
    pub restart_c: &'a mut [E],
}

/// Memory of the backward pass of a layer: the slot gradients, ordinarily of a chunk of steps at a time. Kept between calls.
#[derive(Debug, Default)]
pub struct RowGradients<E> {
    every_row: bool,
    directions: [Buffer<E>; 2],
}

impl<E: Element> RowGradients<E> {
    /// Memory that keeps those of every row: after a pass it shows the gradient of every gate's pre-activation.
    pub fn of_every_row() -> Self {
        Self { every_row: true, ..Self::default() }
    }

    /// The gradients of packed row `row` in direction `direction`, `[S·H]`, slots as in the [`Tape`]; `None` unless the
    /// memory was made [`of_every_row`](Self::of_every_row).
    pub fn row(&self, shape: &LayerShape, direction: usize, row: usize) -> Option<&[E]> {
        let width = shape.slot_width();
        self.every_row.then(|| &self.directions[direction][row * width..][..width])
    }

    /// Where each direction finds its slot gradients.
    fn prepare(&mut self, chunks: &Chunks<'_>, shape: &LayerShape) -> [Disjoint<'_, E>; 2] {
        let width = shape.slot_width();
        let rows = if self.every_row { chunks.batch.rows() } else { chunks.most_rows() };
        let [first, second] = &mut self.directions;
        let first = Disjoint::new(first.at_least(rows * width));
        if self.every_row && shape.directions == 2 {
            return [first, Disjoint::new(second.at_least(rows * width))];
        }
        // Directions go back one after the other and may use the same memory.
        [first, first]
    }
}

/// What [`backward`] reads beside the [`Inputs`], and what it writes.
#[derive(Debug)]
pub struct BackwardPass<'a, E> {
    /// `[N, D·H]`: what forward gave.
    pub y: &'a [E],
    /// The tape that forward wrote.
    pub tape: &'a mut Tape<E>,
    /// `[N, D·H]`: the gradient of `y`; `None` for zero.
    pub dy: Option<&'a [E]>,
    /// Gradients of the final states in, of the initial states out.
    pub states: BackwardStates<'a, E>,
    /// `[N, I]`: the gradient of `x`, overwritten; `None` if not wanted.
    pub dx: Option<&'a mut [E]>,
    /// Gradients of the parameters, one for each direction; accumulated.
    pub gradients: &'a mut [LayerGradients<'a, E>],
    /// Memory of the pass; shows the gradients of every row where it was made to keep them.
    pub row_gradients: &'a mut RowGradients<E>,
}

/// Back-propagates through a layer that [`forward`](super::forward()) ran with a tape over the same `inputs`; `scratch` has
/// one element for each thread.
///
/// # Panics
/// If a length does not fit, the tape is of another batch, or the layer was packed without its transposes.
#[inline(never)]
pub fn backward<E: Element>(inputs: &Inputs<'_, E>, pass: BackwardPass<'_, E>, scratch: &mut [Scratch<E>]) {
    let Inputs { layer, threads, batch, x, initial, step_input } = inputs;
    let BackwardPass { y, tape, dy, states, dx, gradients, row_gradients } = pass;
    let shape = layer.shape;
    let (rows, state_length) = (batch.rows(), shape.directions * batch.batch() * shape.hidden);
    assert!(layer.has_backward, "the layer was packed for inference only");
    assert_eq!(x.len(), rows * shape.input, "x is [N, I]");
    assert_eq!(y.len(), rows * shape.output(), "y is [N, D·H]");
    assert!(dy.is_none_or(|dy| dy.len() == rows * shape.output()), "dy is [N, D·H]");
    assert!(dx.as_ref().is_none_or(|dx| dx.len() == rows * shape.input), "dx is [N, I]");
    assert_eq!(states.dh.len(), state_length, "dh is [D, B, H]");
    let restart_length = if batch.restarts() > 0 { state_length } else { 0 };
    assert!(states.restart_h.len() >= restart_length, "restart gradients are [D, B, H]");
    if shape.cell.has_cell_state() {
        assert_eq!(states.dc.len(), state_length, "dc is [D, B, H]");
        assert!(states.restart_c.len() >= restart_length, "restart gradients are [D, B, H]");
    }
    assert_eq!(step_input.is_some(), shape.extra > 0, "extra columns and a step input go together");
    assert_eq!(gradients.len(), shape.directions, "gradients for every direction");
    for gradients in gradients.iter() {
        assert_eq!(gradients.weight_ih.len(), shape.gate_rows() * (shape.input + shape.extra), "weight_ih is [G·H, I]");
        assert_eq!(gradients.weight_hh.len(), shape.gate_rows() * shape.hidden, "weight_hh is [G·H, H]");
        for bias in [&gradients.bias_ih, &gradients.bias_hh] {
            assert!(bias.is_empty() || bias.len() == shape.gate_rows(), "a bias is [G·H] or empty");
        }
    }
    initial.check(&shape, batch);
    tape.assert_is_of(shape, rows);

    states.restart_h.fill(E::ZERO);
    states.restart_c.fill(E::ZERO);
    let chunks = Chunks::new(batch, shape.slot_width());
    let every_row = row_gradients.every_row;
    let mut memory = gradients.iter_mut().map(GradientMemory::new);
    let pass = Pass {
        shape,
        inputs,
        y,
        tape,
        dy,
        dh: Disjoint::new(states.dh),
        dc: Disjoint::new(states.dc),
        restart_h: Disjoint::new(states.restart_h),
        restart_c: Disjoint::new(states.restart_c),
        d_slots: row_gradients.prepare(&chunks, &shape),
        every_row,
        dx: dx.map(Disjoint::new),
        gradients: [memory.next(), memory.next()],
        next_task: AtomicUsize::new(0),
    };
    let workers = layer.plan(batch, threads).workers;
    threads.together(workers, scratch, |worker, scratch| {
        for index in 0..shape.directions {
            let direction = Direction::BOTH[index];
            for steps in chunks.back_through(direction) {
                let plan = layer.plan_steps(steps.len(), batch.rows_of(&steps).len(), threads);
                pass.through_time(&worker, index, steps.clone(), plan.split, scratch);
                if worker.index == 0 {
                    pass.next_task.store(0, Ordering::Relaxed);
                }
                worker.meet();
                Products { pass: &pass, index, rows: batch.rows_of(&steps), parts: worker.count }.run(scratch);
                worker.meet();
            }
        }
    });
}

/// What all workers have in common.
///
/// They write the same arrays without overlap: through time each one the states and slot gradients of its own columns or
/// units, in the products each task its own outputs; and they meet in between.
struct Pass<'a, E> {
    shape: LayerShape,
    inputs: &'a Inputs<'a, E>,
    y: &'a [E],
    tape: &'a Tape<E>,
    dy: Option<&'a [E]>,
    dh: Disjoint<'a, E>,
    dc: Disjoint<'a, E>,
    restart_h: Disjoint<'a, E>,
    restart_c: Disjoint<'a, E>,
    /// Slot gradients of each direction: of every row, or of a chunk from its first row.
    d_slots: [Disjoint<'a, E>; 2],
    every_row: bool,
    dx: Option<Disjoint<'a, E>>,
    gradients: [Option<GradientMemory<'a, E>>; 2],
    /// The next task of the products.
    next_task: AtomicUsize,
}

impl<E: Element> Pass<'_, E> {
    /// The slot gradients of packed row `row` in direction `index`, which goes back through a chunk from row `first`.
    #[inline(always)]
    fn d_slots(&self, index: usize, first: usize, row: usize) -> *mut E {
        let first = if self.every_row { 0 } else { first };
        self.d_slots[index].at((row - first) * self.shape.slot_width())
    }

    fn sources(&self, index: usize) -> RowSources<'_, E> {
        let Pass { shape, inputs: Inputs { batch, initial, .. }, y, .. } = *self;
        RowSources { shape, batch, initial, y, direction: Direction::BOTH[index], index }
    }

    /// One worker's part of the way back through `steps` in direction `index`.
    fn through_time(
        &self,
        worker: &Worker<'_>,
        index: usize,
        steps: Range<usize>,
        split: Split,
        scratch: &mut Scratch<E>,
    ) {
        let Inputs { layer, batch, .. } = self.inputs;
        let cut = |part| batch.column_cut(&steps, worker.count, part);
        let (columns, share) = match split {
            Split::Columns => (cut(worker.index)..cut(worker.index + 1), Share::ALL),
            Split::Units => (0..batch.batch(), Share::of(worker)),
        };
        ThroughTime {
            pass: self,
            shape: self.shape,
            packed: &layer.directions[index],
            rows: self.sources(index),
            first_row: batch.row(steps.start, 0),
            columns,
            units: share.units(|| layer.directions[index].hidden_back[0].units_per_panel(), self.shape.hidden),
            share,
            tape: &self.tape.directions[index],
        }
        .run(steps, scratch);
    }
}

/// A batch cut into runs of steps.
struct Chunks<'a> {
    batch: &'a Ragged,
    rows: usize,
}

impl<'a> Chunks<'a> {
    fn new(batch: &'a Ragged, slot_width: usize) -> Self {
        Self { batch, rows: (CHUNK / slot_width).clamp(LEAST_ROWS, MOST_ROWS) }
    }

    /// Rows that a chunk has at most.
    fn most_rows(&self) -> usize {
        self.batch.rows().min(self.rows.max(self.batch.batch_sizes().first().copied().unwrap_or(0)))
    }

    /// The chunks against the reading order of `direction`.
    fn back_through(&self, direction: Direction) -> impl Iterator<Item = Range<usize>> {
        let sizes = self.batch.batch_sizes();
        let mut left = 0..sizes.len();
        core::iter::from_fn(move || {
            let mut rows = 0;
            let mut steps = match direction {
                Direction::Forward => left.end..left.end,
                Direction::Reverse => left.start..left.start,
            };
            while steps.len() < left.len() {
                let t = if direction == Direction::Forward { steps.start - 1 } else { steps.end };
                rows += sizes[t];
                if !steps.is_empty() && rows > self.rows {
                    break;
                }
                match direction {
                    Direction::Forward => steps.start = t,
                    Direction::Reverse => steps.end = t + 1,
                }
            }
            match direction {
                Direction::Forward => left.end = steps.start,
                Direction::Reverse => left.start = steps.end,
            }
            (!steps.is_empty()).then_some(steps)
        })
    }
}

/// Where the states before a row come from.
#[derive(Clone, Copy)]
struct RowSources<'a, E> {
    shape: LayerShape,
    batch: &'a Ragged,
    initial: &'a InitialStates<'a, E>,
    y: &'a [E],
    direction: Direction,
    index: usize,
}

impl<'a, E: Element> RowSources<'a, E> {
    fn previous(&self, t: usize, column: usize) -> Previous {
        self.batch.previous(self.direction, t, column)
    }

    /// The hidden state before (t, column): H elements.
    fn h_previous(&self, t: usize, column: usize) -> &'a [E] {
        let hidden = self.shape.hidden;
        let from = match self.previous(t, column) {
            Previous::Row(row) => &self.y[row * self.shape.output() + self.index * hidden..],
            Previous::Given => &self.initial.h[(self.index * self.batch.batch() + column) * hidden..],
            Previous::Restart => &self.initial.restart_h[self.index * hidden..],
        };
        &from[..hidden]
    }

    /// The cell state before (t, column): H elements.
    fn c_previous(&self, tape: &'a DirectionTape<E>, t: usize, column: usize) -> &'a [E] {
        let hidden = self.shape.hidden;
        let from = match self.previous(t, column) {
            Previous::Row(row) => &tape.cell[row * hidden..],
            Previous::Given => &self.initial.c[(self.index * self.batch.batch() + column) * hidden..],
            Previous::Restart => &self.initial.restart_c[self.index * hidden..],
        };
        &from[..hidden]
    }
}

/// One worker's way back through a chunk: the units `units` of the columns `columns` in one direction.
struct ThroughTime<'a, E> {
    pass: &'a Pass<'a, E>,
    shape: LayerShape,
    packed: &'a PackedDirection<E>,
    rows: RowSources<'a, E>,
    /// The chunk's first row.
    first_row: usize,
    columns: Range<usize>,
    units: Range<usize>,
    share: Share<'a>,
    tape: &'a DirectionTape<E>,
}

impl<E: Element> ThroughTime<'_, E> {
    fn run(&self, steps: Range<usize>, scratch: &mut Scratch<E>) {
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
            // The product takes what all workers have mapped.
            self.share.meet();
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
        // SAFETY: count·H slot gradients of each row are read, which all workers that share the rows have finished, for they
        // have met since; these units of the operand's gradient are written, which are other slots or the state's gradient;
        // they belong to this worker alone.
        unsafe { accumulate(self.pass.inputs.layer.isa, panels, panels.of_units(self.units.clone()), k, &group) };
    }

    /// The gradient that reaches a boundary belongs to the restart state; none crosses.
    fn leave_at_boundary(&self, carried: Disjoint<'_, E>, restart: Disjoint<'_, E>, column: usize) {
        let first = self.state(column);
        let units = first + self.units.start..first + self.units.end;
        // SAFETY: these units of this column belong to this worker alone; they are different arrays.
        let (carried, restart) = unsafe { (carried.part(units.clone()), restart.part(units)) };
        for (restart, carried) in restart.iter_mut().zip(carried) {
            *restart = *restart + core::mem::take(carried);
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
        // SAFETY: the state gradients of consecutive columns lie side by side and belong to this worker.
        let dh = unsafe { self.pass.dh.part(states) };
        let at = StepAt { direction: self.rows.direction, time: t, columns };
        hook.backward(at, h_previous, extra, d_extra, dh);
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
                // SAFETY: the units lie below H, and whoever made the rows vouches for H elements behind every pointer.
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
        // SAFETY: `first + count <= H`, and the driver made every slice H long (slots: S·H) and vouches for as much behind
        // the pointers. The c's of a cell without cell state are never touched, nor an empty dy.
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
            }
        }
    }
}

/// Where one direction's parameter gradients are added; each task adds to its own outputs.
struct GradientMemory<'a, E> {
    weight_ih: Disjoint<'a, E>,
    weight_hh: Disjoint<'a, E>,
    bias_ih: Disjoint<'a, E>,
    bias_hh: Disjoint<'a, E>,
}

impl<'a, E> GradientMemory<'a, E> {
    fn new(gradients: &'a mut LayerGradients<'_, E>) -> Self {
        Self {
            weight_ih: Disjoint::new(gradients.weight_ih),
            weight_hh: Disjoint::new(gradients.weight_hh),
            bias_ih: Disjoint::new(gradients.bias_ih),
            bias_hh: Disjoint::new(gradients.bias_hh),
        }
    }
}

/// The products over the rows of a chunk in direction `index`: parameter gradients and dx, cut into tasks by output.
struct Products<'a, E> {
    pass: &'a Pass<'a, E>,
    index: usize,
    rows: Range<usize>,
    parts: usize,
}

/// What a parameter task multiplies the slot gradients with.
#[derive(Clone, Copy)]
enum Factor {
    Input,
    Extra,
    Operand(Operand),
}

/// A block of weight rows whose slot gradients lie side by side.
#[derive(Clone, Copy)]
struct WeightBlock {
    factor: Factor,
    first_gate: usize,
    first_slot: usize,
    gates: usize,
}

impl<E: Element> Products<'_, E> {
    fn blocks(&self) -> impl Iterator<Item = WeightBlock> {
        let LayerShape { cell, extra, .. } = self.pass.shape;
        let of_input = |factor| WeightBlock { factor, first_gate: 0, first_slot: 0, gates: cell.gates() };
        let of_hidden = cell.phases().iter().flat_map(|phase| {
            phase.runs().map(move |(gate, first_slot, gates)| WeightBlock {
                factor: Factor::Operand(phase.operand),
                first_gate: phase.first_gate + gate,
                first_slot,
                gates,
            })
        });
        let extra = (extra > 0).then(|| of_input(Factor::Extra));
        core::iter::once(of_input(Factor::Input)).chain(extra).chain(of_hidden)
    }

    /// Takes tasks until none is left: rows of weight gradients, block by block, then rows of dx.
    fn run(&self, scratch: &mut Scratch<E>) {
        let mut task = self.pass.next_task.fetch_add(1, Ordering::Relaxed);
        let mut first_task = 0;
        for block in self.blocks() {
            let rows = block.gates * self.pass.shape.hidden;
            let parts = self.parts;
            while task < first_task + parts {
                let part = task - first_task;
                self.weight_gradient(block, part * rows / parts..(part + 1) * rows / parts, &mut scratch.rows);
                task = self.pass.next_task.fetch_add(1, Ordering::Relaxed);
            }
            first_task += parts;
        }
        let parts = if self.pass.dx.is_some() { self.rows.len().div_ceil(DX_ROWS) } else { 0 };
        while task < first_task + parts {
            let first = self.rows.start + (task - first_task) * DX_ROWS;
            self.input_gradient(first..self.rows.end.min(first + DX_ROWS));
            task = self.pass.next_task.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The slot gradients of a row of the chunk, from slot element `at` on.
    fn d_slots(&self, row: usize, at: usize) -> *const E {
        self.pass.d_slots(self.index, self.rows.start, row).wrapping_add(at).cast_const()
    }

    /// Rows `outputs` of a block: dW += sum ds · factor', db += sum ds.
    fn weight_gradient(&self, block: WeightBlock, outputs: Range<usize>, scratch: &mut Buffer<E>) {
        let pass = self.pass;
        let LayerShape { input, extra, hidden, .. } = pass.shape;
        let memory = pass.gradients[self.index].as_ref().expect("gradients for every direction");
        let width = pass.shape.slot_width();
        let sources = pass.sources(self.index);
        let tape = &pass.tape.directions[self.index];
        let slot_start = block.first_slot * hidden;
        let row_start = block.first_gate * hidden + outputs.start;
        let factor = |n: usize| -> *const E {
            let n = self.rows.start + n;
            match block.factor {
                Factor::Input => pass.inputs.x[n * input..].as_ptr(),
                Factor::Extra => tape.extra[n * extra..].as_ptr(),
                Factor::Operand(Operand::Slot(slot)) => tape.slots[n * width + slot * hidden..].as_ptr(),
                Factor::Operand(Operand::Hidden) => {
                    let (t, column) = pass.inputs.batch.place(n);
                    sources.h_previous(t, column).as_ptr()
                }
            }
        };
        let (columns, out, stride, bias) = match block.factor {
            Factor::Input => {
                (input, memory.weight_ih.at(row_start * (input + extra)), input + extra, Some(memory.bias_ih))
            }
            Factor::Extra => (extra, memory.weight_ih.at(row_start * (input + extra) + input), input + extra, None),
            Factor::Operand(_) => (hidden, memory.weight_hh.at(row_start * hidden), hidden, Some(memory.bias_hh)),
        };
        let bias = bias.filter(|bias| bias.length() > 0);
        let products = OuterProducts {
            rows: self.rows.len(),
            a: self.d_slots(self.rows.start, slot_start),
            a_stride: width,
            outputs,
            b: &factor,
            columns,
            out,
            out_stride: stride,
            sums: bias.map_or(core::ptr::null_mut(), |bias| bias.at(row_start)),
        };
        // SAFETY: a row of slot gradients is S·H long and `outputs` stays below gates·H from the block's first slot; all
        // workers have met since they were written, and nobody writes them before all meet again; the factors are slices of at
        // least `columns` elements; the rows of the gradient and the elements of the bias belong to this task alone.
        unsafe { add_outer_products(pass.inputs.layer.isa, products, scratch) };
    }

    /// dx of packed rows `rows`: one chain over the gates of every direction in turn, each going on where the last ended.
    fn input_gradient(&self, rows: Range<usize>) {
        let LayerShape { cell, input, hidden, .. } = self.pass.shape;
        let Some(dx) = self.pass.dx else { return };
        if self.index == 0 {
            // SAFETY: these rows of dx belong to this task alone.
            unsafe { dx.part(rows.start * input..rows.end * input) }.fill(E::ZERO);
        }
        let panels = &self.pass.inputs.layer.directions[self.index].input_back;
        let mut group = RowGroup::default();
        for row in rows {
            group.push(self.d_slots(row, 0), dx.at(row * input));
        }
        // SAFETY: a row of slot gradients begins with the G·H of the input terms; a row of dx is I elements.
        unsafe { accumulate(self.pass.inputs.layer.isa, panels, 0..panels.count(), 0..cell.gates() * hidden, &group) };
    }
}
