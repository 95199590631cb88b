//! Inverted dropout (Srivastava et al., "Dropout", JMLR 2014): each unit is 0 with probability `rate` and otherwise
//! multiplied by 1 / (1 - rate), so that its expectation stays the same and evaluation needs no change.
//!
//! A mask is a function of (seed, update, place, sequence, time, unit) and is computed anew in backward instead of
//! stored.

use throughline_simd::{Element, Isa, Kernel, Lane};

use super::tasks::for_each_task;
use super::vectors::{Map, map};
use crate::disjoint::Disjoint;
use crate::random::Philox;
use crate::threads::Threads;

/// Philox blocks computed side by side; each yields four numbers.
const BLOCKS: usize = 16;
const UNITS: usize = 4 * BLOCKS;
/// Elements of a task.
const TASK_ELEMENTS: usize = 1 << 12;

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
        assert!((0.0..1.0).contains(&self.rate), "a dropout rate is at least 0 and below 1, not {}", self.rate);
        assert!(width > 0 && rows.len().is_multiple_of(width), "the rows are [N, {width}], not [{}]", rows.len());
        if self.rate == 0.0 {
            return;
        }
        let count = rows.len() / width;
        let chunk = (TASK_ELEMENTS / width).max(1);
        let rows = Disjoint::new(rows);
        for_each_task(threads, count.div_ceil(chunk), |task| {
            for row in task * chunk..count.min((task + 1) * chunk) {
                let (sequence, time) = row_id(row);
                // SAFETY: every row belongs to one task.
                let units = unsafe { rows.slice(row * width..(row + 1) * width) };
                E::dispatch(isa, Row { dropout: self, sequence, time, units });
            }
        });
    }

    /// What the units from `4 · first_block` on are multiplied by.
    #[inline(always)]
    fn factors<E: Element>(&self, sequence: u32, time: u32, first_block: usize) -> [E; UNITS] {
        let dropped_below = (f64::from(self.rate) * (1u64 << 32) as f64) as u32;
        let kept = E::from_f64(1.0 / (1.0 - f64::from(self.rate)));
        let mut factors = [E::ZERO; UNITS];
        for (block, factors) in factors.chunks_exact_mut(4).enumerate() {
            let numbers = self.philox.block([self.place, sequence, time, (first_block + block) as u32]);
            for (factor, number) in factors.iter_mut().zip(numbers) {
                *factor = if number < dropped_below { E::ZERO } else { kept };
            }
        }
        factors
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
        for (index, units) in self.units.chunks_mut(UNITS).enumerate() {
            let factors = self.dropout.factors::<E>(self.sequence, self.time, index * BLOCKS);
            let factors = &factors[..units.len()];
            map(lane, &Multiply, [units], [factors]);
        }
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
