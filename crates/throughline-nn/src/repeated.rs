//! Modules of one type in sequence, as many as a configuration says.

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

/// Modules each of which reads the output of the one before. Its state is theirs, one after the other.
#[derive(Clone, Debug)]
pub struct Repeated<M> {
    modules: Vec<M>,
}

/// The tape of a [`Repeated`].
#[derive(Debug, Default)]
pub struct RepeatedTape<E, T> {
    modules: Vec<T>,
    /// The gradients of the output and the input of the module that runs backward.
    d_between: [Buffer<E>; 2],
}

impl<E, T> RepeatedTape<E, T> {
    /// The tapes of the modules.
    pub fn modules(&self) -> &[T] {
        &self.modules
    }
}

impl<M: Layer> Repeated<M> {
    /// `modules` in sequence.
    ///
    /// # Panics
    /// If there is none.
    pub fn new(modules: Vec<M>) -> Self {
        assert!(!modules.is_empty(), "there is at least one module");
        Self { modules }
    }

    /// The modules, from the first to the last.
    pub fn modules(&self) -> &[M] {
        &self.modules
    }

    fn last(&self) -> &M {
        &self.modules[self.modules.len() - 1]
    }
}

impl<M: Layer> Layer for Repeated<M> {
    fn width(&self) -> usize {
        self.last().width()
    }

    fn state_shape(&self) -> StateShape {
        let mut shape = StateShape::default();
        self.modules.iter().for_each(|module| shape.extend(module.state_shape()));
        shape
    }

    fn state_count(&self) -> usize {
        self.modules.iter().map(Layer::state_count).sum()
    }

    fn cells(&self) -> Vec<(String, CellKind)> {
        self.modules.iter().flat_map(Layer::cells).collect()
    }

    fn read_directly(&self) -> Vec<TensorId> {
        self.modules.iter().flat_map(Layer::read_directly).collect()
    }

    fn initialise(&self, how: &Initialise, layout: &Layout, parameters: &mut [f32]) {
        self.modules.iter().for_each(|module| module.initialise(how, layout, parameters));
    }
}

impl<M: Layer> Repeated<M> {
    /// What the module at `index` reads in a pass: the output of the one before, or `x`.
    fn input<'a, E: Element>(
        &self,
        index: usize,
        (rows, x): (&'a Ragged, &'a [E]),
        tapes: &'a [M::Tape],
    ) -> (&'a Ragged, &'a [E])
    where
        M: Module<E, Input = [E]>,
    {
        match index.checked_sub(1) {
            Some(before) => {
                let (read, x) = self.modules[before].output(rows, &tapes[before]);
                assert_eq!(read.rows(), rows.rows(), "modules that are repeated write a row for each that they read");
                (read, x)
            }
            None => (rows, x),
        }
    }
}

impl<E: Element, M: Module<E, Input = [E]>> Module<E> for Repeated<M> {
    type Input = [E];
    type Packed = Vec<M::Packed>;
    type Tape = RepeatedTape<E, M::Tape>;

    fn packed(&self, isa: Isa, backward: bool) -> Self::Packed {
        self.modules.iter().map(|module| module.packed(isa, backward)).collect()
    }

    fn pack(&self, cpu: &Cpu, layout: &Layout, parameters: &[E], packed: &mut Self::Packed) {
        for (module, packed) in self.modules.iter().zip(packed) {
            module.pack(cpu, layout, parameters, packed);
        }
    }

    fn set(&self, tape: &mut Self::Tape, setting: TapeSetting) {
        tape.modules.resize_with(self.modules.len(), Default::default);
        for (module, tape) in self.modules.iter().zip(&mut tape.modules) {
            module.set(tape, setting);
        }
    }

    fn input_length(&self, x: &[E]) -> usize {
        x.len()
    }

