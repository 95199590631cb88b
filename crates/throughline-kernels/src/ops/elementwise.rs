//! Elementwise functions over whole arrays, with the exact maths of the lanes.

use throughline_simd::{Element, Isa, Lane};

use super::vectors::{Map, apply};
use crate::threads::Threads;

/// `x = tanh(x)`; its derivative is 1 - tanh(x)².
pub fn tanh<E: Element>(isa: Isa, threads: &Threads, x: &mut [E]) {
    apply(isa, threads, &Tanh, [x], []);
}

struct Tanh;

impl<E: Element> Map<E, 1, 0> for Tanh {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, [x]: [L::Vector; 1], []: [L::Vector; 0]) -> [L::Vector; 1] {
        [lane.tanh(x)]
    }
}

#[cfg(test)]
mod tests {
    use throughline_testkit::{assert_close, assert_same_bits};

    use super::*;
    use crate::ops::testing::{for_every_setting, numbers};

    #[test]
    fn it_is_tanh_to_the_bit_in_every_setting() {
        let x: Vec<f32> = numbers(1, 5000);
        let mut want = x.clone();
        tanh(Isa::SCALAR, Threads::ONE, &mut want);
        let exact: Vec<f64> = x.iter().map(|&x| f64::from(x).tanh()).collect();
        let got: Vec<f64> = want.iter().map(|&x| f64::from(x)).collect();
        assert_close("tanh", &got, &exact, 1e-6);
        for_every_setting(|isa, threads| {
            let mut got = x.clone();
            tanh(isa, threads, &mut got);
            assert_same_bits("tanh", &got, &want);
        });
    }
}
