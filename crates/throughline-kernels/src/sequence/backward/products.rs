//! The products of the backward pass over the rows of a chunk:
//!
//! - dx_t = W_ih' ds, added over directions;
//! - dW_ih = sum ds x', dW_hh = sum ds u', db = sum ds, over all rows in packed order, u what the product took of
//!   h_(t-1).

use core::ops::Range;
use core::sync::atomic::Ordering;

use crate::Element;

use super::super::layer::Scratch;
use super::super::shape::LayerShape;
use super::{LayerGradients, Pass};
use crate::buffer::Buffer;
use crate::cells::Operand;
use crate::disjoint::Disjoint;
use crate::gemm::{OuterProducts, RowGroup, accumulate, add_outer_products};

/// Rows of dx of a task.
const DX_ROWS: usize = 96;

/// Where one direction's parameter gradients are added; each task adds to its own outputs.
pub(super) struct GradientMemory<'a, E> {
    weight_ih: Disjoint<'a, E>,
    weight_hh: Disjoint<'a, E>,
    pub bias_ih: Disjoint<'a, E>,
    pub bias_hh: Disjoint<'a, E>,
    pub normalisation: Option<NormalisationMemory<'a, E>>,
}

/// Where the gradients of one direction's normalisation are added.
pub(super) struct NormalisationMemory<'a, E> {
    pub input: Disjoint<'a, E>,
    pub hidden: Disjoint<'a, E>,
    pub cell: Disjoint<'a, E>,
    pub cell_bias: Disjoint<'a, E>,
}

impl<'a, E> GradientMemory<'a, E> {
    pub fn new(gradients: &'a mut LayerGradients<'_, E>) -> Self {
        Self {
            weight_ih: Disjoint::new(gradients.weight_ih),
            weight_hh: Disjoint::new(gradients.weight_hh),
            bias_ih: Disjoint::new(gradients.bias_ih),
            bias_hh: Disjoint::new(gradients.bias_hh),
            normalisation: gradients.normalisation.as_mut().map(|gradients| NormalisationMemory {
                input: Disjoint::new(gradients.input),
                hidden: Disjoint::new(gradients.hidden),
                cell: Disjoint::new(gradients.cell),
                cell_bias: Disjoint::new(gradients.cell_bias),
            }),
        }
    }
}

