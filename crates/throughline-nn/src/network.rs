//! A network: a body of modules that ends in a head.

use alloc::vec::Vec;
use core::ops::Range;

use throughline_kernels::Element;
use throughline_kernels::buffer::Buffer;
use throughline_kernels::sequence::Ragged;

use crate::error::Result;
use crate::heads::{Head, HeadCall, Loss};
use crate::initialise::Initialise;
use crate::memory::OneRowEach;
use crate::module::{Call, Context, Cpu, Gradients, Layer, Module, Pass, Step, TapeSetting};
use crate::parameters::{Builder, Layout, TensorId};
use crate::state::{State, StateShape};

/// A body and a head with their parameters' layout. The parameters belong to the caller, in a buffer of that layout.
#[derive(Clone, Debug)]
pub struct Network<B, H> {
    body: B,
    head: H,
    layout: Layout,
}

/// The weights of a network, packed. Immutable in use and shared by any number of threads; packed anew after each update.
pub struct PackedNetwork<E: Element, B: Module<E>, H: Head<E>> {
    /// The body's.
    pub body: B::Packed,
    /// The head's.
    pub head: H::Packed,
}

/// What a call of a network works with.
pub struct Weights<'a, E: Element, B: Module<E>, H: Head<E>> {
    /// What computes.
    pub cpu: &'a Cpu,
    /// The parameters.
    pub parameters: &'a [E],
    /// The same, packed.
    pub packed: &'a PackedNetwork<E, B, H>,
}

impl<E: Element, B: Module<E>, H: Head<E>> Clone for Weights<'_, E, B, H> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E: Element, B: Module<E>, H: Head<E>> Copy for Weights<'_, E, B, H> {}

/// Memory of a network for one caller. Grows to what the largest batch needed.
pub struct Workspace<E: Element, B: Module<E>, H: Head<E>> {
    /// The body's.
    pub body: B::Tape,
    /// The head's.
    pub head: H::Tape,
    /// The gradient of what the body wrote.
    dy: Buffer<E>,
    step_rows: OneRowEach,
}

impl<E: Element, B: Module<E>, H: Head<E>> Default for Workspace<E, B, H> {
    fn default() -> Self {
        let (body, head) = Default::default();
        Self { body, head, dy: Buffer::default(), step_rows: OneRowEach::default() }
    }
}

/// What a network reads.
pub struct Input<'a, E, X: ?Sized> {
    /// The shape of the batch.
    pub rows: &'a Ragged,
    /// A row for each packed row.
    pub x: &'a X,
    /// Where the sequences start; `None`: at the network's initial state.
    pub start: Option<&'a State<E>>,
}

impl<E, X: ?Sized> Clone for Input<'_, E, X> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E, X: ?Sized> Copy for Input<'_, E, X> {}

impl<'a, E, X: ?Sized> Input<'a, E, X> {
    /// Whole sequences from the initial state.
    pub fn new(rows: &'a Ragged, x: &'a X) -> Self {
        Self { rows, x, start: None }
    }
}

/// What a network's output is scored against.
pub struct Wanted<'a, T: ?Sized> {
    /// The head's targets, one for each row that the body writes.
    pub target: &'a T,
    /// The rows that count; `None`: all. The others only carry gradients back.
    pub scored: Option<Range<usize>>,
    /// The weight of the whole update, by which gradients are divided; `None`: that of this batch. Give it where the
    /// gradients of several batches make one update.
    pub normaliser: Option<f64>,
}

impl<'a, T: ?Sized> Wanted<'a, T> {
    /// A target for every row.
    pub fn new(target: &'a T) -> Self {
        Self { target, scored: None, normaliser: None }
    }
}

impl<B: Layer, H> Network<B, H> {
    /// A network of `body` and `head`, whose parameters are those of `builder`.
    pub fn new(body: B, head: H, builder: Builder) -> Self {
        Self { body, head, layout: builder.into_layout() }
    }

    /// The body.
    pub fn body(&self) -> &B {
        &self.body
    }

    /// The head.
    pub fn head(&self) -> &H {
        &self.head
    }

    /// Names, shapes and places of the parameters.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The arrays of its state.
    pub fn state_shape(&self) -> StateShape {
        self.body.state_shape()
    }

    /// New parameters.
    pub fn initialise(&self, how: &Initialise) -> Buffer<f32>
    where
        H: Layer,
    {
        let mut parameters = self.layout.zeros();
        self.body.initialise(how, &self.layout, &mut parameters);
        self.head.initialise(how, &self.layout, &mut parameters);
        parameters
    }

