//! The average of the parameters over updates, which is used in their place. With p the parameters after an update, which
//! is the n-th that is averaged, counted from 1, and an average of 0 before the first:
//!
//! ```text
//! average = average + weight · (p - average)
//! exponential   weight = (1 - decay) / (1 - decay^n)
//! uniform       weight = 1 / n                        Polyak and Juditsky 1992
//! ```
//!
//! The exponential one is the sum of (1 - decay) decay^(n-i) p_i over the updates i, divided by the sum of these weights,
//! which is 1 - decay^n: the bias correction of Adam (Kingma and Ba 2015). So it begins at the first p, and not at 0.

use throughline_simd::{Element, Isa, Lane};

use super::check_share;
use crate::buffer::Buffer;
use crate::ops::vectors::{Map, apply};
use crate::threads::Threads;

/// How updates are weighed.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Averaging {
    /// The last ones most.
    Exponential {
        /// How much of the average is kept, in [0, 1).
        decay: f64,
    },
    /// All alike.
    Uniform,
}

impl Averaging {
    /// The weight of the parameters after the `count`-th update.
    fn weight(self, count: u64) -> f64 {
        match self {
            Averaging::Exponential { decay } => (1.0 - decay) / (1.0 - libm::pow(decay, count as f64)),
            Averaging::Uniform => 1.0 / count as f64,
        }
    }
}

/// An average, and how many updates are in it.
#[derive(Debug)]
pub struct Average<E> {
    averaging: Averaging,
    values: Buffer<E>,
    count: u64,
}

impl<E: Element> Average<E> {
    /// The average of `parameters` parameters, of no update yet.
    ///
    /// # Panics
    /// If a decay is not in [0, 1).
    pub fn new(averaging: Averaging, parameters: usize) -> Self {
        if let Averaging::Exponential { decay } = averaging {
            check_share("decay", decay);
        }
        Self { averaging, values: Buffer::zeros(parameters), count: 0 }
    }

    /// Takes in the parameters after an update.
    ///
    /// # Panics
    /// If there are more or fewer parameters than the average was made for.
    pub fn add(&mut self, isa: Isa, threads: &Threads, parameters: &[E]) {
        assert_eq!(parameters.len(), self.values.len(), "the average was made for as many parameters");
        self.count += 1;
        let toward = Toward(E::from_f64(self.averaging.weight(self.count)));
        apply(isa, threads, &toward, [&mut self.values], [parameters]);
    }

    /// The averages, `[P]`: with [`count`](Self::count), all that a checkpoint keeps. Zeros before the first update.
    pub fn values(&self) -> &[E] {
        &self.values
    }

    /// The same, to be filled from a checkpoint or to change places with the parameters.
    pub fn values_mut(&mut self) -> &mut [E] {
        &mut self.values
    }

    /// How many updates are in it.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Continues from `count`, kept earlier with the values.
    pub fn set_count(&mut self, count: u64) {
        self.count = count;
    }
}

/// `average += weight · (p - average)`
struct Toward<E>(E);

impl<E: Element> Map<E, 1, 1> for Toward<E> {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, [average]: [L::Vector; 1], [p]: [L::Vector; 1]) -> [L::Vector; 1] {
        [lane.fma(lane.splat(self.0), lane.sub(p, average), average)]
    }
}

#[cfg(test)]
mod tests {
    use throughline_testkit::{assert_close, assert_same_bits};

    use super::*;
    use crate::ops::testing::{for_every_setting, numbers};

    const HOW: [Averaging; 4] = [
        Averaging::Uniform,
        Averaging::Exponential { decay: 0.0 },
        Averaging::Exponential { decay: 0.7 },
        Averaging::Exponential { decay: 0.9999 },
    ];

    fn run<E: Element>(isa: Isa, threads: &Threads, how: Averaging, length: usize, updates: u64) -> Average<E> {
        let mut average = Average::new(how, length);
        for update in 0..updates {
            average.add(isa, threads, &numbers::<E>(update, length));
        }
        average
    }

    #[test]
    fn the_average_is_the_weighted_mean() {
        const LENGTH: usize = 37;
        for how in HOW {
            for updates in [1, 2, 10] {
                let weight = |age: u64| match how {
                    Averaging::Uniform => 1.0,
                    Averaging::Exponential { decay } => decay.powi(age as i32),
                };
                let weights: Vec<f64> = (0..updates).map(|update| weight(updates - 1 - update)).collect();
                let parameters: Vec<Vec<f64>> = (0..updates).map(|update| numbers(update, LENGTH)).collect();
                let mean = |j: usize| -> f64 {
                    let terms = weights.iter().zip(&parameters).map(|(weight, p)| weight * p[j]);
                    terms.sum::<f64>() / weights.iter().sum::<f64>()
                };
                let want: Vec<f64> = (0..LENGTH).map(mean).collect();
                let name = format!("{how:?} of {updates}");
                let (isa, one) = (Isa::detect(), Threads::ONE);
                assert_close(&name, run::<f64>(isa, one, how, LENGTH, updates).values(), &want, 1e-12);
                assert_close(&name, run::<f32>(isa, one, how, LENGTH, updates).values(), &want, 1e-6);
            }
        }
    }

    #[test]
    fn what_stays_is_its_own_average_to_the_bit() {
        let parameters: Vec<f32> = numbers(3, 1000);
        for how in HOW {
            let mut average = Average::new(how, parameters.len());
            for _ in 0..5 {
                average.add(Isa::detect(), Threads::ONE, &parameters);
                assert_same_bits("average", average.values(), &parameters);
            }
        }
    }

    #[test]
    fn bits_are_the_same_in_every_setting_and_after_being_kept() {
        for how in HOW {
            let want = run::<f32>(Isa::SCALAR, Threads::ONE, how, 40_001, 4);
            for_every_setting(|isa, threads| {
                let part = run::<f32>(isa, threads, how, 40_001, 2);
                let mut average = Average::new(how, 40_001);
                average.values_mut().copy_from_slice(part.values());
                average.set_count(part.count());
                for update in 2..4 {
                    average.add(isa, threads, &numbers(update, 40_001));
                }
                assert_same_bits("average", average.values(), want.values());
            });
        }
    }

    #[test]
    #[should_panic(expected = "decay is at least 0 and below 1")]
    fn a_decay_of_one_is_refused() {
        Average::<f32>::new(Averaging::Exponential { decay: 1.0 }, 1);
    }
}
