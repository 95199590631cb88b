//! Numerical gradients, and comparisons that name the worst element.

use std::fmt::Debug;

/// The gradient of `f` at `x` by the five-point central difference with step `h`, whose error is of order `h^4`:
///
/// `f'(x) = (f(x-2h) - 8 f(x-h) + 8 f(x+h) - f(x+2h)) / 12h`
///
/// In f64, `h` of about 1e-3 balances truncation and rounding for functions of size 1. `x` is changed in place and
/// restored.
pub fn central_difference(mut f: impl FnMut(&[f64]) -> f64, x: &mut [f64], h: f64) -> Vec<f64> {
    (0..x.len())
        .map(|k| {
            let middle = x[k];
            let mut at = |offset: f64| {
                x[k] = middle + offset;
                f(x)
            };
            let slope = (at(-2.0 * h) - 8.0 * at(-h) + 8.0 * at(h) - at(2.0 * h)) / (12.0 * h);
            x[k] = middle;
            slope
        })
        .collect()
}

/// Asserts `max|got - want| <= tol * max(1, max|want|)` over the whole tensor, and names the worst element otherwise.
/// Numbers that are not finite never pass.
#[track_caller]
pub fn assert_close<A: Into<f64> + Copy, B: Into<f64> + Copy>(name: &str, got: &[A], want: &[B], tol: f64) {
    assert_eq!(got.len(), want.len(), "{name}: lengths differ");
    let pairs = || got.iter().zip(want).map(|(&a, &b)| -> (f64, f64) { (a.into(), b.into()) });
    for (k, (a, b)) in pairs().enumerate() {
        assert!(a.is_finite() && b.is_finite(), "{name}[{k}]: got {a:e}, want {b:e}: not finite");
    }
    let scale = pairs().fold(1.0_f64, |scale, (_, b)| scale.max(b.abs()));
    let worst = pairs().enumerate().max_by(|(_, (a, b)), (_, (c, d))| (a - b).abs().total_cmp(&(c - d).abs()));
    if let Some((k, (a, b))) = worst {
        let difference = (a - b).abs();
        assert!(
            difference <= tol * scale,
            "{name}[{k}] of {}: got {a:e}, want {b:e}: they differ by {difference:e}, allowed are {tol:e} * {scale:e}",
            got.len(),
        );
    }
}

/// A number that can be compared bit by bit.
pub trait Bits: Copy + Debug {
    /// Hexadecimal digits of the bit pattern.
    const DIGITS: usize;
    /// The bit pattern, widened.
    fn bits(self) -> u64;
}

impl Bits for f32 {
    const DIGITS: usize = 8;
    fn bits(self) -> u64 {
        self.to_bits().into()
    }
}

impl Bits for f64 {
    const DIGITS: usize = 16;
    fn bits(self) -> u64 {
        self.to_bits()
    }
}

/// Asserts that two tensors have the same bits, and names the first element that differs otherwise. Zeros of different
/// sign differ; NaNs of the same bits do not.
#[track_caller]
pub fn assert_same_bits<F: Bits>(name: &str, a: &[F], b: &[F]) {
    assert_eq!(a.len(), b.len(), "{name}: lengths differ");
    let differing = a.iter().zip(b).filter(|(a, b)| a.bits() != b.bits()).count();
    if let Some(k) = (0..a.len()).find(|&k| a[k].bits() != b[k].bits()) {
        let digits = F::DIGITS;
        panic!(
            "{name}[{k}]: {:?} (0x{:0digits$x}) is not {:?} (0x{:0digits$x}); {differing} of {} differ",
            a[k],
            a[k].bits(),
            b[k],
            b[k].bits(),
            a.len(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_polynomial_of_fourth_degree_is_exact() {
        let mut x = [0.5, -1.5];
        let gradient = central_difference(|x| x[0].powi(4) + 3.0 * x[1].powi(3) * x[0], &mut x, 1e-2);
        assert_close("gradient", &gradient, &[4.0 * 0.125 + 3.0 * -3.375, 9.0 * 2.25 * 0.5], 1e-11);
        assert_eq!(x, [0.5, -1.5]);
    }

    #[test]
    fn closeness_is_relative_to_the_largest_element_and_at_least_to_one() {
        assert_close("large", &[1000.5, 0.0], &[1000.0, 0.5], 1e-3);
        assert_close("small", &[1e-4_f32], &[0.0_f64], 1e-3);
        assert_close("empty", &[0.0; 0], &[0.0; 0], 0.0);
    }

    #[test]
    #[should_panic(expected = "w[1] of 3: got 2.5e0, want 2e0")]
    fn the_worst_element_is_named() {
        assert_close("w", &[1.25, 2.5, 3.0], &[1.0, 2.0, 3.0], 1e-3);
    }

    #[test]
    #[should_panic(expected = "not finite")]
    fn nan_never_passes() {
        assert_close("w", &[f64::NAN], &[f64::NAN], f64::INFINITY);
    }

    #[test]
    #[should_panic(expected = "not finite")]
    fn infinity_never_passes() {
        assert_close("w", &[1.0], &[f64::INFINITY], 1.0);
    }

    #[test]
    #[should_panic(expected = "w[1]: 0.0 (0x00000000) is not -0.0 (0x80000000); 2 of 3 differ")]
    fn the_first_differing_bits_are_named() {
        assert_same_bits("w", &[1.0_f32, 0.0, 2.0], &[1.0, -0.0, 3.0]);
    }

    #[test]
    fn the_same_bits_are_the_same() {
        assert_same_bits("w", &[1.0, f64::NAN, -0.0], &[1.0, f64::NAN, -0.0]);
    }
}
