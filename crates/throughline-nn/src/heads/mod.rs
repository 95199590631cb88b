//! Heads: the end of a network. A head has both the projection and the loss, so that they can be computed together.

pub mod bernoulli;
pub mod crf;
pub mod regression;
pub mod softmax;
pub mod tagger;

pub use bernoulli::Bernoulli;
pub use crf::Crf;
pub use regression::Regression;
pub use softmax::Softmax;
pub use tagger::Tagger;

use core::ops::{AddAssign, Range};

use throughline_kernels::ops::{Classified, IGNORED};
use throughline_kernels::sequence::Ragged;
use throughline_kernels::{Element, Isa};

use crate::module::{Context, Cpu, Layer};
use crate::parameters::Layout;

/// The loss summed over some rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// The sum, in nats if it is a negative log-likelihood.
    pub sum: f64,
    /// The number, or total weight, of the targets that are scored.
    pub weight: f64,
    /// The number, or total weight, of the targets that were predicted correctly; 0 for a loss without such a notion.
    pub correct: f64,
}

impl Loss {
    /// The mean over the targets; 0 if there are none.
    pub fn mean(&self) -> f64 {
        if self.weight == 0.0 { 0.0 } else { self.sum / self.weight }
    }
}

impl AddAssign for Loss {
    fn add_assign(&mut self, other: Self) {
        self.sum += other.sum;
        self.weight += other.weight;
        self.correct += other.correct;
    }
}

impl From<Classified> for Loss {
    fn from(of: Classified) -> Self {
        Self { sum: of.loss.sum, weight: of.loss.count as f64, correct: of.correct as f64 }
    }
}

/// The arguments of a head.
pub struct HeadCall<'a, E: Element, H: Head<E> + ?Sized> {
    /// The CPU, the parameters and the kind of pass.
    pub context: Context<'a, E>,
    /// The head's packed weights.
    pub packed: &'a H::Packed,
    /// How the rows of the body's output are packed.
    pub rows: &'a Ragged,
    /// `[N, F]`: the body's output.
    pub x: &'a [E],
    /// The packed rows that are scored or projected.
    pub scored: Range<usize>,
}

/// A head that reads rows of F features.
pub trait Head<E: Element>: Layer {
    /// The targets of a batch.
    type Target: ?Sized;
    /// The weights in the layout that the kernels read. They are packed again after each update.
    type Packed;
    /// Its working memory.
    type Tape: Default;

    /// Allocates packed weights; with `backward`, also those that only [`learn`](Self::learn) reads.
    fn packed(&self, isa: Isa, backward: bool) -> Self::Packed;

    /// Packs `parameters` into `packed`.
    fn pack(&self, cpu: &Cpu, layout: &Layout, parameters: &[E], packed: &mut Self::Packed);

    /// The weight of the targets in the `scored` rows, by which the mean loss is divided.
    ///
    /// # Panics
    /// If `scored` is not a range of rows that have targets.
    fn weight(&self, scored: Range<usize>, target: &Self::Target) -> f64;

    /// The loss, and its gradient divided by `normaliser`, the weight of all targets in the update. The gradient of x
    /// overwrites `dx` `[N, F]`, with 0 in rows that are not scored; those of the parameters are added to `gradients`.
    /// A normaliser of 0 divides by 1.
    ///
    /// # Panics
    /// If the length of an array does not match the rows, a target is out of range, or the normaliser is negative or
    /// not finite.
    fn learn(
        &self,
        call: HeadCall<'_, E, Self>,
        target: &Self::Target,
        normaliser: f64,
        dx: &mut [E],
        gradients: &mut [E],
        tape: &mut Self::Tape,
    ) -> Loss;

    /// The loss alone; the same bits as that of [`learn`](Self::learn).
    ///
    /// # Panics
    /// If the length of an array does not match the rows, or a target is out of range.
    fn evaluate(&self, call: HeadCall<'_, E, Self>, target: &Self::Target, tape: &mut Self::Tape) -> Loss;

    /// The projection of the scored rows, `[scored, width]`: of a softmax, the logits.
    ///
    /// # Panics
    /// If the length of an array does not match the rows.
    fn project<'a>(&self, call: HeadCall<'_, E, Self>, tape: &'a mut Self::Tape) -> &'a [E];
}

/// What gradients are multiplied by: 1 / `normaliser`, and 1 where nothing counts.
fn scale(normaliser: f64) -> f64 {
    assert!(
        normaliser >= 0.0 && normaliser.is_finite(),
        "the normaliser must be finite and at least 0, not {normaliser}"
    );
    if normaliser == 0.0 { 1.0 } else { 1.0 / normaliser }
}

/// How many of the targets of `scored` rows are not [`IGNORED`].
fn labelled(scored: Range<usize>, target: &[u32]) -> f64 {
    let count = target.len();
    assert!(
        scored.start <= scored.end && scored.end <= count,
        "there must be one target for each row: rows {scored:?} are scored, and there are {count} targets"
    );
    target[scored].iter().filter(|&&target| target != IGNORED).count() as f64
}
