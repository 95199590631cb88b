//! A tag at every row, scored as a whole sequence: linear, and a linear-chain conditional random field (Lafferty et al. 2001;
//! on recurrent layers, Collobert et al. 2011 and Lample et al. 2016); see [`crf`](throughline_kernels::ops::crf) for the
//! equations.
//!
//! ```
//! use throughline_kernels::cells::CellKind;
//! use throughline_kernels::sequence::Ragged;
//! use throughline_nn::heads::Crf;
//! use throughline_nn::heads::crf::Constraints;
//! use throughline_nn::initialise::Initialise;
//! use throughline_nn::layers::{Embedding, Recurrent, RecurrentConfig};
//! use throughline_nn::network::{Input, Wanted, Weights, Workspace};
//! use throughline_nn::parameters::Builder;
//! use throughline_nn::{Cpu, Layer, Pass};
//!
//! let labels = ["O", "B-PER", "I-PER"];
//! let b = &mut Builder::new();
//! let embedding = Embedding::new(b, "embedding", 100, 8);
//! let gru = RecurrentConfig { bidirectional: true, ..RecurrentConfig::new(CellKind::GruAfter, 8, 16) };
//! let gru = Recurrent::new(b, "rnn", gru);
//! let head = Crf::new(b, "head", gru.width(), labels.len());
//! let network = embedding.then(gru).ending_in(head, std::mem::take(b));
//!
//! let cpu = Cpu::new(1);
//! let parameters = network.initialise(&Initialise::new(1));
//! let packed = network.packed(&cpu, &parameters, true);
//! let weights = Weights { cpu: &cpu, parameters: &parameters, packed: &packed };
//! // The sentences "7 3" and "5", packed step by step, and their tags.
//! let (rows, tokens, tags) = (Ragged::new(&[2, 1]), [7, 5, 3], [1, 0, 2]);
//! let input = Input::new(&rows, &tokens[..]);
//! let (mut gradients, mut workspace) = (network.layout().zeros(), Workspace::default());
//! let loss = network.learn(weights, input, Wanted::new(&tags[..]), Pass::Traced, &mut gradients, &mut workspace);
//! assert_eq!(loss.weight, 3.0);
//!
//! // An I must follow a B or an I.
//! let constraints = Constraints::new(labels.len(), |from, to| to != Some(2) || matches!(from, Some(1 | 2)));
//! network.read(weights, input, &mut workspace);
//! let call = network.head_call(weights, &rows, &workspace.body);
//! let decoded = network.head().decode(call, constraints.as_ref(), &mut workspace.head);
//! assert_eq!((decoded.tags.len(), decoded.log_probabilities.len()), (3, 2));
//! let call = network.head_call(weights, &rows, &workspace.body);
//! let marginals = network.head().marginals(call, &mut workspace.head);
//! assert_eq!(marginals.len(), 3 * labels.len());
//! ```

mod constraints;

use alloc::format;
use alloc::vec::Vec;
use core::ops::Range;

use throughline_kernels::buffer::Buffer;
use throughline_kernels::ops::linear::Linear;
use throughline_kernels::ops::{self, CrfGradients, CrfInputs, TagScores, Transitions};
use throughline_kernels::sequence::Scratch;
use throughline_kernels::{Element, Isa};

use super::{Head, HeadCall, Loss};
use crate::initialise::Initialise;
use crate::layers::linear::LinearIds;
use crate::memory::one_for_each_thread;
use crate::module::{Cpu, Layer};
use crate::parameters::{Builder, Layout, TensorId};

pub use constraints::Constraints;

/// A conditional random field over K tags.
///
/// Its loss is the negative log-likelihood of each sequence's tags in nats; its weight counts units, so the mean is nats for
/// each unit. A unit whose target is [`IGNORED`](ops::IGNORED) is summed over, so that the loss is that of the tags that are
/// known; it does not count. A unit is correct where the best path has its target. A sequence is a sequence of the batch:
/// all rows are scored, and there are no boundaries inside.
#[derive(Clone, Debug)]
pub struct Crf {
    linear: LinearIds,
    transitions: TensorId,
    start: TensorId,
    end: TensorId,
    input: usize,
    tags: usize,
}

