//! One sequence's paths: their weights added up forward, and what they expect of every unit and transition going back.
//!
//! Forward, with alpha_t\[j\] the logarithm of the weight of all paths up to unit t that end in tag j:
//!
//! ```text
//! alpha_1[j] = b[j] + x_1[j]
//! alpha_t[j] = x_t[j] + ln sum over i of e^(alpha_{t-1}[i] + A[i][j])
//! ln Z       = ln sum over j of e^(alpha_T[j] + e[j])
//! ```
//!
//! Backward. The derivative of ln Z by a score is how often a path is expected to use it: that by x_t\[j\] is the marginal
//! p_t\[j\], that by A\[i\]\[j\] the sum over t of the marginals p_t\[i, j\] of neighbours, that by b\[j\] is p_1\[j\], that by
//! e\[j\] is p_T\[j\]. They come from the last unit to the first. Given its tag at t, the tag of a path at t-1 depends only on
//! what lies before t, so
//!
//! ```text
//! p_T[j]     = e^(alpha_T[j] + e[j]) / Z
//! p_t[i, j]  = p_t[j] e^(alpha_{t-1}[i] + A[i][j]) / sum over k of e^(alpha_{t-1}[k] + A[k][j])
//! p_{t-1}[i] = sum over j of p_t[i, j]
//! ```
//!
//! which is the forward-backward algorithm with the sum of the paths behind t divided out: every factor is a probability.
//!
//! A lattice may be *clamped*: a unit with a target then has this tag alone, and Z is the weight of the paths that agree with
//! the targets.
//!
//! e^(alpha + A) is taken as e^alpha e^A, with the largest alpha of a unit and the largest A taken out: a step then costs K
//! exponentials instead of K². Where such a sum becomes so small that terms of it may have been lost, it is added up again
//! from its own largest term.

use alloc::vec::Vec;
use core::ops::Range;

use crate::Element;

use super::super::IGNORED;

/// The scores of K tags next to each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TagScores {
    /// `[K, K]`: A, from one tag (the row) to the next.
    pub transitions: Vec<f64>,
    /// `[K]`: b, of the first tag.
    pub start: Vec<f64>,
    /// `[K]`: e, of the last tag.
    pub end: Vec<f64>,
}

/// The transition scores of a conditional random field, prepared for use. Prepared anew after each update.
#[derive(Clone, Debug)]
pub struct Transitions {
    scores: TagScores,
    /// The largest transition score.
    largest: f64,
    /// `[K, K]`: e^(A - largest).
    weights: Vec<f64>,
}

impl Transitions {
    /// Room for those of `tags` tags, all 0.
    ///
    /// # Panics
    /// If there is no tag.
    pub fn new(tags: usize) -> Self {
        assert!(tags > 0, "there is at least one tag");
        let zeros = |length: usize| alloc::vec![0.0; length];
        let scores = TagScores { transitions: zeros(tags * tags), start: zeros(tags), end: zeros(tags) };
        Self { scores, largest: 0.0, weights: alloc::vec![1.0; tags * tags] }
    }

    /// Prepares `transitions` `[K, K]`, from row to column, `start` `[K]` and `end` `[K]`.
    ///
    /// # Panics
    /// If a length does not fit.
    pub fn set<E: Element>(&mut self, transitions: &[E], start: &[E], end: &[E]) {
        let (tags, scores) = (self.tags(), &mut self.scores);
        assert_eq!(transitions.len(), tags * tags, "transitions are [K, K], K = {tags}");
        assert!(start.len() == tags && end.len() == tags, "start and end are [K], K = {tags}");
        for (to, from) in [(&mut scores.transitions, transitions), (&mut scores.start, start), (&mut scores.end, end)] {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = from.to_f64());
        }
        self.largest = largest(&scores.transitions);
        for (weight, score) in self.weights.iter_mut().zip(&scores.transitions) {
            *weight = libm::exp(score - self.largest);
        }
    }

    /// K
    pub fn tags(&self) -> usize {
        self.scores.start.len()
    }

    /// The scores.
    pub fn scores(&self) -> &TagScores {
        &self.scores
    }
}

/// Gradients of the scores of K tags, of some sequences: what is added to them is added times `sign`.
pub(super) struct ScoreGradients<'a> {
    pub(super) sign: f64,
    /// `[K, K]`
    pub(super) transitions: &'a mut [f64],
    /// `[K]`
    pub(super) start: &'a mut [f64],
    /// `[K]`
    pub(super) end: &'a mut [f64],
}

impl<'a> ScoreGradients<'a> {
    /// How many numbers they are.
    pub(super) fn count(tags: usize) -> usize {
        tags * (tags + 2)
    }

    pub(super) fn of(sign: f64, tags: usize, memory: &'a mut [f64]) -> Self {
        let (transitions, rest) = memory.split_at_mut(tags * tags);
        let (start, end) = rest.split_at_mut(tags);
        Self { sign, transitions, start, end }
    }

