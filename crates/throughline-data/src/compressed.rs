//! Files as they are, or compressed with gzip or zstd, which is told by how they begin and not by their names.

use std::error::Error as StdError;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::GzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::error::{Error, Result};
use crate::text::take;

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 16;
/// Bytes that tell a compressed file.
const MAGIC: u64 = 4;

/// What a file holds, decompressed.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Read>> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let mut magic = Vec::new();
    (&mut file).take(MAGIC).read_to_end(&mut magic).map_err(Error::io(path))?;
    let form = Form::of(&magic);
    // A pipe cannot be read again from its beginning.
    let whole = io::Cursor::new(magic).chain(file);
    Ok(match form {
        None => Box::new(whole),
        Some(Form::Gzip) => Box::new(Gzip::new(BufReader::with_capacity(BUFFER, whole))),
        Some(Form::Zstd) => Box::new(Zstd::new(BufReader::with_capacity(BUFFER, whole))),
    })
}

/// All that a file holds, decompressed. Its size is subtracted from `budget`, and nothing larger is ever in memory.
pub(crate) fn read_within(path: &Path, budget: &mut u64) -> Result<Vec<u8>> {
    let bytes = beginning(path, budget.saturating_add(1))?;
    take(budget, bytes.len() as u64, path)?;
    Ok(bytes)
}

/// The first bytes that a file holds, decompressed, at most so many.
pub(crate) fn beginning(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(most).read_to_end(&mut bytes).map_err(Error::io(path))?;
    Ok(bytes)
}

/// The name of what is in a file: its path without an ending that says only how it is compressed.
pub(crate) fn inner_name(path: &Path) -> PathBuf {
    let compressed = |ending: &str| ["gz", "zst"].iter().any(|known| ending.eq_ignore_ascii_case(known));
    match path.extension().and_then(|ending| ending.to_str()) {
        Some(ending) if compressed(ending) => path.with_extension(""),
        _ => path.to_path_buf(),
    }
}

/// The ending of the [name](inner_name) of what is in a file, in lower case.
pub(crate) fn ending(path: &Path) -> Option<String> {
    Some(inner_name(path).extension()?.to_str()?.to_ascii_lowercase())
}

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Gzip,
    Zstd,
}

impl Form {
    /// The form of a file that begins like this; no text does.
    fn of(magic: &[u8]) -> Option<Self> {
        match magic {
            // A member that is deflated: there is no other method.
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            // A frame, or one to be skipped.
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Compressed data that are not whole; the cause of an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("expected whole {form} data, found {found}")]
pub(crate) struct Damaged {
    form: &'static str,
    pub(crate) found: String,
}

impl Damaged {
    /// What the file should have.
    pub(crate) fn expected(&self) -> String {
        format!("whole {} data", self.form)
    }

    /// The error for what a decoder says. `after` is whether whole data came before what cannot be decoded.
    fn error(form: &'static str, after: bool, cause: &(dyn StdError + 'static)) -> io::Error {
        let found = if after {
            "other bytes after them".to_owned()
        } else if is_cut_short(cause) {
            "data that are cut short".to_owned()
        } else {
            format!("damaged data ({cause})")
        };
        io::Error::new(io::ErrorKind::InvalidData, Self { form, found })
    }
}

/// Whether an error is of data that ended too early.
fn is_cut_short(error: &(dyn StdError + 'static)) -> bool {
    let ended = error.downcast_ref().is_some_and(|error: &io::Error| error.kind() == io::ErrorKind::UnexpectedEof);
    ended || error.source().is_some_and(is_cut_short)
}

/// The members of a gzip file (RFC 1952), one after another.
pub(crate) struct Gzip<R> {
    /// Always there but for a moment between two members.
    member: Option<GzDecoder<R>>,
    /// Whether a member has ended.
    after: bool,
}

impl<R: BufRead> Gzip<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { member: Some(GzDecoder::new(source)), after: false }
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !into.is_empty() {
            let member = self.member.as_mut().expect("it is put back at once");
            match member.read(into) {
                Ok(0) => {}
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(Damaged::error("gzip", self.after && member.header().is_none(), &error));
                }
                read => return read,
            }
            self.after = true;
            if member.get_mut().fill_buf()?.is_empty() {
                break;
            }
            self.member = self.member.take().map(|member| GzDecoder::new(member.into_inner()));
        }
        Ok(0)
    }
}

/// The frames of a zstd file (RFC 8878), one after another.
pub(crate) struct Zstd<R> {
    source: R,
    frame: FrameDecoder,
    in_frame: bool,
    /// Whether a frame has ended.
    after: bool,
}

