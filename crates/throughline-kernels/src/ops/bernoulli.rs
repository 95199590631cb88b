//! Binary cross-entropy of K independent keys: each is on with the probability σ(x) of its logit x.
//!
//! For a row of logits x and targets y, each 0 or 1 (or a probability between), in nats:
//!
//! ```text
//! loss = -sum over k of [ y ln σ(x) + (1 - y) ln(1 - σ(x)) ]
//!      =  sum over k of [ ln(1 + e^x) - x y ]                     since ln σ(x) = x - ln(1 + e^x)
//!      =  sum over k of [ max(x, 0) - x y + ln(1 + e^-|x|) ]
//! d loss / dx = σ(x) - y
//! ```
//!
//! In the last form no exponential is above 1. The sum of the logarithms is one logarithm of a product of factors from 1
//! to 2, 512 at a time so that it stays finite.

use throughline_simd::{Element, Isa, Kernel, Lane};

use super::LossSum;
use super::tasks::for_each_task;
use super::vectors::{Map, map};
use crate::disjoint::Disjoint;
use crate::threads::Threads;

/// Factors of a product; 2^512 is a finite f64.
const BLOCK: usize = 512;

/// In gradients, a smaller probability is taken as 0, or the products that follow would work on subnormal numbers, which
/// are many times slower. 2^-64.
const TINY_PROBABILITY: f64 = 1.0 / (1u128 << 64) as f64;

/// Logits of a task.
const TASK_LOGITS: usize = 1 << 14;

/// Writes the loss of every row to `rows` `[N]`, in nats summed over its keys, and replaces `logits` `[N, keys]` by its
/// gradient times `scale` (1 / N for the gradient of the mean over rows). `targets` is `[N, keys]`.
///
/// # Panics
/// If a length does not fit or a target is not from 0 to 1.
pub fn bernoulli_cross_entropy<E: Element>(
    isa: Isa,
    threads: &Threads,
    logits: &mut [E],
    keys: usize,
    targets: &[E],
    scale: f64,
    rows: &mut [f64],
) {
    check(logits.len(), keys, targets, rows);
    let chunk = (TASK_LOGITS / keys).max(1);
    let (count, scale) = (rows.len(), E::from_f64(scale));
    let (logits, rows) = (Disjoint::new(logits), Disjoint::new(rows));
    for_each_task(threads, count.div_ceil(chunk), |task| {
        let range = task * chunk..count.min((task + 1) * chunk);
        let of_keys = range.start * keys..range.end * keys;
        // SAFETY: chunks of rows do not overlap, and each belongs to one task.
        let (logits, rows) = unsafe { (logits.slice(of_keys.clone()), rows.slice(range)) };
        for ((logits, targets), row) in logits.chunks_exact_mut(keys).zip(targets[of_keys].chunks_exact(keys)).zip(rows)
        {
            *row = E::dispatch(isa, RowGradient { logits, targets, scale });
        }
    });
}

/// Writes the loss of every row of `logits` `[N, keys]` to `rows` `[N]`: the bits of [`bernoulli_cross_entropy`], which
/// also gives the gradient.
///
/// # Panics
/// If a length does not fit or a target is not from 0 to 1.
pub fn bernoulli_loss<E: Element>(
    isa: Isa,
    threads: &Threads,
    logits: &[E],
    keys: usize,
    targets: &[E],
    rows: &mut [f64],
) {
    check(logits.len(), keys, targets, rows);
    let chunk = (TASK_LOGITS / keys).max(1);
    let count = rows.len();
    let rows = Disjoint::new(rows);
    for_each_task(threads, count.div_ceil(chunk), |task| {
        let range = task * chunk..count.min((task + 1) * chunk);
        let of_keys = range.start * keys..range.end * keys;
        // SAFETY: chunks of rows do not overlap, and each belongs to one task.
        let rows = unsafe { rows.slice(range) };
        for ((logits, targets), row) in
            logits[of_keys.clone()].chunks_exact(keys).zip(targets[of_keys].chunks_exact(keys)).zip(rows)
        {
            *row = E::dispatch(isa, RowValue { logits, targets });
        }
    });
}

