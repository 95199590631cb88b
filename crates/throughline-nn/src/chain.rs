//! Modules joined: one after another, or side by side.

use alloc::string::String;
use alloc::vec::Vec;

use throughline_kernels::buffer::Buffer;
use throughline_kernels::cells::CellKind;
use throughline_kernels::sequence::Ragged;
use throughline_kernels::{Element, Isa};

use crate::error::Result;
use crate::initialise::Initialise;
use crate::module::{Call, Cpu, Gradients, Layer, Module, Step, TapeSetting, Visit};
use crate::parameters::{Layout, TensorId};
use crate::state::{StateArray, StateShape};

/// `A`, then `B`, which reads the output of `A`. Its state is that of `A`, then that of `B`.
#[derive(Clone, Debug)]
pub struct Chain<A, B> {
    first: A,
    second: B,
}

/// The tape of a [`Chain`].
#[derive(Debug, Default)]
pub struct ChainTape<E, A, B> {
    first: A,
    second: B,
    /// The gradient of what `A` wrote.
    d_between: Buffer<E>,
}

impl<E, A, B> ChainTape<E, A, B> {
    /// The tape of the first module.
    pub fn first(&self) -> &A {
        &self.first
    }

    /// The tape of the second module.
    pub fn second(&self) -> &B {
        &self.second
    }
}

impl<A: Layer, B: Layer> Chain<A, B> {
    /// `first`, then `second`.
    pub fn new(first: A, second: B) -> Self {
        Self { first, second }
    }

    /// The module that reads the input.
    pub fn first(&self) -> &A {
        &self.first
    }

    /// The module that reads the output of the first.
    pub fn second(&self) -> &B {
        &self.second
    }

    /// Both.
    pub(crate) fn into_modules(self) -> (A, B) {
        (self.first, self.second)
    }
}

impl<A: Layer, B: Layer> Layer for Chain<A, B> {
    fn width(&self) -> usize {
        self.second.width()
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

/// The arrays of the first module, and those of the second.
fn split<E>(arrays: &[StateArray<E>], count: usize) -> (&[StateArray<E>], &[StateArray<E>]) {
    arrays.split_at_checked(count).unwrap_or_else(|| too_few(arrays.len(), count))
}

/// The same, to be changed.
fn split_mut<E>(arrays: &mut [StateArray<E>], count: usize) -> (&mut [StateArray<E>], &mut [StateArray<E>]) {
    let found = arrays.len();
    arrays.split_at_mut_checked(count).unwrap_or_else(|| too_few(found, count))
}

fn too_few(found: usize, count: usize) -> ! {
    panic!("a state of {found} arrays, where the first of two modules has {count}")
}

/// The call of the first of two modules.
fn of_first<'a, E: Element, M, A>(
    call: Call<'a, E, M>,
    packed: &'a A::Packed,
    x: &'a A::Input,
    count: usize,
) -> Call<'a, E, A>
where
    M: Module<E>,
    A: Module<E>,
{
    let start = call.start.map(|start| start.split_at(count).0);
    Call { context: call.context, packed, rows: call.rows, x, start }
}

impl<E: Element, A: Module<E>, B: Module<E, Input = [E]>> Module<E> for Chain<A, B> {
    type Input = A::Input;
    type Packed = (A::Packed, B::Packed);
    type Tape = ChainTape<E, A::Tape, B::Tape>;

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
        let count = self.first.state_count();
        self.first.forward(of_first(call, &call.packed.0, call.x, count), &mut tape.first);
        let (rows, x) = self.first.output(call.rows, &tape.first);
        let start = call.start.map(|start| start.split_at(count).1);
        let call = Call { context: call.context, packed: &call.packed.1, rows, x, start };
        self.second.forward(call, &mut tape.second);
    }

    fn output<'a>(&self, rows: &'a Ragged, tape: &'a Self::Tape) -> (&'a Ragged, &'a [E]) {
        let (rows, _) = self.first.output(rows, &tape.first);
        self.second.output(rows, &tape.second)
    }

    fn end(&self, rows: &Ragged, tape: &Self::Tape, state: &mut [StateArray<E>]) {
        let (first, second) = split_mut(state, self.first.state_count());
        self.first.end(rows, &tape.first, first);
        self.second.end(self.first.output(rows, &tape.first).0, &tape.second, second);
    }

    fn state_after(&self, rows: &Ragged, steps: usize, tape: &Self::Tape, state: &mut [StateArray<E>]) {
        let (first, second) = split_mut(state, self.first.state_count());
        self.first.state_after(rows, steps, &tape.first, first);
        self.second.state_after(self.first.output(rows, &tape.first).0, steps, &tape.second, second);
    }

    fn backward(&self, call: Call<'_, E, Self>, gradients: Gradients<'_, E>, tape: &mut Self::Tape) {
        let count = self.first.state_count();
        let Gradients { dy, d_end, dx, d_start, parameters } = gradients;
        let (d_end_first, d_end_second) = d_end.map(|d_end| split(d_end, count)).unzip();
        let (d_start_first, d_start_second) = d_start.map(|d_start| split_mut(d_start, count)).unzip();
        let (rows, x) = self.first.output(call.rows, &tape.first);
        let d_between = tape.d_between.at_least(x.len());
        let start = call.start.map(|start| start.split_at(count).1);
        self.second.backward(
            Call { context: call.context, packed: &call.packed.1, rows, x, start },
            Gradients {
                dy,
                d_end: d_end_second,
                dx: Some(&mut *d_between),
                d_start: d_start_second,
                parameters: &mut *parameters,
            },
            &mut tape.second,
        );
        self.first.backward(
            of_first(call, &call.packed.0, call.x, count),
            Gradients { dy: Some(d_between), d_end: d_end_first, dx, d_start: d_start_first, parameters },
            &mut tape.first,
        );
    }

    fn step<'a>(
        &self,
        step: Step<'_, E, Self>,
        state: &mut [StateArray<E>],
        tape: &'a mut Self::Tape,
    ) -> Result<&'a [E]> {
        let Step { context, packed, x, begun } = step;
        let (first, second) = split_mut(state, self.first.state_count());
        let x = self.first.step(Step { context, packed: &packed.0, x, begun }, first, &mut tape.first)?;
        self.second.step(Step { context, packed: &packed.1, x, begun }, second, &mut tape.second)
    }

    fn visit(&self, tape: &Self::Tape, visitor: &mut dyn Visit<E>) {
        self.first.visit(&tape.first, visitor);
        self.second.visit(&tape.second, visitor);
    }
}

