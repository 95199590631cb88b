//! Comma-separated or tab-separated values.
//!
//! Where fields may be quoted, RFC 4180 is read strictly: a quote at the beginning of a field opens it, and the quote that
//! closes it must be followed by a separator or a line end. Anything else is an error, since it means that a quote is missing
//! somewhere and several fields were read as one. A quote inside an unquoted field (`5" long`) is text, because such a field
//! ends with its line at the latest.

use std::path::Path;

use super::{Cells, Kind, Records, TableFormat};
use crate::decoded::Lines;
use crate::error::{Error, Result, quoted};
use crate::text::TextReader;

/// The records of a file, each with as many fields as the first.
pub(super) struct Delimited {
    lines: Lines,
    delimiter: u8,
    /// The places of the columns that are read.
    selected: Vec<usize>,
    /// The fields of the first record.
    width: Option<usize>,
    /// The line that is being split, and how much of it is.
    line: String,
    position: usize,
    fields: Cells,
}

/// The records after the header, the header, and its line.
pub(super) fn open(
    path: &Path,
    format: TableFormat,
    text: &TextReader,
    header: bool,
) -> Result<(Delimited, Vec<String>, usize)> {
    let delimiter = if format == TableFormat::Tsv { b'\t' } else { b',' };
    let mut records = Delimited::new(text.lines(path)?, delimiter);
    let line = if header { records.read()?.unwrap_or(1) } else { 1 };
    let header = records.fields.as_slice().to_vec();
    Ok((records, header, line))
}

impl Records for Delimited {
    fn select(&mut self, columns: &[(usize, Kind)]) -> Result<()> {
        self.selected = columns.iter().map(|column| column.0).collect();
        Ok(())
    }

    fn next(&mut self, cells: &mut Cells) -> Result<Option<usize>> {
        let Some(line) = self.read()? else { return Ok(None) };
        cells.clear();
        for &column in &self.selected {
            let Some(field) = self.fields.as_slice().get(column) else {
                let expected = format!("a column {}", column + 1);
                let found = format!("{} columns", self.fields.used);
                return Err(self.wrong(line, &expected, &found, "columns are numbered from 1"));
            };
            cells.push().push_str(field);
        }
        Ok(Some(line))
    }
}

impl Delimited {
    fn new(lines: Lines, delimiter: u8) -> Self {
        let (line, fields) = (String::new(), Cells::default());
        Self { lines, delimiter, selected: Vec::new(), width: None, line, position: 0, fields }
    }

    /// Reads the fields of the next record and returns its line.
    fn read(&mut self) -> Result<Option<usize>> {
        let Some(line) = self.split()? else { return Ok(None) };
        let fields = self.fields.used;
        let width = *self.width.get_or_insert(fields);
        if fields != width {
            let expected = format!("{width} fields as in the first record");
            return Err(self.wrong(line, &expected, &fields.to_string(), "quote fields that contain the separator"));
        }
        Ok(Some(line))
    }

    /// The same, with any number of fields.
    fn split(&mut self) -> Result<Option<usize>> {
        self.fields.clear();
        loop {
            if !self.next_line()? {
                return Ok(None);
            }
            if !self.line.is_empty() {
                break;
            }
        }
        let line = self.lines.number();
        loop {
            if self.delimiter == b',' && self.take(b'"') {
                self.quoted_field()?
            } else {
                self.plain_field()
            }
            if !self.take(self.delimiter) {
                return Ok(Some(line));
            }
        }
    }

    /// Goes to the next line; `false` if there is none.
    fn next_line(&mut self) -> Result<bool> {
        self.line.clear();
        self.position = 0;
        let Some((_, line)) = self.lines.next()? else { return Ok(false) };
        self.line.push_str(&line);
        Ok(true)
    }

    /// Skips `byte` if it is next, and returns whether it was.
    fn take(&mut self, byte: u8) -> bool {
        let found = self.line.as_bytes().get(self.position) == Some(&byte);
        self.position += usize::from(found);
        found
    }

    /// A field up to the next separator or line end.
    fn plain_field(&mut self) {
        let rest = &self.line[self.position..];
        let length = rest.bytes().position(|byte| byte == self.delimiter).unwrap_or(rest.len());
        self.fields.push().push_str(&rest[..length]);
        self.position += length;
    }