impl<R: BufRead> Zstd<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, frame: FrameDecoder::new(), in_frame: false, after: false }
    }

    /// Begins the next frame, or skips one that is to be skipped.
    fn begin(&mut self) -> io::Result<()> {
        match self.frame.reset(&mut self.source) {
            Ok(()) => self.in_frame = true,
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                let length = u64::from(length);
                if io::copy(&mut (&mut self.source).take(length), &mut io::sink())? < length {
                    return Err(Damaged::error("zstd", false, &io::Error::from(io::ErrorKind::UnexpectedEof)));
                }
            }
            Err(error) => return Err(Damaged::error("zstd", self.after, &error)),
        }
        Ok(())
    }

    /// Ends the frame, all of which was read.
    fn end(&mut self) -> io::Result<()> {
        let written = self.frame.get_checksum_from_data();
        if written.is_some() && written != self.frame.get_calculated_checksum() {
            return Err(Damaged::error("zstd", false, &io::Error::other("their checksum is another")));
        }
        (self.in_frame, self.after) = (false, true);
        Ok(())
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !into.is_empty() {
            if !self.in_frame {
                if self.source.fill_buf()?.is_empty() {
                    break;
                }
                self.begin()?;
                continue;
            }
            while self.frame.can_collect() == 0 && !self.frame.is_finished() {
                let decoded = self.frame.decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1));
                decoded.map_err(|error| Damaged::error("zstd", false, &error))?;
            }
            match self.frame.read(into)? {
                0 => self.end()?,
                read => return Ok(read),
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;
    use crate::testing::Folder;

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(content: &[u8]) -> Vec<u8> {
        compress_to_vec(content, CompressionLevel::Fastest)
    }

    fn read(bytes: &[u8], mut budget: u64) -> Result<Vec<u8>> {
        let folder = Folder::new(&[("a", bytes)]);
        read_within(&folder.join("a"), &mut budget)
    }

    /// A frame to be skipped.
    const SKIPPABLE: [u8; 11] = [0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
    /// `abc\n` by the program zstd 1.5, whose frames have checksums.
    const BY_PROGRAM: [u8; 17] =
        [0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x58, 0x21, 0, 0, b'a', b'b', b'c', b'\n', 0x2d, 0x6e, 0x4c, 0x82];

    #[test]
    fn members_and_frames_are_read_one_after_another() {
        for compress in [gzip, zstd] {
            let twice = [compress(b"one\n"), compress(b""), compress(b"two\n")].concat();
            assert_eq!(read(&twice, 8).unwrap(), b"one\ntwo\n");
        }
        assert_eq!(read(&[&SKIPPABLE[..], &zstd(b"one"), &SKIPPABLE].concat(), 3).unwrap(), b"one");
        assert_eq!(read(b"plain", 5).unwrap(), b"plain");
        assert_eq!(read(b"", 0).unwrap(), b"");
        assert_eq!(read(b"P*M", 3).unwrap(), b"P*M");
    }

    #[test]
    fn damage_is_told_from_data_that_are_cut_short_and_from_what_follows_them() {
        let content = "a line of text, and another\n".repeat(500);
        let message = |bytes: &[u8]| read(bytes, 1 << 20).unwrap_err().to_string();
        for (form, whole) in [("gzip", gzip(content.as_bytes())), ("zstd", zstd(content.as_bytes()))] {
            let expected = format!("a: expected whole {form} data, found ");
            for length in [5, whole.len() / 2, whole.len() - 1] {
                let error = message(&whole[..length]);
                assert!(error.contains(&format!("{expected}data that are cut short; fetch ")), "{length}: {error}");
            }
            for garbage in [&b"x"[..], b"\0\0\0\0\0\0\0\0\0\0\0\0", b"text that somebody added\n"] {
                let error = message(&[&whole, garbage].concat());
                assert!(error.contains(&format!("{expected}other bytes after them; ")), "{error}");
            }
        }
        let mut sum = gzip(content.as_bytes());
        let place = sum.len() - 6;
        sum[place] ^= 1;
        let error = message(&sum);
        assert!(error.contains("expected whole gzip data, found damaged data ("), "{error}");
        assert_eq!(read(&BY_PROGRAM, 4).unwrap(), b"abc\n");
        for place in [9, 13] {
            let mut bytes = BY_PROGRAM;
            bytes[place] ^= 1;
            let error = message(&bytes);
            assert!(error.contains("found damaged data (their checksum is another)"), "{error}");
        }
        let cut = message(&SKIPPABLE[..9]);
        assert!(cut.contains("data that are cut short"), "{cut}");
    }

    #[test]
    fn a_bomb_is_too_large() {
        let zeros = vec![0; 50 << 20];
        for bomb in [gzip(&zeros), zstd(&zeros)] {
            assert!(bomb.len() < zeros.len() / 500);
            let error = read(&bomb, 1000).unwrap_err();
            assert!(matches!(error, Error::TooLarge { limit: 1000, .. }), "{error}");
        }
    }

    #[test]
    fn names_are_those_of_what_is_in_a_file() {
        for (name, inner, last) in [
            ("a/b.csv.gz", "a/b.csv", Some("csv")),
            ("b.TSV.ZST", "b.TSV", Some("tsv")),
            ("b.gz", "b", None),
            ("b.ts", "b.ts", Some("ts")),
            (".gz", ".gz", None),
        ] {
            assert_eq!((inner_name(Path::new(name)), ending(Path::new(name)).as_deref()), (inner.into(), last));
        }
    }

    proptest! {
        #[test]
        fn what_was_compressed_comes_back_and_damage_never_panics(
            content in prop::collection::vec(any::<u8>(), 0..300),
            place in any::<prop::sample::Index>(),
            value in any::<u8>(),
        ) {
            for whole in [gzip(&content), zstd(&content)] {
                prop_assert_eq!(&read(&whole, 300).unwrap(), &content);
                let mut bytes = whole.clone();
                bytes[place.index(whole.len())] = value;
                let _ = read(&bytes, 1 << 16);
                prop_assert!(read(&whole[..place.index(whole.len())], 300).is_err() || place.index(whole.len()) < 4);
            }
        }
    }
}
