//! A language model: parallel streams of tokens, the states continuing from window to window.

use anyhow::{Result, bail};
use throughline_kernels::buffer::Buffer;
use throughline_kernels::random::Stream;
use throughline_kernels::sequence::Ragged;
use throughline_kernels::threads::Threads;
use throughline_nn::config::Task;
use throughline_nn::language_model::Window;
use throughline_nn::network::Weights;
use throughline_nn::parameters::Layout;
use throughline_nn::recurrent::{Pass, States};

use super::packed_model::PackedModel;
use super::{Setup, Workload, draw};
use crate::record::Record;
use crate::timing::Machine;

pub struct LanguageModel {
    model: PackedModel,
    time: usize,
    streams: usize,
    /// `[T, B]`
    inputs: Vec<u32>,
    targets: Vec<u32>,
    /// Those at the end of the last window.
    states: Option<States<f32>>,
}

impl LanguageModel {
    pub fn new(machine: &Machine, setup: &Setup) -> Result<Self> {
        let lengths = &setup.sizes.lengths;
        let (time, streams) = (lengths[0], lengths.len());
        let [least, most] = [lengths.iter().min(), lengths.iter().max()].map(|length| length.expect("there is one"));
        if least != most {
            bail!(
                "--lengths: expected one length for all streams of a language model, found {least} to {most}; use --time"
            );
        }
        let model = PackedModel::new(machine, setup, Task::Lm)?;
        let tokens = || vec![0; time * streams];
        Ok(Self { model, time, streams, inputs: tokens(), targets: tokens(), states: None })
    }

    /// `[T, B]` to `[B, T]`
    fn by_stream(&self, tokens: &[u32]) -> Vec<i64> {
        let of_stream = |stream| tokens[stream..].iter().step_by(self.streams);
        (0..self.streams).flat_map(of_stream).map(|&token| i64::from(token)).collect()
    }
}

impl Workload for LanguageModel {
    fn layout(&self) -> &Layout {
        self.model.network.layout()
    }

    fn initialise(&self) -> Buffer<f32> {
        self.model.initialise()
    }

    fn pack(&mut self, threads: &Threads, parameters: &[f32]) {
        self.model.pack(threads, parameters);
    }

    fn draw(&mut self, random: &mut Stream) {
        let vocabulary = self.model.network.config().vocabulary;
        draw(random, vocabulary, &mut self.inputs);
        draw(random, vocabulary, &mut self.targets);
    }

    fn learn(&mut self, threads: &Threads, parameters: &[f32], gradients: &mut [f32]) -> f64 {
        let Self { model: PackedModel { network, packed, workspace }, time, streams, inputs, targets, states } = self;
        let batch = Ragged::even(*time, *streams);
        let window = Window { batch: &batch, inputs, targets, first_scored: 0 };
        let weights = Weights { parameters, packed, threads };
        let initial = states.as_ref();
        let trained = network.train_language_model(weights, &window, initial, Pass::Traced, gradients, workspace);
        let states = states.get_or_insert_with(States::default);
        network.recurrent().states_after(&batch, *time, workspace.recurrent(), states);
        trained.loss.mean()
    }

    fn describe(&self, record: &mut Record<'_>) {
        let shape = [self.streams, self.time];
        record.whole_numbers("tokens", &shape, self.by_stream(&self.inputs));
        record.whole_numbers("targets", &shape, self.by_stream(&self.targets));
    }
}
