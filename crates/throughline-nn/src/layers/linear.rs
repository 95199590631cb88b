//! Linear map: `y = x W' + b`, row by row.

use alloc::format;

use throughline_kernels::buffer::Buffer;
use throughline_kernels::ops::linear;
use throughline_kernels::sequence::{Ragged, Scratch};
use throughline_kernels::{Element, Isa};

use crate::error::Result;
use crate::initialise::{self, Initialise};
use crate::memory::{Dropout, LastCall, one_for_each_thread};
use crate::module::{Call, Cpu, Gradients, Layer, Module, Step};
use crate::parameters::{Builder, Layout, TensorId};
use crate::state::StateArray;

/// The parameters of a linear map, as in [`Linear`], attention and the softmax head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinearIds {
    pub(crate) weight: TensorId,
    pub(crate) bias: TensorId,
}

impl LinearIds {
    /// Parameters `{name}.weight` `[O, I]` and `{name}.bias` `[O]`.
    pub(crate) fn new(builder: &mut Builder, name: &str, input: usize, output: usize) -> Self {
        assert!(input > 0 && output > 0, "I and O are at least 1, not {input} and {output}");
        let weight = builder.add(format!("{name}.weight"), &[output, input]);
        Self { weight, bias: builder.add(format!("{name}.bias"), &[output]) }
    }

    pub(crate) fn pack<E: Element>(self, cpu: &Cpu, layout: &Layout, parameters: &[E], packed: &mut linear::Linear<E>) {
        packed.pack(&cpu.threads, layout.view(parameters, self.weight), layout.view(parameters, self.bias));
    }

    pub(crate) fn gradients<'a, E>(self, layout: &Layout, gradients: &'a mut [E]) -> linear::LinearGradients<'a, E> {
        let [weight, bias] = layout.views_mut(gradients, [self.weight, self.bias]);
        linear::LinearGradients { weight, bias }
    }

    /// Sets the weight uniform in ±1/sqrt(I) and leaves the bias 0.
    pub(crate) fn initialise(self, how: &Initialise, layout: &Layout, parameters: &mut [f32]) {
        let limit = 1.0 / libm::sqrt(layout.tensor(self.weight).shape()[1] as f64);
        initialise::uniform(how.seed, layout, self.weight, limit, parameters);
    }
}

/// A linear map from I to O features.
#[derive(Clone, Debug)]
pub struct Linear {
    ids: LinearIds,
    input: usize,
    output: usize,
    dropout: Dropout,
}

/// The tape of a [`Linear`]: its output, and working memory.
#[derive(Debug, Default)]
pub struct LinearTape<E> {
    y: Buffer<E>,
    last: LastCall,
    scratch: alloc::vec::Vec<Scratch<E>>,
}

impl Linear {
    /// A map from I = `input` to O = `output` features, with parameters `{name}.weight` `[O, I]`, initially uniform in
    /// ±1/sqrt(I), and `{name}.bias` `[O]`, initially 0.
    ///
    /// # Panics
    /// If a size is 0.
    pub fn new(builder: &mut Builder, name: &str, input: usize, output: usize) -> Self {
        Self { ids: LinearIds::new(builder, name, input, output), input, output, dropout: Dropout::default() }
    }

    /// Applies dropout to the output in training: each element is 0 with probability `rate`, and otherwise scaled by
    /// 1 / (1 - rate).
    ///
    /// # Panics
    /// If `rate` is not in [0, 1).
    pub fn with_dropout(self, builder: &mut Builder, rate: f32) -> Self {
        Self { dropout: Dropout::new(builder, rate), ..self }
    }
}

impl Layer for Linear {
    fn width(&self) -> usize {
        self.output
    }

    fn initialise(&self, how: &Initialise, layout: &Layout, parameters: &mut [f32]) {
        self.ids.initialise(how, layout, parameters);
    }
}

impl<E: Element> Module<E> for Linear {
    /// `[N, I]`
    type Input = [E];
    type Packed = linear::Linear<E>;
    type Tape = LinearTape<E>;

    fn packed(&self, isa: Isa, backward: bool) -> Self::Packed {
        linear::Linear::new(isa, self.input, self.output, backward)
    }

    fn pack(&self, cpu: &Cpu, layout: &Layout, parameters: &[E], packed: &mut Self::Packed) {
        self.ids.pack(cpu, layout, parameters, packed);
    }

    fn input_length(&self, x: &[E]) -> usize {
        x.len()
    }

    fn forward(&self, call: Call<'_, E, Self>, tape: &mut Self::Tape) {
        let Call { context, packed, rows, x, .. } = call;
        assert_eq!(x.len(), rows.rows() * self.input, "x is [N, {}], N = {}", self.input, rows.rows());
        tape.last.forget();
        let y = tape.y.at_least(rows.rows() * self.output);
        packed.forward(&context.cpu.threads, x, y);
        self.dropout.apply(context, rows, 0, self.output, y);
        tape.last.remember(call);
    }

    fn output<'a>(&self, rows: &'a Ragged, tape: &'a Self::Tape) -> (&'a Ragged, &'a [E]) {
        (rows, &tape.y[..tape.last.row_count(rows) * self.output])
    }

    /// `dx = dy W`, `dW += dy' x`, `db +=` the sum of the rows of dy.
    fn backward(&self, call: Call<'_, E, Self>, gradients: Gradients<'_, E>, tape: &mut Self::Tape) {
        let Call { context, packed, rows, x, .. } = call;
        let Gradients { dy, dx, parameters, .. } = gradients;
        tape.last.assert_was(call);
        assert!(dx.as_ref().is_none_or(|dx| dx.len() == x.len()), "dx is [N, {}], like x", self.input);
        let Some(dy) = dy else {
            dx.into_iter().for_each(|dx| dx.fill(E::ZERO));
            return;
        };
        assert_eq!(dy.len(), rows.rows() * self.output, "dy is [N, {}], N = {}", self.output, rows.rows());
        self.dropout.apply(context, rows, 0, self.output, dy);
        let threads = &context.cpu.threads;
        let scratch = one_for_each_thread(&mut tape.scratch, threads);
        packed.add_gradients(threads, x, dy, self.ids.gradients(context.layout, parameters), scratch);
        if let Some(dx) = dx {
            packed.input_gradient(threads, dy, dx);
        }
    }

    fn step<'a>(&self, step: Step<'_, E, Self>, _: &mut [StateArray<E>], tape: &'a mut Self::Tape) -> Result<&'a [E]> {
        let streams = step.begun.len();
        assert_eq!(step.x.len(), streams * self.input, "x is [B, {}], B = {streams}", self.input);
        tape.last.forget();
        let y = tape.y.at_least(streams * self.output);
        step.packed.forward(&step.context.cpu.threads, step.x, y);
        Ok(y)
    }
}
