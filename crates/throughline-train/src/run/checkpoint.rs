//! Checkpoints: all that a stopped run needs to go on as if it had never stopped, in one file.
//!
//! The file is a safetensors file of named f32 tensors (parameters, their average, optimiser moments, the state of streams). Its metadata holds, as
//! JSON under one key, the format version and the [`Progress`]; so the numbers always belong to that place in the data.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensors, View};
use serde::{Deserialize, Serialize};

use throughline_data::Split;

use crate::averaging::Averaged;
use crate::learn::DataRecord;
use crate::{Error, Plateau, Result, read_at_most, replace};

/// Version of the format; a reader takes no other.
const FORMAT_VERSION: u32 = 3;
/// The key in the metadata.
const METADATA_KEY: &str = "throughline_checkpoint";
/// Bytes of the file's header beside the tensors' entries, at most.
const LARGEST_METADATA: u64 = 1 << 20;
/// Bytes of a tensor's entry beside its name, at most.
const LARGEST_ENTRY: u64 = 512;

/// Where a run is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Updates done.
    pub step: u64,
    /// Epochs completed.
    pub epoch: u64,
    /// Updates done of the epoch that runs.
    pub position: u64,
    /// Units read in training so far, over all epochs.
    pub tokens: u64,
    /// Seconds of training so far, over all sessions.
    pub seconds: f64,
    /// Evaluations done.
    pub evaluations: u64,
    /// Evaluations since the best one.
    pub evaluations_since_best: u64,
    /// What the untrained model reached on the validation split.
    pub untrained: Option<Reached>,
    /// The best that an update reached there.
    pub best: Option<Reached>,
    /// The update after which the last evaluation was.
    pub evaluated_at: Option<u64>,
    /// State of the learning rate schedule.
    pub plateau: Plateau,
    /// Of how many updates moments and average are: fewer than `step` once the schedule went back to the kept update.
    pub counts: Counts,
    /// The same of those that are kept for that.
    pub kept_counts: Counts,
    /// Whether updates are averaged.
    pub averaged: Averaged,
    /// Sums for the next row about the training split.
    pub recent: Recent,
    /// Updates after which the schedule was to end when the checkpoint was written.
    pub planned: u64,
    /// What identifies the data.
    pub data: DataRecord,
    /// [`Recipe::identity`](crate::Recipe::identity).
    pub recipe_digest: String,
}

/// Sums over the updates since the last row about the training split in `metrics.jsonl`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recent {
    /// Sum of the losses, in nats.
    pub loss: f64,
    /// The weight of what the losses are of: units or texts.
    pub weight: f64,
    /// The weight of what the model predicted rightly.
    pub correct: f64,
    /// Sum of the gradient norms before clipping.
    pub grad_norm: f64,
    /// Updates.
    pub updates: u64,
    /// Learning rate of the last update.
    pub learning_rate: f64,
}

/// Of how many updates the numbers are that stand beside the parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// The optimiser's moments.
    pub moments: u64,
    /// The average of the parameters.
    pub average: u64,
}

/// What a model reached on the validation split, and after which update.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reached {
    /// Updates before.
    pub step: u64,
    /// What the best model has least of: the loss of a language model in nats, the error rate of a classifier.
    pub score: f64,
    /// Mean loss in nats, which decides between equal scores.
    pub loss: f64,
}

impl Reached {
    /// Whether this is better: a lower score, or the same with a lower loss.
    pub fn beats(&self, other: &Self) -> bool {
        self.score < other.score || (self.score == other.score && self.loss < other.loss)
    }
}

impl Progress {
    /// The beginning of a run of `planned` updates.
    pub fn start(planned: u64, averaged: Averaged, data: DataRecord, recipe_digest: String) -> Self {
        Self {
            step: 0,
            epoch: 0,
            position: 0,
            tokens: 0,
            seconds: 0.0,
            evaluations: 0,
            evaluations_since_best: 0,
            untrained: None,
            best: None,
            evaluated_at: None,
            plateau: Plateau::default(),
            counts: Counts::default(),
            kept_counts: Counts::default(),
            averaged,
            recent: Recent::default(),
            planned,
            data,
            recipe_digest,
        }
    }