/// `A` and `B` read the same input; their outputs stand side by side, `[N, A's F + B's F]`. Both must keep the rows as they
/// come in. Its state is that of `A`, then that of `B`.
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
    y: Buffer<E>,
    rows: usize,
    /// The gradients of what each of them wrote.
    d_outputs: [Buffer<E>; 2],
    /// The gradient that the second gives the input.
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

    /// Puts the rows of both outputs side by side.
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
        let count = self.first.state_count();
        self.first.forward(of_first(call, &call.packed.0, call.x, count), &mut tape.first);
        self.second.forward(of_second(call, &call.packed.1, call.x, count), &mut tape.second);
        let (rows, first) = self.first.output(call.rows, &tape.first);
        let (others, second) = self.second.output(call.rows, &tape.second);
        let kept = |rows| core::ptr::eq(rows, call.rows);
        assert!(kept(rows) && kept(others), "modules side by side keep the rows as they come in");
        tape.rows = rows.rows();
        self.join(first, second, tape.y.at_least(tape.rows * self.width()));
    }

    fn output<'a>(&self, rows: &'a Ragged, tape: &'a Self::Tape) -> (&'a Ragged, &'a [E]) {
        assert_eq!(
            tape.rows,
            rows.rows(),
            "the last forward pass had another number of rows: run forward on this batch first"
        );
        (rows, &tape.y[..tape.rows * self.width()])
    }

    fn end(&self, rows: &Ragged, tape: &Self::Tape, state: &mut [StateArray<E>]) {
        let (first, second) = split_mut(state, self.first.state_count());
        self.first.end(rows, &tape.first, first);
        self.second.end(rows, &tape.second, second);
    }

    fn state_after(&self, rows: &Ragged, steps: usize, tape: &Self::Tape, state: &mut [StateArray<E>]) {
        let (first, second) = split_mut(state, self.first.state_count());
        self.first.state_after(rows, steps, &tape.first, first);
        self.second.state_after(rows, steps, &tape.second, second);
    }

    /// The input receives what both give it: dx = dx of A + dx of B.
    fn backward(&self, call: Call<'_, E, Self>, gradients: Gradients<'_, E>, tape: &mut Self::Tape) {
        let count = self.first.state_count();
        let Gradients { dy, d_end, mut dx, d_start, parameters } = gradients;
        let (d_end_first, d_end_second) = d_end.map(|d_end| split(d_end, count)).unzip();
        let (d_start_first, d_start_second) = d_start.map(|d_start| split_mut(d_start, count)).unzip();
        let [first, second] = &mut tape.d_outputs;
        let d_outputs = dy.map(|dy| {
            let first = first.at_least(tape.rows * self.first.width());
            let second = second.at_least(tape.rows * self.second.width());
            self.split(dy, first, second);
            (first, second)
        });
        let (dy_first, dy_second) = d_outputs.unzip();
        self.first.backward(
            of_first(call, &call.packed.0, call.x, count),
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
            of_second(call, &call.packed.1, call.x, count),
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
            throughline_kernels::ops::add(call.context.cpu.isa, &call.context.cpu.threads, dx, second);
        }
    }

    fn step<'a>(
        &self,
        step: Step<'_, E, Self>,
        state: &mut [StateArray<E>],
        tape: &'a mut Self::Tape,
    ) -> Result<&'a [E]> {
        let Step { context, packed, x, begun } = step;
        let (first, second) = split_mut(state, self.first.state_count());
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

/// The call of the second of two modules that read the same input.
fn of_second<'a, E: Element, M, B>(
    call: Call<'a, E, M>,
    packed: &'a B::Packed,
    x: &'a B::Input,
    count: usize,
) -> Call<'a, E, B>
where
    M: Module<E>,
    B: Module<E>,
{
    let start = call.start.map(|start| start.split_at(count).1);
    Call { context: call.context, packed, rows: call.rows, x, start }
}
