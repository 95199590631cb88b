//! The settings of classifiers of series.

use throughline_data::WantedAnswers;
use throughline_infer::Serve;
use throughline_infer::tasks::ClassifySeries;

use crate::Result;
use crate::recipe::{Check, TaskOptions, Train, options, settings};
use crate::tasks::shared::{ClassWeighting, DataFiles, Reading, RecurrentModel, SeriesTables};

options! {
    /// The settings that a classifier of series has beside those of every task.
    pub struct Options {
        /// Where the series are.
        [data] files: DataFiles,
        /// How they lie in the files.
        [data] tables: SeriesTables,
        /// Where their classes are.
        [data] labels: Labels,
        /// The recurrent layers.
        [model] model: RecurrentModel,
        /// How they read a series.
        [model] reading: Reading,
        /// How much the classes count.
        [train] weighting: ClassWeighting,
    }
}

settings! {
    /// In table `[data]`: where the classes are.
    pub struct Labels {
        /// Column of a table with the class. Empty: `label`, or in a folder the name of the subfolder.
        label_column: String = String::new(),
    }
}

impl Options {
    /// What is wanted of each series; of a trained model, its classes.
    pub(super) fn wanted(&self, labels: Option<Vec<String>>) -> WantedAnswers {
        let column = &self.labels.label_column;
        WantedAnswers::Classes { column: (!column.is_empty()).then(|| column.clone()), labels }
    }
}

impl TaskOptions for Options {
    const NAME: &'static str = ClassifySeries::INFO.name;

    fn check(&self, train: &Train, check: &Check<'_>) -> Result<()> {
        self.files.check(check)?;
        self.tables.check(check)?;
        self.model.check(train, self.reading.bidirectional, check)
    }

    fn unused(&self, key: &str) -> Option<&'static str> {
        if key == "train.checkpoint_every" {
            return self.reading.bidirectional.then_some("model.bidirectional = false");
        }
        self.tables.unused(key).or_else(|| self.model.unused(key))
    }
}
