//! What the tests share: random numbers, tensors by name, a network with all that belongs to it.
#![allow(dead_code, reason = "every test file uses its own part")]

use throughline_kernels::buffer::Buffer;
use throughline_kernels::cells::CellKind;
use throughline_kernels::random::{Philox, Purpose, Stream};
use throughline_kernels::threads::Threads;
use throughline_kernels::{Element, Isa};
use throughline_nn::config::{ModelConfig, Task};
use throughline_nn::network::{Dropouts, Network, PackedNetwork, Weights, Workspace};
use throughline_nn::parameters::Layout;
use throughline_nn::recurrent::RecurrentConfig;
use throughline_testkit::vectors::Tensors;
use throughline_testkit::{OracleCell, assert_close};

/// The oracle's cell of the same name.
pub fn oracle_cell(cell: CellKind) -> OracleCell {
    OracleCell::from_name(cell.name())
}

/// Random numbers for tests.
pub struct Numbers(Stream);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(Philox::new(seed, Purpose::Benchmark, 0).stream())
    }

    /// `count` numbers in (-scale, scale).
    pub fn draw<E: Element>(&mut self, count: usize, scale: f64) -> Vec<E> {
        (0..count).map(|_| E::from_f64((2.0 * self.0.uniform() - 1.0) * scale)).collect()
    }

    /// `count` numbers below `bound`.
    pub fn tokens(&mut self, count: usize, bound: usize) -> Vec<u32> {
        (0..count).map(|_| self.0.below(bound) as u32).collect()
    }
}

/// Puts the tensors named `{prefix}...` where `layout` has them. Neither side may have one that the other lacks.
pub fn fill(layout: &Layout, prefix: &str, tensors: &Tensors, buffer: &mut [f32]) {
    assert_eq!(tensors.len(), layout.tensors().len(), "as many tensors as parameters");
    for (name, tensor) in tensors {
        let name = format!("{prefix}{name}");
        let id = layout.find(&name).unwrap_or_else(|| panic!("there is no parameter {name}"));
        assert_eq!(layout.tensor(id).shape(), tensor.shape, "{name}");
        layout.view_mut(buffer, id).copy_from_slice(&tensor.data);
    }
}

/// Asserts that two buffers of `layout` are close, tensor by tensor.
#[track_caller]
pub fn assert_close_tensors(what: &str, layout: &Layout, got: &[f64], want: &[f64], tolerance: f64) {
    for tensor in layout.tensors() {
        let name = format!("{what} of {}", tensor.name());
        assert_close(&name, &got[tensor.range()], &want[tensor.range()], tolerance);
    }
}

/// A language model.
pub fn language_model(recurrent: RecurrentConfig, vocabulary: usize, tied: bool) -> ModelConfig {
    ModelConfig { task: Task::Lm, recurrent, vocabulary, classes: None, tied }
}

/// A classifier.
pub fn classifier(recurrent: RecurrentConfig, vocabulary: usize, classes: usize) -> ModelConfig {
    ModelConfig { task: Task::Classify, recurrent, vocabulary, classes: Some(classes), tied: false }
}

/// A network with its parameters, packed, and the memory to run it.
pub struct Model<E> {
    pub network: Network,
    pub threads: Threads,
    pub parameters: Buffer<E>,
    pub packed: PackedNetwork<E>,
    pub workspace: Workspace<E>,
}

impl<E: Element> Model<E> {
    /// Random parameters in ±`scale`; learned initial states too.
    pub fn new(config: ModelConfig, dropouts: Dropouts, threads: usize, seed: u64, scale: f64) -> Self {
        let network = Network::new(config, dropouts).expect("the configuration is possible");
        let threads = Threads::new(threads);
        let mut parameters = network.layout().zeros();
        let mut numbers = Numbers::new(seed);
        for tensor in network.layout().tensors() {
            parameters[tensor.range()].copy_from_slice(&numbers.draw::<E>(tensor.count(), scale));
        }
        let packed = network.packed(Isa::detect(), &threads, &parameters, true);
        let workspace = network.workspace(&threads);
        Self { network, threads, parameters, packed, workspace }
    }

    /// Changes the parameters and packs them anew.
    pub fn set(&mut self, change: impl FnOnce(&Layout, &mut [E])) {
        change(self.network.layout(), &mut self.parameters);
        self.network.pack(&self.threads, &self.parameters, &mut self.packed);
    }

    /// What a call needs: the network, its weights, the memory.
    pub fn parts(&mut self) -> (&Network, Weights<'_, E>, &mut Workspace<E>) {
        let weights = Weights { parameters: &self.parameters, packed: &self.packed, threads: &self.threads };
        (&self.network, weights, &mut self.workspace)
    }
}
