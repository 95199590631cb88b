//! The models whose training step is timed, one file each, and the sizes and optimiser of each.

mod classifier;
mod language_model;
mod packed_model;
mod tagger;

use anyhow::Result;
use clap::ValueEnum;
use throughline_kernels::buffer::Buffer;
use throughline_kernels::optim::{Adam, Method, Sgd};
use throughline_kernels::random::Stream;
use throughline_kernels::threads::Threads;
use throughline_nn::parameters::Layout;

use crate::arguments::{Arguments, Lengths, ModelChoice};
use crate::memory::{self, Needs};
use crate::record::Record;
use crate::sizes::{Defaults, Sizes, products};
use crate::timing::Machine;
use classifier::Classifier;
use language_model::LanguageModel;
use tagger::Tagger;

/// A model and its data: all of a training step but the optimiser.
pub trait Workload: Send {
    fn layout(&self) -> &Layout;

    /// New parameters.
    fn initialise(&self) -> Buffer<f32>;

    /// Packs changed parameters.
    fn pack(&mut self, threads: &Threads, parameters: &[f32]);

    /// New tokens and targets.
    fn draw(&mut self, random: &mut Stream);

    /// The mean loss; adds its gradient to `gradients`.
    fn learn(&mut self, threads: &Threads, parameters: &[f32], gradients: &mut [f32]) -> f64;

    /// Adds tokens and targets, in the order of the sequences: `tokens` `[B, T]`, 0 where there are none.
    fn describe(&self, record: &mut Record<'_>);
}

/// The sizes of a model and how it is optimised.
pub struct Setup {
    model: ModelChoice,
    pub sizes: Sizes,
    pub vocabulary: usize,
    /// Rows of the head.
    pub outputs: usize,
    pub method: Method,
    pub learning_rate: f64,
    /// The largest norm of the gradient; none where it is not clipped.
    pub clip_norm: Option<f64>,
}

impl Setup {
    pub fn new(arguments: &Arguments, model: ModelChoice) -> Result<Self> {
        let even = |time| Lengths::Between(time, time);
        let (sgd, adam) = (Method::Sgd(Sgd::default()), Method::Adam(Adam::default()));
        let (lengths, batch, input, hidden, layers, bidirectional) = match model {
            ModelChoice::WordLm => (even(20), 20, 200, 200, 2, false),
            ModelChoice::CharLm => (even(256), 64, 96, 512, 2, false),
            ModelChoice::Tagger => (even(50), 32, 100, 256, 1, true),
            ModelChoice::Classifier => (Lengths::Between(50, 200), 32, 128, 256, 1, true),
        };
        let sizes = Sizes::new(arguments, Defaults { lengths, batch, input, hidden, layers, bidirectional })?;
        let vocabulary = |of_model| arguments.vocabulary.unwrap_or(of_model);
        let (vocabulary, outputs, method, learning_rate, clip_norm) = match model {
            ModelChoice::WordLm => (vocabulary(10_000), vocabulary(10_000), sgd, 1.0, Some(5.0)),
            ModelChoice::CharLm => (vocabulary(96), vocabulary(96), adam, 1e-3, Some(1.0)),
            ModelChoice::Tagger => (vocabulary(20_000), 17, adam, 1e-3, None),
            ModelChoice::Classifier => (vocabulary(20_000), 2, adam, 1e-3, None),
        };
        Ok(Self { model, sizes, vocabulary, outputs, method, learning_rate, clip_norm })
    }

    pub fn check_memory(&self, arguments: &Arguments) -> Result<()> {
        let (copies, vocabulary, outputs) = (2 + self.method.moments().len(), self.vocabulary, self.outputs);
        memory::check(&self.sizes, &Needs { copies, train: true, vocabulary, outputs, others: 0 }, arguments)
    }

    /// Rows that the head reads.
    fn scored(&self) -> usize {
        if self.model == ModelChoice::Classifier { self.sizes.lengths.len() } else { self.sizes.rows() }
    }

    /// Operations of the products of a step: forward, and twice as many backward.
    pub fn operations(&self) -> f64 {
        let config = &self.sizes.config;
        let head = 2.0 * (self.scored() * config.output() * self.outputs) as f64;
        3.0 * (products(config, self.sizes.rows()) + head)
    }

    /// The model with room for its data.
    pub fn workload(&self, machine: &Machine) -> Result<Box<dyn Workload>> {
        Ok(match self.model {
            ModelChoice::WordLm | ModelChoice::CharLm => Box::new(LanguageModel::new(machine, self)?),
            ModelChoice::Tagger => Box::new(Tagger::new(machine, self)),
            ModelChoice::Classifier => Box::new(Classifier::new(machine, self)?),
        })
    }

    /// The name in arguments and files.
    pub fn name(&self) -> String {
        self.model.to_possible_value().expect("every model has a name").get_name().to_owned()
    }
}

/// Whole numbers below `bound`.
fn draw(random: &mut Stream, bound: usize, numbers: &mut [u32]) {
    numbers.iter_mut().for_each(|number| *number = random.below(bound) as u32);
}
