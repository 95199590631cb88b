//! Tables of comma-separated or tab-separated values, read record by record with line numbers.

use std::borrow::Cow;
use std::path::Path;

use crate::error::{Error, Result, quoted, quoted_list};

/// The columns of text and label in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Columns<'a> {
    /// By their names in the header.
    Named { text: &'a str, label: &'a str },
    /// By index from 0, in a table without a header.
    Numbered { text: usize, label: usize },
}

impl<'a> Columns<'a> {
    /// From the settings: two names, by default `text` and `label`, or two numbers, from 1.
    pub(crate) fn new(text: Option<&'a str>, label: Option<&'a str>) -> Result<Self> {
        let number = |column: Option<&str>| column.and_then(|column| column.parse::<usize>().ok());
        match (number(text), number(label)) {
            (None, None) => Ok(Self::Named { text: text.unwrap_or("text"), label: label.unwrap_or("label") }),
            (Some(text @ 1..), Some(label @ 1..)) => Ok(Self::Numbered { text: text - 1, label: label - 1 }),
            _ => {
                let expected = "two column names, or two column numbers, from 1, for a table without a header";
                let shown = |column: Option<&str>| column.map_or_else(|| "the default".into(), quoted);
                let found = format!("text_column {} and label_column {}", shown(text), shown(label));
                Err(Error::setting("text_column", expected, found))
            }
        }
    }
}

/// The content of a table, and the file it is from.
pub(crate) struct Table<'a> {
    pub(crate) path: &'a Path,
    /// Cleaned text: every line end is a line feed.
    pub(crate) content: &'a str,
    /// A comma, where fields may be quoted, or a tab, where they may not.
    pub(crate) delimiter: u8,
}

impl Table<'_> {
    /// Calls `take` with label, text and line, from 1, of each record. Blank lines are skipped.
    pub(crate) fn for_each(
        &self,
        columns: Columns,
        mut take: impl FnMut(&str, &str, usize) -> Result<()>,
    ) -> Result<()> {
        let mut records = self.records();
        let mut fields = Vec::new();
        let (text_column, label_column) = match columns {
            Columns::Numbered { text, label } => (text, label),
            Columns::Named { text, label } => {
                let line = records.next(&mut fields)?.unwrap_or(1);
                let hint =
                    "set text_column and label_column to column names, or to numbers from 1 if there is no header";
                (self.column(&fields, text, line, hint)?, self.column(&fields, label, line, hint)?)
            }
        };
        while let Some(line) = records.next(&mut fields)? {
            let field = |index: usize| {
                fields.get(index).map(AsRef::as_ref).ok_or_else(|| {
                    let expected = format!("a column {}", index + 1);
                    let found = format!("{} columns", fields.len());
                    Error::malformed(self.path, Some(line), expected, found, "columns are numbered from 1")
                })
            };
            let (label, text): (&str, &str) = (field(label_column)?, field(text_column)?);
            if matches!(columns, Columns::Named { text: t, label: l } if text.trim() == t && label.trim() == l) {
                let hint = "remove the repeated header, which concatenating files leaves behind";
                return Err(Error::malformed(self.path, Some(line), "a record", "the header again", hint));
            }
            take(label, text, line)?;
        }
        Ok(())
    }

    /// The records, each with as many fields as the first.
    pub(crate) fn records(&self) -> Records<'_> {
        Records { table: self, position: 0, line: 1, width: None }
    }

    /// The index of the column `name` in the header on `line`; `hint` says what to do if it is not there.
    pub(crate) fn column(&self, header: &[Cow<str>], name: &str, line: usize, hint: &str) -> Result<usize> {
        let mut places = header.iter().enumerate().filter(|(_, column)| column.trim() == name).map(|(place, _)| place);
        match (places.next(), places.next()) {
            (Some(place), None) => Ok(place),
            (first, _) => {
                let expected = format!("one column named {}", quoted(name));
                let columns = quoted_list(header.iter().map(AsRef::as_ref));
                let found = if first.is_some() { "more than one in " } else { "the columns " };
                Err(Error::malformed(self.path, Some(line), expected, format!("{found}{columns}"), hint))
            }
        }
    }
}

/// The records of a table. Where fields may be quoted, RFC 4180 is read strictly: a quote at the beginning of a field
/// opens it, and the quote that closes it must be followed by a separator or a line end. Anything else is an error,
/// since it means that a quote is missing somewhere and several fields were read as one. A quote inside an unquoted
/// field (`5" long`) is text, because such a field ends with its line at the latest.
pub(crate) struct Records<'a> {
    table: &'a Table<'a>,
    /// The offset of the next record, or of the blank lines before it.
    position: usize,
    /// The line of that offset, from 1.
    line: usize,
    /// The fields of the first record.
    width: Option<usize>,
}

impl<'a> Records<'a> {
    /// Reads the next record into `fields` and returns its line; `None` after the last record.
    pub(crate) fn next(&mut self, fields: &mut Vec<Cow<'a, str>>) -> Result<Option<usize>> {
        let Some(line) = self.split(fields)? else { return Ok(None) };
        let width = *self.width.get_or_insert(fields.len());
        if fields.len() != width {
            let expected = format!("{width} fields as in the first record");
            let hint = "quote fields that contain the separator";
            return Err(Error::malformed(self.table.path, Some(line), expected, fields.len().to_string(), hint));
        }
        Ok(Some(line))
    }

