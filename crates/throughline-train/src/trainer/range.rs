//! The learning rate range test (Smith 2017, "Cyclical learning rates for training neural networks", section 3.3): a run with
//! an exponentially rising rate, whose loss shows between which rates a network learns.

use super::Trainer;
use crate::learn::Learn;
use crate::recipe::Schedule;
use crate::{Recipe, Result};

/// Share of the smoothed loss that each update leaves as it is.
const SMOOTHING: f64 = 0.9;
/// The test is over where the smoothed loss is so many times its lowest.
const DIVERGED: f64 = 4.0;

/// Which rates to try.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateRange {
    /// The lowest, above 0.
    pub from: f64,
    /// The highest, above `from`.
    pub to: f64,
    /// Updates, at least 2.
    pub updates: u64,
}

impl RateRange {
    /// `from (to / from)^(update / (updates - 1))`
    fn rate(&self, update: u64) -> f64 {
        self.from * libm::pow(self.to / self.from, update as f64 / (self.updates - 1) as f64)
    }
}

/// An update of the test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RangeRow {
    /// Which, from 0.
    pub update: u64,
    /// Its learning rate.
    pub learning_rate: f64,
    /// Mean loss of its batch before it, in nats.
    pub loss: f64,
    /// Exponential moving average of the losses so far, corrected for its beginning at 0 as Adam's moments are.
    pub smoothed: f64,
}

/// What came of the test.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeTest {
    /// The updates, up to the first whose loss is not finite.
    pub rows: Vec<RangeRow>,
    /// Whether it ended early because the loss rose.
    pub diverged: bool,
}

impl RangeTest {
    /// The row with the lowest smoothed loss.
    pub fn lowest(&self) -> Option<&RangeRow> {
        self.rows.iter().min_by(|a, b| a.smoothed.total_cmp(&b.smoothed))
    }

    /// The row, before the lowest, where the smoothed loss falls most from the row before to the one after; `None` where it
    /// falls nowhere.
    pub fn steepest(&self) -> Option<&RangeRow> {
        let lowest = self.lowest()?.update as usize;
        let fall = |rows: &&[RangeRow]| rows[0].smoothed - rows[2].smoothed;
        let falls = self.rows[..=lowest].windows(3).filter(|rows| fall(rows) > 0.0);
        falls.max_by(|a, b| fall(a).total_cmp(&fall(b))).map(|rows| &rows[1])
    }
}

pub(crate) fn test_range<L: Learn>(
    mut recipe: Recipe,
    range: RateRange,
    watch: &mut dyn FnMut(&RangeRow),
) -> Result<RangeTest> {
    assert!(range.from > 0.0 && range.to > range.from && range.updates >= 2, "rates to try: {range:?}");
    recipe.schedule = Schedule::default();
    let mut trainer = Trainer::<L>::new(recipe)?;
    let mut test = RangeTest { rows: Vec::new(), diverged: false };
    let (mut average, mut lowest) = (0.0, f64::INFINITY);
    for update in 0..range.updates {
        let learning_rate = range.rate(update);
        let Ok(loss) = trainer.update(learning_rate) else {
            test.diverged = true;
            break;
        };
        average = SMOOTHING * average + (1.0 - SMOOTHING) * loss;
        let smoothed = average / (1.0 - libm::pow(SMOOTHING, (update + 1) as f64));
        let row = RangeRow { update, learning_rate, loss, smoothed };
        watch(&row);
        test.rows.push(row);
        lowest = smoothed.min(lowest);
        if smoothed > DIVERGED * lowest {
            test.diverged = true;
            break;
        }
    }
    Ok(test)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(smoothed: &[f64]) -> RangeTest {
        let row = |(update, &smoothed): (usize, &f64)| RangeRow {
            update: update as u64,
            learning_rate: 1e-5 * 10.0_f64.powi(update as i32),
            loss: smoothed,
            smoothed,
        };
        RangeTest { rows: smoothed.iter().enumerate().map(row).collect(), diverged: false }
    }

    #[test]
    fn rates_rise_exponentially() {
        let range = RateRange { from: 1e-6, to: 1.0, updates: 7 };
        for update in 0..7 {
            let want = 10.0_f64.powi(update as i32 - 6);
            assert!((range.rate(update) / want - 1.0).abs() < 1e-12, "{update}");
        }
    }

    #[test]
    fn the_steepest_fall_lies_before_the_lowest_loss() {
        let rows = test(&[3.0, 3.0, 2.9, 2.0, 1.0, 0.9, 5.0, 1.0]);
        assert_eq!(rows.lowest().map(|row| row.update), Some(5));
        assert_eq!(rows.steepest().map(|row| row.update), Some(3));
        for flat in [&[1.0, 1.0, 1.0][..], &[1.0, 2.0, 3.0], &[1.0], &[]] {
            assert_eq!(test(flat).steepest(), None);
        }
    }
}
