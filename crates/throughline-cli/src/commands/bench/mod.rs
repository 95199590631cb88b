//! `throughline bench`: times what there is to time on this machine, with random data.
//!
//! - [`layer`]: a recurrent stack over a whole batch;
//! - [`explain`]: how its work is shared out, and whether another way would be faster;
//! - [`step`]: one streaming step;
//! - [`model`]: a whole training step;
//! - [`maths`]: the elementwise functions;
//! - [`timing`]: how all of them are timed;
//! - [`memory`]: whether there is memory for them.

mod explain;
mod file;
mod layer;
mod maths;
mod memory;
mod model;
mod step;
mod timing;

use anyhow::{Result, bail};
use clap::ValueEnum;
use throughline::prelude::*;
use throughline::train::check_replaceable;

use crate::arguments::{BenchArguments, BenchCell, BenchLengths, BenchMode};
use crate::output::say_line;
use file::Record;

pub fn run(arguments: &BenchArguments) -> Result<()> {
    if let Some(path) = &arguments.write {
        check_replaceable(path)?;
    }
    let report = match (arguments.maths, arguments.model, arguments.mode) {
        (true, _, _) => maths::report(arguments)?,
        (_, Some(model), _) => model::report(arguments, model)?,
        (_, _, BenchMode::Step) if arguments.explain => {
            bail!("--explain: expected --mode forward or train, found step, which runs on one thread and has no plan")
        }
        (_, _, BenchMode::Step) => step::report(arguments)?,
        (_, _, BenchMode::Forward | BenchMode::Train) if arguments.explain => return explain::run(arguments),
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
