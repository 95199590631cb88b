//! Whole arrays: norms, checks, and the arithmetic between gradients and the optimiser.

use throughline_simd::{Element, Isa, Lane};

use super::tasks::for_each_chunk;
use super::vectors::{Map, Terms, apply, total};
use crate::disjoint::Disjoint;
use crate::threads::Threads;

/// The sum of squares of `x`, for norms. Terms are added in the precision of E within fixed blocks of 4096 elements and
/// the blocks in f64, so the bits do not depend on threads or instruction set. Infinite where the sum of a block is: in
/// f32 from 2^128 on, a norm of the block of 1.8e19.
pub fn sum_of_squares<E: Element>(isa: Isa, threads: &Threads, x: &[E]) -> f64 {
    total(isa, threads, &Square, [x])
}

/// Whether no element of `x` is infinite or NaN.
pub fn all_finite<E: Element>(isa: Isa, threads: &Threads, x: &[E]) -> bool {
    total(isa, threads, &NanUnlessFinite, [x]) == 0.0
}

/// `x = 0`, on all threads: gradients before they accumulate.
pub fn clear<E: Element>(threads: &Threads, x: &mut [E]) {
    let length = x.len();
    let x = Disjoint::new(x);
    for_each_chunk(threads, length, |range| {
        // SAFETY: chunks do not overlap, and each belongs to one task.
        unsafe { x.slice(range) }.fill(E::ZERO);
    });
}

/// `x = factor · x`
pub fn scale<E: Element>(isa: Isa, threads: &Threads, factor: f64, x: &mut [E]) {
    apply(isa, threads, &Scale(E::from_f64(factor)), [x], []);
}

/// Limits every element to `-limit..=limit`; NaN stays NaN.
///
/// # Panics
/// If `limit` is negative or NaN.
pub fn clip_value<E: Element>(isa: Isa, threads: &Threads, limit: f64, x: &mut [E]) {
    assert!(limit >= 0.0, "a limit is at least 0, not {limit}");
    apply(isa, threads, &Clip(E::from_f64(limit)), [x], []);
}

/// `a += b`
///
/// # Panics
/// If the lengths differ.
pub fn add<E: Element>(isa: Isa, threads: &Threads, a: &mut [E], b: &[E]) {
    assert_eq!(a.len(), b.len(), "arrays of one length are added");
    apply(isa, threads, &Add, [a], [b]);
}

struct Square;

impl<E: Element> Terms<E, 1> for Square {
    #[inline(always)]
    fn add<L: Lane<Element = E>>(&self, lane: L, sums: L::Vector, [x]: [L::Vector; 1]) -> L::Vector {
        lane.fma(x, x, sums)
    }
}

/// 0 · x is NaN exactly where x is not finite, and a NaN stays in its sum.
struct NanUnlessFinite;

impl<E: Element> Terms<E, 1> for NanUnlessFinite {
    #[inline(always)]
    fn add<L: Lane<Element = E>>(&self, lane: L, sums: L::Vector, [x]: [L::Vector; 1]) -> L::Vector {
        lane.fma(x, lane.splat(E::ZERO), sums)
    }
}

/// `x = factor · x`
pub(super) struct Scale<E>(pub E);

impl<E: Element> Map<E, 1, 0> for Scale<E> {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, [x]: [L::Vector; 1], []: [L::Vector; 0]) -> [L::Vector; 1] {
        [lane.mul(lane.splat(self.0), x)]
    }
}

struct Clip<E>(E);

impl<E: Element> Map<E, 1, 0> for Clip<E> {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, [x]: [L::Vector; 1], []: [L::Vector; 0]) -> [L::Vector; 1] {
        [lane.max(lane.splat(-self.0), lane.min(lane.splat(self.0), x))]
    }
}

/// `a += b`
pub(super) struct Add;

impl<E: Element> Map<E, 1, 1> for Add {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, [a]: [L::Vector; 1], [b]: [L::Vector; 1]) -> [L::Vector; 1] {
        [lane.add(a, b)]
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
            let mut x = a.clone();
            clear(threads, &mut x);
            assert!(x.iter().all(|x| x.to_bits() == 0));
        });
    }
}
