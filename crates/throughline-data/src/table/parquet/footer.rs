//! The footer of a file: its schema, and where the pages of its columns are.

use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::{
    ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataReader, ParquetStatisticsPolicy,
};
use parquet::file::reader::{ChunkReader, Length};

use super::source::Source;
use super::{general, varint};

/// How a file begins and ends, and how it ends if its footer is encrypted.
pub(super) const MAGIC: &[u8; 4] = b"PAR1";
pub(super) const ENCRYPTED: &[u8; 4] = b"PARE";
/// The length of the footer and the magic bytes, which come last.
const TAIL: usize = 8;
/// The most levels of a schema.
const MOST_LEVELS: usize = 64;

/// The footer of a file. Statistics are not read.
pub(super) fn read(source: &Source) -> ParquetResult<ParquetMetaData> {
    let end = source.len().saturating_sub(TAIL as u64);
    let tail = source.get_bytes(end, TAIL)?;
    let (length, magic) = tail.split_first_chunk().expect("a tail is long enough");
    match magic {
        magic if magic == MAGIC => {}
        magic if magic == ENCRYPTED => return Err(general("an encrypted footer")),
        _ => return Err(general("no PAR1 at the end")),
    }
    let length = u32::from_le_bytes(*length);
    let start = end.checked_sub(length.into()).ok_or_else(|| general("a footer longer than the file"))?;
    let footer = source.get_bytes(start, length as usize)?;
    check_schema(&footer).map_err(general)?;
    let mut options = ParquetMetaDataOptions::new();
    options.set_column_stats_policy(ParquetStatisticsPolicy::SkipAll);
    ParquetMetaDataReader::decode_metadata_with_options(&footer, Some(&options))
}

/// Refuses a footer whose schema has too many levels, or groups with more fields than there are. The crate `parquet` calls
/// itself for each level, and sets aside memory for as many fields as a group says it has.
///
/// It takes fields for what their numbers say, whatever type is written beside them. So that it reads what was looked through here,
/// only what it reads in the same way is let pass, and the schema comes where every writer puts it: after the version,
/// of a footer the first field.
fn check_schema(footer: &[u8]) -> Result<(), &'static str> {
    let mut fields = Compact(footer);
    let list = |fields: &mut Compact<'_>| {
        (fields.byte()? == 0x10 | INTEGER).then_some(())?;
        fields.varint()?;
        (fields.byte()? == 0x10 | LIST).then_some(())?;
        fields.list_of_structs()
    };
    let elements = list(&mut fields).ok_or("a footer that does not begin with a version and a schema")?;
    // The elements that open groups still expect, of each and of all.
    let mut open: Vec<u64> = Vec::new();
    let mut expected = 0;
    for left in (0..elements).rev() {
        let mut children = 0;
        fields.read(Struct::Element, &mut children).ok_or("a schema of unknown form")?;
        if let Some(of_group) = open.last_mut() {
            *of_group -= 1;
            expected -= 1;
        }
        if children > left.saturating_sub(expected) {
            return Err("a schema with fewer fields than it says");
        }
        if children > 0 {
            expected += children;
            open.push(children);
        }
        while open.pop_if(|of_group| *of_group == 0).is_some() {}
        if open.len() > MOST_LEVELS {
            return Err("a schema of too many levels");
        }
    }
    Ok(())
}

/// Types of the compact protocol of Thrift.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const INTEGER: u8 = 5;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// The structs of a schema.
#[derive(Clone, Copy)]
enum Struct {
    Element,
    LogicalType,
    /// That of the logical type with this number.
    Parameters(u8),
    TimeUnit,
    Empty,
}

/// What is left of data in the compact protocol of Thrift. Each function returns `None` if they are of another form.
struct Compact<'a>(&'a [u8]);

impl Compact<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        varint(&mut self.0)
    }

    /// The length of a list.
    fn list_of_structs(&mut self) -> Option<u64> {
        let begin = self.byte()?;
        (begin & 0xf == STRUCT).then_some(())?;
        if begin >> 4 == 0xf { self.varint() } else { Some(u64::from(begin >> 4)) }
    }

    /// Reads over a struct; of an element of the schema finds out how many children it has.
    fn read(&mut self, kind: Struct, children: &mut u64) -> Option<()> {
        let mut number = 0_u8;
        loop {
            let field = self.byte()?;
            if field == 0 {
                return Some(());
            }
            // Fields come in order, and the difference of their numbers in half a byte.
            (field >> 4 > 0).then_some(())?;
            number = u8::checked_add(number, field >> 4)?;
            let of_type = field & 0xf;
            let whole = of_type == INTEGER;
            match (kind, number) {
                (Struct::Element, 5) if whole => {
                    let zigzag = self.varint()?;
                    (zigzag % 2 == 0).then_some(())?;
                    *children = zigzag / 2;
                }
                (Struct::Element, 1..=3 | 6..=9) | (Struct::Parameters(5), 1 | 2) | (Struct::Parameters(18), 2)
                    if whole =>
                {
                    self.varint()?;
                }
                (Struct::Element, 4) | (Struct::Parameters(17 | 18), 1) if of_type == BINARY => {
                    let length = usize::try_from(self.varint()?).ok()?;
                    self.0 = self.0.get(length..)?;
                }
                (Struct::Parameters(10 | 16), 1) if of_type == BYTE => {
                    self.byte()?;
                }
                (Struct::Parameters(7 | 8), 1) | (Struct::Parameters(10), 2) if matches!(of_type, TRUE | FALSE) => {}
                (Struct::Element, 10) if of_type == STRUCT => self.read(Struct::LogicalType, children)?,
                (Struct::LogicalType, _) if of_type == STRUCT => self.read(Struct::Parameters(number), children)?,
                (Struct::Parameters(7 | 8), 2) if of_type == STRUCT => self.read(Struct::TimeUnit, children)?,
                (Struct::TimeUnit, _) if of_type == STRUCT => self.read(Struct::Empty, children)?,
                _ => return None,
            }
        }
    }
}
