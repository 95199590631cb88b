//! Writing to the terminal or to whatever stands in its place.

use std::io::{self, Write};

/// Writes to standard output. A reader that has gone away is an error like any other, not a panic.
pub fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The same, then a new line.
pub fn say_line(text: &str) -> io::Result<()> {
    say(&format!("{text}\n"))
}

/// Writes a line to standard error; if that is closed too, there is nobody left to tell.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Tells what went wrong, the cause after the complaint.
pub fn complain(error: &anyhow::Error) {
    note(&format!("error: {error:#}"));
}

/// Whether an output failed because its reader is gone.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().filter_map(|cause| cause.downcast_ref()).any(io)
}
