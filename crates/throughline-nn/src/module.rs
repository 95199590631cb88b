//! The traits that every module implements.
//!
//! A module maps the rows of a ragged batch to rows. There is no graph and no automatic differentiation: each module
//! has a backward pass, written beside its forward pass. What forward keeps for backward is on a [tape](Module::Tape)
//! that belongs to the caller and grows to the largest batch. Types, and so the order of every operation, are fixed at
//! compile time.
//!
//! A [`Layer`] describes a module: its width, its state, its initial parameters. A [`Module`] runs it in f32 or f64.
//! [`Layer::then`] chains two modules; [`Layer::ending_in`] adds a [head](crate::heads), which has the loss.

use alloc::string::String;
use alloc::vec::Vec;

use throughline_kernels::cells::CellKind;
use throughline_kernels::random::Philox;
use throughline_kernels::sequence::Ragged;
use throughline_kernels::threads::Threads;
use throughline_kernels::{Element, Isa};

use crate::chain::Chain;
use crate::error::Result;
use crate::initialise::Initialise;
use crate::layers::Pool;
use crate::layers::recurrent::{Checkpointing, Recurrent, RecurrentTape};
use crate::network::Network;
use crate::parameters::{Builder, Layout, TensorId};
use crate::state::{Start, StateArray, StateShape};

/// The instruction set and the threads that a model runs on. Neither changes a bit of any result.
#[derive(Debug)]
pub struct Cpu {
    /// The instruction set.
    pub isa: Isa,
    /// The threads.
    pub threads: Threads,
}

impl Cpu {
    /// The widest instruction set of this CPU, and a new team of `threads` threads.
    ///
    /// # Panics
    /// If `threads` is 0, or the system cannot start that many.
    pub fn new(threads: usize) -> Self {
        Self::of(Threads::new(threads))
    }

    /// The widest instruction set of this CPU, and an existing team of threads.
    pub fn of(threads: Threads) -> Self {
        Self { isa: Isa::detect(), threads }
    }
}

/// The kind of a pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pass {
    /// Keeps no tape and applies no dropout.
    Inference,
    /// Keeps a tape for backward and applies no dropout.
    Traced,
    /// Keeps a tape for backward and applies dropout. The masks are drawn from this generator, which should be keyed by
    /// [`Purpose::Dropout`](throughline_kernels::random::Purpose::Dropout) and the number of the update.
    Training(Philox),
}

impl Pass {
    /// Whether the pass keeps a tape, so that backward may follow.
    pub fn keeps_tape(self) -> bool {
        self != Pass::Inference
    }
}

/// What every call needs besides the module and its input.
#[derive(Debug)]
pub struct Context<'a, E> {
    /// The CPU to run on.
    pub cpu: &'a Cpu,
    /// Where each parameter is in `parameters`.
    pub layout: &'a Layout,
    /// All parameters of the model.
    pub parameters: &'a [E],
    /// The kind of pass.
    pub pass: Pass,
}

impl<E> Clone for Context<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E> Copy for Context<'_, E> {}

/// The arguments of a forward pass, and of the backward pass that follows it.
pub struct Call<'a, E: Element, M: Module<E> + ?Sized> {
    /// The CPU, the parameters and the kind of pass.
    pub context: Context<'a, E>,
    /// The module's packed weights.
    pub packed: &'a M::Packed,
    /// The shape of the batch.
    pub rows: &'a Ragged,
    /// The input, one entry for each packed row of the batch.
    pub x: &'a M::Input,
    /// The state that the sequences start from; `None` for the module's initial state.
    pub start: Option<Start<'a, E>>,
}

impl<E: Element, M: Module<E> + ?Sized> Clone for Call<'_, E, M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E: Element, M: Module<E> + ?Sized> Copy for Call<'_, E, M> {}

/// The gradients that a backward pass reads and writes. Those of parameters are added to, all others overwritten.
#[derive(Debug)]
pub struct Gradients<'a, E> {
    /// `[rows out, F]`: the gradient of the output; `None` for zero. The module may overwrite it.
    pub dy: Option<&'a mut [E]>,
    /// The gradient of the final state; `None` for zero.
    pub d_end: Option<&'a [StateArray<E>]>,
    /// `[N, I]`: the gradient of the input; `None` if it is not wanted. Tokens have none.
    pub dx: Option<&'a mut [E]>,
    /// The gradient of the state at the start; `None` if it is not wanted. It is 0 for a sequence that had not begun.
    /// Without a [`start`](Call::start) it is the gradient of the initial state, sequence by sequence.
    pub d_start: Option<&'a mut [StateArray<E>]>,
    /// The gradients of all parameters, in the layout of the parameters.
    pub parameters: &'a mut [E],
}

