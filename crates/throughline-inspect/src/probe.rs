//! A pass over some sequences whose tape can be read, and as many backward passes over it as are wanted.

use throughline_kernels::Element;
use throughline_kernels::sequence::Ragged;
use throughline_nn::heads::{Head, HeadCall, Loss};
use throughline_nn::layers::recurrent::RecurrentTape;
use throughline_nn::layers::{Pool, Recurrent};
use throughline_nn::module::{Call, Context, Gradients, Module, Pass, TapeSetting, Visit};
use throughline_nn::network::{Network, Weights};

/// A network, and sequences with their targets.
pub struct Subject<'a, E: Element, B: Module<E>, H: Head<E>> {
    /// The network.
    pub network: &'a Network<B, H>,
    /// Its weights, packed also for backward.
    pub weights: Weights<'a, E, B, H>,
    /// The shape of the batch.
    pub rows: &'a Ragged,
    /// What the network reads.
    pub x: &'a B::Input,
    /// What its head is to find.
    pub targets: &'a H::Target,
}

impl<E: Element, B: Module<E>, H: Head<E>> Clone for Subject<'_, E, B, H> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E: Element, B: Module<E>, H: Head<E>> Copy for Subject<'_, E, B, H> {}

impl<'a, E: Element, B: Module<E>, H: Head<E>> Subject<'a, E, B, H> {
    fn context(&self, pass: Pass) -> Context<'a, E> {
        let Self { network, weights, .. } = self;
        Context { cpu: weights.cpu, layout: network.layout(), parameters: weights.parameters, pass }
    }

    /// What the body is called with.
    pub(crate) fn call(&self, pass: Pass) -> Call<'a, E, B> {
        let Self { weights, rows, x, .. } = self;
        Call { context: self.context(pass), packed: &weights.packed.body, rows, x, start: None }
    }
}

/// A forward pass without dropout over a [`Subject`], kept on its tape.
pub struct Probe<'a, E: Element, B: Module<E>, H: Head<E>> {
    subject: Subject<'a, E, B, H>,
    memory: Memory<E, B, H>,
}

/// What a [`Probe`] needs. It grows once.
pub(crate) struct Memory<E: Element, B: Module<E>, H: Head<E>> {
    body: B::Tape,
    head: H::Tape,
    /// Those of the parameters, which nobody reads.
    gradients: Vec<E>,
}

impl<E: Element, B: Module<E>, H: Head<E>> Memory<E, B, H> {
    /// Memory of a tape that keeps these.
    pub(crate) fn new(body: &B, row_gradients: bool, pre_activations: bool) -> Self {
        let mut memory = Self::default();
        for setting in [
            TapeSetting::RowGradients(row_gradients),
            TapeSetting::PreActivations(pre_activations),
            TapeSetting::ParameterGradients(false),
        ] {
            body.set(&mut memory.body, setting);
        }
        memory
    }
}

impl<E: Element, B: Module<E>, H: Head<E>> Default for Memory<E, B, H> {
    fn default() -> Self {
        Self { body: B::Tape::default(), head: H::Tape::default(), gradients: Vec::new() }
    }
}

impl<'a, E: Element, B: Module<E>, H: Head<E>> Probe<'a, E, B, H> {
    /// Runs the body forward. With `row_gradients` the backward passes keep the gradients at every row.
    ///
    /// # Panics
    /// If the length of an array does not match the batch, or a token is out of range.
    pub fn new(subject: Subject<'a, E, B, H>, row_gradients: bool) -> Self {
        Self::with(subject, Memory::new(subject.network.body(), row_gradients, false))
    }

    /// The same in memory that was used before.
    pub(crate) fn with(subject: Subject<'a, E, B, H>, mut memory: Memory<E, B, H>) -> Self {
        subject.network.body().forward(subject.call(Pass::Traced), &mut memory.body);
        Self { subject, memory }
    }

    /// Its memory, to use it again.
    pub(crate) fn into_memory(self) -> Memory<E, B, H> {
        self.memory
    }

