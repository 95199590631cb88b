//! Two modules side by side.

use alloc::string::String;
use alloc::vec::Vec;

use throughline_kernels::buffer::Buffer;
use throughline_kernels::cells::CellKind;
use throughline_kernels::ops;
use throughline_kernels::sequence::Ragged;
use throughline_kernels::{Element, Isa};

use crate::error::Result;
use crate::initialise::Initialise;
use crate::memory::LastCall;
use crate::module::{Call, Cpu, Gradients, Layer, Module, Step, TapeSetting, Visit};
use crate::parameters::{Layout, TensorId};
use crate::state::{self, StateArray, StateShape};

/// `A` and `B` read the same input, and each output row is that of `A` followed by that of `B`: `[N, F_A + F_B]`. Its
/// state is that of `A` followed by that of `B`.
///
/// Both must write a row for each row they read; a forward pass panics where one does not, as pooling.
#[derive(Clone, Debug)]
pub struct Concat<A, B> {
    first: A,
    second: B,
}

/// The tape of a [`Concat`].
#[derive(Debug, Default)]
pub struct ConcatTape<E, A, B> {
    first: A,
    second: B,
    last: LastCall,
    y: Buffer<E>,
    /// The gradients of the two outputs.
    d_outputs: [Buffer<E>; 2],
    /// The second module's gradient of the input.
    dx: Buffer<E>,
}

impl<E, A, B> ConcatTape<E, A, B> {
    /// The tape of the first module.
    pub fn first(&self) -> &A {
        &self.first
    }

    /// The tape of the second module.
    pub fn second(&self) -> &B {
        &self.second
    }
}

impl<A: Layer, B: Layer> Concat<A, B> {
    /// `first` and `second`, side by side.
    pub fn new(first: A, second: B) -> Self {
        Self { first, second }
    }

    /// Concatenates the two outputs row by row.
    fn join<E: Element>(&self, first: &[E], second: &[E], y: &mut [E]) {
        let (widths, rows) = ([self.first.width(), self.second.width()], y.chunks_mut(self.width()));
        for ((y, first), second) in rows.zip(first.chunks(widths[0])).zip(second.chunks(widths[1])) {
            y[..widths[0]].copy_from_slice(first);
            y[widths[0]..].copy_from_slice(second);
        }
    }

    /// Transpose of [`join`](Self::join).
    fn split<E: Element>(&self, dy: &[E], first: &mut [E], second: &mut [E]) {
        let (widths, rows) = ([self.first.width(), self.second.width()], dy.chunks(self.width()));
        for ((dy, first), second) in rows.zip(first.chunks_mut(widths[0])).zip(second.chunks_mut(widths[1])) {
            first.copy_from_slice(&dy[..widths[0]]);
            second.copy_from_slice(&dy[widths[0]..]);
        }
    }
}

impl<A: Layer, B: Layer> Layer for Concat<A, B> {
    fn width(&self) -> usize {
        self.first.width() + self.second.width()
    }

    fn state_shape(&self) -> StateShape {
        let mut shape = self.first.state_shape();
        shape.extend(self.second.state_shape());
        shape
    }

    fn state_count(&self) -> usize {
        self.first.state_count() + self.second.state_count()
    }

    fn cells(&self) -> Vec<(String, CellKind)> {
        let mut cells = self.first.cells();
        cells.extend(self.second.cells());
        cells
    }

    fn read_directly(&self) -> Vec<TensorId> {
        let mut tensors = self.first.read_directly();
        tensors.extend(self.second.read_directly());
        tensors
    }

    fn initialise(&self, how: &Initialise, layout: &Layout, parameters: &mut [f32]) {
        self.first.initialise(how, layout, parameters);
        self.second.initialise(how, layout, parameters);
    }
}

impl<E: Element, A: Module<E>, B: Module<E, Input = A::Input>> Module<E> for Concat<A, B> {
    type Input = A::Input;
    type Packed = (A::Packed, B::Packed);
    type Tape = ConcatTape<E, A::Tape, B::Tape>;

    fn packed(&self, isa: Isa, backward: bool) -> Self::Packed {
        (self.first.packed(isa, backward), self.second.packed(isa, backward))
    }

    fn pack(&self, cpu: &Cpu, layout: &Layout, parameters: &[E], packed: &mut Self::Packed) {
        self.first.pack(cpu, layout, parameters, &mut packed.0);
        self.second.pack(cpu, layout, parameters, &mut packed.1);
    }

    fn input_length(&self, x: &Self::Input) -> usize {
        self.first.input_length(x)
    }

    fn set(&self, tape: &mut Self::Tape, setting: TapeSetting) {
        self.first.set(&mut tape.first, setting);
        self.second.set(&mut tape.second, setting);
    }