/// The arguments of one step of parallel streams.
pub struct Step<'a, E: Element, M: Module<E> + ?Sized> {
    /// The CPU and the parameters. The pass is [`Pass::Inference`].
    pub context: Context<'a, E>,
    /// The module's packed weights.
    pub packed: &'a M::Packed,
    /// The input, one entry for each of the B streams.
    pub x: &'a M::Input,
    /// Whether each stream has begun.
    pub begun: &'a [bool],
}

impl<E: Element, M: Module<E> + ?Sized> Clone for Step<'_, E, M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E: Element, M: Module<E> + ?Sized> Copy for Step<'_, E, M> {}

/// A setting of a tape. It takes effect at the next forward pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TapeSetting {
    /// Checkpointing in time, off by default. It excludes the two settings that keep a trace.
    Checkpointing(Checkpointing),
    /// With checkpointing: also keep the state after this many steps, for [`Module::state_after`]. It holds for one
    /// pass with a tape. Without checkpointing every state is kept.
    KeepStateAfter(usize),
    /// The batch's share of an update, 1 by default: what penalties of the module's own are multiplied by, such as an
    /// [`ActivationPenalty`](crate::layers::recurrent::ActivationPenalty). A [`Network`] sets it for each batch.
    Share(f64),
    /// Keep the pre-activations of every gate, for inspection. Off by default.
    PreActivations(bool),
    /// Keep the gradients of every gate's pre-activation and of the hidden and cell state at every row, for inspection.
    /// Off by default.
    RowGradients(bool),
    /// Whether recurrent stacks compute the gradients of their parameters; otherwise they leave them as they are, in half of the
    /// time, for whoever wants those of rows alone. On by default.
    ParameterGradients(bool),
}

/// A visitor of the recurrent stacks in a module and of what pools their steps, for inspecting gates and gradients after a pass; see
/// [`Module::visit`].
pub trait Visit<E: Element> {
    /// Called for each stack, with the tape of its last pass.
    fn recurrent(&mut self, stack: &Recurrent, tape: &RecurrentTape<E>);

    /// Called for each stack that reads something else than the steps of the batch, such as the characters of its words;
    /// does nothing by default.
    fn beneath(&mut self, stack: &Recurrent, tape: &RecurrentTape<E>) {
        let _ = (stack, tape);
    }

    /// Called for each module that makes one row of all that a sequence has; does nothing by default.
    fn pool(&mut self, pool: &Pool) {
        let _ = pool;
    }
}

/// What a module is, independent of the number type it runs in.
pub trait Layer {
    /// F, the columns of the output.
    fn width(&self) -> usize;

    /// Names and widths of the arrays of its state; none by default.
    fn state_shape(&self) -> StateShape {
        StateShape::default()
    }

    /// How many arrays [`state_shape`](Self::state_shape) has. Modules with a state override this so that a step
    /// allocates nothing.
    fn state_count(&self) -> usize {
        self.state_shape().arrays().len()
    }

    /// Name and cell of every recurrent stack in the module. The names and shapes of parameters do not tell all cells
    /// apart.
    fn cells(&self) -> Vec<(String, CellKind)> {
        Vec::new()
    }

    /// The parameters that inference reads unpacked, such as embeddings.
    fn read_directly(&self) -> Vec<TensorId> {
        Vec::new()
    }

    /// Writes the initial parameters. `parameters` is all zeros before; what is not written stays 0.
    fn initialise(&self, how: &Initialise, layout: &Layout, parameters: &mut [f32]) {
        let _ = (how, layout, parameters);
    }

    /// This module followed by `next`, which reads its output.
    fn then<B: Layer>(self, next: B) -> Chain<Self, B>
    where
        Self: Sized,
    {
        Chain::new(self, next)
    }

    /// The network of this module, its body, and `head`. Both were made with `builder`.
    fn ending_in<H>(self, head: H, builder: Builder) -> Network<Self, H>
    where
        Self: Sized,
    {
        Network::new(self, head, builder)
    }
}