    /// Keeps of `parameters` what inference reads as it is, such as embeddings, beside weights that are packed for inference.
    /// The network's layout has no room for the others from now on.
    pub fn keep_what_is_read<E: Element>(&mut self, parameters: &[E]) -> Buffer<E>
    where
        H: Layer,
    {
        let read: Vec<TensorId> = self.body.read_directly().into_iter().chain(self.head.read_directly()).collect();
        let kept = self.layout.keeping(&read);
        let mut buffer = kept.zeros();
        for id in read {
            kept.view_mut(&mut buffer, id).copy_from_slice(self.layout.view(parameters, id));
        }
        self.layout = kept;
        buffer
    }

    /// Packs `parameters`; with `backward`, also for training.
    pub fn packed<E: Element>(&self, cpu: &Cpu, parameters: &[E], backward: bool) -> PackedNetwork<E, B, H>
    where
        B: Module<E>,
        H: Head<E>,
    {
        let (body, head) = (self.body.packed(cpu.isa, backward), self.head.packed(cpu.isa, backward));
        let mut packed = PackedNetwork { body, head };
        self.pack(cpu, parameters, &mut packed);
        packed
    }

    /// Packs `parameters` again after a change.
    ///
    /// # Panics
    /// If they are not in the network's layout.
    pub fn pack<E: Element>(&self, cpu: &Cpu, parameters: &[E], packed: &mut PackedNetwork<E, B, H>)
    where
        B: Module<E>,
        H: Head<E>,
    {
        assert_eq!(parameters.len(), self.layout.length(), "parameters lie in the network's layout");
        self.body.pack(cpu, &self.layout, parameters, &mut packed.body);
        self.head.pack(cpu, &self.layout, parameters, &mut packed.head);
    }

    /// Changes a setting of a workspace.
    pub fn set<E: Element>(&self, workspace: &mut Workspace<E, B, H>, setting: TapeSetting)
    where
        B: Module<E>,
        H: Head<E>,
    {
        self.body.set(&mut workspace.body, setting);
    }

    fn context<'a, E: Element>(&'a self, weights: Weights<'a, E, B, H>, pass: Pass) -> Context<'a, E>
    where
        B: Module<E>,
        H: Head<E>,
    {
        Context { cpu: weights.cpu, layout: &self.layout, parameters: weights.parameters, pass }
    }

