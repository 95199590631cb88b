//! Which updates are in the average of the parameters.

use serde::{Deserialize, Serialize};

use crate::recipe::{Average, AverageKind};

/// Whether averaging has begun, and what it waits for until then; it is kept in the checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Averaged {
    begun: bool,
    /// The lowest validation loss so far.
    best: Option<f64>,
    /// Evaluations in a row since `best`.
    waited: u64,
}

impl Averaged {
    /// The beginning of a run.
    pub fn start(settings: &Average) -> Self {
        let begun = match settings.kind {
            AverageKind::None => false,
            AverageKind::Exponential => true,
            AverageKind::Uniform => settings.patience == 0,
        };
        Self { begun, ..Self::default() }
    }

    /// Takes in a validation loss: averaging of all updates alike begins after `settings.patience` evaluations in a row
    /// without a new lowest one, and never ends. A loss that is not a number is no new lowest one.
    pub fn observe(&mut self, settings: &Average, loss: f64) {
        if settings.kind != AverageKind::Uniform || self.begun {
            return;
        }
        if loss < self.best.unwrap_or(f64::INFINITY) {
            (self.best, self.waited) = (Some(loss), 0);
            return;
        }
        self.waited = self.waited.saturating_add(1);
        self.begun = self.waited >= settings.patience;
    }

    /// Whether the next update is averaged.
    pub fn begun(&self) -> bool {
        self.begun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(kind: AverageKind, patience: u64) -> Average {
        Average { kind, patience, ..Average::default() }
    }

    /// The evaluation with which averaging began, from 1; 0 for the beginning of the run.
    fn begins_at(settings: &Average, losses: &[f64]) -> Option<usize> {
        let mut averaged = Averaged::start(settings);
        (0..=losses.len()).find(|&seen| {
            losses[..seen].last().into_iter().for_each(|&loss| averaged.observe(settings, loss));
            averaged.begun()
        })
    }

    #[test]
    fn averaging_begins_when_the_loss_no_longer_falls() {
        let uniform = settings(AverageKind::Uniform, 2);
        for (losses, want) in [
            (&[3.0, 2.0, 2.1, 1.9, 1.95][..], None),
            (&[3.0, 2.0, 2.1, 2.0], Some(4)),
            (&[3.0, 2.0, f64::NAN, 2.5, 1.0, 1.1, 1.2], Some(4)),
        ] {
            assert_eq!(begins_at(&uniform, losses), want, "{losses:?}");
        }
        assert_eq!(begins_at(&settings(AverageKind::Uniform, 0), &[]), Some(0));
        assert_eq!(begins_at(&settings(AverageKind::Exponential, 2), &[1.0; 5]), Some(0));
        assert_eq!(begins_at(&settings(AverageKind::None, 2), &[1.0; 5]), None);
    }
}
