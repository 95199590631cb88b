//! Texts, and labels, from the columns of tables.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result, quoted};
use crate::table::{Kind, Table, TableFormat, endings_in_words};
use crate::text::TextReader;

/// The default names of the columns.
const TEXT: &str = "text";
const LABEL: &str = "label";

const HINT: &str = "set text_column and label_column to column names, or to numbers from 1 if there is no header";
const NAMES_HINT: &str = "set text_column and label_column to the names of the columns";

/// The columns of text and label in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Columns<'a> {
    /// By their names in the header.
    Named { text: &'a str, label: &'a str },
    /// By index from 0, in a table without a header.
    Numbered { text: usize, label: usize },
}

impl<'a> Columns<'a> {
    /// From the settings: two names, by default `text` and `label`, or two numbers, from 1, where columns need have no names.
    pub(super) fn new(format: TableFormat, text: Option<&'a str>, label: Option<&'a str>) -> Result<Self> {
        let number = |column: Option<&str>| {
            column.filter(|_| !format.has_names()).and_then(|column| column.parse::<usize>().ok())
        };
        match (number(text), number(label)) {
            (None, None) => Ok(Self::Named { text: text.unwrap_or(TEXT), label: label.unwrap_or(LABEL) }),
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

/// Calls `take` with label, text and line, from 1, of each record of a table.
pub(super) fn for_each(
    path: &Path,
    format: TableFormat,
    columns: Columns<'_>,
    reader: &TextReader,
    mut take: impl FnMut(&str, &str, usize) -> Result<()>,
) -> Result<()> {
    let (mut table, places) = match columns {
        Columns::Numbered { text, label } => (Table::open_without_header(path, format, reader)?, [label, text]),
        Columns::Named { text, label } => {
            let table = Table::open(path, format, reader)?;
            let hint = if format.has_names() { NAMES_HINT } else { HINT };
            let text = table.column(text, hint)?;
            let places = [table.column(label, hint)?, text];
            (table, places)
        }
    };
    table.select(&[(places[0], Kind::Name), (places[1], Kind::Text)])?;
    while let Some((line, cells)) = table.next()? {
        let [label, text] = cells else { unreachable!("two columns were selected") };
        let is_header = |text_column: &str, label_column: &str| {
            !format.has_names() && text.trim() == text_column && label.trim() == label_column
        };
        if matches!(columns, Columns::Named { text, label } if is_header(text, label)) {
            let hint = "remove the repeated header, which concatenating files leaves behind";
            return Err(Error::malformed(path, Some(line), "a record", "the header again", hint));
        }
        take(label, text, line)?;
    }
    Ok(())
}

/// The texts of a column of a table, one at a time. The table is never in memory as a whole.
pub struct TextColumn {
    path: PathBuf,
    table: Table,
}

impl TextColumn {
    /// Opens a table whose name ends in `.csv`, `.tsv`, `.tab`, `.jsonl`, `.ndjson` or `.parquet`. The texts are in the column
    /// of this name, by default `text`.
    ///
    /// # Errors
    /// [`Error::Malformed`] if the name has no such ending, the file does not have the format, or there is no such column;
    /// others as [`TextReader::read_file`].
    pub fn open(path: impl AsRef<Path>, column: Option<&str>, reader: &TextReader) -> Result<Self> {
        let path = path.as_ref();
        let format = TableFormat::of(path).ok_or_else(|| {
            let expected = format!("a table, whose name ends in {}", endings_in_words());
            Error::malformed(path, None, expected, "another name", "rename the file")
        })?;
        let mut table = Table::open(path, format, reader)?;
        let place = table.column(column.unwrap_or(TEXT), "name the column of the texts")?;
        table.select(&[(place, Kind::Text)])?;
        Ok(Self { path: path.into(), table })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next text, as it is in the table, and its line, or in Parquet the number of its row, from 1; `None` after the last.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn next_text(&mut self) -> Result<Option<(usize, &str)>> {
        Ok(self.table.next()?.map(|(line, cells)| (line, cells[0].as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Folder;

    type Row = (String, String, usize);

    fn read(name: &str, columns: (Option<&str>, Option<&str>), content: &str) -> Result<Vec<Row>> {
        let folder = Folder::new(&[(name, content.as_bytes())]);
        let format = TableFormat::of(Path::new(name)).unwrap();
        let columns = Columns::new(format, columns.0, columns.1)?;
        let mut rows = Vec::new();
        for_each(&folder.join(name), format, columns, &TextReader::default(), |label, text, line| {
            rows.push((label.into(), text.into(), line));
            Ok(())
        })?;
        Ok(rows)
    }

    const DEFAULT: (Option<&str>, Option<&str>) = (None, None);

    fn csv(content: &str) -> Result<Vec<Row>> {
        read("table.csv", DEFAULT, content)
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
        let error = message(read("table.csv", (Some("review"), None), content));
        assert!(
            error.contains("table.csv:1: expected one column named \"review\", found the columns \"id\""),
            "{error}"
        );
        assert!(message(csv("text,text,label\n1,2,3")).contains("found more than one in"));
        assert!(message(csv("")).contains("one column named \"text\""));
    }

    #[test]
    fn a_header_among_the_records_is_an_error() {
        for again in ["id,label,text", "id, label ,text ", "number,label,text", "\"id\",\"label\",\"text\""] {
            let error = message(csv(&format!("id,label,text\n1,good,fine\n\n{again}\n2,bad,dull\n")));
            assert!(error.contains("table.csv:4: expected a record, found the header again"), "{error}");
        }
        let error = message(read("table.tsv", DEFAULT, "text\tlabel\na\t1\ntext\tlabel\n"));
        assert!(error.contains("table.tsv:3: expected a record, found the header again"), "{error}");
        assert!(csv("label,text\nlabel,fine\ngood,text\n").is_ok());
    }

    #[test]
    fn numbers_of_columns() {
        let rows = read("table.csv", (Some("2"), Some("1")), "x,one\ny,two").unwrap();
        assert_eq!(rows, [row("x", "one", 1), row("y", "two", 2)]);
        let rows = read("table.tab", (Some("2"), Some("1")), "1\t\"a\r0\tb\r\n1\tc\n").unwrap();
        assert_eq!(rows, [row("1", "\"a", 1), row("0", "b", 2), row("1", "c", 3)]);
        let error = message(read("table.csv", (Some("3"), Some("1")), "x,one\ny,two"));
        assert!(error.contains("table.csv:1: expected a column 3, found 2 columns"), "{error}");
        for (text, label) in [(Some("0"), Some("1")), (Some("1"), None), (Some("text"), Some("2"))] {
            let columns = Columns::new(TableFormat::Csv, text, label);
            assert!(matches!(columns, Err(Error::Setting { key: "text_column", .. })), "{text:?} {label:?}");
        }
        let columns = Columns::new(TableFormat::Tsv, None, Some("stars")).unwrap();
        assert_eq!(columns, Columns::Named { text: "text", label: "stars" });
        // A key may be a number.
        let rows = read("table.jsonl", (Some("2"), Some("1")), r#"{"1": "x", "2": "one"}"#).unwrap();
        assert_eq!(rows, [row("x", "one", 1)]);
    }

    #[test]
    fn tabs_go_without_quotes() {
        let rows = read("table.tsv", DEFAULT, "text\tlabel\n\"open\t1\nit's, \"x\"\t0\n").unwrap();
        assert_eq!(rows, [row("1", "\"open", 2), row("0", "it's, \"x\"", 3)]);
    }

    #[test]
    fn json_lines() {
        let content = concat!(
            "\u{FEFF}{\"label\": 1, \"text\": \"caf\\u00e9,\\n\\\"really\\\"\", \"stars\": 4.5}\r\n \n",
            "{\"text\":\"x\",\"other\":[{}],\"label\":true}\n{\"label\": \"a\", \"text\": null}"
        );
        let rows = [row("1", "café,\n\"really\"", 1), row("true", "x", 3), row("a", "", 4)];
        assert_eq!(read("table.jsonl", DEFAULT, content).unwrap(), rows);
        assert_eq!(read("table.ndjson", DEFAULT, content).unwrap(), rows);
        let long = "{\"label\": 123456789012345678901234567890, \"text\": \"x\"}";
        assert_eq!(read("table.jsonl", DEFAULT, long).unwrap(), [row("123456789012345678901234567890", "x", 1)]);
    }

    #[test]
    fn wrong_json_lines() {
        let first = "{\"text\": \"a\", \"label\": 1}\n";
        for (line, expected) in [
            ("{\"text\": \"a\"", "expected a JSON object on a line, found EOF while parsing an object at column 12"),
            ("[1]", "expected a JSON object on a line, found invalid type: sequence, expected an object"),
            ("{} {}", "found trailing characters at column 4"),
            ("{\"text\": \"a\"}", "expected the key \"label\", found the keys \"text\""),
            ("{\"text\": \"a\", \"label\": 1, \"text\": \"b\"}", "expected each key once, found \"text\" twice"),
            ("{\"text\": [\"a\"], \"label\": 1}", "expected a text in \"text\", or `null`, found a list"),
            ("{\"text\": 5, \"label\": 1}", "expected a text in \"text\", or `null`, found 5"),
            ("{\"text\": \"a\", \"label\": {}}", "expected a text, a number or a truth value in \"label\""),
            (
                "{\"text\": \"a\", \"label\": 1, \"x\": 2}",
                "expected the keys \"text\", \"label\", found another one, \"x\"",
            ),
        ] {
            let error = message(read("table.jsonl", DEFAULT, &format!("{first}{line}\n")));
            assert!(error.contains("table.jsonl:2: ") && error.contains(expected), "{error}");
        }
        let error = message(read("table.jsonl", (Some("review"), None), first));
        assert!(error.contains("table.jsonl:1: expected one column named \"review\""), "{error}");
        assert!(message(read("table.jsonl", DEFAULT, "\n")).contains("found the columns none"));
    }

    #[test]
    fn texts_alone() {
        let folder = Folder::new(&[("a.jsonl", b"{\"review\": \"one\"}\n{\"review\": null}\n"), ("a.txt", b"")]);
        let open = |name: &str, column| TextColumn::open(folder.join(name), column, &TextReader::default());
        let mut texts = open("a.jsonl", Some("review")).unwrap();
        assert_eq!(texts.next_text().unwrap(), Some((1, "one")));
        assert_eq!(texts.next_text().unwrap(), Some((2, "")));
        assert_eq!(texts.next_text().unwrap(), None);
        let message = |result: Result<TextColumn>| result.err().unwrap().to_string();
        assert!(
            message(open("a.jsonl", None)).contains("expected one column named \"text\", found the columns \"review\"")
        );
        assert!(message(open("a.txt", None)).contains("a table, whose name ends in .csv"));
    }
}
