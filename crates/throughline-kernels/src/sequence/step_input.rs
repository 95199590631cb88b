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

/// Computes extra input columns of a step from the state before it, and takes their gradient in backward.
///
/// For attention with input feeding and for scheduled sampling: the rest of the input still takes one product for many
/// steps, and no second loop over time is needed. The extra columns are the last columns of `weight_ih`. Threads call
/// it for disjoint columns at the same time.
///
/// For each row (t, column) of each direction there are [`memory`](Self::memory) numbers that the hook may use as it
/// likes. With a tape they are kept there from forward to backward and beyond, and the caller may read and write them
/// in between ([`Tape::step_memory`](super::Tape::step_memory)): to pass the hook the gradient of other uses of its
/// output, and to collect what its parameters need. The hook must not add up parameter gradients itself, since it sees
/// rows in an order that depends on threads: backward leaves their factors in the rows, and the caller then adds up
/// products of the rows in packed order, with [`Inputs::h_previous`](super::Inputs::h_previous) as the other factor
/// where that is the state.
pub trait StepInput<E>: Sync {
    /// M, the numbers of memory for each row. It does not change between forward and backward. Default: 0.
    fn memory(&self) -> usize {
        0
    }

    /// Writes `extra` `[columns, extra]` from the states before the step, `h_previous` `[columns, H]`. `memory` is
    /// `[columns, M]` and holds nothing of use yet.
    fn forward(&self, at: StepAt, h_previous: &[E], memory: &mut [E], extra: &mut [E]);

    /// Transpose of [`forward`](Self::forward).
    fn backward(&self, at: StepAt, step: StepBackward<'_, E>);
}

/// A step of the backward pass.
#[derive(Debug)]
pub struct StepBackward<'a, E> {
    /// `[columns, H]`, as in forward.
    pub h_previous: &'a [E],
    /// `[columns, extra]`, as forward wrote it.
    pub extra: &'a [E],
    /// `[columns, extra]`: the gradient of `extra`.
    pub d_extra: &'a [E],
    /// `[columns, M]`: what forward left, with the caller's changes since.
    pub memory: &'a mut [E],
    /// `[columns, H]`: the gradient of `h_previous`, to which the hook adds its own.
    pub dh_previous: &'a mut [E],
}
