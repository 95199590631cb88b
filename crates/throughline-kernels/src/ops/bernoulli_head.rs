//! The head over independent keys: linear and binary cross-entropy, forward and backward, block by block of rows, as in
//! [`softmax_head`](super::softmax_head).

use alloc::vec::Vec;

use crate::Element;

use super::LossSum;
use super::bernoulli::{bernoulli_cross_entropy, bernoulli_loss, sum_of_rows};
use super::linear::{Linear, LinearGradients};
use super::softmax_head::{HeadGradients, block_rows};
use crate::buffer::Buffer;
use crate::sequence::Scratch;
use crate::threads::Threads;

/// What the head reads.
#[derive(Clone, Copy, Debug)]
pub struct BernoulliInputs<'a, E> {
    /// Threads to compute with.
    pub threads: &'a Threads,
    /// From I features to K logits.
    pub linear: &'a Linear<E>,
    /// `[N, I]`
    pub x: &'a [E],
    /// `[N, K]`: each from 0 to 1.
    pub targets: &'a [E],
}

/// Memory of the head. Grows to what the largest call needed and is kept between calls.
#[derive(Debug, Default)]
pub struct BernoulliHead<E> {
    logits: Buffer<E>,
    rows: Vec<f64>,
}

impl<E: Element> BernoulliHead<E> {
    /// Nothing allocated yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The loss of every row `[N]` in the last call, summed over its keys.
    pub fn row_losses(&self) -> &[f64] {
        &self.rows
    }

    /// Binary cross-entropy of `linear(x)`, and the number of rows.
    ///
    /// # Panics
    /// If a length does not fit or a target is not from 0 to 1.
    pub fn evaluate(&mut self, inputs: BernoulliInputs<'_, E>) -> LossSum {
        let BernoulliInputs { threads, linear, x, targets } = inputs;
        let block = self.begin(inputs);
        let (input, keys, isa) = (linear.input(), linear.output(), linear.isa());
        let logits = self.logits.at_least(block * keys);
        let blocks = x.chunks(block * input).zip(targets.chunks(block * keys)).zip(self.rows.chunks_mut(block));
        for ((x, targets), rows) in blocks {
            let logits = &mut logits[..targets.len()];
            linear.forward(threads, x, logits);
            bernoulli_loss(isa, threads, logits, keys, targets, rows);
        }
        sum_of_rows(&self.rows)
    }

    /// Binary cross-entropy of `linear(x)`, the number of rows, and the gradients, all times `scale` (1 / N for the
    /// gradient of the mean over rows); `scratch` has one element for each thread.
    ///
    /// # Panics
    /// If a length or target does not fit, or `linear` was packed without its transpose.
    pub fn train(
        &mut self,
        inputs: BernoulliInputs<'_, E>,
        scale: f64,
        HeadGradients { dx, linear: gradients }: HeadGradients<'_, E>,
        scratch: &mut [Scratch<E>],
    ) -> LossSum {
        let BernoulliInputs { threads, linear, x, targets } = inputs;
        let block = self.begin(inputs);
        let (input, keys, isa) = (linear.input(), linear.output(), linear.isa());
        assert_eq!(dx.len(), x.len(), "dx is [N, I]");
        let logits = self.logits.at_least(block * keys);
        let blocks = x.chunks(block * input).zip(dx.chunks_mut(block * input));
        for (((x, dx), targets), rows) in blocks.zip(targets.chunks(block * keys)).zip(self.rows.chunks_mut(block)) {
            let logits = &mut logits[..targets.len()];
            linear.forward(threads, x, logits);
            bernoulli_cross_entropy(isa, threads, logits, keys, targets, scale, rows);
            linear.input_gradient(threads, logits, dx);
            let gradients = LinearGradients { weight: &mut *gradients.weight, bias: &mut *gradients.bias };
            linear.add_gradients(threads, x, logits, gradients, scratch);
        }
        sum_of_rows(&self.rows)
    }

    /// Makes room for the results, and returns how many rows a block has.
    fn begin(&mut self, BernoulliInputs { linear, x, targets, .. }: BernoulliInputs<'_, E>) -> usize {
        let (input, keys) = (linear.input(), linear.output());
        assert!(x.len().is_multiple_of(input), "x is [N, {input}]");
        let count = x.len() / input;
        assert_eq!(targets.len(), count * keys, "the targets are [N, {keys}], N = {count}");
        self.rows.clear();
        self.rows.resize(count, 0.0);
        block_rows(linear, count)
    }
}

#[cfg(test)]
mod tests {
    use throughline_simd::Isa;
    use throughline_testkit::{assert_close, assert_same_bits, central_difference};

    use super::*;
    use crate::ops::testing::{for_every_setting, numbers, tokens};

    struct Run<E> {
        total: LossSum,
        dx: Vec<E>,
        weight: Vec<E>,
        bias: Vec<E>,
    }

    /// Gradients are added to ones.
    fn run<E: Element>(isa: Isa, threads: &Threads, shape: (usize, usize, usize), all: &[E]) -> Run<E> {
        let (rows, input, keys) = shape;
        let (x, parameters) = all.split_at(rows * input);
        let (weight, bias) = parameters.split_at(keys * input);
        let targets: Vec<E> = tokens(4, rows * keys, 2).into_iter().map(|bit| E::from_f64(f64::from(bit))).collect();
        let mut linear = Linear::new(isa, input, keys, true);
        linear.pack(threads, weight, bias);
        let (mut head, mut scratch) = (BernoulliHead::new(), Scratch::for_threads(threads));
        let mut run = Run {
            total: LossSum::default(),
            dx: vec![E::from_f64(f64::NAN); rows * input],
            weight: vec![E::ONE; keys * input],
            bias: vec![E::ONE; keys],
        };
        let inputs = BernoulliInputs { threads, linear: &linear, x, targets: &targets };
        let gradients = LinearGradients { weight: &mut run.weight, bias: &mut run.bias };
        run.total = head.train(inputs, 0.5, HeadGradients { dx: &mut run.dx, linear: gradients }, &mut scratch);
        assert_eq!(head.evaluate(inputs), run.total, "evaluation gives the bits of training");
        assert_eq!(head.row_losses().len(), rows);
        run
    }

    #[test]
    fn bits_depend_on_nothing_but_the_numbers() {
        let shape @ (rows, input, keys) = (230, 19, 88);
        let all: Vec<f32> = numbers(5, rows * input + keys * input + keys);
        let want = run(Isa::SCALAR, Threads::ONE, shape, &all);
        assert_eq!(want.total.count, rows);
        for_every_setting(|isa, threads| {
            let got = run(isa, threads, shape, &all);
            assert_eq!(got.total, want.total);
            assert_same_bits("dx", &got.dx, &want.dx);
            assert_same_bits("dW", &got.weight, &want.weight);
            assert_same_bits("db", &got.bias, &want.bias);
        });
    }

    #[test]
    fn gradients_are_those_of_the_loss() {
        let shape @ (rows, input, keys) = (3, 2, 4);
        let mut all: Vec<f64> = numbers(5, rows * input + keys * input + keys);
        let Run { dx, weight, bias, .. } = run(Isa::SCALAR, Threads::ONE, shape, &all);
        let parameters = [weight, bias].concat();
        let gradient = [dx, parameters.iter().map(|x| x - 1.0).collect()].concat();
        let value = |all: &[f64]| 0.5 * run(Isa::SCALAR, Threads::ONE, shape, all).total.sum;
        let want = central_difference(value, &mut all, 1e-3);
        assert_close("gradient", &gradient, &want, 1e-10);
    }
}