/// Adds up the losses of rows in their order.
pub(crate) fn sum_of_rows(rows: &[f64]) -> LossSum {
    LossSum { sum: rows.iter().sum(), count: rows.len() }
}

fn check<E: Element>(logits: usize, keys: usize, targets: &[E], rows: &[f64]) {
    assert!(keys > 0, "there is at least one key");
    assert_eq!(logits, rows.len() * keys, "the logits are [N, {keys}], with a result for every row");
    assert_eq!(targets.len(), logits, "a target for every logit");
    assert!(targets.iter().all(|&y| y >= E::ZERO && y <= E::ONE), "a target is from 0 to 1");
}

/// e^-|x|
struct Factor;

impl<E: Element> Map<E, 1, 1> for Factor {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, _: [L::Vector; 1], [x]: [L::Vector; 1]) -> [L::Vector; 1] {
        [lane.exp(lane.sub(lane.splat(E::ZERO), lane.abs(x)))]
    }
}

/// scale (σ(x) - y)
struct Gradient<E>(E);

impl<E: Element> Map<E, 1, 1> for Gradient<E> {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, [x]: [L::Vector; 1], [y]: [L::Vector; 1]) -> [L::Vector; 1] {
        let probability = lane.flush_below(E::from_f64(TINY_PROBABILITY), lane.sigmoid(x));
        [lane.mul(lane.splat(self.0), lane.sub(probability, y))]
    }
}

/// The loss of one row.
#[inline(always)]
fn loss<L: Lane>(lane: L, logits: &[L::Element], targets: &[L::Element]) -> f64 {
    let mut factors = [L::Element::ZERO; BLOCK];
    let mut total = 0.0;
    for (logits, targets) in logits.chunks(BLOCK).zip(targets.chunks(BLOCK)) {
        let factors = &mut factors[..logits.len()];
        map(lane, &Factor, [&mut *factors], [logits]);
        let mut product = 1.0;
        for ((&x, &y), &factor) in logits.iter().zip(targets).zip(&*factors) {
            let (x, y) = (x.to_f64(), y.to_f64());
            let above = if x > 0.0 { x } else { 0.0 };
            total += above - x * y;
            product *= 1.0 + factor.to_f64();
        }
        total += libm::log(product);
    }
    total
}

struct RowValue<'a, E> {
    logits: &'a [E],
    targets: &'a [E],
}

impl<E: Element> Kernel<E> for RowValue<'_, E> {
    type Output = f64;
    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) -> f64 {
        loss(lane, self.logits, self.targets)
    }
}

struct RowGradient<'a, E> {
    logits: &'a mut [E],
    targets: &'a [E],
    scale: E,
}

impl<E: Element> Kernel<E> for RowGradient<'_, E> {
    type Output = f64;
    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) -> f64 {
        let Self { logits, targets, scale } = self;
        let loss = loss(lane, logits, targets);
        map(lane, &Gradient(scale), [logits], [targets]);
        loss
    }
}

#[cfg(test)]
mod tests {
    use throughline_testkit::{assert_close, assert_same_bits, central_difference};

    use super::*;
    use crate::ops::testing::{for_every_setting, numbers, tokens};

    /// The definition, term by term.
    fn plain_loss(logits: &[f64], targets: &[f64]) -> f64 {
        let term = |(&x, &y): (&f64, &f64)| {
            let p = 1.0 / (1.0 + (-x).exp());
            -(y * p.ln() + (1.0 - y) * (1.0 - p).ln())
        };
        logits.iter().zip(targets).map(term).sum()
    }

    fn bits<E: Element>(seed: u64, length: usize) -> Vec<E> {
        tokens(seed, length, 2).into_iter().map(|bit| E::from_f64(f64::from(bit))).collect()
    }

