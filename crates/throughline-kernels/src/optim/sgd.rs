//! Stochastic gradient descent with momentum (Polyak 1964, in the form of Sutskever et al. 2013 that PyTorch has):
//!
//! ```text
//! g = gradient + weight_decay · p
//! b = momentum · b + g            b = 0 before the first update
//! p = p - learning_rate · b       without momentum: · g
//! ```

use throughline_simd::{Element, Lane};

use super::{Moment, Penalised, Update, check_not_negative, check_share};
use crate::buffer::Buffer;
use crate::ops::vectors::{Map, apply};

/// The settings of stochastic gradient descent. All 0 by default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sgd {
    /// The share of the step that is kept for the next one, at least 0 and below 1.
    pub momentum: f64,
    /// The L2 penalty.
    pub weight_decay: f64,
}

impl Sgd {
    pub(super) fn moments(&self) -> &'static [&'static str] {
        if self.momentum > 0.0 { &["momentum"] } else { &[] }
    }

    pub(super) fn check(&self) {
        check_share("momentum", self.momentum);
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
            step: E::from_f64(-at.learning_rate),
        };
        match moments {
            [b] => {
                let operation = WithMomentum { plain, momentum: Moment::sum(self.momentum) };
                apply(at.isa, at.threads, &operation, [parameters, b], [gradients]);
            }
            _ => apply(at.isa, at.threads, &plain, [parameters], [gradients]),
        }
    }
}

struct Plain<E> {
    penalised: Penalised<E>,
    step: E,
}

impl<E: Element> Map<E, 1, 1> for Plain<E> {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, [p]: [L::Vector; 1], [g]: [L::Vector; 1]) -> [L::Vector; 1] {
        [lane.fma(lane.splat(self.step), self.penalised.gradient(lane, g, p), p)]
    }
}

struct WithMomentum<E> {
    plain: Plain<E>,
    momentum: Moment<E>,
}

impl<E: Element> Map<E, 2, 1> for WithMomentum<E> {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, [p, b]: [L::Vector; 2], [g]: [L::Vector; 1]) -> [L::Vector; 2] {
        let b = self.momentum.next(lane, b, self.plain.penalised.gradient(lane, g, p));
        [lane.fma(lane.splat(self.plain.step), b, p), b]
    }
}
