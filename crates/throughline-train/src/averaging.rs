//! Which updates are in the average of the parameters.

use serde::{Deserialize, Serialize};

use crate::recipe::{Average, AverageKind};

/// When averaging began, and what it waits for until then; it is kept in the checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Averaged {
    /// Updates before the first that is averaged.
    since: Option<u64>,
    /// The lowest validation loss so far.
    best: Option<f64>,
    /// Evaluations in a row since `best`.
    waited: u64,
}

impl Averaged {
    /// The beginning of a run.
    pub fn start(settings: &Average) -> Self {
        let at_once = match settings.kind {
            AverageKind::None => false,
            AverageKind::Exponential => true,
            AverageKind::Uniform => settings.patience == 0,
        };
        Self { since: at_once.then_some(0), ..Self::default() }
    }

    /// Takes in the validation loss after `step` updates: averaging of all updates alike begins after `settings.patience`
    /// evaluations in a row without a new lowest one, and never ends. A loss that is not a number is no new lowest one.
    pub fn observe(&mut self, settings: &Average, step: u64, loss: f64) {
        if settings.kind != AverageKind::Uniform || self.since.is_some() {
            return;
        }
        if loss < self.best.unwrap_or(f64::INFINITY) {
            (self.best, self.waited) = (Some(loss), 0);
            return;
        }
        self.waited = self.waited.saturating_add(1);
        if self.waited >= settings.patience {
            self.since = Some(step);
        }
    }

    /// Whether the next update is averaged.
    pub fn begun(&self) -> bool {
        self.since.is_some()
    }

    /// How many of `step` updates are averaged; `None` if averaging begins after them.
    pub fn count(&self, step: u64) -> Option<u64> {
        self.since.map_or(Some(0), |since| step.checked_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(kind: AverageKind, patience: u64) -> Average {
        Average { kind, patience, ..Average::default() }
    }

    fn count_after(settings: &Average, losses: &[f64]) -> Option<u64> {
        let mut averaged = Averaged::start(settings);
        for (evaluation, &loss) in losses.iter().enumerate() {
            averaged.observe(settings, 10 * evaluation as u64, loss);
        }
        averaged.begun().then(|| averaged.count(100).unwrap())
    }

    #[test]
    fn averaging_begins_when_the_loss_no_longer_falls() {
        let uniform = settings(AverageKind::Uniform, 2);
        for (losses, want) in [
            (&[3.0, 2.0, 2.1, 1.9, 1.95][..], None),
            (&[3.0, 2.0, 2.1, 2.0], Some(70)),
            (&[3.0, 2.0, f64::NAN, 2.5, 1.0, 1.1, 1.2], Some(70)),
        ] {
            assert_eq!(count_after(&uniform, losses), want, "{losses:?}");
        }
        assert_eq!(count_after(&settings(AverageKind::Uniform, 0), &[]), Some(100));
        assert_eq!(count_after(&settings(AverageKind::Exponential, 2), &[1.0; 5]), Some(100));
        assert_eq!(count_after(&settings(AverageKind::None, 2), &[1.0; 5]), None);
    }

    #[test]
    fn it_cannot_have_begun_after_the_last_update() {
        let averaged = Averaged { since: Some(11), ..Averaged::default() };
        assert_eq!((averaged.count(10), averaged.count(12)), (None, Some(1)));
    }
}
