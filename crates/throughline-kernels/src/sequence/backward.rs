//! One layer backward: back-propagation through time over a whole ragged batch.
//!
//! For one row, with s the slots before the cell's map (s = bias + W_ih x + W_hh h_(t-1)) and ds their gradients:
//!
//! - the state carries dh_t = dy_t + (what step t+1 passed on) into the transposed map, which yields ds;
//! - dh_(t-1) = (what bypasses the products) + W_hh' ds, going against the reading order;
//! - dx_t = W_ih' ds, added over directions;
//! - dW_ih = sum ds x', dW_hh = sum ds h_(t-1)', db = sum ds, over all rows in packed order.
//!
//! The first item pair needs time order and is one task for each direction and run of columns, as in forward; the rest is
//! products over all rows, cut into tasks by output. Two forks and joins.

use core::marker::PhantomData;
use core::ops::Range;

use throughline_simd::{Element, Isa, Kernel, Lane};

use super::batch::{Direction, Previous, Ragged};
use super::forward::InitialStates;
use super::plan::{LayerShape, PackedDirection, PackedLayer, Scratch};
use super::step_input::{StepAt, StepInput};
use super::tape::{DirectionTape, Tape};
use super::{GROUP, load, store};
use crate::buffer::Buffer;
use crate::cells::{Backward, Cell, MAX_SLOTS, Operand, TINY_GRADIENT, with_cell};
use crate::disjoint::Disjoint;
use crate::gemm::{RowGroup, accumulate, add_columns, add_outer_products};
use crate::threads::Threads;

/// Rows of dx that make one task.
const CHUNK: usize = 96;

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

/// Memory of the backward pass of a layer: the slot gradients of every row. Kept between calls; after a pass it shows the
/// gradient of every gate's pre-activation.
#[derive(Debug, Default)]
pub struct SlotGradients<E> {
    directions: [Buffer<E>; 2],
    d_extra: [Buffer<E>; 2],
}

impl<E: Element> SlotGradients<E> {
    /// The gradients of packed row `row` in direction `direction`, `[S·H]`, slots as in the [`Tape`].
    pub fn row(&self, shape: &LayerShape, direction: usize, row: usize) -> &[E] {
        &self.directions[direction][row * shape.slot_width()..][..shape.slot_width()]
    }
}

