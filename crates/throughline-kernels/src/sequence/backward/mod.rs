//! One layer backward: back-propagation through time over a whole ragged batch.
//!
//! For one row, with s the slots before the cell's map (s = bias + W_ih x + W_hh h_(t-1)) and ds their gradients,
//! `time.rs` goes against the reading order and leaves every row's ds; `products.rs` adds up the gradients of
//! parameters and input. A normalised layer has a stage of its own in both, in `normalised.rs`.
//!
//! A direction goes back in chunks of steps whose slot gradients stay in the cache: first through the chunk's steps,
//! split by columns or units as in forward, then the products over its rows, split by output. The chunks depend on the
//! batch alone, never on threads.

mod normalised;
mod products;
mod time;

use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::Element;

use self::products::{GradientMemory, Products};
use self::time::ThroughTime;
use super::Share;
use super::batch::{Direction, Previous, Ragged};
use super::forward::{InitialStates, Inputs};
use super::layer::Scratch;
use super::normalisation::{self, NormalisationGradients};
use super::plan::Split;
use super::row_gradients::{RowGradients, RowMemory};
use super::shape::LayerShape;
use super::tape::{DirectionTape, Tape};
use crate::disjoint::Disjoint;
use crate::threads::Worker;

/// Gradients that are kept for the rows of a chunk: 1.5 MiB of f32 stay in a core's cache,
const CHUNK: usize = 3 << 17;
/// but a chunk has at least so many rows, to pay for reading and writing the weight gradients once,
const LEAST_ROWS: usize = 256;
/// and at most so many.
const MOST_ROWS: usize = 2048;

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
    /// Those of a normalised layer.
    pub normalisation: Option<NormalisationGradients<'a, E>>,
}

/// Gradients of the states; all are overwritten. Those that leave a run are not rounded to 0 when tiny: the step that
/// takes them in does that, so that a run cut into chunks gives the same bits. The caller adds `restart_*` to the
/// gradient of where the restart state came from.
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
    /// Gradients of the parameters, one for each direction, accumulated; or none, if they are not wanted.
    pub gradients: &'a mut [LayerGradients<'a, E>],
    /// Memory of the pass; shows the gradients of every row where it was made to keep them.
    pub row_gradients: &'a mut RowGradients<E>,
}

/// Back-propagates through a layer that [`forward`](super::forward()) ran with a tape over the same `inputs`; `scratch`
/// has one element for each thread.
///
/// # Panics
/// If a length does not fit, the tape is of another batch, or the layer was packed without its transposes.
pub fn backward<E: Element>(inputs: &Inputs<'_, E>, pass: BackwardPass<'_, E>, scratch: &mut [Scratch<E>]) {
    E::run_backward(inputs, pass, scratch);
}

