//! Inverted dropout (Srivastava et al., "Dropout", JMLR 2014): each unit is 0 with probability `rate` and otherwise
//! multiplied by 1 / (1 - rate), so that its expectation stays the same and evaluation needs no change.
//!
//! A mask is a function of (seed, update, place, sequence, time, unit) and is computed anew in backward instead of
//! stored. Rows of a table are dropped whole (Gal and Ghahramani, "A theoretically grounded application of dropout in
//! recurrent neural networks", NIPS 2016, section 4.2): that mask is a function of (seed, update, place, token).

use throughline_simd::{Element, Isa, Kernel, Lane};

use super::reduce::Scale;
use super::tasks::for_each_row;
use super::vectors::{Map, map};
use crate::random::Philox;
use crate::threads::Threads;

/// Philox blocks computed side by side; each yields four numbers.
pub(crate) const BLOCKS: usize = 16;
pub(crate) const UNITS: usize = 4 * BLOCKS;

/// The masks of one place of a network in one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// The family of [`Purpose::Dropout`](crate::random::Purpose::Dropout) for this seed and update.
    pub philox: Philox,
    /// The probability of 0; at least 0 and below 1. It is rounded to a multiple of 2^-32.
    pub rate: f32,
    /// Distinguishes the places of a network that drop units.
    pub place: u32,
}

impl Dropout {
    /// Multiplies every element of `rows` `[N, width]` by its mask; the same call on a gradient is the backward pass.
    ///
    /// `row_id(n)` is the (sequence, time) of row n, which the mask follows however rows are packed. A constant time
    /// gives one mask for all steps of a sequence (Gal and Ghahramani, 2016).
    ///
    /// # Panics
    /// If `rate` is out of range or `rows` is not `[N, width]`.
    pub fn apply<E: Element>(
        &self,
        isa: Isa,
        threads: &Threads,
        rows: &mut [E],
        width: usize,
        row_id: &(dyn Fn(usize) -> (u32, u32) + Sync),
    ) {
        self.check(rows.len(), width);
        if self.rate == 0.0 {
            return;
        }
        for_each_row(threads, rows, width, |row, units| {
            let (sequence, time) = row_id(row);
            E::dispatch(isa, Row { dropout: self, sequence, time, units });
        });
    }

    /// Multiplies row n of `rows` `[N, width]` by the factor of `tokens[n]`, which is 0 or 1 / (1 - rate) wherever the token
    /// occurs; the same call on a gradient is the backward pass.
    ///
    /// # Panics
    /// If `rate` is out of range or `rows` is not `[N, width]`.
    pub fn apply_to_tokens<E: Element>(
        &self,
        isa: Isa,
        threads: &Threads,
        rows: &mut [E],
        width: usize,
        tokens: &[u32],
    ) {
        self.check(rows.len(), width);
        assert_eq!(rows.len(), tokens.len() * width, "the rows are [N, {width}], N = {}", tokens.len());
        if self.rate == 0.0 {
            return;
        }
        let factors = self.factors();
        for_each_row(threads, rows, width, |row, units| {
            let [number, ..] = self.philox.block([self.place, tokens[row], 0, 0]);
            E::dispatch(isa, WholeRow { factor: factors.pick(number), units });
        });
    }

    fn check(&self, length: usize, width: usize) {
        assert!((0.0..1.0).contains(&self.rate), "a dropout rate is at least 0 and below 1, not {}", self.rate);
        assert!(width > 0 && length.is_multiple_of(width), "the rows are [N, {width}], not [{length}]");
    }

    /// What the units are multiplied by.
    pub(crate) fn factors<E: Element>(&self) -> Draw<E> {
        let &Self { philox, rate, place } = self;
        Draw::new(philox, place, rate, [E::ZERO, E::from_f64(1.0 / (1.0 - f64::from(rate)))])
    }
}

/// Numbers drawn for the units of a row: the first of two values with a probability, otherwise the second.
#[derive(Clone, Copy)]
pub(crate) struct Draw<E> {
    philox: Philox,
    place: u32,
    /// Below which random number the first value is drawn.
    first_below: u32,
    values: [E; 2],
}

impl<E: Element> Draw<E> {
    /// Draws the first of `values` with probability `rate`.
    pub(crate) fn new(philox: Philox, place: u32, rate: f32, values: [E; 2]) -> Self {
        Self { philox, place, first_below: (f64::from(rate) * (1u64 << 32) as f64) as u32, values }
    }

    /// The value for a random number.
    #[inline(always)]
    fn pick(&self, number: u32) -> E {
        if number < self.first_below { self.values[0] } else { self.values[1] }
    }

    /// Those of the units from `4 · first_block` on.
    #[inline(always)]
    pub(crate) fn units(&self, sequence: u32, time: u32, first_block: usize) -> [E; UNITS] {
        let mut drawn = [E::ZERO; UNITS];
        for (block, drawn) in drawn.chunks_exact_mut(4).enumerate() {
            let numbers = self.philox.block([self.place, sequence, time, (first_block + block) as u32]);
            for (value, number) in drawn.iter_mut().zip(numbers) {
                *value = self.pick(number);
            }
        }
        drawn
    }
}

