//! `throughline generate`

use std::path::Path;

use anyhow::{Context, Result};
use throughline::infer::Generation;
use throughline::prelude::Sampling;
use throughline::train::{check_replaceable, write_atomically};

use crate::arguments::GenerateArguments;
use crate::output::{say, say_line};

pub fn run(arguments: &GenerateArguments) -> Result<()> {
    let GenerateArguments { run, prompt, length, temperature, top_k, top_p, seed, out } = arguments;
    let (folder, model) = super::open(run)?;
    let sampling = Sampling { temperature: *temperature, top_k: *top_k, top_p: *top_p };
    let ending = out.as_deref().map(ending_of);
    let generation = Generation { prompt, length: *length, sampling, seed: *seed, ending: ending.as_deref() };
    let place = || folder.path().display().to_string();
    match out {
        None => {
            // Running text comes in pieces of whole characters.
            let mut say = |text: &[u8]| say(&String::from_utf8_lossy(text));
            model.write(&generation, &mut say).with_context(place)?;
            Ok(say_line("")?)
        }
        Some(path) => {
            check_replaceable(path)?;
            let mut bytes = Vec::new();
            let mut keep = |more: &[u8]| {
                bytes.extend_from_slice(more);
                Ok(())
            };
            model.write(&generation, &mut keep).with_context(place)?;
            Ok(write_atomically(path, &bytes)?)
        }
    }
}

/// What follows the last dot of a file's name, in lower case; nothing without one.
fn ending_of(path: &Path) -> String {
    path.extension().map_or_else(String::new, |ending| ending.to_string_lossy().to_lowercase())
}
