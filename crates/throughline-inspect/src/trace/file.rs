//! Traces as files: NumPy's `.npz`, safetensors, and Apache Parquet.

use std::io::{self, Write};
use std::path::Path;

use rawzip::{CompressionMethod, ZipArchiveWriter};
use safetensors::tensor::{Dtype, TensorView};
#[cfg(feature = "parquet")]
use throughline_data::{ParquetArray, write_parquet_arrays};
use throughline_infer::{Error, Result};

use super::Trace;
#[cfg(feature = "parquet")]
use super::TraceArray;

/// The kind of file that a trace is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceFormat {
    /// Arrays for NumPy, not compressed: `np.load("trace.npz")`.
    Npz,
    /// Tensors, with the pieces in the metadata.
    Safetensors,
    /// A table of lists: a row for each step, a column for each array.
    #[cfg(feature = "parquet")]
    Parquet,
}

/// What the JSON list of pieces is called: as a file in an `.npz`, and in the metadata of safetensors.
const PIECES_FILE: &str = "pieces.json";
const PIECES: &str = "pieces";
/// The index arrays: which sequence a row is of, and which step.
const SEQUENCE: &str = "sequence";
const TIME: &str = "time";
/// The endings of traces, for messages.
const ENDINGS: &str = if cfg!(feature = "parquet") { ".npz, .safetensors or .parquet" } else { ".npz or .safetensors" };

impl TraceFormat {
    /// The format that the ending of `path` names.
    ///
    /// # Errors
    /// [`Error::Input`] if it names none.
    pub fn of(path: &Path) -> Result<Self> {
        let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
        match ending.as_ref().and_then(|ending| ending.to_str()) {
            Some("npz") => Ok(Self::Npz),
            Some("safetensors") => Ok(Self::Safetensors),
            #[cfg(feature = "parquet")]
            Some("parquet") => Ok(Self::Parquet),
            _ => Err(Error::Input {
                expected: format!("a file that ends in {ENDINGS}"),
                found: path.display().to_string(),
            }),
        }
    }
}

/// An array as it lies in a file.
struct Stored {
    name: String,
    shape: Vec<usize>,
    kind: Dtype,
    bytes: Vec<u8>,
}

impl Trace<f32> {
    /// Writes the index arrays `sequence` and `time`, every array, and the pieces, in Parquet as a column `piece`, otherwise as JSON.
    ///
    /// # Errors
    /// If `file` cannot be written to.
    pub fn write(&self, format: TraceFormat, file: &mut dyn Write) -> io::Result<()> {
        let pieces =
            self.pieces.as_ref().map(|pieces| serde_json::to_string(pieces).expect("strings have a JSON form"));
        match format {
            TraceFormat::Npz => self.write_npz(pieces, file).map_err(io::Error::other),
            TraceFormat::Safetensors => self.write_safetensors(pieces, file),
            #[cfg(feature = "parquet")]
            TraceFormat::Parquet => self.write_parquet(file),
        }
    }

    /// Every array, put together one after the other.
    fn stored(&self) -> impl Iterator<Item = Stored> {
        let indices = [(SEQUENCE, &self.sequence), (TIME, &self.time)].map(|(name, numbers)| Stored {
            name: name.to_owned(),
            shape: vec![numbers.len()],
            kind: Dtype::U32,
            bytes: numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
        });
        indices.into_iter().chain(self.arrays.iter().map(|array| Stored {
            name: array.name.clone(),
            shape: vec![array.values.len() / array.width, array.width],
            kind: Dtype::F32,
            bytes: array.values.iter().flat_map(|number| number.to_le_bytes()).collect(),
        }))
    }

