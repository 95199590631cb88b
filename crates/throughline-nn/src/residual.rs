//! A module beside its input: `y = x + f(x)` (He et al. 2016).

use alloc::string::String;
use alloc::vec::Vec;

use throughline_kernels::buffer::Buffer;
use throughline_kernels::cells::CellKind;
use throughline_kernels::ops::add;
use throughline_kernels::sequence::Ragged;
use throughline_kernels::{Element, Isa};

use crate::error::Result;
use crate::initialise::Initialise;
use crate::memory::LastCall;
use crate::module::{Call, Cpu, Gradients, Layer, Module, Step, TapeSetting, Visit};
use crate::parameters::{Layout, TensorId};
use crate::state::{StateArray, StateShape};

/// `x + f(x)`, where f is a module whose output is as wide as its input and has its rows.
#[derive(Clone, Debug)]
pub struct Residual<M> {
    module: M,
}

/// The tape of a [`Residual`].
#[derive(Debug, Default)]
pub struct ResidualTape<E, T> {
    module: T,
    y: Buffer<E>,
    /// The gradient of f's output, which f may overwrite.
    d_module: Buffer<E>,
    last: LastCall,
}

impl<E, T> ResidualTape<E, T> {
    /// The tape of f.
    pub fn module(&self) -> &T {
        &self.module
    }
}

impl<M: Layer> Residual<M> {
    /// `module` beside its input.
    pub fn new(module: M) -> Self {
        Self { module }
    }

    /// f
    pub fn module(&self) -> &M {
        &self.module
    }
}

impl<M: Layer> Layer for Residual<M> {
    fn width(&self) -> usize {
        self.module.width()
    }

    fn state_shape(&self) -> StateShape {
        self.module.state_shape()
    }

    fn state_count(&self) -> usize {
        self.module.state_count()
    }

    fn cells(&self) -> Vec<(String, CellKind)> {
        self.module.cells()
    }

    fn read_directly(&self) -> Vec<TensorId> {
        self.module.read_directly()
    }

    fn initialise(&self, how: &Initialise, layout: &Layout, parameters: &mut [f32]) {
        self.module.initialise(how, layout, parameters);
    }
}

/// Writes `x + f` to `y`.
fn add_to_input<'a, E: Element>(cpu: &Cpu, x: &[E], f: &[E], y: &'a mut Buffer<E>) -> &'a [E] {
    assert_eq!(x.len(), f.len(), "a module beside its input is as wide as that, and has its rows");
    let y = y.at_least(x.len());
    y.copy_from_slice(x);
    add(cpu.isa, &cpu.threads, y, f);
    y
}

impl<E: Element, M: Module<E, Input = [E]>> Module<E> for Residual<M> {
    type Input = [E];
    type Packed = M::Packed;
    type Tape = ResidualTape<E, M::Tape>;

    fn packed(&self, isa: Isa, backward: bool) -> Self::Packed {
        self.module.packed(isa, backward)
    }

    fn pack(&self, cpu: &Cpu, layout: &Layout, parameters: &[E], packed: &mut Self::Packed) {
        self.module.pack(cpu, layout, parameters, packed);
    }

    fn set(&self, tape: &mut Self::Tape, setting: TapeSetting) {
        self.module.set(&mut tape.module, setting);
    }

    fn input_length(&self, x: &[E]) -> usize {
        self.module.input_length(x)
    }

    fn forward(&self, call: Call<'_, E, Self>, tape: &mut Self::Tape) {
        let Call { context, packed, rows, x, start } = call;
        tape.last.forget();
        self.module.forward(Call { context, packed, rows, x, start }, &mut tape.module);
        let (_, f) = self.module.output(rows, &tape.module);
        add_to_input(context.cpu, x, f, &mut tape.y);
        tape.last.remember(call);
    }

    fn output<'a>(&self, rows: &'a Ragged, tape: &'a Self::Tape) -> (&'a Ragged, &'a [E]) {
        (rows, &tape.y[..tape.last.row_count(rows) * self.width()])
    }

    fn end(&self, rows: &Ragged, tape: &Self::Tape, state: &mut [StateArray<E>]) {
        self.module.end(rows, &tape.module, state);
    }

    fn state_after(&self, rows: &Ragged, steps: usize, tape: &Self::Tape, state: &mut [StateArray<E>]) {
        self.module.state_after(rows, steps, &tape.module, state);
    }

    /// `dx = dy + f'(x) dy`
    fn backward(&self, call: Call<'_, E, Self>, gradients: Gradients<'_, E>, tape: &mut Self::Tape) {
        let Call { context, packed, rows, x, start } = call;
        let Gradients { dy, d_end, mut dx, d_start, parameters } = gradients;
        tape.last.assert_was(call);
        let d_module = dy.as_deref().map(|dy| {
            let d_module = tape.d_module.at_least(dy.len());
            d_module.copy_from_slice(dy);
            d_module
        });
        self.module.backward(
            Call { context, packed, rows, x, start },
            Gradients { dy: d_module, d_end, dx: dx.as_deref_mut(), d_start, parameters },
            &mut tape.module,
        );
        if let (Some(dx), Some(dy)) = (dx, dy) {
            add(context.cpu.isa, &context.cpu.threads, dx, dy);
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
        let f = self.module.step(Step { context, packed, x, begun }, state, &mut tape.module)?;
        Ok(add_to_input(context.cpu, x, f, &mut tape.y))
    }

    fn visit(&self, tape: &Self::Tape, visitor: &mut dyn Visit<E>) {
        self.module.visit(&tape.module, visitor);
    }
}