    /// A quoted field, after its opening quote.
    fn quoted_field(&mut self) -> Result<()> {
        let opened = self.lines.number();
        let mut field = String::new();
        loop {
            let rest = &self.line[self.position..];
            let Some(length) = rest.find('"') else {
                field.push_str(rest);
                field.push('\n');
                if field.len() as u64 > self.lines.longest() {
                    let expected = format!("a field of at most {} bytes, the limit of memory", self.lines.longest());
                    return Err(self.wrong(opened, &expected, "a longer one", "close the quote that opens here"));
                }
                if self.next_line()? {
                    continue;
                }
                let hint = "close the quoted field, or double the quote if it belongs to the text";
                let expected = "a closing quote for the one that opens here";
                return Err(self.wrong(opened, expected, "the end of the file", hint));
            };
            field.push_str(&rest[..length]);
            self.position += length + 1;
            if !self.take(b'"') {
                break;
            }
            field.push('"');
        }
        let after = &self.line[self.position..];
        if !after.is_empty() && !after.starts_with(',') {
            let found = format!("{} on line {}", quoted(after), self.lines.number());
            let hint = "double quotes that belong to the text, or close the field where it ends";
            let expected = "a comma or a line end after the quoted field that begins here";
            return Err(self.wrong(opened, expected, &found, hint));
        }
        *self.fields.push() = field;
        Ok(())
    }

