//! `throughline bench`: times what there is to time on this machine, with random data.
//!
//! - [`layer`]: a recurrent stack over a whole batch;
//! - [`explain`]: how its work is shared out, and whether another way would be faster;
//! - [`step`]: one streaming step;
//! - [`model`]: a whole training step;
//! - [`maths`]: the elementwise functions.

mod explain;
mod file;
mod layer;
mod maths;
mod model;
mod step;
mod timing;

use anyhow::{Result, bail};
use clap::ValueEnum;
use throughline::prelude::*;

use crate::arguments::{BenchArguments, BenchCell, BenchLengths, BenchMode};
use crate::output::say_line;
use file::Record;

/// More memory, in bytes, is not asked for.
const MOST_MEMORY: f64 = 64.0 * GIB;
const GIB: f64 = (1_u64 << 30) as f64;

pub fn run(arguments: &BenchArguments) -> Result<()> {
    let report = match (arguments.maths, arguments.model, arguments.mode) {
        (true, _, _) => maths::report(arguments)?,
        (_, Some(model), _) => model::report(arguments, model)?,
        (_, _, BenchMode::Step) if arguments.explain => {
            bail!("--explain: expected --mode forward or train, found step, which runs on one thread and has no plan")
        }
        (_, _, BenchMode::Step) => step::report(arguments)?,
        (_, _, BenchMode::Forward | BenchMode::Train) if arguments.explain => explain::report(arguments)?,
        (_, _, BenchMode::Forward | BenchMode::Train) => layer::report(arguments)?,
    };
    Ok(say_line(&report)?)
}

/// The sizes of a stack and its batch.
struct Sizes {
    cell: BenchCell,
    config: RecurrentConfig,
    lengths: Vec<usize>,
}

/// The sizes where the arguments give none.
struct Defaults {
    lengths: BenchLengths,
    batch: usize,
    input: usize,
    hidden: usize,
    layers: usize,
    bidirectional: bool,
}

impl Sizes {
    /// Of a stack alone.
    fn of_stack(arguments: &BenchArguments) -> Result<Self> {
        let bidirectional = arguments.bidirectional;
        let lengths = BenchLengths::Between(20, 20);
        Self::new(arguments, Defaults { lengths, batch: 20, input: 200, hidden: 200, layers: 1, bidirectional })
    }

    fn new(arguments: &BenchArguments, defaults: Defaults) -> Result<Self> {
        let cell = match arguments.cell {
            BenchCell::Lstm => CellKind::Lstm,
            BenchCell::Gru => CellKind::GruAfter,
            BenchCell::GruBefore => CellKind::GruBefore,
            BenchCell::Rnn => CellKind::RnnTanh,
        };
        let (input, hidden) = (arguments.input.unwrap_or(defaults.input), arguments.hidden.unwrap_or(defaults.hidden));
        let config = RecurrentConfig {
            layers: arguments.layers.unwrap_or(defaults.layers),
            bidirectional: defaults.bidirectional,
            ..RecurrentConfig::new(cell, input, hidden)
        };
        let asked = match (&arguments.lengths, arguments.time) {
            (Some(lengths), _) => lengths,
            (None, Some(time)) => &BenchLengths::Between(time, time),
            (None, None) => &defaults.lengths,
        };
        let lengths = match asked {
            BenchLengths::Between(least, most) => {
                let mut random = Philox::new(1, Purpose::Benchmark, 0).stream();
                let batch = arguments.batch.unwrap_or(defaults.batch);
                (0..batch).map(|_| least + random.below(most - least + 1)).collect()
            }
            BenchLengths::These(these) => match arguments.batch {
                Some(batch) if batch != these.len() => bail!(
                    "--lengths: expected as many numbers as --batch says, {batch}, found {}; leave --batch out, or give \
                     the lengths as MIN..MAX",
                    these.len()
                ),
                _ => these.clone(),
            },
        };
        Ok(Self { cell: arguments.cell, config, lengths })
    }

    /// The same with one step of every sequence.
    fn one_step(mut self) -> Self {
        self.lengths.fill(1);
        self
    }

    fn rows(&self) -> usize {
        self.lengths.iter().sum()
    }

    /// Refuses sizes that no memory holds. Counts in floating point, which does not overflow, what there is at least:
    /// input, output, gates and states of every layer, and all of them, as the weights, with their gradients; and
    /// `others` parameters that are not the stack's.
    fn check_memory(&self, others: usize) -> Result<()> {
        let config = &self.config;
        let (input, hidden, layers) = (config.input as f64, config.hidden as f64, config.layers as f64);
        let (directions, gates) = (config.directions() as f64, config.cell.gates() as f64);
        let activations = self.rows() as f64 * (input + layers * directions * hidden * (gates + 1.0));
        let above = (layers - 1.0) * (directions + 1.0) * hidden;
        let weights = directions * gates * hidden * (input + hidden + above) + others as f64;
        let bytes = 2.0 * 4.0 * (activations + weights);
        if bytes > MOST_MEMORY {
            bail!(
                "expected sizes that fit {} GiB of memory, found some that need {:.0} GiB or more; make --time \
                 (--lengths), --batch, --input, --hidden, --layers or --vocabulary smaller",
                MOST_MEMORY / GIB,
                bytes / GIB
            );
        }
        Ok(())
    }

    /// Says in a file what was run.
    fn describe(&self, record: &mut Record<'_>, what: &str) {
        let cell = self.cell.to_possible_value().expect("every cell has a name");
        record.note("what", what);
        record.note("cell", cell.get_name());
        record.note("input", self.config.input);
        record.note("hidden", self.config.hidden);
        record.note("layers", self.config.layers);
        record.note("bidirectional", self.config.bidirectional);
        record.note("batch", self.lengths.len());
    }
}

/// Operations of the products of a forward pass over `rows` rows: 2·N·G·H·(I + H) for each layer and direction. A
/// backward pass has twice as many.
fn products(config: &RecurrentConfig, rows: usize) -> f64 {
    let direction = |input: usize| (config.cell.gates() * config.hidden * (input + config.hidden)) as f64;
    let stack = direction(config.input) + (config.layers - 1) as f64 * direction(config.output());
    2.0 * rows as f64 * config.directions() as f64 * stack
}
