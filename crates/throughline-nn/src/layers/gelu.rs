//! The Gaussian error linear unit, number by number; its equations are in
//! [`throughline_kernels::ops::gelu`] and [`throughline_kernels::ops::gelu_gradient`].

use throughline_kernels::buffer::Buffer;
use throughline_kernels::ops::{gelu, gelu_gradient};
use throughline_kernels::sequence::Ragged;
use throughline_kernels::{Element, Isa};

use crate::error::Result;
use crate::memory::LastCall;
use crate::module::{Call, Cpu, Gradients, Layer, Module, Step};
use crate::parameters::Layout;
use crate::state::StateArray;

/// `y = gelu(x)` of F features, PyTorch's `torch.nn.GELU(approximate="tanh")`.
#[derive(Clone, Debug)]
pub struct Gelu {
    width: usize,
}

/// The tape of a [`Gelu`]: its output.
#[derive(Debug, Default)]
pub struct GeluTape<E> {
    y: Buffer<E>,
    last: LastCall,
}

impl Gelu {
    /// A unit for rows of F = `width` features.
    pub fn new(width: usize) -> Self {
        Self { width }
    }
}

impl Layer for Gelu {
    fn width(&self) -> usize {
        self.width
    }
}

impl<E: Element> Module<E> for Gelu {
    /// `[N, F]`
    type Input = [E];
    type Packed = ();
    type Tape = GeluTape<E>;

    fn packed(&self, _: Isa, _: bool) {}

    fn pack(&self, _: &Cpu, _: &Layout, _: &[E], (): &mut ()) {}

    fn input_length(&self, x: &[E]) -> usize {
        x.len()
    }

    fn forward(&self, call: Call<'_, E, Self>, tape: &mut Self::Tape) {
        let Call { context, rows, x, .. } = call;
        assert_eq!(x.len(), rows.rows() * self.width, "x is [N, {}], N = {}", self.width, rows.rows());
        tape.last.forget();
        gelu(context.cpu.isa, &context.cpu.threads, x, tape.y.at_least(x.len()));
        tape.last.remember(call);
    }

    fn output<'a>(&self, rows: &'a Ragged, tape: &'a Self::Tape) -> (&'a Ragged, &'a [E]) {
        (rows, &tape.y[..tape.last.row_count(rows) * self.width])
    }

    fn backward(&self, call: Call<'_, E, Self>, gradients: Gradients<'_, E>, tape: &mut Self::Tape) {
        let Call { context, x, .. } = call;
        tape.last.assert_was(call);
        let Some(dx) = gradients.dx else { return };
        match gradients.dy {
            Some(dy) => {
                dx.copy_from_slice(dy);
                gelu_gradient(context.cpu.isa, &context.cpu.threads, x, dx);
            }
            None => dx.fill(E::ZERO),
        }
    }

    fn step<'a>(&self, step: Step<'_, E, Self>, _: &mut [StateArray<E>], tape: &'a mut Self::Tape) -> Result<&'a [E]> {
        let (Step { context, x, .. }, streams) = (step, step.begun.len());
        assert_eq!(x.len(), streams * self.width, "x is [B, {}], B = {streams}", self.width);
        tape.last.forget();
        let y = tape.y.at_least(x.len());
        gelu(context.cpu.isa, &context.cpu.threads, x, y);
        Ok(y)
    }
}
