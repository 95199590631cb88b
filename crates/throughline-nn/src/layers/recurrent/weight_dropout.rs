//! Dropout of the recurrent weights, DropConnect as in Merity et al. ("Regularizing and optimizing LSTM language models",
//! 2018): a pass of training computes with W' = M W_hh / (1 - p), element by element, M zeros with probability p and
//! ones, the same for all steps, sequences and passes of an update.
//!
//! The weights are packed from W' once for a pass, forward and transposed alike, so the engine knows nothing of it. It
//! yields dW', and dW_hh = M dW' / (1 - p): the same operator on the gradient. The masks are drawn anew for it.

use throughline_kernels::Element;
use throughline_kernels::buffer::Buffer;
use throughline_kernels::sequence::{
    DirectionWeights, LayerGradients, LayerShape, Masks, NormalisationGradients, PackedLayer,
};

use crate::module::Cpu;

const NOT_PACKED: &str = "forward packs the weights of its pass";

/// The weights of a layer of which some are dropped.
#[derive(Debug, Default)]
pub(super) struct WeightDropout<E> {
    packed: Option<PackedLayer<E>>,
    /// `[D, G·H, H]`: W' while it is packed, then dW'.
    weights: Buffer<E>,
}

/// The masks of a layer's recurrent weights in one pass.
#[derive(Clone, Copy)]
pub(super) struct WeightMasks {
    pub masks: Masks,
    pub rate: f32,
}

impl WeightMasks {
    /// Adds M dW' / (1 - p) to the gradients of W_hh; `dropped` is dW', `[D, G·H, H]`, overwritten.
    pub fn add_gradients<E: Element>(
        self,
        cpu: &Cpu,
        dropped: &mut [E],
        gradients: &mut [LayerGradients<'_, E>],
        hidden: usize,
    ) {
        let length = dropped.len() / gradients.len();
        for (direction, (dropped, gradients)) in dropped.chunks_mut(length).zip(gradients).enumerate() {
            self.apply(cpu, direction, dropped, hidden);
            for (sum, dropped) in gradients.weight_hh.iter_mut().zip(&*dropped) {
                *sum = *sum + *dropped;
            }
        }
    }

    /// Multiplies rows `[G·H, H]` by the masks of `direction`.
    fn apply<E: Element>(self, cpu: &Cpu, direction: usize, rows: &mut [E], hidden: usize) {
        let dropout = self.masks.of_weights(direction, self.rate);
        dropout.apply(cpu.isa, &cpu.threads, rows, hidden, &|row| (row as u32, 0));
    }
}

impl<E: Element> WeightDropout<E> {
    /// Packs the layer's `weights`, one for each direction, with W' for W_hh.
    pub fn pack(&mut self, cpu: &Cpu, shape: LayerShape, masks: WeightMasks, weights: &[DirectionWeights<'_, E>]) {
        if self.packed.as_ref().is_none_or(|packed| packed.shape() != shape || packed.isa() != cpu.isa) {
            self.packed = Some(PackedLayer::new(shape, cpu.isa, true));
        }
        let length = shape.gate_rows() * shape.hidden;
        let mut dropped = [weights[0]; 2];
        let copies = self.weights.at_least(weights.len() * length).chunks_mut(length);
        for (direction, (copy, weights)) in copies.zip(weights).enumerate() {
            copy.copy_from_slice(weights.weight_hh);
            masks.apply(cpu, direction, copy, shape.hidden);
            dropped[direction] = DirectionWeights { weight_hh: copy, ..*weights };
        }
        let packed = self.packed.as_mut().expect("it was made above");
        packed.pack(&cpu.threads, &dropped[..weights.len()]);
    }

    /// The packed weights of the last pass.
    pub fn packed(&self) -> &PackedLayer<E> {
        self.packed.as_ref().expect(NOT_PACKED)
    }

    /// The same, and zeros for dW' of each direction, `[D, G·H, H]`.
    pub fn split(&mut self) -> (&PackedLayer<E>, &mut [E]) {
        let packed = self.packed.as_ref().expect(NOT_PACKED);
        let shape = packed.shape();
        let gradients = self.weights.at_least(shape.directions * shape.gate_rows() * shape.hidden);
        gradients.fill(E::ZERO);
        (packed, gradients)
    }
}

/// Where backward adds the gradients: `dropped`, `[D, G·H, H]`, takes those of W_hh unless it is empty.
pub(super) fn received<'a, E>(
    gradients: &'a mut [LayerGradients<'_, E>; 2],
    dropped: &'a mut [E],
) -> [LayerGradients<'a, E>; 2] {
    let mut dropped = dropped.chunks_mut(gradients[0].weight_hh.len().max(1));
    gradients.each_mut().map(|of| LayerGradients {
        weight_ih: &mut *of.weight_ih,
        weight_hh: dropped.next().unwrap_or(&mut *of.weight_hh),
        bias_ih: &mut *of.bias_ih,
        bias_hh: &mut *of.bias_hh,
        normalisation: of.normalisation.as_mut().map(|of| NormalisationGradients {
            input: &mut *of.input,
            hidden: &mut *of.hidden,
            cell: &mut *of.cell,
            cell_bias: &mut *of.cell_bias,
        }),
    })
}
