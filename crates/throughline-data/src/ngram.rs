//! The baseline of a language model: interpolated n-gram models.

use crate::error::{Error, Result};
use crate::trie::Trie;

/// The cross-entropy of `tokens` in nats per unit under an [`NgramModel`] of `training`.
///
/// # Errors
/// [`Error::TooFew`] as [`NgramModel::fit`] and [`NgramModel::entropy`].
///
/// # Panics
/// As [`NgramModel::fit`] and [`NgramModel::entropy`].
pub fn interpolated_entropy(training: &[u32], tokens: &[u32], vocabulary_size: usize, order: usize) -> Result<f64> {
    NgramModel::fit(training, vocabulary_size, order)?.entropy(tokens)
}

/// An n-gram language model by deleted interpolation (Jelinek and Mercer 1980).
///
/// Let `h_k` be the last `k - 1` tokens before `w`, `c` the count of an n-gram in the training tokens, and `V` the size
/// of the vocabulary. Then
///
/// ```text
/// p_0(w)       = 1 / V
/// p_k(w | h_k) = weight * c(h_k w) / c(h_k) + (1 - weight) * p_(k-1)(w | h_(k-1))        k = 1, ..., order
/// ```
///
/// A context that does not occur in training has weight 0. Contexts of the same `k` and the same `log2 c(h_k)`, rounded
/// down, share a weight. The weights are fitted by expectation maximisation on the last tenth of the training tokens,
/// with counts from the others; then that tenth is counted too.
#[derive(Clone, Debug)]
pub struct NgramModel {
    order: usize,
    vocabulary_size: usize,
    trie: Trie,
    /// For each node: how often its n-gram occurred.
    count: Vec<u32>,
    /// For each node: how often its n-gram was followed by a token.
    followed: Vec<u32>,
    /// The weight for each order and bucket.
    weights: Vec<[f64; BUCKETS]>,
}

/// The possible values of `log2` of a count.
const BUCKETS: usize = u32::BITS as usize;

/// A term in the probability of a token: its relative frequency in a context, and which weight it has.
struct Term {
    /// The index of the order, from 0.
    order: usize,
    bucket: usize,
    frequency: f64,
}

impl NgramModel {
    /// Counts the n-grams of `training` up to `order` (1 for unigrams, 2 for bigrams, 3 for trigrams) and fits the
    /// weights.
    ///
    /// # Errors
    /// [`Error::TooFew`] if there are fewer than 20 training tokens.
    ///
    /// # Panics
    /// If `order` is 0 or a token is not below `vocabulary_size`.
    pub fn fit(training: &[u32], vocabulary_size: usize, order: usize) -> Result<Self> {
        assert!(order > 0, "the order of an n-gram model must be at least 1");
        const FEWEST: usize = 20;
        if training.len() < FEWEST {
            let hint = "use more training text";
            return Err(Error::TooFew { what: "training tokens", needed: FEWEST, found: training.len(), hint });
        }
        let mut model = Self {
            order,
            vocabulary_size,
            trie: Trie::default(),
            count: vec![0],
            followed: vec![0],
            weights: vec![[0.5; BUCKETS]; order],
        };
        model.check(training);
        let (counted, held_out) = training.split_at(training.len() - training.len() / 10);
        let mut contexts = vec![Trie::ROOT];
        counted.iter().for_each(|&token| model.count(&mut contexts, token));
        model.fit_weights(held_out);
        held_out.iter().for_each(|&token| model.count(&mut contexts, token));
        Ok(model)
    }

    /// The cross-entropy of `tokens` in nats per unit: the mean of `-ln p` over all tokens but the first, each given
    /// those before it. It is comparable with the loss of a network that reads the same tokens from the beginning.
    ///
    /// # Errors
    /// [`Error::TooFew`] if there are fewer than two tokens.
    ///
    /// # Panics
    /// If a token is not below the size of the vocabulary.
    pub fn entropy(&self, tokens: &[u32]) -> Result<f64> {
        if tokens.len() < 2 {
            let hint = "use a longer text";
            return Err(Error::TooFew { what: "tokens to predict", needed: 2, found: tokens.len(), hint });
        }
        self.check(tokens);
        let mut nats = 0.0;
        self.for_each_prediction(tokens, |terms| nats -= self.probability(terms).ln());
        Ok(nats / (tokens.len() - 1) as f64)
    }

