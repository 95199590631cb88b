//! Piano rolls: ragged batches of pieces of like length, or of parts of them, each step predicted from those before it.

mod baseline;
mod options;
mod read;

pub use options::{Found, KeyMap, Options, Parts, RollSteps};

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use throughline_data::{Glimpse, PianoRoll, Pitches, Split, Splits};
use throughline_infer::tasks::{Roll, roll};
use throughline_infer::{Regularisation, Runner};
use throughline_nn::heads::Loss;
use throughline_nn::initialise::Initialise;
use throughline_nn::module::Pass;
use throughline_nn::network::Wanted;

use crate::learn::{DataRecord, Description, Examined, Learn, Learned, Measured, Place, Score, Sign, SplitRecord, key};
use crate::tasks::shared::{Batches, skipped_notes};
use crate::{Digest, Error, Recipe, Result};

/// How the names of files with music end.
pub(super) const ENDINGS: &[&str] = &["mid", "midi", "json"];

/// The data of a model of piano rolls.
pub struct Rolls {
    options: Options,
    config: roll::Config,
    data: read::Rolls,
    record: DataRecord,
    /// What is learned from: steps of pieces of the training split.
    parts: Vec<(usize, Range<usize>)>,
    batches: Batches,
    batch: roll::Batch,
}

/// The pieces of these lengths in parts of at most `window` steps; 0: whole.
fn parts(lengths: impl Iterator<Item = usize>, window: usize) -> Vec<(usize, Range<usize>)> {
    let of_piece = |(piece, length): (usize, usize)| {
        let window = if window == 0 { length.max(1) } else { window };
        (0..length).step_by(window).map(move |start| (piece, start..length.min(start + window)))
    };
    lengths.enumerate().flat_map(of_piece).collect()
}

impl Learn for Rolls {
    type Serve = Roll;
    type Options = Options;

    fn recognises(seen: &Glimpse) -> Option<Sign> {
        let music = seen.ends_in(ENDINGS) || seen.is_folder_of(ENDINGS);
        music.then_some(Sign::Clear("a name that ends in .mid, .midi or .json"))
    }

    fn read(recipe: &Recipe) -> Result<Self> {
        let options = recipe.options::<Options>().clone();
        let data = read::Rolls::read(&options, recipe.seed)?;
        let config = roll::Config {
            recurrent: options.model.settings(options.map.embedding, false),
            keys: options.roll.keys(),
            steps_per_beat: options.roll.steps_per_beat,
            threshold: options.found.threshold,
        };
        for split in Split::ALL {
            read::check_lengths(&config, options.files.place(), data.splits.of(split))?;
        }
        let Splits { train, validation, test } = &data.splits;
        let record =
            DataRecord::of("steps", Splits { train, validation, test }, |pieces, into| read::digest(pieces, into));
        let parts = parts(train.iter().map(Vec::len), options.parts.window);
        let lengths = parts.iter().map(|(_, steps)| steps.len()).collect();
        let batches = Batches::new(lengths, recipe.train.batch, recipe.seed);
        let batch = roll::Batch::default();
        Ok(Self { options, config, data, record, parts, batches, batch })
    }

    fn config(&self) -> &roll::Config {
        &self.config
    }

    fn encoder(&self) -> &roll::Keys {
        &self.config.keys
    }

    fn regularisation(recipe: &Recipe) -> Regularisation {
        let Options { map, model, .. } = recipe.options();
        Regularisation { embedding_dropout: map.embedding_dropout as f32, ..model.regularisation() }
    }

    fn initialise(recipe: &Recipe) -> Initialise {
        recipe.options::<Options>().model.initialise(recipe.seed)
    }

    fn batches_per_epoch(&self) -> u64 {
        self.batches.per_epoch()
    }

    fn weight(&mut self, place: Place) -> f64 {
        self.batches.at(place).iter().map(|&part| self.parts[part].1.len()).sum::<usize>() as f64
    }

    fn learn(
        &mut self,
        place: Place,
        normaliser: f64,
        pass: Pass,
        runner: &mut Runner<'_, Roll>,
        gradients: &mut [f32],
    ) -> Learned {
        let part = |&part: &usize| {
            let (piece, steps) = &self.parts[part];
            (&self.data.splits.train[*piece][..], steps.clone())
        };
        let pieces: Vec<(&[Pitches], Range<usize>)> = self.batches.at(place).iter().map(part).collect();
        self.batch.set(self.config.keys, &pieces);
        let Runner { network, weights, workspace } = runner;
        let wanted = Wanted { normaliser: Some(normaliser), ..Wanted::new(self.batch.targets()) };
        let loss = network.learn(*weights, self.batch.input(), wanted, pass, gradients, workspace);
        Learned { loss, units: self.batch.rows() }
    }

