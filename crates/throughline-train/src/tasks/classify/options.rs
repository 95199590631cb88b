//! The settings of classifiers.

use throughline_data::Format;
use throughline_infer::Serve;
use throughline_infer::tasks::Classify;

use crate::Result;
use crate::recipe::{Check, LARGEST_COUNT, TaskOptions, Train, options, settings};
use crate::tasks::shared::{
    ClassWeighting, DataFiles, EmbeddingModel, KnownUnits, Reading, RecurrentModel, TextCleaning, TextUnits,
};

options! {
    /// The settings that a classifier has beside those of every task.
    pub struct Options {
        /// Where the texts are.
        [data] files: DataFiles,
        /// How they are cleaned.
        [data] cleaning: TextCleaning,
        /// What they are cut into.
        [data] units: TextUnits,
        /// The units that the model knows.
        [data] known: KnownUnits,
        /// How examples lie in the files.
        [data] examples: Examples,
        /// The embedding.
        [model] embedded: EmbeddingModel,
        /// The recurrent layers.
        [model] model: RecurrentModel,
        /// How the recurrent layers read a text.
        [model] reading: Reading,
        /// How much the classes count.
        [train] weighting: ClassWeighting,
    }
}

settings! {
    /// In table `[data]`: how examples lie in the files, and which are used.
    pub struct Examples {
        /// `"auto"` (found out from the files), `"csv"`, `"tsv"`, `"jsonl"`, `"parquet"`, `"folder-per-class"`, `"file-per-class"` or
        /// `"label-first"`.
        #[serde(with = "auto_or_format")]
        format: Option<Format> = None,
        /// Column of the text in tables: its name, or with both columns its number from 1 in a CSV or TSV file without header.
        /// Empty: the column called `text`.
        text_column: String = String::new(),
        /// Column of the label, given like `text_column`. Empty: the column called `label`.
        label_column: String = String::new(),
        /// Keep only the first of equal examples.
        deduplicate: bool = false,
        /// Longest text in units, longer ones are cut; 0: no limit.
        max_length: usize = 0,
    }
}

impl TaskOptions for Options {
    const NAME: &'static str = Classify::INFO.name;

    fn check(&self, train: &Train, check: &Check<'_>) -> Result<()> {
        self.files.check(check)?;
        self.cleaning.check(check)?;
        self.known.check(check)?;
        check.within("data.max_length", self.examples.max_length, 0..=LARGEST_COUNT as usize)?;
        self.embedded.check(&self.model, train, self.reading.bidirectional, check)
    }

    fn unused(&self, key: &str) -> Option<&'static str> {
        if key == "train.checkpoint_every" {
            return self.reading.bidirectional.then_some("model.bidirectional = false");
        }
        self.known.unused(self.units.unit, key).or_else(|| self.embedded.unused(&self.model, key))
    }
}

/// [`Examples::format`] in TOML: `None` is `"auto"`.
mod auto_or_format {
    use serde::de::{Deserializer, Error};
    use serde::{Deserialize, Serializer};
    use throughline_data::Format;

    const AUTO: &str = "auto";

    pub fn serialize<S: Serializer>(format: &Option<Format>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(format.map_or(AUTO, Format::name))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Format>, D::Error> {
        let name = String::deserialize(deserializer)?;
        let format = Format::ALL.into_iter().find(|format| format.name() == name);
        if format.is_none() && name != AUTO {
            let names = Format::ALL.map(|format| format!("`{}`", format.name())).join(", ");
            return Err(D::Error::custom(format_args!("expected one of `{AUTO}`, {names}")));
        }
        Ok(format)
    }
}
