//! exp and tanh in f32: one reduction and one polynomial for both, the same IEEE operations on every lane.
//!
//! Both write x = k·ln 2 + r with |r| <= ln 2 / 2 (Cody and Waite 1980: ln 2 as the sum of two constants) and use
//! e^r - 1 = r + r²·q(r), where q is the Chebyshev approximation of (e^r - 1 - r) / r² of degree 5.
//!
//! - e^x = 2^k + 2^k·(e^r - 1);
//! - tanh x = t / (t + 2) with t = e^(2|x|) - 1 = 2^k·(e^r - 1) + (2^k - 1), which does not cancel near 0; exactly odd.
//!
//! Largest errors (a test measures them on every 397th bit pattern): exp 1, tanh 2.5, sigmoid 2.5 units in the last
//! place.

use crate::Lane;

/// The operation that these functions need beside [`Lane`]'s.
pub(crate) trait PowerOfTwo: Lane<Element = f32> {
    /// 2^k, where `shifted` = k + 1.5·2^23 holds the whole number k in -126..=127 in its low bits.
    fn power_of_two(self, shifted: Self::Vector) -> Self::Vector;
}

/// ln 2 = LN2_HIGH + LN2_LOW; LN2_HIGH ends in enough zero bits that k·LN2_HIGH is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Adding 1.5·2^23 rounds to a whole number and leaves it in the low bits.
const ROUND: f32 = 12_582_912.0;
/// Coefficients of q, constant term first.
const Q: [f32; 6] = [0.5, 0.166_666_67, 0.041_666_467, 0.008_333_31, 0.001_393_364_3, 0.000_198_909_82];

/// (e^r - 1, 2^k) of x = k·ln 2 + r.
#[inline(always)]
fn reduced_exp<L: PowerOfTwo>(lane: L, x: L::Vector) -> (L::Vector, L::Vector) {
    let shifted = lane.fma(x, lane.splat(core::f32::consts::LOG2_E), lane.splat(ROUND));
    let k = lane.sub(shifted, lane.splat(ROUND));
    let r = lane.fma(k, lane.splat(-LN2_HIGH), x);
    let r = lane.fma(k, lane.splat(-LN2_LOW), r);
    let mut q = lane.splat(Q[5]);
    for coefficient in [Q[4], Q[3], Q[2], Q[1], Q[0]] {
        q = lane.fma(q, r, lane.splat(coefficient));
    }
    (lane.fma(lane.mul(r, r), q, r), lane.power_of_two(shifted))
}

/// e^x: 0 where the result would be below the normal numbers (x < -87.33), infinite from x > 88.37 (the upper half of
/// the last octave of f32 is not covered, because there 2^k would be 2^128); NaN stays NaN.
#[inline(always)]
pub(crate) fn exp<L: PowerOfTwo>(lane: L, x: L::Vector) -> L::Vector {
    let (lowest, highest) = (lane.splat(-87.336_54), lane.splat(88.37));
    let (less_one, power) = reduced_exp(lane, lane.max(lowest, lane.min(highest, x)));
    let inside = lane.fma(power, less_one, power);
    let or_zero = lane.select(lane.less(x, lowest), lane.splat(0.0), inside);
    lane.select(lane.less(highest, x), lane.splat(f32::INFINITY), or_zero)
}

/// tanh x; NaN stays NaN.
#[inline(always)]
pub(crate) fn tanh<L: PowerOfTwo>(lane: L, x: L::Vector) -> L::Vector {
    // From 9.02 on the nearest f32 is 1; the bound keeps t finite.
    let magnitude = lane.min(lane.splat(10.0), lane.abs(x));
    let (less_one, power) = reduced_exp(lane, lane.add(magnitude, magnitude));
    let t = lane.fma(power, less_one, lane.sub(power, lane.splat(1.0)));
    lane.copy_sign(lane.div(t, lane.add(t, lane.splat(2.0))), x)
}

#[cfg(test)]
mod tests {
    use crate::{Element, Isa, Kernel, Lane};

    #[derive(Clone, Copy)]
    enum Function {
        Exp,
        Tanh,
        Sigmoid,
    }

