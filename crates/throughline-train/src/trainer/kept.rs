//! The kept update in memory, for a schedule that goes back to it.

use throughline_kernels::optim::{Average, Optimiser};

use crate::run::checkpoint::Counts;

/// Parameters, and after the same update what the optimiser knew and the average of the parameters.
pub(super) struct Kept {
    parameters: Vec<f32>,
    moments: Vec<Vec<f32>>,
    average: Option<Vec<f32>>,
    counts: Counts,
}

impl Counts {
    /// Those at hand.
    pub(super) fn of(optimiser: &Optimiser<f32>, average: Option<&Average<f32>>) -> Self {
        Self { moments: optimiser.updates(), average: average.map_or(0, Average::count) }
    }
}

impl Kept {
    /// A copy of what is at hand.
    pub fn new(parameters: &[f32], optimiser: &Optimiser<f32>, average: Option<&Average<f32>>) -> Self {
        Self {
            parameters: parameters.to_vec(),
            moments: optimiser.state().into_iter().map(|(_, moment)| moment.to_vec()).collect(),
            average: average.map(|average| average.values().to_vec()),
            counts: Counts::of(optimiser, average),
        }
    }

    /// Puts it back.
    pub fn restore(&self, parameters: &mut [f32], optimiser: &mut Optimiser<f32>, average: Option<&mut Average<f32>>) {
        parameters.copy_from_slice(&self.parameters);
        for ((_, moment), kept) in optimiser.state_mut().into_iter().zip(&self.moments) {
            moment.copy_from_slice(kept);
        }
        optimiser.set_updates(self.counts.moments);
        if let (Some(average), Some(kept)) = (average, &self.average) {
            average.values_mut().copy_from_slice(kept);
            average.set_count(self.counts.average);
        }
    }

    /// Parameters, the moments, the average.
    pub fn arrays(&self) -> impl Iterator<Item = &[f32]> {
        std::iter::once(&self.parameters).chain(&self.moments).chain(&self.average).map(Vec::as_slice)
    }

    /// The same, to take up a run again.
    pub fn arrays_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        std::iter::once(&mut self.parameters).chain(&mut self.moments).chain(&mut self.average).map(Vec::as_mut_slice)
    }

    /// Of how many updates moments and average are.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Sets these numbers.
    pub fn set_counts(&mut self, counts: Counts) {
        self.counts = counts;
    }
}
