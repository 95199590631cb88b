//! The head over a vocabulary: linear, softmax and cross-entropy, forward and backward, block by block of rows.
//!
//! The logits `[N, V]` are never held at once: a block is small enough that its logits and their gradient, which
//! replaces them, take bounded memory. The chains of dW and db go on from block to block, and losses are added up in
//! row order, so the size of a block changes no bit of any result.

use alloc::vec::Vec;

use crate::Element;

use super::cross_entropy::{Classified, RowLoss, cross_entropy, softmax_cross_entropy};
use super::linear::{Linear, LinearGradients};
use crate::buffer::Buffer;
use crate::sequence::Scratch;
use crate::threads::Threads;

/// The most logits of a block, 8 MiB of f32, unless [`ROWS`] rows have more.
const LOGITS: usize = 1 << 21;
/// A block has up to this many rows however many logits they have.
const ROWS: usize = 96;

/// What the head reads.
#[derive(Clone, Copy, Debug)]
pub struct HeadInputs<'a, E> {
    /// Threads to compute with.
    pub threads: &'a Threads,
    /// From I features to O logits.
    pub linear: &'a Linear<E>,
    /// `[N, I]`
    pub x: &'a [E],
    /// `[N]`: below O, or [`IGNORED`](super::IGNORED).
    pub targets: &'a [u32],
    /// `[O]`: by what the gradient of a row with this target is multiplied; `None` for 1. Losses are without it.
    pub class_weights: Option<&'a [f64]>,
}

/// What the head writes in training.
#[derive(Debug)]
pub struct HeadGradients<'a, E> {
    /// `[N, I]`: overwritten.
    pub dx: &'a mut [E],
    /// Those of the linear map's parameters: accumulated.
    pub linear: LinearGradients<'a, E>,
}

/// Memory of the head. Grows to what the largest call needed and is kept between calls.
#[derive(Debug, Default)]
pub struct SoftmaxHead<E> {
    logits: Buffer<E>,
    rows: Vec<RowLoss>,
}

impl<E: Element> SoftmaxHead<E> {
    /// Nothing allocated yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The loss of every row `[N]` in the last call, for reports per token.
    pub fn row_losses(&self) -> &[RowLoss] {
        &self.rows
    }

    /// Cross-entropy of `linear(x)`.
    ///
    /// # Panics
    /// If a length does not fit or a target is neither below O nor [`IGNORED`](super::IGNORED).
    pub fn evaluate(&mut self, inputs: HeadInputs<'_, E>) -> Classified {
        self.evaluate_in_blocks(inputs, block_rows(inputs.linear, inputs.targets.len()))
    }

    /// Cross-entropy of `linear(x)` and its gradients, all times `scale` (1 / count for the gradient of the mean);
    /// `scratch` has one element for each thread.
    ///
    /// # Panics
    /// If a length or target does not fit, or `linear` was packed without its transpose.
    pub fn train(
        &mut self,
        inputs: HeadInputs<'_, E>,
        scale: f64,
        gradients: HeadGradients<'_, E>,
        scratch: &mut [Scratch<E>],
    ) -> Classified {
        self.train_in_blocks(inputs, scale, gradients, scratch, block_rows(inputs.linear, inputs.targets.len()))
    }

    fn evaluate_in_blocks(&mut self, inputs: HeadInputs<'_, E>, block: usize) -> Classified {
        let HeadInputs { threads, linear, x, targets, .. } = inputs;
        let (input, classes, isa) = (linear.input(), linear.output(), linear.isa());
        self.begin(inputs);
        let logits = self.logits.at_least(targets.len().min(most_rows(linear).max(block)) * classes);
        let blocks = x.chunks(block * input).zip(targets.chunks(block)).zip(self.rows.chunks_mut(block));
        for ((x, targets), rows) in blocks {
            let logits = &mut logits[..targets.len() * classes];
            linear.forward(threads, x, logits);
            cross_entropy(isa, threads, logits, classes, targets, rows);
        }
        Classified::of(targets, &self.rows)
    }

    fn train_in_blocks(
        &mut self,
        inputs: HeadInputs<'_, E>,
        scale: f64,
        HeadGradients { dx, linear: gradients }: HeadGradients<'_, E>,
        scratch: &mut [Scratch<E>],
        block: usize,
    ) -> Classified {
        let HeadInputs { threads, linear, x, targets, class_weights } = inputs;
        let (input, classes, isa) = (linear.input(), linear.output(), linear.isa());
        self.begin(inputs);
        assert_eq!(dx.len(), x.len(), "dx is [N, I]");
        let logits = self.logits.at_least(targets.len().min(most_rows(linear).max(block)) * classes);
        let blocks = x.chunks(block * input).zip(dx.chunks_mut(block * input));
        for (((x, dx), targets), rows) in blocks.zip(targets.chunks(block)).zip(self.rows.chunks_mut(block)) {
            let logits = &mut logits[..targets.len() * classes];
            linear.forward(threads, x, logits);
            softmax_cross_entropy(isa, threads, logits, classes, targets, scale, class_weights, rows);
            linear.input_gradient(threads, logits, dx);
            let gradients = LinearGradients { weight: &mut *gradients.weight, bias: &mut *gradients.bias };
            linear.add_gradients(threads, x, logits, gradients, scratch);
        }
        Classified::of(targets, &self.rows)
    }

    fn begin(&mut self, HeadInputs { linear, x, targets, .. }: HeadInputs<'_, E>) {
        assert_eq!(x.len(), targets.len() * linear.input(), "x is [N, {}], one row for each target", linear.input());
        self.rows.clear();
        self.rows.resize(targets.len(), RowLoss::default());
    }
}

