//! `throughline trace`

use anyhow::Result;
use throughline::inspect::{Selection, TraceFormat};
use throughline::train::{self, Tracing, check_writable};

use crate::arguments::TraceArguments;
use crate::output::{into_file, note, say_line};

pub fn run(arguments: &TraceArguments) -> Result<()> {
    let TraceArguments { shown, select, out } = arguments;
    // What is wrong in the arguments is said before the work begins, and so is a file that cannot be written.
    let format = TraceFormat::of(out)?;
    let selection = Selection::new(select)?;
    let folder = super::trained(&shown.run)?;
    let tracing = Tracing { sample: shown.sample(), selection, threads: shown.run.threads.map(usize::from) };
    check_writable(out)?;
    let (trace, notes) = train::trace(&folder, &shown.data, &tracing)?;
    into_file(out, |file| Ok(trace.write(format, file)?))?;
    notes.iter().for_each(|sentence| note(sentence));
    let sequences = trace.sequence.iter().max().map_or(0, |last| last + 1);
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let [arrays, rows, sequences] =
        [(trace.arrays.len(), "array"), (trace.time.len(), "row"), (sequences as usize, "sequence")]
            .map(|(count, what)| counted(count, what));
    Ok(say_line(&format!("{}: {arrays} of {rows}, {sequences}", out.display()))?)
}
