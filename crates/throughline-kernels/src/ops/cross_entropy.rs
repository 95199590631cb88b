//! Softmax and cross-entropy.
//!
//! For a row of logits x with target t, in nats and with m = max x, which keeps every exponential at or below 1:
//!
//! ```text
//! loss = -ln softmax(x)[t] = ln(sum of e^(x - m)) + m - x[t]
//! d loss / dx = softmax(x) - onehot(t)
//! ```

use throughline_simd::{Element, Isa, Kernel, Lane};

use super::LossSum;
use super::reduce::Scale;
use super::tasks::for_each_task;
use super::vectors::{Map, Terms, map, maximum, sum};
use crate::disjoint::Disjoint;
use crate::threads::Threads;

/// The target of a row that has none: no loss, no gradient, not counted.
pub const IGNORED: u32 = u32::MAX;

/// In gradients, a class less likely than the likeliest by this factor has probability 0, or the products that follow
/// would work on subnormal numbers, which are many times slower. 2^-64.
pub(crate) const TINY_SHARE: f64 = 1.0 / (1u128 << 64) as f64;

/// Logits of a task.
const TASK_LOGITS: usize = 1 << 14;

/// The cross-entropy of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowLoss {
    /// In nats; 0 for an ignored row.
    pub loss: f64,
    /// Whether the target has the largest logit, the first of them where several are equal.
    pub correct: bool,
}

/// The cross-entropy of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Classified {
    /// The sum in nats over the rows that are not ignored, and their number.
    pub loss: LossSum,
    /// How many of them are correct.
    pub correct: usize,
}

impl Classified {
    /// Adds up `rows`, one for each of `targets`, in order.
    pub fn of(targets: &[u32], rows: &[RowLoss]) -> Self {
        let mut total = Self::default();
        for (_, row) in targets.iter().zip(rows).filter(|&(&target, _)| target != IGNORED) {
            total += Self { loss: LossSum { sum: row.loss, count: 1 }, correct: usize::from(row.correct) };
        }
        total
    }

    /// The share of correct rows; 0 of none.
    pub fn accuracy(&self) -> f64 {
        if self.loss.count == 0 { 0.0 } else { self.correct as f64 / self.loss.count as f64 }
    }
}

impl core::ops::AddAssign for Classified {
    fn add_assign(&mut self, other: Self) {
        self.loss += other.loss;
        self.correct += other.correct;
    }
}

/// Writes the loss of every row to `rows` `[N]` and replaces `logits` `[N, classes]` by its gradient times `scale`
/// (1 / count for the gradient of the mean), and times the weight of its target where there are `class_weights`
/// `[classes]`. The losses written are without weights.
///
/// # Panics
/// If a length does not fit or a target is neither a class nor [`IGNORED`].
#[allow(clippy::too_many_arguments, reason = "those of cross_entropy and what scales the gradient")]
pub fn softmax_cross_entropy<E: Element>(
    isa: Isa,
    threads: &Threads,
    logits: &mut [E],
    classes: usize,
    targets: &[u32],
    scale: f64,
    class_weights: Option<&[f64]>,
    rows: &mut [RowLoss],
) {
    check(logits.len(), classes, targets, rows);
    assert!(class_weights.is_none_or(|weights| weights.len() == classes), "a weight for each of {classes} classes");
    let chunk = (TASK_LOGITS / classes).max(1);
    let (logits, rows) = (Disjoint::new(logits), Disjoint::new(rows));
    for_each_task(threads, targets.len().div_ceil(chunk), |task| {
        let range = task * chunk..targets.len().min((task + 1) * chunk);
        // SAFETY: chunks of rows do not overlap, and each belongs to one task.
        let (logits, rows) =
            unsafe { (logits.slice(range.start * classes..range.end * classes), rows.slice(range.clone())) };
        for ((logits, &target), row) in logits.chunks_exact_mut(classes).zip(&targets[range]).zip(rows) {
            let weight = class_weights.and_then(|weights| weights.get(target as usize));
            let scale = weight.map_or(scale, |weight| weight * scale);
            *row = E::dispatch(isa, RowGradient { logits, target, scale });
        }
    });
}

