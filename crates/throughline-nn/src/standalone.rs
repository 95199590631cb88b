//! A module with its own parameters and memory: the short way for programs that need a single module.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use throughline_kernels::Element;
use throughline_kernels::buffer::Buffer;
use throughline_kernels::ops::reduce;
use throughline_kernels::optim::{Optimiser, clipping_factor};
use throughline_kernels::sequence::{Ragged, Tape};

use crate::error::Result;
use crate::initialise::Initialise;
use crate::layers::recurrent::{Recurrent, RecurrentConfig};
use crate::module::{Call, Context, Cpu, Gradients, Module, Pass, Step, TapeSetting};
use crate::parameters::{Builder, Layout};
use crate::state::State;
use crate::weights;

/// A module with its parameters, their gradients and its working memory.
///
/// A custom loss goes between [`run`](Self::run) and [`backward`](Self::backward): it maps the output to the gradient
/// of the output.
pub struct Standalone<M: Module<E>, E: Element> {
    module: M,
    layout: Layout,
    parameters: Buffer<E>,
    gradients: Buffer<E>,
    packed: M::Packed,
    tape: M::Tape,
    pass: Pass,
    cpu: Cpu,
}

/// A recurrent stack with its own parameters.
pub type Stack<E> = Standalone<Recurrent, E>;

/// The result of [`Standalone::run`].
#[derive(Clone, Debug, PartialEq)]
pub struct Run<E> {
    /// `[rows out, F]`: the output. Of a stack it is the top layer's hidden state at every packed row, `[N, D·H]`.
    pub output: Vec<E>,
    /// The final state of each sequence.
    pub last: State<E>,
}

/// The gradients that [`Standalone::backward`] returns; those of the parameters it adds to [`Standalone::gradients`].
#[derive(Clone, Debug, PartialEq)]
pub struct InputGradients<E> {
    /// `[N, I]`: the gradient of the input; empty if the input is tokens.
    pub x: Vec<E>,
    /// The gradient of the state that the run was given, 0 for streams that had not begun. If it was given none: that
    /// of the initial state, stream by stream.
    pub start: State<E>,
}

impl<E: Element> Stack<E> {
    /// A stack on one thread, its weights and biases uniform in ±1/sqrt(H).
    ///
    /// # Panics
    /// If a size is 0, or the rate of dropout is not in [0, 1).
    pub fn new(config: RecurrentConfig, seed: u64) -> Self {
        Self::on_threads(config, seed, 1)
    }

    /// The same on `threads` threads. The results are bit for bit the same.
    ///
    /// # Panics
    /// If a size or `threads` is 0, the rate of dropout is not in [0, 1), or the system cannot start that many threads.
    pub fn on_threads(config: RecurrentConfig, seed: u64, threads: usize) -> Self {
        let mut builder = Builder::new();
        let stack = Recurrent::new(&mut builder, "", config);
        Self::of(stack, builder, &Initialise::new(seed), Cpu::new(threads))
    }

    /// The shape of the stack.
    pub fn config(&self) -> &RecurrentConfig {
        self.module.config()
    }

    /// The tape of a layer in the last run: every gate at every row. With
    /// [`Checkpointing`](crate::layers::recurrent::Checkpointing) it is that of the segment that ran last.
    ///
    /// # Panics
    /// If there is no such layer, or nothing has run.
    pub fn tape(&self, layer: usize) -> &Tape<E> {
        self.tape.layer(layer)
    }
}

impl<M: Module<E>, E: Element> Standalone<M, E> {
    /// `module`, which was made with `builder`, with new parameters, on `cpu`. It keeps tapes and applies no dropout
    /// ([`set_pass`](Self::set_pass)).
    pub fn of(module: M, builder: Builder, how: &Initialise, cpu: Cpu) -> Self {
        let layout = builder.into_layout();
        let mut initial = layout.zeros::<f32>();
        module.initialise(how, &layout, &mut initial);
        let mut parameters = layout.zeros();
        for (to, from) in parameters.iter_mut().zip(&initial[..]) {
            *to = E::from_f64(f64::from(*from));
        }
        let mut packed = module.packed(cpu.isa, true);
        module.pack(&cpu, &layout, &parameters, &mut packed);
        let (gradients, tape) = (layout.zeros(), M::Tape::default());
        Self { module, layout, parameters, gradients, packed, tape, pass: Pass::Traced, cpu }
    }

