//! Batches of examples of like length, epoch by epoch.

use throughline_data::LengthBuckets;

use crate::learn::Place;

/// The batches of a run, of which those of one epoch are at hand.
pub(crate) struct Batches {
    buckets: LengthBuckets,
    epoch: Option<(u64, Vec<Vec<usize>>)>,
}

impl Batches {
    /// Batches of `size` examples of these `lengths`.
    pub fn new(lengths: Vec<usize>, size: usize, seed: u64) -> Self {
        Self { buckets: LengthBuckets::new(lengths, size, seed), epoch: None }
    }

    /// How many there are in an epoch.
    pub fn per_epoch(&self) -> u64 {
        self.buckets.batches() as u64
    }

    /// The examples of a batch.
    pub fn at(&mut self, place: Place) -> &[usize] {
        if self.epoch.as_ref().is_none_or(|(epoch, _)| *epoch != place.epoch) {
            self.epoch = Some((place.epoch, self.buckets.epoch(place.epoch)));
        }
        let (_, batches) = self.epoch.as_ref().expect("the epoch was just made");
        &batches[place.index as usize]
    }
}
