//! Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019). At update t, counted from 1:
//!
//! ```text
//! Adam    g = gradient + weight_decay · p
//! AdamW   g = gradient;  p = p - learning_rate · weight_decay · p
//! m = beta1 · m + (1 - beta1) · g
//! v = beta2 · v + (1 - beta2) · g²
//! p = p - learning_rate · m / (1 - beta1^t) / (√(v / (1 - beta2^t)) + epsilon)
//! ```

use throughline_simd::{Element, Lane};

use super::{Moment, Penalised, TINY_BEFORE_SQUARE, Update, check_not_negative, check_share};
use crate::buffer::Buffer;
use crate::ops::vectors::{Map, apply};

/// The settings of Adam.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// How much of the first moment, the average of gradients, is kept; 0.9.
    pub beta1: f64,
    /// How much of the second moment, the average of squared gradients, is kept; 0.999.
    pub beta2: f64,
    /// Added to the square root; 1e-8.
    pub epsilon: f64,
    /// 0 for Adam, 0.01 for AdamW.
    pub weight_decay: f64,
    /// Whether weight decay acts on the parameters (AdamW) and not through the gradient (Adam's L2 penalty).
    pub decoupled: bool,
}

impl Default for Adam {
    /// Adam without weight decay.
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, decoupled: false }
    }
}

impl Adam {
    pub(super) const MOMENTS: &'static [&'static str] = &["first_moment", "second_moment"];

    /// AdamW with its defaults.
    pub fn with_decoupled_decay() -> Self {
        Self { weight_decay: 0.01, decoupled: true, ..Self::default() }
    }

    pub(super) fn check(&self) {
        check_share("beta1", self.beta1);
        check_share("beta2", self.beta2);
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
        let [m, v] = moments else { unreachable!("both moments are always kept") };
        let rate = at.learning_rate;
        let (penalty, decay) = if self.decoupled { (0.0, rate * self.weight_decay) } else { (self.weight_decay, 0.0) };
        // The bias correction: the averages start from 0.
        let bias_correction = |beta: f64| 1.0 - libm::pow(beta, at.count as f64);
        let operation = Step {
            penalised: Penalised::new(at.gradient_factor, penalty),
            first: Moment::average(self.beta1),
            second: Moment::average(self.beta2),
            root: E::from_f64(libm::sqrt(bias_correction(self.beta2))),
            epsilon: E::from_f64(self.epsilon),
            step: E::from_f64(-rate / bias_correction(self.beta1)),
            shrink: E::from_f64(1.0 - decay),
        };
        apply(at.isa, at.threads, &operation, [parameters, m, v], [gradients]);
    }
}

struct Step<E> {
    penalised: Penalised<E>,
    first: Moment<E>,
    second: Moment<E>,
    root: E,
    epsilon: E,
    step: E,
    shrink: E,
}

impl<E: Element> Map<E, 3, 1> for Step<E> {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, [p, m, v]: [L::Vector; 3], [g]: [L::Vector; 1]) -> [L::Vector; 3] {
        let g = lane.flush_below(E::from_f64(TINY_BEFORE_SQUARE), self.penalised.gradient(lane, g, p));
        let m = self.first.next(lane, m, g);
        let v = self.second.next(lane, v, lane.mul(g, g));
        let root = lane.div(lane.sqrt(v), lane.splat(self.root));
        let direction = lane.div(m, lane.add(root, lane.splat(self.epsilon)));
        [lane.fma(lane.splat(self.step), direction, lane.mul(lane.splat(self.shrink), p)), m, v]
    }
}
