//! `[model]` of every task: the recurrent layers.

use throughline_infer::{RecurrentSettings, Regularisation};
use throughline_kernels::cells::{CellKind, Names, PyTorch};
use throughline_nn::initialise::{Initialisation, Initialise};
use throughline_nn::layers::recurrent::{ActivationPenalty, InitialState};
use throughline_nn::parameters::DropoutMask;

use super::cell;
use super::files::DataFiles;
use crate::Result;
use crate::learn::Description;
use crate::recipe::{Check, LARGEST_SIZE, Train, settings};

settings! {
    /// In table `[model]`: the recurrent layers.
    pub struct RecurrentModel {
        /// `"lstm"`, `"gru"` (reset after the product, PyTorch's), `"gru-before"` (reset before it, Cho et al. 2014), `"rnn"`
        /// (tanh) or `"rnn-relu"`.
        #[serde(with = "cell")]
        cell: CellKind = CellKind::Lstm,
        /// Hidden units per layer and direction, 1 to 65536.
        hidden: usize = 256,
        /// Layers, 1 to 64.
        layers: usize = 2,
        /// Share of the activations dropped between layers, 0 to below 1.
        dropout: f64 = 0.0,
        /// Share of the activations dropped before the output layer, 0 to below 1.
        output_dropout: f64 = 0.0,
        /// For what dropout draws a mask: each `"step"` (Srivastava et al. 2014), or each `"sequence"`, all of whose steps share
        /// it (Gal and Ghahramani 2016; "locked" dropout of Merity et al. 2018). Of a running text, a sequence is what one
        /// stream reads in an update.
        dropout_mask: DropoutMask = DropoutMask::Step,
        /// Share of the recurrent weights dropped, one mask for each update, 0 to below 1 (DropConnect; Merity et al.
        /// 2018).
        weight_dropout: f64 = 0.0,
        /// Share of the hidden state dropped where it is multiplied with the recurrent weights, one mask for each text or
        /// window, 0 to below 1 (Gal and Ghahramani 2016).
        recurrent_dropout: f64 = 0.0,
        /// Share of the candidate dropped at each step, g of an LSTM or n of a GRU, 0 to below 1 (Semeniuta et al. 2016).
        candidate_dropout: f64 = 0.0,
        /// Share of the hidden state that keeps its previous value at each step, 0 to below 1 (Krueger et al. 2017). The
        /// model in use mixes the two in this proportion.
        zoneout_hidden: f64 = 0.0,
        /// The same for the cell state of an LSTM.
        zoneout_cell: f64 = 0.0,
        /// Weight of the mean square of the recurrent layers' output, after dropout, which training adds to the loss, 0 to 1e6
        /// (Merity et al. 2017; often 2). The loss that is shown is without it.
        activation_penalty: f64 = 0.0,
        /// Weight of the mean squared difference of that output, before dropout, from one step of a sequence to the next, which
        /// training adds to the loss, 0 to 1e6 (Merity et al. 2017; often 1). The loss that is shown is without it.
        temporal_penalty: f64 = 0.0,
        /// Biases in the recurrent layers.
        bias: bool = true,
        /// Layer-normalised cells: the terms of each step's sums are normalised over the units before the gates take them, and so
        /// is what an LSTM reads out of its cell state (Ba et al. 2016).
        layer_norm: bool = false,
        /// State before the first unit: `"zero"` or `"learned"`.
        initial_state: InitialState = InitialState::Zero,
        /// Initial weights: `"uniform"` within ±1/sqrt(hidden) (PyTorch's), `"xavier"` (Glorot and Bengio 2010) or
        /// `"orthogonal"` (Saxe et al. 2014) for the recurrent ones.
        initialise: Initialisation = Initialisation::Uniform,
        /// Added at the start to the input bias of the gate that keeps the state, an LSTM's forget gate (Gers et al. 2000; often
        /// 1) or a GRU's update gate, -10 to 10.
        forget_bias: f64 = 0.0,
        /// Steps over which something may have to be remembered, 0 or 3 to 1000000: the gates begin so that each unit keeps its
        /// state for a time drawn from 1 to so many steps (chrono initialisation; Tallec and Ollivier 2018). 0: they do not.
        longest_memory: u32 = 0,
    }
}

impl RecurrentModel {
    /// The recurrent stack over `input` features, in one direction or both.
    pub fn settings(&self, input: usize, bidirectional: bool) -> RecurrentSettings {
        RecurrentSettings {
            cell: self.cell,
            input,
            hidden: self.hidden,
            layers: self.layers,
            bidirectional,
            bias: self.bias,
            layer_norm: self.layer_norm,
            initial_state: self.initial_state,
            zoneout_hidden: self.zoneout_hidden as f32,
            zoneout_cell: self.zoneout_cell as f32,
        }
    }

    /// What regularises training.
    pub fn regularisation(&self) -> Regularisation {
        Regularisation {
            layer_dropout: self.dropout as f32,
            output_dropout: self.output_dropout as f32,
            dropout_mask: self.dropout_mask,
            weight_dropout: self.weight_dropout as f32,
            recurrent_dropout: self.recurrent_dropout as f32,
            candidate_dropout: self.candidate_dropout as f32,
            penalty: ActivationPenalty { activation: self.activation_penalty, temporal: self.temporal_penalty },
            ..Regularisation::default()
        }
    }

