//! Piano rolls as JSON: a sequence is a list of steps, a step a list of MIDI pitches. A file is a list of sequences, or an
//! object of such lists by split, `"train"`, `"valid"` and `"test"`. It is checked as it is read.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Unexpected, Visitor};

use super::{PianoRoll, Pitches};
use crate::error::{Error, Result};
use crate::split::Split;

/// The sequences of a file, each with the split that the file gives it.
pub(super) type Sequences = Vec<(Option<Split>, PianoRoll)>;

const HINT: &str = "a sequence is a list of steps, and a step is a list of the pitches that sound, such as [60,64,67]";

/// Reads the sequences of a file.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Sequences> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let read = File::deserialize(&mut deserializer).and_then(|file| deserializer.end().map(|()| file.0));
    read.map_err(|error| {
        let Wrong { expected, found } = wrong(&error);
        Error::malformed(path, Some(error.line()), expected, found, HINT)
    })
}

/// One sequence from a line of JSON.
///
/// # Errors
/// What was expected and what was found.
pub fn piano_roll_from_json(text: &str) -> std::result::Result<PianoRoll, Wrong> {
    serde_json::from_str::<Sequence>(text).map(|sequence| sequence.0).map_err(|error| wrong(&error))
}

/// A roll as one line of JSON.
pub fn piano_roll_to_json(roll: &[Pitches]) -> String {
    let steps: Vec<Vec<u8>> = roll.iter().map(|step| step.iter().collect()).collect();
    serde_json::to_string(&steps).expect("lists of numbers have a JSON form")
}

/// What is wrong with a line of JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// What it should have.
    pub expected: String,
    /// What it has.
    pub found: String,
}

/// Takes serde's sentence apart: `invalid type: FOUND, expected EXPECTED at line 1 column 2`.
fn wrong(error: &serde_json::Error) -> Wrong {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(&text[..], |(text, _)| text);
    let parts = ["invalid type: ", "invalid value: "].iter().find_map(|kind| text.strip_prefix(kind));
    match parts.and_then(|parts| parts.rsplit_once(", expected ")) {
        Some((found, expected)) => Wrong { expected: expected.to_owned(), found: found.to_owned() },
        None => Wrong { expected: "sequences in JSON".to_owned(), found: text.to_owned() },
    }
}

struct Pitch(u8);

impl<'de> Deserialize<'de> for Pitch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Visit;
        impl Visitor<'_> for Visit {
            type Value = Pitch;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a MIDI pitch, a whole number from 0 to 127")
            }
            fn visit_u64<E: serde::de::Error>(self, pitch: u64) -> std::result::Result<Pitch, E> {
                let valid = u8::try_from(pitch).ok().filter(|&pitch| usize::from(pitch) < Pitches::COUNT);
                valid.map(Pitch).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(pitch), &self))
            }
        }
        deserializer.deserialize_u64(Visit)
    }
}

impl<'de> Deserialize<'de> for Pitches {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Pitches;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a step, a list of pitches")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Pitches, A::Error> {
                let mut pitches = Pitches::default();
                while let Some(Pitch(pitch)) = list.next_element()? {
                    if !pitches.insert(pitch) {
                        let twice = format!("{pitch} twice");
                        return Err(A::Error::invalid_value(Unexpected::Other(&twice), &"each pitch of a step once"));
                    }
                }
                Ok(pitches)
            }
        }
        deserializer.deserialize_seq(Visit)
    }
}

struct Sequence(PianoRoll);

impl<'de> Deserialize<'de> for Sequence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let steps = ListOf { what: "a sequence, a list of steps", of: PhantomData };
        Ok(Self(steps.deserialize(deserializer)?))
    }
}

/// A list of `T`. Memory grows with what is there, whatever a file may promise.
struct ListOf<T> {
    what: &'static str,
    of: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for ListOf<T> {
    type Value = Vec<T>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Vec<T>, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for ListOf<T> {
    type Value = Vec<T>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Vec<T>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(items)
    }
}

/// A sequence of a file, which has at least one step.
struct FileSequence(PianoRoll);

impl<'de> Deserialize<'de> for FileSequence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let Sequence(roll) = Sequence::deserialize(deserializer)?;
        if roll.is_empty() {
            return Err(D::Error::invalid_value(Unexpected::Other("an empty one"), &"a sequence of at least one step"));
        }
        Ok(Self(roll))
    }
}

