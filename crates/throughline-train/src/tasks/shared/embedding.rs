//! `[model]` of tasks that read tokens: the embedding under the recurrent layers.

use serde::{Deserialize, Serialize};
use throughline_infer::Regularisation;
use throughline_nn::initialise::{EmbeddingInitialisation, Initialise};

use super::files::DataFiles;
use super::recurrent::RecurrentModel;
use crate::Result;
use crate::learn::Description;
use crate::recipe::{Check, LARGEST_SIZE, Train, settings};

settings! {
    /// In table `[model]`: the embedding.
    pub struct EmbeddingModel {
        /// Numbers per embedded unit, 1 to 65536.
        embedding: usize = 64,
        /// Share of the embedding's activations dropped, 0 to below 1.
        embedding_dropout: f64 = 0.0,
        /// Share of the rows of the embedding that an update drops whole, each wherever its unit occurs, 0 to below 1 (Gal and
        /// Ghahramani 2016; "embedding dropout" of Merity et al. 2018).
        token_dropout: f64 = 0.0,
        /// Initial embeddings: `"auto"` (normal with standard deviation 1, PyTorch's, or 1/sqrt(embedding) where the output layer
        /// shares them), or `"normal"` or `"uniform"` with `embedding_scale`.
        embedding_initialise: EmbeddingStart = EmbeddingStart::Auto,
        /// Standard deviation of the initial embeddings (`normal`), or their largest absolute value (`uniform`), above 0, at most
        /// 100.
        embedding_scale: f64 = 0.1,
    }
}

/// How embeddings begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EmbeddingStart {
    /// `"auto"`: as wide as suits what stands on them.
    Auto,
    /// `"normal"`.
    Normal,
    /// `"uniform"`.
    Uniform,
}

impl EmbeddingModel {
    /// What regularises the embedding and the `model` on it in training.
    pub fn regularisation(&self, model: &RecurrentModel) -> Regularisation {
        Regularisation {
            token_dropout: self.token_dropout as f32,
            embedding_dropout: self.embedding_dropout as f32,
            ..model.regularisation()
        }
    }

    /// How the parameters of the embedding and of the `model` on it begin.
    pub fn initialise(&self, model: &RecurrentModel, seed: u64) -> Initialise {
        let embedding = match self.embedding_initialise {
            EmbeddingStart::Auto => EmbeddingInitialisation::Own,
            EmbeddingStart::Normal => EmbeddingInitialisation::Normal { deviation: self.embedding_scale },
            EmbeddingStart::Uniform => EmbeddingInitialisation::Uniform { limit: self.embedding_scale },
        };
        Initialise { embedding, ..model.initialise(seed) }
    }

    /// What people are told of the network, of where the data are and of their units.
    pub(crate) fn describe(
        &self,
        model: &RecurrentModel,
        files: &DataFiles,
        units: &str,
        bidirectional: bool,
    ) -> Description {
        let mut description = model.describe(files, units, bidirectional);
        let size = |what: &str, value: String| (what.to_owned(), value);
        description.sizes.insert(1, size("embedding", self.embedding.to_string()));
        let dropped = [self.embedding_dropout, self.token_dropout].map(|rate| rate.to_string()).join(", ");
        description.sizes.push(size("dropout of the embedding (numbers, rows)", dropped));
        description
    }

    /// Checks the ranges, and those of the `model`.
    pub(crate) fn check(
        &self,
        model: &RecurrentModel,
        train: &Train,
        bidirectional: bool,
        check: &Check<'_>,
    ) -> Result<()> {
        check.within("model.embedding", self.embedding, 1..=LARGEST_SIZE)?;
        check.share_below_one("model.embedding_dropout", self.embedding_dropout)?;
        check.share_below_one("model.token_dropout", self.token_dropout)?;
        check.above_zero("model.embedding_scale", self.embedding_scale, 100.0)?;
        model.check(train, bidirectional, check)
    }

    /// With what `key`, of the embedding or of the `model`, has an effect, if it has none.
    pub(crate) fn unused(&self, model: &RecurrentModel, key: &str) -> Option<&'static str> {
        match key {
            "model.embedding_scale" => (self.embedding_initialise == EmbeddingStart::Auto)
                .then_some("model.embedding_initialise = \"normal\" or \"uniform\""),
            "model.dropout_mask" if self.embedding_dropout > 0.0 => None,
            _ => model.unused(key),
        }
    }
}
