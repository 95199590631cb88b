//! Event files of TensorBoard, with the numbers of `metrics.jsonl`.
//!
//! A file is a sequence of records, each `length (8 bytes), masked CRC of the length (4), data, masked CRC of the data (4)`, all
//! little-endian (TFRecord). The data is an `Event` as Protocol Buffers encode it; of `event.proto` and `summary.proto` this
//! writes the few fields that scalars need:
//!
//! ```text
//! Event      1: wall_time (double)   2: step (varint)   3: file_version (string)   5: summary   7: session_log
//! Summary    1: value, repeated      Value   1: tag (string)   2: simple_value (float)
//! SessionLog 1: status (varint), 1 = START
//! ```

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use throughline_data::Split;

use super::metrics::Row;
use crate::{Error, Result};

/// How the data of a field is encoded: the wire types of Protocol Buffers.
#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Bits64 = 1,
    Bytes = 2,
    Bits32 = 5,
}

/// An event file, open for appending.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Begins a new file in `folder`. In a run that goes on after update `step` it says so: TensorBoard then no longer shows
    /// events from `step + 1` on that are in the files before.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn begin(folder: &Path, step: u64) -> Result<Self> {
        let seconds = since_1970().as_secs();
        // A run may be resumed within a second.
        for number in 0_u64.. {
            let path = folder.join(format!("events.out.tfevents.{seconds:010}.throughline.{number}"));
            let file = match File::create_new(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(Error::io(&path, "create")(error)),
            };
            let mut events = Self { path, file };
            let mut version = event(0);
            bytes_field(&mut version, 3, b"brain.Event:2");
            events.write(&version)?;
            if step > 0 {
                let mut start = event(step + 1);
                bytes_field(&mut start, 7, &[key(1, Wire::Varint), 1]);
                events.write(&start)?;
            }
            return Ok(events);
        }
        unreachable!("there are more numbers than files")
    }

    /// Appends the numbers of `row`, each under its name and split: `loss/train`, `accuracy/val`. Numbers that are not
    /// finite are left out.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn append(&mut self, row: &Row) -> Result<()> {
        let mut numbers: Vec<(&str, f64)> = vec![("loss", row.loss)];
        numbers.extend(row.metrics.iter().map(|(name, value)| (name.as_str(), *value)));
        if row.split == Split::Train {
            numbers.extend([("lr", row.lr), ("grad_norm", row.grad_norm), ("tokens_per_s", row.tokens_per_s)]);
        }
        let split = serde_json::to_value(row.split).expect("a split is a string");
        let mut summary = Vec::new();
        for (name, number) in numbers.into_iter().filter(|(_, number)| number.is_finite()) {
            let mut value = Vec::new();
            bytes_field(&mut value, 1, format!("{name}/{}", split.as_str().expect("a split is a string")).as_bytes());
            value.push(key(2, Wire::Bits32));
            value.extend((number as f32).to_le_bytes());
            bytes_field(&mut summary, 1, &value);
        }
        let mut event = event(row.step);
        bytes_field(&mut event, 5, &summary);
        self.write(&event)
    }

    fn write(&mut self, data: &[u8]) -> Result<()> {
        self.file.write_all(&record(data)).map_err(Error::io(&self.path, "append to"))
    }
}

fn since_1970() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The beginning of an event: when and after which update.
fn event(step: u64) -> Vec<u8> {
    let mut event = vec![key(1, Wire::Bits64)];
    event.extend(since_1970().as_secs_f64().to_le_bytes());
    event.push(key(2, Wire::Varint));
    varint(&mut event, step);
    event
}

/// The key before a field below 16.
fn key(field: u8, wire: Wire) -> u8 {
    field << 3 | wire as u8
}

/// Seven bits a byte, the lowest first; the highest bit says that more follow.
fn varint(into: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        into.push(number as u8 | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

fn bytes_field(into: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    into.push(key(field, Wire::Bytes));
    varint(into, bytes.len() as u64);
    into.extend(bytes);
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let [of_length, of_data] = [&length[..], data].map(|bytes| masked(crc32c(bytes)).to_le_bytes());
    [&length, &of_length[..], data, &of_data].concat()
}

/// A CRC of data that holds CRCs is a bad one, so TFRecord stores it rotated, with a constant added.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xA282_EAD8)
}

/// CRC-32C (Castagnoli; RFC 3720, appendix B.4), bit by bit: the records are few and short.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, appendix B.4, and the check value of the catalogue of CRCs.
    #[test]
    fn known_checksums() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(crc32c(&std::array::from_fn::<u8, 32, _>(|i| i as u8)), 0x46DD_794E);
        assert_eq!(crc32c(b""), 0);
    }

    #[test]
    fn long_numbers_take_several_bytes() {
        let encoded = |number| {
            let mut bytes = Vec::new();
            varint(&mut bytes, number);
            bytes
        };
        assert_eq!(encoded(0), [0]);
        assert_eq!(encoded(127), [0x7F]);
        assert_eq!(encoded(300), [0xAC, 0x02]);
        assert_eq!(encoded(u64::MAX), [[0xFF; 9].as_slice(), &[0x01]].concat());
    }
}
