//! Networks: a body of modules and a head.

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

/// A body, a head, and the layout of their parameters. The parameters belong to the caller, in a buffer of that layout.
#[derive(Clone, Debug)]
pub struct Network<B, H> {
    body: B,
    head: H,
    layout: Layout,
}

/// The packed weights of a network. Calls only read them, so any number of threads can share them; they are packed
/// again after each update.
pub struct PackedNetwork<E: Element, B: Module<E>, H: Head<E>> {
    /// Those of the body.
    pub body: B::Packed,
    /// Those of the head.
    pub head: H::Packed,
}

/// The weights that a network runs with, and the CPU it runs on.
pub struct Weights<'a, E: Element, B: Module<E>, H: Head<E>> {
    /// The CPU to run on.
    pub cpu: &'a Cpu,
    /// The parameters, in the layout of the network.
    pub parameters: &'a [E],
    /// The same parameters, packed.
    pub packed: &'a PackedNetwork<E, B, H>,
}

impl<E: Element, B: Module<E>, H: Head<E>> Clone for Weights<'_, E, B, H> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E: Element, B: Module<E>, H: Head<E>> Copy for Weights<'_, E, B, H> {}

/// The working memory of one caller of a network. Grows to the largest batch.
pub struct Workspace<E: Element, B: Module<E>, H: Head<E>> {
    /// The tape of the body.
    pub body: B::Tape,
    /// The memory of the head.
    pub head: H::Tape,
    /// The gradient of the body's output.
    dy: Buffer<E>,
    step_rows: OneRowEach,
}

impl<E: Element, B: Module<E>, H: Head<E>> Default for Workspace<E, B, H> {
    fn default() -> Self {
        let (body, head) = Default::default();
        Self { body, head, dy: Buffer::default(), step_rows: OneRowEach::default() }
    }
}

/// The input of a network.
pub struct Input<'a, E, X: ?Sized> {
    /// The shape of the batch.
    pub rows: &'a Ragged,
    /// The input of the body, one entry for each packed row.
    pub x: &'a X,
    /// The state that the sequences start from; `None` for the initial state.
    pub start: Option<&'a State<E>>,
}

impl<E, X: ?Sized> Clone for Input<'_, E, X> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E, X: ?Sized> Copy for Input<'_, E, X> {}

impl<'a, E, X: ?Sized> Input<'a, E, X> {
    /// Sequences that start from the initial state.
    pub fn new(rows: &'a Ragged, x: &'a X) -> Self {
        Self { rows, x, start: None }
    }
}

/// The targets of a batch, and how they are scored.
pub struct Wanted<'a, T: ?Sized> {
    /// The targets of the head. A softmax has one for each row of the body's output.
    pub target: &'a T,
    /// The rows of the body's output that are scored; `None` for all. The others are context: they have no loss.
    pub scored: Option<Range<usize>>,
    /// What gradients are divided by: the weight of all targets in the update. `None` for the weight of this batch; set
    /// it where the gradients of several batches add up to one update.
    pub normaliser: Option<f64>,
}

impl<'a, T: ?Sized> Wanted<'a, T> {
    /// Every row is scored, and the batch is the whole update.
    pub fn new(target: &'a T) -> Self {
        Self { target, scored: None, normaliser: None }
    }
}

impl<B: Layer, H> Network<B, H> {
    /// A network of `body` and `head`, which were made with `builder`.
    pub fn new(body: B, head: H, builder: Builder) -> Self {
        Self { body, head, layout: builder.into_layout() }
    }

    /// The same network with another head over the same parameters, such as one with class weights.
    pub fn map_head(self, change: impl FnOnce(H) -> H) -> Self {
        Self { head: change(self.head), ..self }
    }

    /// The body.
    pub fn body(&self) -> &B {
        &self.body
    }

    /// The head.
    pub fn head(&self) -> &H {
        &self.head
    }

    /// Names, shapes and ranges of the parameters.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Names and widths of the arrays of the network's state.
    pub fn state_shape(&self) -> StateShape {
        self.body.state_shape()
    }

    /// New parameters, in the layout of the network.
    pub fn initialise(&self, how: &Initialise) -> Buffer<f32>
    where
        H: Layer,
    {
        let mut parameters = self.layout.zeros();
        self.body.initialise(how, &self.layout, &mut parameters);
        self.head.initialise(how, &self.layout, &mut parameters);
        parameters
    }

    /// Copies from `parameters` those that inference reads unpacked, such as embeddings. Beside packed weights, a
    /// network in use needs no others: from now on its layout has room for these alone.
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

