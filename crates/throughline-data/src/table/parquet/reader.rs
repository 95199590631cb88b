//! The records of a Parquet file: a batch of rows of the selected columns at a time, group of rows after group of rows.
//!
//! A column whose values have parts cannot be a cell and is refused where it is selected; the others do not matter. The
//! number of a record is that of its row in the file, from 1.

use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{
    BoolType, ByteArrayType, DataType, DoubleType, FixedLenByteArrayType, FloatType, Int32Type, Int64Type, Int96Type,
};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;

use super::footer::{self, ENCRYPTED, MAGIC};
use super::meaning::{Meaning, real};
use super::pages::Pages;
use super::source::Source;
use crate::error::{Error, Result, quoted};
use crate::table::{Cells, Kind, Records};
use crate::text::TextReader;

/// Rows that are decoded at a time.
pub(super) const BATCH: usize = 128;

/// A result whose error says what was found.
type InWords<T> = std::result::Result<T, String>;

const DAMAGED: &str = "the file is damaged or cut short: write it again";

/// The records of a file.
pub(in crate::table) struct Parquet {
    path: PathBuf,
    source: Arc<Source>,
    metadata: ParquetMetaData,
    /// For each column of the header, its place among the columns that hold values; `None` if it has parts.
    leaves: Vec<Option<usize>>,
    header: Vec<String>,
    selected: Vec<Selected>,
    /// The group that is read next.
    group: usize,
    /// The columns of the group before it, in the order of `selected`.
    columns: Vec<Column>,
    /// Rows of that group that are not decoded yet, and decoded rows that are not taken yet.
    left: usize,
    decoded: usize,
    /// Rows that were taken.
    row: usize,
}

/// A column that is read.
#[derive(Clone, Copy)]
struct Selected {
    leaf: usize,
    place: usize,
    meaning: Meaning,
    kind: Kind,
}

/// The records and the names of the columns.
pub(in crate::table) fn open(path: &Path, text: &TextReader) -> Result<(Parquet, Vec<String>)> {
    let wrong =
        |found: &str, hint: &str| Error::malformed(path, None, "Parquet, which begins and ends with PAR1", found, hint);
    let mut file = File::open(path).map_err(Error::io(path))?;
    let about = file.metadata().map_err(Error::io(path))?;
    if !about.is_file() {
        return Err(wrong("no regular file", "Parquet is read from its end: save it as a file"));
    }
    let mut magic = Vec::new();
    (&mut file).take(MAGIC.len() as u64).read_to_end(&mut magic).map_err(Error::io(path))?;
    match &magic[..] {
        magic if magic == MAGIC => {}
        magic if magic == ENCRYPTED => return Err(wrong("an encrypted file", "write it without encryption")),
        _ => {
            let hint = "a file that is compressed as a whole must be decompressed; Parquet compresses its own columns";
            return Err(wrong(&format!("{} at the beginning", quoted(&String::from_utf8_lossy(&magic))), hint));
        }
    }
    let source = Source::new(file, about.len(), text.limit());
    let metadata = guarded(|| footer::read(&source)).map_err(|found| wrong(&found, DAMAGED))?;
    let schema = metadata.file_metadata().schema_descr();
    let fields = schema.root_schema().get_fields();
    let header: Vec<String> = fields.iter().map(|field| text.rules().clean(field.name()).into_owned()).collect();
    let mut leaves = vec![None; fields.len()];
    for leaf in 0..schema.num_columns() {
        let place = schema.get_column_root_idx(leaf);
        leaves[place] = Some(leaf).filter(|_| fields[place].is_primitive());
    }
    let records = Parquet {
        path: path.into(),
        source: Arc::new(source),
        metadata,
        leaves,
        header: header.clone(),
        selected: Vec::new(),
        group: 0,
        columns: Vec::new(),
        left: 0,
        decoded: 0,
        row: 0,
    };
    Ok((records, header))
}

impl Records for Parquet {
    fn select(&mut self, columns: &[(usize, Kind)]) -> Result<()> {
        let schema = self.metadata.file_metadata().schema_descr();
        let select = |&(place, kind): &(usize, Kind)| {
            let leaf = self.leaves[place].ok_or_else(|| "values with parts".to_owned());
            let meaning = leaf.and_then(|leaf| Ok((leaf, Meaning::of(&schema.column(leaf))?)));
            match meaning {
                Ok((leaf, meaning)) if meaning.is(kind) => Ok(Selected { leaf, place, meaning, kind }),
                Ok((_, meaning)) => Err(self.wrong_column(place, kind, meaning.in_words())),
                Err(found) => Err(self.wrong_column(place, kind, &found)),
            }
        };
        self.selected = columns.iter().map(select).collect::<Result<_>>()?;
        self.check_compression()
    }

