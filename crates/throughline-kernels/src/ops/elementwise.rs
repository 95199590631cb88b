//! Elementwise functions over whole arrays, with the exact maths of the lanes.

use throughline_simd::{Element, Isa, Lane};

use super::vectors::{Map, apply};
use crate::threads::Threads;

/// `x = tanh(x)`; its derivative is 1 - tanh(x)².
pub fn tanh<E: Element>(isa: Isa, threads: &Threads, x: &mut [E]) {
    apply(isa, threads, &Tanh, [x], []);
}

/// `x = σ(x) = 1 / (1 + e^-x)`
pub fn sigmoid<E: Element>(isa: Isa, threads: &Threads, x: &mut [E]) {
    apply(isa, threads, &Sigmoid, [x], []);
}

/// `y = gelu(x)`, the Gaussian error linear unit in its form with tanh (Hendrycks and Gimpel 2016, section 2):
///
/// ```text
/// gelu(x) = x (1 + tanh u) / 2,   u = sqrt(2 / π) (x + 0.044715 x³)
/// ```
///
/// # Panics
/// If the lengths differ.
pub fn gelu<E: Element>(isa: Isa, threads: &Threads, x: &[E], y: &mut [E]) {
    apply(isa, threads, &Gelu, [y], [x]);
}

/// The transpose of [`gelu`], in place: `d = gelu'(x) d` with
///
/// ```text
/// gelu'(x) = (1 + tanh u) / 2 + x (1 - tanh² u) u' / 2,   u' = sqrt(2 / π) (1 + 3 · 0.044715 x²)
/// ```
///
/// # Panics
/// If the lengths differ.
pub fn gelu_gradient<E: Element>(isa: Isa, threads: &Threads, x: &[E], d: &mut [E]) {
    apply(isa, threads, &GeluGradient, [d], [x]);
}

/// sqrt(2 / π)
const GELU_SLOPE: f64 = 0.797_884_560_802_865_4;
const GELU_CUBIC: f64 = 0.044_715;

struct Gelu;

impl<E: Element> Map<E, 1, 1> for Gelu {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, _: [L::Vector; 1], [x]: [L::Vector; 1]) -> [L::Vector; 1] {
        let half = lane.mul(x, lane.splat(E::from_f64(0.5)));
        [lane.fma(half, gelu_tanh(lane, x), half)]
    }
}

struct GeluGradient;

impl<E: Element> Map<E, 1, 1> for GeluGradient {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, [d]: [L::Vector; 1], [x]: [L::Vector; 1]) -> [L::Vector; 1] {
        let (one, half) = (lane.splat(E::ONE), lane.splat(E::from_f64(0.5)));
        let t = gelu_tanh(lane, x);
        let cubic = lane.mul(lane.mul(x, x), lane.splat(E::from_f64(3.0 * GELU_CUBIC * GELU_SLOPE)));
        let slope = lane.add(cubic, lane.splat(E::from_f64(GELU_SLOPE)));
        let bend = lane.mul(lane.mul(x, lane.sub(one, lane.mul(t, t))), slope);
        [lane.mul(d, lane.mul(half, lane.add(lane.add(one, t), bend)))]
    }
}

/// tanh u
#[inline(always)]
fn gelu_tanh<L: Lane>(lane: L, x: L::Vector) -> L::Vector {
    let cubic = lane.mul(lane.mul(x, x), lane.splat(L::Element::from_f64(GELU_CUBIC)));
    let u = lane.mul(lane.fma(x, cubic, x), lane.splat(L::Element::from_f64(GELU_SLOPE)));
    lane.tanh(u)
}

struct Tanh;

impl<E: Element> Map<E, 1, 0> for Tanh {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, [x]: [L::Vector; 1], []: [L::Vector; 0]) -> [L::Vector; 1] {
        [lane.tanh(x)]
    }
}

struct Sigmoid;

impl<E: Element> Map<E, 1, 0> for Sigmoid {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, [x]: [L::Vector; 1], []: [L::Vector; 0]) -> [L::Vector; 1] {
        [lane.sigmoid(x)]
    }
}

#[cfg(test)]
mod tests {
    use throughline_testkit::{assert_close, assert_same_bits, central_difference};

    use super::*;
    use crate::ops::testing::{for_every_setting, numbers};

    type Function = fn(Isa, &Threads, &mut [f32]);
    type Exact = fn(f64) -> f64;

    #[test]
    fn they_are_what_they_say_to_the_bit_in_every_setting() {
        let functions: [(&str, Function, Exact); 2] =
            [("tanh", tanh, f64::tanh), ("sigmoid", sigmoid, |x| 1.0 / (1.0 + (-x).exp()))];
        for (name, function, exact) in functions {
            let x: Vec<f32> = numbers(1, 5000);
            let mut want = x.clone();
            function(Isa::SCALAR, Threads::ONE, &mut want);
            let exact: Vec<f64> = x.iter().map(|&x| exact(f64::from(x))).collect();
            let got: Vec<f64> = want.iter().map(|&x| f64::from(x)).collect();
            assert_close(name, &got, &exact, 1e-6);
            for_every_setting(|isa, threads| {
                let mut got = x.clone();
                function(isa, threads, &mut got);
                assert_same_bits(name, &got, &want);
            });
        }
    }

    #[test]
    fn gelu_and_its_gradient() {
        let exact =
            |x: f64| 0.5 * x * (1.0 + ((2.0 / core::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh());
        let mut x: Vec<f64> = numbers(1, 300);
        x.iter_mut().for_each(|x| *x *= 6.0);
        let (mut y, mut d) = (vec![f64::NAN; 300], vec![0.5; 300]);
        gelu(Isa::detect(), Threads::ONE, &x, &mut y);
        assert_close("gelu", &y, &x.iter().map(|&x| exact(x)).collect::<Vec<_>>(), 1e-14);
        gelu_gradient(Isa::detect(), Threads::ONE, &x, &mut d);
        let want: Vec<f64> =
            x.iter().flat_map(|&x| central_difference(|x| 0.5 * exact(x[0]), &mut [x], 1e-3)).collect();
        assert_close("its gradient", &d, &want, 1e-11);

        let x: Vec<f32> = x.iter().map(|&x| x as f32).collect();
        let run = |isa, threads: &Threads| {
            let (mut y, mut d) = (vec![f32::NAN; 300], vec![0.5; 300]);
            gelu(isa, threads, &x, &mut y);
            gelu_gradient(isa, threads, &x, &mut d);
            [y, d]
        };
        let want = run(Isa::SCALAR, Threads::ONE);
        for_every_setting(|isa, threads| {
            let got = run(isa, threads);
            assert_same_bits("gelu", &got[0], &want[0]);
            assert_same_bits("its gradient", &got[1], &want[1]);
        });
    }
}
