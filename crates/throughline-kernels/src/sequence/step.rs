//! One time step, for streaming: the driver over a batch of sequences of length one. Allocates nothing once its scratch
//! has grown, and gives the same bits as the same step inside a longer run.

use crate::Element;

use super::batch::Ragged;
use super::forward::{ForwardPass, InitialStates, Inputs, Record, forward};
use super::layer::{PackedLayer, Scratch};
use super::regularisation::Regularisation;
use crate::threads::Threads;

/// What a step reads and writes. The c's are empty for a cell without cell state.
#[derive(Debug)]
pub struct Step<'a, E> {
    /// The weights of a layer that reads forward and has no step input.
    pub layer: &'a PackedLayer<E>,
    /// [`Ragged::even`]`(1, B)`
    pub batch: &'a Ragged,
    /// `[B, I]`
    pub x: &'a [E],
    /// `[B, H]`: the hidden states before the step.
    pub h: &'a [E],
    /// `[B, H]`: the cell states before the step.
    pub c: &'a [E],
    /// What the layer is regularised by, without masks: of it zoneout is left.
    pub regularisation: Regularisation,
    /// `[B, H]`: the output, overwritten.
    pub y: &'a mut [E],
    /// `[B, H]`: the hidden states after the step, equal to `y`; overwritten.
    pub h_next: &'a mut [E],
    /// `[B, H]`: the cell states after the step, overwritten.
    pub c_next: &'a mut [E],
}

/// Runs one step of a layer on the calling thread.
///
/// # Panics
/// If the layer reads in two directions or has a step input, there are masks, a sequence is longer than 1, or a length does not fit.
pub fn step<E: Element>(step: Step<'_, E>, scratch: &mut Scratch<E>) {
    let Step { layer, batch, x, h, c, regularisation, y, h_next, c_next } = step;
    assert_eq!(layer.shape().directions, 1, "a layer that also reads backward cannot go step by step");
    assert!(regularisation.masks.is_none(), "a step is not one of training: it has no masks");
    assert!(batch.steps() <= 1, "a step is a batch of sequences of length 1, not {}", batch.steps());
    let initial = InitialStates { h, c, restart_h: &[], restart_c: &[] };
    let inputs = Inputs { layer, threads: Threads::ONE, batch, x, initial, regularisation, step_input: None };
    let pass = ForwardPass { y, h_n: h_next, c_n: c_next, record: Record::Nothing };
    forward(&inputs, pass, core::slice::from_mut(scratch));
}