/// A module that runs in f32 or f64.
///
/// A sequence's output, final state, dx and the gradient of its start are bit for bit the same alone or in any batch,
/// on any number of threads and any instruction set. Gradients of parameters are the same on any number of threads and
/// any instruction set.
pub trait Module<E: Element>: Layer {
    /// The input of a batch: features `[E]` of shape `[N, I]`, tokens `[u32]` of shape `[N]`, or a type of the module's
    /// own.
    type Input: ?Sized;
    /// The weights in the layout that the kernels read. They are packed again after each update.
    type Packed;
    /// What a forward pass keeps, and its working memory.
    type Tape: Default;

    /// Allocates packed weights; with `backward`, also those that only backward reads.
    fn packed(&self, isa: Isa, backward: bool) -> Self::Packed;

    /// Packs `parameters` into `packed`.
    fn pack(&self, cpu: &Cpu, layout: &Layout, parameters: &[E], packed: &mut Self::Packed);

    /// Changes a setting of `tape`. A module ignores settings that do not concern it.
    fn set(&self, tape: &mut Self::Tape, setting: TapeSetting) {
        let _ = (tape, setting);
    }

    /// The length of `dx` for the input `x`; 0 if the input has no gradient, as tokens.
    fn input_length(&self, x: &Self::Input) -> usize {
        let _ = x;
        0
    }

    /// Runs the module over a batch.
    ///
    /// # Panics
    /// If the length of an array does not match the batch.
    fn forward(&self, call: Call<'_, E, Self>, tape: &mut Self::Tape);

    /// The output `[rows out, F]` of the last pass, which was over `rows`, and the batch it is packed by: `rows`
    /// itself, or one that the module made (pooling writes one row for each sequence, in the caller's order).
    ///
    /// # Panics
    /// If the last call was not a forward pass, or was over another number of rows.
    fn output<'a>(&self, rows: &'a Ragged, tape: &'a Self::Tape) -> (&'a Ragged, &'a [E]);

    /// Writes the final state of each sequence in the last pass, which was over `rows`, to `state`.
    ///
    /// # Panics
    /// If the last pass was over another batch, or `state` does not have the module's arrays.
    fn end(&self, rows: &Ragged, tape: &Self::Tape, state: &mut [StateArray<E>]) {
        let _ = (rows, tape, state);
    }

    /// Writes the state after `steps` steps of the last pass, which was over `rows` and kept a tape, to `state`.
    /// Truncated BPTT starts its next window there.
    ///
    /// # Panics
    /// If the module reads in reverse, a sequence has fewer steps, the last pass was over another batch or kept no
    /// tape, or checkpointing did not keep that state ([`TapeSetting::KeepStateAfter`]).
    fn state_after(&self, rows: &Ragged, steps: usize, tape: &Self::Tape, state: &mut [StateArray<E>]) {
        let _ = (rows, steps, tape, state);
    }

    /// Backpropagates through the last [`forward`](Self::forward), whose arguments `call` must repeat.
    ///
    /// # Panics
    /// If the length of an array does not match the batch, the pass kept no tape, or `call` differs from that of the
    /// forward pass in the batch (lengths, their order, boundaries), the kind of pass, or which sequences had begun.
    fn backward(&self, call: Call<'_, E, Self>, gradients: Gradients<'_, E>, tape: &mut Self::Tape);

    /// Runs one step of each stream, advances `state`, and returns the output `[B, F]`: the same bits as in a pass over
    /// the whole sequence. Allocates nothing once the tape has grown. A step invalidates what an earlier pass kept for
    /// backward.
    ///
    /// # Errors
    /// [`Error::NoSteps`](crate::Error::NoSteps) if the module needs the whole sequence. Some arrays of `state` may
    /// have advanced by then.
    ///
    /// # Panics
    /// If the length of an array does not match the number of streams.
    fn step<'a>(
        &self,
        step: Step<'_, E, Self>,
        state: &mut [StateArray<E>],
        tape: &'a mut Self::Tape,
    ) -> Result<&'a [E]>;

    /// Calls `visitor` for every recurrent stack in the module.
    fn visit(&self, tape: &Self::Tape, visitor: &mut dyn Visit<E>) {
        let _ = (tape, visitor);
    }
}
