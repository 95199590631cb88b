//! Penalties on the output y `[N, F]` of recurrent layers (Merity, McCann and Socher, "Revisiting activation
//! regularization for language RNNs", 2017), as means of squares over elements:
//!
//! ```text
//! activation   alpha / (N F) · sum over rows n of |y[n]|²                        dy[n] = 2 alpha / (N F) · y[n]
//! temporal     beta / (M F) · sum over the M pairs of rows (t - 1, t) of |y[t] - y[t-1]|²
//!              dy[t] = 2 beta / (M F) · ((y[t] - y[t-1]) - (y[t+1] - y[t]))
//! ```
//!
//! A pair is two successive rows of one sequence without a boundary between them.

use throughline_simd::{Element, Isa, Kernel, Lane};

use super::tasks::for_each_row;
use super::vectors::{Map, apply, map};
use crate::sequence::{Direction, Previous, Ragged};
use crate::threads::Threads;

/// Adds the gradient of the activation penalty with weight `alpha` to `dy`.
///
/// # Panics
/// If the lengths differ.
pub fn add_activation_gradient<E: Element>(isa: Isa, threads: &Threads, alpha: f64, y: &[E], dy: &mut [E]) {
    assert_eq!(y.len(), dy.len(), "a gradient for every activation");
    let factor = E::from_f64(2.0 * alpha / y.len().max(1) as f64);
    apply(isa, threads, &AddScaled(factor), [dy], [y]);
}

/// Adds the gradient of the temporal penalty with weight `beta` to `dy`; `y` and `dy` are `[N, width]`, packed by `batch`.
///
/// # Panics
/// If a length does not fit.
pub fn add_temporal_gradient<E: Element>(
    isa: Isa,
    threads: &Threads,
    beta: f64,
    batch: &Ragged,
    width: usize,
    y: &[E],
    dy: &mut [E],
) {
    assert_eq!(y.len(), batch.rows() * width, "y is [N, {width}], N = {}", batch.rows());
    assert_eq!(dy.len(), y.len(), "a gradient for every activation");
    let neighbour = |direction: Direction, row: usize| {
        let (t, column) = batch.place(row);
        match batch.previous(direction, t, column) {
            Previous::Row(other) => Some(&y[other * width..][..width]),
            Previous::Given | Previous::Restart => None,
        }
    };
    let pairs = (0..batch.rows()).filter(|&row| neighbour(Direction::Forward, row).is_some()).count();
    let factor = E::from_f64(2.0 * beta / (pairs.max(1) * width) as f64);
    for_each_row(threads, dy, width, |row, dy| {
        let y = &y[row * width..][..width];
        for other in Direction::BOTH.into_iter().filter_map(|direction| neighbour(direction, row)) {
            E::dispatch(isa, FromNeighbour { factor, y, other, dy: &mut *dy });
        }
    });
}

/// `dy += factor · (y - other)`
struct FromNeighbour<'a, E> {
    factor: E,
    y: &'a [E],
    other: &'a [E],
    dy: &'a mut [E],
}

impl<E: Element> Kernel<E> for FromNeighbour<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        map(lane, &AddScaledDifference(self.factor), [self.dy], [self.y, self.other]);
    }
}

struct AddScaled<E>(E);

impl<E: Element> Map<E, 1, 1> for AddScaled<E> {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, [dy]: [L::Vector; 1], [y]: [L::Vector; 1]) -> [L::Vector; 1] {
        [lane.fma(lane.splat(self.0), y, dy)]
    }
}

struct AddScaledDifference<E>(E);

impl<E: Element> Map<E, 1, 2> for AddScaledDifference<E> {
    #[inline(always)]
    fn map<L: Lane<Element = E>>(&self, lane: L, [dy]: [L::Vector; 1], [y, other]: [L::Vector; 2]) -> [L::Vector; 1] {
        [lane.fma(lane.splat(self.0), lane.sub(y, other), dy)]
    }
}

#[cfg(test)]
mod tests {
    use throughline_testkit::{assert_close, assert_same_bits, central_difference};

    use super::*;
    use crate::ops::testing::{for_every_setting, numbers};

    const WIDTH: usize = 3;

    /// Unsorted, with an empty sequence; a boundary inside the first and one at the beginning of the last.
    fn batch() -> Ragged {
        let mut batch = Ragged::new(&[5, 0, 1, 7, 2]);
        batch.set_resets(|sequence, t| (sequence, t) == (0, 3) || (sequence, t) == (4, 0));
        batch
    }

    /// Both penalties, sequence by sequence.
    fn penalty(batch: &Ragged, y: &[f64], alpha: f64, beta: f64) -> f64 {
        let mut sequences = vec![Vec::new(); batch.batch()];
        batch.for_each_row(|row, sequence, _| sequences[sequence].push(&y[row * WIDTH..][..WIDTH]));
        let squares: f64 = y.iter().map(|y| y * y).sum();
        let (mut differences, mut pairs) = (0.0, 0);
        for (index, rows) in sequences.iter().enumerate() {
            for (t, two) in rows.windows(2).enumerate() {
                if (index, t + 1) != (0, 3) {
                    pairs += 1;
                    differences += two[0].iter().zip(two[1]).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
                }
            }
        }
        alpha * squares / y.len() as f64 + beta * differences / (pairs * WIDTH) as f64
    }

    #[test]
    fn gradients_are_those_of_the_definition() {
        let batch = batch();
        let y: Vec<f64> = numbers(1, batch.rows() * WIDTH);
        for (alpha, beta) in [(2.0, 0.0), (0.0, 3.0), (0.7, 1.3)] {
            let want = central_difference(|y| penalty(&batch, y, alpha, beta), &mut y.clone(), 1e-4);
            let mut got = vec![0.0; y.len()];
            add_activation_gradient(Isa::detect(), Threads::ONE, alpha, &y, &mut got);
            add_temporal_gradient(Isa::detect(), Threads::ONE, beta, &batch, WIDTH, &y, &mut got);
            assert_close("dy", &got, &want, 1e-11);
        }
    }

    #[test]
    fn they_are_added_with_the_same_bits_in_every_setting() {
        let (batch, width) = (Ragged::new(&[50, 301, 0, 77]), 37);
        let (y, before): (Vec<f32>, Vec<f32>) = (numbers(1, batch.rows() * width), numbers(2, batch.rows() * width));
        let run = |isa, threads: &Threads| {
            let mut dy = before.clone();
            add_activation_gradient(isa, threads, 2.0, &y, &mut dy);
            add_temporal_gradient(isa, threads, 1.0, &batch, width, &y, &mut dy);
            dy
        };
        let want = run(Isa::SCALAR, Threads::ONE);
        assert!(want != before);
        for_every_setting(|isa, threads| assert_same_bits("dy", &run(isa, threads), &want));
    }

    #[test]
    fn nothing_has_no_penalty() {
        let empty: [f32; 0] = [];
        add_activation_gradient(Isa::detect(), Threads::ONE, 1.0, &empty, &mut []);
        add_temporal_gradient(Isa::detect(), Threads::ONE, 1.0, &Ragged::new(&[0]), 4, &empty, &mut []);
        let (y, mut dy) = ([1.0f32, 2.0], [0.0; 2]);
        add_temporal_gradient(Isa::detect(), Threads::ONE, 1.0, &Ragged::new(&[1]), 2, &y, &mut dy);
        assert_eq!(dy, [0.0; 2], "a single step has no difference");
    }
}
