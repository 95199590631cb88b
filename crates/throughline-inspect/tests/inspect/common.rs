//! Small networks with a softmax over a recurrent stack.

use throughline_inspect::{Gates, Inspection, Options, Probe, Subject, gate_statistics, gradient_flow, interventions};
use throughline_kernels::Element;
use throughline_kernels::sequence::Ragged;
use throughline_nn::heads::Softmax;
use throughline_nn::initialise::Initialise;
use throughline_nn::layers::{Recurrent, RecurrentConfig};
use throughline_nn::module::{Cpu, Layer, Module};
use throughline_nn::network::{Network, PackedNetwork, Weights};
use throughline_nn::parameters::Builder;

pub const CLASSES: usize = 3;

/// A network, its parameters, and a batch with targets.
pub struct Model<E: Element, B: Module<E>> {
    pub cpu: Cpu,
    pub network: Network<B, Softmax>,
    pub parameters: Vec<E>,
    pub rows: Ragged,
    pub x: Vec<E>,
    pub targets: Vec<u32>,
    packed: PackedNetwork<E, B, Softmax>,
}

/// Numbers from -1 to 1 that look random.
pub fn numbers<E: Element>(seed: usize, count: usize) -> Vec<E> {
    let number = |index: usize| ((index * 7919 + seed * 104_729 + 13) % 2003) as f64 / 1001.0 - 1.0;
    (0..count).map(|index| E::from_f64(number(index))).collect()
}

/// A stack that is scored at every step.
pub fn stepwise<E: Element>(config: RecurrentConfig, lengths: &[usize]) -> Model<E, Recurrent> {
    let mut builder = Builder::new();
    let stack = Recurrent::new(&mut builder, "rnn", config);
    let head = Softmax::new(&mut builder, "head", config.output(), CLASSES);
    let rows = Ragged::new(lengths);
    let targets = (0..rows.rows()).map(|row| (row * 5 % CLASSES) as u32).collect();
    Model::new(stack.ending_in(head, builder), config.input, rows, targets)
}

impl<E: Element, B: Module<E, Input = [E]>> Model<E, B> {
    pub fn new(network: Network<B, Softmax>, input: usize, rows: Ragged, targets: Vec<u32>) -> Self {
        let cpu = Cpu::new(1);
        let initial = network.initialise(&Initialise { forget_bias: 1.0, ..Initialise::new(3) });
        let parameters: Vec<E> = initial.iter().map(|x| E::from_f64(f64::from(*x))).collect();
        let x = numbers(1, rows.rows() * input);
        let packed = network.packed(&cpu, &parameters, true);
        Self { cpu, network, parameters, rows, x, targets, packed }
    }

    /// Changes each number of a parameter.
    pub fn change(&mut self, name: &str, change: impl Fn(usize, f64) -> f64) {
        let id = self.network.layout().find(name).expect("a parameter");
        let view = self.network.layout().view_mut(&mut self.parameters, id);
        view.iter_mut().enumerate().for_each(|(place, x)| *x = E::from_f64(change(place, x.to_f64())));
        self.packed = self.network.packed(&self.cpu, &self.parameters, true);
    }

    pub fn weights(&self) -> Weights<'_, E, B, Softmax> {
        Weights { cpu: &self.cpu, parameters: &self.parameters, packed: &self.packed }
    }

    pub fn subject(&self) -> Subject<'_, E, B, Softmax> {
        let Self { network, rows, x, targets, .. } = self;
        Subject { network, weights: self.weights(), rows, x, targets }
    }

    pub fn gates(&self) -> Gates {
        gate_statistics(&Probe::new(self.subject(), false))
    }

    pub fn inspected(&self) -> Inspection {
        let anchors = Options::default().anchors;
        let mut probe = Probe::new(self.subject(), true);
        let mut cell = None;
        probe.stacks(&mut |stack, _| cell = Some(stack.config().cell));
        Inspection {
            cell,
            pools_steps: probe.pools_steps(),
            sequences: self.rows.batch(),
            steps: self.rows.rows(),
            gates: gate_statistics(&probe),
            flow: gradient_flow(&mut probe, anchors),
            effects: interventions(self.subject(), &self.x),
            spectra: Vec::new(),
            examples: Vec::new(),
        }
    }
}