/// Writes the loss of every row of `logits` `[N, classes]` to `rows` `[N]`.
///
/// # Panics
/// If a length does not fit or a target is neither a class nor [`IGNORED`].
pub fn cross_entropy<E: Element>(
    isa: Isa,
    threads: &Threads,
    logits: &[E],
    classes: usize,
    targets: &[u32],
    rows: &mut [RowLoss],
) {
    check(logits.len(), classes, targets, rows);
    let chunk = (TASK_LOGITS / classes).max(1);
    let rows = Disjoint::new(rows);
    for_each_task(threads, targets.len().div_ceil(chunk), |task| {
        let range = task * chunk..targets.len().min((task + 1) * chunk);
        // SAFETY: chunks of rows do not overlap, and each belongs to one task.
        let rows = unsafe { rows.slice(range.clone()) };
        let logits = &logits[range.start * classes..range.end * classes];
        for ((logits, &target), row) in logits.chunks_exact(classes).zip(&targets[range]).zip(rows) {
            *row = E::dispatch(isa, RowValue { logits, target });
        }
    });
}

/// Replaces one row of logits by softmax(logits / `temperature`).
///
/// # Panics
/// If `temperature`, rounded to the element type, is not above 0.
pub fn softmax<E: Element>(isa: Isa, row: &mut [E], temperature: f64) {
    let temperature = E::from_f64(temperature);
    assert!(temperature > E::ZERO, "a temperature is above 0, not {temperature}");
    E::dispatch(isa, Softmax { row, temperature });
}

/// Replaces one row of logits by ln softmax(logits).
pub fn log_softmax<E: Element>(isa: Isa, row: &mut [E]) {
    E::dispatch(isa, LogSoftmax(row));
}

fn check(logits: usize, classes: usize, targets: &[u32], rows: &[RowLoss]) {
    assert!(classes > 0, "there is at least one class");
    assert_eq!(logits, targets.len() * classes, "the logits are [N, {classes}]");
    assert_eq!(rows.len(), targets.len(), "a result for every row");
    let valid = |&target: &u32| target == IGNORED || (target as usize) < classes;
    assert!(targets.iter().all(valid), "a target is below {classes} or IGNORED");
}

/// e^(x - largest)
struct Exponential<E>(E);

impl<E: Element> Map<E, 1, 0> for Exponential<E> {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, [x]: [L::Vector; 1], []: [L::Vector; 0]) -> [L::Vector; 1] {
        [lane.exp(lane.sub(x, lane.splat(self.0)))]
    }
}

/// The sum of e^(x - largest): the bits that [`Exponential`] and then [`Sum`] give, without writing.
struct SumOfExponentials<E>(E);

impl<E: Element> Terms<E, 1> for SumOfExponentials<E> {
    #[inline(always)]
    fn add<L: Lane<Element = E>>(&self, lane: L, sums: L::Vector, [x]: [L::Vector; 1]) -> L::Vector {
        lane.add(sums, lane.exp(lane.sub(x, lane.splat(self.0))))
    }
}

struct Sum;

impl<E: Element> Terms<E, 1> for Sum {
    #[inline(always)]
    fn add<L: Lane<Element = E>>(&self, lane: L, sums: L::Vector, [x]: [L::Vector; 1]) -> L::Vector {
        lane.add(sums, x)
    }
}

/// factor · e, where e below [`TINY_SHARE`] is taken as 0
struct ScaledShare<E>(E);

impl<E: Element> Map<E, 1, 0> for ScaledShare<E> {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, [e]: [L::Vector; 1], []: [L::Vector; 0]) -> [L::Vector; 1] {
        [lane.mul(lane.splat(self.0), lane.flush_below(E::from_f64(TINY_SHARE), e))]
    }
}

