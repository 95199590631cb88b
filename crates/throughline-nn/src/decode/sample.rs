//! Sampling the next token from logits.

use alloc::vec::Vec;

/// How to sample: `top_k` applies first, then `top_p` to the tokens that it left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// What logits are divided by: below 1 makes probable tokens more probable, above 1 less. 0 always takes the most
    /// probable token. 1 by default.
    pub temperature: f64,
    /// Sample from the k most probable tokens only; 0, the default, for all.
    pub top_k: usize,
    /// Sample only from the smallest set of most probable tokens whose probabilities add up to this (nucleus sampling,
    /// Holtzman et al. 2020). 1, the default, for all.
    pub top_p: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 1.0, top_k: 0, top_p: 1.0 }
    }
}

/// Samples an index of `logits`; `uniform` is a random number in [0, 1). `forbidden` is never chosen unless it is the
/// only index. Of equal logits the lower index ranks first. If the largest logit is infinite, it is chosen; NaN is
/// chosen only if every allowed logit is NaN.
///
/// # Panics
/// If there are no logits.
pub fn sample(logits: &[f32], sampling: &Sampling, uniform: f64, forbidden: Option<usize>) -> usize {
    assert!(!logits.is_empty(), "there are no logits to sample from");
    let mut ranked: Vec<usize> = (0..logits.len()).filter(|&i| logits.len() == 1 || Some(i) != forbidden).collect();
    let is_nan = |i: usize| logits[i].is_nan();
    ranked.sort_by(|&a, &b| is_nan(a).cmp(&is_nan(b)).then(logits[b].total_cmp(&logits[a])));
    let best = f64::from(logits[ranked[0]]);
    // Differences from a logit that is not finite are useless.
    if sampling.temperature <= 0.0 || !best.is_finite() {
        return ranked[0];
    }
    ranked.retain(|&i| !is_nan(i));
    if sampling.top_k > 0 {
        ranked.truncate(sampling.top_k);
    }
    let weight = |i: usize| libm::exp((f64::from(logits[i]) - best) / sampling.temperature);
    let mut weights: Vec<f64> = ranked.iter().map(|&i| weight(i)).collect();
    let total: f64 = weights.iter().sum();
    let mut reached = 0.0;
    let kept = weights.iter().position(|w| {
        reached += w / total;
        reached >= sampling.top_p
    });
    weights.truncate(kept.map_or(weights.len(), |last| last + 1));
    let mut left = uniform * weights.iter().sum::<f64>();
    for (&index, weight) in ranked.iter().zip(&weights) {
        left -= weight;
        if left < 0.0 {
            return index;
        }
    }
    ranked[weights.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 4] = [0.0, 2.0, 1.0, -1.0];

    #[test]
    fn restrictions() {
        let greedy = Sampling { temperature: 0.0, ..Sampling::default() };
        assert_eq!(sample(&LOGITS, &greedy, 0.99, None), 1);
        assert_eq!(sample(&LOGITS, &greedy, 0.99, Some(1)), 2);
        let two = Sampling { top_k: 2, ..Sampling::default() };
        assert_eq!(sample(&LOGITS, &two, 0.9999, None), 2);
        let half = Sampling { top_p: 0.5, ..Sampling::default() };
        assert_eq!(sample(&LOGITS, &half, 0.9999, None), 1);
        assert_eq!(sample(&LOGITS, &Sampling::default(), 0.9999, None), 3);
    }

    #[test]
    fn broken_logits() {
        let (nan, infinity) = (f32::NAN, f32::INFINITY);
        let ways = [
            Sampling::default(),
            Sampling { temperature: 0.0, ..Sampling::default() },
            Sampling { top_k: 2, ..Sampling::default() },
            Sampling { top_p: 0.9, ..Sampling::default() },
        ];
        for sampling in &ways {
            for uniform in [0.0, 0.5, 0.9999] {
                let choose = |logits: &[f32], forbidden| sample(logits, sampling, uniform, forbidden);
                for nan in [nan, -nan] {
                    assert_eq!(choose(&[nan, -50.0, 2.0, nan], None), 2, "{sampling:?}");
                    assert_eq!(choose(&[nan, -infinity, nan], None), 1, "{sampling:?}");
                    assert_eq!(choose(&[nan, infinity, 3.0, infinity], None), 1, "{sampling:?}");
                    assert_eq!(choose(&[nan, nan, nan], Some(0)), 1, "{sampling:?}");
                }
                assert_eq!(choose(&[1.0, infinity, 3.0], Some(1)), choose(&[1.0, 0.0, 3.0], Some(1)), "{sampling:?}");
                assert_eq!(choose(&[-infinity; 3], None), 0, "{sampling:?}");
            }
        }
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let mut counts = [0usize; 4];
        for i in 0..10_000 {
            counts[sample(&LOGITS, &Sampling::default(), (f64::from(i) + 0.5) / 10_000.0, None)] += 1;
        }
        let total: f64 = LOGITS.iter().map(|&x| f64::from(x).exp()).sum();
        for (count, logit) in counts.into_iter().zip(LOGITS) {
            let want = f64::from(logit).exp() / total;
            assert!((count as f64 / 10_000.0 - want).abs() < 1e-3);
        }
    }
}