    fn next(&mut self, cells: &mut Cells) -> Result<Option<usize>> {
        while self.decoded == 0 {
            if self.left == 0 {
                if self.group == self.metadata.num_row_groups() {
                    return Ok(None);
                }
                self.open_group()?;
            } else {
                self.decode()?;
            }
        }
        self.decoded -= 1;
        self.row += 1;
        cells.clear();
        for (column, selected) in self.columns.iter_mut().zip(&self.selected) {
            if let Err(found) = column.take(selected, cells.push()) {
                let expected = format!("{} in {}", in_words(selected.kind), quoted(&self.header[selected.place]));
                return Err(Error::malformed(&self.path, Some(self.row), expected, found, "correct the value"));
            }
        }
        Ok(Some(self.row))
    }
}

impl Parquet {
    /// Goes on to the next group of rows.
    fn open_group(&mut self) -> Result<()> {
        let group = self.metadata.row_group(self.group);
        let rows = group.num_rows();
        let rows = usize::try_from(rows).map_err(|_| self.damaged(format!("a group of {rows} rows")))?;
        let open = |selected: &Selected| {
            let chunk = group.column(selected.leaf);
            let pages = Pages::new(&self.source, chunk, rows)?;
            Ok(Column::new(get_column_reader(chunk.column_descr_ptr(), Box::new(pages))))
        };
        let columns = guarded(|| self.selected.iter().map(open).collect());
        self.columns = columns.map_err(|found| self.damaged(found))?;
        self.left = rows;
        self.group += 1;
        Ok(())
    }

    /// # Errors
    /// If a selected column is compressed by a method that this program lacks.
    fn check_compression(&self) -> Result<()> {
        for group in self.metadata.row_groups() {
            for selected in &self.selected {
                let compression = group.column(selected.leaf).compression();
                if !matches!(
                    compression,
                    Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::GZIP(_) | Compression::ZSTD(_)
                ) {
                    let column = quoted(&self.header[selected.place]);
                    let expected = format!("the column {column} uncompressed or by snappy, gzip or zstd");
                    let hint = "write the table with one of these";
                    // What follows the name is its level.
                    let method = compression.to_string();
                    let method = method.split('(').next().unwrap_or_default();
                    return Err(Error::malformed(&self.path, None, expected, method, hint));
                }
            }
        }
        Ok(())
    }

    /// Decodes the next rows of the group.
    fn decode(&mut self) -> Result<()> {
        let rows = self.left.min(BATCH);
        self.source.begin_batch();
        for column in &mut self.columns {
            let read = guarded(|| column.read(rows));
            let found = match read {
                Ok(read) if read == rows => continue,
                Ok(_) => "a column with fewer values than there are rows".to_owned(),
                Err(found) => found,
            };
            return Err(self.damaged(found));
        }
        self.left -= rows;
        self.decoded = rows;
        Ok(())
    }

    fn damaged(&self, found: String) -> Error {
        Error::malformed(&self.path, Some(self.row + 1), "a row of Parquet", found, DAMAGED)
    }

    fn wrong_column(&self, place: usize, kind: Kind, found: &str) -> Error {
        let expected = format!("{} in the column {}", in_words(kind), quoted(&self.header[place]));
        Error::malformed(
            &self.path,
            None,
            expected,
            found,
            "write the column with another type, or name another column",
        )
    }
}

fn in_words(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "texts",
        Kind::Name => "texts, numbers or truth values",
        Kind::Number => "numbers",
        Kind::Time => "numbers or dates",
    }
}

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic on this thread is caught and becomes an [`Error`], so that a program's panic hook need not tell it.
pub fn panic_is_caught() -> bool {
    GUARDED.get()
}

/// Calls `read`, and puts what went wrong into words. Files are hostile, and the decoders of the library are known to
/// panic on some: here a panic is one more error. What was being read is not used again.
fn guarded<T>(read: impl FnOnce() -> parquet::errors::Result<T>) -> InWords<T> {
    GUARDED.set(true);
    let read = catch_unwind(AssertUnwindSafe(read));
    GUARDED.set(false);
    match read {
        Ok(read) => read.map_err(|error| match error {
            ParquetError::General(said) | ParquetError::EOF(said) | ParquetError::NYI(said) => said,
            other => other.to_string(),
        }),
        Err(_) => Err("what no Parquet file has".to_owned()),
    }
}

