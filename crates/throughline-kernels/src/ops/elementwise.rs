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
    use throughline_testkit::{assert_close, assert_same_bits};

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
}