    struct Map<'a>(Function, &'a mut [f32]);

    impl Kernel<f32> for Map<'_> {
        type Output = ();
        #[inline(always)]
        fn run<L: Lane<Element = f32>>(self, lane: L) {
            for chunk in self.1.chunks_mut(L::WIDTH) {
                // SAFETY: the chunk has chunk.len() <= WIDTH elements.
                unsafe {
                    let x = lane.load_first(chunk.as_ptr(), chunk.len());
                    let y = match self.0 {
                        Function::Exp => lane.exp(x),
                        Function::Tanh => lane.tanh(x),
                        Function::Sigmoid => lane.sigmoid(x),
                    };
                    lane.store_first(chunk.as_mut_ptr(), chunk.len(), y);
                }
            }
        }
    }

    /// Every `stride`-th f32 bit pattern, NaN and infinities included.
    fn sample(stride: usize) -> Vec<f32> {
        (0..=u32::MAX).step_by(stride).map(f32::from_bits).collect()
    }

    fn largest_error(function: Function, truth: fn(f64) -> f64, smallest: f64) -> f64 {
        let x = sample(397);
        let mut y = x.clone();
        f32::dispatch(Isa::detect(), Map(function, &mut y));
        let mut worst = 0.0f64;
        for (x, y) in x.into_iter().zip(y) {
            let want = truth(f64::from(x));
            if want.is_nan() {
                assert!(y.is_nan(), "{x}: NaN must stay NaN, got {y}");
            } else if want.abs() < smallest {
                assert!(f64::from(y).abs() <= smallest, "{x}: {y}");
            } else if f64::from(x) <= 88.36 {
                let ulp = f64::from(f32::from_bits((want.abs() as f32).to_bits() + 1)) - f64::from(want.abs() as f32);
                worst = worst.max((f64::from(y) - want).abs() / ulp);
            }
        }
        worst
    }

    #[test]
    fn errors_stay_below_the_stated_bounds() {
        let exp = largest_error(Function::Exp, f64::exp, 1.2e-38);
        assert!(exp <= 1.0, "exp: {exp} units in the last place");
        let tanh = largest_error(Function::Tanh, f64::tanh, 1.2e-38);
        assert!(tanh <= 2.5, "tanh: {tanh} units in the last place");
        let sigmoid = largest_error(Function::Sigmoid, |x| 1.0 / (1.0 + (-x).exp()), 1.2e-38);
        assert!(sigmoid <= 2.5, "sigmoid: {sigmoid} units in the last place");
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        let x = sample(9973);
        for function in [Function::Exp, Function::Tanh, Function::Sigmoid] {
            let mut want = x.clone();
            f32::dispatch(Isa::SCALAR, Map(function, &mut want));
            for isa in Isa::available() {
                let mut got = x.clone();
                f32::dispatch(isa, Map(function, &mut got));
                for ((x, got), want) in x.iter().zip(got).zip(&want) {
                    assert!(got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan(), "{isa:?} at {x}");
                }
            }
        }
    }

    #[test]
    fn special_values() {
        let run = |function, x: f32| {
            let mut y = [x];
            f32::dispatch(Isa::detect(), Map(function, &mut y));
            y[0]
        };
        assert_eq!(run(Function::Exp, f32::NEG_INFINITY), 0.0);
        assert_eq!(run(Function::Exp, f32::INFINITY), f32::INFINITY);
        assert_eq!(run(Function::Exp, 0.0), 1.0);
        assert_eq!(run(Function::Tanh, f32::INFINITY), 1.0);
        assert_eq!(run(Function::Tanh, -0.0).to_bits(), (-0.0f32).to_bits());
        assert_eq!(run(Function::Tanh, -0.3), -run(Function::Tanh, 0.3));
        assert_eq!(run(Function::Sigmoid, f32::INFINITY), 1.0);
        assert_eq!(run(Function::Sigmoid, f32::NEG_INFINITY), 0.0);
        assert_eq!(run(Function::Sigmoid, 0.0), 0.5);
    }
}
