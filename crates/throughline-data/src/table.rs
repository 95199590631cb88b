//! Tables, read record by record, whatever the format of their files.

use std::path::{Path, PathBuf};

use crate::compressed::ending;
use crate::error::{Error, Result, quoted, quoted_list};
use crate::text::TextReader;

mod delimited;
mod json_lines;
mod object;
#[cfg(feature = "parquet")]
pub(crate) mod parquet;

/// A format of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TableFormat {
    /// Comma-separated values (RFC 4180), where fields may be quoted.
    Csv,
    /// Tab-separated values, where they may not.
    Tsv,
    /// A JSON object on each line; its keys are the columns.
    JsonLines,
    /// Apache Parquet.
    Parquet,
}

impl TableFormat {
    /// The format that the ending of a file's name says.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let ending = ending(path)?;
        OF_ENDING.into_iter().find_map(|(of, format)| (of == ending).then_some(format))
    }

    /// Whether columns always have names, so that they cannot be numbered.
    pub(crate) fn has_names(self) -> bool {
        matches!(self, Self::JsonLines | Self::Parquet)
    }
}

const OF_ENDING: [(&str, TableFormat); 6] = [
    ("csv", TableFormat::Csv),
    ("tsv", TableFormat::Tsv),
    ("tab", TableFormat::Tsv),
    ("jsonl", TableFormat::JsonLines),
    ("ndjson", TableFormat::JsonLines),
    ("parquet", TableFormat::Parquet),
];

/// How the names of tables end.
pub const TABLE_ENDINGS: [&str; OF_ENDING.len()] = {
    let (mut endings, mut place) = ([""; OF_ENDING.len()], 0);
    while place < endings.len() {
        endings[place] = OF_ENDING[place].0;
        place += 1;
    }
    endings
};

/// The same, for messages: `.csv, .tsv or .parquet`.
pub(crate) fn endings_in_words() -> String {
    let [before @ .., last] = TABLE_ENDINGS;
    format!("{} or .{last}", before.map(|ending| format!(".{ending}")).join(", "))
}

/// What the values of a column are read as. A missing value is read as an empty text, whatever the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text.
    Text,
    /// A name of a class or a series: text, a whole number or a truth value.
    Name,
    /// A number, or a truth value, which is read as 0 or 1.
    Number,
    /// A point in time.
    Time,
}

/// The cells of a record. The memory is reused.
#[derive(Debug, Default)]
pub(crate) struct Cells {
    cells: Vec<String>,
    used: usize,
}

impl Cells {
    pub(crate) fn as_slice(&self) -> &[String] {
        &self.cells[..self.used]
    }

    fn clear(&mut self) {
        self.used = 0;
    }

    /// One more cell, empty.
    fn push(&mut self) -> &mut String {
        if self.used == self.cells.len() {
            self.cells.push(String::new());
        }
        let cell = &mut self.cells[self.used];
        cell.clear();
        self.used += 1;
        cell
    }
}

/// What reads the records of one format.
trait Records {
    /// Says which columns are read, by their places in the header, and as what. Before that, none is.
    fn select(&mut self, columns: &[(usize, Kind)]) -> Result<()>;

    /// Reads the selected columns of the next record, and returns its line or number, from 1; `None` after the last one.
    fn next(&mut self, cells: &mut Cells) -> Result<Option<usize>>;
}

/// A table that is being read.
pub(crate) struct Table {
    path: PathBuf,
    header: Vec<String>,
    header_line: usize,
    records: Box<dyn Records>,
    cells: Cells,
}

impl Table {
    /// Opens a table that has a header, or columns with names.
    pub(crate) fn open(path: &Path, format: TableFormat, text: &TextReader) -> Result<Self> {
        match format {
            TableFormat::Csv | TableFormat::Tsv => {
                let (records, header, line) = delimited::open(path, format, text, true)?;
                Ok(Self::new(path, header, line, Box::new(records)))
            }
            TableFormat::JsonLines => {
                let (records, header, line) = json_lines::open(path, text)?;
                Ok(Self::new(path, header, line, Box::new(records)))
            }
            #[cfg(feature = "parquet")]
            TableFormat::Parquet => {
                let (records, header) = parquet::reader::open(path, text)?;
                Ok(Self::new(path, header, 1, Box::new(records)))
            }
            #[cfg(not(feature = "parquet"))]
            TableFormat::Parquet => {
                let hint = "write the table as CSV or JSON lines, or build the program with the feature `parquet`";
                Err(Error::malformed(path, None, "a table of a format that this program reads", "Parquet", hint))
            }
        }
    }

    /// Opens a table of delimited values without a header.
    pub(crate) fn open_without_header(path: &Path, format: TableFormat, text: &TextReader) -> Result<Self> {
        let (records, _, _) = delimited::open(path, format, text, false)?;
        Ok(Self::new(path, Vec::new(), 1, Box::new(records)))
    }

    fn new(path: &Path, header: Vec<String>, header_line: usize, records: Box<dyn Records>) -> Self {
        Self { path: path.into(), header, header_line, records, cells: Cells::default() }
    }

    /// The names of the columns.
    pub(crate) fn header(&self) -> &[String] {
        &self.header
    }

    /// The line of the header, from 1.
    pub(crate) fn header_line(&self) -> usize {
        self.header_line
    }

    /// The place of the column `name`; `hint` says what to do if it is not there.
    pub(crate) fn column(&self, name: &str, hint: &str) -> Result<usize> {
        let mut places =
            self.header.iter().enumerate().filter(|(_, column)| column.trim() == name).map(|(place, _)| place);
        match (places.next(), places.next()) {
            (Some(place), None) => Ok(place),
            (first, _) => {
                let expected = format!("one column named {}", quoted(name));
                let columns = quoted_list(self.header.iter().map(AsRef::as_ref));
                let found = if first.is_some() { "more than one in " } else { "the columns " };
                Err(Error::malformed(&self.path, Some(self.header_line), expected, format!("{found}{columns}"), hint))
            }
        }
    }

    /// Says which columns are read, by their places, and as what.
    pub(crate) fn select(&mut self, columns: &[(usize, Kind)]) -> Result<()> {
        self.records.select(columns)
    }

    /// The line or number of the next record, from 1, and the cells of the selected columns; `None` after the last record.
    pub(crate) fn next(&mut self) -> Result<Option<(usize, &[String])>> {
        Ok(self.records.next(&mut self.cells)?.map(|place| (place, self.cells.as_slice())))
    }
}
