//! The hook for inputs that depend on the state.

use core::ops::Range;

use super::batch::Direction;

/// Which rows of which step the driver is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepAt {
    /// The direction that is read.
    pub direction: Direction,
    /// The time step in the whole, whatever the window ([`Ragged::first_step`](super::Ragged::first_step)).
    pub time: usize,
    /// The columns (sorted places) of the batch.
    pub columns: Range<usize>,
}

/// Yields extra input columns of a step from the state before it, and takes their gradient on the way back.
///
/// Attention with input feeding and scheduled sampling go through here: the rest of the input stays hoisted into one
/// product, and there is no second loop. The extra columns are the last columns of `weight_ih`. Threads call it for
/// disjoint columns at the same time.
pub trait StepInput<E>: Sync {
    /// Writes `extra` `[columns, extra]` from the states before the step, `h_previous` `[columns, H]`.
    fn forward(&self, at: StepAt, h_previous: &[E], extra: &mut [E]);

    /// Transpose of [`forward`](Self::forward): adds what `d_extra` `[columns, extra]` gives the states before the step to
    /// `dh_previous` `[columns, H]`. `h_previous` and `extra` are as in forward. The hook keeps what its own parameters
    /// need.
    fn backward(&self, at: StepAt, h_previous: &[E], extra: &[E], d_extra: &[E], dh_previous: &mut [E]);
}
