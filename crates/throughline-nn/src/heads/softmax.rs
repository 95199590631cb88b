//! One of K classes for each row: a linear map, softmax, cross-entropy. How they are computed together is in
//! [`softmax_head`](throughline_kernels::ops::softmax_head).

use alloc::vec::Vec;
use core::ops::Range;

use throughline_kernels::buffer::Buffer;
use throughline_kernels::ops::linear::Linear;
use throughline_kernels::ops::softmax_head::{HeadGradients, HeadInputs, SoftmaxHead};
use throughline_kernels::ops::{Classified, IGNORED, RowLoss};
use throughline_kernels::sequence::Scratch;
use throughline_kernels::{Element, Isa};

use super::{Head, HeadCall, Loss};
use crate::initialise::Initialise;
use crate::layers::embedding::Embedding;
use crate::layers::linear::LinearIds;
use crate::memory::one_for_each_thread;
use crate::module::{Cpu, Layer};
use crate::parameters::{Builder, Layout};

/// A softmax over K classes.
#[derive(Clone, Debug)]
pub struct Softmax {
    ids: LinearIds,
    input: usize,
    classes: usize,
    tied: bool,
    class_weights: Option<Vec<f64>>,
}

/// The working memory of a [`Softmax`].
#[derive(Debug, Default)]
pub struct SoftmaxTape<E> {
    head: SoftmaxHead<E>,
    logits: Buffer<E>,
    scratch: Vec<Scratch<E>>,
}

impl<E: Element> SoftmaxTape<E> {
    /// The loss of each scored row of the last `learn` or `evaluate`.
    pub fn row_losses(&self) -> &[RowLoss] {
        self.head.row_losses()
    }
}

impl Softmax {
    /// A head with parameters `{name}.weight` `[K, I]`, initially uniform in ±1/sqrt(I), and `{name}.bias` `[K]`,
    /// initially 0, where I is `input` and K is `classes`.
    ///
    /// # Panics
    /// If a size is 0.
    pub fn new(builder: &mut Builder, name: &str, input: usize, classes: usize) -> Self {
        Self { ids: LinearIds::new(builder, name, input, classes), input, classes, tied: false, class_weights: None }
    }

    /// A head over the vocabulary of `embedding` that shares the weight of the embedding (Press and Wolf 2017) and adds
    /// the bias `{name}.bias` `[V]`, initially 0. Its input is as wide as the embedding.
    pub fn tied(builder: &mut Builder, name: &str, embedding: &Embedding) -> Self {
        let (input, classes) = (embedding.width(), embedding.vocabulary());
        let bias = builder.add(alloc::format!("{name}.bias"), &[classes]);
        Self { ids: LinearIds { weight: embedding.table(), bias }, input, classes, tied: true, class_weights: None }
    }

    /// Multiplies the loss of a row by the weight of its target, and divides by the sum of these weights instead of the
    /// number of rows. Rare classes with larger weights are learned as if there were more of them.
    ///
    /// # Panics
    /// If there is not one weight for each class, or one is negative or not finite.
    pub fn with_class_weights(self, weights: Vec<f64>) -> Self {
        assert_eq!(weights.len(), self.classes, "a weight for each of {} classes", self.classes);
        assert!(weights.iter().all(|&weight| weight >= 0.0 && weight.is_finite()), "weights are finite and at least 0");
        Self { class_weights: Some(weights), ..self }
    }

    /// The sums over `rows`, which have `targets`, each row with the weight of its class.
    fn sum(&self, targets: &[u32], rows: &[RowLoss], unweighted: Classified) -> Loss {
        let Some(weights) = &self.class_weights else { return unweighted.into() };
        let mut total = Loss::default();
        for (&target, row) in targets.iter().zip(rows).filter(|&(&target, _)| target != IGNORED) {
            let weight = weights[target as usize];
            let correct = if row.correct { weight } else { 0.0 };
            total += Loss { sum: weight * row.loss, weight, correct };
        }
        total
    }

