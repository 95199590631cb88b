//! Files written and read back, and files that are damaged.

use std::sync::Arc;

use parquet::basic::{Compression, Encoding, GzipLevel, ZstdLevel};
use parquet::data_type::{
    BoolType, ByteArray, ByteArrayType, DataType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, FloatType,
    Int32Type, Int64Type, Int96, Int96Type,
};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};

use super::writer::ParquetWriter;
use crate::error::Result;
use crate::table::{Kind, Table, TableFormat};
use crate::testing::Folder;
use crate::text::TextReader;

const SCHEMA: &str = "message table {
    optional binary name (UTF8);
    required int32 small (INT_8);
    optional int64 large (UINT_64);
    optional boolean yes;
    required float single;
    optional double double;
    required int32 day (DATE);
    required int64 time (TIMESTAMP(NANOS, false));
    required int96 old;
    required fixed_len_byte_array(3) price (DECIMAL(6, 2));
    optional binary plain;
    required group list (LIST) { repeated group list { optional int32 element; } }
    required fixed_len_byte_array(16) id (UUID);
}";

fn column<T: DataType>(group: &mut SerializedRowGroupWriter<'_, &mut Vec<u8>>, values: &[Option<T::T>]) {
    let mut column = group.next_column().unwrap().unwrap();
    let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    let present: Vec<T::T> = values.iter().flatten().cloned().collect();
    column.typed::<T>().write_batch(&present, Some(&levels), None).unwrap();
    column.close().unwrap();
}

/// Two groups of two rows.
fn file(compression: Compression, version: WriterVersion) -> Vec<u8> {
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_writer_version(version)
        .set_column_encoding("single".into(), Encoding::BYTE_STREAM_SPLIT)
        .set_column_dictionary_enabled("single".into(), false);
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties.build())).unwrap();
    for first in [0, 2] {
        let mut row_group = writer.next_row_group().unwrap();
        let group = &mut row_group;
        let text = |text: &str| Some(ByteArray::from(text));
        column::<ByteArrayType>(group, &[text(if first == 0 { "fine" } else { "naïve, \"so\"\n" }), None]);
        column::<Int32Type>(group, &[Some(first - 1), Some(7)]);
        column::<Int64Type>(group, &[Some(-1), None]);
        column::<BoolType>(group, &[Some(true), Some(false)]);
        column::<FloatType>(group, &[Some(0.1), Some(-2.0)]);
        column::<DoubleType>(group, &[None, Some(1e-3)]);
        column::<Int32Type>(group, &[Some(0), Some(16_983)]);
        column::<Int64Type>(group, &[Some(1_467_376_200_000_000_001), Some(0)]);
        column::<Int96Type>(
            group,
            &[Some(Int96::from(vec![0, 0, 2_440_588])), Some(Int96::from(vec![1, 0, 2_440_588]))],
        );
        let fixed = |bytes: &[u8]| Some(FixedLenByteArray::from(bytes.to_vec()));
        column::<FixedLenByteArrayType>(group, &[fixed(&[0, 4, 210]), fixed(&[255, 255, 255])]);
        column::<ByteArrayType>(group, &[text("plain"), None]);
        let mut list = group.next_column().unwrap().unwrap();
        list.typed::<Int32Type>().write_batch(&[1, 2, 3], Some(&[2, 2, 2]), Some(&[0, 1, 0])).unwrap();
        list.close().unwrap();
        column::<FixedLenByteArrayType>(group, &[fixed(&[1; 16]), fixed(&[2; 16])]);
        row_group.close().unwrap();
    }
    writer.close().unwrap();
    bytes
}

/// The rows of the columns of those names, each as a cell of that kind.
fn read(bytes: &[u8], columns: &[(&str, Kind)]) -> Result<Vec<Vec<String>>> {
    let folder = Folder::new(&[("table.parquet", bytes)]);
    let mut table = Table::open(&folder.join("table.parquet"), TableFormat::Parquet, &TextReader::default())?;
    let places = columns.iter().map(|&(name, kind)| Ok((table.column(name, "")?, kind)));
    let places = places.collect::<Result<Vec<_>>>()?;
    table.select(&places)?;
    let mut rows = Vec::new();
    while let Some((row, cells)) = table.next()? {
        rows.push(cells.to_vec());
        assert_eq!(row, rows.len());
    }
    Ok(rows)
}

fn all() -> Vec<(&'static str, Kind)> {
    let names = ["name", "small", "large", "yes", "single", "double", "day", "time", "old", "price", "plain"];
    names.into_iter().map(|name| (name, Kind::Name)).collect()
}

