//! Losses of the residual e = prediction - target, summed over all elements:
//!
//! ```text
//!              loss                                            d loss / d prediction
//! squared      e²                                              2 e
//! absolute     |e|                                             -1, 0 or 1
//! Huber(δ)     e² / 2 where |e| <= δ, otherwise δ (|e| - δ/2)  e, held within ±δ          (Huber 1964)
//! ```

use throughline_simd::{Element, Isa, Lane};

use super::LossSum;
use super::vectors::{Map, Terms, apply, total};
use crate::threads::Threads;

/// A loss of the residual.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Residual {
    /// The squared error.
    #[default]
    Squared,
    /// The absolute error. It follows outliers less, and its optimum is the median.
    Absolute,
    /// Squared up to this residual δ, above 0, and absolute beyond it.
    Huber(f64),
}

/// The loss of `prediction` against `target`, summed over their elements; `gradient`, if wanted, is overwritten with its
/// gradient times `scale` (1 / count for the gradient of the mean).
///
/// # Panics
/// If the lengths differ, or a δ is not above 0.
pub fn residual_loss<E: Element>(
    isa: Isa,
    threads: &Threads,
    loss: Residual,
    prediction: &[E],
    target: &[E],
    scale: f64,
    gradient: Option<&mut [E]>,
) -> LossSum {
    assert_eq!(prediction.len(), target.len(), "a target for every prediction");
    let read = [prediction, target];
    if let Some(gradient) = gradient {
        assert_eq!(gradient.len(), target.len(), "a gradient for every prediction");
        let scale = E::from_f64(scale);
        match loss {
            Residual::Squared => apply(isa, threads, &SquaredGradient(scale + scale), [gradient], read),
            Residual::Absolute => apply(isa, threads, &AbsoluteGradient(scale), [gradient], read),
            Residual::Huber(delta) => apply(isa, threads, &HuberGradient { delta: of(delta), scale }, [gradient], read),
        }
    }
    let sum = match loss {
        Residual::Squared => total(isa, threads, &Squared, read),
        Residual::Absolute => total(isa, threads, &Absolute, read),
        Residual::Huber(delta) => total(isa, threads, &Huber(of(delta)), read),
    };
    LossSum { sum, count: target.len() }
}

fn of<E: Element>(delta: f64) -> E {
    let delta = E::from_f64(delta);
    assert!(delta > E::ZERO, "the δ of a Huber loss is above 0, not {delta}");
    delta
}

struct Squared;

impl<E: Element> Terms<E, 2> for Squared {
    #[inline(always)]
    fn add<L: Lane<Element = E>>(&self, lane: L, sums: L::Vector, [p, t]: [L::Vector; 2]) -> L::Vector {
        let error = lane.sub(p, t);
        lane.fma(error, error, sums)
    }
}

struct SquaredGradient<E>(E);

impl<E: Element> Map<E, 1, 2> for SquaredGradient<E> {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, _: [L::Vector; 1], [p, t]: [L::Vector; 2]) -> [L::Vector; 1] {
        [lane.mul(lane.splat(self.0), lane.sub(p, t))]
    }
}

struct Absolute;

impl<E: Element> Terms<E, 2> for Absolute {
    #[inline(always)]
    fn add<L: Lane<Element = E>>(&self, lane: L, sums: L::Vector, [p, t]: [L::Vector; 2]) -> L::Vector {
        lane.add(sums, lane.abs(lane.sub(p, t)))
    }
}

struct AbsoluteGradient<E>(E);

impl<E: Element> Map<E, 1, 2> for AbsoluteGradient<E> {
    /// A residual that is not a number has a gradient that is none.
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, _: [L::Vector; 1], [p, t]: [L::Vector; 2]) -> [L::Vector; 1] {
        let (error, zero) = (lane.sub(p, t), lane.splat(E::ZERO));
        let signed = lane.copy_sign(lane.splat(self.0), error);
        [lane.select(lane.less(zero, lane.abs(error)), signed, lane.mul(error, lane.splat(self.0)))]
    }
}

struct Huber<E>(E);

