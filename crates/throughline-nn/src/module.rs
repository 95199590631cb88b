//! Modules: what a network is put together from.
//!
//! A module reads rows of a ragged batch and writes rows; its types are fixed when the program is compiled, and so is the
//! order of everything it computes. There is no graph: a module's backward pass is written beside its forward pass, and
//! what forward keeps for it lies on a typed [tape](Module::Tape) that belongs to the caller and grows once.
//!
//! A [`Layer`] says what a module is: its width, its state, how its parameters begin. A [`Module`] runs it, in f32 or f64.
//! Modules are joined by [`Layer::then`] and end in a [head](crate::heads) that has a loss ([`Layer::ending_in`]).

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
use crate::layers::recurrent::{Checkpointing, Recurrent, RecurrentTape};
use crate::network::Network;
use crate::parameters::{Builder, Layout, TensorId};
use crate::state::{StateArray, StateShape};

/// What computes: an instruction set and threads.
#[derive(Debug)]
pub struct Cpu {
    /// The instruction set.
    pub isa: Isa,
    /// The threads.
    pub threads: Threads,
}

impl Cpu {
    /// The widest instruction set there is, on `threads` threads. The results are the same to the bit for any of them.
    ///
    /// # Panics
    /// If `threads` is 0, or the system does not start as many.
    pub fn new(threads: usize) -> Self {
        Self::of(Threads::new(threads))
    }

    /// The widest instruction set there is, on `threads`.
    pub fn of(threads: Threads) -> Self {
        Self { isa: Isa::detect(), threads }
    }
}

/// How a pass runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pass {
    /// Keeps nothing and drops nothing.
    Inference,
    /// Keeps what backward needs, drops nothing.
    Traced,
    /// Keeps what backward needs and drops activations by the masks of this family.
    Training(Philox),
}

impl Pass {
    /// Whether backward may follow.
    pub fn keeps_tape(self) -> bool {
        self != Pass::Inference
    }
}

/// What every call works with.
#[derive(Debug)]
pub struct Context<'a, E> {
    /// What computes.
    pub cpu: &'a Cpu,
    /// Where the parameters are.
    pub layout: &'a Layout,
    /// The parameters.
    pub parameters: &'a [E],
    /// How the pass runs.
    pub pass: Pass,
}

impl<E> Clone for Context<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E> Copy for Context<'_, E> {}

/// The state that sequences start from: arrays as in [`Module::end`], and for each sequence whether it has begun. One that
/// has not starts from the module's own initial state, zero or learned, whatever its arrays hold.
#[derive(Debug)]
pub struct Start<'a, E> {
    /// For each sequence, in the caller's order.
    pub begun: &'a [bool],
    /// The arrays of the module.
    pub arrays: &'a [StateArray<E>],
}

impl<E> Clone for Start<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E> Copy for Start<'_, E> {}

impl<'a, E> Start<'a, E> {
    /// The first `count` arrays, and the rest.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn split_at(self, count: usize) -> (Self, Self) {
        assert!(count <= self.arrays.len(), "the start has {} arrays, the module {count} or more", self.arrays.len());
        let (first, rest) = self.arrays.split_at(count);
        (Self { arrays: first, ..self }, Self { arrays: rest, ..self })
    }
}

/// What forward and backward of one pass are called with, the same for both.
pub struct Call<'a, E: Element, M: Module<E> + ?Sized> {
    /// The CPU, the parameters and the kind of pass.
    pub context: Context<'a, E>,
    /// The module's weights, packed from the parameters.
    pub packed: &'a M::Packed,
    /// The shape of the batch.
    pub rows: &'a Ragged,
    /// The input, a row for each packed row of the batch.
    pub x: &'a M::Input,
    /// Where the sequences start; `None`: at the module's initial state.
    pub start: Option<Start<'a, E>>,
}

impl<E: Element, M: Module<E> + ?Sized> Clone for Call<'_, E, M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E: Element, M: Module<E> + ?Sized> Copy for Call<'_, E, M> {}

/// The gradients of a backward pass. Those of parameters accumulate, the others are overwritten.
#[derive(Debug)]
pub struct Gradients<'a, E> {
    /// `[rows out, F]`: that of the output; `None` for zero. The module may change it.
    pub dy: Option<&'a mut [E]>,
    /// Those of the state at the end; `None` for zero.
    pub d_end: Option<&'a [StateArray<E>]>,
    /// `[N, I]`: that of the input, where the input is numbers; `None` if unwanted.
    pub dx: Option<&'a mut [E]>,
    /// Those of the state at the start; `None` if unwanted. Of a sequence that had not begun they are 0, for its arrays do
    /// not count; without a start they are those of the initial state, sequence by sequence.
    pub d_start: Option<&'a mut [StateArray<E>]>,
    /// Those of all parameters, in their layout.
    pub parameters: &'a mut [E],
}

/// One step of parallel streams.
pub struct Step<'a, E: Element, M: Module<E> + ?Sized> {
    /// The CPU and the parameters; the pass is [`Pass::Inference`].
    pub context: Context<'a, E>,
    /// The module's weights.
    pub packed: &'a M::Packed,
    /// `[B, I]`, a row for each stream.
    pub x: &'a M::Input,
    /// For each stream whether it has begun.
    pub begun: &'a [bool],
}

impl<E: Element, M: Module<E> + ?Sized> Clone for Step<'_, E, M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E: Element, M: Module<E> + ?Sized> Copy for Step<'_, E, M> {}

/// A setting of a tape; it holds from the next forward pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapeSetting {
    /// Checkpointing in time; see [`Checkpointing`]. Off by default.
    Checkpointing(Checkpointing),
    /// Keep the state after so many steps for [`Module::state_after`], in the next pass with a tape alone. Without
    /// checkpointing all are kept.
    KeepStateAfter(usize),
    /// Keep the pre-activations of every gate. Off by default.
    PreActivations(bool),
    /// Keep the gradients of every gate's pre-activation, and of the hidden and cell state, at every row. Off by default.
    RowGradients(bool),
}

