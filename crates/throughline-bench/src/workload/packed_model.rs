//! A network with its packed weights and its memory, as the language model and the classifier have it.

use anyhow::{Context, Result};
use throughline_kernels::buffer::Buffer;
use throughline_kernels::threads::Threads;
use throughline_nn::config::{ModelConfig, Task};
use throughline_nn::initialise::Initialisation;
use throughline_nn::network::{Dropouts, Network, PackedNetwork, Workspace};

use super::Setup;
use crate::timing::Machine;

pub struct PackedModel {
    pub network: Network,
    pub packed: PackedNetwork<f32>,
    pub workspace: Workspace<f32>,
}

impl PackedModel {
    pub fn new(machine: &Machine, setup: &Setup, task: Task) -> Result<Self> {
        let classes = (task == Task::Classify).then_some(setup.outputs);
        let (recurrent, vocabulary) = (setup.sizes.config, setup.vocabulary);
        let config = ModelConfig { task, recurrent, vocabulary, classes, tied: false };
        let network = Network::new(config, Dropouts::default()).context("the sizes make no model")?;
        let nothing = network.layout().zeros();
        let packed = network.packed(machine.isa, &machine.threads, &nothing, true);
        let workspace = network.workspace(&machine.threads);
        Ok(Self { network, packed, workspace })
    }

    pub fn initialise(&self) -> Buffer<f32> {
        self.network.initialise(1, Initialisation::Uniform, 0.0)
    }

    pub fn pack(&mut self, threads: &Threads, parameters: &[f32]) {
        self.network.pack(threads, parameters, &mut self.packed);
    }
}
