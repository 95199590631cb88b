//! A network that learns, with all that belongs to it.

use std::time::Instant;

use throughline_inspect::Subject;
use throughline_kernels::buffer::Buffer;
use throughline_kernels::ops::reduce;
use throughline_kernels::optim::{Adam, Method, Optimiser, clipping_factor};
use throughline_kernels::sequence::Ragged;
use throughline_nn::heads::{Head, Loss, Softmax};
use throughline_nn::initialise::Initialise;
use throughline_nn::layers::recurrent::Readout;
use throughline_nn::layers::{Recurrent, RecurrentConfig};
use throughline_nn::module::{Cpu, Layer, Module, Pass};
use throughline_nn::network::{Input, Network, PackedNetwork, Wanted, Weights, Workspace};
use throughline_nn::parameters::Builder;
use throughline_nn::state::State;

/// Sequences of vectors with their targets.
pub struct Batch<T> {
    pub rows: Ragged,
    /// `[N, C]`, packed.
    pub x: Vec<f32>,
    /// One for each row of the body's output.
    pub targets: Vec<T>,
}

/// What a learner is updated with.
#[derive(Clone, Copy, Debug)]
pub struct Learning {
    pub method: Method,
    pub rate: f64,
    /// The largest norm of a gradient; infinity for any.
    pub clip: f64,
}

impl Learning {
    /// Adam, clipped to 1.
    pub fn adam(rate: f64) -> Self {
        Self { method: Method::Adam(Adam::default()), rate, clip: 1.0 }
    }
}

/// What a step of a stream took.
pub struct Streamed {
    pub microseconds: f64,
    /// Those of the state after it.
    pub bytes: usize,
}

/// A network with its parameters, on one thread: learners side by side use the cores better.
pub struct Learner<B: Module<f32>, H: Head<f32>> {
    pub network: Network<B, H>,
    cpu: Cpu,
    parameters: Buffer<f32>,
    gradients: Buffer<f32>,
    packed: PackedNetwork<f32, B, H>,
    optimiser: Optimiser<f32>,
    workspace: Workspace<f32, B, H>,
    pub learning: Learning,
}

/// A recurrent stack under a softmax.
pub type Classifier = Learner<Recurrent, Softmax>;

/// A stack that answers with one of `classes`, at each row or after the last.
pub fn classifier(config: RecurrentConfig, readout: Readout, classes: usize) -> Network<Recurrent, Softmax> {
    let mut builder = Builder::new();
    let stack = Recurrent::new(&mut builder, "rnn", config).with_readout(readout);
    let head = Softmax::new(&mut builder, "head", stack.width(), classes);
    stack.ending_in(head, builder)
}

impl<T, B: Module<f32, Input = [f32]>, H: Head<f32, Target = [T]>> Learner<B, H> {
    pub fn new(network: Network<B, H>, how: &Initialise, learning: Learning) -> Self {
        let cpu = Cpu::new(1);
        let parameters = network.initialise(how);
        let packed = network.packed(&cpu, &parameters, true);
        let (gradients, length) = (network.layout().zeros(), network.layout().length());
        let optimiser = Optimiser::new(learning.method, length);
        Self { network, cpu, parameters, gradients, packed, optimiser, workspace: Workspace::default(), learning }
    }

    /// On so many threads.
    pub fn on(self, threads: usize) -> Self {
        Self { cpu: Cpu::new(threads), ..self }
    }

    fn weights(&self) -> Weights<'_, f32, B, H> {
        Weights { cpu: &self.cpu, parameters: &self.parameters, packed: &self.packed }
    }

    /// Learns from a batch; the loss, and the norm of its gradient before clipping.
    pub fn learn(&mut self, batch: &Batch<T>) -> (Loss, f64) {
        let Self { network, cpu, parameters, gradients, packed, optimiser, workspace, learning } = self;
        gradients.fill(0.0);
        let weights = Weights { cpu, parameters, packed };
        let (input, wanted) = (Input::new(&batch.rows, &batch.x[..]), Wanted::new(&batch.targets[..]));
        let loss = network.learn(weights, input, wanted, Pass::Traced, gradients, workspace);
        let norm = reduce::sum_of_squares(cpu.isa, &cpu.threads, gradients).sqrt();
        let factor = clipping_factor(norm, learning.clip);
        optimiser.step(cpu.isa, &cpu.threads, learning.rate, factor, parameters, gradients);
        network.pack(cpu, parameters, packed);
        (loss, norm)
    }

    pub fn evaluate(&mut self, batch: &Batch<T>) -> Loss {
        let Self { network, cpu, parameters, packed, workspace, .. } = self;
        let weights = Weights { cpu, parameters, packed };
        let (input, wanted) = (Input::new(&batch.rows, &batch.x[..]), Wanted::new(&batch.targets[..]));
        network.evaluate(weights, input, wanted, workspace)
    }

    /// The head's numbers, `[rows out, width]`.
    pub fn predict(&mut self, batch: &Batch<T>) -> &[f32] {
        let Self { network, cpu, parameters, packed, workspace, .. } = self;
        network.predict(Weights { cpu, parameters, packed }, Input::new(&batch.rows, &batch.x[..]), workspace)
    }

    /// What each of `steps` steps took of one stream that goes on reading `x`.
    pub fn stream(&mut self, x: &[f32], steps: usize) -> Vec<Streamed> {
        let Self { network, cpu, parameters, packed, workspace, .. } = self;
        let mut state = State::new(&network.state_shape(), 1);
        let streamed = (0..steps).map(|_| {
            let begun = Instant::now();
            let weights = Weights { cpu, parameters, packed };
            network.step(weights, x, &mut state, workspace).expect("the network reads forward, and so many steps");
            Streamed { microseconds: begun.elapsed().as_secs_f64() * 1e6, bytes: state.bytes() }
        });
        streamed.collect()
    }

    /// The tape of the last pass.
    pub fn tape(&self) -> &B::Tape {
        &self.workspace.body
    }

    /// What can be looked into.
    pub fn subject<'a>(&'a self, batch: &'a Batch<T>) -> Subject<'a, f32, B, H> {
        let Batch { rows, x, targets } = batch;
        Subject { network: &self.network, weights: self.weights(), rows, x, targets }
    }
}