/// (x - largest) / temperature
struct Temper<E> {
    largest: E,
    temperature: E,
}

impl<E: Element> Map<E, 1, 0> for Temper<E> {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, [x]: [L::Vector; 1], []: [L::Vector; 0]) -> [L::Vector; 1] {
        [lane.div(lane.sub(x, lane.splat(self.largest)), lane.splat(self.temperature))]
    }
}

/// x - largest - log_sum
struct LogShare<E> {
    largest: E,
    log_sum: E,
}

impl<E: Element> Map<E, 1, 0> for LogShare<E> {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, [x]: [L::Vector; 1], []: [L::Vector; 0]) -> [L::Vector; 1] {
        [lane.sub(lane.sub(x, lane.splat(self.largest)), lane.splat(self.log_sum))]
    }
}

/// The loss of a row from the sum of its exponentials, its largest logit and that of its target.
#[inline(always)]
fn loss<E: Element>(sum: f64, largest: E, target: E) -> f64 {
    libm::log(sum) + (largest.to_f64() - target.to_f64())
}

/// Whether `target` is the first class with the largest logit.
#[inline(always)]
fn is_correct<L: Lane>(lane: L, logits: &[L::Element], target: usize, largest: L::Element) -> bool {
    logits[target] == largest && maximum(lane, &logits[..target]) < largest
}

struct RowValue<'a, E> {
    logits: &'a [E],
    target: u32,
}

impl<E: Element> Kernel<E> for RowValue<'_, E> {
    type Output = RowLoss;
    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) -> RowLoss {
        let Self { logits, target } = self;
        if target == IGNORED {
            return RowLoss::default();
        }
        let (largest, target) = (maximum(lane, logits), target as usize);
        let sum = sum(lane, &SumOfExponentials(largest), [logits]);
        RowLoss { loss: loss(sum, largest, logits[target]), correct: is_correct(lane, logits, target, largest) }
    }
}

struct RowGradient<'a, E> {
    logits: &'a mut [E],
    target: u32,
    scale: f64,
}

impl<E: Element> Kernel<E> for RowGradient<'_, E> {
    type Output = RowLoss;
    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) -> RowLoss {
        let Self { logits: row, target, scale } = self;
        if target == IGNORED {
            row.fill(E::ZERO);
            return RowLoss::default();
        }
        let (largest, target) = (maximum(lane, row), target as usize);
        let (logit, correct) = (row[target], is_correct(lane, row, target, largest));
        map(lane, &Exponential(largest), [&mut *row], []);
        let sum = sum(lane, &Sum, [&*row]);
        map(lane, &ScaledShare(E::from_f64(scale / sum)), [&mut *row], []);
        row[target] = row[target] - E::from_f64(scale);
        RowLoss { loss: loss(sum, largest, logit), correct }
    }
}

struct Softmax<'a, E> {
    row: &'a mut [E],
    temperature: E,
}

impl<E: Element> Kernel<E> for Softmax<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        let Self { row, temperature } = self;
        let largest = maximum(lane, row);
        map(lane, &Temper { largest, temperature }, [&mut *row], []);
        map(lane, &Exponential(E::ZERO), [&mut *row], []);
        let sum = sum(lane, &Sum, [&*row]);
        map(lane, &Scale(E::from_f64(1.0 / sum)), [row], []);
    }
}

struct LogSoftmax<'a, E>(&'a mut [E]);

impl<E: Element> Kernel<E> for LogSoftmax<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        let largest = maximum(lane, self.0);
        let log_sum = E::from_f64(libm::log(sum(lane, &SumOfExponentials(largest), [&*self.0])));
        map(lane, &LogShare { largest, log_sum }, [self.0], []);
    }
}