/// The decoded values of a column, of the rows that have one.
enum Values {
    Truth(Typed<BoolType>),
    Int32(Typed<Int32Type>),
    Int64(Typed<Int64Type>),
    Int96(Typed<Int96Type>),
    Float(Typed<FloatType>),
    Double(Typed<DoubleType>),
    Bytes(Typed<ByteArrayType>),
    Fixed(Typed<FixedLenByteArrayType>),
}

/// A column of a group of rows.
struct Column {
    /// Of each row of the batch whether it has a value, 1 or 0; empty where every row must have one.
    levels: Vec<i16>,
    /// The row that is taken next.
    row: usize,
    values: Values,
}

/// Its reader, the values of a batch, and the one that is taken next.
struct Typed<T: DataType> {
    reader: ColumnReaderImpl<T>,
    values: Vec<T::T>,
    next: usize,
}

impl<T: DataType> Typed<T> {
    fn new(reader: ColumnReaderImpl<T>) -> Self {
        Self { reader, values: Vec::new(), next: 0 }
    }

    fn read(&mut self, rows: usize, levels: &mut Vec<i16>) -> parquet::errors::Result<usize> {
        self.values.clear();
        self.next = 0;
        let (mut read, mut exhausted) = (0, false);
        // A call ends with a page.
        while read < rows && !exhausted {
            let (records, _, _) = self.reader.read_records(rows - read, Some(levels), None, &mut self.values)?;
            exhausted = records == 0;
            read += records;
        }
        Ok(read)
    }

    /// The next value.
    fn next(&mut self) -> InWords<&T::T> {
        let value = self.values.get(self.next);
        self.next += 1;
        value.ok_or_else(|| "no value".to_owned())
    }
}

impl Column {
    fn new(reader: ColumnReader) -> Self {
        let values = match reader {
            ColumnReader::BoolColumnReader(reader) => Values::Truth(Typed::new(reader)),
            ColumnReader::Int32ColumnReader(reader) => Values::Int32(Typed::new(reader)),
            ColumnReader::Int64ColumnReader(reader) => Values::Int64(Typed::new(reader)),
            ColumnReader::Int96ColumnReader(reader) => Values::Int96(Typed::new(reader)),
            ColumnReader::FloatColumnReader(reader) => Values::Float(Typed::new(reader)),
            ColumnReader::DoubleColumnReader(reader) => Values::Double(Typed::new(reader)),
            ColumnReader::ByteArrayColumnReader(reader) => Values::Bytes(Typed::new(reader)),
            ColumnReader::FixedLenByteArrayColumnReader(reader) => Values::Fixed(Typed::new(reader)),
        };
        Self { levels: Vec::new(), row: 0, values }
    }

    /// Decodes the values of the next `rows` rows, and returns of how many it could.
    fn read(&mut self, rows: usize) -> parquet::errors::Result<usize> {
        let levels = &mut self.levels;
        levels.clear();
        self.row = 0;
        match &mut self.values {
            Values::Truth(typed) => typed.read(rows, levels),
            Values::Int32(typed) => typed.read(rows, levels),
            Values::Int64(typed) => typed.read(rows, levels),
            Values::Int96(typed) => typed.read(rows, levels),
            Values::Float(typed) => typed.read(rows, levels),
            Values::Double(typed) => typed.read(rows, levels),
            Values::Bytes(typed) => typed.read(rows, levels),
            Values::Fixed(typed) => typed.read(rows, levels),
        }
    }

    /// Writes the value of the next row into `cell`; nothing if it has none.
    fn take(&mut self, selected: &Selected, cell: &mut String) -> InWords<()> {
        let has_value = self.levels.get(self.row).is_none_or(|&level| level > 0);
        self.row += 1;
        if !has_value {
            return Ok(());
        }
        let meaning = selected.meaning;
        match &mut self.values {
            Values::Truth(typed) => meaning.truth(*typed.next()?, selected.kind, cell),
            Values::Int32(typed) => meaning.int32(*typed.next()?, cell),
            Values::Int64(typed) => meaning.int64(*typed.next()?, cell),
            Values::Int96(typed) => return meaning.int96(typed.next()?, cell),
            Values::Float(typed) => real(*typed.next()?, cell),
            Values::Double(typed) => real(*typed.next()?, cell),
            Values::Bytes(typed) => return meaning.bytes(typed.next()?.data(), cell),
            Values::Fixed(typed) => return meaning.bytes(typed.next()?.data(), cell),
        }
        Ok(())
    }
}