    /// Packs `parameters`, for inference, or with `backward` also for training.
    ///
    /// # Panics
    /// If `parameters` does not have the length of the layout.
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
    /// If `parameters` does not have the length of the layout.
    pub fn pack<E: Element>(&self, cpu: &Cpu, parameters: &[E], packed: &mut PackedNetwork<E, B, H>)
    where
        B: Module<E>,
        H: Head<E>,
    {
        assert_eq!(parameters.len(), self.layout.length(), "the parameters must be in the network's layout");
        self.body.pack(cpu, &self.layout, parameters, &mut packed.body);
        self.head.pack(cpu, &self.layout, parameters, &mut packed.head);
    }

    /// Changes a setting of the body's tape, from the next pass on.
    ///
    /// # Panics
    /// If a module cannot have the setting; see [`TapeSetting`].
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

    /// Computes the loss of a batch and adds its gradient, divided by the [normaliser](Wanted::normaliser), to
    /// `gradients`, with that of penalties that modules of the body have in training.
    ///
    /// # Panics
    /// If the length of an array does not match the batch, a token or target is out of range, `pass` keeps no tape, or
    /// `weights` were packed for inference only.
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
        assert!(pass.keeps_tape(), "`learn` needs a pass that keeps a tape: call `evaluate` instead");
        assert_eq!(gradients.len(), self.layout.length(), "the gradients must be in the layout of the parameters");
        let Workspace { body: tape, head, dy, .. } = workspace;
        let call = self.call(weights, input, pass);
        self.body.forward(call, tape);
        let (rows, _) = self.body.output(input.rows, tape);
        let scored = wanted.scored.unwrap_or(0..rows.rows());
        let weight = self.head.weight(scored.clone(), wanted.target);
        let normaliser = wanted.normaliser.unwrap_or(weight);
        self.body.set(tape, TapeSetting::Share(if normaliser == 0.0 { 1.0 } else { weight / normaliser }));
        let (rows, y) = self.body.output(input.rows, tape);
        let dy = dy.at_least(y.len());
        let head_call = HeadCall { context: call.context, packed: &weights.packed.head, rows, x: y, scored };
        let loss = self.head.learn(head_call, wanted.target, normaliser, dy, gradients, head);
        let gradients = Gradients { dy: Some(dy), d_end: None, dx: None, d_start: None, parameters: gradients };
        self.body.backward(call, gradients, tape);
        loss
    }

    /// Computes the loss of a batch, without dropout. The [normaliser](Wanted::normaliser) is not used.
    ///
    /// # Panics
    /// If the length of an array does not match the batch, or a token or target is out of range.
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

    /// The head's projection of a batch, `[rows out, width]`: of a softmax, the logits.
    ///
    /// # Panics
    /// If the length of an array does not match the batch, or a token is out of range.
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

    /// The arguments of the head after a pass of the body over `rows`, such as [`read`](Self::read), for what a head offers
    /// besides [`predict`](Self::predict); see [`Crf::decode`](crate::heads::Crf::decode).
    ///
    /// # Panics
    /// If the last call was not a forward pass, or had another number of rows.
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

    /// Runs the body alone over a batch, to reach its final state ([`end`](Self::end)) or for a [`head_call`](Self::head_call).
    ///
    /// # Panics
    /// If the length of an array does not match the batch, or a token is out of range.
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

    /// Writes the final state of each sequence in the last pass, which was over `rows`, to `state`; all streams have
    /// then begun.
    ///
    /// # Panics
    /// If the last pass was over another batch, or `state` does not have the network's arrays and one stream for each
    /// sequence.
    pub fn end<E: Element>(&self, rows: &Ragged, workspace: &Workspace<E, B, H>, state: &mut State<E>)
    where
        B: Module<E>,
        H: Head<E>,
    {
        state.assert_fits(self.body.state_count(), rows.batch());
        self.body.end(rows, &workspace.body, state.arrays_mut());
        state.begin();
    }

    /// Writes the state after `steps` steps of the last pass, which kept a tape, to `state`; see
    /// [`Module::state_after`]. All streams have then begun.
    ///
    /// # Panics
    /// As [`Module::state_after`], or if `state` does not have one stream for each sequence.
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

    /// Runs one step of each stream, advances `state`, and returns the head's projection, `[B, width]`.
    ///
    /// # Errors
    /// [`Error::NoSteps`](crate::Error::NoSteps) if a module needs the whole sequence. Some arrays of `state` may have
    /// advanced by then.
    ///
    /// # Panics
    /// If the length of an array does not match the number of streams, or a token is out of range.
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
        let (begun, arrays) = state.begun_and_arrays_mut();
        let x = self.body.step(Step { context, packed: &weights.packed.body, x, begun }, arrays, tape)?;
        let scored = 0..begun.len();
        let call = HeadCall { context, packed: &weights.packed.head, rows: step_rows, x, scored };
        let y = self.head.project(call, head);
        state.begin();
        Ok(y)
    }
}