#[cfg(test)]
mod tests {
    use throughline_testkit::{assert_close, assert_same_bits, central_difference};

    use super::*;
    use crate::ops::testing::{for_every_setting, numbers, tokens};

    fn plain_loss(logits: &[f64], target: usize) -> f64 {
        logits.iter().map(|x| x.exp()).sum::<f64>().ln() - logits[target]
    }

    #[test]
    fn loss_and_gradient_are_those_of_the_definition() {
        for classes in [1, 2, 3, 16, 65, 200] {
            let rows = 5;
            let mut logits: Vec<f64> = numbers(1, rows * classes);
            logits.iter_mut().for_each(|x| *x *= 4.0);
            let targets = tokens(2, rows, classes);
            let mut results = vec![RowLoss::default(); rows];
            let mut gradient = logits.clone();
            let (isa, threads) = (Isa::SCALAR, Threads::ONE);
            softmax_cross_entropy(isa, threads, &mut gradient, classes, &targets, 0.25, None, &mut results);
            for (n, row) in logits.chunks_mut(classes).enumerate() {
                let target = targets[n] as usize;
                assert_close("loss", &[results[n].loss], &[plain_loss(row, target)], 1e-13);
                let want = central_difference(|row| 0.25 * plain_loss(row, target), row, 1e-3);
                assert_close("gradient", &gradient[n * classes..][..classes], &want, 1e-10);
                let first_largest = (0..classes).rev().max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap();
                assert_eq!(results[n].correct, target == first_largest);
            }
        }
    }

    #[test]
    fn bits_are_the_same_in_every_setting_and_without_a_gradient() {
        for (rows, classes) in [(0, 5), (3, 1), (700, 97), (40, 5000)] {
            let mut logits: Vec<f32> = numbers(1, rows * classes);
            logits.iter_mut().for_each(|x| *x *= 20.0);
            let mut targets = tokens(2, rows, classes);
            targets.iter_mut().step_by(7).for_each(|target| *target = IGNORED);
            let gradient = |isa, threads: &Threads| {
                let (mut gradient, mut results) = (logits.clone(), vec![RowLoss::default(); rows]);
                softmax_cross_entropy(isa, threads, &mut gradient, classes, &targets, 0.3, None, &mut results);
                (gradient, results)
            };
            let want = gradient(Isa::SCALAR, Threads::ONE);
            for_every_setting(|isa, threads| {
                let got = gradient(isa, threads);
                assert_same_bits("gradient", &got.0, &want.0);
                assert_eq!(got.1, want.1);
                let mut results = vec![RowLoss { loss: f64::NAN, correct: true }; rows];
                cross_entropy(isa, threads, &logits, classes, &targets, &mut results);
                assert_eq!(results, want.1);
            });
        }
    }

    #[test]
    fn the_weight_of_its_target_scales_the_gradient_of_a_row() {
        let (logits, targets): (Vec<f32>, _) = (numbers(1, 12), [2, IGNORED, 0, 1]);
        let run = |scale: f64, class_weights: Option<&[f64]>| {
            let (mut gradient, mut rows) = (logits.clone(), [RowLoss::default(); 4]);
            let (isa, threads) = (Isa::detect(), Threads::ONE);
            softmax_cross_entropy(isa, threads, &mut gradient, 3, &targets, scale, class_weights, &mut rows);
            (gradient, rows)
        };
        let weighted = run(0.5, Some(&[1.0, 0.25, 3.0]));
        for (row, scale) in [(0, 1.5), (1, 0.5), (2, 0.5), (3, 0.125)] {
            let (gradient, rows) = run(scale, None);
            assert_same_bits("gradient", &weighted.0[row * 3..][..3], &gradient[row * 3..][..3]);
            assert_eq!(weighted.1, rows, "the losses have no weights");
        }
    }

