//! Penalties on the output of a stack in training.

use throughline_kernels::Element;
use throughline_kernels::buffer::Buffer;
use throughline_kernels::ops::activation_penalty::{add_activation_gradient, add_temporal_gradient};

use super::Recurrent;
use super::tape::RecurrentTape;
use crate::module::{Call, Cpu, Pass};

/// What is added to the loss in training for the rows that the top layer of a stack writes (Merity et al. 2017,
/// "Revisiting activation regularization for language RNNs"). Each is a mean over the rows of a batch and their columns,
/// and of batches that make up one update the mean by their weight. Only gradients know of it: the loss that a network
/// returns is that of its head.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ActivationPenalty {
    /// α: of the squares of the output, after the stack's own dropout; 0 for none.
    pub activation: f64,
    /// β: of the squares of the differences of the output, before dropout, between successive steps of a sequence; 0 for
    /// none.
    pub temporal: f64,
}

impl ActivationPenalty {
    pub(super) fn assert_is_one(self) {
        for weight in [self.activation, self.temporal] {
            assert!(weight >= 0.0 && weight.is_finite(), "the weight of a penalty is at least 0, not {weight}");
        }
    }
}

impl Recurrent {
    /// The penalties of a pass, none but in training.
    fn penalty_of(&self, pass: Pass) -> ActivationPenalty {
        if matches!(pass, Pass::Training(_)) { self.penalty } else { ActivationPenalty::default() }
    }

    /// The gradient of the top layer's rows before dropout and penalties. Where the output has none but there are
    /// penalties, it is zeros in `zeros`.
    pub(super) fn row_gradient<'a, E: Element>(
        &self,
        call: Call<'_, E, Self>,
        dy: Option<&'a mut [E]>,
        zeros: &'a mut Buffer<E>,
    ) -> Option<&'a mut [E]> {
        if dy.is_some() || self.penalty_of(call.context.pass) == ActivationPenalty::default() {
            return dy;
        }
        let zeros = zeros.at_least(call.rows.rows() * self.config.output());
        zeros.fill(E::ZERO);
        Some(zeros)
    }

    /// Takes the gradient of the rows that a pass has written, `dy`, back through the stack's own dropout, and adds that of
    /// the penalties: the activation's, which is of what was dropped, before, and the temporal one after.
    pub(super) fn leave_dropout_and_penalties<E: Element>(
        &self,
        call: Call<'_, E, Self>,
        tape: &RecurrentTape<E>,
        dy: &mut [E],
    ) {
        let (batch, output) = (call.rows, self.config.output());
        let Cpu { isa, threads } = call.context.cpu;
        let ActivationPenalty { activation, temporal } = self.penalty_of(call.context.pass);
        if activation > 0.0 {
            add_activation_gradient(*isa, threads, activation * tape.share, tape.output(dy.len()), dy);
        }
        self.dropout(self.config.layers - 1).apply(call.context, batch, 0, output, dy);
        if temporal > 0.0 {
            let y = &tape.layers.last().expect("a stack has layers").y[..dy.len()];
            add_temporal_gradient(*isa, threads, temporal * tape.share, batch, output, y, dy);
        }
    }
}