    fn check(&self, tokens: &[u32]) {
        let size = self.vocabulary_size;
        let largest = tokens.iter().max().map_or(0, |&token| token as usize);
        assert!(largest < size, "token {largest} is not below the vocabulary size {size}");
    }

    /// Counts `token` after each of `contexts`, the nodes of the last 0, 1, 2, ... tokens, and advances these.
    fn count(&mut self, contexts: &mut Vec<u32>, token: u32) {
        // From the longest context down, so that each is read before the next shorter one replaces it.
        for length in (0..contexts.len()).rev() {
            let context = contexts[length];
            let node = self.trie.insert(context, token);
            if node as usize == self.count.len() {
                self.count.push(0);
                self.followed.push(0);
            }
            self.followed[context as usize] += 1;
            self.count[node as usize] += 1;
            match contexts.get_mut(length + 1) {
                Some(longer) => *longer = node,
                None if length + 1 < self.order => contexts.push(node),
                None => {}
            }
        }
    }

    /// Calls `take` with the terms of each token but the first, shortest context first.
    fn for_each_prediction(&self, tokens: &[u32], mut take: impl FnMut(&[Term])) {
        let (mut contexts, mut longer) = (vec![Trie::ROOT], Vec::new());
        let mut terms = Vec::new();
        for (place, &token) in tokens.iter().enumerate() {
            terms.clear();
            longer.clear();
            longer.push(Trie::ROOT);
            // If a context did not occur or was never followed by a token, the same holds for all longer ones.
            for (order, &context) in contexts.iter().enumerate() {
                let followed = self.followed[context as usize];
                if followed == 0 {
                    break;
                }
                let node = self.trie.child(context, token);
                let count = node.map_or(0, |node| self.count[node as usize]);
                let frequency = f64::from(count) / f64::from(followed);
                terms.push(Term { order, bucket: followed.ilog2() as usize, frequency });
                longer.extend(node.filter(|_| longer.len() == order + 1 && order + 1 < self.order));
            }
            if place > 0 {
                take(&terms);
            }
            std::mem::swap(&mut contexts, &mut longer);
        }
    }

    fn probability(&self, terms: &[Term]) -> f64 {
        terms.iter().fold(1.0 / self.vocabulary_size as f64, |shorter, term| {
            let weight = self.weights[term.order][term.bucket];
            weight * term.frequency + (1.0 - weight) * shorter
        })
    }

    /// Fits the weights by expectation maximisation: a weight becomes the expected share of its uses in which the
    /// context, and not a shorter one, generated the token. A pseudo-count on each side keeps it away from 0 and 1.
    fn fit_weights(&mut self, held_out: &[u32]) {
        const MOST_ROUNDS: usize = 100;
        const LEAST_GAIN: f64 = 1e-6;
        let (mut terms, mut ends) = (Vec::new(), Vec::new());
        self.for_each_prediction(held_out, |of_token| {
            terms.extend(of_token.iter().map(|term| Term { ..*term }));
            ends.push(terms.len());
        });
        let mut before = f64::INFINITY;
        for _ in 0..MOST_ROUNDS {
            let mut used = vec![[1.0; BUCKETS]; self.order];
            let mut backed_off = used.clone();
            let mut nats = 0.0;
            let mut start = 0;
            for &end in &ends {
                nats -= self.add_expected_counts(&terms[start..end], &mut used, &mut backed_off).ln();
                start = end;
            }
            let counts = used.iter().flatten().zip(backed_off.iter().flatten());
            for (weight, (used, backed_off)) in self.weights.iter_mut().flatten().zip(counts) {
                *weight = used / (used + backed_off);
            }
            let entropy = nats / ends.len() as f64;
            if before - entropy < LEAST_GAIN {
                break;
            }
            before = entropy;
        }
    }

