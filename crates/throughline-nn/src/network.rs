//! The network of both tasks: embedding, recurrent stack, linear head. What differs is which states the head reads: every
//! output for a language model ([`crate::language_model`]), the last states for a classifier ([`crate::classifier`]).

use alloc::string::ToString;
use alloc::vec::Vec;

use throughline_kernels::buffer::Buffer;
use throughline_kernels::ops::cross_entropy::{IGNORED, RowLoss};
use throughline_kernels::ops::dropout::Dropout;
use throughline_kernels::ops::linear::{Linear, LinearGradients};
use throughline_kernels::ops::softmax_head::SoftmaxHead;
use throughline_kernels::sequence::Scratch;
use throughline_kernels::threads::Threads;
use throughline_kernels::{Element, Isa};

use crate::config::ModelConfig;
use crate::error::Result;
use crate::initialise::{self, Initialisation};
use crate::parameters::{Layout, TensorId};
use crate::recurrent::{Context, PackedRecurrent, Pass, Recurrent, RecurrentWorkspace, States};

/// Shares that training drops (Srivastava et al. 2014), besides those between the layers of the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dropouts {
    /// Of the embedded inputs.
    pub embedding: f32,
    /// Of what the head reads.
    pub output: f32,
}

/// Sites of dropout masks beyond the layers of a stack.
pub(crate) const EMBEDDING_SITE: u32 = u32::MAX;
pub(crate) const OUTPUT_SITE: u32 = u32::MAX - 1;

/// Which parameters a model has, and how its parts fit together. The parameters themselves belong to the caller, in a
/// buffer of [`Network::layout`].
#[derive(Clone, Debug)]
pub struct Network {
    config: ModelConfig,
    pub(crate) dropouts: Dropouts,
    layout: Layout,
    pub(crate) embedding: TensorId,
    pub(crate) recurrent: Recurrent,
    /// `None` where the head is tied to the embedding.
    head_weight: Option<TensorId>,
    head_bias: TensorId,
}

/// The weights of a network, packed. Immutable in use and shared by any number of threads; packed anew after each update.
#[derive(Debug)]
pub struct PackedNetwork<E> {
    pub(crate) recurrent: PackedRecurrent<E>,
    pub(crate) head: Linear<E>,
}

/// What a call of a network works with.
#[derive(Clone, Copy)]
pub struct Weights<'a, E> {
    /// The parameters.
    pub parameters: &'a [E],
    /// The same, packed.
    pub packed: &'a PackedNetwork<E>,
    /// Threads to compute with.
    pub threads: &'a Threads,
}

/// Memory of a network for one caller. Grows to what the largest batch needed.
#[derive(Debug)]
pub struct Workspace<E> {
    pub(crate) x: Buffer<E>,
    pub(crate) dx: Buffer<E>,
    /// What the head reads, and its gradient.
    pub(crate) features: Buffer<E>,
    pub(crate) d_features: Buffer<E>,
    pub(crate) logits: Buffer<E>,
    pub(crate) softmax_head: SoftmaxHead<E>,
    pub(crate) recurrent: RecurrentWorkspace<E>,
    /// The last states, then their gradient.
    pub(crate) states: States<E>,
    pub(crate) losses: Vec<RowLoss>,
    pub(crate) scratch: Vec<Scratch<E>>,
}

impl<E: Element> Workspace<E> {
    /// The memory of the recurrent stack.
    pub fn recurrent(&self) -> &RecurrentWorkspace<E> {
        &self.recurrent
    }

    /// The same, for its settings.
    pub fn recurrent_mut(&mut self) -> &mut RecurrentWorkspace<E> {
        &mut self.recurrent
    }

    /// The first `count` logits of the last classification.
    pub fn logits(&self, count: usize) -> &[E] {
        &self.logits[..count]
    }
}

impl Network {
    /// The parameters of a model: `embedding.weight` `[V, I]`, `rnn.*`, `head.weight` `[outputs, D·H]` (absent where it is
    /// tied), `head.bias`.
    ///
    /// # Errors
    /// If the configuration is impossible; see [`ModelConfig::check`].
    pub fn new(config: ModelConfig, dropouts: Dropouts) -> Result<Self> {
        config.check()?;
        let mut layout = Layout::new();
        let outputs = config.classes.unwrap_or(config.vocabulary);
        let embedding = layout.add("embedding.weight".to_string(), &[config.vocabulary, config.recurrent.input]);
        let recurrent = Recurrent::new(config.recurrent, &mut layout, "rnn.");
        let head_shape = [outputs, config.recurrent.output()];
        let head_weight = (!config.tied).then(|| layout.add("head.weight".to_string(), &head_shape));
        let head_bias = layout.add("head.bias".to_string(), &[outputs]);
        Ok(Self { config, dropouts, layout, embedding, recurrent, head_weight, head_bias })
    }

