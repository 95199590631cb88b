//! Problems of long memory, made as they are needed: whoever solves one at a lag has kept something over so many steps.

use throughline_kernels::ops::{IGNORED, Residual};
use throughline_kernels::random::{Philox, Purpose, Stream};
use throughline_kernels::sequence::Ragged;
use throughline_nn::heads::{Head, Loss, Regression, Softmax};
use throughline_nn::layers::recurrent::Readout;
use throughline_nn::parameters::Builder;

use crate::learner::Batch;

/// The random numbers of data; `part` tells training from tests.
pub fn random(seed: u64, part: u64) -> Stream {
    Philox::new(seed, Purpose::Benchmark, part).stream()
}

/// A problem with a lag.
pub trait Problem: Sync {
    type Head: Head<f32, Target = [Self::Target]>;
    type Target: Sync;
    const NAME: &'static str;
    /// Numbers that a step reads.
    const INPUT: usize;
    const READOUT: Readout;

    fn head(builder: &mut Builder, width: usize) -> Self::Head;
    /// `count` sequences.
    fn draw(random: &mut Stream, count: usize, lag: usize) -> Batch<Self::Target>;
    /// 1 for what is perfect, 0 for what has seen nothing.
    fn skill(loss: Loss) -> f64;
}

/// The skill of answers of which so many are right by chance.
pub fn above_chance(loss: Loss, chance: f64) -> f64 {
    (loss.correct / loss.weight - chance) / (1.0 - chance)
}

/// Packs `rows[sequence][t]`, the numbers of steps.
pub fn packed(rows: &[Vec<Vec<f32>>]) -> (Ragged, Vec<f32>) {
    let ragged = Ragged::new(&rows.iter().map(Vec::len).collect::<Vec<_>>());
    let mut x = Vec::new();
    ragged.for_each_row(|_, sequence, t| x.extend_from_slice(&rows[sequence][t]));
    (ragged, x)
}

/// A 1 at `place` among zeros.
pub fn one_hot(width: usize, place: usize) -> Vec<f32> {
    (0..width).map(|at| if at == place { 1.0 } else { 0.0 }).collect()
}

/// Symbols at the beginning are to be written again, each `lag` steps after it was read (Hochreiter and Schmidhuber 1997; Arjovsky
/// et al. 2016).
pub struct Copy;

impl Copy {
    const SYMBOLS: usize = 8;
    const COPIED: usize = 3;
}

impl Problem for Copy {
    type Head = Softmax;
    type Target = u32;
    const NAME: &'static str = "copy";
    /// Symbols, a blank, and the mark that asks for the first of them.
    const INPUT: usize = Self::SYMBOLS + 2;
    const READOUT: Readout = Readout::Rows;

    fn head(builder: &mut Builder, width: usize) -> Softmax {
        Softmax::new(builder, "head", width, Self::SYMBOLS)
    }

    fn draw(random: &mut Stream, count: usize, lag: usize) -> Batch<u32> {
        assert!(lag >= Self::COPIED, "what is copied is read before it is asked for");
        let symbols: Vec<Vec<usize>> =
            (0..count).map(|_| (0..Self::COPIED).map(|_| random.below(Self::SYMBOLS)).collect()).collect();
        let step = |sequence: usize, t: usize| match symbols[sequence].get(t) {
            Some(&symbol) => one_hot(Self::INPUT, symbol),
            None => one_hot(Self::INPUT, Self::SYMBOLS + usize::from(t == lag)),
        };
        let length = lag + Self::COPIED;
        let sequences: Vec<Vec<Vec<f32>>> =
            (0..count).map(|sequence| (0..length).map(|t| step(sequence, t)).collect()).collect();
        let ((rows, x), mut targets) = (packed(&sequences), Vec::new());
        rows.for_each_row(|_, sequence, t| {
            targets.push(t.checked_sub(lag).map_or(IGNORED, |place| symbols[sequence][place] as u32));
        });
        Batch { rows, x, targets }
    }

    fn skill(loss: Loss) -> f64 {
        above_chance(loss, 1.0 / Self::SYMBOLS as f64)
    }
}

/// The sum of the two marked numbers among many, of which one is among the first five (Hochreiter and Schmidhuber 1997).
pub struct Adding;

impl Problem for Adding {
    type Head = Regression;
    type Target = f32;
    const NAME: &'static str = "adding";
    const INPUT: usize = 2;
    const READOUT: Readout = Readout::LastStates;

    fn head(builder: &mut Builder, width: usize) -> Regression {
        Regression::new(builder, "head", width, 1, Residual::Squared)
    }