    /// Adds the marginals `pairs` `[K]` of tag i and then those tags.
    fn add_pairs(&mut self, i: usize, tags: Range<usize>, pairs: &[f64]) {
        let row = i * self.start.len();
        let gradients = &mut self.transitions[row + tags.start..row + tags.end];
        gradients.iter_mut().zip(&pairs[tags]).for_each(|(gradient, pair)| *gradient += self.sign * pair);
    }

    /// Adds the marginals of the first and the last of units `[T, K]`.
    fn add_ends(self, marginals: &[f64]) {
        let last = marginals.len() - self.end.len();
        for (gradients, marginals) in [(self.start, marginals), (self.end, &marginals[last..])] {
            gradients.iter_mut().zip(marginals).for_each(|(gradient, p)| *gradient += self.sign * p);
        }
    }
}

/// Sums below this, 2^-900, are added up anew: a term that was lost in one above it is a 2^174th of it or less.
const SMALLEST_SUM: f64 = f64::from_bits((1023 - 900) << 52);

/// The paths of one sequence.
#[derive(Debug, Default)]
pub(super) struct Lattice {
    /// `[T, K]`: alpha of each unit, less its largest.
    alpha: Vec<f64>,
    /// `[T, K]`: the sum over i of e^(alpha_{t-1}[i] + A[i][j] - largest A) for each tag j; unused for the first unit.
    sums: Vec<f64>,
    /// `[T, K]`: p.
    marginals: Vec<f64>,
    /// `[K]`: p divided by the sums of one unit.
    shares: Vec<f64>,
    /// `[K]`: the marginals of one tag and then each.
    pairs: Vec<f64>,
    /// ln of the sum over j of e^(alpha_T[j] + e[j]).
    log_end: f64,
}

/// The tags that unit t may have, of K.
fn choices(targets: &[u32], t: usize, tags: usize) -> Range<usize> {
    match targets.get(t) {
        Some(&target) if target != IGNORED => target as usize..target as usize + 1,
        _ => 0..tags,
    }
}

fn largest(x: &[f64]) -> f64 {
    x.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

/// ln of the sum of e^(a + b) for each a and its b, from the largest of them.
fn log_sum<'a>(a: &'a [f64], b: impl Iterator<Item = &'a f64> + Clone) -> f64 {
    let terms = a.iter().zip(b).map(|(a, b)| a + b);
    let largest = terms.clone().fold(f64::NEG_INFINITY, f64::max);
    largest + libm::log(terms.map(|term| libm::exp(term - largest)).sum())
}

impl Lattice {
    /// Makes room for sequences of `steps` units.
    pub(super) fn reserve(&mut self, steps: usize, tags: usize) {
        for array in [&mut self.alpha, &mut self.sums, &mut self.marginals] {
            array.resize(array.len().max(steps * tags), 0.0);
        }
        for array in [&mut self.shares, &mut self.pairs] {
            array.resize(array.len().max(tags), 0.0);
        }
    }

    /// ln Z of the emissions `x` `[T, K]`, T > 0, clamped to `targets`: a tag for each unit, or [`IGNORED`]; empty for none.
    pub(super) fn go_forward(&mut self, transitions: &Transitions, x: &[f64], targets: &[u32]) -> f64 {
        let Transitions { scores, largest: largest_transition, weights } = transitions;
        let tags = transitions.tags();
        let mut log_z = 0.0;
        for (t, x) in x.chunks_exact(tags).enumerate() {
            let may = choices(targets, t, tags);
            let (before, alpha) = self.alpha.split_at_mut(t * tags);
            let alpha = &mut alpha[..tags];
            if t == 0 {
                for j in may.clone() {
                    alpha[j] = scores.start[j] + x[j];
                }
            } else {
                let (before, sums) = (&before[(t - 1) * tags..], &mut self.sums[t * tags..][..tags]);
                let previous = choices(targets, t - 1, tags);
                sums.fill(0.0);
                for i in previous.clone() {
                    let weight = libm::exp(before[i]);
                    for j in may.clone() {
                        sums[j] += weight * weights[i * tags + j];
                    }
                }
                for j in may.clone() {
                    let log_sum = if sums[j] >= SMALLEST_SUM {
                        libm::log(sums[j]) + largest_transition
                    } else {
                        log_sum(&before[previous.clone()], column(scores, &previous, j))
                    };
                    alpha[j] = x[j] + log_sum;
                }
            }
            let largest = largest(&alpha[may.clone()]);
            alpha[may].iter_mut().for_each(|alpha| *alpha -= largest);
            log_z += largest;
        }
        let steps = x.len() / tags;
        let may = choices(targets, steps - 1, tags);
        let last = &self.alpha[(steps - 1) * tags..];
        self.log_end = log_sum(&last[may.clone()], scores.end[may].iter());
        log_z + self.log_end
    }

