//! The settings of language models.

use throughline_infer::Serve;
use throughline_infer::tasks::LanguageModel;

use crate::Result;
use crate::recipe::{Check, LONGEST_WINDOW, TaskOptions, Train, options, settings};
use crate::tasks::shared::{DataFiles, EmbeddingModel, KnownUnits, RecurrentModel, TextCleaning, TextUnits};

options! {
    /// The settings that a language model has beside those of every task.
    pub struct Options {
        /// Where the texts are.
        [data] files: DataFiles,
        /// How they are cleaned.
        [data] cleaning: TextCleaning,
        /// What they are cut into.
        [data] units: TextUnits,
        /// The units that the model knows.
        [data] known: KnownUnits,
        /// The embedding.
        [model] embedded: EmbeddingModel,
        /// The recurrent layers.
        [model] model: RecurrentModel,
        /// The output layer.
        [model] output: OutputLayer,
        /// How far each update goes, and how far back its gradient.
        [train] windows: Windows,
        /// The texts that are written while training.
        [sample] sample: Sample,
    }
}

settings! {
    /// In table `[model]`: the output layer.
    pub struct OutputLayer {
        /// The output layer uses the embedding's weights (Press and Wolf 2017); needs `embedding` equal to `hidden`.
        tied: bool = false,
    }
}

settings! {
    /// In table `[train]`: truncated backpropagation through time.
    pub struct Windows {
        /// Units that each stream moves on per update, 1 to 1048576.
        stride: usize = 64,
        /// Units through which the gradient flows back: 0 stands for `stride`, else `stride` to 1048576.
        window: usize = 0,
    }
}

settings! {
    /// Table `[sample]`: the texts that are written while training.
    pub struct Sample {
        /// Units, 1 to 1,000,000.
        length: usize = 200,
        /// Divides the logits, 0 to 100; 0 takes the most likely unit.
        temperature: f64 = 0.8,
        /// What the text begins with.
        prompt: String = String::new(),
        /// Write a text after every evaluation.
        every_evaluation: bool = true,
    }
}

impl Windows {
    /// Units through which the gradient flows back: `window`, or `stride` if that is 0.
    pub fn gradient_window(&self) -> usize {
        if self.window == 0 { self.stride } else { self.window }
    }
}

impl TaskOptions for Options {
    const NAME: &'static str = LanguageModel::INFO.name;
    const MAY_CHANGE: &'static [&'static str] = &["sample"];

    fn check(&self, train: &Train, check: &Check<'_>) -> Result<()> {
        let Self { files, cleaning, known, embedded, model, output, windows, sample, .. } = self;
        files.check(check)?;
        cleaning.check(check)?;
        known.check(check)?;
        embedded.check(model, train, false, check)?;
        let sizes = format!("model.embedding == model.hidden ({} and {} are given)", embedded.embedding, model.hidden);
        check.require("model.tied", !output.tied || embedded.embedding == model.hidden, sizes, true)?;
        check.within("train.stride", windows.stride, 1..=LONGEST_WINDOW)?;
        check.within("train.window", windows.window, 0..=LONGEST_WINDOW)?;
        let wide_enough = windows.gradient_window() >= windows.stride;
        let expected = format!("0, or at least train.stride = {}", windows.stride);
        check.require("train.window", wide_enough, expected, windows.window)?;
        check.within("sample.length", sample.length, 1..=1_000_000)?;
        check.within("sample.temperature", sample.temperature, 0.0..=100.0)
    }

    fn unused(&self, key: &str) -> Option<&'static str> {
        self.known.unused(self.units.unit, key).or_else(|| self.embedded.unused(&self.model, key))
    }
}