struct File(Sequences);

impl<'de> Deserialize<'de> for File {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        const SEQUENCES: ListOf<FileSequence> = ListOf { what: "a list of sequences", of: PhantomData };
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = File;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of sequences, or an object of such lists")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> std::result::Result<File, A::Error> {
                let sequences = SEQUENCES.visit_seq(list)?;
                Ok(File(sequences.into_iter().map(|FileSequence(roll)| (None, roll)).collect()))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut splits: A) -> std::result::Result<File, A::Error> {
                let (mut sequences, mut seen) = (Vec::new(), Vec::new());
                while let Some(SplitName(split)) = splits.next_key()? {
                    if seen.contains(&split) {
                        return Err(A::Error::invalid_value(Unexpected::Other("one twice"), &"each split once"));
                    }
                    seen.push(split);
                    let of_split = splits.next_value_seed(SEQUENCES)?;
                    sequences.extend(of_split.into_iter().map(|FileSequence(roll)| (Some(split), roll)));
                }
                Ok(File(sequences))
            }
        }
        deserializer.deserialize_any(Visit)
    }
}

struct SplitName(Split);

impl<'de> Deserialize<'de> for SplitName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        match &name[..] {
            "train" => Ok(Self(Split::Train)),
            "valid" => Ok(Self(Split::Validation)),
            "test" => Ok(Self(Split::Test)),
            other => Err(D::Error::invalid_value(Unexpected::Str(other), &"a split, \"train\", \"valid\" or \"test\"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Sequences> {
        read(Path::new("a.json"), text.as_bytes())
    }

    fn roll(steps: &[&[u8]]) -> PianoRoll {
        steps.iter().map(|step| step.iter().copied().collect()).collect()
    }

    #[test]
    fn both_forms_of_a_file() {
        let first = roll(&[&[60, 64], &[], &[0, 127]]);
        assert_eq!(parse("[[[64,60],[],[0,127]], [[5]]]").unwrap(), [(None, first.clone()), (None, roll(&[&[5]]))]);
        let by_split = parse("{\"test\": [[[60,64],[],[127,0]]], \"valid\": [], \"train\": [[[1]]]}").unwrap();
        assert_eq!(by_split, [(Some(Split::Test), first.clone()), (Some(Split::Train), roll(&[&[1]]))]);
        assert_eq!(piano_roll_from_json("[[60,64],[],[0,127]]").unwrap(), first);
        assert_eq!(piano_roll_to_json(&first), "[[60,64],[],[0,127]]");
        assert_eq!(piano_roll_from_json("[]").unwrap(), roll(&[]));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, says) in [
            ("[[[60],\n[128]]]", &["a.json:2: expected a MIDI pitch", "0 to 127", "found integer `128`"][..]),
            ("[[[-1]]]", &["expected a MIDI pitch", "`-1`"]),
            ("[[[60.5]]]", &["expected a MIDI pitch", "`60.5`"]),
            ("[[[60,61,60]]]", &["expected each pitch of a step once", "found 60 twice"]),
            ("[[[60]],[]]", &["expected a sequence of at least one step", "found an empty one"]),
            ("[[60]]", &["expected a step, a list of pitches", "found integer `60`"]),
            ("[60]", &["expected a sequence, a list of steps"]),
            ("7", &["expected a list of sequences, or an object"]),
            ("{\"dev\": []}", &["\"train\", \"valid\" or \"test\"", "\"dev\""]),
            ("{\"test\": [], \"test\": []}", &["each split once"]),
            ("[[[60]]", &["a.json:1", "EOF"]),
            ("[[[60]]] x", &["trailing characters"]),
            ("", &["EOF"]),
            ("[[[1e400]]]", &["a.json:1"]),
            (&"[".repeat(100_000), &["expected a MIDI pitch"]),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(says.iter().all(|part| error.contains(part)), "{text:.30}: {error}");
        }
        let wrong = piano_roll_from_json("[[200]]").unwrap_err();
        assert_eq!(wrong.found, "integer `200`");
    }
}
