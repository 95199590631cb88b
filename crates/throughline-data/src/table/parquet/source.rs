//! The bytes of a file at any place.

use std::fs::File;
use std::io::BufReader;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parquet::errors::Result as ParquetResult;
use parquet::file::reader::{ChunkReader, Length};

use super::general;

/// A file, and how much of it is in memory. Memory is set aside only for bytes that it has, and never for more than the limit.
pub(super) struct Source {
    file: File,
    length: u64,
    limit: u64,
    /// Bytes of the pages of all columns, decompressed.
    held: AtomicU64,
    /// Batches of rows that were begun.
    batch: AtomicU64,
}

impl Source {
    pub(super) fn new(file: File, length: u64, limit: u64) -> Self {
        Self { file, length, limit, held: AtomicU64::new(0), batch: AtomicU64::new(0) }
    }

    /// Begins a batch of rows: the values of the one before are not needed any more.
    pub(super) fn begin_batch(&self) {
        self.batch.fetch_add(1, Ordering::Relaxed);
    }

    /// The number of the batch.
    pub(super) fn batch(&self) -> u64 {
        self.batch.load(Ordering::Relaxed)
    }

    /// The most bytes that may be in memory.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Counts bytes of a page that are now in memory.
    pub(super) fn hold(&self, bytes: u64) -> ParquetResult<()> {
        let held = self.held.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if held > self.limit {
            let found =
                format!("pages of {held} bytes in all columns together, where the limit of memory is {}", self.limit);
            return Err(general(found));
        }
        Ok(())
    }

    /// Counts bytes that are no longer in memory.
    pub(super) fn release(&self, bytes: u64) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Length for Source {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for Source {
    type T = BufReader<File>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        self.file.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.length) {
            return Err(general(format!("{length} bytes at {start} in a file of {}", self.length)));
        }
        if length as u64 > self.limit {
            return Err(general(format!("{length} bytes in one piece, where the limit of memory is {}", self.limit)));
        }
        self.file.get_bytes(start, length)
    }
}