    #[test]
    fn an_ignored_row_counts_for_nothing() {
        let mut logits = [1.0f64, 2.0, 3.0, 4.0];
        let (targets, mut rows) = ([IGNORED, 1], [RowLoss::default(); 2]);
        softmax_cross_entropy(Isa::SCALAR, Threads::ONE, &mut logits, 2, &targets, 1.0, None, &mut rows);
        let total = Classified::of(&targets, &rows);
        assert_eq!((total.loss.count, total.correct, total.accuracy()), (1, 1, 1.0));
        assert_eq!(total.loss.mean(), rows[1].loss);
        assert_eq!(logits[..2], [0.0, 0.0]);
    }

    #[test]
    fn of_equal_logits_the_first_class_wins() {
        for (target, correct) in [(0, false), (1, true), (2, false), (3, false)] {
            let mut rows = [RowLoss::default()];
            cross_entropy(Isa::detect(), Threads::ONE, &[0.0f32, 2.0, 1.0, 2.0], 4, &[target], &mut rows);
            assert_eq!(rows[0].correct, correct, "target {target}");
        }
    }

    #[test]
    fn huge_logits_stay_finite_and_a_broken_one_shows() {
        let run = |logits: [f32; 3], target| {
            let mut rows = [RowLoss::default()];
            cross_entropy(Isa::detect(), Threads::ONE, &logits, 3, &[target], &mut rows);
            rows[0].loss
        };
        assert_eq!(run([1e30, -1e30, 0.0], 0), 0.0);
        assert_close("loss", &[run([1e4, -1e4, 0.0], 1)], &[2e4], 1e-12);
        for broken in [f32::NAN, f32::INFINITY] {
            assert!(run([0.0, broken, 0.0], 0).is_nan(), "{broken}");
            assert!(run([broken, 0.0, 0.0], 0).is_nan(), "{broken}");
        }
    }

    #[test]
    fn gradients_of_hopeless_classes_are_zero_and_not_subnormal() {
        let (mut logits, mut rows) = ([0.0f32, -80.0, -40.0], [RowLoss::default()]);
        softmax_cross_entropy(Isa::detect(), Threads::ONE, &mut logits, 3, &[0], 1e-4, None, &mut rows);
        assert_eq!(logits[1], 0.0);
        assert_close("gradient", &[f64::from(logits[2]) * 1e4 / (-40.0f64).exp()], &[1.0], 1e-6);
    }

    #[test]
    fn softmax_sums_to_one_and_its_logarithm_agrees() {
        for isa in Isa::available() {
            let logits: Vec<f32> = numbers(3, 301);
            for temperature in [0.5, 1.0, 2.0] {
                let mut row = logits.clone();
                softmax(isa, &mut row, temperature);
                let want: Vec<f64> = logits.iter().map(|&x| (f64::from(x) / temperature).exp()).collect();
                let total: f64 = want.iter().sum();
                assert_close("softmax", &row, &want.iter().map(|e| e / total).collect::<Vec<_>>(), 1e-7);
                assert_close("sum", &[row.iter().map(|&p| f64::from(p)).sum::<f64>()], &[1.0], 1e-6);
            }
            let mut cold = [1.0f32, 3.0, 2.0];
            softmax(isa, &mut cold, 1e-40);
            assert_eq!(cold, [0.0, 1.0, 0.0]);
            let (mut logarithm, mut probability) = (logits.clone(), logits.clone());
            log_softmax(isa, &mut logarithm);
            softmax(isa, &mut probability, 1.0);
            let want: Vec<f64> = probability.iter().map(|&p| f64::from(p).ln()).collect();
            assert_close("log softmax", &logarithm, &want, 1e-6);
        }
    }

    #[test]
    #[should_panic(expected = "a target is below 2")]
    fn a_target_outside_the_classes_is_refused() {
        cross_entropy(Isa::SCALAR, Threads::ONE, &[0.0f32; 2], 2, &[2], &mut [RowLoss::default()]);
    }
}