    /// Counts an evaluation; whether it is the best of a trained model so far. What the untrained model reached never is. One
    /// that is not `due`, because time ran out, may be the best and leaves the evaluations since the best one as they are.
    pub fn observe(&mut self, reached: Reached, due: bool) -> bool {
        self.evaluations += 1;
        if reached.step == 0 {
            self.untrained = Some(reached);
            return false;
        }
        let best = self.best.is_none_or(|best| reached.beats(&best));
        if best {
            self.best = Some(reached);
        }
        if due {
            self.evaluations_since_best = if best { 0 } else { self.evaluations_since_best + 1 };
        }
        best
    }

    /// Whether an update is better than no update at all.
    pub fn beat_the_start(&self) -> bool {
        match (self.best, self.untrained) {
            (Some(best), Some(untrained)) => best.beats(&untrained),
            _ => false,
        }
    }

    /// Checks that the place in the data exists.
    ///
    /// # Errors
    /// [`Error::File`] if the position lies outside an epoch of `updates_per_epoch`, or does not fit the step.
    pub fn check_place(&self, path: &Path, updates_per_epoch: u64) -> Result<()> {
        let place = self.epoch.checked_mul(updates_per_epoch).and_then(|updates| updates.checked_add(self.position));
        let counters = [self.tokens, self.evaluations, self.evaluations_since_best, self.recent.updates];
        let sane = counters.iter().all(|&counter| counter <= 1 << 53)
            && [self.counts, self.kept_counts].iter().all(|counts| counts.moments.max(counts.average) <= self.step);
        if sane && self.position < updates_per_epoch && place == Some(self.step) {
            return Ok(());
        }
        let expected = format!("a place that fits step {} in epochs of {updates_per_epoch} updates", self.step);
        let found = format!("update {} of epoch {}", self.position, self.epoch);
        Err(Error::file(path, "checkpoint", expected, found))
    }

    /// Checks that the checkpoint at `path` belongs to this data and this recipe.
    ///
    /// # Errors
    /// [`Error::File`] saying what has changed.
    pub fn check_origin(&self, path: &Path, data: &DataRecord, recipe_digest: &str) -> Result<()> {
        if let Some(differences) = self.data.differences(data, &Split::ALL) {
            let expected = "the data that the run began with; start a new run for other data";
            return Err(Error::file(path, "data", expected, differences));
        }
        if self.recipe_digest != recipe_digest {
            let expected = format_args!(
                "the recipe that the run began with (digest {}); start a new run for another recipe",
                self.recipe_digest
            );
            return Err(Error::file(path, "recipe", expected, format_args!("digest {recipe_digest}")));
        }
        Ok(())
    }
}

/// What the metadata holds, for writing.
#[derive(Serialize)]
struct Envelope<'a> {
    format_version: u32,
    progress: &'a Progress,
}

/// What the metadata of every version holds.
#[derive(Deserialize)]
struct Version {
    format_version: u32,
}

/// What the metadata of this version holds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    #[serde(rename = "format_version")]
    _format_version: u32,
    progress: Progress,
}

/// Writes a checkpoint to `path` in one step. Each tensor is its name, its shape and its elements, row-major.
///
/// # Errors
/// [`Error::Io`]; the checkpoint that was there is then still whole.
///
/// # Panics
/// If a shape does not have as many elements as are given, or a name is given twice.
pub fn save(path: &Path, progress: &Progress, tensors: &[(String, Vec<usize>, &[f32])]) -> Result<()> {
    let envelope = Envelope { format_version: FORMAT_VERSION, progress };
    let json = serde_json::to_string(&envelope).expect("progress has only numbers and strings");
    let metadata = std::iter::once((METADATA_KEY.to_owned(), json)).collect();
    let views = tensors.iter().map(|(name, shape, elements)| {
        assert_eq!(shape.iter().product::<usize>(), elements.len(), "tensor {name}: shape {shape:?} against elements");
        (name.as_str(), Elements { shape, elements })
    });
    let bytes = safetensors::serialize(views, Some(metadata)).expect("f32 tensors with distinct names");
    replace(path, |file| file.write_all(&bytes))
}

