//! The `throughline-bench` program: times the engine on this machine, with random data.
//!
//! - [`layer`]: a recurrent stack over a whole batch;
//! - [`step`]: one streaming step;
//! - [`training`]: a whole training step of a model, the models being in [`workload`], their data in [`data`];
//! - [`maths`]: the elementwise functions;
//! - [`explain`]: how a stack's work is split across threads, and whether another plan would be faster;
//! - [`timing`]: how everything is timed;
//! - [`memory`]: whether a run fits in memory;
//! - [`record`]: the file that lets others check a result.
#![forbid(unsafe_code)]

mod arguments;
mod data;
mod explain;
mod layer;
mod maths;
mod memory;
mod output;
mod record;
mod sizes;
mod step;
mod timing;
mod training;
mod workload;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use throughline_kernels::Isa;
use throughline_train::check_replaceable;

use arguments::{Arguments, Mode};

fn run(arguments: &Arguments) -> Result<()> {
    // A wrong instruction set in the environment is reported before anything runs.
    Isa::try_detect()?;
    if let Some(path) = &arguments.write {
        check_replaceable(path)?;
    }
    let report = match (arguments.maths, arguments.model, arguments.mode) {
        (true, _, _) => maths::report(arguments)?,
        (_, Some(model), _) => training::report(arguments, model)?,
        (_, _, Mode::Step) if arguments.explain => {
            bail!("--explain: expected --mode forward or train, found step, which runs on one thread and has no plan")
        }
        (_, _, Mode::Step) => step::report(arguments)?,
        (_, _, Mode::Forward | Mode::Train) if arguments.explain => return explain::run(arguments),
        (_, _, Mode::Forward | Mode::Train) => layer::report(arguments)?,
    };
    Ok(output::say(&format!("{report}\n"))?)
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output has stopped reading.
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&error);
            ExitCode::FAILURE
        }
    }
}