    #[test]
    fn loss_and_gradient_are_those_of_the_definition() {
        for keys in [1, 2, 17, 88, 1100] {
            let rows = 3;
            let mut logits: Vec<f64> = numbers(1, rows * keys);
            logits.iter_mut().for_each(|x| *x *= 6.0);
            let mut targets: Vec<f64> = bits(2, rows * keys);
            targets[0] = 0.25;
            let (mut gradient, mut losses) = (logits.clone(), vec![f64::NAN; rows]);
            bernoulli_cross_entropy(Isa::SCALAR, Threads::ONE, &mut gradient, keys, &targets, 0.5, &mut losses);
            for (n, row) in logits.chunks_mut(keys).enumerate().take(if keys > 100 { 1 } else { rows }) {
                let targets = &targets[n * keys..][..keys];
                assert_close("loss", &losses[n..=n], &[plain_loss(row, targets)], 1e-12);
                let want = central_difference(|row| 0.5 * plain_loss(row, targets), row, 1e-3);
                assert_close("gradient", &gradient[n * keys..][..keys], &want, 1e-9);
            }
        }
    }

    #[test]
    fn bits_are_the_same_in_every_setting_and_without_a_gradient() {
        for (rows, keys) in [(0, 5), (3, 1), (700, 88), (9, 5000)] {
            let mut logits: Vec<f32> = numbers(1, rows * keys);
            logits.iter_mut().for_each(|x| *x *= 20.0);
            let targets: Vec<f32> = bits(2, rows * keys);
            let gradient = |isa, threads: &Threads| {
                let (mut gradient, mut losses) = (logits.clone(), vec![f64::NAN; rows]);
                bernoulli_cross_entropy(isa, threads, &mut gradient, keys, &targets, 0.3, &mut losses);
                (gradient, losses)
            };
            let want = gradient(Isa::SCALAR, Threads::ONE);
            for_every_setting(|isa, threads| {
                let got = gradient(isa, threads);
                assert_same_bits("gradient", &got.0, &want.0);
                assert_eq!(got.1, want.1);
                let mut losses = vec![f64::NAN; rows];
                bernoulli_loss(isa, threads, &logits, keys, &targets, &mut losses);
                assert_eq!(losses, want.1);
            });
        }
    }

    #[test]
    fn huge_logits_stay_finite_and_a_broken_one_shows() {
        for (logit, target, loss, slope) in
            [(1e4f32, 1.0, 0.0, 0.0), (1e4, 0.0, 1e4, 1.0), (-1e4, 1.0, 1e4, -1.0), (-1e4, 0.0, 0.0, 0.0)]
        {
            let (mut gradient, mut losses) = ([logit; 3], [f64::NAN]);
            bernoulli_cross_entropy(Isa::detect(), Threads::ONE, &mut gradient, 3, &[target; 3], 1.0, &mut losses);
            assert_eq!((gradient, losses), ([slope; 3], [3.0 * loss]), "{logit} for {target}");
        }
        for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut losses = [0.0];
            bernoulli_loss(Isa::detect(), Threads::ONE, &[0.0, broken], 2, &[0.0, 1.0], &mut losses);
            assert!(!losses[0].is_finite(), "{broken}");
        }
    }

    #[test]
    fn gradients_of_hopeless_keys_are_zero_and_not_subnormal() {
        let (mut logits, mut losses) = ([-80.0f32, -40.0], [0.0]);
        bernoulli_cross_entropy(Isa::detect(), Threads::ONE, &mut logits, 2, &[0.0; 2], 1e-4, &mut losses);
        assert_eq!(logits[0], 0.0);
        assert_close("gradient", &[f64::from(logits[1]) * 1e4 / (-40.0f64).exp()], &[1.0], 1e-6);
    }

    #[test]
    #[should_panic(expected = "a target is from 0 to 1")]
    fn a_target_that_is_no_probability_is_refused() {
        bernoulli_loss(Isa::SCALAR, Threads::ONE, &[0.0f32; 2], 2, &[2.0, 0.0], &mut [0.0]);
    }
}
