//! `[train]` of classifiers: how much the classes count.

use serde::{Deserialize, Serialize};
use throughline_nn::heads::Softmax;
use throughline_nn::module::Layer;
use throughline_nn::network::Network;

use crate::recipe::settings;

settings! {
    /// In table `[train]`: how much the classes count.
    pub struct ClassWeighting {
        /// How much an example counts in training: `"equal"`, or `"balanced"`, so that all classes together count the same: n
        /// / (K n_k) for each of the n_k examples of a class, with n examples and K classes in the training split.
        class_weights: ClassWeights = ClassWeights::Equal,
    }
}

/// How much the classes count in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClassWeights {
    /// `"equal"`: each example counts 1.
    Equal,
    /// `"balanced"`: each class counts the same.
    Balanced,
}

impl ClassWeighting {
    /// The weight of each of `count` classes, given the classes of the training split, in which each occurs; `None` if all
    /// weigh 1.
    pub(crate) fn of(&self, classes: &[u32], count: usize) -> Option<Vec<f64>> {
        if self.class_weights == ClassWeights::Equal {
            return None;
        }
        let mut examples = vec![0_usize; count];
        classes.iter().for_each(|&class| examples[class as usize] += 1);
        let weight = |&of_class: &usize| classes.len() as f64 / (count * of_class.max(1)) as f64;
        Some(examples.iter().map(weight).collect())
    }
}

/// The weight of `targets` together.
pub(crate) fn weight_of(weights: Option<&[f64]>, targets: impl Iterator<Item = u32>) -> f64 {
    targets.map(|target| weights.map_or(1.0, |weights| weights[target as usize])).sum()
}

/// The network with these weights, if there are some.
pub(crate) fn weighted<B: Layer>(network: Network<B, Softmax>, weights: Option<&[f64]>) -> Network<B, Softmax> {
    match weights {
        Some(weights) => network.map_head(|head| head.with_class_weights(weights.to_vec())),
        None => network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balanced_classes_count_the_same_and_the_mean_weight_is_1() {
        let balanced = ClassWeighting { class_weights: ClassWeights::Balanced };
        let classes = [0, 0, 0, 1, 2, 2];
        let weights = balanced.of(&classes, 3).unwrap();
        assert_eq!(weights, [2.0 / 3.0, 2.0, 1.0]);
        assert_eq!(weight_of(Some(&weights), classes.into_iter()), 6.0);
        assert_eq!(ClassWeighting::default().of(&classes, 3), None);
        assert_eq!(weight_of(None, classes.into_iter()), 6.0);
    }
}
