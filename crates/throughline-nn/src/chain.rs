//! Two modules in sequence.

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
use crate::state::{self, StateArray, StateShape};

/// `A`, then `B`, which reads the output of `A`. Its state is that of `A` followed by that of `B`.
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
    /// The gradient of the output of `A`.
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

    /// Both modules.
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
        let Call { context, packed, rows, x, start } = call;
        let (start_first, start_second) = start.map(|start| start.split_at(self.first.state_count())).unzip();
        self.first.forward(Call { context, packed: &packed.0, rows, x, start: start_first }, &mut tape.first);
        let (rows, x) = self.first.output(rows, &tape.first);
        self.second.forward(Call { context, packed: &packed.1, rows, x, start: start_second }, &mut tape.second);
    }

    fn output<'a>(&self, rows: &'a Ragged, tape: &'a Self::Tape) -> (&'a Ragged, &'a [E]) {
        let (rows, _) = self.first.output(rows, &tape.first);
        self.second.output(rows, &tape.second)
    }

    fn end(&self, rows: &Ragged, tape: &Self::Tape, state: &mut [StateArray<E>]) {
        let (first, second) = state::split_mut(state, self.first.state_count());
        self.first.end(rows, &tape.first, first);
        self.second.end(self.first.output(rows, &tape.first).0, &tape.second, second);
    }

    fn state_after(&self, rows: &Ragged, steps: usize, tape: &Self::Tape, state: &mut [StateArray<E>]) {
        let (first, second) = state::split_mut(state, self.first.state_count());
        self.first.state_after(rows, steps, &tape.first, first);
        self.second.state_after(self.first.output(rows, &tape.first).0, steps, &tape.second, second);
    }

    fn backward(&self, call: Call<'_, E, Self>, gradients: Gradients<'_, E>, tape: &mut Self::Tape) {
        let count = self.first.state_count();
        let Call { context, packed, rows, x, start } = call;
        let Gradients { dy, d_end, dx, d_start, parameters } = gradients;
        let (start_first, start_second) = start.map(|start| start.split_at(count)).unzip();
        let (d_end_first, d_end_second) = d_end.map(|d_end| state::split(d_end, count)).unzip();
        let (d_start_first, d_start_second) = d_start.map(|d_start| state::split_mut(d_start, count)).unzip();
        let (rows_between, between) = self.first.output(rows, &tape.first);
        let d_between = tape.d_between.at_least(between.len());
        self.second.backward(
            Call { context, packed: &packed.1, rows: rows_between, x: between, start: start_second },
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
            Call { context, packed: &packed.0, rows, x, start: start_first },
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
        let (first, second) = state::split_mut(state, self.first.state_count());
        let x = self.first.step(Step { context, packed: &packed.0, x, begun }, first, &mut tape.first)?;
        self.second.step(Step { context, packed: &packed.1, x, begun }, second, &mut tape.second)
    }

    fn visit(&self, tape: &Self::Tape, visitor: &mut dyn Visit<E>) {
        self.first.visit(&tape.first, visitor);
        self.second.visit(&tape.second, visitor);
    }
}
