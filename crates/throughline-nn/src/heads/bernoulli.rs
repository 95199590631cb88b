//! K independent keys at each row, any number of them on: a linear map, a sigmoid for each key, binary cross-entropy. How
//! they are computed together is in [`bernoulli_head`](throughline_kernels::ops::bernoulli_head).

use alloc::vec::Vec;
use core::ops::Range;

use throughline_kernels::buffer::Buffer;
use throughline_kernels::ops::bernoulli_head::{BernoulliHead, BernoulliInputs};
use throughline_kernels::ops::linear::Linear;
use throughline_kernels::ops::softmax_head::HeadGradients;
use throughline_kernels::ops::{LossSum, sigmoid};
use throughline_kernels::sequence::Scratch;
use throughline_kernels::{Element, Isa};

use super::{Head, HeadCall, Loss};
use crate::initialise::Initialise;
use crate::layers::linear::LinearIds;
use crate::memory::one_for_each_thread;
use crate::module::{Cpu, Layer};
use crate::parameters::{Builder, Layout};

/// Independent sigmoids over K keys. The loss of a row is summed over its keys; a row weighs 1.
#[derive(Clone, Debug)]
pub struct Bernoulli {
    ids: LinearIds,
    input: usize,
    keys: usize,
}

/// The working memory of a [`Bernoulli`].
#[derive(Debug, Default)]
pub struct BernoulliTape<E> {
    head: BernoulliHead<E>,
    logits: Buffer<E>,
    scratch: Vec<Scratch<E>>,
}

impl<E: Element> BernoulliTape<E> {
    /// The loss of each scored row of the last `learn` or `evaluate`.
    pub fn row_losses(&self) -> &[f64] {
        self.head.row_losses()
    }
}

impl Bernoulli {
    /// A head with parameters `{name}.weight` `[K, I]`, initially uniform in ±1/sqrt(I), and `{name}.bias` `[K]`,
    /// initially 0, where I is `input` and K is `keys`.
    ///
    /// # Panics
    /// If a size is 0.
    pub fn new(builder: &mut Builder, name: &str, input: usize, keys: usize) -> Self {
        Self { ids: LinearIds::new(builder, name, input, keys), input, keys }
    }

    /// The probability that each key is on, `[scored, K]`.
    ///
    /// # Panics
    /// If the length of an array does not match the rows.
    pub fn probabilities<'a, E: Element>(
        &self,
        call: HeadCall<'_, E, Self>,
        tape: &'a mut BernoulliTape<E>,
    ) -> &'a [E] {
        let Cpu { isa, threads } = call.context.cpu;
        let length = self.project(call, tape).len();
        let probabilities = &mut tape.logits[..length];
        sigmoid(*isa, threads, probabilities);
        probabilities
    }

    /// The scored rows of x and of the targets. Panics unless the lengths of the arrays match the rows.
    fn scored<'a, E: Element>(&self, call: &HeadCall<'a, E, Self>, target: &'a [E]) -> (&'a [E], &'a [E]) {
        let rows = call.rows.rows();
        assert_eq!(target.len(), rows * self.keys, "the targets are [N, {}], N = {rows}", self.keys);
        (self.scored_x(call), &target[call.scored.start * self.keys..call.scored.end * self.keys])
    }

    fn scored_x<'a, E: Element>(&self, call: &HeadCall<'a, E, Self>) -> &'a [E] {
        let (rows, scored) = (call.rows.rows(), &call.scored);
        assert_eq!(call.x.len(), rows * self.input, "x is [N, {}], N = {rows}", self.input);
        let in_rows = scored.start <= scored.end && scored.end <= rows;
        assert!(in_rows, "rows {scored:?} are not a range of the {rows} rows");
        &call.x[scored.start * self.input..scored.end * self.input]
    }
}

impl From<LossSum> for Loss {
    fn from(of: LossSum) -> Self {
        Self { sum: of.sum, weight: of.count as f64, correct: 0.0 }
    }
}

impl Layer for Bernoulli {
    /// K
    fn width(&self) -> usize {
        self.keys
    }

    fn initialise(&self, how: &Initialise, layout: &Layout, parameters: &mut [f32]) {
        self.ids.initialise(how, layout, parameters);
    }
}

impl<E: Element> Head<E> for Bernoulli {
    /// `[N, K]`: for each packed row the keys that are on as 1 and the others as 0, or the probability of each.
    type Target = [E];
    type Packed = Linear<E>;
    type Tape = BernoulliTape<E>;

    fn packed(&self, isa: Isa, backward: bool) -> Self::Packed {
        Linear::new(isa, self.input, self.keys, backward)
    }

    fn pack(&self, cpu: &Cpu, layout: &Layout, parameters: &[E], packed: &mut Self::Packed) {
        self.ids.pack(cpu, layout, parameters, packed);
    }

    /// The number of scored rows.
    fn weight(&self, scored: Range<usize>, target: &[E]) -> f64 {
        let rows = target.len() / self.keys;
        let in_rows = scored.start <= scored.end && scored.end <= rows;
        assert!(in_rows, "rows {scored:?} are scored, and there are targets for {rows}");
        scored.len() as f64
    }

    fn learn(
        &self,
        call: HeadCall<'_, E, Self>,
        target: &[E],
        normaliser: f64,
        dx: &mut [E],
        gradients: &mut [E],
        tape: &mut Self::Tape,
    ) -> Loss {
        let (x, targets) = self.scored(&call, target);
        let HeadCall { context, packed: linear, scored, .. } = call;
        assert_eq!(dx.len(), call.x.len(), "dx is [N, {}], like x", self.input);
        let threads = &context.cpu.threads;
        let of_scored = scored.start * self.input..scored.end * self.input;
        dx[..of_scored.start].fill(E::ZERO);
        dx[of_scored.end..].fill(E::ZERO);
        let scratch = one_for_each_thread(&mut tape.scratch, threads);
        let gradients = HeadGradients { dx: &mut dx[of_scored], linear: self.ids.gradients(context.layout, gradients) };
        let inputs = BernoulliInputs { threads, linear, x, targets };
        tape.head.train(inputs, super::scale(normaliser), gradients, scratch).into()
    }

    fn evaluate(&self, call: HeadCall<'_, E, Self>, target: &[E], tape: &mut Self::Tape) -> Loss {
        let (x, targets) = self.scored(&call, target);
        let HeadCall { context, packed: linear, .. } = call;
        tape.head.evaluate(BernoulliInputs { threads: &context.cpu.threads, linear, x, targets }).into()
    }

    /// The logits.
    fn project<'a>(&self, call: HeadCall<'_, E, Self>, tape: &'a mut Self::Tape) -> &'a [E] {
        let x = self.scored_x(&call);
        let logits = tape.logits.at_least(call.scored.len() * self.keys);
        call.packed.forward(&call.context.cpu.threads, x, logits);
        logits
    }
}