    fn forward(&self, call: Call<'_, E, Self>, tape: &mut Self::Tape) {
        let Call { context, packed, rows, x, start } = call;
        tape.last.forget();
        let (start_first, start_second) = start.map(|start| start.split_at(self.first.state_count())).unzip();
        self.first.forward(Call { context, packed: &packed.0, rows, x, start: start_first }, &mut tape.first);
        self.second.forward(Call { context, packed: &packed.1, rows, x, start: start_second }, &mut tape.second);
        let (rows_first, first) = self.first.output(rows, &tape.first);
        let (rows_second, second) = self.second.output(rows, &tape.second);
        assert!(
            core::ptr::eq(rows_first, rows) && core::ptr::eq(rows_second, rows),
            "the modules of a `Concat` must write a row for each row they read"
        );
        self.join(first, second, tape.y.at_least(rows.rows() * self.width()));
        tape.last.remember(call);
    }

    fn output<'a>(&self, rows: &'a Ragged, tape: &'a Self::Tape) -> (&'a Ragged, &'a [E]) {
        (rows, &tape.y[..tape.last.row_count(rows) * self.width()])
    }

    fn end(&self, rows: &Ragged, tape: &Self::Tape, state: &mut [StateArray<E>]) {
        let (first, second) = state::split_mut(state, self.first.state_count());
        self.first.end(rows, &tape.first, first);
        self.second.end(rows, &tape.second, second);
    }

    fn state_after(&self, rows: &Ragged, steps: usize, tape: &Self::Tape, state: &mut [StateArray<E>]) {
        let (first, second) = state::split_mut(state, self.first.state_count());
        self.first.state_after(rows, steps, &tape.first, first);
        self.second.state_after(rows, steps, &tape.second, second);
    }

    /// `dx = dx_A + dx_B`
    fn backward(&self, call: Call<'_, E, Self>, gradients: Gradients<'_, E>, tape: &mut Self::Tape) {
        tape.last.assert_was(call);
        let count = self.first.state_count();
        let Call { context, packed, rows, x, start } = call;
        let Gradients { dy, d_end, mut dx, d_start, parameters } = gradients;
        let (start_first, start_second) = start.map(|start| start.split_at(count)).unzip();
        let (d_end_first, d_end_second) = d_end.map(|d_end| state::split(d_end, count)).unzip();
        let (d_start_first, d_start_second) = d_start.map(|d_start| state::split_mut(d_start, count)).unzip();
        let [first, second] = &mut tape.d_outputs;
        let d_outputs = dy.map(|dy| {
            let (width, count) = (self.width(), rows.rows());
            assert_eq!(dy.len(), count * width, "dy is [N, {width}], N = {count}");
            let first = first.at_least(count * self.first.width());
            let second = second.at_least(count * self.second.width());
            self.split(dy, first, second);
            (first, second)
        });
        let (dy_first, dy_second) = d_outputs.unzip();
        self.first.backward(
            Call { context, packed: &packed.0, rows, x, start: start_first },
            Gradients {
                dy: dy_first,
                d_end: d_end_first,
                dx: dx.as_deref_mut(),
                d_start: d_start_first,
                parameters: &mut *parameters,
            },
            &mut tape.first,
        );
        let mut dx_second = dx.as_ref().map(|dx| tape.dx.at_least(dx.len()));
        self.second.backward(
            Call { context, packed: &packed.1, rows, x, start: start_second },
            Gradients {
                dy: dy_second,
                d_end: d_end_second,
                dx: dx_second.as_deref_mut(),
                d_start: d_start_second,
                parameters,
            },
            &mut tape.second,
        );
        if let (Some(dx), Some(second)) = (dx, dx_second) {
            ops::add(context.cpu.isa, &context.cpu.threads, dx, second);
        }
    }

    fn step<'a>(
        &self,
        step: Step<'_, E, Self>,
        state: &mut [StateArray<E>],
        tape: &'a mut Self::Tape,
    ) -> Result<&'a [E]> {
        let Step { context, packed, x, begun } = step;
        tape.last.forget();
        let (first, second) = state::split_mut(state, self.first.state_count());
        let first = self.first.step(Step { context, packed: &packed.0, x, begun }, first, &mut tape.first)?;
        let second = self.second.step(Step { context, packed: &packed.1, x, begun }, second, &mut tape.second)?;
        let y = tape.y.at_least(begun.len() * self.width());
        self.join(first, second, y);
        Ok(y)
    }

    fn visit(&self, tape: &Self::Tape, visitor: &mut dyn Visit<E>) {
        self.first.visit(&tape.first, visitor);
        self.second.visit(&tape.second, visitor);
    }
}
