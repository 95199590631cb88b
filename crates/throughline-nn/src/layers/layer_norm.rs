//! Layer normalisation (Ba, Kiros and Hinton 2016) of each row, `y = weight · (x - mean) / sqrt(variance + 1e-5) + bias`.
//!
//! Between layers it keeps activations in scale whatever the weights below; its equations are in
//! [`throughline_kernels::ops::layer_norm`].

use alloc::format;

use throughline_kernels::buffer::Buffer;
use throughline_kernels::ops::layer_norm::{self, Moments};
use throughline_kernels::sequence::Ragged;
use throughline_kernels::{Element, Isa};

use crate::error::Result;
use crate::initialise::Initialise;
use crate::memory::{Dropout, LastCall};
use crate::module::{Call, Cpu, Gradients, Layer, Module, Step};
use crate::parameters::{Builder, Layout, TensorId};
use crate::state::StateArray;

/// Layer normalisation of F features, PyTorch's `torch.nn.LayerNorm`.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: TensorId,
    bias: TensorId,
    width: usize,
    dropout: Dropout,
}

/// The weights of a [`LayerNorm`].
#[derive(Debug)]
pub struct PackedLayerNorm<E> {
    isa: Isa,
    weight: Buffer<E>,
    bias: Buffer<E>,
}

/// The tape of a [`LayerNorm`]: its output, and the moments of each row.
#[derive(Debug, Default)]
pub struct LayerNormTape<E> {
    y: Buffer<E>,
    moments: alloc::vec::Vec<Moments<E>>,
    last: LastCall,
}

impl LayerNorm {
    /// A normalisation of F = `width` features, with parameters `{name}.weight` `[F]`, initially 1, and `{name}.bias` `[F]`,
    /// initially 0.
    ///
    /// # Panics
    /// If the width is 0.
    pub fn new(builder: &mut Builder, name: &str, width: usize) -> Self {
        assert!(width > 0, "F is at least 1");
        let weight = builder.add(format!("{name}.weight"), &[width]);
        let bias = builder.add(format!("{name}.bias"), &[width]);
        Self { weight, bias, width, dropout: Dropout::default() }
    }

    /// Applies dropout to the output in training: each element is 0 with probability `rate`, and otherwise scaled by
    /// 1 / (1 - rate).
    ///
    /// # Panics
    /// If `rate` is not in [0, 1).
    pub fn with_dropout(self, builder: &mut Builder, rate: f32) -> Self {
        Self { dropout: Dropout::new(builder, rate), ..self }
    }

    fn normalise<E: Element>(
        &self,
        cpu: &Cpu,
        packed: &PackedLayerNorm<E>,
        x: &[E],
        LayerNormTape { y, moments, .. }: &mut LayerNormTape<E>,
    ) {
        moments.resize(x.len() / self.width, Moments::default());
        let y = y.at_least(x.len());
        layer_norm::forward(packed.isa, &cpu.threads, x, [&packed.weight, &packed.bias], y, moments);
    }
}

impl Layer for LayerNorm {
    fn width(&self) -> usize {
        self.width
    }

    fn initialise(&self, _: &Initialise, layout: &Layout, parameters: &mut [f32]) {
        layout.view_mut(parameters, self.weight).fill(1.0);
    }
}

impl<E: Element> Module<E> for LayerNorm {
    /// `[N, F]`
    type Input = [E];
    type Packed = PackedLayerNorm<E>;
    type Tape = LayerNormTape<E>;

    fn packed(&self, isa: Isa, _: bool) -> Self::Packed {
        PackedLayerNorm { isa, weight: Buffer::zeros(self.width), bias: Buffer::zeros(self.width) }
    }

    fn pack(&self, _: &Cpu, layout: &Layout, parameters: &[E], packed: &mut Self::Packed) {
        packed.weight.copy_from_slice(layout.view(parameters, self.weight));
        packed.bias.copy_from_slice(layout.view(parameters, self.bias));
    }

    fn input_length(&self, x: &[E]) -> usize {
        x.len()
    }

    fn forward(&self, call: Call<'_, E, Self>, tape: &mut Self::Tape) {
        let Call { context, packed, rows, x, .. } = call;
        assert_eq!(x.len(), rows.rows() * self.width, "x is [N, {}], N = {}", self.width, rows.rows());
        tape.last.forget();
        self.normalise(context.cpu, packed, x, tape);
        self.dropout.apply(context, rows, 0, self.width, &mut tape.y[..x.len()]);
        tape.last.remember(call);
    }

    fn output<'a>(&self, rows: &'a Ragged, tape: &'a Self::Tape) -> (&'a Ragged, &'a [E]) {
        (rows, &tape.y[..tape.last.row_count(rows) * self.width])
    }

    fn backward(&self, call: Call<'_, E, Self>, gradients: Gradients<'_, E>, tape: &mut Self::Tape) {
        let Call { context, packed, rows, x, .. } = call;
        let Gradients { dy, dx, parameters, .. } = gradients;
        tape.last.assert_was(call);
        assert!(dx.as_ref().is_none_or(|dx| dx.len() == x.len()), "dx is [N, {}], like x", self.width);
        let Some(dy) = dy else {
            dx.into_iter().for_each(|dx| dx.fill(E::ZERO));
            return;
        };
        assert_eq!(dy.len(), x.len(), "dy is [N, {}], N = {}", self.width, rows.rows());
        self.dropout.apply(context, rows, 0, self.width, dy);
        let of_parameters = context.layout.views_mut(parameters, [self.weight, self.bias]);
        let threads = &context.cpu.threads;
        layer_norm::backward(packed.isa, threads, [x, dy], &packed.weight, &tape.moments, dx, of_parameters);
    }

    fn step<'a>(&self, step: Step<'_, E, Self>, _: &mut [StateArray<E>], tape: &'a mut Self::Tape) -> Result<&'a [E]> {
        let streams = step.begun.len();
        assert_eq!(step.x.len(), streams * self.width, "x is [B, {}], B = {streams}", self.width);
        tape.last.forget();
        self.normalise(step.context.cpu, step.packed, step.x, tape);
        Ok(&tape.y[..streams * self.width])
    }
}
