//! Whole arrays: norms, checks, and the arithmetic between gradients and the optimiser.

use throughline_simd::{Element, Isa, Kernel, Lane};

use super::disjoint::{Disjoint, for_each_piece, for_each_task};
use super::vectors::{self, BLOCK, map};
use crate::threads::Threads;

/// The sum of squares of `x`, for norms. Terms are added in the precision of E within fixed blocks of 4096 elements and
/// the blocks in f64, so the bits do not depend on threads or instruction set. Infinite where a square is.
pub fn sum_of_squares<E: Element>(isa: Isa, threads: &Threads, x: &[E]) -> f64 {
    sum_in_blocks(threads, x.len(), |range| E::dispatch(isa, SumOfSquares(&x[range])))
}

/// Whether no element of `x` is infinite or NaN.
pub fn all_finite<E: Element>(isa: Isa, threads: &Threads, x: &[E]) -> bool {
    // 0 · x is NaN exactly where x is not finite, and a NaN stays in its sum.
    sum_in_blocks(threads, x.len(), |range| E::dispatch(isa, SumOfZeros(&x[range]))) == 0.0
}

/// `x = factor · x`
pub fn scale<E: Element>(isa: Isa, threads: &Threads, factor: f64, x: &mut [E]) {
    let (length, x) = (x.len(), Disjoint::new(x));
    for_each_piece(threads, length, |range| {
        // SAFETY: pieces do not overlap.
        E::dispatch(isa, Scale { factor: E::from_f64(factor), x: unsafe { x.part(range) } });
    });
}

/// Limits every element to `-limit..=limit`; NaN stays NaN.
///
/// # Panics
/// If `limit` is negative or NaN.
pub fn clip_value<E: Element>(isa: Isa, threads: &Threads, limit: f64, x: &mut [E]) {
    assert!(limit >= 0.0, "a limit is at least 0, not {limit}");
    let (length, x) = (x.len(), Disjoint::new(x));
    for_each_piece(threads, length, |range| {
        // SAFETY: pieces do not overlap.
        E::dispatch(isa, Clip { limit: E::from_f64(limit), x: unsafe { x.part(range) } });
    });
}

/// `a += b`
///
/// # Panics
/// If the lengths differ.
pub fn add<E: Element>(isa: Isa, threads: &Threads, a: &mut [E], b: &[E]) {
    assert_eq!(a.len(), b.len(), "arrays of one length are added");
    let (length, a) = (a.len(), Disjoint::new(a));
    for_each_piece(threads, length, |range| {
        // SAFETY: pieces do not overlap.
        E::dispatch(isa, Add { a: unsafe { a.part(range.clone()) }, b: &b[range] });
    });
}

/// Adds up `sum(range)` over ranges that depend on `length` alone and begin at multiples of a block.
pub(super) fn sum_in_blocks(
    threads: &Threads,
    length: usize,
    sum: impl Fn(core::ops::Range<usize>) -> f64 + Sync,
) -> f64 {
    const PARTS: usize = 64;
    let mut sums = [0.0; PARTS];
    let piece = length.div_ceil(BLOCK).div_ceil(PARTS) * BLOCK;
    if piece > 0 {
        let sums = Disjoint::new(&mut sums);
        for_each_task(threads, length.div_ceil(piece), |index| {
            // SAFETY: every task has its own element.
            unsafe { sums.part(index..index + 1) }[0] = sum(index * piece..length.min((index + 1) * piece));
        });
    }
    sums.iter().sum()
}

struct SumOfSquares<'a, E>(&'a [E]);

impl<E: Element> Kernel<E> for SumOfSquares<'_, E> {
    type Output = f64;
    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) -> f64 {
        vectors::sum(lane, [self.0], E::ZERO, |[x]| lane.mul(x, x))
    }
}

struct SumOfZeros<'a, E>(&'a [E]);

impl<E: Element> Kernel<E> for SumOfZeros<'_, E> {
    type Output = f64;
    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) -> f64 {
        vectors::sum(lane, [self.0], E::ZERO, |[x]| lane.mul(x, lane.splat(E::ZERO)))
    }
}

struct Scale<'a, E> {
    factor: E,
    x: &'a mut [E],
}

impl<E: Element> Kernel<E> for Scale<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        map(lane, [self.x], [], |[x], []| [lane.mul(lane.splat(self.factor), x)]);
    }
}

struct Clip<'a, E> {
    limit: E,
    x: &'a mut [E],
}

impl<E: Element> Kernel<E> for Clip<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        let highest = lane.splat(self.limit);
        let lowest = lane.sub(lane.splat(E::ZERO), highest);
        map(lane, [self.x], [], |[x], []| [lane.max(lowest, lane.min(highest, x))]);
    }
}

/// `a += b` over slices of one length.
pub(super) struct Add<'a, E> {
    pub a: &'a mut [E],
    pub b: &'a [E],
}

impl<E: Element> Kernel<E> for Add<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        map(lane, [self.a], [self.b], |[a], [b]| [lane.add(a, b)]);
    }
}

#[cfg(test)]
mod tests {
    use throughline_testkit::{assert_close, assert_same_bits};

    use super::*;
    use crate::ops::testing::{for_every_setting, numbers};

    #[test]
    fn a_sum_of_squares_has_the_same_bits_in_every_setting() {
        for length in [0, 1, 63, 64, 65, 4097, 300_001] {
            let x: Vec<f32> = numbers(1, length);
            let want: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            let first = sum_of_squares(Isa::SCALAR, Threads::ONE, &x);
            assert_close("sum of squares", &[first / want.max(1.0)], &[want / want.max(1.0)], 1e-6);
            for_every_setting(|isa, threads| assert_same_bits("sum", &[sum_of_squares(isa, threads, &x)], &[first]));
        }
    }

    #[test]
    fn what_is_not_finite_is_found_wherever_it_is() {
        for_every_setting(|isa, threads| {
            let mut x: Vec<f32> = numbers(2, 9001);
            assert!(all_finite(isa, threads, &x));
            for (at, value) in [(0, f32::NAN), (4095, f32::INFINITY), (9000, f32::NEG_INFINITY)] {
                let kept = core::mem::replace(&mut x[at], value);
                assert!(!all_finite(isa, threads, &x), "{value} at {at}");
                x[at] = kept;
            }
        });
    }

    #[test]
    fn elementwise_arithmetic() {
        for_every_setting(|isa, threads| {
            let (a, b): (Vec<f32>, Vec<f32>) = (numbers(3, 40_003), numbers(4, 40_003));
            let mut x = a.clone();
            add(isa, threads, &mut x, &b);
            assert!(x.iter().zip(&a).zip(&b).all(|((x, a), b)| *x == a + b));
            let mut x = a.clone();
            scale(isa, threads, 0.25, &mut x);
            assert!(x.iter().zip(&a).all(|(x, a)| *x == 0.25 * a));
            let mut x = a.clone();
            clip_value(isa, threads, 0.5, &mut x);
            assert!(x.iter().zip(&a).all(|(x, a)| *x == a.clamp(-0.5, 0.5)));
            let mut x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
            clip_value(isa, threads, 2.0, &mut x);
            assert!(x[0].is_nan() && x[1..] == [2.0, -2.0]);
        });
    }
}
