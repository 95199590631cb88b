//! `throughline generate`

use anyhow::{Context, Result};
use throughline::infer::LanguageModel;
use throughline::infer::lm::Continuation;
use throughline::prelude::Sampling;

use crate::arguments::GenerateArguments;
use crate::output::{say, say_line};

pub fn run(arguments: &GenerateArguments) -> Result<()> {
    let GenerateArguments { run, prompt, length, temperature, top_k, top_p, seed } = arguments;
    let (folder, model) = super::open(run)?;
    let model = model.expect::<LanguageModel>().with_context(|| folder.path().display().to_string())?;
    let sampling = Sampling { temperature: *temperature, top_k: *top_k, top_p: *top_p };
    say(prompt)?;
    let continuation = Continuation { prompt, length: *length, sampling };
    model.generate(continuation, *seed, &mut say)?;
    Ok(say_line("")?)
}
