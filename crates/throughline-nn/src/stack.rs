//! A recurrent stack with its own parameters and memory: the short way for programs that need one and no more.

use throughline_kernels::buffer::Buffer;
use throughline_kernels::sequence::{Ragged, Tape};
use throughline_kernels::threads::Threads;
use throughline_kernels::{Element, Isa};

use crate::checkpointing::Checkpointing;
use crate::initialise::Initialisation;
use crate::parameters::Layout;
use crate::recurrent::{Context, PackedRecurrent, Pass, Recurrent, RecurrentConfig, RecurrentWorkspace, States};

/// A recurrent stack, its parameters, gradients and memory, computing on the calling thread unless told otherwise.
#[derive(Debug)]
pub struct Stack<E> {
    recurrent: Recurrent,
    layout: Layout,
    parameters: Buffer<E>,
    gradients: Buffer<E>,
    packed: PackedRecurrent<E>,
    workspace: RecurrentWorkspace<E>,
    threads: Threads,
}

/// What a stack computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Run<E> {
    /// `[N, D·H]`: the top layer's hidden state at every packed row.
    pub output: alloc::vec::Vec<E>,
    /// The states of every layer and direction after each sequence's last row.
    pub last: States<E>,
}

/// The gradients that [`Stack::backward`] gives beside those of the parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct InputGradients<E> {
    /// `[N, I]`
    pub x: alloc::vec::Vec<E>,
    /// Of the states the run was given; of the initial states if it was given none.
    pub states: States<E>,
}

impl<E: Element> Stack<E> {
    /// A stack with weights uniform in ±1/sqrt(H), on one thread.
    ///
    /// # Panics
    /// If a size is 0.
    pub fn new(config: RecurrentConfig, seed: u64) -> Self {
        Self::on_threads(config, seed, 1)
    }

    /// The same on `threads` threads; the results are the same to the bit.
    ///
    /// # Panics
    /// If a size or `threads` is 0.
    pub fn on_threads(config: RecurrentConfig, seed: u64, threads: usize) -> Self {
        let mut layout = Layout::new();
        let recurrent = Recurrent::new(config, &mut layout, "");
        let threads = Threads::new(threads);
        let mut initial = layout.zeros::<f32>();
        recurrent.initialise(&layout, seed, Initialisation::Uniform, &mut initial);
        let mut parameters = layout.zeros();
        for (to, from) in parameters.iter_mut().zip(&initial[..]) {
            *to = E::from_f64(f64::from(*from));
        }
        let mut packed = recurrent.packed(Isa::detect(), true);
        recurrent.pack(&threads, &layout, &parameters, &mut packed);
        let workspace = recurrent.workspace(&threads);
        Self { gradients: layout.zeros(), recurrent, parameters, packed, workspace, threads, layout }
    }

    /// The shape of the stack.
    pub fn config(&self) -> &RecurrentConfig {
        self.recurrent.config()
    }

    /// Names, shapes and places of the parameters: `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, ... as in PyTorch.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The parameters, one buffer for all.
    pub fn parameters(&self) -> &[E] {
        &self.parameters
    }

    /// Changes the parameters and packs them anew.
    pub fn set_parameters(&mut self, change: impl FnOnce(&Layout, &mut [E])) {
        change(&self.layout, &mut self.parameters);
        self.recurrent.pack(&self.threads, &self.layout, &self.parameters, &mut self.packed);
    }

    /// The gradients of the parameters, in their layout.
    pub fn gradients(&self) -> &[E] {
        &self.gradients
    }

    /// Sets the gradients of the parameters to 0.
    pub fn clear_gradients(&mut self) {
        self.gradients.fill(E::ZERO);
    }

    /// How the runs from now on spare memory; see [`checkpointing`](crate::checkpointing).
    ///
    /// # Panics
    /// If the stack reads in both directions, unless `checkpointing` is off.
    pub fn set_checkpointing(&mut self, checkpointing: Checkpointing) {
        self.workspace.set_checkpointing(checkpointing);
    }

    /// Runs over packed rows `x` `[N, I]` from the states `given` or the initial ones, and keeps what backward needs.
    ///
    /// # Panics
    /// If a length does not fit the batch.
    pub fn run(&mut self, batch: &Ragged, x: &[E], given: Option<&States<E>>) -> Run<E> {
        let Self { recurrent, layout, parameters, packed, threads, workspace, .. } = self;
        let context = Context { threads, packed, parameters, layout };
        recurrent.forward(context, batch, x, given, Pass::Traced, workspace);
        let mut last = States::default();
        recurrent.last_states(batch, workspace, &mut last);
        Run { output: workspace.output(batch.rows(), recurrent.config().output()).to_vec(), last }
    }

    /// Back-propagates through the last [`run`](Self::run): adds to the gradients of the parameters. `dy` `[N, D·H]` is the
    /// gradient of the output, `d_last` that of the last states; `None` for zero.
    ///
    /// # Panics
    /// If the arguments are not those of the run.
    pub fn backward(
        &mut self,
        batch: &Ragged,
        x: &[E],
        given: Option<&States<E>>,
        dy: Option<&[E]>,
        d_last: Option<&States<E>>,
    ) -> InputGradients<E> {
        let Self { recurrent, layout, parameters, packed, threads, workspace, gradients, .. } = self;
        let context = Context { threads, packed, parameters, layout };
        let mut dx = alloc::vec![E::ZERO; x.len()];
        let given = given.is_some();
        recurrent.backward(context, batch, x, given, Pass::Traced, dy, d_last, Some(&mut dx), gradients, workspace);
        let mut states = States::default();
        recurrent.state_gradients(batch, workspace, &mut states);
        InputGradients { x: dx, states }
    }

    /// The tape of a layer, of the last run: every gate of every row. With [`Checkpointing`] it is of the segment that ran
    /// last.
    pub fn tape(&self, layer: usize) -> &Tape<E> {
        self.workspace.tape(layer)
    }
}