/// Back-propagates through a layer that [`forward`](super::forward()) ran with a tape over the same batch.
///
/// | array | shape | |
/// |---|---|---|
/// | `x`, `initial`, `y`, `tape` | as in forward | unchanged since |
/// | `dy` | `[N, D·H]` | gradient of `y`; `None` for zero |
/// | `states` | `[D, B, H]` | gradients of the final states in, of the initial states out |
/// | `dx` | `[N, I]` | overwritten; `None` if not wanted |
/// | `gradients` | one for each direction | accumulated |
///
/// # Panics
/// If a length does not fit, the tape is of another batch, or the layer was packed without its transposes.
#[allow(clippy::too_many_arguments)]
pub fn backward<E: Element>(
    layer: &PackedLayer<E>,
    threads: &Threads,
    batch: &Ragged,
    x: &[E],
    initial: &InitialStates<'_, E>,
    y: &[E],
    tape: &Tape<E>,
    dy: Option<&[E]>,
    states: BackwardStates<'_, E>,
    dx: Option<&mut [E]>,
    gradients: &mut [LayerGradients<'_, E>],
    slot_gradients: &mut SlotGradients<E>,
    scratch: &mut [Scratch<E>],
    step_input: Option<&dyn StepInput<E>>,
) {
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
    for index in 0..shape.directions {
        slot_gradients.directions[index].at_least(rows * shape.slot_width());
        slot_gradients.d_extra[index].at_least(rows * shape.extra);
    }
    let dh = Disjoint::new(states.dh);
    let dc = Disjoint::new(states.dc);
    let restart_h = Disjoint::new(states.restart_h);
    let restart_c = Disjoint::new(states.restart_c);
    let d_slots = slot_gradients.directions.each_mut().map(|d| Disjoint::new(&mut *d));
    let d_extra = slot_gradients.d_extra.each_mut().map(|d| Disjoint::new(&mut *d));

    let parts = threads.count().div_ceil(shape.directions);
    threads.for_each(shape.directions * parts, scratch, |task, scratch| {
        let (index, part) = (task % shape.directions, task / shape.directions);
        ThroughTime {
            shape,
            isa: layer.isa,
            packed: &layer.directions[index],
            rows: RowSources { shape, batch, initial, y, direction: Direction::BOTH[index], index },
            columns: batch.column_cut(parts, part)..batch.column_cut(parts, part + 1),
            tape: &tape.directions[index],
            dy,
            dh,
            dc,
            restart_h,
            restart_c,
            d_slots: d_slots[index],
            d_extra: d_extra[index],
            step_input,
        }
        .run(scratch);
    });

    let products = Products {
        shape,
        layer,
        batch,
        x,
        initial,
        y,
        tape,
        d_slots: core::array::from_fn(|i| &*slot_gradients.directions[i]),
        dx: dx.map(|dx| Disjoint::new(dx)),
        parts: threads.count(),
    };
    let mut gradients = gradients.iter_mut().map(GradientMemory::new);
    let memory = [gradients.next(), gradients.next()];
    threads.for_each(products.tasks(), scratch, |task, scratch| products.run(task, &memory, &mut scratch.rows));
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

/// One task: back through time in one direction of the columns `columns`.
struct ThroughTime<'a, E> {
    shape: LayerShape,
    isa: Isa,
    packed: &'a PackedDirection<E>,
    rows: RowSources<'a, E>,
    columns: Range<usize>,
    tape: &'a DirectionTape<E>,
    dy: Option<&'a [E]>,
    dh: Disjoint<'a, E>,
    dc: Disjoint<'a, E>,
    restart_h: Disjoint<'a, E>,
    restart_c: Disjoint<'a, E>,
    d_slots: Disjoint<'a, E>,
    d_extra: Disjoint<'a, E>,
    step_input: Option<&'a dyn StepInput<E>>,
}

impl<E: Element> ThroughTime<'_, E> {
    fn run(&self, scratch: &mut Scratch<E>) {
        let steps = self.rows.batch.steps();
        for done in 0..steps {
            let t = match self.rows.direction {
                Direction::Forward => steps - 1 - done,
                Direction::Reverse => done,
            };
            let end = self.columns.end.min(self.rows.batch.batch_sizes()[t]);
            for start in (self.columns.start..end).step_by(GROUP) {
                self.step(t, start..end.min(start + GROUP), scratch);
            }
        }
    }

    /// Place of a column's state gradient in `[D, B, H]`.
    fn state(&self, column: usize) -> usize {
        (self.rows.index * self.rows.batch.batch() + column) * self.shape.hidden
    }

    fn step(&self, t: usize, columns: Range<usize>, scratch: &mut Scratch<E>) {
        let LayerShape { cell, hidden, .. } = self.shape;
        let batch = self.rows.batch;
        let mut memory = [const { None }; GROUP];
        for (slot, column) in memory.iter_mut().zip(columns.clone()) {
            let (row, has_c) = (batch.row(t, column), cell.has_cell_state());
            let nothing: &[E] = &[];
            *slot = Some(MapRow {
                slots: &self.tape.slots[row * self.shape.slot_width()..][..self.shape.slot_width()],
                h_previous: self.rows.h_previous(t, column),
                c_previous: if has_c { self.rows.c_previous(self.tape, t, column) } else { nothing },
                c: if has_c { &self.tape.cell[row * hidden..][..hidden] } else { nothing },
                dy: match self.dy {
                    Some(dy) => &dy[row * self.shape.output() + self.rows.index * hidden..][..hidden],
                    None => nothing,
                },
                d_slots: self.d_slots.at(row * self.shape.slot_width()),
                dh: self.dh.at(self.state(column)),
                dc: if has_c { self.dc.at(self.state(column)) } else { core::ptr::null_mut() },
            });
        }
        let rows = &memory[..columns.len()];
        for (index, phase) in cell.phases().iter().enumerate().rev() {
            // The pointers of the rows are valid for H (slots: S·H) elements; those written belong to this task's columns.
            with_cell!(cell, C => E::dispatch(self.isa, Map::<C, E> { phase: index, hidden, rows, cell: PhantomData }));
            for (gate, slot, count) in phase.runs() {
                let mut group = RowGroup::default();
                for row in rows.iter().flatten() {
                    let operand = match phase.operand {
                        Operand::Hidden => row.dh,
                        Operand::Slot(slot) => row.d_slots.wrapping_add(slot * hidden),
                    };
                    group.push(row.d_slots.wrapping_add(slot * hidden).cast_const(), operand);
                }
                let k = gate * hidden..(gate + count) * hidden;
                // SAFETY: count·H slot gradients of each row are read; H elements of the operand's gradient are written,
                // which are other slots or the state's gradient; all belong to this task's columns.
                unsafe { accumulate(self.isa, &self.packed.hidden_back[index], k, &group) };
            }
        }
        if let Some(hook) = self.step_input {
            self.back_through_hook(hook, t, columns.clone(), rows, scratch);
        }
        for column in columns {
            if self.rows.previous(t, column) == Previous::Restart {
                self.leave_at_boundary(self.dh, self.restart_h, column);
                if cell.has_cell_state() {
                    self.leave_at_boundary(self.dc, self.restart_c, column);
                }
            }
        }
    }

    /// The gradient that reaches a boundary belongs to the restart state; none crosses.
    fn leave_at_boundary(&self, carried: Disjoint<'_, E>, restart: Disjoint<'_, E>, column: usize) {
        let hidden = self.shape.hidden;
        // SAFETY: both are H elements of this column, which belongs to this task alone; they are different arrays.
        let (carried, restart) = unsafe {
            (
                core::slice::from_raw_parts_mut(carried.at(self.state(column)), hidden),
                core::slice::from_raw_parts_mut(restart.at(self.state(column)), hidden),
            )
        };
        add_columns(self.isa, carried, hidden, 1, restart);
        carried.fill(E::ZERO);
    }

    fn back_through_hook(
        &self,
        hook: &dyn StepInput<E>,
        t: usize,
        columns: Range<usize>,
        rows: &[Option<MapRow<'_, E>>],
        scratch: &mut Scratch<E>,
    ) {
        let LayerShape { hidden, extra: width, cell, .. } = self.shape;
        let first = self.rows.batch.row(t, columns.start);
        // SAFETY: the extra columns of this step's rows lie side by side (packed rows of one step are consecutive) and
        // belong to this task's columns; `backward` made the array `width` columns a row long for this very layer.
        let d_extra = unsafe { core::slice::from_raw_parts_mut(self.d_extra.at(first * width), rows.len() * width) };
        d_extra.fill(E::ZERO);
        let mut group = RowGroup::default();
        for (row, d_extra) in rows.iter().flatten().zip(d_extra.chunks_mut(width)) {
            group.push(row.d_slots.cast_const(), d_extra.as_mut_ptr());
        }
        // SAFETY: G·H slot gradients of each row are read (slot g is gate g's input term), `width` elements written.
        unsafe { accumulate(self.isa, &self.packed.extra_back, 0..cell.gates() * hidden, &group) };
        let h_previous = scratch.gathered.at_least(rows.len() * hidden);
        for (row, h) in rows.iter().flatten().zip(h_previous.chunks_mut(hidden)) {
            h.copy_from_slice(row.h_previous);
        }
        let extra = &self.tape.extra[first * width..][..rows.len() * width];
        // SAFETY: the state gradients of consecutive columns lie side by side and belong to this task.
        let dh = unsafe { core::slice::from_raw_parts_mut(self.dh.at(self.state(columns.start)), rows.len() * hidden) };
        let at = StepAt { direction: self.rows.direction, time: t, columns };
        hook.backward(at, h_previous, extra, d_extra, dh);
    }
}

/// The memory of one row of a step; `dy` is empty for zero, the c's are empty for a cell without cell state.
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
    rows: &'a [Option<MapRow<'a, E>>],
}