    fn data(&self, split: Split) -> &Vec<PianoRoll> {
        self.data.splits.of(split)
    }

    fn baselines(&self) -> Result<Vec<Score>> {
        Ok(baseline::scores(self.config.keys, self.config.threshold, &self.data.splits))
    }

    /// None: pitches are found where a model is evaluated.
    fn training_metrics(_: &Loss) -> BTreeMap<String, f64> {
        BTreeMap::new()
    }

    fn record(&self) -> DataRecord {
        self.record.clone()
    }

    fn describe(&self) -> Description {
        let (files, keys) = (&self.options.files, self.config.keys);
        let of_split = |split: Split| (format!("{} split", split.name()), read::describe(self.data.splits.of(split)));
        let mut data: Vec<(String, String)> = Split::ALL.into_iter().map(of_split).collect();
        data.push(("keys".to_owned(), format!("{}, pitches {} to {}", keys.count(), keys.lowest, keys.highest)));
        data.push(("steps in a quarter note of MIDI".to_owned(), self.config.steps_per_beat.to_string()));
        let left_out = read::drums_left_out(self.data.drums).into_iter().chain(skipped_notes(&self.data.skipped));
        data.extend(left_out.map(|note| ("left out".to_owned(), note)));
        let without_key = |split: Split| {
            read::notes_without_key(keys, &format!("the {} split", split.name()), self.data.splits.of(split))
        };
        let mut warnings: Vec<String> = Split::ALL.into_iter().filter_map(without_key).collect();
        warnings.extend(files.warning_of_repetition());
        Description { data, warnings, ..self.options.model.describe(files, "notes", false) }
    }

    fn examine(&self, split: Split) -> Examined {
        let pieces = self.data.splits.of(split);
        let notes = |piece: &PianoRoll| piece.iter().map(|step| step.iter().collect::<Vec<_>>()).collect::<Vec<_>>();
        let keys = pieces.iter().map(|piece| key(notes(piece))).collect();
        Examined { what: "pieces", lengths: pieces.iter().map(Vec::len).collect(), keys, ..Examined::default() }
    }

    /// Of files that give their pieces splits, those of training and validation are left out.
    fn measured(
        recipe: &Recipe,
        config: &roll::Config,
        keys: &roll::Keys,
        paths: &[PathBuf],
    ) -> Result<Measured<Vec<PianoRoll>>> {
        let options = recipe.options::<Options>();
        let (data, what, mut notes) = if paths.is_empty() {
            (read::Rolls::read(options, recipe.seed)?.splits.test, "test split".to_owned(), Vec::new())
        } else {
            let read = read::reader(options).read(paths)?;
            let all = read.pieces.len();
            let is_measured = |split: Option<Split>| split.is_none_or(|split| split == Split::Test);
            let pieces: Vec<PianoRoll> =
                read.pieces.into_iter().filter_map(|(split, piece)| is_measured(split).then_some(piece)).collect();
            let of_splits = all - pieces.len();
            let of_splits = (of_splits > 0).then(|| format!("{of_splits} pieces that are for training or validation"));
            let left_out = of_splits.into_iter().chain(read::drums_left_out(read.drums));
            let notes = left_out.chain(skipped_notes(&read.skipped)).map(|note| format!("left out: {note}")).collect();
            let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            (pieces, names.join(", "), notes)
        };
        let place = paths.first().map_or(options.files.place(), PathBuf::as_path);
        if !paths.is_empty() && data.iter().all(|piece| piece.len() < 2) {
            return Err(Error::file(place, "data", "a piece of at least two steps to measure on", "none"));
        }
        read::check_lengths(config, place, &data)?;
        notes.extend(read::notes_without_key(*keys, &what, &data));
        let record = paths.is_empty().then(|| {
            let mut sum = Digest::default();
            let count = read::digest(&data, &mut sum);
            SplitRecord { count, digest: sum.finish() }
        });
        Ok(Measured { data, what, notes, record })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_pieces() {
        assert_eq!(parts([5, 0, 2].into_iter(), 2), [(0, 0..2), (0, 2..4), (0, 4..5), (2, 0..2)]);
        assert_eq!(parts([5, 0, 2].into_iter(), 0), [(0, 0..5), (2, 0..2)]);
    }
}
