//! Fused operators around the recurrent layers. Each stands next to its own backward pass.
//!
//! - [`embedding`]: rows of a table;
//! - [`linear`]: y = x W' + b;
//! - [`layer_norm`]: rows of mean 0 and deviation 1;
//! - [`attention`]: causal attention in several heads, over sequences or a step at a time;
//! - [`mod@cross_entropy`]: softmax and its losses;
//! - [`crf`]: the loss of whole sequences of tags;
//! - [`softmax_head`]: linear and cross-entropy over a vocabulary in bounded memory;
//! - [`bernoulli`]: binary cross-entropy of independent keys; [`bernoulli_head`]: with the linear map before it;
//! - [`residual`]: squared, absolute and Huber errors;
//! - [`activation_penalty`]: penalties on the output of recurrent layers;
//! - [`dropout`]: masks that are recomputed instead of stored;
//! - [`elementwise`]: functions of single numbers;
//! - [`reduce`]: norms, checks, and arithmetic on whole arrays.
//!
//! Threads divide outputs, never the chain of one; a sum over an array has fixed blocks, whose totals are added in f64.
//! Scalars (a scale, a rate, a temperature) are f64 and rounded once to the element type.

pub mod activation_penalty;
pub mod attention;
pub mod bernoulli;
pub mod bernoulli_head;
pub mod crf;
pub mod cross_entropy;
pub mod dropout;
pub mod elementwise;
pub mod embedding;
pub mod layer_norm;
pub mod linear;
pub mod reduce;
pub mod residual;
pub mod softmax_head;
pub(crate) mod tasks;
pub(crate) mod vectors;

pub use attention::{Attention, AttentionBatch, AttentionScratch, Normaliser, Past, Span, Spans};
pub use bernoulli::{bernoulli_cross_entropy, bernoulli_loss};
pub use bernoulli_head::{BernoulliHead, BernoulliInputs};
pub use crf::{Crf, CrfGradients, CrfInputs, TagScores, Transitions};
pub use cross_entropy::{Classified, IGNORED, RowLoss, cross_entropy, log_softmax, softmax, softmax_cross_entropy};
pub use dropout::Dropout;
pub use elementwise::{gelu, gelu_gradient, sigmoid, tanh};
pub use linear::{Linear, LinearGradients};
pub use reduce::{add, all_finite, clip_value, scale, sum_of_squares};
pub use residual::{Residual, residual_loss};
pub use softmax_head::{HeadGradients, HeadInputs, SoftmaxHead};

/// A sum of losses and the number of its terms.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSum {
    /// The sum.
    pub sum: f64,
    /// The number of terms.
    pub count: usize,
}

impl LossSum {
    /// The mean of the terms; 0 of none.
    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum / self.count as f64 }
    }
}

impl core::ops::AddAssign for LossSum {
    fn add_assign(&mut self, other: Self) {
        self.sum += other.sum;
        self.count += other.count;
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use throughline_simd::{Element, Isa};

    use crate::random::{Philox, Purpose};
    use crate::threads::Threads;

    /// `length` numbers in -1..1.
    pub(crate) fn numbers<E: Element>(seed: u64, length: usize) -> Vec<E> {
        let mut stream = Philox::new(seed, Purpose::Benchmark, 0).stream();
        (0..length).map(|_| E::from_f64(2.0 * stream.uniform() - 1.0)).collect()
    }

    /// `length` whole numbers below `bound`.
    pub(crate) fn tokens(seed: u64, length: usize, bound: usize) -> Vec<u32> {
        let mut stream = Philox::new(seed, Purpose::Benchmark, 1).stream();
        (0..length).map(|_| stream.below(bound) as u32).collect()
    }

    /// Every instruction set of this CPU, on one thread and on three.
    pub(crate) fn for_every_setting(mut test: impl FnMut(Isa, &Threads)) {
        let three = Threads::new(3);
        for isa in Isa::available() {
            test(isa, Threads::ONE);
            test(isa, &three);
        }
    }
}