/// The weights of a [`Crf`], packed.
#[derive(Debug)]
pub struct PackedCrf<E> {
    linear: Linear<E>,
    transitions: Transitions,
}

/// The memory of a [`Crf`].
#[derive(Debug, Default)]
pub struct CrfTape<E> {
    crf: ops::Crf,
    /// `[N, K]`: the emissions, and what takes their place.
    emissions: Buffer<E>,
    /// The scores with what constraints forbid.
    constrained: TagScores,
    tags: Vec<u32>,
    log_probabilities: Vec<f64>,
    scratch: Vec<Scratch<E>>,
}

/// The best path of every sequence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decoded<'a> {
    /// `[N]`: a tag for each packed row.
    pub tags: &'a [u32],
    /// `[B]`, in the caller's order: the logarithm of each path's probability, without constraints; of no units 0.
    pub log_probabilities: &'a [f64],
}

impl<E: Element> CrfTape<E> {
    /// The loss of every sequence of the last [`learn`](Head::learn) or [`evaluate`](Head::evaluate), in the caller's order:
    /// in nats, of how many units with a target, and how many of them are correct.
    pub fn sequence_losses(&self) -> &[ops::Classified] {
        self.crf.sequences()
    }
}

impl Crf {
    /// `{name}.weight` `[K, input]`, which begins uniform in ±1/sqrt(input), and `{name}.bias` `[K]` make the emissions;
    /// `{name}.transitions` `[K, K]` scores a tag (the row) before another (the column), `{name}.start` `[K]` the first tag
    /// and `{name}.end` `[K]` the last. Everything but the weight begins 0: at first every unit is tagged on its own.
    ///
    /// # Panics
    /// If a size is 0.
    pub fn new(builder: &mut Builder, name: &str, input: usize, tags: usize) -> Self {
        let linear = LinearIds::new(builder, name, input, tags);
        let mut add = |what: &str, shape: &[usize]| builder.add(format!("{name}.{what}"), shape);
        let transitions = add("transitions", &[tags, tags]);
        Self { linear, transitions, start: add("start", &[tags]), end: add("end", &[tags]), input, tags }
    }

    /// The best path of every sequence (Viterbi 1967): where equal scores leave a choice, going back from the last unit, that
    /// with the smallest tag. With `constraints`, the best of those that they allow.
    ///
    /// # Panics
    /// If a length does not fit, not all rows are scored, a sequence has a boundary inside, or the constraints are those of
    /// another number of tags.
    pub fn decode<'a, E: Element>(
        &self,
        call: HeadCall<'_, E, Self>,
        constraints: Option<&Constraints>,
        tape: &'a mut CrfTape<E>,
    ) -> Decoded<'a> {
        let inputs = self.project_into(&call, &mut tape.emissions);
        let scores = match constraints {
            Some(constraints) => {
                constraints.restrict(inputs.transitions.scores(), &mut tape.constrained);
                &tape.constrained
            }
            None => inputs.transitions.scores(),
        };
        tape.tags.resize(call.rows.rows(), 0);
        tape.log_probabilities.resize(call.rows.batch(), 0.0);
        let emissions = &tape.emissions[..call.rows.rows() * self.tags];
        tape.crf.decode(inputs, emissions, scores, &mut tape.tags, &mut tape.log_probabilities);
        Decoded { tags: &tape.tags, log_probabilities: &tape.log_probabilities }
    }

    /// `[N, K]`: the probability of every tag at every row, over all paths of the sequence.
    ///
    /// # Panics
    /// If a length does not fit, not all rows are scored, or a sequence has a boundary inside.
    pub fn marginals<'a, E: Element>(&self, call: HeadCall<'_, E, Self>, tape: &'a mut CrfTape<E>) -> &'a [E] {
        let inputs = self.project_into(&call, &mut tape.emissions);
        let emissions = &mut tape.emissions[..call.rows.rows() * self.tags];
        tape.crf.marginals(inputs, emissions);
        emissions
    }

    /// Writes the emissions of a call, whose lengths must fit, and returns what else the kernels need of it.
    fn project_into<'a, E: Element>(&self, call: &HeadCall<'a, E, Self>, emissions: &mut Buffer<E>) -> CrfInputs<'a> {
        let HeadCall { context, packed, rows, x, ref scored } = *call;
        let (count, threads) = (rows.rows(), &context.cpu.threads);
        assert_eq!(x.len(), count * self.input, "x is [N, {}], N = {count}", self.input);
        assert_eq!(*scored, 0..count, "a path runs through a whole sequence: all of {count} rows are to be scored");
        packed.linear.forward(threads, x, emissions.at_least(count * self.tags));
        CrfInputs { threads, transitions: &packed.transitions, rows }
    }
}

