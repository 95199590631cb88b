//! `throughline generate`

use anyhow::Result;
use throughline::data::printable_text;
use throughline::infer::LanguageModel;
use throughline::infer::lm::Continuation;
use throughline::prelude::Sampling;

use crate::arguments::GenerateArguments;
use crate::output::{say, say_line};

pub fn run(arguments: &GenerateArguments) -> Result<()> {
    let GenerateArguments { run, prompt, length, temperature, top_k, top_p, seed } = arguments;
    let (_, model) = super::open(run)?;
    let model = model.expect::<LanguageModel>()?;
    let sampling = Sampling { temperature: *temperature, top_k: *top_k, top_p: *top_p };
    say(&printable_text(prompt))?;
    let continuation = Continuation { prompt, length: *length, sampling };
    // Whatever a model has read, its text must not steer the terminal.
    model.generate(continuation, *seed, &mut |text| say(&printable_text(text)))?;
    Ok(say_line("")?)
}
