//! The baseline of a classifier: multinomial naive Bayes over n-grams.

use crate::trie::Trie;
use crate::unit::Unit;

/// Which n-grams are used, and how their counts are smoothed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NaiveBayesOptions {
    /// The length of the longest n-grams, at least 1. All lengths up to it are used.
    pub longest: usize,
    /// The number added to each count (Lidstone smoothing; 1 is Laplace smoothing), above 0.
    pub alpha: f64,
}

impl NaiveBayesOptions {
    /// For characters and bytes, n-grams up to trigrams with `alpha` 0.1; for words, single words with `alpha` 1.
    pub fn of(unit: Unit) -> Self {
        match unit {
            // Many trigrams occur in few examples: a larger alpha would drown the rare classes.
            Unit::Char | Unit::Byte => Self { longest: 3, alpha: 0.1 },
            Unit::Word => Self { longest: 1, alpha: 1.0 },
        }
    }
}

/// A multinomial naive Bayes classifier (Manning, Raghavan and Schuetze 2008, chapter 13).
///
/// Let `c(f, k)` be how often n-gram `f` occurs in the training examples of class `k`, `F` the number of different
/// n-grams, and `n(f)` how often `f` occurs in the example to classify. The predicted class maximises
///
/// ```text
/// ln p(k) + sum over f of n(f) * ln((c(f, k) + alpha) / (sum over g of c(g, k) + alpha * F))
/// ```
///
/// where `p(k)` is the share of class `k` among the training examples. N-grams of length 2 and more also include a mark
/// before the first token of an example and one after the last. N-grams that do not occur in training are ignored.
#[derive(Clone, Debug)]
pub struct NaiveBayes {
    options: NaiveBayesOptions,
    trie: Trie,
    /// For each node: the classes in which its n-gram occurs, and how often.
    counts: Vec<Vec<(u32, u32)>>,
    /// `ln p(k)`.
    log_prior: Vec<f64>,
    /// `ln` of the denominator.
    log_total: Vec<f64>,
}

/// The marks before and after an example. No vocabulary is large enough to have them as tokens.
const BEGIN: u32 = u32::MAX - 1;
const END: u32 = u32::MAX;

impl NaiveBayes {
    /// Fits the classifier to the tokens and the class, one of `0..class_count`, of each example. A class without
    /// examples is never predicted.
    ///
    /// # Panics
    /// If there are no examples, not as many `classes`, a class is not below `class_count`, or an option is out of its
    /// range.
    pub fn fit(
        examples: &[impl AsRef<[u32]>],
        classes: &[u32],
        class_count: usize,
        options: NaiveBayesOptions,
    ) -> Self {
        assert!(!examples.is_empty(), "naive Bayes needs at least one example");
        assert_eq!(examples.len(), classes.len(), "there must be one class for each example");
        assert!(options.longest > 0, "`longest` must be at least 1");
        assert!(
            options.alpha > 0.0 && options.alpha.is_finite(),
            "`alpha` must be above 0 and finite, not {}",
            options.alpha
        );
        let mut trie = Trie::default();
        let mut counts = vec![Vec::<(u32, u32)>::new()];
        let mut of_class = vec![0usize; class_count];
        let mut total = vec![0usize; class_count];
        // Class by class, so that the count to increment is always the last one of an n-gram.
        let mut order: Vec<usize> = (0..examples.len()).collect();
        order.sort_by_key(|&example| classes[example]);
        for example in order {
            let class = classes[example];
            assert!((class as usize) < class_count, "class {class} is not below the number of classes {class_count}");
            of_class[class as usize] += 1;
            for_each_path(examples[example].as_ref(), options.longest, |path| {
                let mut node = Trie::ROOT;
                for (length, &token) in path.iter().enumerate() {
                    node = trie.insert(node, token);
                    if node as usize == counts.len() {
                        counts.push(Vec::new());
                    }
                    if counted(length, token) {
                        total[class as usize] += 1;
                        match counts[node as usize].last_mut() {
                            Some((last, count)) if *last == class => *count += 1,
                            _ => counts[node as usize].push((class, 1)),
                        }
                    }
                }
            });
        }
        // If all examples are empty there are no n-grams, but the logarithm must be finite.
        let features = counts.iter().filter(|of_node| !of_node.is_empty()).count().max(1) as f64;
        let log_prior = of_class.iter().map(|&n| (n as f64 / examples.len() as f64).ln()).collect();
        let log_total = total.iter().map(|&n| (n as f64 + options.alpha * features).ln()).collect();
        Self { options, trie, counts, log_prior, log_total }
    }

    /// The most probable class for these tokens, the first if several are equally probable.
    pub fn predict(&self, tokens: &[u32]) -> u32 {
        let log_alpha = self.options.alpha.ln();
        let mut known = 0usize;
        let mut scores = vec![0.0; self.log_prior.len()];
        for_each_path(tokens, self.options.longest, |path| {
            let mut node = Trie::ROOT;
            for (length, &token) in path.iter().enumerate() {
                let Some(child) = self.trie.child(node, token) else { break };
                node = child;
                if counted(length, token) {
                    known += 1;
                    for &(class, count) in &self.counts[node as usize] {
                        scores[class as usize] += (f64::from(count) + self.options.alpha).ln() - log_alpha;
                    }
                }
            }
        });
        for (score, (prior, total)) in scores.iter_mut().zip(self.log_prior.iter().zip(&self.log_total)) {
            *score += prior + known as f64 * (log_alpha - total);
        }
        (1..scores.len()).fold(0, |best, class| if scores[class] > scores[best] { class } else { best }) as u32
    }
}

