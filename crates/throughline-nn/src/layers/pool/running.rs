//! Means and largest values over the steps so far, which a pass or a step continues from the state of the one before.

use alloc::vec::Vec;

use throughline_kernels::Element;
use throughline_kernels::buffer::Buffer;

use super::Pooling;
use crate::state::{Start, StateArray};

/// The running sums of a mean, or the running largest values.
#[derive(Debug, Default)]
pub(super) struct Running<E> {
    /// `[B, F]`: the sums or largest values.
    value: Buffer<E>,
    /// `[B]`: the number of steps they are over.
    count: Buffer<E>,
    /// `[B, F]`: the packed row of the largest value, or [`BEFORE`].
    largest: Vec<usize>,
}

/// In place of a packed row: the largest value is from before the pass.
pub(super) const BEFORE: usize = usize::MAX;

impl<E: Element> Running<E> {
    /// Sets each sequence to the state that it starts from, or to no steps.
    pub(super) fn begin(&mut self, sequences: usize, width: usize, start: Option<Start<'_, E>>) {
        let (value, count) = (self.value.at_least(sequences * width), self.count.at_least(sequences));
        self.largest.clear();
        self.largest.resize(sequences * width, BEFORE);
        value.fill(E::ZERO);
        count.fill(E::ZERO);
        let Some(start) = start else { return };
        let (values, counts) = value_and_count(start.arrays, start.begun.len(), width);
        for sequence in (0..sequences).filter(|&sequence| start.begun[sequence]) {
            value[sequence * width..][..width].copy_from_slice(values.of(sequence));
            count[sequence] = counts.values()[sequence];
        }
    }

    /// Adds row `x` `[F]` of a sequence, packed row `row`.
    pub(super) fn read(&mut self, pooling: Pooling, sequence: usize, row: usize, x: &[E]) {
        let columns = sequence * x.len()..(sequence + 1) * x.len();
        let (value, largest) = (&mut self.value[columns.clone()], &mut self.largest[columns]);
        let count = &mut self.count[sequence];
        let first = *count == E::ZERO;
        *count = *count + E::ONE;
        if pooling == Pooling::Mean {
            value.iter_mut().zip(x).for_each(|(sum, x)| *sum = *sum + *x);
            return;
        }
        for ((value, largest), &x) in value.iter_mut().zip(largest).zip(x) {
            if first || exceeds(x, *value) {
                (*value, *largest) = (x, row);
            }
        }
    }

    /// Writes the pooled row `y` `[F]` of a sequence; 0 if it has no steps.
    pub(super) fn write(&self, pooling: Pooling, sequence: usize, y: &mut [E]) {
        y.copy_from_slice(&self.value[sequence * y.len()..][..y.len()]);
        self.divide(pooling, sequence, y);
    }

    /// The division of a mean by the number of steps, which is its own transpose.
    pub(super) fn divide(&self, pooling: Pooling, sequence: usize, y: &mut [E]) {
        let count = self.count[sequence];
        if pooling == Pooling::Mean && count > E::ONE {
            y.iter_mut().for_each(|y| *y = *y / count);
        }
    }

    /// The packed row of each largest value, `[B, F]`, or [`BEFORE`]. Of a mean every entry is [`BEFORE`].
    pub(super) fn largest(&self) -> &[usize] {
        &self.largest
    }

    /// Writes the value and the count to `state`.
    pub(super) fn save(&self, state: &mut [StateArray<E>]) {
        for (array, from) in state.iter_mut().zip([&self.value, &self.count]) {
            let to = array.values_mut();
            to.copy_from_slice(&from[..to.len()]);
        }
    }
}

/// The two arrays of a running pool's state. Panics unless they are those of `sequences` sequences.
pub(super) fn value_and_count<E: Element>(
    state: &[StateArray<E>],
    sequences: usize,
    width: usize,
) -> (&StateArray<E>, &StateArray<E>) {
    let [value, count] = state else { panic!("the state of this pooling has 2 arrays, not {}", state.len()) };
    assert_eq!(value.values().len(), sequences * width, "{} is [B, F], B = {sequences}", value.name());
    assert_eq!(count.values().len(), sequences, "{} is [B, 1], B = {sequences}", count.name());
    (value, count)
}

/// Whether `x` is larger. NaN counts as larger than every number, so that it is not lost.
fn exceeds<E: Element>(x: E, than: E) -> bool {
    x > than || (x.partial_cmp(&x).is_none() && than.partial_cmp(&than).is_some())
}
