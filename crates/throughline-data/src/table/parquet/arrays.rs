//! Arrays as a Parquet file: each row has a number, a text or a list of numbers of every column.

use std::io::{self, Write};
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int32Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};

/// Numbers of a group of rows at most, unless a row has more.
const GROUP: usize = 1 << 20;

/// A column of a file of arrays. Every row has a value.
#[derive(Clone, Debug)]
pub enum ParquetArray<'a> {
    /// A whole number in each row, below 2^31.
    Indices(&'a [u32]),
    /// A text in each row.
    Texts(Vec<&'a str>),
    /// `[rows, width]`: a list of numbers in each row.
    Lists {
        /// Numbers of a list, at least one.
        width: usize,
        /// The numbers, row by row.
        values: &'a [f32],
    },
}

impl ParquetArray<'_> {
    fn rows(&self) -> usize {
        match self {
            Self::Indices(numbers) => numbers.len(),
            Self::Texts(texts) => texts.len(),
            Self::Lists { width, values } => values.len() / width,
        }
    }

    fn schema(&self, name: &str) -> io::Result<TypePtr> {
        let required = |name, physical, logical| {
            let builder = Type::primitive_type_builder(name, physical).with_repetition(Repetition::REQUIRED);
            io::Result::Ok(Arc::new(builder.with_logical_type(logical).build()?))
        };
        match self {
            Self::Indices(_) => required(name, Physical::INT32, None),
            Self::Texts(_) => required(name, Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Self::Lists { .. } => {
                // As the format's rules on lists have it: a group for the list, one that repeats, and the element.
                let repeated = Type::group_type_builder("list").with_repetition(Repetition::REPEATED);
                let repeated = repeated.with_fields(vec![required("element", Physical::FLOAT, None)?]).build()?;
                let list = Type::group_type_builder(name).with_repetition(Repetition::REQUIRED);
                let list = list.with_logical_type(Some(LogicalType::List)).with_fields(vec![Arc::new(repeated)]);
                Ok(Arc::new(list.build()?))
            }
        }
    }

    /// Writes some of the rows as the next column of a group.
    fn write(&self, rows: Range<usize>, group: &mut SerializedRowGroupWriter<'_, Vec<u8>>) -> io::Result<()> {
        match self {
            Self::Indices(numbers) => {
                let numbers: Vec<i32> = numbers[rows].iter().map(|&number| number as i32).collect();
                write::<Int32Type>(group, &numbers, None)
            }
            Self::Texts(texts) => {
                let texts: Vec<ByteArray> = texts[rows].iter().map(|&text| text.into()).collect();
                write::<ByteArrayType>(group, &texts, None)
            }
            Self::Lists { width, values } => {
                let values = &values[rows.start * width..rows.end * width];
                // The first element of a list begins a row, and none is missing.
                let repetition: Vec<i16> = (0..values.len()).map(|place| i16::from(place % width != 0)).collect();
                write::<FloatType>(group, values, Some((&vec![1; values.len()], &repetition)))
            }
        }
    }
}

fn write<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    values: &[T::T],
    levels: Option<(&[i16], &[i16])>,
) -> io::Result<()> {
    let mut column = group.next_column()?.expect("a writer for each column");
    column.typed::<T>().write_batch(values, levels.map(|levels| levels.0), levels.map(|levels| levels.1))?;
    Ok(column.close()?)
}

/// Writes a file with these columns, by name.
///
/// # Errors
/// If `file` cannot be written to.
///
/// # Panics
/// If the columns have different numbers of rows, or a list has none.
pub fn write_parquet_arrays(columns: &[(&str, ParquetArray<'_>)], file: &mut dyn Write) -> io::Result<()> {
    let rows = columns.first().map_or(0, |(_, column)| column.rows());
    assert!(columns.iter().all(|(_, column)| column.rows() == rows), "every column has {rows} rows");
    let widest =
        columns.iter().map(|(_, column)| if let ParquetArray::Lists { width, .. } = column { *width } else { 1 });
    let of_group = (GROUP / widest.max().unwrap_or(1)).max(1);
    let fields = columns.iter().map(|(name, column)| column.schema(name)).collect::<io::Result<_>>()?;
    let schema = Arc::new(Type::group_type_builder("arrays").with_fields(fields).build()?);
    // Numbers that hardly ever come twice need no dictionary.
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).set_dictionary_enabled(false);
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties.build()))?;
    for start in (0..rows).step_by(of_group) {
        let mut group = writer.next_row_group()?;
        for (_, column) in columns {
            column.write(start..rows.min(start + of_group), &mut group)?;
        }
        group.close()?;
        file.write_all(&mem::take(writer.inner_mut()))?;
    }
    file.write_all(&writer.into_inner()?)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;

    use super::*;

    #[test]
    fn a_file_is_read_back_by_the_crate_itself() {
        let width = 3;
        // More than one group, of which the last is not full.
        let rows = GROUP / width + 2;
        let values: Vec<f32> = (0..rows * width).map(|place| place as f32 / 7.0).collect();
        let indices: Vec<u32> = (0..rows as u32).collect();
        let texts = indices.iter().map(|row| if row % 2 == 0 { "\u{e4}" } else { "" }).collect();
        let columns = [
            ("time", ParquetArray::Indices(&indices)),
            ("piece", ParquetArray::Texts(texts)),
            ("rnn.l0.h", ParquetArray::Lists { width, values: &values }),
        ];
        let mut file = Vec::new();
        write_parquet_arrays(&columns, &mut file).unwrap();
        let reader = SerializedFileReader::new(Bytes::from(file)).unwrap();
        assert_eq!(reader.num_row_groups(), 2);
        let mut read = 0;
        for (row, found) in reader.get_row_iter(None).unwrap().enumerate() {
            // As the crate writes numbers.
            let list: Vec<String> =
                values[row * width..][..width].iter().map(|x| Field::Float(*x).to_string()).collect();
            let list = list.join(", ");
            let piece = if row % 2 == 0 { "\u{e4}" } else { "" };
            let expected = format!("{{time: {row}, piece: \"{piece}\", rnn.l0.h: [{list}]}}");
            if row < 9 || row + 9 > rows {
                assert_eq!(found.unwrap().to_string(), expected);
            }
            read += 1;
        }
        assert_eq!(read, rows);
    }

    #[test]
    fn there_may_be_no_row() {
        let mut file = Vec::new();
        write_parquet_arrays(&[("h", ParquetArray::Lists { width: 2, values: &[] })], &mut file).unwrap();
        assert_eq!(SerializedFileReader::new(Bytes::from(file)).unwrap().metadata().file_metadata().num_rows(), 0);
    }
}