    fn write_npz(&self, pieces: Option<String>, file: &mut dyn Write) -> std::result::Result<(), rawzip::Error> {
        let mut archive = ZipArchiveWriter::new(file);
        let arrays = self.stored().map(|stored| (format!("{}.npy", stored.name), npy_header(&stored), stored.bytes));
        let pieces = pieces.map(|json| (PIECES_FILE.to_owned(), Vec::new(), json.into_bytes()));
        for (name, head, bytes) in arrays.chain(pieces) {
            let (mut entry, config) =
                archive.new_file(name.as_str()).compression_method(CompressionMethod::STORE).start()?;
            let mut writer = config.wrap(&mut entry);
            writer.write_all(&head)?;
            writer.write_all(&bytes)?;
            let (_, descriptor) = writer.finish()?;
            entry.finish(descriptor)?;
        }
        archive.finish().map(|_| ())
    }

    fn write_safetensors(&self, pieces: Option<String>, file: &mut dyn Write) -> io::Result<()> {
        let stored: Vec<Stored> = self.stored().collect();
        let views = stored.iter().map(|Stored { name, shape, kind, bytes }| {
            let view = TensorView::new(*kind, shape.clone(), bytes);
            (name, view.expect("the bytes are as many as the shape asks for"))
        });
        let metadata = pieces.map(|json| [(PIECES.to_owned(), json)].into_iter().collect());
        let bytes = safetensors::serialize(views, metadata).map_err(io::Error::other)?;
        file.write_all(&bytes)
    }

    #[cfg(feature = "parquet")]
    fn write_parquet(&self, file: &mut dyn Write) -> io::Result<()> {
        let indices = [(SEQUENCE, &self.sequence), (TIME, &self.time)];
        let mut columns = indices.map(|(name, numbers)| (name, ParquetArray::Indices(numbers))).to_vec();
        columns.extend(self.pieces.as_ref().map(|pieces| ("piece", ParquetArray::Texts(pieces.iter().collect()))));
        columns.extend(
            self.arrays
                .iter()
                .map(|TraceArray { name, width, values }| (&name[..], ParquetArray::Lists { width: *width, values })),
        );
        write_parquet_arrays(&columns, file)
    }
}

/// What stands before the numbers of a `.npy` file, version 1.0: little-endian numbers of four bytes, row-major. The header is
/// padded to a multiple of 64 bytes.
fn npy_header(stored: &Stored) -> Vec<u8> {
    let kind = if stored.kind == Dtype::F32 { "<f4" } else { "<u4" };
    let sizes: Vec<String> = stored.shape.iter().map(usize::to_string).collect();
    // A tuple of one has a comma, too.
    let shape = sizes.join(", ") + if sizes.len() == 1 { "," } else { "" };
    let mut text = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}");
    const BEFORE: usize = b"\x93NUMPY".len() + 2 + size_of::<u16>();
    let padded = (BEFORE + text.len() + 1).next_multiple_of(64) - BEFORE;
    text += &" ".repeat(padded - 1 - text.len());
    text.push('\n');
    let length = u16::try_from(text.len()).expect("names and shapes are short");
    [&b"\x93NUMPY\x01\x00"[..], &length.to_le_bytes(), text.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_ends_where_64_bytes_do() {
        for shape in [vec![7], vec![123_456, 256]] {
            let stored = Stored { name: String::new(), shape, kind: Dtype::F32, bytes: Vec::new() };
            let header = npy_header(&stored);
            assert_eq!((header.len() % 64, header.last()), (0, Some(&b'\n')));
            assert_eq!(usize::from(u16::from_le_bytes([header[8], header[9]])) + 10, header.len());
        }
    }

    #[test]
    fn the_ending_names_the_format() {
        assert_eq!(TraceFormat::of(Path::new("a/b.c.Npz")).unwrap(), TraceFormat::Npz);
        assert_eq!(TraceFormat::of(Path::new("b.safetensors")).unwrap(), TraceFormat::Safetensors);
        #[cfg(feature = "parquet")]
        assert_eq!(TraceFormat::of(Path::new("b.parquet")).unwrap(), TraceFormat::Parquet);
        for path in ["a.csv", "npz", ".npz"] {
            let error = TraceFormat::of(Path::new(path)).unwrap_err().to_string();
            assert!(error.contains(".npz") && error.contains(".safetensors") && error.contains(path), "{error}");
        }
    }
}