/// What looks at the recurrent layers of a module after a pass.
pub trait Visit<E: Element> {
    /// A stack, with what its last pass kept.
    fn recurrent(&mut self, stack: &Recurrent, tape: &RecurrentTape<E>);
}

/// What a module is, whatever its numbers are.
pub trait Layer {
    /// F, columns of the output.
    fn width(&self) -> usize;

    /// The arrays of its state, in their order; none for a module without memory.
    fn state_shape(&self) -> StateShape {
        StateShape::default()
    }

    /// How many arrays there are in [`state_shape`](Self::state_shape).
    fn state_count(&self) -> usize {
        0
    }

    /// The recurrent stacks by name, with their cells, which the shapes of parameters alone do not tell apart.
    fn cells(&self) -> Vec<(String, CellKind)> {
        Vec::new()
    }

    /// The parameters that inference reads as they are and not from packed weights.
    fn read_directly(&self) -> Vec<TensorId> {
        Vec::new()
    }

    /// New parameters. Those that are not set stay 0.
    fn initialise(&self, how: &Initialise, layout: &Layout, parameters: &mut [f32]) {
        let _ = (how, layout, parameters);
    }

    /// This module, and after it `next`, which reads its output.
    fn then<B: Layer>(self, next: B) -> Chain<Self, B>
    where
        Self: Sized,
    {
        Chain::new(self, next)
    }

    /// A network whose body is this module and which ends in `head`; `builder` has made both.
    fn ending_in<H>(self, head: H, builder: Builder) -> Network<Self, H>
    where
        Self: Sized,
    {
        Network::new(self, head, builder)
    }
}

/// A module at work in f32 or f64.
///
/// Output, end state, dx and the gradient of the start are the same bits for a sequence alone or in any batch, for any
/// number of threads and any instruction set; gradients of parameters for any number of threads and instruction set.
pub trait Module<E: Element>: Layer {
    /// What a row of the batch is: numbers (`[E]`, `[N, I]`), tokens (`[u32]`, `[N]`), or a type of its own.
    type Input: ?Sized;
    /// Its weights as the kernels want them; packed anew after each update.
    type Packed;
    /// What a pass keeps, and the memory it needs.
    type Tape: Default;

    /// Room for packed weights; with `backward`, also for what training needs.
    fn packed(&self, isa: Isa, backward: bool) -> Self::Packed;

    /// Packs the parameters.
    fn pack(&self, cpu: &Cpu, layout: &Layout, parameters: &[E], packed: &mut Self::Packed);

    /// Changes a setting of a tape; one that the module has no use for changes nothing.
    fn set(&self, tape: &mut Self::Tape, setting: TapeSetting) {
        let _ = (tape, setting);
    }

    /// Numbers of an input that have a gradient; 0 for tokens.
    fn input_length(&self, x: &Self::Input) -> usize {
        let _ = x;
        0
    }

    /// Runs over a batch.
    ///
    /// # Panics
    /// If a length does not fit.
    fn forward(&self, call: Call<'_, E, Self>, tape: &mut Self::Tape);

    /// What the last pass wrote: rows `[rows out, F]` and how they are packed, which is as they came in unless the module
    /// says otherwise (pooling has a row for each sequence, in the caller's order).
    ///
    /// # Panics
    /// If the last call was no forward pass, or one over another number of rows.
    fn output<'a>(&self, rows: &'a Ragged, tape: &'a Self::Tape) -> (&'a Ragged, &'a [E]);

    /// The state after each sequence's last row, of the last pass.
    ///
    /// # Panics
    /// If the last pass had another batch, or `state` has other arrays.
    fn end(&self, rows: &Ragged, tape: &Self::Tape, state: &mut [StateArray<E>]) {
        let _ = (rows, tape, state);
    }

    /// The state after `steps` steps, of the last pass with a tape: where the next window of truncated BPTT starts.
    ///
    /// # Panics
    /// If the module reads backward, a sequence is shorter, the last pass had another batch or kept no tape, or
    /// checkpointing has not kept that state ([`TapeSetting::KeepStateAfter`]).
    fn state_after(&self, rows: &Ragged, steps: usize, tape: &Self::Tape, state: &mut [StateArray<E>]) {
        let _ = (rows, steps, tape, state);
    }

    /// Goes back through the last [`forward`](Self::forward), which `call` must repeat.
    ///
    /// # Panics
    /// If a length does not fit, the pass kept no tape, or the last call was another: of another batch (other lengths, the
    /// same ones in another order, other boundaries), another kind of pass, or other sequences that had begun.
    fn backward(&self, call: Call<'_, E, Self>, gradients: Gradients<'_, E>, tape: &mut Self::Tape);

    /// Reads one row of each stream and moves `state` one step on; the same bits as the step in a whole sequence. Allocates
    /// nothing once the tape has grown. There is no way back from a step, nor from a pass before it.
    ///
    /// # Errors
    /// [`Error::NoSteps`](crate::Error::NoSteps) if the module needs the whole sequence; `state` may then have moved
    /// partly.
    ///
    /// # Panics
    /// If a length does not fit.
    fn step<'a>(
        &self,
        step: Step<'_, E, Self>,
        state: &mut [StateArray<E>],
        tape: &'a mut Self::Tape,
    ) -> Result<&'a [E]>;

    /// Shows every recurrent stack to `visitor`.
    fn visit(&self, tape: &Self::Tape, visitor: &mut dyn Visit<E>) {
        let _ = (tape, visitor);
    }
}
