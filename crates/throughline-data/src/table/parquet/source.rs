//! The bytes of a file at any place.

use std::fs::File;
use std::io::BufReader;

use bytes::Bytes;
use parquet::errors::Result as ParquetResult;
use parquet::file::reader::{ChunkReader, Length};

use super::general;

/// A file. Memory is set aside only for bytes that it has, and never for more than the limit.
pub(super) struct Source {
    file: File,
    length: u64,
    limit: u64,
}

impl Source {
    pub(super) fn new(file: File, length: u64, limit: u64) -> Self {
        Self { file, length, limit }
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
