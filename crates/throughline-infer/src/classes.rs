//! What all classifiers share: from logits to probabilities, and how predictions are judged.

use std::collections::BTreeMap;

use serde::Serialize;
use throughline_data::ConfusionMatrix;
use throughline_kernels::ops::{RowLoss, cross_entropy};
use throughline_nn::module::Cpu;

/// A class and its probability.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassProbability {
    /// The name of the class.
    pub label: String,
    /// From 0 to 1.
    pub probability: f64,
}

/// Accuracy and macro F1, by the names `accuracy` and `macro_f1`.
pub fn metrics(confusion: &ConfusionMatrix) -> BTreeMap<String, f64> {
    BTreeMap::from([("accuracy".to_owned(), confusion.accuracy()), ("macro_f1".to_owned(), confusion.macro_f1())])
}

/// Counts `predictions` against the true `classes`.
pub fn confusion(labels: &[String], classes: &[u32], predictions: &[u32]) -> ConfusionMatrix {
    let mut matrix = ConfusionMatrix::new(labels.to_vec());
    for (&truth, &prediction) in classes.iter().zip(predictions) {
        matrix.add(truth, prediction);
    }
    matrix
}

/// The probabilities of all classes, the most probable first.
pub(crate) fn probabilities(labels: &[String], logits: &[f32]) -> Vec<ClassProbability> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f64> = logits.iter().map(|&logit| f64::from(logit - largest).exp()).collect();
    let total: f64 = weights.iter().sum();
    // By logits, with -0 as 0: two that differ may have the same probability, and the first class is the one that is measured.
    let mut order: Vec<usize> = (0..labels.len()).collect();
    order.sort_by(|&a, &b| (logits[b] + 0.0).total_cmp(&(logits[a] + 0.0)));
    let of_class =
        |class: usize| ClassProbability { label: labels[class].clone(), probability: weights[class] / total };
    order.into_iter().map(of_class).collect()
}

/// The index of the largest logit, the first if several are equal.
fn most_probable(logits: &[f32]) -> usize {
    (0..logits.len()).reduce(|best, i| if logits[i] > logits[best] { i } else { best }).unwrap_or(0)
}

/// The classes predicted for examples, and the losses of the true ones.
pub(crate) struct Judged<'a> {
    truth: &'a [u32],
    predictions: Vec<u32>,
    losses: Vec<RowLoss>,
}

impl<'a> Judged<'a> {
    /// Of examples with these true classes, none yet.
    pub(crate) fn new(truth: &'a [u32]) -> Self {
        Self { truth, predictions: vec![0; truth.len()], losses: vec![RowLoss::default(); truth.len()] }
    }

    /// Takes the `logits` `[indices, classes]` of some examples.
    pub(crate) fn take(&mut self, cpu: &Cpu, indices: &[usize], classes: usize, logits: &[f32]) {
        let targets: Vec<u32> = indices.iter().map(|&index| self.truth[index]).collect();
        let mut losses = vec![RowLoss::default(); indices.len()];
        cross_entropy(cpu.isa, &cpu.threads, logits, classes, &targets, &mut losses);
        for ((&index, logits), loss) in indices.iter().zip(logits.chunks(classes)).zip(losses) {
            (self.predictions[index], self.losses[index]) = (most_probable(logits) as u32, loss);
        }
    }

    /// The mean loss, the metrics and the confusion matrix of the examples, which have these `lengths`.
    pub(crate) fn finish(self, labels: &[String], lengths: &[usize]) -> (f64, BTreeMap<String, f64>, ConfusionMatrix) {
        let loss = sum_of(lengths, &self.losses) / lengths.len() as f64;
        let matrix = confusion(labels, self.truth, &self.predictions);
        let mut metrics = metrics(&matrix);
        // A model whose loss is not finite must not have a good score.
        if !loss.is_finite() {
            metrics.values_mut().for_each(|value| *value = f64::NAN);
        }
        (loss, metrics, matrix)
    }
}

/// The sum of `losses`, in an order that does not depend on the batches: by ascending length of the examples, 256 at a
/// time.
fn sum_of(lengths: &[usize], losses: &[RowLoss]) -> f64 {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&index| lengths[index]);
    let of_some = |indices: &[usize]| indices.iter().map(|&index| losses[index].loss).sum::<f64>();
    order.chunks(256).map(of_some).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_class_is_the_one_that_is_measured() {
        let labels = ["a", "b", "c"].map(str::to_owned);
        for logits in [[0.0, 1e-45, -1.0], [-0.0, 0.0, -3.0], [2.0, 2.0, 1.0], [-1.0, 0.5, 0.25], [1e30, -1e30, 1e30]] {
            let classes = probabilities(&labels, &logits);
            assert_eq!(classes[0].label, labels[most_probable(&logits)], "{logits:?}");
            assert!(classes.is_sorted_by(|a, b| a.probability >= b.probability), "{classes:?}");
        }
    }
}