/// See [`backward`].
pub(crate) fn run_backward<E: Element>(inputs: &Inputs<'_, E>, pass: BackwardPass<'_, E>, scratch: &mut [Scratch<E>]) {
    let Inputs { layer, threads, batch, x, initial, regularisation, step_input } = inputs;
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
    assert!(gradients.is_empty() || gradients.len() == shape.directions, "gradients for every direction, or for none");
    for gradients in gradients.iter() {
        assert_eq!(gradients.weight_ih.len(), shape.gate_rows() * (shape.input + shape.extra), "weight_ih is [G·H, I]");
        assert_eq!(gradients.weight_hh.len(), shape.gate_rows() * shape.hidden, "weight_hh is [G·H, H]");
        for bias in [&gradients.bias_ih, &gradients.bias_hh] {
            assert!(bias.is_empty() || bias.len() == shape.gate_rows(), "a bias is [G·H] or empty");
        }
        normalisation::check_lengths(&shape, gradients.normalisation.as_ref().map(NormalisationGradients::lengths));
    }
    initial.check(&shape, batch);
    tape.assert_is_of(shape, *regularisation, batch, step_input.map_or(0, |hook| hook.memory()));

    states.restart_h.fill(E::ZERO);
    states.restart_c.fill(E::ZERO);
    // A normalised layer has gradients of its sums beside those of the slots.
    let of_sums = if shape.normalised { shape.slot_width() + shape.gate_rows() } else { 0 };
    let chunks = Chunks::new(batch, shape.slot_width() + of_sums);
    let every_row = row_gradients.keeps_every_row();
    // What has no gradient is passed over where nobody adds up those of parameters: theirs keep one order of additions, always.
    let silent = |index: usize| match gradients.is_empty() && step_input.is_none() {
        true => silent_chunks(&chunks, &shape, index, dy, [&*states.dh, &*states.dc]),
        false => 0,
    };
    let silent = [0, 1].map(|index| if index < shape.directions { silent(index) } else { 0 });
    let mut memory = gradients.iter_mut().map(GradientMemory::new);
    let pass = Pass {
        shape,
        inputs,
        y,
        tape: &tape.directions,
        step_memory: tape.step_memory.each_mut().map(|memory| Disjoint::new(memory)),
        dy,
        dh: Disjoint::new(states.dh),
        dc: Disjoint::new(states.dc),
        restart_h: Disjoint::new(states.restart_h),
        restart_c: Disjoint::new(states.restart_c),
        rows: row_gradients.prepare(&shape, batch.rows(), chunks.most_rows(), regularisation.drops_hidden()),
        every_row,
        dx: dx.map(Disjoint::new),
        gradients: [memory.next(), memory.next()],
        next_task: AtomicUsize::new(0),
    };
    let workers = layer.plan(batch, threads).workers;
    threads.together(workers, scratch, |worker, scratch| {
        for index in 0..shape.directions {
            let direction = Direction::BOTH[index];
            for (place, steps) in chunks.back_through(direction).enumerate() {
                if place < silent[index] {
                    if worker.index == 0 {
                        pass.leave_without_gradient(index, batch.rows_of(&steps));
                    }
                    worker.barrier();
                    continue;
                }
                let plan = layer.plan_steps(steps.len(), batch.rows_of(&steps).len(), threads);
                pass.through_time(&worker, index, steps.clone(), plan.split, scratch);
                if worker.index == 0 {
                    pass.next_task.store(0, Ordering::Relaxed);
                }
                worker.barrier();
                Products { pass: &pass, index, rows: batch.rows_of(&steps), tasks_per_block: worker.count }
                    .run(scratch);
                worker.barrier();
            }
        }
    });
    row_gradients.complete(shape, batch.rows());
}

/// How many of the chunks that a direction goes back through first have no gradient: none comes from the outputs of their rows, and
/// none from the final states.
fn silent_chunks<E: Element>(
    chunks: &Chunks<'_>,
    shape: &LayerShape,
    index: usize,
    dy: Option<&[E]>,
    states: [&[E]; 2],
) -> usize {
    let is_zero = |x: &[E]| x.iter().all(|x| *x == E::ZERO);
    let of_direction = |states: &[E]| {
        let length = states.len() / shape.directions;
        is_zero(&states[index * length..(index + 1) * length])
    };
    if !states.into_iter().all(of_direction) {
        return 0;
    }
    let (output, hidden) = (shape.output(), shape.hidden);
    let is_silent = |steps: &Range<usize>| {
        let own = |row: usize, dy: &[E]| is_zero(&dy[row * output + index * hidden..][..hidden]);
        dy.is_none_or(|dy| chunks.batch.rows_of(steps).all(|row| own(row, dy)))
    };
    chunks.back_through(Direction::BOTH[index]).take_while(is_silent).count()
}

