//! A tag at every row: a softmax, which tags each row on its own, or a conditional random field, which tags whole sequences.

use core::ops::Range;

use alloc::vec::Vec;

use throughline_kernels::buffer::Buffer;
use throughline_kernels::ops::linear::Linear;
use throughline_kernels::{Element, Isa};

use super::crf::{Constraints, CrfTape, PackedCrf};
use super::softmax::SoftmaxTape;
use super::{Crf, Head, HeadCall, Loss, Softmax};
use crate::initialise::Initialise;
use crate::module::{Cpu, Layer};
use crate::parameters::{Builder, Layout};

/// What chooses among K tags at every row.
#[derive(Clone, Debug)]
pub enum Tagger {
    /// Each row on its own.
    Softmax(Softmax),
    /// Whole sequences.
    Crf(Crf),
}

/// The weights of a [`Tagger`], packed.
#[derive(Debug)]
pub enum PackedTagger<E> {
    /// Those of a softmax.
    Softmax(Linear<E>),
    /// Those of a conditional random field.
    Crf(PackedCrf<E>),
}

/// The memory of a [`Tagger`].
#[derive(Debug, Default)]
pub struct TaggerTape<E> {
    softmax: SoftmaxTape<E>,
    crf: CrfTape<E>,
    tags: Vec<u32>,
    probabilities: Buffer<E>,
}

/// The tags of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tags<'a, E> {
    /// `[N]`: the tag of each packed row.
    pub tags: &'a [u32],
    /// `[N, K]`: the probability of every tag there; of a conditional random field over all paths of the sequence.
    pub probabilities: &'a [E],
}

const OTHER: &str = "weights are packed by the head that reads them";

impl Tagger {
    /// A softmax over K tags, or with `crf` a conditional random field. Parameters as in [`Softmax::new`] and [`Crf::new`].
    ///
    /// # Panics
    /// If a size is 0.
    pub fn new(builder: &mut Builder, name: &str, input: usize, tags: usize, crf: bool) -> Self {
        if crf {
            Self::Crf(Crf::new(builder, name, input, tags))
        } else {
            Self::Softmax(Softmax::new(builder, name, input, tags))
        }
    }

    /// Chooses tags: each row's most probable one, the first of equal ones; of a conditional random field the best path, with
    /// `constraints` the best that they allow.
    ///
    /// # Panics
    /// If a length does not fit, or there are constraints for a softmax.
    pub fn decode<'a, E: Element>(
        &self,
        call: HeadCall<'_, E, Self>,
        constraints: Option<&Constraints>,
        tape: &'a mut TaggerTape<E>,
    ) -> Tags<'a, E> {
        let TaggerTape { softmax, crf, tags, probabilities } = tape;
        tags.clear();
        let count = call.scored.len() * self.width();
        let probabilities = probabilities.at_least(count);
        match self {
            Self::Softmax(head) => {
                assert!(constraints.is_none(), "a softmax tags each row on its own: constraints need a CRF");
                let logits = head.project(call.of_softmax(), softmax);
                for (logits, probabilities) in logits.chunks(head.width()).zip(probabilities.chunks_mut(head.width())) {
                    tags.push(softmax_of(logits, probabilities));
                }
            }
            Self::Crf(head) => {
                tags.extend_from_slice(head.decode(call.of_crf(), constraints, crf).tags);
                probabilities.copy_from_slice(head.marginals(call.of_crf(), crf));
            }
        }
        Tags { tags, probabilities }
    }
}

/// Writes the probabilities of `logits`, and returns the index of the largest, the first of equal ones.
fn softmax_of<E: Element>(logits: &[E], probabilities: &mut [E]) -> u32 {
    let best = (0..logits.len()).reduce(|best, i| if logits[i] > logits[best] { i } else { best }).unwrap_or(0);
    let largest = logits[best].to_f64();
    let weight = |logit: &E| libm::exp(logit.to_f64() - largest);
    let total: f64 = logits.iter().map(weight).sum();
    probabilities.iter_mut().zip(logits).for_each(|(to, logit)| *to = E::from_f64(weight(logit) / total));
    best as u32
}

impl<'a, E: Element> HeadCall<'a, E, Tagger> {
    fn of_softmax(&self) -> HeadCall<'a, E, Softmax> {
        let PackedTagger::Softmax(packed) = self.packed else { panic!("{OTHER}") };
        let HeadCall { context, rows, x, ref scored, .. } = *self;
        HeadCall { context, packed, rows, x, scored: scored.clone() }
    }

    fn of_crf(&self) -> HeadCall<'a, E, Crf> {
        let PackedTagger::Crf(packed) = self.packed else { panic!("{OTHER}") };
        let HeadCall { context, rows, x, ref scored, .. } = *self;
        HeadCall { context, packed, rows, x, scored: scored.clone() }
    }
}

impl Layer for Tagger {
    /// K
    fn width(&self) -> usize {
        match self {
            Self::Softmax(head) => head.width(),
            Self::Crf(head) => head.width(),
        }
    }

    fn initialise(&self, how: &Initialise, layout: &Layout, parameters: &mut [f32]) {
        match self {
            Self::Softmax(head) => head.initialise(how, layout, parameters),
            Self::Crf(head) => head.initialise(how, layout, parameters),
        }
    }
}

impl<E: Element> Head<E> for Tagger {
    /// `[N]`: a tag for each packed row, or [`IGNORED`](throughline_kernels::ops::IGNORED).
    type Target = [u32];
    type Packed = PackedTagger<E>;
    type Tape = TaggerTape<E>;

    fn packed(&self, isa: Isa, backward: bool) -> Self::Packed {
        match self {
            Self::Softmax(head) => PackedTagger::Softmax(head.packed(isa, backward)),
            Self::Crf(head) => PackedTagger::Crf(head.packed(isa, backward)),
        }
    }

    fn pack(&self, cpu: &Cpu, layout: &Layout, parameters: &[E], packed: &mut Self::Packed) {
        match (self, packed) {
            (Self::Softmax(head), PackedTagger::Softmax(packed)) => head.pack(cpu, layout, parameters, packed),
            (Self::Crf(head), PackedTagger::Crf(packed)) => head.pack(cpu, layout, parameters, packed),
            _ => panic!("{OTHER}"),
        }
    }

    fn weight(&self, scored: Range<usize>, target: &[u32]) -> f64 {
        match self {
            Self::Softmax(head) => Head::<E>::weight(head, scored, target),
            Self::Crf(head) => Head::<E>::weight(head, scored, target),
        }
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
        match self {
            Self::Softmax(head) => head.learn(call.of_softmax(), target, normaliser, dx, gradients, &mut tape.softmax),
            Self::Crf(head) => head.learn(call.of_crf(), target, normaliser, dx, gradients, &mut tape.crf),
        }
    }

    fn evaluate(&self, call: HeadCall<'_, E, Self>, target: &[u32], tape: &mut Self::Tape) -> Loss {
        match self {
            Self::Softmax(head) => head.evaluate(call.of_softmax(), target, &mut tape.softmax),
            Self::Crf(head) => head.evaluate(call.of_crf(), target, &mut tape.crf),
        }
    }

    /// The logits of a softmax, or the emissions of a conditional random field.
    fn project<'a>(&self, call: HeadCall<'_, E, Self>, tape: &'a mut Self::Tape) -> &'a [E] {
        match self {
            Self::Softmax(head) => head.project(call.of_softmax(), &mut tape.softmax),
            Self::Crf(head) => head.project(call.of_crf(), &mut tape.crf),
        }
    }
}