impl Layer for Crf {
    /// K
    fn width(&self) -> usize {
        self.tags
    }

    fn initialise(&self, how: &Initialise, layout: &Layout, parameters: &mut [f32]) {
        self.linear.initialise(how, layout, parameters);
    }
}

impl<E: Element> Head<E> for Crf {
    /// `[N]`: a tag for each packed row, or [`IGNORED`](ops::IGNORED).
    type Target = [u32];
    type Packed = PackedCrf<E>;
    type Tape = CrfTape<E>;

    fn packed(&self, isa: Isa, backward: bool) -> Self::Packed {
        let linear = Linear::new(isa, self.input, self.tags, backward);
        PackedCrf { linear, transitions: Transitions::new(self.tags) }
    }

    fn pack(&self, cpu: &Cpu, layout: &Layout, parameters: &[E], packed: &mut Self::Packed) {
        self.linear.pack(cpu, layout, parameters, &mut packed.linear);
        let [transitions, start, end] = [self.transitions, self.start, self.end].map(|id| layout.view(parameters, id));
        packed.transitions.set(transitions, start, end);
    }

    fn weight(&self, scored: Range<usize>, target: &[u32]) -> f64 {
        super::labelled(scored, target)
    }

    /// The gradient of the emissions first, then through the linear map: `dx = dy W`, `dW += dy' x`, `db +=` the sum of the
    /// rows of dy.
    fn learn(
        &self,
        call: HeadCall<'_, E, Self>,
        target: &[u32],
        normaliser: f64,
        dx: &mut [E],
        gradients: &mut [E],
        tape: &mut Self::Tape,
    ) -> Loss {
        let inputs = self.project_into(&call, &mut tape.emissions);
        let HeadCall { context, packed, x, .. } = call;
        assert_eq!(dx.len(), x.len(), "dx is [N, {}], as x", self.input);
        let scale = super::scale(normaliser);
        let emissions = &mut tape.emissions[..call.rows.rows() * self.tags];
        let [transitions, start, end] = context.layout.views_mut(gradients, [self.transitions, self.start, self.end]);
        let classified = tape.crf.train(inputs, emissions, target, scale, CrfGradients { transitions, start, end });
        let threads = &context.cpu.threads;
        packed.linear.input_gradient(threads, emissions, dx);
        let scratch = one_for_each_thread(&mut tape.scratch, threads);
        packed.linear.add_gradients(threads, x, emissions, self.linear.gradients(context.layout, gradients), scratch);
        classified.into()
    }

    fn evaluate(&self, call: HeadCall<'_, E, Self>, target: &[u32], tape: &mut Self::Tape) -> Loss {
        let inputs = self.project_into(&call, &mut tape.emissions);
        tape.crf.evaluate(inputs, &tape.emissions[..call.rows.rows() * self.tags], target).into()
    }

    /// The emissions.
    fn project<'a>(&self, call: HeadCall<'_, E, Self>, tape: &'a mut Self::Tape) -> &'a [E] {
        self.project_into(&call, &mut tape.emissions);
        &tape.emissions[..call.rows.rows() * self.tags]
    }
}