    fn wrong(&self, line: usize, expected: &str, found: &str, hint: &str) -> Error {
        Error::malformed(self.lines.path(), Some(line), expected, found, hint)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::text::TextReader;

    type Row = (usize, Vec<String>);

    fn records(delimiter: u8, content: &str) -> Delimited {
        let lines = TextReader::default().lines_of(Path::new("table"), content.to_owned()).unwrap();
        Delimited::new(lines, delimiter)
    }

    /// The records with their lines. The header is one of them.
    fn read(delimiter: u8, content: &str) -> Result<Vec<Row>> {
        let mut records = records(delimiter, content);
        let mut rows = Vec::new();
        while let Some(line) = records.read()? {
            rows.push((line, records.fields.as_slice().to_vec()));
        }
        Ok(rows)
    }

    fn csv(content: &str) -> Result<Vec<Row>> {
        read(b',', content)
    }

    fn row(line: usize, fields: [&str; 2]) -> Row {
        (line, fields.map(str::to_owned).to_vec())
    }

    fn message(result: Result<Vec<Row>>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn records_of_another_length_are_named_by_line() {
        let error = message(csv("text,label\r\n1,2\r\n\r\n\r\n1,2,3\r\n"));
        assert!(error.contains("table:5: expected 2 fields as in the first record, found 3"), "{error}");
    }

    #[test]
    fn a_quote_left_open_is_an_error() {
        let open = "expected a closing quote for the one that opens here, found the end of the file";
        let error = message(csv("label,text\n1,fine\n1,\"open\n0,lost\n"));
        assert!(error.contains(&format!("table:3: {open}")), "{error}");
        let error = message(csv("label,text\n1,\"open"));
        assert!(error.contains(&format!("table:2: {open}")), "{error}");
        assert_eq!(csv("1,\"two\nlines\"\n").unwrap(), [row(1, ["1", "two\nlines"])]);
    }

    #[test]
    fn a_quote_left_open_does_not_take_all_memory() {
        let content = format!("label,text\n1,\"open\n{}", "a line\n".repeat(100));
        let lines = TextReader::default().max_bytes(50).lines_of(Path::new("table"), content).unwrap();
        let mut records = Delimited::new(lines, b',');
        records.read().unwrap();
        let error = records.read().unwrap_err().to_string();
        assert!(error.contains("table:2: expected a field of at most 50 bytes"), "{error}");
    }

    #[test]
    fn what_follows_a_closing_quote_is_a_separator_or_a_line_end() {
        let cases = [
            // Two quotes left open: the second one would close what the first one opened.
            ("label,text\n1,\"open\n0,dull\n1,\"open too\n", 2, "\"open too\" on line 4"),
            // Inches: a quote at the beginning of a field opens it.
            ("label,text\n0,fine\n1,\"12\" long\n", 3, "\" long\" on line 3"),
            ("label,text\n1,\"a\" \n", 2, "\" \" on line 2"),
            ("label,text\n1,\"a\nb\"c,\n0,x\n", 2, "\"c,\" on line 3"),
        ];
        for (content, line, found) in cases {
            let error = message(csv(content));
            let start = format!("table:{line}: expected a comma or a line end after the quoted field");
            assert!(error.starts_with(&start) && error.contains(found), "{error}");
        }
    }

    #[test]
    fn carriage_returns_end_records_outside_quotes() {
        let rows = [row(1, ["1", "a"]), row(2, ["0", "b\nc"]), row(5, ["1", "d"])];
        for content in ["1,a\r0,\"b\rc\"\r\r1,d\r", "1,a\r0,\"b\nc\"\n\r\n1,d"] {
            assert_eq!(csv(content).unwrap(), rows);
        }
    }

    /// RFC 4180 as an automaton, with quotes allowed as text in fields that are not quoted.
    fn in_grammar(content: &str) -> bool {
        #[derive(Clone, Copy, PartialEq)]
        enum State {
            Begin,
            Plain,
            Quoted,
            Closed,
        }
        let step = |state: State, c: char| match (state, c) {
            (State::Quoted, '"') => Some(State::Closed),
            (State::Quoted, _) => Some(State::Quoted),
            (State::Begin | State::Closed, '"') => Some(State::Quoted),
            (_, ',' | '\n') => Some(State::Begin),
            (State::Closed, _) => None,
            _ => Some(State::Plain),
        };
        content.chars().try_fold(State::Begin, step).is_some_and(|end| end != State::Quoted)
    }

    proptest! {
        #[test]
        fn what_was_written_comes_back(fields in prop::collection::vec(("[ab]", "[a-c\",\n]{0,6}"), 1..12)) {
            let mut writer = csv::Writer::from_writer(Vec::new());
            fields.iter().for_each(|(label, text)| writer.write_record([label, text]).unwrap());
            let content = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            let mut line = 1;
            let expected: Vec<Row> = fields
                .iter()
                .map(|(label, text)| {
                    let expected = row(line, [label, text]);
                    line += 1 + text.matches('\n').count();
                    expected
                })
                .collect();
            prop_assert_eq!(csv(&content).unwrap(), expected);
        }

        #[test]
        fn records_are_those_of_the_grammar(content in "[a,\"\n]{0,24}") {
            let (mut records, mut read) = (records(b',', &content), Vec::new());
            let result = loop {
                match records.split() {
                    Ok(Some(_)) => read.push(records.fields.as_slice().to_vec()),
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error.to_string()),
                }
            };
            prop_assert_eq!(result.is_ok(), in_grammar(&content), "{:?}: {:?}", content, result);
            if result.is_ok() {
                // Every line end is in a field, ends a record, or is a blank line.
                let other = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(content.as_bytes());
                let other: Vec<Vec<String>> =
                    other.into_records().map(|record| record.unwrap().iter().map(String::from).collect()).collect();
                prop_assert_eq!(&read, &other);
                prop_assert_eq!(records.lines.number(), content.lines().count());
            }
        }

        #[test]
        fn a_quote_lost_makes_no_record_of_two(
            texts in prop::collection::vec("[a-c]{1,3}([ ,][a-c]{1,3}){0,2}", 1..8),
            lost: prop::sample::Index,
        ) {
            // All texts are quoted and none holds a quote or a line end.
            let lines: Vec<String> = texts.iter().map(|text| format!("1,\"{text}\"\n")).collect();
            let content = lines.concat();
            let quotes: Vec<usize> = content.match_indices('"').map(|(place, _)| place).collect();
            let mut broken = content.clone();
            broken.remove(quotes[lost.index(quotes.len())]);
            if let Ok(rows) = csv(&broken) {
                prop_assert_eq!(rows.len(), texts.len());
                prop_assert!(rows.iter().all(|row| !row.1[1].contains('\n')));
            }
        }

        #[test]
        fn no_content_makes_the_reader_panic(content in "[a,\"\n\r\t é]{0,40}") {
            for delimiter in [b',', b'\t'] {
                let _ = read(delimiter, &content);
            }
        }
    }
}
