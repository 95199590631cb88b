//! The settings of models of piano rolls.

use throughline_infer::Serve;
use throughline_infer::tasks::Roll;
use throughline_infer::tasks::roll::Keys;

use crate::Result;
use crate::recipe::{Check, LARGEST_SIZE, LONGEST_WINDOW, TaskOptions, Train, options, settings};
use crate::tasks::shared::{DataFiles, RecurrentModel};

options! {
    /// The settings that a model of piano rolls has beside those of every task.
    pub struct Options {
        /// Where the pieces are: MIDI (`.mid`, `.midi`), or JSON (`.json`).
        [data] files: DataFiles,
        /// The steps and the keys.
        [data] roll: RollSteps,
        /// The linear map of the keys.
        [model] map: KeyMap,
        /// The recurrent layers.
        [model] model: RecurrentModel,
        /// What is taken to sound.
        [model] found: Found,
        /// The parts that pieces are learned in.
        [train] parts: Parts,
    }
}

settings! {
    /// In table `[data]`: the steps and the keys.
    pub struct RollSteps {
        /// Steps in a quarter note of MIDI files, read and written, 1 to 480: 4 are sixteenths. The steps of JSON are what
        /// they are.
        steps_per_beat: u32 = 4,
        /// The lowest pitch that the model knows, 0 to 127; 21 is the lowest key of a piano.
        lowest_pitch: u8 = 21,
        /// The highest pitch that the model knows, `lowest_pitch` to 127; 108 is the highest key of a piano. Notes beyond are
        /// left out and counted.
        highest_pitch: u8 = 108,
    }
}

settings! {
    /// In table `[model]`: the linear map of the keys.
    pub struct KeyMap {
        /// Numbers that the keys of a step are mapped to before the recurrent layers, 1 to 65536.
        embedding: usize = 64,
        /// Share of these numbers dropped, 0 to below 1.
        embedding_dropout: f64 = 0.0,
    }
}

settings! {
    /// In table `[model]`: what is taken to sound.
    pub struct Found {
        /// A key sounds if its probability is above this, above 0 and below 1: for precision, recall, F1, frame accuracy and
        /// the pitches of a prediction.
        threshold: f64 = 0.5,
    }
}

settings! {
    /// In table `[train]`: the parts that pieces are learned in.
    pub struct Parts {
        /// Steps of a part, 0 to 1048576: a longer piece is cut into parts that are learned each from the initial state,
        /// which is faster. 0: whole pieces.
        window: usize = 0,
    }
}

impl RollSteps {
    /// The keys of the model.
    pub(super) fn keys(&self) -> Keys {
        Keys { lowest: self.lowest_pitch, highest: self.highest_pitch }
    }
}

impl TaskOptions for Options {
    const NAME: &'static str = Roll::INFO.name;

    fn check(&self, train: &Train, check: &Check<'_>) -> Result<()> {
        let Self { files, roll, map, model, found, parts } = self;
        files.check(check)?;
        check.within("data.steps_per_beat", roll.steps_per_beat, 1..=480)?;
        check.within("data.lowest_pitch", roll.lowest_pitch, 0..=127)?;
        check.within("data.highest_pitch", roll.highest_pitch, roll.lowest_pitch..=127)?;
        let threshold = found.threshold > 0.0 && found.threshold < 1.0;
        check.require("model.threshold", threshold, "a number above 0 and below 1", found.threshold)?;
        check.within("train.window", parts.window, 0..=LONGEST_WINDOW)?;
        check.within("model.embedding", map.embedding, 1..=LARGEST_SIZE)?;
        check.share_below_one("model.embedding_dropout", map.embedding_dropout)?;
        model.check(train, false, check)
    }

    fn unused(&self, key: &str) -> Option<&'static str> {
        match key {
            "model.dropout_mask" if self.map.embedding_dropout > 0.0 => None,
            _ => self.model.unused(key),
        }
    }
}