/// The products over the rows of a chunk in direction `index`: parameter gradients and dx, divided into tasks by
/// output.
pub(super) struct Products<'a, E> {
    pub pass: &'a Pass<'a, E>,
    pub index: usize,
    pub rows: Range<usize>,
    /// Tasks that a block of weight rows is divided into.
    pub tasks_per_block: usize,
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

    /// Takes tasks until none is left: rows of weight gradients, block by block, then columns of those of normalisation,
    /// then rows of dx.
    pub fn run(&self, scratch: &mut Scratch<E>) {
        let (mut next, mut first) = (self.next_task(), 0);
        // None, where the gradients of the parameters are not wanted.
        let tasks = if self.pass.gradients[self.index].is_some() { self.tasks_per_block } else { 0 };
        for block in self.blocks() {
            let rows = block.gates * self.pass.shape.hidden;
            while next < first + tasks {
                let index = next - first;
                self.weight_gradient(block, index * rows / tasks..(index + 1) * rows / tasks, &mut scratch.rows);
                next = self.next_task();
            }
            first += tasks;
        }
        for part in self.normalised_parts() {
            while next < first + tasks {
                self.normalisation_gradient(&part, [next - first, tasks]);
                next = self.next_task();
            }
            first += tasks;
        }
        let tasks = if self.pass.dx.is_some() { self.rows.len().div_ceil(DX_ROWS) } else { 0 };
        while next < first + tasks {
            let row = self.rows.start + (next - first) * DX_ROWS;
            self.input_gradient(row..self.rows.end.min(row + DX_ROWS));
            next = self.next_task();
        }
    }

    fn next_task(&self) -> usize {
        self.pass.next_task.fetch_add(1, Ordering::Relaxed)
    }

    /// The gradients of the input terms of a row of the chunk, G·H.
    fn d_input_sums(&self, row: usize) -> *const E {
        self.pass.d_input_sums(self.index, self.rows.start, row).cast_const()
    }

    /// Elements from those of one row to those of the next.
    fn input_stride(&self) -> usize {
        if self.pass.shape.normalised { self.pass.shape.gate_rows() } else { self.pass.shape.slot_width() }
    }

    /// Rows `outputs` of a block: dW += sum ds · factor', db += sum ds.
    fn weight_gradient(&self, block: WeightBlock, outputs: Range<usize>, scratch: &mut Buffer<E>) {
        let pass = self.pass;
        let LayerShape { input, extra, hidden, .. } = pass.shape;
        let memory = pass.gradients[self.index].as_ref().expect("a task for what is wanted");
        let width = pass.shape.slot_width();
        let first_row = self.rows.start;
        let sources = pass.sources(self.index);
        let tape = &pass.tape[self.index];
        let slot_start = block.first_slot * hidden;
        let row_start = block.first_gate * hidden + outputs.start;
        let factor = |n: usize| -> *const E {
            let n = self.rows.start + n;
            match block.factor {
                Factor::Input => pass.inputs.x[n * input..].as_ptr(),
                Factor::Extra => tape.extra[n * extra..].as_ptr(),
                Factor::Operand(Operand::Slot(slot)) => tape.slots[n * width + slot * hidden..].as_ptr(),
                Factor::Operand(Operand::Hidden) if pass.inputs.regularisation.drops_hidden() => {
                    pass.operand(self.index, self.rows.start, n).cast_const()
                }
                Factor::Operand(Operand::Hidden) => {
                    let (t, column) = pass.inputs.batch.place(n);
                    sources.h_previous(t, column).as_ptr()
                }
            }
        };
        let (a, a_stride) = match block.factor {
            Factor::Input | Factor::Extra => (self.d_input_sums(first_row), self.input_stride()),
            Factor::Operand(_) => (pass.d_hidden_sums(self.index, first_row, first_row).cast_const(), width),
        };
        let (columns, out, stride, bias) = match block.factor {
            Factor::Input => {
                (input, memory.weight_ih.at(row_start * (input + extra)), input + extra, Some(memory.bias_ih))
            }
            Factor::Extra => (extra, memory.weight_ih.at(row_start * (input + extra) + input), input + extra, None),
            Factor::Operand(_) => (hidden, memory.weight_hh.at(row_start * hidden), hidden, Some(memory.bias_hh)),
        };
        // The shifts of a normalised layer have the gradients of the slots, not those of the sums.
        let bias = bias.filter(|bias| bias.length() > 0 && !pass.shape.normalised);
        let products = OuterProducts {
            rows: self.rows.len(),
            a: a.wrapping_add(slot_start),
            a_stride,
            outputs,
            b: &factor,
            columns,
            out,
            out_stride: stride,
            sums: bias.map_or(core::ptr::null_mut(), |bias| bias.at(row_start)),
        };
        // SAFETY: a row of `a` is G·H long for the input and S·H for an operand, and `outputs` stays below gates·H from the
        // block's first slot; there is a barrier between writing them and here, and one before they are written again; the factors, of
        // which the same is true, have at least `columns` elements; the rows of the gradient and the elements of the bias belong to this
        // task alone.
        unsafe { add_outer_products(pass.inputs.layer.isa, products, scratch) };
    }

    /// dx of packed rows `rows`: one chain over the gates of every direction in turn, each going on where the last
    /// ended.
    fn input_gradient(&self, rows: Range<usize>) {
        let LayerShape { cell, input, hidden, .. } = self.pass.shape;
        let Some(dx) = self.pass.dx else { return };
        if self.index == 0 {
            // SAFETY: these rows of dx belong to this task alone.
            unsafe { dx.slice(rows.start * input..rows.end * input) }.fill(E::ZERO);
        }
        let panels = &self.pass.inputs.layer.directions[self.index].input_back;
        let mut group = RowGroup::default();
        for row in rows {
            group.push(self.d_input_sums(row), dx.at(row * input));
        }
        // SAFETY: G·H gradients of each row's input terms are read, and there is a barrier between writing them and here; a row of dx is I elements, which belong to this task alone.
        unsafe { accumulate(self.pass.inputs.layer.isa, panels, 0..panels.count(), 0..cell.gates() * hidden, &group) };
    }
}
