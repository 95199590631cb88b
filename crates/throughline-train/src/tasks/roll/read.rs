//! Pieces from files into splits.

use std::path::Path;

use throughline_data::{PianoRoll, PieceReader, Pieces, Pitches, Skipped, Split, Splits};
use throughline_infer::tasks::roll;
use throughline_kernels::random::{Philox, Purpose};

use super::Options;
use crate::run::card::grouped;
use crate::{Digest, Error, Result};

/// The pieces of a run, split by split.
pub(super) struct Rolls {
    pub splits: Splits<Vec<PianoRoll>>,
    /// Notes of drums, which were not read.
    pub drums: usize,
    /// Files that were not read.
    pub skipped: Vec<Skipped>,
}

/// The reader that a recipe asks for.
pub(super) fn reader(options: &Options) -> PieceReader {
    PieceReader { steps_per_beat: options.roll.steps_per_beat, ..PieceReader::default() }
}

impl Rolls {
    /// Reads the pieces of a recipe and divides those that no file gives a split.
    pub fn read(options: &Options, seed: u64) -> Result<Self> {
        let files = &options.files;
        files.check_twice()?;
        let reader = reader(options);
        let Pieces { mut pieces, mut drums, mut skipped } = reader.read(&files.paths)?;
        if files.limit > 0 {
            pieces.truncate(files.limit);
        }
        let mut splits = Splits::<Vec<PianoRoll>>::default();
        let mut free = Vec::new();
        for (split, piece) in pieces {
            match split {
                Some(Split::Train) => splits.train.push(piece),
                Some(Split::Validation) => splits.validation.push(piece),
                Some(Split::Test) => splits.test.push(piece),
                None => free.push(piece),
            }
        }
        let mut order: Vec<usize> = (0..free.len()).collect();
        Philox::new(seed, Purpose::Split, 0).stream().shuffle(&mut order);
        let ranges = files.fractions()?.ranges(free.len());
        let mut take = |range: std::ops::Range<usize>, into: &mut Vec<PianoRoll>| {
            let mut places = order[range].to_vec();
            places.sort_unstable();
            into.extend(places.into_iter().map(|place| std::mem::take(&mut free[place])));
        };
        take(ranges.train, &mut splits.train);
        take(ranges.validation, &mut splits.validation);
        take(ranges.test, &mut splits.test);
        let own = [(&files.validation, &mut splits.validation), (&files.test, &mut splits.test)];
        for (paths, into) in own.into_iter().filter(|(paths, _)| !paths.is_empty()) {
            let read = reader.read(paths)?;
            into.extend(read.pieces.into_iter().map(|(_, piece)| piece));
            drums += read.drums;
            skipped.extend(read.skipped);
        }
        for split in [Split::Train, Split::Validation] {
            if splits.of(split).iter().all(|piece| piece.len() < 2) {
                let expected = "a piece of at least two steps; give more pieces, or a larger share in data.split";
                let found = format!("{} pieces", splits.of(split).len());
                return Err(Error::file(files.place(), &format!("{} split", split.name()), expected, found));
            }
        }
        Ok(Self { splits, drums, skipped })
    }
}

/// Checks that each piece fits the memory: one that does not must not end the program later.
pub(super) fn check_lengths(config: &roll::Config, place: &Path, pieces: &[PianoRoll]) -> Result<()> {
    let longest = config.longest();
    match pieces.iter().find(|piece| piece.len() > longest) {
        None => Ok(()),
        Some(piece) => {
            let expected = format!("at most {longest} steps, which is what fits the memory for one piece");
            Err(Error::file(place, "piece", expected, format!("{} steps", piece.len())))
        }
    }
}

/// Takes pieces into a digest. Returns how many steps they have.
pub(super) fn digest(pieces: &[PianoRoll], digest: &mut Digest) -> usize {
    for piece in pieces {
        digest.tokens(&[piece.len() as u32]);
        for step in piece {
            let pitches: Vec<u32> = step.iter().map(u32::from).collect();
            digest.tokens(&[pitches.len() as u32]);
            digest.tokens(&pitches);
        }
    }
    pieces.iter().map(Vec::len).sum()
}

/// What to say of notes without a key; nothing if there are none.
pub(super) fn notes_without_key(keys: roll::Keys, what: &str, pieces: &[PianoRoll]) -> Option<String> {
    let (all, unknown) = keys.notes(pieces.iter().flatten());
    let roll::Keys { lowest, highest } = keys;
    (unknown > 0).then(|| {
        let (unknown, all) = (grouped(unknown), grouped(all));
        format!(
            "{unknown} of {all} notes in {what} are not from {lowest} to {highest}, and the model does not see them"
        )
    })
}

/// What to say of drums; nothing if there are none.
pub(super) fn drums_left_out(drums: usize) -> Option<String> {
    (drums > 0).then(|| format!("{} notes of drums, on channel 10", grouped(drums)))
}

/// Pieces, steps and notes on a step, in words.
pub(super) fn describe(pieces: &[PianoRoll]) -> String {
    let steps: usize = pieces.iter().map(Vec::len).sum();
    let notes: usize = pieces.iter().flatten().map(|step: &Pitches| step.len()).sum();
    let on_a_step = notes as f64 / steps.max(1) as f64;
    format!("{} pieces of {} steps, {on_a_step:.2} notes on a step", grouped(pieces.len()), grouped(steps))
}
