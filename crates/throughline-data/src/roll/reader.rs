//! Pieces from MIDI files and from piano rolls in JSON.

use std::path::{Path, PathBuf};

use super::json::Sequences;
use super::{PianoRoll, json, midi};
use crate::compressed::{ending, read_within};
use crate::error::{Error, Result};
use crate::folder::{SkipReason, Skipped, files_below, skipped_list};
use crate::split::Split;

/// Reads pieces from files, and from folders with files that end in `.mid`, `.midi` or `.json`, all of which may be compressed
/// with gzip (`.mid.gz`) or zstd (`.json.zst`).
#[derive(Clone, Copy, Debug)]
pub struct PieceReader {
    /// Steps in a quarter note of a MIDI file: 4, sixteenths, by default. Steps of JSON are what they are.
    pub steps_per_beat: u32,
    /// The most bytes of all files together, decompressed; 256 MiB by default.
    pub max_bytes: u64,
}

impl Default for PieceReader {
    fn default() -> Self {
        Self { steps_per_beat: 4, max_bytes: 1 << 28 }
    }
}

/// Pieces, with the splits that JSON files give them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pieces {
    /// The pieces in the order of files. None is empty.
    pub pieces: Vec<(Option<Split>, PianoRoll)>,
    /// Notes of drums in MIDI files, which are left out.
    pub drums: usize,
    /// What was found in folders but not read.
    pub skipped: Vec<Skipped>,
}

impl PieceReader {
    /// The pieces at `paths`, each a file or a folder.
    ///
    /// # Errors
    /// If a file cannot be read, is damaged or has no notes, if a folder has no file of music, or if there are more bytes than
    /// allowed.
    pub fn read(&self, paths: &[PathBuf]) -> Result<Pieces> {
        let mut pieces = Pieces::default();
        let mut budget = self.max_bytes;
        for path in paths {
            if !path.is_dir() {
                if kind_of(path).is_none() {
                    let hint = "name the file by what is in it";
                    let expected = "a file that ends in .mid, .midi or .json";
                    return Err(Error::malformed(path, None, expected, "another", hint));
                }
                self.read_file(path, &mut budget, &mut pieces)?;
                continue;
            }
            let (files, mut skipped) = files_below(path)?;
            let (music, others): (Vec<PathBuf>, Vec<PathBuf>) =
                files.into_iter().partition(|file| kind_of(file).is_some());
            let not_music = |path| Skipped { path, reason: SkipReason::NotMusic };
            skipped.extend(others.into_iter().map(not_music));
            skipped.sort();
            if music.is_empty() {
                let found = if skipped.is_empty() { String::new() } else { format!(" ({})", skipped_list(&skipped)) };
                let expected = "at least one file that ends in .mid, .midi or .json".to_owned();
                return Err(Error::Empty { path: path.clone(), expected, hint: format!("name another folder{found}") });
            }
            for file in music {
                self.read_file(&file, &mut budget, &mut pieces)?;
            }
            pieces.skipped.extend(skipped);
        }
        Ok(pieces)
    }

    fn read_file(&self, path: &Path, budget: &mut u64, into: &mut Pieces) -> Result<()> {
        let bytes = read_within(path, budget)?;
        match kind_of(path) {
            Some(Kind::Json) => into.pieces.extend(read_json(path, &bytes)?),
            _ => {
                let piece = midi::read(path, &bytes, self.steps_per_beat)?;
                into.drums += piece.drums;
                into.pieces.push((None, piece.roll));
            }
        }
        Ok(())
    }
}

fn read_json(path: &Path, bytes: &[u8]) -> Result<Sequences> {
    let sequences = json::read(path, bytes)?;
    if sequences.is_empty() {
        let hint = "name another file".to_owned();
        return Err(Error::Empty { path: path.into(), expected: "at least one sequence".to_owned(), hint });
    }
    Ok(sequences)
}

enum Kind {
    Midi,
    Json,
}

/// The kind of file by its name's ending, in upper or lower case, without a `.gz` or `.zst` after it.
fn kind_of(path: &Path) -> Option<Kind> {
    match &ending(path)?[..] {
        "mid" | "midi" => Some(Kind::Midi),
        "json" => Some(Kind::Json),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::roll::midi::piano_roll_to_midi;
    use crate::testing::Folder;

    #[test]
    fn a_folder_of_music() {
        let roll: PianoRoll = vec![[60].into_iter().collect(), [62].into_iter().collect()];
        let midi = piano_roll_to_midi(&roll, 4);
        let folder = Folder::new(&[
            ("b/two.MIDI", &midi),
            ("a.mid", &midi),
            ("c.json", b"{\"valid\":[[[1]]]}"),
            ("notes.txt", b"x"),
        ]);
        let pieces = PieceReader::default().read(&[folder.path().into(), folder.join("a.mid")]).unwrap();
        let (one, whole) = (vec![[1].into_iter().collect()], (None, roll));
        assert_eq!(pieces.pieces, [whole.clone(), whole.clone(), (Some(Split::Validation), one), whole]);
        assert_eq!(pieces.skipped, [folder.skipped("notes.txt", SkipReason::NotMusic)]);
        let twice = PieceReader { steps_per_beat: 8, ..PieceReader::default() };
        assert_eq!(twice.read(&[folder.join("a.mid")]).unwrap().pieces[0].1.len(), 4);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let folder = Folder::new(&[
            ("a.txt", b"x"),
            ("b.json", b"[]"),
            ("c.mid", b"x"),
            ("texts/a.txt", b"x"),
            ("d.json", b"[[[1]]]"),
        ]);
        let reader = PieceReader { max_bytes: 6, ..PieceReader::default() };
        for (name, says) in [
            ("a.txt", &["a.txt: expected a file that ends in .mid, .midi or .json"][..]),
            ("b.json", &["b.json: expected at least one sequence, found nothing"]),
            ("c.mid", &["c.mid: expected a Standard MIDI File"]),
            ("d.json", &["d.json: expected at most 6 more bytes"]),
            ("gone.mid", &["gone.mid: cannot be read"]),
            ("texts", &["texts: expected at least one file that ends in .mid", "a.txt"]),
        ] {
            let error = reader.read(&[folder.join(name)]).unwrap_err().to_string();
            assert!(says.iter().all(|part| error.contains(part)), "{error}");
        }
    }
}
