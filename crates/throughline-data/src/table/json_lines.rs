//! JSON lines: an object on each line, whose keys are the columns.

use std::path::Path;

use super::object::{Object, Value};
use super::{Cells, Kind, Records};
use crate::decoded::Lines;
use crate::error::{Error, Result, quoted, quoted_list};
use crate::text::TextReader;

/// The records of a file.
pub(super) struct JsonLines {
    lines: Lines,
    /// The keys of the first record.
    header: Vec<String>,
    selected: Vec<(usize, Kind)>,
    /// The first record, until it is read.
    first: Option<(usize, Object)>,
}

/// The records, the keys of the first one, and its line.
pub(super) fn open(path: &Path, text: &TextReader) -> Result<(JsonLines, Vec<String>, usize)> {
    let mut records = JsonLines { lines: text.lines(path)?, header: Vec::new(), selected: Vec::new(), first: None };
    records.first = records.object()?;
    let line = records.first.as_ref().map_or(1, |(line, _)| *line);
    if let Some((_, Object(first))) = &records.first {
        records.header = first.iter().map(|(key, _)| key.clone()).collect();
    }
    let header = records.header.clone();
    Ok((records, header, line))
}

impl Records for JsonLines {
    fn select(&mut self, columns: &[(usize, Kind)]) -> Result<()> {
        self.selected = columns.to_vec();
        Ok(())
    }

    /// Where all keys of the first record are read, another one is an error; otherwise it may be among those that are not read.
    fn next(&mut self, cells: &mut Cells) -> Result<Option<usize>> {
        let next = match self.first.take() {
            Some(first) => Some(first),
            None => self.object()?,
        };
        let Some((line, Object(mut pairs))) = next else { return Ok(None) };
        cells.clear();
        for &(column, kind) in &self.selected {
            let name = &self.header[column];
            // Mostly the keys come in the same order.
            let in_place = pairs.get(column).is_some_and(|(key, _)| key == name);
            let place = if in_place { Some(column) } else { pairs.iter().position(|(key, _)| key == name) };
            let Some(place) = place else {
                let found = format!("the keys {}", quoted_list(pairs.iter().map(|(key, _)| key.as_str())));
                let hint = "every record has the same keys; write `null` for a value that is missing";
                return Err(self.wrong(line, &format!("the key {}", quoted(name)), &found, hint));
            };
            let value = std::mem::replace(&mut pairs[place].1, Value::Null);
            let wrong = |found: &str| {
                let expected = format!("{} in {}, or `null`", expected(kind), quoted(name));
                self.wrong(line, &expected, found, "correct the value, or name another column")
            };
            let cell = cells.push();
            match (value, kind) {
                (Value::Null, _) => {}
                (Value::String(text), _) => *cell = text,
                (Value::Bool(value), Kind::Number) => cell.push(if value { '1' } else { '0' }),
                (Value::Bool(value), Kind::Name) => cell.push_str(if value { "true" } else { "false" }),
                (Value::Number(number), Kind::Name | Kind::Number | Kind::Time) => *cell = number,
                (Value::Number(number), _) => return Err(wrong(&number)),
                (Value::Bool(value), _) => return Err(wrong(if value { "true" } else { "false" })),
                (Value::Nested(what), _) => return Err(wrong(what)),
            }
        }
        if self.selected.len() == self.header.len()
            && let Some((key, _)) = pairs.iter().find(|(key, _)| !self.header.contains(key))
        {
            let expected = format!("the keys {}", quoted_list(self.header.iter().map(String::as_str)));
            let hint = "every record has the keys of the first; or name the columns to read";
            return Err(self.wrong(line, &expected, &format!("another one, {}", quoted(key)), hint));
        }
        Ok(Some(line))
    }
}

impl JsonLines {
    /// The next record and its line. Blank lines are skipped.
    fn object(&mut self) -> Result<Option<(usize, Object)>> {
        loop {
            let Some((line, text)) = self.lines.next()? else { return Ok(None) };
            if text.trim().is_empty() {
                continue;
            }
            let parsed = serde_json::from_str::<Object>(&text).map_err(|error| error.to_string());
            let object = parsed.map_err(|found| {
                // The line of the file is told already.
                let found = found.replace("at line 1 column", "at column");
                let hint = "write each record on a line of its own";
                self.wrong(line, "a JSON object on a line", &found, hint)
            })?;
            let mut keys: Vec<&str> = object.0.iter().map(|(key, _)| key.as_str()).collect();
            keys.sort_unstable();
            if let Some(pair) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
                let found = format!("{} twice", quoted(pair[0]));
                return Err(self.wrong(line, "each key once", &found, "remove one of them"));
            }
            return Ok(Some((line, object)));
        }
    }

    fn wrong(&self, line: usize, expected: &str, found: &str, hint: &str) -> Error {
        Error::malformed(self.lines.path(), Some(line), expected, found, hint)
    }
}

fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "a text",
        Kind::Name => "a text, a number or a truth value",
        Kind::Number => "a number",
        Kind::Time => "a number or a date",
    }
}
