//! RMSProp (Tieleman and Hinton 2012, Coursera lecture 6.5), in PyTorch's form:
//!
//! ```text
//! g = gradient + weight_decay · p
//! v = alpha · v + (1 - alpha) · g²
//! b = momentum · b + g / (√v + epsilon)
//! p = p - learning_rate · b
//! ```

use throughline_simd::{Element, Lane};

use super::{Moment, Penalised, TINY_BEFORE_SQUARE, Update, check_not_negative, check_share};
use crate::buffer::Buffer;
use crate::ops::vectors::{Map, apply};

/// The settings of RMSProp.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsProp {
    /// How much of the average of squared gradients is kept; 0.99.
    pub alpha: f64,
    /// Added to the square root; 1e-8.
    pub epsilon: f64,
    /// The share of the step that is kept for the next one; 0.
    pub momentum: f64,
    /// The L2 penalty; 0.
    pub weight_decay: f64,
}

impl Default for RmsProp {
    fn default() -> Self {
        Self { alpha: 0.99, epsilon: 1e-8, momentum: 0.0, weight_decay: 0.0 }
    }
}

impl RmsProp {
    pub(super) fn moments(&self) -> &'static [&'static str] {
        if self.momentum > 0.0 { &["square_average", "momentum"] } else { &["square_average"] }
    }

    pub(super) fn check(&self) {
        check_share("alpha", self.alpha);
        check_share("momentum", self.momentum);
        check_not_negative("epsilon", self.epsilon);
        check_not_negative("weight_decay", self.weight_decay);
    }

    pub(super) fn update<E: Element>(
        self,
        at: &Update<'_>,
        parameters: &mut [E],
        gradients: &[E],
        moments: &mut [Buffer<E>],
    ) {
        let plain = Plain {
            penalised: Penalised::new(at.gradient_factor, self.weight_decay),
            average: Moment::average(self.alpha),
            epsilon: E::from_f64(self.epsilon),
            step: E::from_f64(-at.learning_rate),
        };
        match moments {
            [v, b] => {
                let operation = WithMomentum { plain, momentum: Moment::sum(self.momentum) };
                apply(at.isa, at.threads, &operation, [parameters, v, b], [gradients]);
            }
            [v] => apply(at.isa, at.threads, &plain, [parameters, v], [gradients]),
            _ => unreachable!("the average is always kept"),
        }
    }
}

struct Plain<E> {
    penalised: Penalised<E>,
    average: Moment<E>,
    epsilon: E,
    step: E,
}

impl<E: Element> Plain<E> {
    /// (v, g / (√v + epsilon))
    #[inline(always)]
    fn normalised<L: Lane<Element = E>>(
        &self,
        lane: L,
        p: L::Vector,
        v: L::Vector,
        g: L::Vector,
    ) -> (L::Vector, L::Vector) {
        let g = lane.flush_below(E::from_f64(TINY_BEFORE_SQUARE), self.penalised.gradient(lane, g, p));
        let v = self.average.next(lane, v, lane.mul(g, g));
        (v, lane.div(g, lane.add(lane.sqrt(v), lane.splat(self.epsilon))))
    }
}

impl<E: Element> Map<E, 2, 1> for Plain<E> {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, [p, v]: [L::Vector; 2], [g]: [L::Vector; 1]) -> [L::Vector; 2] {
        let (v, g) = self.normalised(lane, p, v, g);
        [lane.fma(lane.splat(self.step), g, p), v]
    }
}

struct WithMomentum<E> {
    plain: Plain<E>,
    momentum: Moment<E>,
}

impl<E: Element> Map<E, 3, 1> for WithMomentum<E> {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, [p, v, b]: [L::Vector; 3], [g]: [L::Vector; 1]) -> [L::Vector; 3] {
        let (v, g) = self.plain.normalised(lane, p, v, g);
        let b = self.momentum.next(lane, b, g);
        [lane.fma(lane.splat(self.plain.step), b, p), v, b]
    }
}
