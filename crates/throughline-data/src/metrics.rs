//! Metrics: those of a classifier here, of others below.

use std::fmt;

use crate::printable::printable;

pub(crate) mod entities;
pub(crate) mod frames;
pub(crate) mod residuals;

/// How often examples of each class were predicted as each class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfusionMatrix {
    labels: Vec<String>,
    /// `[classes, classes]`: the row is the true class, the column the predicted one.
    counts: Vec<u64>,
}

/// The metrics of one class, or of one type of entity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassScores {
    /// The share of the predictions of this class that are correct; 0 if there are none.
    pub precision: f64,
    /// The share of the examples of this class that are predicted correctly; 0 if there are none.
    pub recall: f64,
    /// The harmonic mean of the two: `2 * correct / (examples + predictions)`.
    pub f1: f64,
    /// The number of examples of this class.
    pub examples: u64,
    /// The number of predictions of this class.
    pub predictions: u64,
}

impl ClassScores {
    /// `None` if there are neither examples nor predictions.
    fn new(correct: u64, examples: u64, predictions: u64) -> Option<Self> {
        let correct = correct as f64;
        (examples + predictions > 0).then(|| Self {
            precision: correct / predictions.max(1) as f64,
            recall: correct / examples.max(1) as f64,
            f1: 2.0 * correct / (examples + predictions) as f64,
            examples,
            predictions,
        })
    }
}

impl ConfusionMatrix {
    /// A matrix of zeros for the classes with these names.
    pub fn new(labels: Vec<String>) -> Self {
        let counts = vec![0; labels.len() * labels.len()];
        Self { labels, counts }
    }

    /// Counts one prediction.
    ///
    /// # Panics
    /// If a class is not below the number of labels.
    pub fn add(&mut self, truth: u32, prediction: u32) {
        let classes = self.labels.len();
        let (truth, prediction) = (truth as usize, prediction as usize);
        assert!(truth.max(prediction) < classes, "classes {truth} and {prediction} must be below {classes}");
        self.counts[truth * classes + prediction] += 1;
    }

    /// The names of the classes.
    pub fn labels(&self) -> &[String] {
        &self.labels
    }

    /// How often examples of class `truth` were predicted as class `prediction`.
    ///
    /// # Panics
    /// If a class is not below the number of labels.
    pub fn count(&self, truth: usize, prediction: usize) -> u64 {
        let classes = self.labels.len();
        assert!(truth.max(prediction) < classes, "classes {truth} and {prediction} must be below {classes}");
        self.counts[truth * classes + prediction]
    }

    /// The number of predictions counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The share of correct predictions; NaN without predictions.
    pub fn accuracy(&self) -> f64 {
        let correct: u64 = (0..self.labels.len()).map(|class| self.count(class, class)).sum();
        correct as f64 / self.total() as f64
    }

    /// Precision, recall and F1 of a class; `None` if it occurs neither among the examples nor among the predictions.
    ///
    /// # Panics
    /// If the class is not below the number of labels.
    pub fn scores(&self, class: usize) -> Option<ClassScores> {
        let all = 0..self.labels.len();
        let examples = all.clone().map(|prediction| self.count(class, prediction)).sum();
        let predictions = all.map(|truth| self.count(truth, class)).sum();
        ClassScores::new(self.count(class, class), examples, predictions)
    }

    /// The mean F1 of the classes that occur among the examples or the predictions; NaN if none does.
    pub fn macro_f1(&self) -> f64 {
        let f1: Vec<f64> =
            (0..self.labels.len()).filter_map(|class| self.scores(class)).map(|scores| scores.f1).collect();
        f1.iter().sum::<f64>() / f1.len() as f64
    }
}

/// `{"labels": [...], "counts": [[...], ...]}`, a row for each true class.
impl serde::Serialize for ConfusionMatrix {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let rows: Vec<&[u64]> = self.counts.chunks(self.labels.len().max(1)).collect();
        let mut object = serializer.serialize_struct("ConfusionMatrix", 2)?;
        object.serialize_field("labels", &self.labels)?;
        object.serialize_field("counts", &rows)?;
        object.end()
    }
}

/// A table with a row for each true class: its counts by predicted class, recall and F1. Labels are escaped and cut by
/// [`printable`].
impl fmt::Display for ConfusionMatrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEAD: &str = "truth \\ prediction";
        // Columns are headed by the number of their class, so that long names do not widen the table.
        let labels: Vec<String> = self.labels.iter().map(|label| printable(label)).collect();
        let name_width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        let number_width = self.labels.len().to_string().len();
        let head_width = (number_width + 1 + name_width).max(HEAD.len());
        let width = self.counts.iter().max().map_or(1, |most| most.to_string().len()).max(number_width);
        write!(f, "{HEAD:head_width$}")?;
        for column in 1..=self.labels.len() {
            write!(f, " {column:>width$}")?;
        }
        writeln!(f, "  recall     F1")?;
        for (class, label) in labels.iter().enumerate() {
            let number = class + 1;
            let label_width = head_width - number_width - 1;
            write!(f, "{number:>number_width$} {label:label_width$}")?;
            for prediction in 0..self.labels.len() {
                write!(f, " {:>width$}", self.count(class, prediction))?;
            }
            match self.scores(class) {
                Some(scores) => writeln!(f, "  {:6.4} {:6.4}", scores.recall, scores.f1)?,
                None => writeln!(f, "  {:>6} {:>6}", "-", "-")?,
            }
        }
        Ok(())
    }
}