impl<C: Cell, E: Element> Kernel<E> for Map<'_, C, E> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        for row in self.rows.iter().flatten() {
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
                store::<L, FULL>(lane, row.d_slots.add(slot * self.hidden + first), count, unit.d[slot]);
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

/// The products over all rows: parameter gradients and dx, cut into tasks by output.
struct Products<'a, E> {
    shape: LayerShape,
    layer: &'a PackedLayer<E>,
    batch: &'a Ragged,
    x: &'a [E],
    initial: &'a InitialStates<'a, E>,
    y: &'a [E],
    tape: &'a Tape<E>,
    d_slots: [&'a [E]; 2],
    dx: Option<Disjoint<'a, E>>,
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
        let cell = self.shape.cell;
        let of_input = |factor| WeightBlock { factor, first_gate: 0, first_slot: 0, gates: cell.gates() };
        let of_hidden = cell.phases().iter().flat_map(|phase| {
            phase.runs().map(move |(gate, first_slot, gates)| WeightBlock {
                factor: Factor::Operand(phase.operand),
                first_gate: phase.first_gate + gate,
                first_slot,
                gates,
            })
        });
        let extra = (self.shape.extra > 0).then(|| of_input(Factor::Extra));
        core::iter::once(of_input(Factor::Input)).chain(extra).chain(of_hidden)
    }

    fn tasks(&self) -> usize {
        self.shape.directions * self.blocks().count() * self.parts + self.dx_tasks()
    }

    fn dx_tasks(&self) -> usize {
        if self.dx.is_some() { self.batch.rows().div_ceil(CHUNK) } else { 0 }
    }

    fn run(&self, task: usize, memory: &[Option<GradientMemory<'_, E>>; 2], scratch: &mut Buffer<E>) {
        let blocks = self.blocks().count();
        let parameter_tasks = self.shape.directions * blocks * self.parts;
        if task >= parameter_tasks {
            let first = (task - parameter_tasks) * CHUNK;
            self.input_gradient(first..self.batch.rows().min(first + CHUNK));
            return;
        }
        let (index, task) = (task % self.shape.directions, task / self.shape.directions);
        let block = self.blocks().nth(task % blocks).expect("a block for every task");
        let rows = block.gates * self.shape.hidden;
        let part = task / blocks;
        let outputs = part * rows / self.parts..(part + 1) * rows / self.parts;
        let memory = memory[index].as_ref().expect("gradients for every direction");
        self.weight_gradient(index, block, outputs, memory, scratch);
    }

    /// Rows `outputs` of a block: dW += sum ds · factor', db += sum ds.
    fn weight_gradient(
        &self,
        index: usize,
        block: WeightBlock,
        outputs: Range<usize>,
        memory: &GradientMemory<'_, E>,
        scratch: &mut Buffer<E>,
    ) {
        let LayerShape { input, extra, hidden, .. } = self.shape;
        let (shape, batch, direction) = (self.shape, self.batch, Direction::BOTH[index]);
        let d_slots = self.d_slots[index];
        let width = self.shape.slot_width();
        let sources = RowSources { shape, batch, initial: self.initial, y: self.y, direction, index };
        let tape = &self.tape.directions[index];
        let slot_start = block.first_slot * hidden;
        let row_start = block.first_gate * hidden + outputs.start;
        let factor = |n: usize| -> *const E {
            match block.factor {
                Factor::Input => self.x[n * input..].as_ptr(),
                Factor::Extra => tape.extra[n * extra..].as_ptr(),
                Factor::Operand(Operand::Slot(slot)) => tape.slots[n * width + slot * hidden..].as_ptr(),
                Factor::Operand(Operand::Hidden) => {
                    let (t, column) = batch.place(n);
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
        let a = (d_slots.as_ptr().wrapping_add(slot_start), width);
        // SAFETY: a row of slot gradients is S·H long and `outputs` stays below gates·H from the block's first slot; the
        // factors are slices of at least `columns` elements; the rows of the gradient belong to this task alone.
        unsafe {
            add_outer_products(
                self.layer.isa,
                batch.rows(),
                a,
                outputs.clone(),
                &factor,
                columns,
                out,
                stride,
                scratch,
            );
        }
        if let Some(bias) = bias.filter(|bias| bias.length() > 0 && batch.rows() > 0) {
            // SAFETY: these elements of the bias belong to this task alone.
            let out = unsafe { core::slice::from_raw_parts_mut(bias.at(row_start), outputs.len()) };
            add_columns(self.layer.isa, &d_slots[slot_start + outputs.start..], width, batch.rows(), out);
        }
    }

    /// dx of packed rows `rows`: one chain over the gates of every direction in turn.
    fn input_gradient(&self, rows: Range<usize>) {
        let LayerShape { cell, input, hidden, .. } = self.shape;
        let Some(dx) = self.dx else { return };
        for first in rows.clone().step_by(GROUP) {
            let rows = first..rows.end.min(first + GROUP);
            // SAFETY: these rows of dx belong to this task alone.
            unsafe { core::slice::from_raw_parts_mut(dx.at(rows.start * input), rows.len() * input) }.fill(E::ZERO);
            for (packed, d_slots) in self.layer.directions.iter().zip(self.d_slots) {
                let mut group = RowGroup::default();
                for row in rows.clone() {
                    group.push(d_slots[row * self.shape.slot_width()..].as_ptr(), dx.at(row * input));
                }
                // SAFETY: a row of slot gradients begins with the G·H of the input terms; a row of dx is I elements.
                unsafe { accumulate(self.layer.isa, &packed.input_back, 0..cell.gates() * hidden, &group) };
            }
        }
    }
}
