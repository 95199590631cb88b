//! `throughline generate`

use anyhow::Result;
use throughline::prelude::{Sampling, Task};

use crate::arguments::GenerateArguments;
use crate::output::{say, say_line};

pub fn run(arguments: GenerateArguments) -> Result<()> {
    let GenerateArguments { run, prompt, length, temperature, top_k, top_p, seed } = arguments;
    let mut model = super::load(&run)?;
    let sampling = Sampling { temperature, top_k, top_p };
    // Any other model is refused below, and nothing has been written then.
    if model.task() == Task::Lm {
        say(&prompt)?;
    }
    model.generate(&prompt, length, &sampling, seed, &mut say)??;
    Ok(say_line("")?)
}