    fn call<'a, E: Element>(
        &'a self,
        weights: Weights<'a, E, B, H>,
        input: Input<'a, E, B::Input>,
        pass: Pass,
    ) -> Call<'a, E, B>
    where
        B: Module<E>,
        H: Head<E>,
    {
        let Input { rows, x, start } = input;
        start.into_iter().for_each(|state| state.assert_fits(self.body.state_count(), rows.batch()));
        let context = self.context(weights, pass);
        Call { context, packed: &weights.packed.body, rows, x, start: start.map(State::start) }
    }

    /// The loss of a batch, and the gradient of its mean: adds to `gradients`.
    ///
    /// # Panics
    /// If a length does not fit, a token or target is out of range, `pass` keeps no tape, or `weights` were packed for
    /// inference only.
    pub fn learn<E: Element>(
        &self,
        weights: Weights<'_, E, B, H>,
        input: Input<'_, E, B::Input>,
        wanted: Wanted<'_, H::Target>,
        pass: Pass,
        gradients: &mut [E],
        workspace: &mut Workspace<E, B, H>,
    ) -> Loss
    where
        B: Module<E>,
        H: Head<E>,
    {
        assert!(pass.keeps_tape(), "an inference pass keeps nothing to learn from: evaluate instead");
        assert_eq!(gradients.len(), self.layout.length(), "gradients lie in the layout of the parameters");
        let Workspace { body: tape, head, dy, .. } = workspace;
        let call = self.call(weights, input, pass);
        self.body.forward(call, tape);
        let (rows, y) = self.body.output(input.rows, tape);
        let dy = dy.at_least(y.len());
        let scored = wanted.scored.unwrap_or(0..rows.rows());
        let normaliser = wanted.normaliser.unwrap_or_else(|| self.head.weight(scored.clone(), wanted.target));
        let head_call = HeadCall { context: call.context, packed: &weights.packed.head, rows, x: y, scored };
        let loss = self.head.learn(head_call, wanted.target, normaliser, dy, gradients, head);
        let gradients = Gradients { dy: Some(dy), d_end: None, dx: None, d_start: None, parameters: gradients };
        self.body.backward(call, gradients, tape);
        loss
    }

    /// The loss of a batch.
    ///
    /// # Panics
    /// If a length does not fit, or a token or target is out of range.
    pub fn evaluate<E: Element>(
        &self,
        weights: Weights<'_, E, B, H>,
        input: Input<'_, E, B::Input>,
        wanted: Wanted<'_, H::Target>,
        workspace: &mut Workspace<E, B, H>,
    ) -> Loss
    where
        B: Module<E>,
        H: Head<E>,
    {
        let Workspace { body: tape, head, .. } = workspace;
        let call = self.call(weights, input, Pass::Inference);
        self.body.forward(call, tape);
        let call = self.head_call(weights, input.rows, tape);
        let scored = wanted.scored.unwrap_or(call.scored);
        self.head.evaluate(HeadCall { scored, ..call }, wanted.target, head)
    }

    /// What the head makes of a batch, `[rows out, width]`: logits, for a softmax.
    ///
    /// # Panics
    /// If a length does not fit or a token is out of range.
    pub fn predict<'a, E: Element>(
        &self,
        weights: Weights<'_, E, B, H>,
        input: Input<'_, E, B::Input>,
        workspace: &'a mut Workspace<E, B, H>,
    ) -> &'a [E]
    where
        B: Module<E>,
        H: Head<E>,
    {
        let Workspace { body: tape, head, .. } = workspace;
        let call = self.call(weights, input, Pass::Inference);
        self.body.forward(call, tape);
        self.head.project(self.head_call(weights, input.rows, tape), head)
    }

    /// What the head is called with after a pass of the body over `rows`, such as [`read`](Self::read), for what it tells
    /// beside [`predict`](Self::predict); see [`Crf::decode`](crate::heads::Crf::decode).
    ///
    /// # Panics
    /// If the last call was no pass, or one over another number of rows.
    pub fn head_call<'a, E: Element>(
        &'a self,
        weights: Weights<'a, E, B, H>,
        rows: &'a Ragged,
        body: &'a B::Tape,
    ) -> HeadCall<'a, E, H>
    where
        B: Module<E>,
        H: Head<E>,
    {
        let (rows, x) = self.body.output(rows, body);
        let context = self.context(weights, Pass::Inference);
        HeadCall { context, packed: &weights.packed.head, rows, x, scored: 0..rows.rows() }
    }

    /// Reads a batch without asking the head: for the state [`end`](Self::end), or a [`head_call`](Self::head_call).
    ///
    /// # Panics
    /// If a length does not fit or a token is out of range.
    pub fn read<E: Element>(
        &self,
        weights: Weights<'_, E, B, H>,
        input: Input<'_, E, B::Input>,
        workspace: &mut Workspace<E, B, H>,
    ) where
        B: Module<E>,
        H: Head<E>,
    {
        self.body.forward(self.call(weights, input, Pass::Inference), &mut workspace.body);
    }

    /// The state after each sequence of the last pass.
    ///
    /// # Panics
    /// If `state` is not that of this network, or of another number of streams.
    pub fn end<E: Element>(&self, rows: &Ragged, workspace: &Workspace<E, B, H>, state: &mut State<E>)
    where
        B: Module<E>,
        H: Head<E>,
    {
        state.assert_fits(self.body.state_count(), rows.batch());
        self.body.end(rows, &workspace.body, state.arrays_mut());
        state.begin();
    }

    /// The state after `steps` steps of the last pass with a tape; see [`Module::state_after`].
    ///
    /// # Panics
    /// As there, and if `state` is not that of this network, or of another number of streams.
    pub fn state_after<E: Element>(
        &self,
        rows: &Ragged,
        steps: usize,
        workspace: &Workspace<E, B, H>,
        state: &mut State<E>,
    ) where
        B: Module<E>,
        H: Head<E>,
    {
        state.assert_fits(self.body.state_count(), rows.batch());
        self.body.state_after(rows, steps, &workspace.body, state.arrays_mut());
        state.begin();
    }

    /// Reads one row of each stream, moves `state` one step on, and returns what the head makes of it, `[B, width]`.
    ///
    /// # Errors
    /// [`Error::NoSteps`](crate::Error::NoSteps) if a module needs the whole sequence.
    ///
    /// # Panics
    /// If a length does not fit or a token is out of range.
    pub fn step<'a, E: Element>(
        &self,
        weights: Weights<'_, E, B, H>,
        x: &B::Input,
        state: &mut State<E>,
        workspace: &'a mut Workspace<E, B, H>,
    ) -> Result<&'a [E]>
    where
        B: Module<E>,
        H: Head<E>,
    {
        let Workspace { body: tape, head, step_rows, .. } = workspace;
        state.assert_fits(self.body.state_count(), state.streams());
        let step_rows = step_rows.of(state.streams());
        let context = self.context(weights, Pass::Inference);
        let (begun, arrays) = state.parts_mut();
        let x = self.body.step(Step { context, packed: &weights.packed.body, x, begun }, arrays, tape)?;
        let scored = 0..begun.len();
        let call = HeadCall { context, packed: &weights.packed.head, rows: step_rows, x, scored };
        let y = self.head.project(call, head);
        state.begin();
        Ok(y)
    }
}
