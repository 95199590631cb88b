//! The learning rate over a run.

use serde::{Deserialize, Serialize};

use crate::recipe::{Schedule, ScheduleKind, StepUnit};

/// How long a run and its epochs are, in updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Updates of the run.
    pub updates: u64,
    /// Updates of an epoch, at least 1.
    pub epoch: u64,
}

impl Schedule {
    /// The factor on the peak learning rate at `update` (from 0) of a run.
    ///
    /// With `w = warmup`, `s = update - w` updates since the warm-up, `n` the [`length`](Self::length) and `S = n - w - 1` the
    /// last such `s`:
    ///
    /// ```text
    /// warm-up    (update + 1) / (w + 1)                                          while update < w
    /// constant   1
    /// step       max(floor, gamma^k)                                             k: steps taken, see below
    /// cosine     floor + (1 - floor) * (1 + cos(pi * s / S)) / 2                 1 at s = 0, floor at s = S and after
    /// plateau    max(floor, gamma^steps)                                         steps: see `Plateau`
    /// one-cycle  straight lines through (0, start), (M, 1), (2 M, start), (n - 1, floor), with M = cycle * (n - 1) / 2
    /// ```
    ///
    /// The first update after the warm-up has the factor 1. Steps are taken after `first_step` units, or `step_every` if that is
    /// 0, and then after every `step_every`; units are updates since the warm-up, or epochs since the beginning of the run.
    /// Only `plateau` uses the last argument.
    pub fn factor(&self, update: u64, run: Span, plateau: &Plateau) -> f64 {
        if update < self.warmup {
            return (update + 1) as f64 / (self.warmup + 1) as f64;
        }
        let since = update - self.warmup;
        match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Step => match self.step_unit {
                StepUnit::Updates => self.after_steps(self.steps_after(since)),
                StepUnit::Epochs => self.after_steps(self.steps_after(update / run.epoch)),
            },
            ScheduleKind::Cosine => {
                let last = self.length(run.updates).saturating_sub(self.warmup).saturating_sub(1).max(1);
                let progress = (since as f64 / last as f64).min(1.0);
                self.floor + (1.0 - self.floor) * (1.0 + libm::cos(std::f64::consts::PI * progress)) / 2.0
            }
            ScheduleKind::Plateau => self.after_steps(plateau.steps),
            ScheduleKind::OneCycle => {
                let last = self.length(run.updates).saturating_sub(1).max(1) as f64;
                let (update, middle) = ((update as f64).min(last), self.cycle * last / 2.0);
                let line =
                    |from: (f64, f64), to: (f64, f64)| from.1 + (to.1 - from.1) * (update - from.0) / (to.0 - from.0);
                if update <= middle {
                    line((0.0, self.start), (middle, 1.0))
                } else if update <= 2.0 * middle {
                    line((middle, 1.0), (2.0 * middle, self.start))
                } else {
                    line((2.0 * middle, self.start), (last, self.floor))
                }
            }
        }
    }

    /// Updates after which it ends in a run of `total`.
    pub fn length(&self, total: u64) -> u64 {
        if self.steps > 0 { self.steps } else { total }
    }

    /// Steps taken after so many units.
    fn steps_after(&self, units: u64) -> u64 {
        let first = if self.first_step > 0 { self.first_step } else { self.step_every };
        units.checked_sub(first).map_or(0, |later| 1 + later / self.step_every)
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
    /// the count begins again. A loss that is not a number is no new lowest one. Whether this was a step.
    pub fn observe(&mut self, schedule: &Schedule, loss: f64) -> bool {
        if loss < self.best.unwrap_or(f64::INFINITY) {
            (self.best, self.waited) = (Some(loss), 0);
            return false;
        }
        self.waited = self.waited.saturating_add(1);
        let step = self.waited >= schedule.patience;
        if step {
            (self.waited, self.steps) = (0, self.steps.saturating_add(1));
        }
        step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind) -> Schedule {
        Schedule { kind, warmup: 4, step_every: 10, floor: 0.1, ..Schedule::default() }
    }

    /// A run of so many updates.
    fn span(updates: u64) -> Span {
        Span { updates, epoch: 7 }
    }

    fn factor(schedule: &Schedule, update: u64) -> f64 {
        schedule.factor(update, span(105), &Plateau::default())
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

    /// Constant for four epochs, then halved at each: epochs are those of the run, whatever the warm-up.
    #[test]
    fn step_may_count_epochs_and_begin_late() {
        let schedule = Schedule {
            step_every: 1,
            first_step: 4,
            step_unit: StepUnit::Epochs,
            floor: 0.0,
            ..schedule(ScheduleKind::Step)
        };
        let rates: Vec<f64> = [27, 28, 34, 35, 42].map(|update| factor(&schedule, update)).to_vec();
        assert_eq!(rates, [1.0, 0.5, 0.5, 0.25, 0.125]);
        let updates = Schedule { first_step: 25, step_unit: StepUnit::Updates, step_every: 10, ..schedule };
        let rates: Vec<f64> = [28, 29, 38, 39].map(|update| factor(&updates, update)).to_vec();
        assert_eq!(rates, [1.0, 0.5, 0.5, 0.25]);
    }

    #[test]
    fn one_cycle_goes_up_down_and_then_to_the_floor() {
        let kind = ScheduleKind::OneCycle;
        let schedule = Schedule { warmup: 0, start: 0.2, cycle: 0.8, floor: 0.001, ..schedule(kind) };
        let rate = |update| schedule.factor(update, span(101), &Plateau::default());
        for (update, want) in [(0, 0.2), (20, 0.6), (40, 1.0), (60, 0.6), (80, 0.2), (90, 0.1005), (100, 0.001)] {
            assert!((rate(update) - want).abs() < 1e-12, "{} at {update}, not {want}", rate(update));
        }
        assert_eq!(rate(1000), rate(100));
        let whole = Schedule { cycle: 1.0, ..schedule };
        assert!((whole.factor(100, span(101), &Plateau::default()) - 0.2).abs() < 1e-12, "no way down but the cycle's");
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
            assert_eq!(
                own.factor(update, span(9), &Plateau::default()),
                factor(&schedule(ScheduleKind::Cosine), update)
            );
        }
    }

    #[test]
    fn runs_no_longer_than_their_warm_up_are_in_range() {
        for kind in [ScheduleKind::Cosine, ScheduleKind::OneCycle] {
            for (total, update) in (0..=6).flat_map(|total| (0..8).map(move |update| (total, update))) {
                let factor = schedule(kind).factor(update, span(total), &Plateau::default());
                assert!((0.1..=1.0).contains(&factor), "{kind:?}: {factor} at {update} of {total}");
            }
        }
    }

    #[test]
    fn plateau_counts_evaluations_without_a_new_lowest_loss() {
        let schedule = schedule(ScheduleKind::Plateau);
        let mut plateau = Plateau::default();
        let after = |losses: &[f64], plateau: &mut Plateau| {
            losses.iter().for_each(|&loss| _ = plateau.observe(&schedule, loss));
            schedule.factor(50, span(105), plateau)
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