    /// What the network was made from.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Names, shapes and places of the parameters.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The recurrent stack.
    pub fn recurrent(&self) -> &Recurrent {
        &self.recurrent
    }

    /// New parameters. The embedding is normal with deviation 1, or 1/sqrt(I) where the head is tied to it; the head
    /// uniform in ±1/sqrt(D·H), its bias 0; learned initial states are 0. `forget_bias` is added to the input bias of the
    /// forget gates of a cell that has them (Jozefowicz et al. 2015 advise 1).
    pub fn initialise(&self, seed: u64, how: Initialisation, forget_bias: f32) -> Buffer<f32> {
        let mut parameters = self.layout.zeros();
        let recurrent = self.config.recurrent;
        let inverse_root = |n: usize| 1.0 / libm::sqrt(n as f64);
        let deviation = if self.config.tied { inverse_root(recurrent.input) } else { 1.0 };
        initialise::normal(seed, &self.layout, self.embedding, deviation, &mut parameters);
        if let Some(head) = self.head_weight {
            initialise::uniform(seed, &self.layout, head, inverse_root(recurrent.output()), &mut parameters);
        }
        self.recurrent.initialise(&self.layout, seed, how, &mut parameters);
        if let Some(gate) = recurrent.cell.gate("forget") {
            for id in self.recurrent.input_biases() {
                let bias = self.layout.view_mut(&mut parameters, id);
                let forget = &mut bias[gate * recurrent.hidden..][..recurrent.hidden];
                forget.iter_mut().for_each(|x| *x += forget_bias);
            }
        }
        parameters
    }

    /// Packs `parameters` for `isa`; with `backward`, also for training.
    pub fn packed<E: Element>(
        &self,
        isa: Isa,
        threads: &Threads,
        parameters: &[E],
        backward: bool,
    ) -> PackedNetwork<E> {
        let outputs = self.config.classes.unwrap_or(self.config.vocabulary);
        let mut packed = PackedNetwork {
            recurrent: self.recurrent.packed(isa, backward),
            head: Linear::new(isa, self.config.recurrent.output(), outputs, backward),
        };
        self.pack(threads, parameters, &mut packed);
        packed
    }

    /// Packs changed `parameters` anew.
    pub fn pack<E: Element>(&self, threads: &Threads, parameters: &[E], packed: &mut PackedNetwork<E>) {
        self.recurrent.pack(threads, &self.layout, parameters, &mut packed.recurrent);
        let head = self.layout.view(parameters, self.head_weight.unwrap_or(self.embedding));
        packed.head.pack(threads, head, self.layout.view(parameters, self.head_bias));
    }

    /// Memory for one caller that computes with `threads`.
    pub fn workspace<E: Element>(&self, threads: &Threads) -> Workspace<E> {
        Workspace {
            x: Buffer::default(),
            dx: Buffer::default(),
            features: Buffer::default(),
            d_features: Buffer::default(),
            logits: Buffer::default(),
            softmax_head: SoftmaxHead::new(),
            recurrent: self.recurrent.workspace(threads),
            states: States::default(),
            losses: Vec::new(),
            scratch: Scratch::for_threads(threads),
        }
    }

    /// Where the head's gradients go.
    pub(crate) fn head_gradients<'a, E: Element>(&self, gradients: &'a mut [E]) -> LinearGradients<'a, E> {
        let ids = [self.head_weight.unwrap_or(self.embedding), self.head_bias];
        let [weight, bias] = self.layout.views_mut(gradients, ids);
        LinearGradients { weight, bias }
    }
    /// What the stack works with.
    pub(crate) fn context<'a, E>(&'a self, weights: Weights<'a, E>) -> Context<'a, E> {
        Context {
            threads: weights.threads,
            packed: &weights.packed.recurrent,
            parameters: weights.parameters,
            layout: self.layout(),
        }
    }
}

/// What the gradient of every row's loss is scaled by for that of the mean, which is over the rows that are not ignored.
pub(crate) fn mean_scale(targets: &[u32]) -> f64 {
    let scored = targets.iter().filter(|&&target| target != IGNORED).count();
    1.0 / scored.max(1) as f64
}

/// The dropout of a pass at a site, if there is one.
pub(crate) fn dropout(pass: Pass, rate: f32, place: u32) -> Option<Dropout> {
    let Pass::Training(philox) = pass else { return None };
    (rate > 0.0).then_some(Dropout { philox, rate, place })
}