/// Row-major f32 elements as safetensors takes them.
struct Elements<'a> {
    shape: &'a [usize],
    elements: &'a [f32],
}

impl View for Elements<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.elements.iter().flat_map(|element| element.to_le_bytes()).collect()
    }

    fn data_len(&self) -> usize {
        size_of_val(self.elements)
    }
}

/// Reads the checkpoint at `path`, which must hold exactly the `expected` tensors (name and shape); their elements come in
/// that order. Nothing larger than such a file can be is ever read into memory.
///
/// # Errors
/// [`Error::Io`], and [`Error::File`] for a file that is damaged, of another version or of another model.
pub fn load(path: &Path, expected: &[(String, Vec<usize>)]) -> Result<(Progress, Vec<Vec<f32>>)> {
    let bytes = read_at_most(path, largest_file(expected))?;
    let damaged =
        |error: safetensors::SafeTensorError| Error::file(path, "checkpoint", "a whole safetensors file", error);
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(damaged)?;
    let json = metadata.metadata().as_ref().and_then(|metadata| metadata.get(METADATA_KEY));
    let progress = read_progress(path, json.map(String::as_str))?;
    let file = SafeTensors::deserialize(&bytes).map_err(damaged)?;
    if let Some(name) = file.names().into_iter().find(|name| expected.iter().all(|(known, _)| known != name)) {
        return Err(Error::file(path, "checkpoint", "only the tensors of the model", format_args!("also {name:?}")));
    }
    let tensors = expected.iter().map(|(name, shape)| read_tensor(path, &file, name, shape)).collect::<Result<_>>()?;
    Ok((progress, tensors))
}

/// Reads the progress alone of the checkpoint at `path`, whatever its tensors are.
///
/// # Errors
/// As [`load`].
pub fn peek(path: &Path) -> Result<Progress> {
    let io = |action| Error::io(path, action);
    let mut file = File::open(path).map_err(io("open"))?;
    let mut length = [0; 8];
    let damaged = |found: String| Error::file(path, "checkpoint", "a whole safetensors file", found);
    file.read_exact(&mut length).map_err(|error| damaged(error.to_string()))?;
    let length = u64::from_le_bytes(length);
    if length > LARGEST_METADATA {
        return Err(damaged(format!("a header of {length} bytes")));
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header).map_err(io("read"))?;
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| damaged(error.to_string()))?;
    let json = metadata.metadata().as_ref().and_then(|metadata| metadata.get(METADATA_KEY));
    read_progress(path, json.map(String::as_str))
}

fn largest_file(expected: &[(String, Vec<usize>)]) -> u64 {
    let tensor = |(name, shape): &(String, Vec<usize>)| {
        let bytes = 4 * shape.iter().map(|&size| size as u64).product::<u64>();
        bytes + LARGEST_ENTRY + 6 * name.len() as u64
    };
    LARGEST_METADATA + expected.iter().map(tensor).sum::<u64>()
}

fn read_progress(path: &Path, json: Option<&str>) -> Result<Progress> {
    let wrong = |expected: &str, found: String| Error::file(path, "checkpoint", expected, found);
    let Some(json) = json else {
        return Err(wrong("the metadata of a checkpoint", format!("no key {METADATA_KEY}")));
    };
    let invalid = |error: serde_json::Error| wrong("valid metadata", error.to_string());
    let Version { format_version } = serde_json::from_str(json).map_err(invalid)?;
    if format_version != FORMAT_VERSION {
        return Err(wrong(&format!("format version {FORMAT_VERSION}"), format!("version {format_version}")));
    }
    let Contents { progress, .. } = serde_json::from_str(json).map_err(invalid)?;
    Ok(progress)
}