/// Calls `take` with the longest n-gram at each position of an example with its marks. Its prefixes are the shorter
/// ones.
fn for_each_path(tokens: &[u32], longest: usize, mut take: impl FnMut(&[u32])) {
    let marked: Vec<u32> = [BEGIN].into_iter().chain(tokens.iter().copied()).chain([END]).collect();
    for start in 0..marked.len() {
        take(&marked[start..marked.len().min(start.saturating_add(longest))]);
    }
}

/// Whether an n-gram that ends in `token` after `length` others counts. A single mark does not: every example has it.
fn counted(length: usize, token: u32) -> bool {
    length > 0 || token < BEGIN
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, n-gram by n-gram.
    fn by_definition(examples: &[Vec<u32>], classes: &[u32], options: NaiveBayesOptions, tokens: &[u32]) -> Vec<f64> {
        let ngrams = |tokens: &[u32]| -> Vec<Vec<u32>> {
            let marked = [&[BEGIN], tokens, &[END]].concat();
            let of_length = |n| marked.windows(n).filter(|w| **w != [BEGIN] && **w != [END]).map(<[u32]>::to_vec);
            (1..=options.longest).flat_map(of_length).collect()
        };
        let of_class = |class: u32| -> Vec<Vec<u32>> {
            examples
                .iter()
                .zip(classes)
                .filter(|&(_, &c)| c == class)
                .flat_map(|(example, _)| ngrams(example))
                .collect()
        };
        let mut features: Vec<Vec<u32>> = examples.iter().flat_map(|example| ngrams(example)).collect();
        features.sort();
        features.dedup();
        let score = |class: u32| {
            let seen = of_class(class);
            let prior = classes.iter().filter(|&&c| c == class).count() as f64 / classes.len() as f64;
            let total = seen.len() as f64 + options.alpha * features.len() as f64;
            let known = ngrams(tokens).into_iter().filter(|ngram| features.contains(ngram));
            let count = |ngram: &Vec<u32>| seen.iter().filter(|other| *other == ngram).count() as f64;
            prior.ln() + known.map(|ngram| ((count(&ngram) + options.alpha) / total).ln()).sum::<f64>()
        };
        (0..3).map(score).collect()
    }

    #[test]
    fn a_textbook_example() {
        // Manning, Raghavan and Schuetze 2008, example 13.1: Chinese 0, Beijing 1, Shanghai 2, Macao 3, Tokyo 4, Japan
        // 5.
        let examples = [vec![0, 1, 0], vec![0, 0, 2], vec![0, 3], vec![4, 5, 0]];
        let model = NaiveBayes::fit(&examples, &[1, 1, 1, 0], 2, NaiveBayesOptions { longest: 1, alpha: 1.0 });
        assert_eq!(model.predict(&[0, 0, 0, 4, 5]), 1);
        assert_eq!(model.predict(&[4, 5]), 0);
        assert_eq!(model.predict(&[99]), 1);
    }

    #[test]
    fn marks_tell_beginnings_from_ends() {
        let examples = [vec![7, 8, 8, 9], vec![9, 8, 8, 7]];
        let fit = |longest| NaiveBayes::fit(&examples, &[0, 1], 2, NaiveBayesOptions { longest, alpha: 1.0 });
        assert_eq!((fit(2).predict(&[9, 8]), fit(1).predict(&[9, 8])), (1, 0));
        assert_eq!(fit(2).predict(&[7, 8]), 0);
        assert_eq!(NaiveBayesOptions::of(Unit::Char).longest, 3);
        assert_eq!(NaiveBayesOptions::of(Unit::Word).longest, 1);
    }

    #[test]
    fn a_class_without_example_is_never_predicted() {
        let model = NaiveBayes::fit(&[[1, 2]], &[1], 3, NaiveBayesOptions::of(Unit::Char));
        assert_eq!((model.predict(&[]), model.predict(&[1, 2])), (1, 1));
        let model = NaiveBayes::fit(&[[0u32; 0]], &[1], 3, NaiveBayesOptions::of(Unit::Word));
        assert_eq!((model.predict(&[]), model.predict(&[1, 2])), (1, 1));
    }

    #[test]
    #[should_panic(expected = "class 2 is not below the number of classes 2")]
    fn classes_are_checked() {
        NaiveBayes::fit(&[[1]], &[2], 2, NaiveBayesOptions::of(Unit::Char));
    }

    proptest! {
        #[test]
        fn the_definition_is_kept(
            examples in prop::collection::vec((prop::collection::vec(0u32..4, 0..6), 0u32..3), 1..8),
            tokens in prop::collection::vec(0u32..5, 0..6),
            (longest, alpha) in (1usize..4, 0.1..2.0f64),
        ) {
            let (examples, classes): (Vec<_>, Vec<_>) = examples.into_iter().unzip();
            let options = NaiveBayesOptions { longest, alpha };
            let predicted = NaiveBayes::fit(&examples, &classes, 3, options).predict(&tokens);
            let scores = by_definition(&examples, &classes, options, &tokens);
            let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert!(scores[predicted as usize] >= best - 1e-9, "{:?} {}", scores, predicted);
        }
    }
}