    /// How the parameters begin.
    pub fn initialise(&self, seed: u64) -> Initialise {
        Initialise {
            recurrent: self.initialise,
            forget_bias: self.forget_bias as f32,
            longest_memory: self.longest_memory,
            ..Initialise::new(seed)
        }
    }

    /// What people are told of the network, of where the data are and of their units.
    pub(crate) fn describe(&self, files: &DataFiles, units: &str, bidirectional: bool) -> Description {
        let Names { title, pytorch, .. } = self.cell.names();
        let direction = if bidirectional { "bidirectional " } else { "" };
        let layers = if self.layers == 1 { "layer" } else { "layers" };
        let title = if self.layer_norm { format!("layer-normalised {title}") } else { title.to_owned() };
        let sizes = [
            ("cell", title.clone()),
            ("hidden units", self.hidden.to_string()),
            ("layers", self.layers.to_string()),
            ("directions", if bidirectional { "2" } else { "1" }.to_owned()),
            ("dropout (between layers, output)", format!("{}, {}", self.dropout, self.output_dropout)),
        ];
        let inside = [
            ("dropout of recurrent weights", self.weight_dropout),
            ("dropout of the hidden state", self.recurrent_dropout),
            ("dropout of the candidate", self.candidate_dropout),
            ("zoneout of the hidden state", self.zoneout_hidden),
            ("zoneout of the cell state", self.zoneout_cell),
        ];
        let inside = inside.into_iter().filter(|(_, rate)| *rate > 0.0).map(|(what, rate)| (what, rate.to_string()));
        Description {
            network: format!("{direction}{title}, {} {layers} of {} hidden units", self.layers, self.hidden),
            files: files.paths.clone(),
            sizes: sizes.into_iter().chain(inside).map(|(what, value)| (what.to_owned(), value)).collect(),
            exchange: match self.layer_norm {
                true => exchange(PyTorch::None, false),
                false => exchange(pytorch, self.zoneout_hidden > 0.0 || self.zoneout_cell > 0.0),
            },
            units: units.to_owned(),
            ..Description::default()
        }
    }

    /// Checks the ranges, and the products of sizes before anything of such a size is made.
    pub(crate) fn check(&self, train: &Train, bidirectional: bool, check: &Check<'_>) -> Result<()> {
        check.within("model.hidden", self.hidden, 1..=LARGEST_SIZE)?;
        check.within("model.layers", self.layers, 1..=64)?;
        check.share_below_one("model.dropout", self.dropout)?;
        check.share_below_one("model.output_dropout", self.output_dropout)?;
        check.share_below_one("model.weight_dropout", self.weight_dropout)?;
        check.share_below_one("model.recurrent_dropout", self.recurrent_dropout)?;
        check.share_below_one("model.candidate_dropout", self.candidate_dropout)?;
        check.share_below_one("model.zoneout_hidden", self.zoneout_hidden)?;
        check.share_below_one("model.zoneout_cell", self.zoneout_cell)?;
        check.within("model.activation_penalty", self.activation_penalty, 0.0..=1e6)?;
        check.within("model.temporal_penalty", self.temporal_penalty, 0.0..=1e6)?;
        check.within("model.forget_bias", self.forget_bias, -10.0..=10.0)?;
        let memory = self.longest_memory == 0 || (3..=1_000_000).contains(&self.longest_memory);
        check.require("model.longest_memory", memory, "0, or 3 to 1000000", self.longest_memory)?;
        let stack = self.settings(1, bidirectional).config(Regularisation::default());
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
            "model.dropout_mask" => {
                (self.dropout > 0.0 || self.output_dropout > 0.0, "model.dropout or model.output_dropout above 0")
            }
            "model.forget_bias" | "model.longest_memory" => (
                self.cell.keeping_gate().is_some() && self.bias,
                "an LSTM or a GRU as model.cell, and model.bias = true",
            ),
            "model.candidate_dropout" => {
                (self.cell.has_candidate(), "model.cell = \"lstm\", \"gru\" or \"gru-before\"")
            }
            "model.zoneout_cell" => (self.cell.has_cell_state(), "model.cell = \"lstm\""),
            _ => return None,
        };
        (!used).then_some(with)
    }
}

/// How the recurrent layers' weights go to PyTorch.
fn exchange(pytorch: PyTorch, zoneout: bool) -> String {
    match pytorch {
        PyTorch::Same(module) if zoneout => format!(
            "**Do not load this model as PyTorch's `{module}`.** Its states are mixed with those before (zoneout). Names and \
             shapes of the weights agree, so they would load, and the outputs would be wrong.\n"
        ),
        PyTorch::Same(module) => {
            format!(
                "The weights in `model.safetensors` under `rnn.` have the names, shapes and gate order of `{module}`.\n"
            )
        }
        PyTorch::LooksLike { module, difference } => format!(
            "**Do not load this model as PyTorch's `{module}`.** {difference} Names and shapes of the weights agree, so they \
             would load, and the outputs would be wrong.\n"
        ),
        PyTorch::None => "PyTorch has no module that computes these recurrent layers.\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cell_that_differs_warns_against_pytorch() {
        for &cell in CellKind::ALL {
            for zoneout in [false, true] {
                let warns = exchange(cell.names().pytorch, zoneout).contains("Do not load this model");
                assert_eq!(warns, zoneout || cell == CellKind::GruBefore, "{cell:?}");
            }
        }
    }
}