    /// The shape of the batch.
    pub fn rows(&self) -> &'a Ragged {
        self.subject.rows
    }

    /// What the head is to find.
    pub fn targets(&self) -> &'a H::Target {
        self.subject.targets
    }

    /// The body's output `[rows out, F]`, and how it is packed.
    pub fn output(&self) -> (&Ragged, &[E]) {
        self.subject.network.body().output(self.subject.rows, &self.memory.body)
    }

    /// `[rows out, F]`: the gradient of the summed loss with respect to the body's output.
    ///
    /// # Panics
    /// If the targets do not match the batch.
    pub fn loss_gradient(&mut self) -> Vec<E> {
        let Subject { network, weights, rows, targets, .. } = self.subject;
        self.memory.gradients.resize(network.layout().length(), E::ZERO);
        let (rows, x) = network.body().output(rows, &self.memory.body);
        let mut dx = vec![E::ZERO; x.len()];
        let context = self.subject.context(Pass::Traced);
        let call = HeadCall { context, packed: &weights.packed.head, rows, x, scored: 0..rows.rows() };
        network.head().learn(call, targets, 1.0, &mut dx, &mut self.memory.gradients, &mut self.memory.head);
        dx
    }

    /// The loss of `y` `[rows, F]`, some of the body's output.
    ///
    /// # Panics
    /// If `y` or the targets do not match the rows.
    pub fn loss(&self, rows: &Ragged, y: &[E], targets: &H::Target) -> Loss {
        let Subject { network, weights, .. } = self.subject;
        let context = self.subject.context(Pass::Inference);
        let call = HeadCall { context, packed: &weights.packed.head, rows, x: y, scored: 0..rows.rows() };
        network.head().evaluate(call, targets, &mut H::Tape::default())
    }

    /// Goes back from `dy` `[rows out, F]`, which it may overwrite.
    ///
    /// # Panics
    /// If the length does not match.
    pub fn back(&mut self, dy: &mut [E]) {
        let call = self.subject.call(Pass::Traced);
        self.memory.gradients.resize(self.subject.network.layout().length(), E::ZERO);
        let gradients =
            Gradients { dy: Some(dy), d_end: None, dx: None, d_start: None, parameters: &mut self.memory.gradients };
        self.subject.network.body().backward(call, gradients, &mut self.memory.body);
    }

    /// Shows every recurrent stack that reads the steps of the batch, with its tape.
    pub fn stacks(&self, look: &mut dyn FnMut(&Recurrent, &RecurrentTape<E>)) {
        stacks(self.subject.network.body(), &self.memory.body, look);
    }

    /// Whether a sequence has one output that is made of all of its steps, so that its loss enters at each of them.
    pub fn pools_steps(&self) -> bool {
        struct Looking(bool);
        impl<E: Element> Visit<E> for Looking {
            fn recurrent(&mut self, _: &Recurrent, _: &RecurrentTape<E>) {}
            fn pool(&mut self, pool: &Pool) {
                self.0 |= !pool.pooling().reads_ends();
            }
        }
        let mut looking = Looking(false);
        self.subject.network.body().visit(&self.memory.body, &mut looking);
        looking.0
    }
}

/// Shows every recurrent stack of a body that reads the steps of its batch, with its tape.
pub(crate) fn stacks<E: Element, B: Module<E>>(
    body: &B,
    tape: &B::Tape,
    look: &mut dyn FnMut(&Recurrent, &RecurrentTape<E>),
) {
    struct Looking<'a, E>(&'a mut dyn FnMut(&Recurrent, &RecurrentTape<E>));
    impl<E: Element> Visit<E> for Looking<'_, E> {
        fn recurrent(&mut self, stack: &Recurrent, tape: &RecurrentTape<E>) {
            (self.0)(stack, tape);
        }
    }
    body.visit(tape, &mut Looking(look));
}

/// A direction of a layer of a stack.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Site {
    /// The name of the stack.
    pub stack: String,
    /// The layer, from 0.
    pub layer: usize,
    /// Whether it reads backward.
    pub reverse: bool,
}

impl Site {
    /// Every one of `stack`.
    pub(crate) fn all(stack: &Recurrent) -> impl Iterator<Item = Site> {
        let (layers, directions) = (stack.config().layers, stack.config().directions());
        (0..layers * directions).map(move |index| Site {
            stack: stack.name().to_owned(),
            layer: index / directions,
            reverse: index % directions == 1,
        })
    }

    pub(crate) fn direction(&self) -> usize {
        usize::from(self.reverse)
    }
}

impl std::fmt::Display for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} layer {}{}", self.stack, self.layer, if self.reverse { ", reverse" } else { "" })
    }
}

/// The packed rows of each sequence of a batch, in the order of its steps.
pub(crate) fn rows_of_sequences(rows: &Ragged) -> Vec<Vec<usize>> {
    let mut of = vec![Vec::new(); rows.batch()];
    rows.for_each_row(|row, sequence, _| of[sequence].push(row));
    of
}
