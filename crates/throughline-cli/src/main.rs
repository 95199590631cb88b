//! The `throughline` program.
#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod output;
mod plot;
mod table;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use throughline::prelude::Isa;
use throughline::train::Error;

use arguments::{Arguments, Command, DataCommand};

/// The exit code after Ctrl-C, as shells have it: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

fn run(command: Command) -> Result<()> {
    // What is wrong in the environment is said before anything begins.
    Isa::try_detect()?;
    match command {
        Command::Train(arguments) => commands::train::run(&arguments),
        Command::Recipe(arguments) => commands::recipe::run(&arguments),
        Command::Data(DataCommand::Check(arguments)) => commands::data::check(&arguments),
        Command::LrFind(arguments) => commands::lr_find::run(&arguments),
        Command::Runs(arguments) => commands::runs::run(&arguments),
        Command::Inspect(arguments) => commands::inspect::run(&arguments),
        Command::Lab(arguments) => commands::lab::run(&arguments),
        Command::Eval(arguments) => commands::eval::run(&arguments),
        Command::Predict(arguments) => commands::predict::run(&arguments),
        Command::Generate(arguments) => commands::generate::run(&arguments),
    }
}

/// What becomes a message is not told before as a panic.
#[cfg(feature = "parquet")]
fn keep_quiet_about_caught_panics() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !throughline::data::panic_is_caught() {
            tell(panic);
        }
    }));
}

fn main() -> ExitCode {
    #[cfg(feature = "parquet")]
    keep_quiet_about_caught_panics();
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(Error::Interrupted { step, run }) = error.downcast_ref() {
                let run = run.display();
                output::note(&format!("interrupted after update {step}; go on with: throughline train --resume {run}"));
                return ExitCode::from(INTERRUPTED);
            }
            output::complain(&error);
            ExitCode::FAILURE
        }
    }
}
