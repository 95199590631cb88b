//! Training of the unknown token: rare tokens of the training text are sometimes replaced by it.
//!
//! A vocabulary of the whole training text leaves nothing unknown in that text. Without replacement the embedding of
//! the unknown token would keep its random initial values.

use throughline_kernels::random::{Philox, Purpose};

use crate::vocabulary::UNKNOWN;

/// Chooses which training tokens are replaced by the unknown token, different ones each epoch.
///
/// Tokens that occur once in the training text are replaced with probability p, as in Dyer et al. 2015
/// ("Transition-based dependency parsing with stack long short-term memory") and Lample et al. 2016 ("Neural
/// architectures for named entity recognition"), both with p = 0.5. If no token occurs once, those with the lowest
/// count c are replaced with probability p / c, so that the unknown token is trained in any case.
///
/// The choice depends only on the seed, the epoch and the position of a token in the training data, not on batches or
/// threads, so a resumed run makes it again.
#[derive(Clone, Debug, PartialEq)]
pub struct UnknownReplacement {
    /// Whether each token is rare.
    rare: Vec<bool>,
    /// A rare token is replaced if its random 32 bits are below this.
    threshold: u64,
    seed: u64,
}

/// The replacement in one epoch.
#[derive(Clone, Copy, Debug)]
pub struct UnknownEpoch<'a> {
    replacement: &'a UnknownReplacement,
    random: Philox,
}

impl UnknownReplacement {
    /// The probability in the literature, 0.5.
    pub const DEFAULT_PROBABILITY: f64 = 0.5;

    /// The replacement for these training texts, given as tokens. For bytes, which are never unknown, use probability
    /// 0.
    ///
    /// # Panics
    /// If `probability` is not in [0, 1].
    pub fn new<'a>(training: impl IntoIterator<Item = &'a [u32]>, probability: f64, seed: u64) -> Self {
        assert!((0.0..=1.0).contains(&probability), "the probability must be in [0, 1], not {probability}");
        let mut counts = Vec::<u64>::new();
        for &token in training.into_iter().flatten() {
            let token = token as usize;
            if token >= counts.len() {
                counts.resize(token + 1, 0);
            }
            counts[token] += 1;
        }
        if let Some(unknown) = counts.get_mut(UNKNOWN as usize) {
            *unknown = 0;
        }
        let lowest = counts.iter().copied().filter(|&count| count > 0).min().unwrap_or(1);
        let rare = counts.iter().map(|&count| count == lowest).collect();
        Self { rare, threshold: (probability / lowest as f64 * 2f64.powi(32)).round() as u64, seed }
    }

    /// The replacement in epoch `epoch`.
    pub fn epoch(&self, epoch: u64) -> UnknownEpoch<'_> {
        UnknownEpoch { replacement: self, random: Philox::new(self.seed, Purpose::Unknown, epoch) }
    }
}

impl UnknownEpoch<'_> {
    /// `token`, or the unknown token if it is replaced. `sequence` is the index of the training example, 0 for one long
    /// text, and `position` that of the token in it.
    pub fn token(&self, sequence: u64, position: u64, token: u32) -> u32 {
        // Few tokens are rare, and only these need a random number.
        if !self.replacement.rare.get(token as usize).is_some_and(|&rare| rare) {
            return token;
        }
        let counter = [position as u32, (position >> 32) as u32, sequence as u32, (sequence >> 32) as u32];
        let replaced = u64::from(self.random.block(counter)[0]) < self.replacement.threshold;
        if replaced { UNKNOWN } else { token }
    }

    /// Replaces tokens of a whole training example; see [`token`](Self::token).
    pub fn replace(&self, sequence: u64, tokens: &mut [u32]) {
        for (token, position) in tokens.iter_mut().zip(0..) {
            *token = self.token(sequence, position, *token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 10,000 tokens that occur once and 1,000 that occur twice.
    fn training() -> Vec<u32> {
        (1..=11_000).chain(10_001..=11_000).collect()
    }

    /// How many of `tokens` are unknown in this epoch.
    fn replaced(replacement: &UnknownReplacement, epoch: u64, tokens: &[u32]) -> Vec<u32> {
        let mut tokens = tokens.to_vec();
        replacement.epoch(epoch).replace(3, &mut tokens);
        tokens
    }

    fn unknown(tokens: &[u32]) -> usize {
        tokens.iter().filter(|&&token| token == UNKNOWN).count()
    }

    #[test]
    fn tokens_that_occur_once_become_unknown_with_the_probability_given() {
        let tokens = training();
        for (probability, expected) in [(0.0, 0), (0.1, 1000), (0.5, 5000), (1.0, 10_000)] {
            let replacement = UnknownReplacement::new([&tokens[..]], probability, 1);
            for epoch in 0..3 {
                let after = replaced(&replacement, epoch, &tokens);
                // Five standard deviations of a binomial.
                let tolerance = 5.0 * (10_000.0 * probability * (1.0 - probability)).sqrt();
                let distance = (unknown(&after) as f64 - f64::from(expected)).abs();
                assert!(distance <= tolerance, "{probability}: {}", unknown(&after));
                assert_eq!(after[10_000..], tokens[10_000..]);
            }
        }
    }

    #[test]
    fn where_none_occurs_once_the_rarest_are_taken_once_an_epoch_between_them() {
        // Token 1 occurs 4 times, token 2 often, the unknown token of the text itself once.
        let tokens: Vec<u32> = [1; 4].into_iter().chain([2; 100]).chain([UNKNOWN]).collect();
        let replacement = UnknownReplacement::new([&tokens[..50], &tokens[50..]], 0.8, 5);
        let epochs = 10_000;
        let total: usize = (0..epochs).map(|epoch| unknown(&replaced(&replacement, epoch, &tokens)) - 1).sum();
        let mean = total as f64 / epochs as f64;
        // The standard deviation of a mean is 0.008.
        assert!((mean - 0.8).abs() < 0.04, "{mean}");
    }

    #[test]
    fn the_choice_depends_on_seed_epoch_and_place_alone() {
        let tokens = training();
        let replacement = UnknownReplacement::new([&tokens[..]], 0.5, 1);
        let other_seed = UnknownReplacement::new([&tokens[..]], 0.5, 2);
        let first = replaced(&replacement, 4, &tokens);
        // Another epoch in between, as after a resumption or in another order of batches.
        assert_ne!(replaced(&replacement, 5, &tokens), first);
        assert_eq!(replaced(&replacement, 4, &tokens), first);
        assert_ne!(replaced(&other_seed, 4, &tokens), first);
        let epoch = replacement.epoch(4);
        let backwards: Vec<u32> = (0..tokens.len()).rev().map(|at| epoch.token(3, at as u64, tokens[at])).collect();
        assert!(backwards.iter().rev().eq(&first));
        let elsewhere: Vec<u32> = tokens.iter().zip(0..).map(|(&token, at)| epoch.token(4, at, token)).collect();
        assert_ne!(elsewhere, first);
    }

    #[test]
    fn tokens_not_in_the_training_text_stay() {
        let replacement = UnknownReplacement::new([&[1, 2, 2][..]], 1.0, 1);
        assert_eq!(replaced(&replacement, 0, &[1, 2, 3, 9, 0]), [0, 2, 3, 9, 0]);
        let nothing = UnknownReplacement::new([], 1.0, 1);
        assert_eq!(replaced(&nothing, 0, &[1, 2]), [1, 2]);
    }
}