#[test]
fn every_type_with_every_compression() {
    let want = [
        ["fine", "-1", "18446744073709551615", "true", "0.1", "", "1970-01-01", "2016-07-01 12:30:00.000000001"],
        ["", "7", "", "false", "-2", "0.001", "2016-07-01", "1970-01-01 00:00:00"],
        [
            "naïve, \"so\"\n",
            "1",
            "18446744073709551615",
            "true",
            "0.1",
            "",
            "1970-01-01",
            "2016-07-01 12:30:00.000000001",
        ],
        ["", "7", "", "false", "-2", "0.001", "2016-07-01", "1970-01-01 00:00:00"],
    ];
    let rest = [["1970-01-01 00:00:00", "12.34", "plain"], ["1970-01-01 00:00:00.000000001", "-0.01", ""]];
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
    ] {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            let rows = read(&file(compression, version), &all()).unwrap();
            for (index, row) in rows.iter().enumerate() {
                let want: Vec<&str> = want[index].iter().chain(&rest[index % 2]).copied().collect();
                assert_eq!(*row, want, "row {index} with {compression}");
            }
            assert_eq!(rows.len(), 4);
        }
    }
    let bytes = file(Compression::SNAPPY, WriterVersion::PARQUET_1_0);
    assert_eq!(read(&bytes, &[("yes", Kind::Number)]).unwrap().concat(), ["1", "0", "1", "0"]);
    assert_eq!(read(&bytes, &[("time", Kind::Time), ("name", Kind::Text)]).unwrap()[0][1], "fine");
}

#[test]
fn a_column_of_another_type_is_named() {
    let bytes = file(Compression::SNAPPY, WriterVersion::PARQUET_1_0);
    for (name, kind, want) in [
        ("small", Kind::Text, "table.parquet: expected texts in the column \"small\", found whole numbers;"),
        ("single", Kind::Text, "expected texts in the column \"single\", found numbers;"),
        ("day", Kind::Number, "expected numbers in the column \"day\", found dates;"),
        ("yes", Kind::Time, "expected numbers or dates in the column \"yes\", found truth values;"),
        ("list", Kind::Text, "expected texts in the column \"list\", found values with parts;"),
        ("id", Kind::Name, "found values of the type Uuid;"),
        ("missing", Kind::Text, "expected one column named \"missing\", found the columns \"name\", \"small\""),
    ] {
        let error = read(&bytes, &[(name, kind)]).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
}

#[test]
fn what_is_no_parquet_is_said() {
    for (bytes, want) in [
        (
            &b"text,label\na,b\n"[..],
            "expected Parquet, which begins and ends with PAR1, found \"text\" at the beginning;",
        ),
        (b"", "found \"\" at the beginning;"),
        (b"PARE....", "found an encrypted file; write it without encryption"),
        (b"PAR1", "the file is damaged or cut short: write it again"),
        (b"\x1f\x8b\x08\0....", "a file that is compressed as a whole must be decompressed"),
    ] {
        let error = read(bytes, &[]).unwrap_err().to_string();
        assert!(error.contains("table.parquet: ") && error.contains(want), "{error}");
    }
}

/// Cut anywhere it is an error, and with a bit turned an error or some table: never a panic that gets out.
#[test]
fn damaged_files_are_errors() {
    let bytes = file(Compression::UNCOMPRESSED, WriterVersion::PARQUET_2_0);
    for length in (0..bytes.len()).step_by(11) {
        assert!(read(&bytes[..length], &all()).is_err(), "{length} of {} bytes", bytes.len());
    }
    for place in (0..bytes.len()).step_by(7) {
        let mut turned = bytes.clone();
        turned[place] ^= 1 << (place % 8);
        drop(read(&turned, &all()));
    }
}

#[test]
fn what_the_writer_writes_is_read() {
    let columns = ["text", "label", "count", "share", "yes", "parts", "nothing", "mixed"];
    let mut writer = ParquetWriter::new(columns.map(String::from).to_vec());
    let rows = 10_000;
    let row = |n: usize| -> Vec<Value> {
        let share = if n.is_multiple_of(3) { Value::Null } else { json!(n as f64 / 8.0) };
        let mixed = if n.is_multiple_of(2) { json!(1) } else { json!("one") };
        vec![
            json!(format!("text {n}")),
            json!("é"),
            json!(n),
            share,
            json!(n.is_multiple_of(2)),
            json!([n, null]),
            Value::Null,
            mixed,
        ]
    };
    let mut bytes: Vec<u8> = (0..rows).flat_map(|n| writer.push(row(n)).unwrap()).collect();
    assert!(!bytes.is_empty(), "bytes come before the end");
    bytes.extend(writer.finish().unwrap());
    let got = read(&bytes, &columns.map(|name| (name, Kind::Name))).unwrap();
    assert_eq!(got.len(), rows);
    for (n, got) in got.iter().enumerate() {
        let cell = |value: &Value| match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string().trim_end_matches(".0").to_owned(),
        };
        assert_eq!(*got, row(n).iter().map(cell).collect::<Vec<_>>(), "row {n}");
    }
    let empty = ParquetWriter::new(vec!["text".to_owned()]).finish().unwrap();
    assert_eq!(read(&empty, &[("text", Kind::Text)]).unwrap().len(), 0);
    let mut writer = ParquetWriter::new(vec!["n".to_owned()]);
    let pushed: std::io::Result<Vec<_>> =
        (0..20_000).map(|n| writer.push(vec![if n < 9_000 { json!(n) } else { json!("x") }])).collect();
    let error = pushed.unwrap_err().to_string();
    assert_eq!(error, "column \"n\": expected whole numbers as before, found \"\\\"x\\\"\"");
}
