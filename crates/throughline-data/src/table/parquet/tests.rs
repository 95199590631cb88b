//! Files written and read back, files of another writer, and files that are damaged.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, Encoding};
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
use crate::format::Format;
use crate::labelled::reader::LabelledReader;
use crate::series::SeriesSet;
use crate::series::reader::{SeriesReader, WantedAnswers};
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
    read_file(&folder.join("table.parquet"), columns, &TextReader::default())
}

fn read_file(path: &Path, columns: &[(&str, Kind)], text: &TextReader) -> Result<Vec<Vec<String>>> {
    let mut table = Table::open(path, TableFormat::Parquet, text)?;
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
fn every_type_in_both_versions() {
    let want = [
        ["fine", "-1", "18446744073709551615", "true", "0.1", "", "1970-01-01", "2016-07-01 12:30:00.000000001"],
        ["", "7", "", "false", "-2.0", "0.001", "2016-07-01", "1970-01-01 00:00:00"],
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
        ["", "7", "", "false", "-2.0", "0.001", "2016-07-01", "1970-01-01 00:00:00"],
    ];
    let rest = [["1970-01-01 00:00:00", "12.34", "plain"], ["1970-01-01 00:00:00.000000001", "-0.01", ""]];
    for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY] {
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
    let whole = file(Compression::SNAPPY, WriterVersion::PARQUET_1_0);
    let encrypted = [&whole[..whole.len() - 4], b"PARE"].concat();
    let long = [b"PAR1".as_slice(), &[9, 0, 0, 0], b"PAR1"].concat();
    for (bytes, want) in [
        (
            &b"text,label\na,b\n"[..],
            "expected Parquet, which begins and ends with PAR1, found \"text\" at the beginning;",
        ),
        (b"", "found \"\" at the beginning;"),
        (b"PARE....", "found an encrypted file; write it without encryption"),
        (&encrypted, "found an encrypted footer;"),
        (b"PAR1", "the file is damaged or cut short: write it again"),
        (&whole[..whole.len() - 1], "found no PAR1 at the end; the file is damaged or cut short: write it again"),
        (&long, "found a footer longer than the file;"),
        (b"\x1f\x8b\x08\0....", "a file that is compressed as a whole must be decompressed"),
    ] {
        let error = read(bytes, &[]).unwrap_err().to_string();
        assert!(error.contains("table.parquet: ") && error.contains(want), "{error}");
    }
}

/// Files of pyarrow that hold the same table, encoded in different ways; see `fixtures/write.py`.
const FIXTURES: [(&str, &[u8]); 5] = [
    ("snappy", include_bytes!("fixtures/snappy.parquet")),
    ("gzip", include_bytes!("fixtures/gzip.parquet")),
    ("zstd", include_bytes!("fixtures/zstd.parquet")),
    ("none", include_bytes!("fixtures/none.parquet")),
    ("delta", include_bytes!("fixtures/delta.parquet")),
];
const COLUMNS: [&str; 9] = ["text", "label", "x", "n", "small", "truth", "time", "money", "nothing"];

#[test]
fn files_of_another_writer() {
    let four = [
        ["good, really", "a", "0.1", "1", "1", "true", "2016-07-01 12:30:00", "-0.05", ""],
        ["", "b", "", "", "", "", "", "", ""],
        ["", "", "", "-3", "255", "false", "", "", ""],
        ["é 🎬", "a", "-2.5e300", "4611686018427387904", "0", "true", "1969-12-31 00:00:00", "12345.67", ""],
    ];
    for (name, bytes) in FIXTURES {
        let rows = read(bytes, &COLUMNS.map(|column| (column, Kind::Name))).unwrap();
        assert_eq!(rows, vec![four.map(|row| row.map(str::to_owned).to_vec()); 3].concat(), "{name}");
    }
    // What is no number is a missing one.
    assert_eq!(read(FIXTURES[0].1, &[("x", Kind::Number)]).unwrap()[..3].concat(), ["0.1", "", ""]);
    let error = read(include_bytes!("fixtures/lz4.parquet"), &[("text", Kind::Text)]).unwrap_err().to_string();
    let want = "expected the column \"text\" uncompressed or by snappy, gzip or zstd, found LZ4";
    assert!(error.contains(want), "{error}");
    let error = read(FIXTURES[0].1, &[("bytes", Kind::Text)]).unwrap_err().to_string();
    assert!(error.contains("table.parquet:1: ") && error.contains("bytes that are not UTF-8"), "{error}");
}

#[test]
fn names_of_columns_are_cleaned() {
    let mut writer = ParquetWriter::new(vec!["cafe\u{301}".to_owned()]);
    let mut bytes = writer.push(vec![json!("x")]).unwrap();
    bytes.extend(writer.finish().unwrap());
    assert_eq!(read(&bytes, &[("café", Kind::Text)]).unwrap().concat(), ["x"]);
}

/// A table as CSV, and as Parquet with columns of numbers.
fn both(columns: &[&str], rows: &[&[Value]]) -> Folder {
    let cell = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let lines = rows.iter().map(|row| row.iter().map(cell).collect::<Vec<_>>().join(",") + "\n");
    let csv: String = columns.join(",") + "\n" + &lines.collect::<String>();
    let mut writer = ParquetWriter::new(columns.iter().map(|&name| name.to_owned()).collect());
    let mut bytes: Vec<u8> = rows.iter().flat_map(|row| writer.push(row.to_vec()).unwrap()).collect();
    bytes.extend(writer.finish().unwrap());
    Folder::new(&[("csv/a/x.csv", csv.as_bytes()), ("parquet/a/x.parquet", &bytes)])
}

#[test]
fn labelled_texts_are_those_of_other_tables() {
    let rows: [&[Value]; 4] = [
        &[json!(" cafe\u{301}"), json!("a")],
        &[json!("fine"), json!("b")],
        &[Value::Null, json!("b")],
        &[json!("third"), json!("a")],
    ];
    let folder = both(&["text", "label"], &rows);
    let paths = ["csv/a/x.csv", "parquet/a/x.parquet"];
    let mut read = paths.map(|name| LabelledReader::default().read(&[folder.join(name)]).unwrap());
    assert_eq!((read[1].format, read[1].blank), (Format::Parquet, 1));
    assert_eq!(read[1].examples[2].line, 4);
    for example in &mut read[0].examples {
        example.line -= 1;
    }
    assert_eq!((&read[0].examples, &read[0].labels), (&read[1].examples, &read[1].labels));
}

#[test]
fn series_are_those_of_other_tables() {
    let rows: [&[Value]; 3] = [
        &[json!("one"), json!(1.0), json!(0.1), json!(2), json!(5.0)],
        &[json!("two"), json!(1.0), json!(-3.0), Value::Null, json!(6.0)],
        &[json!("one"), json!(2.5), json!(1e-9), json!(4), Value::Null],
    ];
    let folder = both(&["id", "time", "x", "y", "target"], &rows);
    let wanted = WantedAnswers::Numbers { columns: Vec::new() };
    let reader = SeriesReader { wanted, ..Default::default() };
    let read = ["csv/a/x.csv", "parquet/a/x.parquet"].map(|name| reader.read(&[folder.join(name)]).unwrap());
    let shown = |set: &SeriesSet| -> String {
        (0..set.len()).map(|series| format!("{} {:?}\n", set.name(series), set.values(series))).collect()
    };
    assert_eq!(shown(&read[0]), shown(&read[1]));
    assert_eq!((&read[0].channels, &read[0].answers), (&read[1].channels, &read[1].answers));
    assert!(read[1].place(1).ends_with("x.parquet:2"));
    let reader = SeriesReader { channels: vec!["x".into(), "y".into()], ..Default::default() };
    let error = reader.read(&[folder.join("parquet")]).unwrap_err().to_string();
    assert!(error.contains("x.parquet:2: expected each time once in series \"a/x.parquet\""), "{error}");
}

/// Cut anywhere it is an error, and with a bit turned an error or some table: never a panic that gets out.
#[test]
fn damaged_files_are_errors() {
    let columns = COLUMNS.map(|column| (column, Kind::Name));
    let folder = Folder::new(&[("x.parquet", b"")]);
    let path = folder.join("x.parquet");
    let mut written = File::options().write(true).open(&path).unwrap();
    let text = TextReader::default().max_bytes(1 << 20);
    let mut refused = |bytes: &[u8], columns: &[(&str, Kind)]| {
        written.seek(SeekFrom::Start(0)).unwrap();
        written.write_all(bytes).unwrap();
        written.set_len(bytes.len() as u64).unwrap();
        read_file(&path, columns, &text).is_err()
    };
    let ours = file(Compression::UNCOMPRESSED, WriterVersion::PARQUET_2_0);
    let all = all();
    let files = FIXTURES.map(|(_, bytes)| (bytes, &columns[..])).into_iter().chain([(&ours[..], &all[..])]);
    for (bytes, columns) in files {
        for length in (0..bytes.len()).step_by(97) {
            assert!(refused(&bytes[..length], columns), "{length} of {} bytes", bytes.len());
        }
        let mut turned = bytes.to_vec();
        let mut count = 0;
        for place in (0..bytes.len()).step_by(13) {
            turned[place] ^= 1 << (place % 8);
            count += usize::from(refused(&turned, columns));
            turned[place] = bytes[place];
        }
        assert!(count > 0 && !refused(&turned, columns));
    }
}

/// A file with nothing but a footer whose schema is these elements: how many children each has.
fn schema(elements: &[u8]) -> Vec<u8> {
    let mut footer = vec![0x15, 2, 0x19, 0xfc];
    let mut length = elements.len();
    while length >= 0x80 {
        footer.push(length as u8 | 0x80);
        length >>= 7;
    }
    footer.push(length as u8);
    for &children in elements {
        match children {
            // A whole number that may be missing.
            0 => footer.extend([0x15, 2, 0x25, 2, 0x18, 1, b'a', 0]),
            _ => footer.extend([0x35, 0, 0x18, 1, b'a', 0x15, children * 2, 0]),
        }
    }
    footer.extend([0x16, 0, 0x19, 0x0c, 0]);
    let length = (footer.len() as u32).to_le_bytes();
    [b"PAR1", &footer[..], &length, b"PAR1"].concat()
}

#[test]
fn a_schema_is_looked_through_before_it_is_built() {
    assert_eq!(read(&schema(&[2, 0, 1, 0]), &[]).unwrap().len(), 0);
    let levels = |count: usize| [vec![1; count], vec![0]].concat();
    assert_eq!(read(&schema(&levels(64)), &[]).unwrap().len(), 0);
    let mut other = schema(&[1, 0]);
    // A length of text as the number of children.
    let place = other.iter().position(|&byte| byte == 0x35).unwrap() + 5;
    other[place] = 0x18;
    for (bytes, want) in [
        (schema(&levels(65)), "found a schema of too many levels"),
        (schema(&levels(200_000)), "found a schema of too many levels"),
        (schema(&[2, 0]), "found a schema with fewer fields than it says"),
        (schema(&[2, 1, 0]), "found a schema with fewer fields than it says"),
        (schema(&[63]), "found a schema with fewer fields than it says"),
        (schema(&[1, 0, 0]), "found Expected exactly one root node"),
        (other, "found a schema of unknown form"),
        (b"PAR1\x15\x02\x18\x00\x00\x05\0\0\0PAR1".to_vec(), "found a footer that does not begin with a version and a"),
    ] {
        let error = read(&bytes, &[]).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
}

/// A page that says it has more values than it can have, or that is larger than the limit when it is decompressed.
#[test]
fn pages_that_would_take_too_much_memory_are_refused() {
    let (_, none) = FIXTURES[3];
    let count = |at: usize, count: [u8; 5]| {
        let mut bytes = none.to_vec();
        bytes[at..at + 5].copy_from_slice(&count);
        bytes
    };
    let large = count(50, [0xff, 0xff, 0xff, 0xff, 0x7f]);
    let error = read(&large, &[("text", Kind::Text)]).unwrap_err().to_string();
    assert!(error.contains("table.parquet:1: ") && error.contains("differences that are more than"), "{error}");
    let zeros = "0".repeat(1 << 16);
    let folder = both(&["text"], &[&[json!(zeros)]]);
    let path = folder.join("parquet/a/x.parquet");
    for (limit, fits) in [(1 << 17, true), (1 << 16, false)] {
        let read = read_file(&path, &[("text", Kind::Text)], &TextReader::default().max_bytes(limit));
        assert_eq!(read.is_ok(), fits, "{read:?}");
        let said = read.err().map(|error| error.to_string());
        assert!(said.is_none_or(|said| said.contains("a page of more than 65536 bytes, the limit of memory")));
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
            other => other.to_string(),
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