struct Row<'a, E> {
    dropout: &'a Dropout,
    sequence: u32,
    time: u32,
    units: &'a mut [E],
}

impl<E: Element> Kernel<E> for Row<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        let draw = self.dropout.factors::<E>();
        for (index, units) in self.units.chunks_mut(UNITS).enumerate() {
            let factors = draw.units(self.sequence, self.time, index * BLOCKS);
            let factors = &factors[..units.len()];
            map(lane, &Multiply, [units], [factors]);
        }
    }
}

struct WholeRow<'a, E> {
    factor: E,
    units: &'a mut [E],
}

impl<E: Element> Kernel<E> for WholeRow<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        map(lane, &Scale(self.factor), [self.units], []);
    }
}

struct Multiply;

impl<E: Element> Map<E, 1, 1> for Multiply {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, [x]: [L::Vector; 1], [factor]: [L::Vector; 1]) -> [L::Vector; 1] {
        [lane.mul(x, factor)]
    }
}

#[cfg(test)]
mod tests {
    use throughline_testkit::assert_same_bits;

    use super::*;
    use crate::ops::testing::{for_every_setting, numbers};
    use crate::random::Purpose;

    fn dropout(rate: f32, update: u64) -> Dropout {
        Dropout { philox: Philox::new(11, Purpose::Dropout, update), rate, place: 3 }
    }

    #[test]
    fn the_mask_is_the_documented_counter_in_every_setting() {
        for width in [1, 5, 64, 201] {
            let rows = 97;
            let x: Vec<f32> = numbers(1, rows * width);
            let dropout = dropout(0.3, 0);
            let id = |row: usize| (row as u32 / 10, row as u32 % 10);
            let want: Vec<f32> = (0..rows * width)
                .map(|at| {
                    let ((sequence, time), unit) = (id(at / width), at % width);
                    let number = dropout.philox.block([3, sequence, time, unit as u32 / 4])[unit % 4];
                    let keep = f64::from(number) / 4_294_967_296.0 >= f64::from(0.3f32);
                    x[at] * if keep { (1.0 / (1.0 - f64::from(0.3f32))) as f32 } else { 0.0 }
                })
                .collect();
            for_every_setting(|isa, threads| {
                let mut got = x.clone();
                dropout.apply(isa, threads, &mut got, width, &id);
                assert_same_bits("dropped", &got, &want);
            });
        }
    }

    #[test]
    fn a_token_is_dropped_wherever_it_occurs() {
        let (tokens, width) = (crate::ops::testing::tokens(2, 301, 7), 37);
        let x: Vec<f32> = numbers(3, tokens.len() * width);
        let dropout = dropout(0.4, 5);
        let factor = |token: u32| {
            let number = f64::from(dropout.philox.block([3, token, 0, 0])[0]) / 4_294_967_296.0;
            if number >= f64::from(0.4f32) { (1.0 / (1.0 - f64::from(0.4f32))) as f32 } else { 0.0 }
        };
        let dropped = (0..7).filter(|&token| factor(token) == 0.0).count();
        assert!((1..7).contains(&dropped), "some tokens are dropped, and some are not: {dropped}");
        let want: Vec<f32> = (0..x.len()).map(|at| x[at] * factor(tokens[at / width])).collect();
        for_every_setting(|isa, threads| {
            let mut got = x.clone();
            dropout.apply_to_tokens(isa, threads, &mut got, width, &tokens);
            assert_same_bits("dropped", &got, &want);
        });
    }

    #[test]
    fn the_share_of_zeros_is_the_rate() {
        for rate in [0.0, 0.1, 0.5, 0.999] {
            let mut ones = vec![1.0f32; 1 << 18];
            dropout(rate, 1).apply(Isa::detect(), Threads::ONE, &mut ones, 256, &|row| (0, row as u32));
            let dropped = ones.iter().filter(|&&x| x == 0.0).count() as f64 / ones.len() as f64;
            // Five standard deviations.
            let allowed = 5.0 * (f64::from(rate) * (1.0 - f64::from(rate)) / ones.len() as f64).sqrt();
            assert!((dropped - f64::from(rate)).abs() <= allowed, "rate {rate}: {dropped}");
        }
    }

    #[test]
    fn masks_follow_the_row_and_differ_between_updates_and_places() {
        let mask = |dropout: Dropout, id: (u32, u32)| {
            let mut row = vec![1.0f32; 128];
            dropout.apply(Isa::detect(), Threads::ONE, &mut row, 128, &|_| id);
            row
        };
        let one = mask(dropout(0.5, 0), (4, 7));
        assert_eq!(one, mask(dropout(0.5, 0), (4, 7)));
        assert_ne!(one, mask(dropout(0.5, 0), (4, 8)));
        assert_ne!(one, mask(dropout(0.5, 0), (5, 7)));
        assert_ne!(one, mask(dropout(0.5, 1), (4, 7)));
        assert_ne!(one, mask(Dropout { place: 4, ..dropout(0.5, 0) }, (4, 7)));
    }
}
