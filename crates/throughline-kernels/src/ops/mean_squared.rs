//! The squared error: loss = (p - t)², d loss / dp = 2 (p - t), summed over all elements.

use throughline_simd::{Element, Isa, Lane};

use super::LossSum;
use super::vectors::{Map, Terms, apply, total};
use crate::threads::Threads;

/// The squared error of `prediction` against `target`, summed over their elements; `gradient`, if wanted, is
/// overwritten with its gradient times `scale` (1 / count for the gradient of the mean).
///
/// # Panics
/// If the lengths differ.
pub fn mean_squared_error<E: Element>(
    isa: Isa,
    threads: &Threads,
    prediction: &[E],
    target: &[E],
    scale: f64,
    gradient: Option<&mut [E]>,
) -> LossSum {
    assert_eq!(prediction.len(), target.len(), "a target for every prediction");
    if let Some(gradient) = gradient {
        assert_eq!(gradient.len(), target.len(), "a gradient for every prediction");
        apply(isa, threads, &Gradient(E::from_f64(2.0 * scale)), [gradient], [prediction, target]);
    }
    LossSum { sum: total(isa, threads, &SquaredError, [prediction, target]), count: target.len() }
}

struct SquaredError;

impl<E: Element> Terms<E, 2> for SquaredError {
    #[inline(always)]
    fn add<L: Lane<Element = E>>(&self, lane: L, sums: L::Vector, [p, t]: [L::Vector; 2]) -> L::Vector {
        let error = lane.sub(p, t);
        lane.fma(error, error, sums)
    }
}

struct Gradient<E>(E);

impl<E: Element> Map<E, 1, 2> for Gradient<E> {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, _: [L::Vector; 1], [p, t]: [L::Vector; 2]) -> [L::Vector; 1] {
        [lane.mul(lane.splat(self.0), lane.sub(p, t))]
    }
}

#[cfg(test)]
mod tests {
    use throughline_testkit::{assert_close, assert_same_bits};

    use super::*;
    use crate::ops::testing::{for_every_setting, numbers};

    #[test]
    fn loss_and_gradient() {
        for length in [0, 1, 40_001] {
            let (p, t): (Vec<f32>, Vec<f32>) = (numbers(1, length), numbers(2, length));
            let scale = 1.0 / length.max(1) as f64;
            let error = |(&p, &t): (&f32, &f32)| f64::from(p) - f64::from(t);
            let want: f64 = p.iter().zip(&t).map(error).map(|e| e * e).sum();
            let want_gradient: Vec<f64> = p.iter().zip(&t).map(error).map(|e| 2.0 * scale * e).collect();
            let mut first = vec![f32::NAN; length];
            let loss = mean_squared_error(Isa::SCALAR, Threads::ONE, &p, &t, scale, Some(&mut first));
            assert_close("loss", &[loss.mean()], &[want * scale], 1e-6);
            assert_close("gradient", &first, &want_gradient, 1e-7);
            assert_eq!(loss.count, length);
            for_every_setting(|isa, threads| {
                let mut gradient = vec![f32::NAN; length];
                assert_eq!(mean_squared_error(isa, threads, &p, &t, scale, Some(&mut gradient)), loss);
                assert_same_bits("gradient", &gradient, &first);
                assert_eq!(mean_squared_error(isa, threads, &p, &t, scale, None), loss);
            });
        }
    }
}
