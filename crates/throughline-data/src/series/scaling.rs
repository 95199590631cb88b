//! Scaling of numbers: fitted on the training split, and the same ever after.

use serde::{Deserialize, Serialize};

/// How the numbers of a channel are brought to a common size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scaling {
    /// To mean 0 and deviation 1.
    #[default]
    Standard,
    /// To the range from 0 to 1.
    Range,
    /// As they are.
    None,
}

/// The scaling of one channel: x becomes (x - shift) / factor.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// Taken away first.
    pub shift: f64,
    /// Divided by then; above 0.
    pub factor: f64,
    /// The mean of the numbers it was fitted to, unscaled, which stands for missing ones.
    pub mean: f64,
}

impl Scale {
    /// Fits a scaling to `numbers`, of which those that are NaN do not count. Numbers that are all equal are only shifted.
    /// `None` if there are none.
    pub fn fit(scaling: Scaling, numbers: impl Iterator<Item = f64> + Clone) -> Option<Self> {
        let present = || numbers.clone().filter(|number| !number.is_nan());
        let count = present().count();
        if count == 0 {
            return None;
        }
        let least = present().fold(f64::INFINITY, f64::min);
        let most = present().fold(f64::NEG_INFINITY, f64::max);
        // Relative to the least number, so that large ones that differ little keep their digits.
        let above = present().map(|number| number - least).sum::<f64>() / count as f64;
        let mean = least + above;
        let (shift, factor) = match scaling {
            Scaling::None => (0.0, 1.0),
            Scaling::Range => (least, most - least),
            Scaling::Standard => {
                let squares = present().map(|number| (number - least - above).powi(2)).sum::<f64>();
                (mean, (squares / count as f64).sqrt())
            }
        };
        let usable = least < most && factor.is_finite() && factor >= f64::MIN_POSITIVE;
        let scale = Self { shift, factor: if usable { factor } else { 1.0 }, mean };
        // Numbers from end to end of what 64 bits hold.
        Some(if scale.is_valid() { scale } else { Self { shift: 0.0, factor: 1.0, mean: 0.0 } })
    }

    /// Whether the file of a model may hold this.
    pub fn is_valid(&self) -> bool {
        self.shift.is_finite() && self.factor.is_finite() && self.factor > 0.0 && self.mean.is_finite()
    }

    /// The scaled number.
    pub fn apply(&self, number: f64) -> f64 {
        (number - self.shift) / self.factor
    }

    /// The number that was scaled.
    pub fn undo(&self, scaled: f64) -> f64 {
        scaled * self.factor + self.shift
    }
}

/// What is made of numbers that are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MissingNumbers {
    /// They are refused.
    #[default]
    Refuse,
    /// They are read as the mean of the channel in the training split, and beside each channel stands another that is 1 where
    /// its number is there and 0 where it is missing.
    Mask,
    /// They are read as the number before in the same channel and series; before the first one, as the mean of the channel.
    Forward,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(scaling: Scaling, numbers: &[f64]) -> Option<Scale> {
        Scale::fit(scaling, numbers.iter().copied())
    }

    #[test]
    fn numbers_are_brought_to_size_and_back() {
        let numbers = [1e9 + 1.0, f64::NAN, 1e9 + 3.0, 1e9 + 5.0];
        let scale = fit(Scaling::Standard, &numbers).unwrap();
        assert_eq!((scale.shift, scale.mean), (1e9 + 3.0, 1e9 + 3.0));
        assert!((scale.factor - (8.0f64 / 3.0).sqrt()).abs() < 1e-12);
        let range = fit(Scaling::Range, &numbers).unwrap();
        let mean = 1e9 + 3.0;
        assert_eq!(range, Scale { shift: 1e9 + 1.0, factor: 4.0, mean });
        assert_eq!(numbers.map(|number| range.apply(number))[2..], [0.5, 1.0]);
        assert_eq!(range.undo(0.25), 1e9 + 2.0);
        assert_eq!(fit(Scaling::None, &numbers), Some(Scale { shift: 0.0, factor: 1.0, mean }));
    }

    #[test]
    fn equal_numbers_are_only_shifted_and_none_have_no_scale() {
        for scaling in [Scaling::Standard, Scaling::Range] {
            assert_eq!(fit(scaling, &[0.1; 7]), Some(Scale { shift: 0.1, factor: 1.0, mean: 0.1 }), "{scaling:?}");
            assert_eq!(fit(scaling, &[f64::NAN]), None);
            let extreme = fit(scaling, &[-f64::MAX, f64::MAX]).unwrap();
            assert!(extreme.is_valid(), "{extreme:?}");
        }
    }
}
