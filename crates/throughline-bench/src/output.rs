//! Writing to the terminal or to whatever stands in its place, as the program `throughline` does.

use std::io::{self, Write};

/// Writes to standard output. A closed pipe is an error like any other, not a panic.
pub fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| io::Error::new(error.kind(), format!("cannot write to standard output: {error}")))
}

/// Writes an error to standard error, each cause after what it caused, unless that has said it already. If standard error
/// is closed too, there is nobody left to tell.
pub fn complain(error: &anyhow::Error) {
    let mut message = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !message.contains(&cause) {
            message += if message.is_empty() { "" } else { ": " };
            message += &cause;
        }
    }
    let _ = writeln!(io::stderr().lock(), "error: {message}");
}

/// Whether writing failed because the reader is gone.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().filter_map(|cause| cause.downcast_ref()).any(io)
}
