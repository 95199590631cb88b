//! Writing to the terminal or to whatever stands in its place.

use std::io::{self, Write};

/// Writes to standard output. A reader that has gone away is an error like any other, not a panic.
pub fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| io::Error::new(error.kind(), format!("cannot write to standard output: {error}")))
}

/// The same, then a new line.
pub fn say_line(text: &str) -> io::Result<()> {
    say(&format!("{text}\n"))
}

/// Writes a line to standard error; if that is closed too, there is nobody left to tell.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Tells what went wrong, each cause after what it caused, unless that has said it already.
pub fn complain(error: &anyhow::Error) {
    let mut message = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !message.contains(&cause) {
            message += if message.is_empty() { "" } else { ": " };
            message += &cause;
        }
    }
    note(&format!("error: {message}"));
}

/// Whether an output failed because its reader is gone.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().filter_map(|cause| cause.downcast_ref()).any(io)
}