    fn draw(random: &mut Stream, count: usize, lag: usize) -> Batch<f32> {
        let (mut sequences, mut targets) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let marked = [random.below(5), 5 + random.below(lag)];
            let values: Vec<f32> = (0..5 + lag).map(|_| random.uniform() as f32).collect();
            targets.push(marked.iter().map(|&t| values[t]).sum());
            let mark = |t: usize| if marked.contains(&t) { 1.0 } else { 0.0 };
            sequences.push(values.into_iter().enumerate().map(|(t, value)| vec![value, mark(t)]).collect());
        }
        let (rows, x) = packed(&sequences);
        Batch { rows, x, targets }
    }

    /// The mean errs by the variance of two numbers from 0 to 1.
    fn skill(loss: Loss) -> f64 {
        1.0 - 6.0 * loss.mean()
    }
}

/// In which order two letters came among the first five, of which each is an X or a Y, before letters without a meaning
/// (Hochreiter and Schmidhuber 1997).
pub struct Order;

impl Order {
    const LETTERS: usize = 4;
}

impl Problem for Order {
    type Head = Softmax;
    type Target = u32;
    const NAME: &'static str = "order";
    const INPUT: usize = Self::LETTERS + 2;
    const READOUT: Readout = Readout::LastStates;

    fn head(builder: &mut Builder, width: usize) -> Softmax {
        Softmax::new(builder, "head", width, 4)
    }

    fn draw(random: &mut Stream, count: usize, lag: usize) -> Batch<u32> {
        let (mut sequences, mut targets) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (first, apart) = (random.below(4), random.below(4));
            let second = first + 1 + apart % (4 - first);
            let kinds = [random.below(2), random.below(2)];
            targets.push((2 * kinds[0] + kinds[1]) as u32);
            let mut letters: Vec<usize> = (0..5 + lag).map(|_| random.below(Self::LETTERS)).collect();
            letters[first] = Self::LETTERS + kinds[0];
            letters[second] = Self::LETTERS + kinds[1];
            sequences.push(letters.into_iter().map(|letter| one_hot(Self::INPUT, letter)).collect());
        }
        let (rows, x) = packed(&sequences);
        Batch { rows, x, targets }
    }

    fn skill(loss: Loss) -> f64 {
        above_chance(loss, 0.25)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps of each sequence in order.
    fn steps<T>(batch: &Batch<T>) -> Vec<Vec<Vec<f32>>> {
        let width = batch.x.len() / batch.rows.rows();
        let mut steps = vec![Vec::new(); batch.rows.batch()];
        batch.rows.for_each_row(|row, sequence, _| steps[sequence].push(batch.x[row * width..][..width].to_vec()));
        steps
    }

    fn place(step: &[f32]) -> usize {
        step.iter().position(|&x| x == 1.0).unwrap()
    }

    #[test]
    fn symbols_are_asked_for_a_lag_after_they_were_read() {
        let batch = Copy::draw(&mut random(1, 0), 20, 7);
        let all = steps(&batch);
        batch.rows.for_each_row(|row, sequence, t| {
            let target = batch.targets[row];
            match t {
                7.. => assert_eq!(target as usize, place(&all[sequence][t - 7])),
                _ => assert_eq!(target, IGNORED),
            }
            assert_eq!(place(&all[sequence][t]) == Copy::SYMBOLS + 1, t == 7);
        });
    }

    #[test]
    fn marked_numbers_are_added() {
        let batch = Adding::draw(&mut random(1, 0), 200, 9);
        for (steps, target) in steps(&batch).iter().zip(&batch.targets) {
            let marked: Vec<usize> = (0..14).filter(|&t| steps[t][1] == 1.0).collect();
            assert!(marked.len() == 2 && marked[0] < 5 && marked[1] >= 5);
            assert_eq!(steps[marked[0]][0] + steps[marked[1]][0], *target);
        }
        // Who answers with the mean has no skill.
        let error: f64 = batch.targets.iter().map(|&target| f64::from(target - 1.0).powi(2)).sum();
        assert!(Adding::skill(Loss { sum: error, weight: 200.0, correct: 0.0 }).abs() < 0.2);
    }

    #[test]
    fn two_letters_come_in_an_order() {
        let batch = Order::draw(&mut random(1, 0), 200, 9);
        for (steps, target) in steps(&batch).iter().zip(&batch.targets) {
            let places: Vec<usize> = steps.iter().map(|step| place(step)).collect();
            let marked: Vec<usize> = (0..14).filter(|&t| places[t] >= Order::LETTERS).collect();
            assert!(marked.len() == 2 && marked[1] < 5, "{places:?}");
            assert_eq!(*target as usize, 2 * (places[marked[0]] - 4) + places[marked[1]] - 4);
        }
    }
}