    /// The same, with any number of fields.
    fn split(&mut self, fields: &mut Vec<Cow<'a, str>>) -> Result<Option<usize>> {
        fields.clear();
        while self.take(b'\n') {
            self.line += 1;
        }
        if self.position == self.table.content.len() {
            return Ok(None);
        }
        let line = self.line;
        loop {
            let quoted = self.table.delimiter == b',' && self.take(b'"');
            fields.push(if quoted { self.quoted_field()? } else { Cow::Borrowed(self.plain_field()) });
            if self.take(self.table.delimiter) {
                continue;
            }
            if self.take(b'\n') {
                self.line += 1;
            }
            return Ok(Some(line));
        }
    }

    /// Skips `byte` if it is next, and returns whether it was.
    fn take(&mut self, byte: u8) -> bool {
        let found = self.rest().as_bytes().first() == Some(&byte);
        self.position += usize::from(found);
        found
    }

    fn rest(&self) -> &'a str {
        &self.table.content[self.position..]
    }

    /// A field up to the next separator or line end.
    fn plain_field(&mut self) -> &'a str {
        let ends = |&byte: &u8| byte == self.table.delimiter || byte == b'\n';
        let rest = self.rest();
        let field = &rest[..rest.bytes().position(|byte| ends(&byte)).unwrap_or(rest.len())];
        self.position += field.len();
        field
    }

    /// A quoted field, after its opening quote.
    fn quoted_field(&mut self) -> Result<Cow<'a, str>> {
        let opened = self.line;
        let mut field = Cow::Borrowed("");
        loop {
            let rest = self.rest();
            let Some(length) = rest.find('"') else {
                let hint = "close the quoted field, or double the quote if it belongs to the text";
                let expected = "a closing quote for the one that opens here";
                return Err(Error::malformed(self.table.path, Some(opened), expected, "the end of the file", hint));
            };
            field += &rest[..length];
            self.line += rest[..length].matches('\n').count();
            self.position += length + 1;
            if !self.take(b'"') {
                break;
            }
            field += "\"";
        }
        match self.rest().chars().next() {
            None | Some(',' | '\n') => Ok(field),
            Some(_) => {
                let after = self.rest().lines().next().unwrap_or_default();
                let found = format!("{} on line {}", quoted(after), self.line);
                let hint = "double quotes that belong to the text, or close the field where it ends";
                let expected = "a comma or a line end after the quoted field that begins here";
                Err(Error::malformed(self.table.path, Some(opened), expected, found, hint))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clean::TextRules;

    type Row = (String, String, usize);

    fn read(delimiter: u8, columns: Columns, content: &str) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let content = &TextRules::default().clean(content);
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
        let rows = [row("good", "fine,\n\"really\"", 2), row("bad", " ", 5), row(" bad", "5\" long", 6)];
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
        let open = "expected a closing quote for the one that opens here, found the end of the file";
        let error = message(csv("label,text\n1,fine\n1,\"open\n0,lost\n"));
        assert!(error.contains(&format!("table:3: {open}")), "{error}");
        let error = message(csv("label,text\n1,\"open"));
        assert!(error.contains(&format!("table:2: {open}")), "{error}");
        assert_eq!(csv("label,text\n1,\"two\nlines\"\n").unwrap(), [row("1", "two\nlines", 2)]);
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
        let rows = [row("1", "a", 2), row("0", "b\nc", 3), row("1", "d", 6)];
        for content in ["label,text\r1,a\r0,\"b\rc\"\r\r1,d\r", "label,text\r\n1,a\r0,\"b\nc\"\n\r\n1,d"] {
            assert_eq!(csv(content).unwrap(), rows);
        }
        let rows = read(b'\t', Columns::Numbered { text: 1, label: 0 }, "1\t\"a\r0\tb\r\n1\tc\n").unwrap();
        assert_eq!(rows, [row("1", "\"a", 1), row("0", "b", 2), row("1", "c", 3)]);
    }

    #[test]
    fn a_header_among_the_records_is_an_error() {
        for again in ["id,label,text", "id, label ,text ", "number,label,text", "\"id\",\"label\",\"text\""] {
            let error = message(csv(&format!("id,label,text\n1,good,fine\n\n{again}\n2,bad,dull\n")));
            assert!(error.contains("table:4: expected a record, found the header again"), "{error}");
        }
        let error = message(read(b'\t', Columns::new(None, None).unwrap(), "text\tlabel\na\t1\ntext\tlabel\n"));
        assert!(error.contains("table:3: expected a record, found the header again"), "{error}");
        assert!(csv("label,text\nlabel,fine\ngood,text\n").is_ok());
    }

    #[test]
    fn numbers_of_columns() {
        let columns = Columns::new(Some("2"), Some("1")).unwrap();
        assert_eq!(read(b',', columns, "x,one\ny,two").unwrap(), [row("x", "one", 1), row("y", "two", 2)]);
        let error = message(read(b',', Columns::new(Some("3"), Some("1")).unwrap(), "x,one\ny,two"));
        assert!(error.contains("table:1: expected a column 3, found 2 columns"), "{error}");
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
        fn records_are_those_of_the_grammar(content in "[a,\"\n]{0,24}") {
            let table = Table { path: Path::new("table"), content: &content, delimiter: b',' };
            let (mut records, mut fields, mut read) = (table.records(), Vec::new(), Vec::new());
            let result = loop {
                match records.split(&mut fields) {
                    Ok(Some(_)) => read.push(fields.iter().map(|field| field.to_string()).collect::<Vec<_>>()),
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
                prop_assert_eq!(records.line, 1 + content.matches('\n').count());
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
            if let Ok(rows) = read(b',', Columns::Numbered { text: 1, label: 0 }, &broken) {
                prop_assert_eq!(rows.len(), texts.len());
                prop_assert!(rows.iter().all(|row| !row.1.contains('\n')));
            }
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