    fn forward(&self, call: Call<'_, E, Self>, tape: &mut Self::Tape) {
        let Call { context, packed, rows, x, mut start } = call;
        tape.modules.resize_with(self.modules.len(), Default::default);
        for (index, module) in self.modules.iter().enumerate() {
            let (own, rest) = start.map(|start| start.split_at(module.state_count())).unzip();
            start = rest;
            let (before, tape) = tape.modules.split_at_mut(index);
            let (rows, x) = self.input(index, (rows, x), before);
            module.forward(Call { context, packed: &packed[index], rows, x, start: own }, &mut tape[0]);
        }
    }

    fn output<'a>(&self, rows: &'a Ragged, tape: &'a Self::Tape) -> (&'a Ragged, &'a [E]) {
        let tape = tape.modules.last().expect("no forward pass has finished here: run forward on this batch first");
        self.last().output(rows, tape)
    }

    fn end(&self, rows: &Ragged, tape: &Self::Tape, mut state: &mut [StateArray<E>]) {
        for (module, tape) in self.modules.iter().zip(&tape.modules) {
            let (own, rest) = state::split_mut(state, module.state_count());
            module.end(rows, tape, own);
            state = rest;
        }
    }

    fn state_after(&self, rows: &Ragged, steps: usize, tape: &Self::Tape, mut state: &mut [StateArray<E>]) {
        for (module, tape) in self.modules.iter().zip(&tape.modules) {
            let (own, rest) = state::split_mut(state, module.state_count());
            module.state_after(rows, steps, tape, own);
            state = rest;
        }
    }

    fn backward(&self, call: Call<'_, E, Self>, gradients: Gradients<'_, E>, tape: &mut Self::Tape) {
        let Call { context, packed, rows, x, mut start } = call;
        let Gradients { mut dy, mut d_end, mut dx, mut d_start, parameters } = gradients;
        let RepeatedTape { modules: tapes, d_between: [d_out, d_in] } = tape;
        let (mut arrays, mut length) = (self.state_count(), 0);
        for (index, module) in self.modules.iter().enumerate().rev() {
            arrays -= module.state_count();
            let (start_before, own_start) = start.map(|start| start.split_at(arrays)).unzip();
            let (d_end_before, own_d_end) = d_end.map(|d_end| state::split(d_end, arrays)).unzip();
            let (d_start_before, own_d_start) = d_start.map(|d_start| state::split_mut(d_start, arrays)).unzip();
            (start, d_end, d_start) = (start_before, d_end_before, d_start_before);
            let (before, tape) = tapes.split_at_mut(index);
            let (rows, x) = self.input(index, (rows, x), before);
            let is_last = index + 1 == self.modules.len();
            let dy = if is_last { dy.take() } else { Some(&mut d_out[..length]) };
            length = x.len();
            let dx = if index == 0 { dx.take() } else { Some(d_in.at_least(x.len())) };
            let gradients = Gradients { dy, d_end: own_d_end, dx, d_start: own_d_start, parameters: &mut *parameters };
            let call = Call { context, packed: &packed[index], rows, x, start: own_start };
            module.backward(call, gradients, &mut tape[0]);
            core::mem::swap(d_out, d_in);
        }
    }

    fn step<'a>(
        &self,
        step: Step<'_, E, Self>,
        mut state: &mut [StateArray<E>],
        tape: &'a mut Self::Tape,
    ) -> Result<&'a [E]> {
        let Step { context, packed, mut x, begun } = step;
        tape.modules.resize_with(self.modules.len(), Default::default);
        let mut tapes = tape.modules.iter_mut();
        let (last, before) = self.modules.split_last().expect("there is at least one module");
        for ((module, packed), tape) in before.iter().zip(packed).zip(&mut tapes) {
            let (own, rest) = state::split_mut(state, module.state_count());
            x = module.step(Step { context, packed, x, begun }, own, tape)?;
            state = rest;
        }
        let (packed, tape) = (&packed[before.len()], tapes.next().expect("a tape for each module"));
        last.step(Step { context, packed, x, begun }, state, tape)
    }

    fn visit(&self, tape: &Self::Tape, visitor: &mut dyn Visit<E>) {
        for (module, tape) in self.modules.iter().zip(&tape.modules) {
            module.visit(tape, visitor);
        }
    }
}
