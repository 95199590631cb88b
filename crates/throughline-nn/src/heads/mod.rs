//! Heads: what a network ends in. A head owns its projection and its loss, so that both can be computed together.

pub mod crf;
pub mod softmax;

pub use crf::Crf;
pub use softmax::Softmax;

use core::ops::{AddAssign, Range};

use throughline_kernels::ops::{Classified, IGNORED};
use throughline_kernels::sequence::Ragged;
use throughline_kernels::{Element, Isa};

use crate::module::{Context, Cpu, Layer};
use crate::parameters::Layout;

/// A loss over some rows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// Its sum, in nats where it is a negative log-likelihood.
    pub sum: f64,
    /// The weight of what it is the sum of: how many targets count.
    pub weight: f64,
    /// The weight of the targets that were predicted correctly; 0 where there is no right or wrong.
    pub correct: f64,
}

impl Loss {
    /// The mean; 0 of nothing.
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

/// What a head is called with.
pub struct HeadCall<'a, E: Element, H: Head<E> + ?Sized> {
    /// The CPU, the parameters and the kind of pass.
    pub context: Context<'a, E>,
    /// The head's weights, packed from the parameters.
    pub packed: &'a H::Packed,
    /// The rows that the body wrote.
    pub rows: &'a Ragged,
    /// `[N, F]`: what it wrote there.
    pub x: &'a [E],
    /// The packed rows that count; the others only carry gradients back.
    pub scored: Range<usize>,
}

/// A head over rows of F features.
pub trait Head<E: Element>: Layer {
    /// The targets of a batch.
    type Target: ?Sized;
    /// Its weights as the kernels want them; packed anew after each update.
    type Packed;
    /// Its memory.
    type Tape: Default;

    /// Room for packed weights; with `backward`, also for what training needs.
    fn packed(&self, isa: Isa, backward: bool) -> Self::Packed;

    /// Packs the parameters.
    fn pack(&self, cpu: &Cpu, layout: &Layout, parameters: &[E], packed: &mut Self::Packed);

    /// The weight of the targets that count in `scored` rows: what the mean loss divides by.
    fn weight(&self, scored: Range<usize>, target: &Self::Target) -> f64;

    /// The loss, and its gradient divided by `normaliser`, which is the weight of the whole update: that of x overwrites
    /// `dx` `[N, F]` (0 in rows that do not count), those of the parameters are added to `gradients`.
    ///
    /// # Panics
    /// If a length does not fit, a target is out of range, or the normaliser is negative or not finite.
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
    /// If a length does not fit or a target is out of range.
    fn evaluate(&self, call: HeadCall<'_, E, Self>, target: &Self::Target, tape: &mut Self::Tape) -> Loss;

    /// What the head makes of rows before any decision, `[scored, width]`: the logits of a softmax.
    fn project<'a>(&self, call: HeadCall<'_, E, Self>, tape: &'a mut Self::Tape) -> &'a [E];
}

/// What gradients are multiplied by: 1 / `normaliser`, and 1 where nothing counts.
fn scale(normaliser: f64) -> f64 {
    assert!(normaliser >= 0.0 && normaliser.is_finite(), "a normaliser is a weight, not {normaliser}");
    if normaliser == 0.0 { 1.0 } else { 1.0 / normaliser }
}

/// How many of the targets of `scored` rows are not [`IGNORED`].
fn labelled(scored: Range<usize>, target: &[u32]) -> f64 {
    let count = target.len();
    assert!(
        scored.start <= scored.end && scored.end <= count,
        "rows {scored:?} are to be scored, with one target for each row; there are {count} targets"
    );
    target[scored].iter().filter(|&&target| target != IGNORED).count() as f64
}