/// Rows of a block when `rows` are divided into blocks as evenly as possible: each reads all weights and adds to all
/// gradients.
pub(super) fn block_rows<E: Element>(linear: &Linear<E>, rows: usize) -> usize {
    rows.div_ceil(rows.div_ceil(most_rows(linear)).max(1)).max(1)
}

/// The most rows that a block may have.
fn most_rows<E: Element>(linear: &Linear<E>) -> usize {
    (LOGITS / linear.output()).max(ROWS)
}

#[cfg(test)]
mod tests {
    use throughline_simd::Isa;
    use throughline_testkit::{assert_close, assert_same_bits, central_difference};

    use super::*;
    use crate::ops::IGNORED;
    use crate::ops::testing::{for_every_setting, numbers, tokens};

    struct Run<E> {
        total: Classified,
        dx: Vec<E>,
        weight: Vec<E>,
        bias: Vec<E>,
    }

    const SHAPE: (usize, usize, usize) = (230, 19, 70);

    /// Gradients are added to ones.
    fn run<E: Element>(isa: Isa, threads: &Threads, block: Option<usize>) -> Run<E> {
        let (rows, input, classes) = SHAPE;
        let (x, weight, bias): (Vec<E>, Vec<E>, Vec<E>) =
            (numbers(1, rows * input), numbers(2, classes * input), numbers(3, classes));
        let mut targets = tokens(4, rows, classes);
        targets[17] = IGNORED;
        let mut linear = Linear::new(isa, input, classes, true);
        linear.pack(threads, &weight, &bias);
        let (mut head, mut scratch) = (SoftmaxHead::new(), Scratch::for_threads(threads));
        let mut run = Run {
            total: Classified::default(),
            dx: vec![E::from_f64(f64::NAN); rows * input],
            weight: vec![E::ONE; classes * input],
            bias: vec![E::ONE; classes],
        };
        let inputs = HeadInputs { threads, linear: &linear, x: &x, targets: &targets, class_weights: None };
        let gradients = LinearGradients { weight: &mut run.weight, bias: &mut run.bias };
        let gradients = HeadGradients { dx: &mut run.dx, linear: gradients };
        let block = block.unwrap_or(block_rows(&linear, rows));
        run.total = head.train_in_blocks(inputs, 0.01, gradients, &mut scratch, block);
        let evaluated = head.evaluate_in_blocks(inputs, block);
        assert_eq!(evaluated, run.total, "evaluation gives the bits of training");
        assert_eq!(head.row_losses().len(), rows);
        run
    }

    #[test]
    fn bits_depend_neither_on_blocks_nor_on_the_setting() {
        let want: Run<f32> = run(Isa::SCALAR, Threads::ONE, None);
        assert_eq!(want.total.loss.count, SHAPE.0 - 1);
        for_every_setting(|isa, threads| {
            for block in [None, Some(1), Some(96), Some(131)] {
                let got = run(isa, threads, block);
                assert_eq!(got.total, want.total);
                assert_same_bits("dx", &got.dx, &want.dx);
                assert_same_bits("dW", &got.weight, &want.weight);
                assert_same_bits("db", &got.bias, &want.bias);
            }
        });
    }

    #[test]
    fn blocks_are_even_and_bounded() {
        let linear = |classes| Linear::<f32>::new(Isa::SCALAR, 1, classes, false);
        for (classes, most) in [(2, LOGITS / 2), (10_000, 209), (LOGITS, ROWS)] {
            let linear = linear(classes);
            for rows in [0, 1, most - 1, most, most + 1, 2 * most, 2 * most + 1, 5 * most - 3] {
                let block = block_rows(&linear, rows);
                assert!((1..=most).contains(&block), "{block} of {rows} rows");
                let blocks = rows.div_ceil(block);
                assert_eq!(blocks, rows.div_ceil(most), "no more blocks of {rows} rows than need be");
                assert!(
                    block * blocks < rows + blocks.max(1) || rows == 0,
                    "{blocks} blocks of {block} for {rows} rows"
                );
            }
        }
    }

    #[test]
    fn gradients_are_those_of_the_loss() {
        let (rows, input, classes) = (3, 2, 4);
        let mut all: Vec<f64> = numbers(5, rows * input + classes * input + classes);
        let targets = [3, IGNORED, 0];
        let value = |all: &[f64]| {
            let (x, parameters) = all.split_at(rows * input);
            let (weight, bias) = parameters.split_at(classes * input);
            let mut linear = Linear::new(Isa::SCALAR, input, classes, true);
            linear.pack(Threads::ONE, weight, bias);
            let (mut dx, mut d_weight, mut d_bias) =
                (vec![0.0; x.len()], vec![0.0; weight.len()], vec![0.0; bias.len()]);
            let inputs =
                HeadInputs { threads: Threads::ONE, linear: &linear, x, targets: &targets, class_weights: None };
            let gradients = LinearGradients { weight: &mut d_weight, bias: &mut d_bias };
            let gradients = HeadGradients { dx: &mut dx, linear: gradients };
            let (mut head, mut scratch) = (SoftmaxHead::new(), Scratch::for_threads(Threads::ONE));
            let total = head.train(inputs, 0.5, gradients, &mut scratch);
            (total.loss.mean(), [dx, d_weight, d_bias].concat())
        };
        let (_, gradient) = value(&all);
        let want = central_difference(|all| value(all).0, &mut all, 1e-3);
        assert_close("gradient", &gradient, &want, 1e-10);
    }
}
