//! `throughline trace`

use anyhow::Result;
use throughline::inspect::{Selection, TraceFormat};
use throughline::train::{self, Tracing};

use crate::arguments::TraceArguments;
use crate::output::{into_file, note, say_line};

pub fn run(arguments: &TraceArguments) -> Result<()> {
    let TraceArguments { shown, select, out } = arguments;
    // What is wrong in the arguments is said before the work begins, and so is a file that cannot be written.
    let format = TraceFormat::of(out)?;
    let selection = Selection::new(select)?;
    let folder = super::trained(&shown.run)?;
    let tracing = Tracing { sample: shown.sample(), selection, threads: shown.run.threads.map(usize::from) };
    let (trace, notes) = into_file(out, |file| {
        let (trace, notes) = train::trace(&folder, &shown.data, &tracing)?;
        trace.write(format, file)?;
        Ok((trace, notes))
    })?;
    notes.iter().for_each(|sentence| note(sentence));
    let sequences = trace.sequence.iter().max().map_or(0, |last| last + 1);
    let (arrays, rows) = (trace.arrays.len(), trace.time.len());
    Ok(say_line(&format!("{}: {arrays} arrays of {rows} rows, {sequences} sequences", out.display()))?)
}