    /// Adds to `used` the probability that each context generated the token, to `backed_off` the probability that a
    /// shorter one did, and returns the probability of the token.
    fn add_expected_counts(
        &self,
        terms: &[Term],
        used: &mut [[f64; BUCKETS]],
        backed_off: &mut [[f64; BUCKETS]],
    ) -> f64 {
        let mut reached = 1.0;
        for longest in (0..terms.len()).rev() {
            let term = &terms[longest];
            let by_this = self.weights[term.order][term.bucket] * term.frequency / self.probability(&terms[..=longest]);
            used[term.order][term.bucket] += reached * by_this;
            reached *= 1.0 - by_this;
            backed_off[term.order][term.bucket] += reached;
        }
        self.probability(terms)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The probability of `token` after `before`.
    fn probability(model: &NgramModel, before: &[u32], token: u32) -> f64 {
        let mut last = 0.0;
        model.for_each_prediction(&[before, &[token]].concat(), |terms| last = model.probability(terms));
        last
    }

    #[test]
    fn counts_are_those_of_all_training_tokens() {
        // 0 1 2 0 1 2 ... with one 3 at the end, in the held-out tenth.
        let mut training: Vec<u32> = (0..30).map(|i| i % 3).collect();
        training.push(3);
        let model = NgramModel::fit(&training, 5, 2).unwrap();
        let node = |tokens: &[u32]| tokens.iter().try_fold(Trie::ROOT, |node, &token| model.trie.child(node, token));
        let count = |tokens| node(tokens).map_or(0, |node| model.count[node as usize]);
        assert_eq!((count(&[0]), count(&[0, 1]), count(&[2, 0]), count(&[2, 3]), count(&[0, 2])), (10, 10, 9, 1, 0));
        assert_eq!(model.followed[node(&[3]).unwrap() as usize], 0);
        assert_eq!(model.followed[Trie::ROOT as usize], 31);
        assert_eq!(node(&[0, 1, 2]), None);
    }

    #[test]
    fn a_longer_context_pays_where_it_tells() {
        // After 0 0 and 1 1 the other comes, otherwise the same again: only a trigram knows.
        let training: Vec<u32> = (0..4000).map(|i| i / 2 % 2).collect();
        let [unigram, bigram, trigram] = [1, 2, 3].map(|n| interpolated_entropy(&training, &training, 2, n).unwrap());
        let ln2 = std::f64::consts::LN_2;
        assert!(
            (unigram - ln2).abs() < 1e-3 && (bigram - ln2).abs() < 1e-2 && trigram < 0.01,
            "{unigram} {bigram} {trigram}"
        );
    }

    #[test]
    fn a_token_never_seen_costs_a_finite_amount() {
        let training = [0; 1000];
        let nats = interpolated_entropy(&training, &[0, 7, 7, 0], 8, 3).unwrap();
        assert!(nats.is_finite() && nats > 1.0, "{nats}");
    }

    #[test]
    fn expectation_maximisation_finds_the_best_weight() {
        // One weight matters: that of the unigram. Compare with a fine grid.
        let training: Vec<u32> =
            (0..2000u32).map(|i| (i.wrapping_mul(2_654_435_769) >> 16) % 7 % 4 + i / 1950).collect();
        let (counted, held_out) = training.split_at(1800);
        let mut model = NgramModel::fit(&training, 50, 1).unwrap();
        let fitted = model.weights[0][counted.len().ilog2() as usize];
        let mut nats = |weight: f64| {
            model.weights[0] = [weight; BUCKETS];
            let frequency = |t| counted.iter().filter(|&&u| u == t).count() as f64 / counted.len() as f64;
            // The imagined uses are two more observations, ln weight + ln (1 - weight).
            let imagined = weight.ln() + (1.0 - weight).ln();
            -imagined - held_out[1..].iter().map(|&t| (weight * frequency(t) + (1.0 - weight) / 50.0).ln()).sum::<f64>()
        };
        let best = (1..1000).map(|i| f64::from(i) / 1000.0).min_by(|a, b| nats(*a).total_cmp(&nats(*b))).unwrap();
        assert!((fitted - best).abs() < 0.002, "{fitted} {best}");
    }

    #[test]
    fn too_little_text_is_an_error() {
        assert!(matches!(NgramModel::fit(&[0; 19], 2, 2), Err(Error::TooFew { needed: 20, found: 19, .. })));
        let model = NgramModel::fit(&[0; 20], 2, 2).unwrap();
        assert!(matches!(model.entropy(&[0]), Err(Error::TooFew { needed: 2, found: 1, .. })));
    }

    proptest! {
        #[test]
        fn probabilities_sum_to_one(
            training in prop::collection::vec(0u32..5, 20..200),
            before in prop::collection::vec(0u32..6, 1..5),
            order in 1usize..4,
        ) {
            let model = NgramModel::fit(&training, 6, order).unwrap();
            let sum: f64 = (0..6).map(|token| probability(&model, &before, token)).sum();
            prop_assert!((sum - 1.0).abs() < 1e-12, "{}", sum);
        }
    }
}
