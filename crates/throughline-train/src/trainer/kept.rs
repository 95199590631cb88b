//! The kept update in memory, for a schedule that goes back to it.

use throughline_kernels::optim::Optimiser;

/// Parameters, and what the optimiser knew after the same update.
pub(super) struct Kept {
    parameters: Vec<f32>,
    moments: Vec<Vec<f32>>,
    /// Updates that the moments come of.
    updates: u64,
}

impl Kept {
    /// A copy of what is at hand.
    pub fn new(parameters: &[f32], optimiser: &Optimiser<f32>) -> Self {
        let moments = optimiser.state().into_iter().map(|(_, moment)| moment.to_vec()).collect();
        Self { parameters: parameters.to_vec(), moments, updates: optimiser.updates() }
    }

    /// Puts it back.
    pub fn restore(&self, parameters: &mut [f32], optimiser: &mut Optimiser<f32>) {
        parameters.copy_from_slice(&self.parameters);
        for ((_, moment), kept) in optimiser.state_mut().into_iter().zip(&self.moments) {
            moment.copy_from_slice(kept);
        }
        optimiser.set_updates(self.updates);
    }

    /// Parameters, then the moments.
    pub fn arrays(&self) -> impl Iterator<Item = &[f32]> {
        std::iter::once(&self.parameters).chain(&self.moments).map(Vec::as_slice)
    }

    /// The same, to take up a run again.
    pub fn arrays_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        std::iter::once(&mut self.parameters).chain(&mut self.moments).map(Vec::as_mut_slice)
    }

    /// Updates that the moments come of.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Sets that number.
    pub fn set_updates(&mut self, updates: u64) {
        self.updates = updates;
    }
}