    /// Panics unless the lengths of the arrays match the rows.
    fn check<E: Element>(&self, call: &HeadCall<'_, E, Self>, target: Option<&[u32]>) {
        let (rows, scored) = (call.rows.rows(), &call.scored);
        assert_eq!(call.x.len(), rows * self.input, "x is [N, {}], N = {rows}", self.input);
        assert!(target.is_none_or(|target| target.len() == rows), "there must be one target for each of {rows} rows");
        let in_rows = scored.start <= scored.end && scored.end <= rows;
        assert!(in_rows, "rows {scored:?} are not a range of the {rows} rows");
    }
}

impl Layer for Softmax {
    /// K
    fn width(&self) -> usize {
        self.classes
    }

    fn initialise(&self, how: &Initialise, layout: &Layout, parameters: &mut [f32]) {
        if !self.tied {
            self.ids.initialise(how, layout, parameters);
        }
    }
}

impl<E: Element> Head<E> for Softmax {
    /// `[N]`: a class for each packed row, or [`IGNORED`].
    type Target = [u32];
    type Packed = Linear<E>;
    type Tape = SoftmaxTape<E>;

    fn packed(&self, isa: Isa, backward: bool) -> Self::Packed {
        Linear::new(isa, self.input, self.classes, backward)
    }

    fn pack(&self, cpu: &Cpu, layout: &Layout, parameters: &[E], packed: &mut Self::Packed) {
        self.ids.pack(cpu, layout, parameters, packed);
    }

    fn weight(&self, scored: Range<usize>, target: &[u32]) -> f64 {
        let count = super::labelled(scored.clone(), target);
        let Some(weights) = &self.class_weights else { return count };
        let targets = target[scored].iter().filter(|&&target| target != IGNORED);
        targets.map(|&target| weights[target as usize]).sum()
    }

    fn learn(
        &self,
        call: HeadCall<'_, E, Self>,
        target: &[u32],
        normaliser: f64,
        dx: &mut [E],
        gradients: &mut [E],
        tape: &mut Self::Tape,
    ) -> Loss {
        self.check(&call, Some(target));
        let HeadCall { context, packed, x, scored, .. } = call;
        assert_eq!(dx.len(), x.len(), "dx is [N, {}], like x", self.input);
        let threads = &context.cpu.threads;
        let of_scored = scored.start * self.input..scored.end * self.input;
        dx[..of_scored.start].fill(E::ZERO);
        dx[of_scored.end..].fill(E::ZERO);
        let scratch = one_for_each_thread(&mut tape.scratch, threads);
        let scale = super::scale(normaliser);
        let (x, targets) = (&x[of_scored.clone()], &target[scored]);
        let inputs = HeadInputs { threads, linear: packed, x, targets, class_weights: self.class_weights.as_deref() };
        let d_head = HeadGradients { dx: &mut dx[of_scored], linear: self.ids.gradients(context.layout, gradients) };
        let classified = tape.head.train(inputs, scale, d_head, scratch);
        self.sum(targets, tape.head.row_losses(), classified)
    }

    fn evaluate(&self, call: HeadCall<'_, E, Self>, target: &[u32], tape: &mut Self::Tape) -> Loss {
        self.check(&call, Some(target));
        let HeadCall { context, packed, x, scored, .. } = call;
        let of_scored = scored.start * self.input..scored.end * self.input;
        let (x, targets) = (&x[of_scored], &target[scored]);
        let threads = &context.cpu.threads;
        let inputs = HeadInputs { threads, linear: packed, x, targets, class_weights: None };
        let classified = tape.head.evaluate(inputs);
        self.sum(targets, tape.head.row_losses(), classified)
    }

    /// The logits.
    fn project<'a>(&self, call: HeadCall<'_, E, Self>, tape: &'a mut Self::Tape) -> &'a [E] {
        self.check(&call, None);
        let HeadCall { context, packed, x, scored, .. } = call;
        let logits = tape.logits.at_least(scored.len() * self.classes);
        packed.forward(&context.cpu.threads, &x[scored.start * self.input..scored.end * self.input], logits);
        logits
    }
}
