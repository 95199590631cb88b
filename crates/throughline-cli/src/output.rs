//! Writing to the terminal or to whatever stands in its place. Texts, labels and paths may come from anybody: whatever could
//! steer a terminal is escaped here. What goes to a file is not.

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Result;
use serde_json::Value;
use throughline::data::printable_text;
use throughline::train::{check_replaceable, replace};

/// Where the results of a command go.
pub enum Output<'a> {
    /// Standard output.
    Standard,
    /// A file that is not there yet.
    File(&'a mut dyn Write),
}

impl Output<'_> {
    /// Calls `write` with standard output, or with a file that takes the name `path` once `write` has succeeded.
    pub fn open<T>(path: Option<&Path>, write: impl FnOnce(&mut Output<'_>) -> Result<T>) -> Result<T> {
        match path {
            None => write(&mut Output::Standard),
            Some(path) => into_file(path, |file| {
                let mut output = Output::File(file);
                write(&mut output)
            }),
        }
    }

    /// Writes running text.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        match self {
            Self::Standard => say(text),
            Self::File(file) => file.write_all(text.as_bytes()),
        }
    }

    /// Writes bytes as they are.
    #[cfg(feature = "parquet")]
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Standard => io::stdout().lock().write_all(bytes),
            Self::File(file) => file.write_all(bytes),
        }
    }

    /// Writes JSON objects, a line each.
    pub fn json(&mut self, lines: &str) -> io::Result<()> {
        match self {
            Self::Standard => say_json(lines),
            Self::File(file) => file.write_all(lines.as_bytes()),
        }
    }
}

/// Calls `write` with a file that takes the name `path` once `write` has succeeded.
pub fn into_file<T>(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<T>) -> Result<T> {
    check_replaceable(path)?;
    let mut result = None;
    let replaced = replace(path, |file| {
        let mut file = BufWriter::new(file);
        let written = write(&mut file);
        let failed = written.is_err();
        result = Some(written);
        if failed { Err(io::Error::other("there is no whole result")) } else { file.flush() }
    });
    match result {
        Some(Ok(value)) => Ok(replaced.map(|()| value)?),
        Some(Err(error)) => Err(error),
        None => Err(replaced.expect_err("what was not begun has failed").into()),
    }
}

/// Rows of cells as CSV (RFC 4180, with line feeds).
pub fn csv<'c>(rows: impl IntoIterator<Item = Vec<Cow<'c, str>>>) -> Result<String> {
    let mut table = csv::Writer::from_writer(Vec::new());
    for row in rows {
        table.write_record(row.iter().map(|cell| cell.as_bytes()))?;
    }
    Ok(String::from_utf8(table.into_inner()?)?)
}

/// A value as a cell; what has parts is JSON.
pub fn cell(value: &Value) -> Cow<'_, str> {
    match value {
        Value::Null => Cow::Borrowed(""),
        Value::String(text) => Cow::Borrowed(text),
        other => Cow::Owned(other.to_string()),
    }
}

/// Writes running text to standard output. A reader that has gone away is an error like any other, not a panic.
pub fn say(text: &str) -> io::Result<()> {
    write(&printable_text(text))
}

/// Writes JSON objects, a line each, to standard output. What is escaped in them stays the same value.
pub fn say_json(lines: &str) -> io::Result<()> {
    write(&escaped_json(lines))
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| io::Error::new(error.kind(), format!("cannot write to standard output: {error}")))
}

/// The same as [`say`], then a new line.
pub fn say_line(text: &str) -> io::Result<()> {
    say(&format!("{text}\n"))
}

/// Writes a line to standard error; if that is closed too, there is nobody left to tell.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", printable_text(text));
}

/// Tells what went wrong in one line, each cause after what it caused, unless that has said it already.
pub fn complain(error: &anyhow::Error) {
    let mut message = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !message.contains(&cause) {
            message += if message.is_empty() { "" } else { ": " };
            message += &cause;
        }
    }
    note(&format!("error: {}", message.replace('\n', "\\n")));
}

/// Whether an output failed because its reader is gone.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().filter_map(|cause| cause.downcast_ref()).any(io)
}

/// JSON leaves DEL, the controls above it and those of the writing direction as they are; they occur in strings alone.
fn escaped_json(json: &str) -> Cow<'_, str> {
    let steers = |text: &str| matches!(printable_text(text), Cow::Owned(_));
    if !steers(json) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if steers(c.encode_utf8(&mut [0; 4])) {
            escaped.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_json_has_the_same_value() {
        let text = "plain \u{7f}\u{9b}31m \u{202e}\u{2028} é 🎬 \u{1b}\n\t\"\\";
        let json = serde_json::to_string(text).unwrap();
        let escaped = escaped_json(&json);
        assert!(matches!(printable_text(&escaped), Cow::Borrowed(_)), "{escaped}");
        assert!(escaped.contains("é 🎬") && escaped.contains(r"\u007f\u009b31m \u202e\u2028"), "{escaped}");
        assert_eq!(serde_json::from_str::<String>(&escaped).unwrap(), text);
    }
}