impl<E: Element> Terms<E, 2> for Huber<E> {
    /// With a = |e| and q = min(a, δ) the loss is q (a - q / 2) on both sides of δ.
    #[inline(always)]
    fn add<L: Lane<Element = E>>(&self, lane: L, sums: L::Vector, [p, t]: [L::Vector; 2]) -> L::Vector {
        let error = lane.abs(lane.sub(p, t));
        let near = lane.min(error, lane.splat(self.0));
        let rest = lane.sub(error, lane.mul(near, lane.splat(E::from_f64(0.5))));
        lane.fma(near, rest, sums)
    }
}

struct HuberGradient<E> {
    delta: E,
    scale: E,
}

impl<E: Element> Map<E, 1, 2> for HuberGradient<E> {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, _: [L::Vector; 1], [p, t]: [L::Vector; 2]) -> [L::Vector; 1] {
        let error = lane.sub(p, t);
        let delta = lane.splat(self.delta);
        let held = lane.select(lane.less(delta, lane.abs(error)), lane.copy_sign(delta, error), error);
        [lane.mul(lane.splat(self.scale), held)]
    }
}

#[cfg(test)]
mod tests {
    use throughline_testkit::{assert_close, assert_same_bits, central_difference};

    use super::*;
    use crate::ops::testing::{for_every_setting, numbers};

    const ALL: [Residual; 3] = [Residual::Squared, Residual::Absolute, Residual::Huber(0.7)];

    fn plain(loss: Residual, error: f64) -> f64 {
        match loss {
            Residual::Squared => error * error,
            Residual::Absolute => error.abs(),
            Residual::Huber(delta) if error.abs() <= delta => error * error / 2.0,
            Residual::Huber(delta) => delta * (error.abs() - delta / 2.0),
        }
    }

    #[test]
    fn the_loss_is_that_of_the_definition_and_the_gradient_its_derivative() {
        for loss in ALL {
            let (mut p, t): (Vec<f64>, Vec<f64>) = (numbers(1, 50), numbers(2, 50));
            let value = |p: &[f64], gradient: Option<&mut [f64]>| {
                residual_loss(Isa::SCALAR, Threads::ONE, loss, p, &t, 1.0, gradient).sum
            };
            let want: f64 = p.iter().zip(&t).map(|(p, t)| plain(loss, p - t)).sum();
            let mut gradient = vec![f64::NAN; 50];
            assert_close("loss", &[value(&p, Some(&mut gradient))], &[want], 1e-13);
            let numerical = central_difference(|p| value(p, None), &mut p, 1e-6);
            assert_close("gradient", &gradient, &numerical, 1e-8);
        }
    }

    #[test]
    fn bits_are_the_same_in_every_setting_and_without_a_gradient() {
        for loss in ALL {
            for length in [0, 1, 40_001] {
                let (p, t): (Vec<f32>, Vec<f32>) = (numbers(1, length), numbers(2, length));
                let run = |isa, threads: &Threads| {
                    let mut gradient = vec![f32::NAN; length];
                    let sum = residual_loss(isa, threads, loss, &p, &t, 0.3, Some(&mut gradient));
                    assert_eq!(residual_loss(isa, threads, loss, &p, &t, 0.3, None), sum);
                    (sum, gradient)
                };
                let want = run(Isa::SCALAR, Threads::ONE);
                assert_eq!(want.0.count, length);
                for_every_setting(|isa, threads| {
                    let got = run(isa, threads);
                    assert_eq!(got.0, want.0);
                    assert_same_bits("gradient", &got.1, &want.1);
                });
            }
        }
    }

    #[test]
    fn a_residual_of_zero_has_no_gradient_and_a_broken_one_shows() {
        for loss in ALL {
            let gradient_of = |p: f32| {
                let mut gradient = [1.0];
                let sum = residual_loss(Isa::detect(), Threads::ONE, loss, &[p], &[2.0], 1.0, Some(&mut gradient)).sum;
                (sum, gradient[0])
            };
            assert_eq!(gradient_of(2.0), (0.0, 0.0), "{loss:?}");
            let (sum, gradient) = gradient_of(f32::NAN);
            assert!(sum.is_nan() && gradient.is_nan(), "{loss:?}: {sum}, {gradient}");
        }
    }

    #[test]
    #[should_panic(expected = "is above 0")]
    fn a_huber_loss_needs_a_range() {
        residual_loss::<f32>(Isa::SCALAR, Threads::ONE, Residual::Huber(0.0), &[], &[], 1.0, None);
    }
}
