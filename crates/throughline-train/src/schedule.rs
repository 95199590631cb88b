//! The learning rate over a run.

use serde::{Deserialize, Serialize};

use crate::recipe::{Schedule, ScheduleKind};

impl Schedule {
    /// The factor on the peak learning rate at `update` (from 0) of `total`.
    ///
    /// With `w = warmup`, `s = update - w` updates since the warm-up and `S = n - w - 1` the last such `s`, where `n` is the
    /// [`length`](Self::length):
    ///
    /// ```text
    /// warm-up    (update + 1) / (w + 1)                                          while update < w
    /// constant   1
    /// step       max(floor, gamma^floor(s / step_every))
    /// cosine     floor + (1 - floor) * (1 + cos(pi * s / S)) / 2                 1 at s = 0, floor at s = S and after
    /// plateau    max(floor, gamma^steps)                                         steps: see `Plateau`
    /// ```
    ///
    /// The first update after the warm-up has the factor 1. Only `plateau` uses the last argument.
    pub fn factor(&self, update: u64, total: u64, plateau: &Plateau) -> f64 {
        if update < self.warmup {
            return (update + 1) as f64 / (self.warmup + 1) as f64;
        }
        let since = update - self.warmup;
        match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Step => self.after_steps(since / self.step_every),
            ScheduleKind::Cosine => {
                let last = self.length(total).saturating_sub(self.warmup).saturating_sub(1).max(1);
                let progress = (since as f64 / last as f64).min(1.0);
                self.floor + (1.0 - self.floor) * (1.0 + libm::cos(std::f64::consts::PI * progress)) / 2.0
            }
            ScheduleKind::Plateau => self.after_steps(plateau.steps),
        }
    }

    /// Updates after which it ends in a run of `total`.
    pub fn length(&self, total: u64) -> u64 {
        if self.steps > 0 { self.steps } else { total }
    }

    fn after_steps(&self, steps: u64) -> f64 {
        libm::pow(self.gamma, steps as f64).max(self.floor)
    }
}

/// What the `plateau` schedule remembers of the validation losses; it is kept in the checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plateau {
    /// The lowest validation loss so far.
    best: Option<f64>,
    /// Evaluations in a row since `best` or the last step.
    waited: u64,
    /// Steps taken.
    steps: u64,
}

impl Plateau {
    /// Takes in a validation loss: after `schedule.patience` in a row without a new lowest one, the rate goes down a step and
    /// the count begins again. A loss that is not a number is no new lowest one.
    pub fn observe(&mut self, schedule: &Schedule, loss: f64) {
        if loss < self.best.unwrap_or(f64::INFINITY) {
            (self.best, self.waited) = (Some(loss), 0);
            return;
        }
        self.waited = self.waited.saturating_add(1);
        if self.waited >= schedule.patience {
            (self.waited, self.steps) = (0, self.steps.saturating_add(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind) -> Schedule {
        Schedule { kind, warmup: 4, steps: 0, step_every: 10, gamma: 0.5, floor: 0.1, patience: 2 }
    }

    fn factor(schedule: &Schedule, update: u64) -> f64 {
        schedule.factor(update, 105, &Plateau::default())
    }

    #[test]
    fn the_warm_up_is_a_line_to_the_peak() {
        use ScheduleKind::{Constant, Cosine, Plateau, Step};
        for kind in [Constant, Step, Cosine, Plateau] {
            let schedule = schedule(kind);
            let rates: Vec<f64> = (0..5).map(|update| factor(&schedule, update)).collect();
            assert_eq!(rates, [0.2, 0.4, 0.6, 0.8, 1.0], "{kind:?}");
        }
    }

    #[test]
    fn constant_stays() {
        assert_eq!(factor(&schedule(ScheduleKind::Constant), 104), 1.0);
    }

    #[test]
    fn step_goes_down_after_step_every_updates_but_not_below_the_floor() {
        let schedule = schedule(ScheduleKind::Step);
        assert_eq!(factor(&schedule, 13), 1.0);
        assert_eq!(factor(&schedule, 14), 0.5);
        assert_eq!(factor(&schedule, 24), 0.25);
        assert_eq!(factor(&schedule, 104), 0.1);
        assert_eq!(factor(&schedule, u64::MAX), 0.1);
    }

    #[test]
    fn cosine_ends_at_the_floor_and_stays_there() {
        let schedule = schedule(ScheduleKind::Cosine);
        assert!((factor(&schedule, 54) - 0.55).abs() < 1e-12, "half-way between peak and floor");
        assert_eq!(factor(&schedule, 104), 0.1);
        assert_eq!(factor(&schedule, 1000), 0.1);
        for update in 4..104 {
            assert!(factor(&schedule, update) > factor(&schedule, update + 1), "falls at {update}");
        }
    }

    #[test]
    fn a_schedule_with_a_length_of_its_own_does_not_ask_for_that_of_the_run() {
        let own = Schedule { steps: 105, ..schedule(ScheduleKind::Cosine) };
        for update in 0..=200 {
            assert_eq!(own.factor(update, 9, &Plateau::default()), factor(&schedule(ScheduleKind::Cosine), update));
        }
    }

    #[test]
    fn runs_no_longer_than_their_warm_up_are_in_range() {
        for total in 0..=6 {
            for update in 0..8 {
                let factor = schedule(ScheduleKind::Cosine).factor(update, total, &Plateau::default());
                assert!((0.1..=1.0).contains(&factor), "{factor} at {update} of {total}");
            }
        }
    }

    #[test]
    fn plateau_counts_evaluations_without_a_new_lowest_loss() {
        let schedule = schedule(ScheduleKind::Plateau);
        let mut plateau = Plateau::default();
        let after = |losses: &[f64], plateau: &mut Plateau| {
            losses.iter().for_each(|&loss| plateau.observe(&schedule, loss));
            schedule.factor(50, 105, plateau)
        };
        assert_eq!(after(&[2.0, 2.1, 1.9, 1.9], &mut plateau), 1.0);
        assert_eq!(after(&[f64::NAN], &mut plateau), 0.5, "equal and NaN are not lower");
        assert_eq!(after(&[1.9], &mut plateau), 0.5, "the count begins again after a step");
        assert_eq!(after(&[1.8, 1.85], &mut plateau), 0.5);
        assert_eq!(after(&[1.85], &mut plateau), 0.25);
        assert_eq!(after(&[9.0; 20], &mut plateau), 0.1);
    }

    #[test]
    fn the_plateau_state_survives_being_saved() {
        let mut plateau = Plateau::default();
        for loss in [0.1 + 0.2, 1.0] {
            plateau.observe(&schedule(ScheduleKind::Plateau), loss);
        }
        let saved = serde_json::to_string(&plateau).unwrap();
        assert_eq!(serde_json::from_str::<Plateau>(&saved).unwrap(), plateau);
    }
}
