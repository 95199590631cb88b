//! `throughline inspect`

use anyhow::Result;
use throughline::infer::Sample;
use throughline::inspect::{Options, Report};
use throughline::train::{self, Look, RunFolder};

use crate::arguments::InspectArguments;
use crate::output::{note, say, say_json};
use crate::plot::width;

mod text;

pub fn run(arguments: &InspectArguments) -> Result<()> {
    let folder = super::trained(&arguments.run)?;
    let report = look(&folder, arguments)?;
    report.notes.iter().for_each(|sentence| note(sentence));
    if arguments.json {
        return Ok(say_json(&(serde_json::to_string(&report)? + "\n"))?);
    }
    Ok(say(&text::text(&report, width()))?)
}

fn look(folder: &RunFolder, arguments: &InspectArguments) -> Result<Report> {
    let InspectArguments { run, data, sequences, steps, anchors, .. } = arguments;
    let look = Look {
        options: Options { sample: Sample { sequences: *sequences, steps: *steps }, anchors: *anchors },
        threads: run.threads.map(usize::from),
        evaluate: false,
    };
    Ok(train::inspect(folder, data, look)?)
}
