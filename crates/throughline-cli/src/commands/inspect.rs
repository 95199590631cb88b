//! `throughline inspect`

use anyhow::Result;
use throughline::inspect::{Options, Report};
use throughline::train::{self, Look, RunFolder, check_writable, write_atomically};

use crate::arguments::InspectArguments;
use crate::output::{note, say, say_json};
use crate::plot::width;

pub fn run(arguments: &InspectArguments) -> Result<()> {
    let folder = super::trained(&arguments.shown.run)?;
    // A page that cannot be written is refused before the work for it begins.
    if let Some(path) = &arguments.html {
        check_writable(path)?;
    }
    let report = look(&folder, arguments)?;
    if let Some(path) = &arguments.html {
        write_atomically(path, report.html().as_bytes())?;
    }
    report.notes.iter().for_each(|sentence| note(sentence));
    if arguments.json {
        return Ok(say_json(&(serde_json::to_string(&report)? + "\n"))?);
    }
    Ok(say(&report.text(width()))?)
}

fn look(folder: &RunFolder, arguments: &InspectArguments) -> Result<Report> {
    let InspectArguments { shown, anchors, examples, html, .. } = arguments;
    let look = Look {
        options: Options { sample: shown.sample(), anchors: *anchors, examples: *examples },
        threads: shown.run.threads.map(usize::from),
        evaluate: html.is_some(),
    };
    Ok(train::inspect(folder, &shown.data, look)?)
}