    /// The module.
    pub fn module(&self) -> &M {
        &self.module
    }

    /// The tape of the last run.
    pub fn module_tape(&self) -> &M::Tape {
        &self.tape
    }

    /// Names, shapes and ranges of the parameters. Those of a [`Stack`] have the names that PyTorch gives them:
    /// `weight_ih_l0`, `weight_hh_l0`, `bias_ih_l0`, ...
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// All parameters, in the [`layout`](Self::layout).
    pub fn parameters(&self) -> &[E] {
        &self.parameters
    }

    /// Calls `change` with the layout and the parameters, then packs them again.
    pub fn set_parameters(&mut self, change: impl FnOnce(&Layout, &mut [E])) {
        change(&self.layout, &mut self.parameters);
        self.module.pack(&self.cpu, &self.layout, &self.parameters, &mut self.packed);
    }

    /// The gradients of the parameters, in the [`layout`](Self::layout).
    pub fn gradients(&self) -> &[E] {
        &self.gradients
    }

    /// Sets the gradients of the parameters to 0.
    pub fn clear_gradients(&mut self) {
        self.gradients.fill(E::ZERO);
    }

    /// Changes a setting of the tape, from the next run on.
    ///
    /// # Panics
    /// If the module cannot have the setting; see [`TapeSetting`].
    pub fn set(&mut self, setting: TapeSetting) {
        self.module.set(&mut self.tape, setting);
    }

    /// Sets the kind of pass of later runs: [`Pass::Traced`], the default, [`Pass::Training`] to apply dropout, or
    /// [`Pass::Inference`], after which [`backward`](Self::backward) panics.
    pub fn set_pass(&mut self, pass: Pass) {
        self.pass = pass;
    }

    /// A state of `streams` streams that have not begun.
    pub fn new_state(&self, streams: usize) -> State<E> {
        State::new(&self.module.state_shape(), streams)
    }