/// The most frequent class, the first if several are equally frequent, and its share, which is the accuracy of always
/// predicting it; `None` without examples.
pub fn majority_class(classes: &[u32]) -> Option<(u32, f64)> {
    let mut sorted = classes.to_vec();
    sorted.sort_unstable();
    let mut largest: &[u32] = &[];
    for class in sorted.chunk_by(|a, b| a == b) {
        if class.len() > largest.len() {
            largest = class;
        }
    }
    largest.first().map(|&class| (class, largest.len() as f64 / classes.len() as f64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matrix(labels: &[&str], pairs: &[(u32, u32)]) -> ConfusionMatrix {
        let mut matrix = ConfusionMatrix::new(labels.iter().map(|&label| label.into()).collect());
        pairs.iter().for_each(|&(truth, prediction)| matrix.add(truth, prediction));
        matrix
    }

    #[test]
    fn the_measures_by_hand() {
        let matrix = matrix(&["a", "b", "c", "d"], &[(0, 0), (0, 0), (0, 1), (1, 1), (2, 0)]);
        assert_eq!(matrix.accuracy(), 0.6);
        let scores = matrix.scores(0).unwrap();
        assert_eq!(
            (scores.precision, scores.recall, scores.examples, scores.predictions),
            (2.0 / 3.0, 2.0 / 3.0, 3, 3)
        );
        let scores = matrix.scores(1).unwrap();
        assert_eq!((scores.precision, scores.recall, scores.f1), (0.5, 1.0, 2.0 / 3.0));
        // Never predicted: no right prediction, so 0 throughout. Never seen at all: no scores.
        assert_eq!(matrix.scores(2).map(|scores| (scores.precision, scores.recall, scores.f1)), Some((0.0, 0.0, 0.0)));
        assert_eq!(matrix.scores(3), None);
        assert!((matrix.macro_f1() - (2.0 / 3.0 + 2.0 / 3.0 + 0.0) / 3.0).abs() < 1e-15);
    }

    #[test]
    fn nothing_predicted_has_no_accuracy() {
        let matrix = matrix(&["a"], &[]);
        assert!(matrix.accuracy().is_nan() && matrix.macro_f1().is_nan());
    }

    #[test]
    fn the_table() {
        let pairs = [(0, 0); 11].into_iter().chain([(0, 1), (1, 1)]).collect::<Vec<_>>();
        let table = matrix(&["tragedy", "comédie", "farce"], &pairs).to_string();
        let expected = "\
truth \\ prediction  1  2  3  recall     F1
1 tragedy          11  1  0  0.9167 0.9565
2 comédie           0  1  0  1.0000 0.6667
3 farce             0  0  0       -      -
";
        assert_eq!(table, expected);
        assert!(matrix(&[], &[]).to_string().starts_with("truth"));
    }

    #[test]
    fn labels_cannot_break_the_table() {
        let hostile = ["\u{1b}[2Jx", "a\nb\tc", "\u{202E}x", &"long ".repeat(1000)];
        let table = matrix(&hostile, &[(0, 0), (3, 1)]).to_string();
        assert_eq!(table.lines().count(), 5);
        assert!(table.lines().all(|line| line.chars().count() == table.lines().next().unwrap().chars().count()));
        assert!(!table.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202E}') && table.len() < 500);
    }

    #[test]
    fn the_majority() {
        assert_eq!(majority_class(&[2, 1, 2, 1, 0]), Some((1, 0.4)));
        assert_eq!(majority_class(&[]), None);
    }

    proptest! {
        #[test]
        fn f1_is_the_harmonic_mean(pairs in prop::collection::vec((0u32..3, 0u32..3), 0..60)) {
            let matrix = matrix(&["a", "b", "c"], &pairs);
            prop_assert_eq!(matrix.total(), pairs.len() as u64);
            for class in 0..3 {
                if let Some(ClassScores { precision, recall, f1, .. }) = matrix.scores(class) {
                    let mean = 2.0 * precision * recall / (precision + recall).max(f64::MIN_POSITIVE);
                    prop_assert!((f1 - mean).abs() < 1e-12);
                }
            }
        }
    }
}
