//! `[model]` of tasks whose model is an embedding under a recurrent stack.

use throughline_kernels::cells::CellKind;
use throughline_nn::initialise::Initialisation;
use throughline_nn::network::Dropouts;
use throughline_nn::recurrent::{InitialState, RecurrentConfig};

use super::cell;
use crate::Result;
use crate::recipe::{Check, LARGEST_SIZE, Train, settings};

settings! {
    /// Table `[model]`: an embedding and recurrent layers.
    pub struct RecurrentModel {
        /// `"lstm"`, `"gru"` (reset after the product, PyTorch's), `"gru-before"` (reset before it, Cho et al. 2014), `"rnn"`
        /// (tanh) or `"rnn-relu"`.
        #[serde(with = "cell")]
        cell: CellKind = CellKind::Lstm,
        /// Numbers per embedded unit, 1 to 65536.
        embedding: usize = 64,
        /// Hidden units per layer and direction, 1 to 65536.
        hidden: usize = 256,
        /// Layers, 1 to 64.
        layers: usize = 2,
        /// Share of the activations dropped between layers, 0 to below 1.
        dropout: f64 = 0.0,
        /// Share of the embedding's activations dropped, 0 to below 1.
        embedding_dropout: f64 = 0.0,
        /// Share of the activations dropped before the output layer, 0 to below 1.
        output_dropout: f64 = 0.0,
        /// Biases in the recurrent layers.
        bias: bool = true,
        /// State before the first unit: `"zero"` or `"learned"`.
        initial_state: InitialState = InitialState::Zero,
        /// Initial weights: `"uniform"` within ±1/sqrt(hidden) (PyTorch's), `"xavier"` (Glorot and Bengio 2010) or
        /// `"orthogonal"` (Saxe et al. 2014) for the recurrent ones.
        initialise: Initialisation = Initialisation::Uniform,
        /// Added to the input bias of the LSTM's forget gate at the start, -10 to 10 (Gers et al. 2000; often 1).
        forget_bias: f64 = 0.0,
    }
}

impl RecurrentModel {
    /// The recurrent stack, in one direction or both.
    pub fn config(&self, bidirectional: bool) -> RecurrentConfig {
        RecurrentConfig {
            cell: self.cell,
            input: self.embedding,
            hidden: self.hidden,
            layers: self.layers,
            bidirectional,
            bias: self.bias,
            dropout: self.dropout as f32,
            initial_state: self.initial_state,
        }
    }

    /// Dropout outside the recurrent stack.
    pub fn dropouts(&self) -> Dropouts {
        Dropouts { embedding: self.embedding_dropout as f32, output: self.output_dropout as f32 }
    }

    /// Checks the ranges, and the products of sizes before anything of such a size is made.
    pub(crate) fn check(&self, train: &Train, bidirectional: bool, check: &Check<'_>) -> Result<()> {
        check.within("model.embedding", self.embedding, 1..=LARGEST_SIZE)?;
        check.within("model.hidden", self.hidden, 1..=LARGEST_SIZE)?;
        check.within("model.layers", self.layers, 1..=64)?;
        check.share_below_one("model.dropout", self.dropout)?;
        check.share_below_one("model.embedding_dropout", self.embedding_dropout)?;
        check.share_below_one("model.output_dropout", self.output_dropout)?;
        check.within("model.forget_bias", self.forget_bias, -10.0..=10.0)?;
        let stack = self.config(bidirectional);
        let weights = stack.layers as f64 * (4 * stack.output()) as f64 * (stack.output() + stack.hidden) as f64;
        let largest = "sizes of at most 2^32 recurrent weights (model.layers, model.hidden)";
        check.require("model.hidden", weights <= 4_294_967_296.0, largest, self.hidden)?;
        let states = (stack.layers * stack.output()) as f64 * train.batch as f64;
        let largest = "sizes of at most 2^28 numbers of state (train.batch, model.layers, model.hidden)";
        check.require("train.batch", states <= 268_435_456.0, largest, train.batch)
    }

    /// With what `key` has an effect, if it has none.
    pub(crate) fn unused(&self, key: &str) -> Option<&'static str> {
        let (used, with) = match key {
            "model.dropout" => (self.layers > 1, "model.layers above 1"),
            "model.forget_bias" => {
                (self.cell == CellKind::Lstm && self.bias, "model.cell = \"lstm\" and model.bias = true")
            }
            _ => return None,
        };
        (!used).then_some(with)
    }
}
