//! The pages of a column of a group of rows, decompressed.
//!
//! The crate `parquet` hands out pages as they are in the file. They are decompressed here, by the crates that other files need,
//! too, and never into more memory than a limit. Counts by which the crate sets aside memory are checked.

use std::io::Read;
use std::mem;
use std::sync::Arc;

use parquet::basic::{Compression, Encoding, Type as Physical};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::data_type::{ByteArray, Int96};
use parquet::errors::Result as ParquetResult;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::SerializedPageReader;

use super::reader::BATCH;
use super::source::Source;
use super::{general, varint};
use crate::compressed::{Gzip, Zstd};

/// The most memory that a page takes for the lengths of each of its values.
const LENGTHS: u64 = 2 * size_of::<i32>() as u64;

/// The pages of a column of a group of rows.
pub(super) struct Pages {
    pages: SerializedPageReader<Source>,
    compression: Compression,
    physical: Physical,
    /// Whether data pages tell which values are missing.
    optional: bool,
    /// Values that are not on the pages so far.
    left: u64,
    /// Counts what is in memory: the dictionary, the data page, and those before it of which texts are in this batch.
    source: Arc<Source>,
    dictionary: u64,
    page: u64,
    before: u64,
    batch: u64,
}

impl Pages {
    /// The pages of a column of a group of so many rows.
    pub(super) fn new(source: &Arc<Source>, chunk: &ColumnChunkMetaData, rows: usize) -> ParquetResult<Self> {
        // So the crate leaves the pages as they are.
        let uncompressed = chunk.clone().into_builder().set_compression(Compression::UNCOMPRESSED).build()?;
        Ok(Self {
            pages: SerializedPageReader::new(Arc::clone(source), &uncompressed, rows, None)?,
            compression: chunk.compression(),
            physical: chunk.column_type(),
            optional: chunk.column_descr().max_def_level() > 0,
            left: rows as u64,
            source: Arc::clone(source),
            dictionary: 0,
            page: 0,
            before: 0,
            batch: 0,
        })
    }

