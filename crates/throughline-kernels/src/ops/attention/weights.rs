//! From the products of one row to its weights, and back.

use throughline_simd::{Element, Kernel, Lane};

use crate::cells::TINY_GRADIENT;
use crate::ops::cross_entropy::TINY_SHARE;
use crate::ops::reduce::Scale;
use crate::ops::vectors::{Map, Terms, map, maximum, sum};

/// What forward keeps of the softmax of one row in one head.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Normaliser<E> {
    /// The largest q · k, before it is divided by sqrt(D).
    pub largest: E,
    /// The inverse of the sum of exponentials.
    pub inverse_sum: E,
}

/// e^((x - largest) · scale), where a tiny one is taken as 0.
#[inline(always)]
fn exponential<L: Lane>(lane: L, largest: L::Element, scale: L::Element, x: L::Vector) -> L::Vector {
    let difference = lane.mul(lane.sub(x, lane.splat(largest)), lane.splat(scale));
    lane.flush_below(L::Element::from_f64(TINY_SHARE), lane.exp(difference))
}

/// Replaces the products of one row by their exponentials.
pub(super) struct Weigh<'a, E> {
    pub(super) scores: &'a mut [E],
    pub(super) scale: E,
}

impl<E: Element> Kernel<E> for Weigh<'_, E> {
    type Output = Normaliser<E>;
    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) -> Normaliser<E> {
        let Self { scores, scale } = self;
        let largest = maximum(lane, scores);
        map(lane, &Exponential { largest, scale }, [&mut *scores], []);
        Normaliser { largest, inverse_sum: E::from_f64(1.0 / sum(lane, &Itself, [&*scores])) }
    }
}

struct Exponential<E> {
    largest: E,
    scale: E,
}

impl<E: Element> Map<E, 1, 0> for Exponential<E> {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, [x]: [L::Vector; 1], []: [L::Vector; 0]) -> [L::Vector; 1] {
        [exponential(lane, self.largest, self.scale, x)]
    }
}

/// x
struct Itself;

impl<E: Element> Terms<E, 1> for Itself {
    #[inline(always)]
    fn add<L: Lane<Element = E>>(&self, lane: L, sums: L::Vector, [x]: [L::Vector; 1]) -> L::Vector {
        lane.add(sums, x)
    }
}

/// y / the sum of exponentials
pub(super) struct Divide<'a, E> {
    pub(super) y: &'a mut [E],
    pub(super) normaliser: Normaliser<E>,
}

impl<E: Element> Kernel<E> for Divide<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        map(lane, &Scale(self.normaliser.inverse_sum), [self.y], []);
    }
}

/// Replaces the products q · k of a row by probabilities, and the gradients of these by ds / sqrt(D), those of the products.
pub(super) struct ScoreGradient<'a, E> {
    pub(super) scores: &'a mut [E],
    pub(super) d_scores: &'a mut [E],
    pub(super) y: &'a [E],
    pub(super) dy: &'a [E],
    pub(super) normaliser: Normaliser<E>,
    pub(super) scale: E,
}

impl<E: Element> Kernel<E> for ScoreGradient<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        let Self { scores, d_scores, y, dy, normaliser, scale } = self;
        let mean = E::from_f64(sum(lane, &Products, [y, dy]));
        map(lane, &Transpose { normaliser, scale, mean }, [scores, d_scores], []);
    }
}

struct Products;

impl<E: Element> Terms<E, 2> for Products {
    #[inline(always)]
    fn add<L: Lane<Element = E>>(&self, lane: L, sums: L::Vector, [a, b]: [L::Vector; 2]) -> L::Vector {
        lane.fma(a, b, sums)
    }
}

struct Transpose<E> {
    normaliser: Normaliser<E>,
    scale: E,
    mean: E,
}

impl<E: Element> Map<E, 2, 0> for Transpose<E> {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, [s, dp]: [L::Vector; 2], []: [L::Vector; 0]) -> [L::Vector; 2] {
        let Normaliser { largest, inverse_sum } = self.normaliser;
        let p = lane.mul(exponential(lane, largest, self.scale, s), lane.splat(inverse_sum));
        let ds = lane.mul(p, lane.sub(dp, lane.splat(self.mean)));
        [p, lane.flush_below(E::from_f64(TINY_GRADIENT), lane.mul(ds, lane.splat(self.scale)))]
    }
}
