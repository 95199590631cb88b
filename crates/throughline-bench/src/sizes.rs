//! The sizes of a stack and its batch, and the operations they take.

use anyhow::{Result, bail};
use throughline_kernels::random::{Philox, Purpose};
use throughline_nn::layers::RecurrentConfig;

use crate::arguments::{Arguments, Lengths};
use crate::record::Record;

/// The sizes of a stack and its batch.
pub struct Sizes {
    pub config: RecurrentConfig,
    pub lengths: Vec<usize>,
}

/// The sizes that apply where the arguments give none.
pub struct Defaults {
    pub lengths: Lengths,
    pub batch: usize,
    pub input: usize,
    pub hidden: usize,
    pub layers: usize,
    pub bidirectional: bool,
}

impl Sizes {
    /// Those of a stack alone.
    pub fn of_stack(arguments: &Arguments) -> Result<Self> {
        let bidirectional = arguments.bidirectional;
        let lengths = Lengths::Between(20, 20);
        Self::new(arguments, Defaults { lengths, batch: 20, input: 200, hidden: 200, layers: 1, bidirectional })
    }

    pub fn new(arguments: &Arguments, defaults: Defaults) -> Result<Self> {
        let (input, hidden) = (arguments.input.unwrap_or(defaults.input), arguments.hidden.unwrap_or(defaults.hidden));
        let config = RecurrentConfig {
            layers: arguments.layers.unwrap_or(defaults.layers),
            bidirectional: defaults.bidirectional,
            layer_norm: arguments.layer_norm,
            ..RecurrentConfig::new(arguments.cell, input, hidden)
        };
        let lengths = match (&arguments.lengths, arguments.time) {
            (Some(lengths), _) => lengths,
            (None, Some(time)) => &Lengths::Between(time, time),
            (None, None) => &defaults.lengths,
        };
        let lengths = match lengths {
            Lengths::Between(least, most) => {
                let mut random = Philox::new(1, Purpose::Benchmark, 0).stream();
                let batch = arguments.batch.unwrap_or(defaults.batch);
                (0..batch).map(|_| least + random.below(most - least + 1)).collect()
            }
            Lengths::Listed(listed) => match arguments.batch {
                Some(batch) if batch != listed.len() => bail!(
                    "--lengths: expected as many numbers as --batch says, {batch}, found {}; leave --batch out, or give \
                     the lengths as MIN..MAX",
                    listed.len()
                ),
                _ => listed.clone(),
            },
        };
        Ok(Self { config, lengths })
    }

    /// The same with one step of every sequence.
    pub fn one_step(mut self) -> Self {
        self.lengths.fill(1);
        self
    }

    pub fn rows(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// Notes in a file what was run.
    pub fn describe(&self, record: &mut Record<'_>, what: &str) {
        record.note("what", what);
        record.note("cell", self.config.cell.names().recipe);
        record.note("input", self.config.input);
        record.note("hidden", self.config.hidden);
        record.note("layers", self.config.layers);
        record.note("bidirectional", self.config.bidirectional);
        record.note("layer_norm", self.config.layer_norm);
        record.note("batch", self.lengths.len());
    }
}

/// Operations of the products of a forward pass over `rows` rows: 2·N·G·H·(I + H) for each layer and direction. A
/// backward pass has twice as many.
pub fn products(config: &RecurrentConfig, rows: usize) -> f64 {
    let direction = |input: usize| (config.cell.gates() * config.hidden * (input + config.hidden)) as f64;
    let stack = direction(config.input) + (config.layers - 1) as f64 * direction(config.output());
    2.0 * rows as f64 * config.directions() as f64 * stack
}