    /// The page decompressed. Of a data page of the second version, the levels that it begins with are not compressed.
    fn decompressed(&self, mut page: Page) -> ParquetResult<Page> {
        let (buffer, plain) = match &mut page {
            Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. } => (buf, 0),
            Page::DataPageV2 { is_compressed: false, .. } => return Ok(page),
            Page::DataPageV2 { buf, rep_levels_byte_len, def_levels_byte_len, .. } => {
                (buf, *rep_levels_byte_len as usize + *def_levels_byte_len as usize)
            }
        };
        if self.compression != Compression::UNCOMPRESSED {
            let (levels, data) =
                buffer.split_at_checked(plain).ok_or_else(|| general("levels longer than their page"))?;
            let mut whole = levels.to_vec();
            // Of a page without values nothing may be left.
            if !data.is_empty() {
                self.decompress(data, &mut whole)?;
            }
            *buffer = whole.into();
        }
        Ok(page)
    }

    fn decompress(&self, data: &[u8], whole: &mut Vec<u8>) -> ParquetResult<()> {
        let limit = self.source.limit();
        let too_large = || general(format!("a page of more than {limit} bytes, the limit of memory"));
        let from = whole.len();
        let mut read = |reader: &mut dyn Read| reader.take(limit.saturating_add(1)).read_to_end(whole);
        match self.compression {
            Compression::SNAPPY => {
                let length = snap::raw::decompress_len(data).map_err(general)?;
                if length as u64 > limit {
                    return Err(too_large());
                }
                // The longest copy is of 64 bytes and takes 3.
                if length / 64 > data.len() {
                    return Err(general("snappy data of an impossible length"));
                }
                whole.resize(from + length, 0);
                snap::raw::Decoder::new().decompress(data, &mut whole[from..]).map_err(general)?;
            }
            Compression::GZIP(_) => {
                read(&mut Gzip::new(data))?;
            }
            Compression::ZSTD(_) => {
                read(&mut Zstd::new(data))?;
            }
            other => return Err(general(format!("the compression {other}"))),
        }
        if (whole.len() - from) as u64 > limit { Err(too_large()) } else { Ok(()) }
    }

    fn has_texts(&self) -> bool {
        matches!(self.physical, Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY)
    }

    /// Bytes that a value takes in memory, without those of a text.
    fn size(&self) -> u64 {
        let size = match self.physical {
            Physical::BOOLEAN => size_of::<bool>(),
            Physical::INT32 | Physical::FLOAT => size_of::<i32>(),
            Physical::INT64 | Physical::DOUBLE => size_of::<i64>(),
            Physical::INT96 => size_of::<Int96>(),
            Physical::BYTE_ARRAY | Physical::FIXED_LEN_BYTE_ARRAY => size_of::<ByteArray>(),
        };
        size as u64
    }

    /// Refuses a page with more values than it can have, and counts the memory that it takes.
    fn check(&mut self, page: &Page) -> ParquetResult<()> {
        let values = u64::from(page.num_values());
        let bytes = page.buffer().len() as u64;
        if let Page::DictionaryPage { .. } = page {
            if values > bytes {
                return Err(general("a dictionary with fewer values than it says"));
            }
            // Texts stay where they are.
            let memory = values * self.size() + if self.has_texts() { bytes } else { 0 };
            self.dictionary += memory;
            return self.source.hold(memory);
        }
        let left = self.left.checked_sub(values);
        self.left = left.ok_or_else(|| general("more values than the group has rows"))?;
        let delta = [Encoding::DELTA_BINARY_PACKED, Encoding::DELTA_LENGTH_BYTE_ARRAY, Encoding::DELTA_BYTE_ARRAY];
        let is_delta = delta.contains(&page.encoding());
        if self.batch != self.source.batch() {
            self.batch = self.source.batch();
            self.source.release(mem::take(&mut self.before));
        }
        if self.has_texts() {
            self.before += self.page;
        } else {
            self.source.release(self.page);
        }
        self.page = bytes + if is_delta { values * LENGTHS } else { 0 };
        self.source.hold(self.page)?;
        if is_delta { self.check_delta(page, values) } else { Ok(()) }
    }

    /// Refuses a data page with more differences than values.
    fn check_delta(&self, page: &Page, values: u64) -> ParquetResult<()> {
        let data = self.without_levels(page).ok_or_else(|| general("levels longer than their page"))?;
        let too_many = || general("differences that are more than the values of their page");
        let suffixes = after_differences(data, values).ok_or_else(too_many)?;
        match page.encoding() {
            Encoding::DELTA_LENGTH_BYTE_ARRAY if self.physical != Physical::BYTE_ARRAY => {
                return Err(general("lengths of values that have all the same"));
            }
            Encoding::DELTA_BYTE_ARRAY => {
                after_differences(suffixes, values).ok_or_else(too_many)?;
                // Each value of a batch may be as long as all the page, and is copied.
                if (data.len() * BATCH) as u64 > self.source.limit() {
                    let found = "bytes of values that share their beginnings, too many for the limit of memory";
                    return Err(general(format!("a page of {} {found}", data.len())));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// What follows the levels of a data page.
    fn without_levels<'a>(&self, page: &'a Page) -> Option<&'a [u8]> {
        match page {
            Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, .. } => {
                buf.get(*def_levels_byte_len as usize + *rep_levels_byte_len as usize..)
            }
            Page::DataPage { buf, def_level_encoding: Encoding::RLE, .. } if self.optional => {
                let (length, levels) = buf.split_first_chunk()?;
                levels.get(u32::from_le_bytes(*length) as usize..)
            }
            // A bit for each value.
            Page::DataPage { buf, num_values, .. } if self.optional => buf.get(num_values.div_ceil(8) as usize..),
            other => Some(other.buffer()),
        }
    }
}

/// What follows whole numbers that are written as blocks of differences (DELTA_BINARY_PACKED): nothing, the bytes of texts
/// whose lengths they are, or more of them. `None` if they are of another form or say to be more than `most`.
fn after_differences(mut bytes: &[u8], most: u64) -> Option<&[u8]> {
    let block = varint(&mut bytes)?;
    let parts = usize::try_from(varint(&mut bytes)?).ok()?;
    let count = varint(&mut bytes)?;
    let _first = varint(&mut bytes)?;
    let in_part = block.checked_div(parts as u64)?;
    if count > most || in_part == 0 {
        return None;
    }
    let mut left = count.saturating_sub(1);
    while left > 0 {
        let _least = varint(&mut bytes)?;
        let (widths, data) = bytes.split_at_checked(parts)?;
        bytes = data;
        for &width in widths {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(in_part);
            let length = usize::try_from(in_part.checked_mul(width.into())? / 8).ok()?;
            // The last part need not be filled up.
            bytes = bytes.get(length..).unwrap_or_default();
        }
    }
    Some(bytes)
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.source.release(self.dictionary + self.page + self.before);
    }
}

impl Iterator for Pages {
    type Item = ParquetResult<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> ParquetResult<Option<Page>> {
        let Some(page) = self.pages.get_next_page()? else { return Ok(None) };
        let page = self.decompressed(page)?;
        self.check(&page)?;
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> ParquetResult<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> ParquetResult<()> {
        self.pages.skip_next_page()
    }
}