/// What all workers have in common.
///
/// They write the same arrays without overlap: through time each worker the states and slot gradients of its own
/// columns or units, in the products each task its own outputs. There is a barrier between the two.
struct Pass<'a, E> {
    shape: LayerShape,
    inputs: &'a Inputs<'a, E>,
    y: &'a [E],
    tape: &'a [DirectionTape<E>],
    step_memory: [Disjoint<'a, E>; 2],
    dy: Option<&'a [E]>,
    dh: Disjoint<'a, E>,
    dc: Disjoint<'a, E>,
    restart_h: Disjoint<'a, E>,
    restart_c: Disjoint<'a, E>,
    /// Gradients of each direction's rows: slots of every row, or of a chunk from its first row.
    rows: [RowMemory<'a, E>; 2],
    every_row: bool,
    dx: Option<Disjoint<'a, E>>,
    gradients: [Option<GradientMemory<'a, E>>; 2],
    /// The next task of the products.
    next_task: AtomicUsize,
}

impl<E: Element> Pass<'_, E> {
    /// Writes the gradients of a chunk of rows that has none.
    fn leave_without_gradient(&self, index: usize, rows: Range<usize>) {
        let LayerShape { input, hidden, .. } = self.shape;
        let memory = self.rows[index];
        let fill = |to: Disjoint<'_, E>, width: usize| {
            if to.length() > 0 {
                // SAFETY: one worker alone writes these rows, between two barriers; `prepare` made as many as the batch has.
                unsafe { to.slice(rows.start * width..rows.end * width) }.fill(E::ZERO);
            }
        };
        if self.every_row {
            fill(memory.slots, self.shape.slot_width());
            fill(memory.hidden, hidden);
            fill(memory.cell, hidden);
        }
        // A second direction adds to what the first wrote.
        if let (Some(dx), 0) = (self.dx, index) {
            fill(dx, input);
        }
    }

    /// The slot gradients of packed row `row` in direction `index`, in a chunk that begins at row `first`.
    #[inline(always)]
    fn d_slots(&self, index: usize, first: usize, row: usize) -> *mut E {
        let first = if self.every_row { 0 } else { first };
        self.rows[index].slots.at((row - first) * self.shape.slot_width())
    }

    /// The gradient of what the products of packed row `row` with the state added up: that of the slots, unless it was
    /// normalised first. S·H elements.
    #[inline(always)]
    fn d_hidden_sums(&self, index: usize, first: usize, row: usize) -> *mut E {
        match self.rows[index].sums {
            Some(sums) => sums.hidden.at((row - first) * self.shape.slot_width()),
            None => self.d_slots(index, first, row),
        }
    }

    /// The same of the product with the input: G·H elements.
    #[inline(always)]
    fn d_input_sums(&self, index: usize, first: usize, row: usize) -> *mut E {
        match self.rows[index].sums {
            Some(sums) => sums.input.at((row - first) * self.shape.gate_rows()),
            None => self.d_slots(index, first, row),
        }
    }

    /// What products take of h_(t-1) at packed row `row`, in a chunk that begins at row `first`; null where it is h_(t-1)
    /// itself.
    #[inline(always)]
    fn operand(&self, index: usize, first: usize, row: usize) -> *mut E {
        let operands = self.rows[index].operands;
        if operands.length() == 0 { core::ptr::null_mut() } else { operands.at((row - first) * self.shape.hidden) }
    }

    fn sources(&self, index: usize) -> RowSources<'_, E> {
        let Pass { shape, inputs: Inputs { batch, initial, .. }, y, .. } = *self;
        RowSources { shape, batch, initial, y, direction: Direction::BOTH[index], index }
    }

    /// One worker's share of going back through `steps` in direction `index`.
    fn through_time(
        &self,
        worker: &Worker<'_>,
        index: usize,
        steps: Range<usize>,
        split: Split,
        scratch: &mut Scratch<E>,
    ) {
        let Inputs { layer, batch, .. } = self.inputs;
        let cut = |run| batch.column_cut(&steps, worker.count, run);
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
            tape: &self.tape[index],
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
    /// `width` gradients are kept for a row.
    fn new(batch: &'a Ragged, width: usize) -> Self {
        Self { batch, rows: (CHUNK / width).clamp(LEAST_ROWS, MOST_ROWS) }
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
