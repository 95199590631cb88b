//! Rows of JSON values as a Parquet file, a group of rows at a time.

use std::io;
use std::mem;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;
use serde_json::Value;

use crate::error::quoted;

/// Rows of a group.
const GROUP: usize = 1 << 13;

/// A Parquet file that is made row by row. It hands out the bytes of the file as they come, and holds a group of 8192 rows.
///
/// The first group tells the type of each column: truth values, whole numbers, numbers, or texts; what is a list or an object
/// is JSON text, and so is everything in a column of values of several kinds. A null is a missing value.
pub struct ParquetWriter {
    columns: Vec<String>,
    rows: Vec<Vec<Value>>,
    file: Option<(SerializedFileWriter<Vec<u8>>, Vec<ColumnType>)>,
}

/// What the values of a column are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ColumnType {
    Truth,
    Integer,
    Real,
    Text,
}

impl ParquetWriter {
    /// A file with these columns.
    pub fn new(columns: Vec<String>) -> Self {
        Self { columns, rows: Vec::new(), file: None }
    }

    /// Takes in a row, a value for each column, and returns the bytes of the file that are now known to come next.
    ///
    /// # Errors
    /// If a value does not have the type of its column.
    ///
    /// # Panics
    /// If there are not as many values as columns.
    pub fn push(&mut self, row: Vec<Value>) -> io::Result<Vec<u8>> {
        assert_eq!(row.len(), self.columns.len(), "a value for each column");
        self.rows.push(row);
        if self.rows.len() == GROUP { self.write_group() } else { Ok(Vec::new()) }
    }

    /// The last bytes of the file.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(mut self) -> io::Result<Vec<u8>> {
        let mut bytes = self.write_group()?;
        let (file, _) = self.file.expect("a group, which may be empty, was written");
        bytes.append(&mut file.into_inner()?);
        Ok(bytes)
    }

    /// Writes the rows that wait.
    fn write_group(&mut self) -> io::Result<Vec<u8>> {
        let rows = mem::take(&mut self.rows);
        if self.file.is_none() {
            self.file = Some(begin(&self.columns, &rows)?);
        }
        let (file, types) = self.file.as_mut().expect("it was begun");
        if !rows.is_empty() {
            let mut group = file.next_row_group()?;
            for (index, (name, kind)) in self.columns.iter().zip(types).enumerate() {
                let values = rows.iter().map(|row| &row[index]);
                match kind {
                    ColumnType::Truth => write::<BoolType>(&mut group, name, "truth values", values, Value::as_bool)?,
                    ColumnType::Integer => {
                        write::<Int64Type>(&mut group, name, "whole numbers", values, Value::as_i64)?
                    }
                    ColumnType::Real => write::<DoubleType>(&mut group, name, "numbers", values, Value::as_f64)?,
                    ColumnType::Text => write::<ByteArrayType>(&mut group, name, "texts", values, text)?,
                }
            }
            group.close()?;
        }
        Ok(mem::take(file.inner_mut()))
    }
}

/// A file whose columns have the types of `rows`.
fn begin(columns: &[String], rows: &[Vec<Value>]) -> io::Result<(SerializedFileWriter<Vec<u8>>, Vec<ColumnType>)> {
    let types: Vec<ColumnType> = (0..columns.len()).map(|index| type_of(rows.iter().map(|row| &row[index]))).collect();
    let field = |(name, kind): (&String, &ColumnType)| {
        let (physical, logical) = match kind {
            ColumnType::Truth => (Physical::BOOLEAN, None),
            ColumnType::Integer => (Physical::INT64, None),
            ColumnType::Real => (Physical::DOUBLE, None),
            ColumnType::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        };
        let builder = Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL);
        Ok(Arc::new(builder.with_logical_type(logical).build()?))
    };
    let fields = columns.iter().zip(&types).map(field).collect::<io::Result<_>>()?;
    let schema = Type::group_type_builder("table").with_fields(fields).build()?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    Ok((SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties))?, types))
}

fn type_of<'v>(values: impl Iterator<Item = &'v Value>) -> ColumnType {
    let of_value = |value: &Value| match value {
        Value::Bool(_) => ColumnType::Truth,
        Value::Number(number) if number.is_i64() => ColumnType::Integer,
        Value::Number(_) => ColumnType::Real,
        _ => ColumnType::Text,
    };
    let common = |a: ColumnType, b: ColumnType| match (a, b) {
        (a, b) if a == b => a,
        (ColumnType::Integer, ColumnType::Real) | (ColumnType::Real, ColumnType::Integer) => ColumnType::Real,
        _ => ColumnType::Text,
    };
    values.filter(|value| !value.is_null()).map(of_value).reduce(common).unwrap_or(ColumnType::Text)
}

fn text(value: &Value) -> Option<ByteArray> {
    Some(match value {
        Value::String(text) => text.as_str().into(),
        other => other.to_string().into_bytes().into(),
    })
}

/// Writes the next column of a group.
fn write<'v, T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    name: &str,
    expected: &str,
    values: impl Iterator<Item = &'v Value>,
    convert: fn(&Value) -> Option<T::T>,
) -> io::Result<()> {
    let (mut levels, mut present) = (Vec::new(), Vec::new());
    for value in values {
        levels.push(i16::from(!value.is_null()));
        if !value.is_null() {
            present.push(convert(value).ok_or_else(|| {
                let found = quoted(&value.to_string());
                io::Error::other(format!("column {}: expected {expected} as before, found {found}", quoted(name)))
            })?);
        }
    }
    let mut column = group.next_column()?.expect("a writer for each column");
    column.typed::<T>().write_batch(&present, Some(&levels), None)?;
    Ok(column.close()?)
}