    /// Writes the marginals of the last [`go_forward`](Self::go_forward), which was over `steps` units with these `targets`,
    /// and adds the derivatives of ln Z to `gradients`, times their sign.
    pub(super) fn go_back(
        &mut self,
        transitions: &Transitions,
        steps: usize,
        targets: &[u32],
        mut gradients: Option<ScoreGradients<'_>>,
    ) {
        let Transitions { scores, weights, .. } = transitions;
        let tags = transitions.tags();
        self.marginals[..steps * tags].fill(0.0);
        let last = (steps - 1) * tags;
        for j in choices(targets, steps - 1, tags) {
            self.marginals[last + j] = libm::exp(self.alpha[last + j] + scores.end[j] - self.log_end);
        }
        for t in (1..steps).rev() {
            let (previous, may) = (choices(targets, t - 1, tags), choices(targets, t, tags));
            let alpha = &self.alpha[(t - 1) * tags..][..tags];
            let sums = &self.sums[t * tags..][..tags];
            let (before, here) = self.marginals[(t - 1) * tags..].split_at_mut(tags);
            for j in may.clone() {
                self.shares[j] = if sums[j] >= SMALLEST_SUM { here[j] / sums[j] } else { 0.0 };
            }
            for i in previous.clone() {
                let weight = libm::exp(alpha[i]);
                let pairs = &mut self.pairs[..tags];
                for j in may.clone() {
                    pairs[j] = weight * weights[i * tags + j] * self.shares[j];
                }
                before[i] = pairs[may.clone()].iter().sum();
                if let Some(gradients) = &mut gradients {
                    gradients.add_pairs(i, may.clone(), pairs);
                }
            }
            for j in may.filter(|&j| sums[j] < SMALLEST_SUM && here[j] > 0.0) {
                let log_sum = log_sum(&alpha[previous.clone()], column(scores, &previous, j));
                for i in previous.clone() {
                    let pair = here[j] * libm::exp(alpha[i] + scores.transitions[i * tags + j] - log_sum);
                    before[i] += pair;
                    self.pairs[j] = pair;
                    if let Some(gradients) = &mut gradients {
                        gradients.add_pairs(i, j..j + 1, &self.pairs);
                    }
                }
            }
        }
        if let Some(gradients) = gradients {
            gradients.add_ends(&self.marginals[..steps * tags]);
        }
    }

    /// `[T, K]`, and what a longer sequence has left behind them.
    pub(super) fn marginals(&self) -> &[f64] {
        &self.marginals
    }
}

/// The scores of the transitions from `previous` to tag j.
fn column<'a>(scores: &'a TagScores, previous: &Range<usize>, j: usize) -> impl Iterator<Item = &'a f64> + Clone {
    let tags = scores.start.len();
    scores.transitions[previous.start * tags + j..].iter().step_by(tags)
}

/// The best path (Viterbi 1967).
#[derive(Debug, Default)]
pub(super) struct Viterbi {
    /// `[K]`: the score of the best path to each tag of a unit, and of the unit before.
    best: Vec<f64>,
    before: Vec<f64>,
    /// `[T, K]`: the tag before on the best path to each tag.
    from: Vec<u32>,
}

impl Viterbi {
    /// Makes room for sequences of `steps` units.
    pub(super) fn reserve(&mut self, steps: usize, tags: usize) {
        for array in [&mut self.best, &mut self.before] {
            array.resize(array.len().max(tags), 0.0);
        }
        self.from.resize(self.from.len().max(steps * tags), 0);
    }

    /// Writes the tags of the best path through the emissions `x` `[T, K]`, T > 0, to `path` `[T]`. Where equal scores leave a
    /// choice, going back from the last unit, the smallest tag is taken.
    pub(super) fn find(&mut self, scores: &TagScores, x: &[f64], path: &mut [u32]) {
        let tags = scores.start.len();
        for (t, x) in x.chunks_exact(tags).enumerate() {
            core::mem::swap(&mut self.best, &mut self.before);
            let best = &mut self.best[..tags];
            if t == 0 {
                best.iter_mut().zip(&scores.start).zip(x).for_each(|((best, start), x)| *best = start + x);
                continue;
            }
            let from = &mut self.from[t * tags..][..tags];
            best.fill(f64::NEG_INFINITY);
            from.fill(0);
            for i in 0..tags {
                for j in 0..tags {
                    let score = self.before[i] + scores.transitions[i * tags + j];
                    if score > best[j] {
                        (best[j], from[j]) = (score, i as u32);
                    }
                }
            }
            best.iter_mut().zip(x).for_each(|(best, x)| *best += x);
        }
        let score = |j: usize| self.best[j] + scores.end[j];
        let mut tag = (0..tags).reduce(|best, j| if score(j) > score(best) { j } else { best }).unwrap_or(0);
        for (t, place) in path.iter_mut().enumerate().rev() {
            *place = tag as u32;
            if t > 0 {
                tag = self.from[t * tags + tag] as usize;
            }
        }
    }
}
