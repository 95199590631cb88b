//! Tables of comma-separated or tab-separated values, read record by record with the line on which each begins.

use std::path::Path;

use crate::error::{Error, Result, quoted, quoted_list};

/// Where text and label are in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Columns<'a> {
    /// By the names in the header.
    Named { text: &'a str, label: &'a str },
    /// By position from 0, without a header.
    Numbered { text: usize, label: usize },
}

impl<'a> Columns<'a> {
    /// From the settings: two names, by default `text` and `label`, or two numbers from 1.
    pub(crate) fn new(text: Option<&'a str>, label: Option<&'a str>) -> Result<Self> {
        let number = |column: Option<&str>| column.and_then(|column| column.parse::<usize>().ok());
        match (number(text), number(label)) {
            (None, None) => Ok(Self::Named { text: text.unwrap_or("text"), label: label.unwrap_or("label") }),
            (Some(text @ 1..), Some(label @ 1..)) => Ok(Self::Numbered { text: text - 1, label: label - 1 }),
            _ => {
                let expected = "two names of columns, or two numbers from 1 for a table without a header";
                let shown = |column: Option<&str>| column.map_or_else(|| "the default".into(), quoted);
                let found = format!("text_column {} and label_column {}", shown(text), shown(label));
                Err(Error::setting("text_column", expected, found))
            }
        }
    }
}

/// The content of a table, and the file it came from.
pub(crate) struct Table<'a> {
    pub(crate) path: &'a Path,
    pub(crate) content: &'a str,
    /// A comma, which goes with quoted fields, or a tab, which goes without.
    pub(crate) delimiter: u8,
}

impl Table<'_> {
    /// Hands over label, text and line, from 1, of each record. Blank lines are no records.
    pub(crate) fn for_each(
        &self,
        columns: Columns,
        mut take: impl FnMut(&str, &str, usize) -> Result<()>,
    ) -> Result<()> {
        let mut records = csv::ReaderBuilder::new()
            .delimiter(self.delimiter)
            .quoting(self.delimiter == b',')
            .has_headers(matches!(columns, Columns::Named { .. }))
            .from_reader(self.content.as_bytes());
        let (text_column, label_column) = match columns {
            Columns::Numbered { text, label } => (text, label),
            Columns::Named { text, label } => {
                let header = records.headers().map_err(|error| self.bad_record(&error))?;
                (self.column(header, text)?, self.column(header, label)?)
            }
        };
        let mut lines = LineCounter::new(self.content);
        let mut record = csv::StringRecord::new();
        while records.read_record(&mut record).map_err(|error| self.bad_record(&error))? {
            let line = lines.line_of(record.position());
            let field = |index: usize| {
                record.get(index).ok_or_else(|| {
                    let expected = format!("a column number {}", index + 1);
                    let found = format!("{} columns", record.len());
                    Error::malformed(self.path, Some(line), expected, found, "give the number of a column, from 1")
                })
            };
            take(field(label_column)?, field(text_column)?, line)?;
        }
        self.check_last_record(&lines)
    }

    /// The place of the column with this name.
    fn column(&self, header: &csv::StringRecord, name: &str) -> Result<usize> {
        let mut places = header.iter().enumerate().filter(|(_, column)| column.trim() == name).map(|(place, _)| place);
        match (places.next(), places.next()) {
            (Some(place), None) => Ok(place),
            (first, _) => {
                let expected = format!("one column named {}", quoted(name));
                let found = if first.is_some() { "more than one in " } else { "the columns " };
                let hint = "give text_column and label_column: names, or numbers from 1 if there is no header";
                Err(Error::malformed(self.path, Some(1), expected, format!("{found}{}", quoted_list(header)), hint))
            }
        }
    }

    /// A quote that is never closed makes one field of all the rest, which is not an error to the parser.
    fn check_last_record(&self, lines: &LineCounter) -> Result<()> {
        let last = &self.content[lines.position..];
        let spans_lines = last.trim_end_matches(['\r', '\n']).contains('\n');
        if self.delimiter == b',' && spans_lines && last.matches('"').count() % 2 == 1 {
            let hint = "close the quoted field, or double a quote that belongs to it";
            return Err(Error::malformed(self.path, Some(lines.line), "a closing quote", "the end of the file", hint));
        }
        Ok(())
    }

    fn bad_record(&self, error: &csv::Error) -> Error {
        let line = Some(LineCounter::new(self.content).line_of(error.position()));
        match error.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                let expected = format!("{expected_len} fields as in the first record");
                Error::malformed(self.path, line, expected, len.to_string(), "quote a field that holds the separator")
            }
            _ => Error::malformed(self.path, line, "a table", quoted(&error.to_string()), "correct the file"),
        }
    }
}

/// Line numbers of ascending positions in a text. The parser's own number is that of the line on which it began to look
/// for a record, before blank lines and the second half of a CR LF.
struct LineCounter<'a> {
    text: &'a str,
    /// Where the last record began.
    position: usize,
    /// The line of that position, from 1.
    line: usize,
}

