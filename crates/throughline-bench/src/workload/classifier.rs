//! A classifier: sequences with one class each.

use std::iter::repeat;

use anyhow::Result;
use throughline_kernels::buffer::Buffer;
use throughline_kernels::random::Stream;
use throughline_kernels::threads::Threads;
use throughline_nn::classifier::Sequences;
use throughline_nn::config::Task;
use throughline_nn::network::Weights;
use throughline_nn::parameters::Layout;
use throughline_nn::recurrent::Pass;

use super::packed_model::PackedModel;
use super::{Setup, Workload, draw};
use crate::record::Record;
use crate::timing::Machine;

pub struct Classifier {
    model: PackedModel,
    texts: Vec<Vec<u32>>,
    targets: Vec<u32>,
    sequences: Sequences,
}

impl Classifier {
    pub fn new(machine: &Machine, setup: &Setup) -> Result<Self> {
        let model = PackedModel::new(machine, setup, Task::Classify)?;
        let texts: Vec<Vec<u32>> = setup.sizes.lengths.iter().map(|&length| vec![0; length]).collect();
        Ok(Self { model, targets: vec![0; texts.len()], texts, sequences: Sequences::default() })
    }
}

impl Workload for Classifier {
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
        let config = self.model.network.config();
        for text in &mut self.texts {
            draw(random, config.vocabulary, text);
        }
        draw(random, config.classes.expect("a classifier has classes"), &mut self.targets);
    }

    /// Packing the sequences is part of a step: every step has others.
    fn learn(&mut self, threads: &Threads, parameters: &[f32], gradients: &mut [f32]) -> f64 {
        let Self { model: PackedModel { network, packed, workspace }, texts, targets, sequences } = self;
        sequences.set(texts.iter().map(|text| &text[..]));
        let weights = Weights { parameters, packed, threads };
        network.train_classifier(weights, sequences, targets, Pass::Traced, gradients, workspace).loss.mean()
    }

    fn describe(&self, record: &mut Record<'_>) {
        let time = self.texts.iter().map(Vec::len).max().unwrap_or(0);
        let padded = |text: &Vec<u32>| text.iter().map(|&token| i64::from(token)).chain(repeat(0)).take(time).collect();
        let tokens: Vec<Vec<i64>> = self.texts.iter().map(padded).collect();
        record.whole_numbers("tokens", &[self.texts.len(), time], tokens.concat());
        let targets = self.targets.iter().map(|&target| i64::from(target)).collect();
        record.whole_numbers("targets", &[self.targets.len()], targets);
    }
}
