//! How well sets of pitches are found, frame by frame.

use crate::roll::Pitches;

/// Counts of pitches over frames: those that sound and were found, those that were found and do not sound, and those that
/// sound and were not found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameScores {
    /// Sounding and found.
    pub true_positives: u64,
    /// Found alone.
    pub false_positives: u64,
    /// Sounding alone.
    pub false_negatives: u64,
}

/// `a / b`; 0 of nothing.
fn share(a: u64, b: u64) -> f64 {
    a as f64 / b.max(1) as f64
}

impl FrameScores {
    /// Counts one frame.
    pub fn add(&mut self, truth: Pitches, found: Pitches) {
        self.true_positives += truth.and(found).len() as u64;
        self.false_positives += found.without(truth).len() as u64;
        self.false_negatives += truth.without(found).len() as u64;
    }

    /// The share of what was found that sounds.
    pub fn precision(&self) -> f64 {
        share(self.true_positives, self.true_positives + self.false_positives)
    }

    /// The share of what sounds that was found.
    pub fn recall(&self) -> f64 {
        share(self.true_positives, self.true_positives + self.false_negatives)
    }

    /// The harmonic mean of the two.
    pub fn f1(&self) -> f64 {
        share(2 * self.true_positives, 2 * self.true_positives + self.false_positives + self.false_negatives)
    }

    /// Frame accuracy, TP / (TP + FP + FN) over all frames (Bay, Ehmann and Downie, ISMIR 2009).
    pub fn accuracy(&self) -> f64 {
        share(self.true_positives, self.true_positives + self.false_positives + self.false_negatives)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_measures_by_hand() {
        let set = |pitches: &[u8]| pitches.iter().copied().collect();
        let mut scores = FrameScores::default();
        scores.add(set(&[60, 64, 67]), set(&[60, 64, 70, 71]));
        scores.add(set(&[]), set(&[1]));
        scores.add(set(&[5]), set(&[5]));
        assert_eq!(scores, FrameScores { true_positives: 3, false_positives: 3, false_negatives: 1 });
        assert_eq!((scores.precision(), scores.recall(), scores.f1()), (0.5, 0.75, 0.6));
        assert_eq!(scores.accuracy(), 3.0 / 7.0);
        let none = FrameScores::default();
        assert_eq!((none.precision(), none.recall(), none.f1(), none.accuracy()), (0.0, 0.0, 0.0, 0.0));
    }
}
