//! Medians and quantiles.

use serde::Serialize;

use crate::numbers::ascending;

/// What a sample of numbers looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// A tenth of the numbers are below it.
    pub low: f64,
    /// The median.
    pub median: f64,
    /// A tenth of the numbers are above it.
    pub high: f64,
}

impl Quantiles {
    /// Those of `numbers`, which it reorders: the nearest ranks; zeros if there are none. What is no number counts as the largest.
    pub fn of(numbers: &mut [f64]) -> Self {
        let Some(last) = numbers.len().checked_sub(1) else { return Self::default() };
        let [low, median, high] = [0.1, 0.5, 0.9].map(|share| {
            let rank = (share * last as f64).round() as usize;
            *numbers.select_nth_unstable_by(rank, ascending).1
        });
        Self { low, median, high }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_numbers_of_the_sample() {
        let mut numbers: Vec<f64> = (0..=10).rev().map(f64::from).collect();
        assert_eq!(Quantiles::of(&mut numbers), Quantiles { low: 1.0, median: 5.0, high: 9.0 });
        assert_eq!(Quantiles::of(&mut [3.5]), Quantiles { low: 3.5, median: 3.5, high: 3.5 });
        assert_eq!(Quantiles::of(&mut []), Quantiles::default());
        assert_eq!(Quantiles::of(&mut [1.0, -f64::NAN, 1.0]).low, 1.0);
        assert!(Quantiles::of(&mut [1.0, -f64::NAN, 1.0]).high.is_nan());
    }
}
