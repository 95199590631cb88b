//! One time step, for streaming: the driver over a batch of sequences of length one. Allocates nothing once its scratch
//! has grown, and gives the same bits as the same step inside a longer run.

use throughline_simd::Element;

use super::batch::Ragged;
use super::forward::{InitialStates, Record, forward};
use super::layer::{PackedLayer, Scratch};
use crate::threads::Threads;

/// Runs one step of a layer that reads forward, on the calling thread.
///
/// `x` is `[B, I]`, `y` `[B, H]`; `h` and `c` (`[B, H]`, `c` empty for a cell without cell state) are the states before the
/// step; the states after it go to `h_next` (equal to `y`) and `c_next`. `batch` is [`Ragged::even`]`(1, B)`.
///
/// # Panics
/// If the layer reads in two directions, or a length does not fit.
#[allow(clippy::too_many_arguments)]
pub fn step<E: Element>(
    layer: &PackedLayer<E>,
    batch: &Ragged,
    x: &[E],
    (h, c): (&[E], &[E]),
    y: &mut [E],
    (h_next, c_next): (&mut [E], &mut [E]),
    scratch: &mut Scratch<E>,
) {
    assert_eq!(layer.shape().directions, 1, "a layer that also reads backward cannot go step by step");
    assert!(batch.steps() <= 1, "a step is a batch of sequences of length 1");
    let initial = InitialStates { h, c, restart_h: &[], restart_c: &[] };
    let scratch = core::slice::from_mut(scratch);
    forward(layer, Threads::ONE, batch, x, &initial, y, h_next, c_next, Record::Nothing, scratch, None);
}