    fn call<'a>(
        module: &M,
        context: Context<'a, E>,
        packed: &'a M::Packed,
        rows: &'a Ragged,
        x: &'a M::Input,
        start: Option<&'a State<E>>,
    ) -> Call<'a, E, M> {
        start.into_iter().for_each(|state| state.assert_fits(module.state_count(), rows.batch()));
        Call { context, packed, rows, x, start: start.map(State::start) }
    }

    /// Runs the module over a batch, from the state `start`, or from the initial state.
    ///
    /// # Panics
    /// If the length of `x` does not match the batch, or `start` does not have the module's arrays and one stream for
    /// each sequence.
    pub fn run(&mut self, rows: &Ragged, x: &M::Input, start: Option<&State<E>>) -> Run<E> {
        let Self { module, layout, parameters, packed, cpu, tape, pass, .. } = self;
        let context = Context { cpu, layout, parameters, pass: *pass };
        module.forward(Self::call(module, context, packed, rows, x, start), tape);
        let mut last = State::new(&module.state_shape(), rows.batch());
        module.end(rows, tape, last.arrays_mut());
        last.begin();
        Run { output: module.output(rows, tape).1.to_vec(), last }
    }

    /// Backpropagates through the last [`run`](Self::run), whose arguments must be repeated, and adds to the gradients
    /// of the parameters. `dy` `[rows out, F]` is the gradient of the output, `d_last` that of the final state; `None`
    /// for zero.
    ///
    /// # Panics
    /// If the arguments differ from those of the run, the run kept no tape, or a length does not match.
    pub fn backward(
        &mut self,
        rows: &Ragged,
        x: &M::Input,
        start: Option<&State<E>>,
        dy: Option<&[E]>,
        d_last: Option<&State<E>>,
    ) -> InputGradients<E> {
        let Self { module, layout, parameters, packed, cpu, tape, gradients, pass } = self;
        let context = Context { cpu, layout, parameters, pass: *pass };
        d_last.into_iter().for_each(|state| state.assert_fits(module.state_count(), rows.batch()));
        let mut dy = dy.map(<[E]>::to_vec);
        let mut dx = alloc::vec![E::ZERO; module.input_length(x)];
        let mut d_start = State::new(&module.state_shape(), rows.batch());
        let has_dx = !dx.is_empty();
        module.backward(
            Self::call(module, context, packed, rows, x, start),
            Gradients {
                dy: dy.as_deref_mut(),
                d_end: d_last.map(State::arrays),
                dx: has_dx.then_some(&mut dx),
                d_start: Some(d_start.arrays_mut()),
                parameters: gradients,
            },
            tape,
        );
        InputGradients { x: dx, start: d_start }
    }

    /// Runs one step of each stream, advances `state`, and returns the output, `[B, F]`.
    ///
    /// # Errors
    /// [`Error::NoSteps`](crate::Error::NoSteps) if the module needs the whole sequence. Some arrays of `state` may
    /// have advanced by then.
    ///
    /// # Panics
    /// If the length of `x` does not match the number of streams, or `state` does not have the module's arrays.
    pub fn step(&mut self, x: &M::Input, state: &mut State<E>) -> Result<&[E]> {
        let Self { module, layout, parameters, packed, cpu, tape, .. } = self;
        state.assert_fits(module.state_count(), state.streams());
        let context = Context { cpu, layout, parameters, pass: Pass::Inference };
        let (begun, arrays) = state.begun_and_arrays_mut();
        let y = module.step(Step { context, packed, x, begun }, arrays, tape)?;
        state.begin();
        Ok(y)
    }

    /// Clips the gradients to the global norm `clip_norm` (infinity for no clipping), updates the parameters by
    /// `optimiser`, clears the gradients, and returns their norm before clipping.
    ///
    /// # Panics
    /// If `optimiser` was made for another number of parameters.
    pub fn update(&mut self, optimiser: &mut Optimiser<E>, learning_rate: f64, clip_norm: f64) -> f64 {
        let Cpu { isa, threads } = &self.cpu;
        let norm = libm::sqrt(reduce::sum_of_squares(*isa, threads, &self.gradients));
        let factor = clipping_factor(norm, clip_norm);
        optimiser.step(*isa, threads, learning_rate, factor, &mut self.parameters, &self.gradients);
        self.module.pack(&self.cpu, &self.layout, &self.parameters, &mut self.packed);
        self.clear_gradients();
        norm
    }

    /// What tells this module from others whose parameters have the same names and shapes, as JSON on one line.
    fn kind(&self) -> String {
        let cells: Vec<String> = self
            .module
            .cells()
            .into_iter()
            .map(|(name, cell)| format!("{}:{:?}", serde_json::Value::from(name), cell.name()))
            .collect();
        format!("{{\"format_version\":1,\"cells\":{{{}}}}}", cells.join(","))
    }
}

impl<M: Module<f32>> Standalone<M, f32> {
    /// The bytes of a safetensors file with every parameter by its name.
    pub fn to_safetensors(&self) -> Vec<u8> {
        weights::save(&self.kind(), &self.layout, &self.parameters)
    }

    /// Loads the parameters from the bytes of a safetensors file that the same module wrote.
    ///
    /// # Errors
    /// [`Error::Weights`](crate::Error::Weights) if the file is damaged or belongs to another model. The parameters are
    /// then unchanged.
    pub fn load_safetensors(&mut self, bytes: &[u8]) -> Result<()> {
        let mut parameters = self.layout.zeros();
        weights::load(&self.kind(), &self.layout, bytes, &mut parameters)?;
        self.set_parameters(|_, old| old.copy_from_slice(&parameters));
        Ok(())
    }
}