impl<'a> LineCounter<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, position: 0, line: 1 }
    }

    /// The line of the record that the parser found at `position` or after line ends there.
    fn line_of(&mut self, position: Option<&csv::Position>) -> usize {
        let bytes = self.text.as_bytes();
        let from = position.map_or(0, |position| position.byte() as usize);
        let begin = from + bytes[from..].iter().take_while(|byte| b"\r\n".contains(byte)).count();
        self.line += bytes[self.position..begin].iter().filter(|&&byte| byte == b'\n').count();
        self.position = begin;
        self.line
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Row = (String, String, usize);

    fn read(delimiter: u8, columns: Columns, content: &str) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        Table { path: Path::new("table"), content, delimiter }.for_each(columns, |label, text, line| {
            rows.push((label.into(), text.into(), line));
            Ok(())
        })?;
        Ok(rows)
    }

    fn csv(content: &str) -> Result<Vec<Row>> {
        read(b',', Columns::Named { text: "text", label: "label" }, content)
    }

    fn row(label: &str, text: &str, line: usize) -> Row {
        (label.into(), text.into(), line)
    }

    fn message(result: Result<Vec<Row>>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn commas_and_a_header() {
        let content = "id,label, text\r\n1,good,\"fine,\r\n\"\"really\"\"\"\r\n\r\n2,bad, \r\n3, bad,5\" long\r\n";
        let rows = [row("good", "fine,\r\n\"really\"", 2), row("bad", " ", 5), row(" bad", "5\" long", 6)];
        assert_eq!(csv(content).unwrap(), rows);
        let error = message(read(b',', Columns::Named { text: "review", label: "label" }, content));
        assert!(error.contains("table:1: expected one column named \"review\", found the columns \"id\""), "{error}");
        assert!(message(csv("text,text,label\n1,2,3")).contains("found more than one in"));
        assert!(message(csv("")).contains("one column named \"text\""));
    }

    #[test]
    fn records_of_another_length_are_named_by_line() {
        let error = message(csv("text,label\r\n1,2\r\n\r\n\r\n1,2,3\r\n"));
        assert!(error.contains("table:5: expected 2 fields as in the first record, found 3"), "{error}");
    }

    #[test]
    fn a_quote_left_open_is_an_error() {
        let error = message(csv("label,text\n1,fine\n1,\"open\n0,lost\n"));
        assert!(error.contains("table:3: expected a closing quote, found the end of the file"), "{error}");
        assert!(csv("label,text\n1,\"two\nlines\"\n").is_ok());
    }

    #[test]
    fn numbers_of_columns() {
        let columns = Columns::new(Some("2"), Some("1")).unwrap();
        assert_eq!(read(b',', columns, "x,one\ny,two").unwrap(), [row("x", "one", 1), row("y", "two", 2)]);
        let error = message(read(b',', Columns::new(Some("3"), Some("1")).unwrap(), "x,one\ny,two"));
        assert!(error.contains("table:1: expected a column number 3, found 2 columns"), "{error}");
        for (text, label) in [(Some("0"), Some("1")), (Some("1"), None), (Some("text"), Some("2"))] {
            let columns = Columns::new(text, label);
            assert!(matches!(columns, Err(Error::Setting { key: "text_column", .. })), "{text:?} {label:?}");
        }
        assert_eq!(Columns::new(None, Some("stars")).unwrap(), Columns::Named { text: "text", label: "stars" });
    }

    #[test]
    fn tabs_go_without_quotes() {
        let columns = Columns::new(None, None).unwrap();
        let rows = read(b'\t', columns, "text\tlabel\n\"open\t1\nit's, \"x\"\t0\n").unwrap();
        assert_eq!(rows, [row("1", "\"open", 2), row("0", "it's, \"x\"", 3)]);
    }

    proptest! {
        #[test]
        fn what_was_written_comes_back(fields in prop::collection::vec(("[ab]", "[a-c\",\n\r]{0,6}"), 1..12)) {
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(["label", "text"]).unwrap();
            fields.iter().for_each(|(label, text)| writer.write_record([label, text]).unwrap());
            let content = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            let mut line = 2;
            let expected: Vec<Row> = fields
                .iter()
                .map(|(label, text)| {
                    let expected = row(label, text, line);
                    line += 1 + text.matches('\n').count();
                    expected
                })
                .collect();
            prop_assert_eq!(csv(&content).unwrap(), expected);
        }

        #[test]
        fn no_content_makes_the_reader_panic(content in "[a,\"\n\r\t é]{0,40}") {
            for delimiter in [b',', b'\t'] {
                let _ = read(delimiter, Columns::Numbered { text: 1, label: 0 }, &content);
                let _ = read(delimiter, Columns::Named { text: "a", label: "" }, &content);
            }
        }
    }
}