fn read_tensor(path: &Path, file: &SafeTensors<'_>, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
    let expected = format!("f32 with shape {shape:?}");
    let wrong = |found: String| Error::file(path, &format!("tensor {name}"), &expected, found);
    let tensor = file.tensor(name).map_err(|_| wrong("no such tensor".to_owned()))?;
    if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
        return Err(wrong(format!("{:?} with shape {:?}", tensor.dtype(), tensor.shape())));
    }
    let (elements, []) = tensor.data().as_chunks::<4>() else {
        return Err(wrong("a number of bytes that 4 does not divide".to_owned()));
    };
    Ok(elements.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use throughline_data::Splits;

    use super::*;
    use crate::testing::TestFolder;

    fn data(text: &str) -> DataRecord {
        let splits = Splits { train: text, validation: "v", test: "t" };
        DataRecord::of("characters", splits, |text, digest| {
            digest.bytes(text.as_bytes());
            text.len()
        })
    }

    fn progress() -> Progress {
        Progress {
            step: 120,
            epoch: 1,
            position: 20,
            tokens: 245_760,
            seconds: 12.3,
            evaluations: 3,
            evaluations_since_best: 1,
            untrained: Some(Reached { step: 0, score: 0.5, loss: 0.7 }),
            best: Some(Reached { step: 90, score: 0.1 + 0.2, loss: 1.0 / 3.0 }),
            evaluated_at: None,
            plateau: Plateau::default(),
            counts: Counts::default(),
            kept_counts: Counts::default(),
            averaged: Averaged::default(),
            recent: Recent::default(),
            planned: 200,
            data: data("d"),
            recipe_digest: "r".to_owned(),
        }
    }

    fn shapes() -> Vec<(String, Vec<usize>)> {
        vec![("rnn.weight".to_owned(), vec![2, 3]), ("empty".to_owned(), vec![0, 4]), ("a".to_owned(), vec![1])]
    }

    fn values() -> Vec<Vec<f32>> {
        vec![vec![1.0, -0.0, f32::MIN_POSITIVE, f32::MAX, 0.1, -2.5], vec![], vec![3.0]]
    }

    fn save_to(path: &Path) {
        let values = values();
        let tensors: Vec<_> =
            shapes().into_iter().zip(&values).map(|((name, shape), values)| (name, shape, values.as_slice())).collect();
        save(path, &progress(), &tensors).unwrap();
    }

    #[test]
    fn what_is_saved_is_loaded_to_the_bit_and_twice_gives_the_same_bytes() {
        let folder = TestFolder::new();
        let path = folder.join("last.safetensors");
        save_to(&path);
        let (loaded, tensors) = load(&path, &shapes()).unwrap();
        assert_eq!(loaded, progress());
        let bits = |tensors: &[Vec<f32>]| tensors.iter().flatten().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&tensors), bits(&values()));
        let bytes = fs::read(&path).unwrap();
        save_to(&path);
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert_eq!(folder.entries(), ["last.safetensors"]);
    }

    #[test]
    fn a_cut_file_is_an_error_at_every_length() {
        let folder = TestFolder::new();
        let path = folder.join("last.safetensors");
        save_to(&path);
        let bytes = fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            assert!(matches!(load(&path, &shapes()), Err(Error::File { .. })), "{length} bytes");
        }
    }

    #[test]
    fn a_changed_byte_never_panics() {
        let folder = TestFolder::new();
        let path = folder.join("last.safetensors");
        save_to(&path);
        let bytes = fs::read(&path).unwrap();
        for place in 0..bytes.len() {
            for change in [0x01, 0x80, 0xFF] {
                let mut changed = bytes.clone();
                changed[place] ^= change;
                fs::write(&path, &changed).unwrap();
                if let Ok((_, tensors)) = load(&path, &shapes()) {
                    let lengths: Vec<usize> = tensors.iter().map(Vec::len).collect();
                    assert_eq!(lengths, [6, 0, 1], "byte {place}");
                }
            }
        }
    }

    #[test]
    fn another_model_is_an_error_that_names_the_tensor() {
        let folder = TestFolder::new();
        let path = folder.join("last.safetensors");
        save_to(&path);
        let mut other_shape = shapes();
        other_shape[0].1 = vec![3, 2];
        let mut more = shapes();
        more.push(("missing".to_owned(), vec![1]));
        let fewer = &shapes()[1..];
        for (expected, named) in [(other_shape.as_slice(), "rnn.weight"), (&more, "missing"), (fewer, "rnn.weight")] {
            let error = load(&path, expected).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn a_file_larger_than_the_model_is_not_read() {
        let folder = TestFolder::new();
        let path = folder.join("last.safetensors");
        let file = fs::File::create(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        let error = load(&path, &shapes()).unwrap_err().to_string();
        assert!(error.contains("at most"), "{error}");
    }

    #[test]
    fn another_version_and_a_plain_model_are_errors() {
        let folder = TestFolder::new();
        let path = folder.join("last.safetensors");
        let write = |metadata: &[(&str, &str)]| {
            let metadata = metadata.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
            let nothing: [(&str, Elements<'_>); 0] = [];
            fs::write(&path, safetensors::serialize(nothing, Some(metadata)).unwrap()).unwrap();
            load(&path, &[]).unwrap_err().to_string()
        };
        assert!(write(&[("format", "pt")]).contains(METADATA_KEY));
        assert!(write(&[(METADATA_KEY, r#"{"format_version":4,"new":1}"#)]).contains("version 4"));
        assert!(write(&[(METADATA_KEY, r#"{"format_version":2}"#)]).contains("version 2"));
        assert!(write(&[(METADATA_KEY, r#"{"format_version":3}"#)]).contains("progress"));
        assert!(write(&[(METADATA_KEY, &"[".repeat(100_000))]).contains("metadata"));
    }

    #[test]
    fn changed_data_and_a_changed_recipe_are_named() {
        let check =
            |text, recipe| progress().check_origin(Path::new("last"), &data(text), recipe).map_err(|e| e.to_string());
        assert_eq!(check("d", "r"), Ok(()));
        assert!(check("x", "r").unwrap_err().contains("the training split has other characters, 1 as before"));
        assert!(check("dd", "r").unwrap_err().contains("the training split has 2 characters and had 1"));
        assert!(check("d", "x").unwrap_err().contains("last: recipe: expected"));
    }

    /// Scores come first, the loss decides between equal ones, and what no update has made is never the best.
    #[test]
    fn the_best_is_the_first_with_the_lowest_score_and_loss() {
        let mut progress = Progress::start(100, Averaged::default(), data("d"), "r".to_owned());
        let mut observe = |step, score, loss| {
            let best = progress.observe(Reached { step, score, loss }, true);
            (best, progress.evaluations_since_best, progress.beat_the_start())
        };
        assert_eq!(observe(0, 0.3, 0.5), (false, 0, false), "the untrained model is not kept, however good it is");
        assert_eq!(observe(10, 0.5, 0.9), (true, 0, false), "the first trained one is, however bad it is");
        assert_eq!(observe(20, 0.5, 0.9), (false, 1, false), "the earlier of two equal ones stays");
        assert_eq!(observe(30, 0.5, 1.0), (false, 2, false));
        assert_eq!(observe(40, 0.5, 0.8), (true, 0, false), "of equal scores the lower loss is better");
        assert_eq!(observe(50, 0.6, 0.1), (false, 1, false), "no loss makes up for a score");
        assert_eq!(observe(60, 0.3, 0.5), (true, 0, false), "no better than the start");
        assert_eq!(observe(70, 0.3, 0.4), (true, 0, true));
        assert_eq!(observe(80, 0.3, f64::NAN), (false, 1, true));
        assert_eq!(progress.best, Some(Reached { step: 70, score: 0.3, loss: 0.4 }));
        assert_eq!((progress.untrained.map(|start| start.step), progress.evaluations), (Some(0), 9));
        for (score, best) in [(0.9, false), (0.2, true)] {
            assert_eq!(progress.observe(Reached { step: 85, score, loss: 0.4 }, false), best);
            assert_eq!(progress.evaluations_since_best, 1, "one that is not due neither counts nor resets the count");
        }
    }
}
