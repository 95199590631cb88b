//! The `throughline` program.
#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod output;

use std::process::ExitCode;

use clap::Parser;
use throughline::train::Error;

use arguments::{Arguments, Command};

/// The exit code after Ctrl-C, as shells have it: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Train(arguments) => commands::train::run(arguments),
        Command::Eval(arguments) => commands::eval::run(arguments),
        Command::Predict(arguments) => commands::predict::run(arguments),
        Command::Generate(arguments) => commands::generate::run(arguments),
        Command::Bench(arguments) => commands::bench::run(&arguments),
    };
    match result {
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
