//! What the models of all tasks have in `config.json`: the shape of a recurrent stack.

use serde::{Deserialize, Serialize};
use throughline_kernels::cells::CellKind;
use throughline_nn::layers::RecurrentConfig;
use throughline_nn::layers::recurrent::{ActivationPenalty, InitialState, RecurrentRegularisation};
use throughline_nn::parameters::DropoutMask;

/// The largest size allowed: enough for every model, and small enough that the product of two sizes does not overflow.
const LARGEST_SIZE: usize = 1 << 24;
/// The most layers allowed.
const MOST_LAYERS: usize = 1 << 10;
/// The most parameters allowed: 16 GiB of f32.
const MOST_PARAMETERS: f64 = (1u64 << 32) as f64;

/// The shape of a recurrent stack in `config.json`. Dropout is not in it, since it concerns only training; zoneout is,
/// since a model in use takes its expectation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecurrentSettings {
    /// The cell, by its name: `rnn_tanh`, `rnn_relu`, `lstm`, `gru_after` or `gru_before`.
    #[serde(with = "cell_name")]
    pub cell: CellKind,
    /// I, the input features of the stack.
    pub input: usize,
    /// H, the hidden units of each layer and direction.
    pub hidden: usize,
    /// L, the number of layers.
    pub layers: usize,
    /// Whether each layer reads in both directions.
    pub bidirectional: bool,
    /// Whether there are biases.
    pub bias: bool,
    /// Whether the cells are layer-normalised (Ba et al. 2016); not in the file where they are not.
    #[serde(default, skip_serializing_if = "is_false")]
    pub layer_norm: bool,
    /// The state that sequences start from.
    pub initial_state: InitialState,
    /// The rate of zoneout of h (Krueger et al. 2017), at least 0 and below 1; not in the file where it is 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub zoneout_hidden: f32,
    /// The same for c, which an LSTM alone has.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub zoneout_cell: f32,
}

fn is_zero(rate: &f32) -> bool {
    *rate == 0.0
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// [`RecurrentSettings::cell`] in JSON.
mod cell_name {
    use serde::de::{Deserializer, Error};
    use serde::{Deserialize, Serializer};
    use throughline_kernels::cells::CellKind;

    pub fn serialize<S: Serializer>(cell: &CellKind, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(cell.name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CellKind, D::Error> {
        let name = String::deserialize(deserializer)?;
        CellKind::ALL.iter().copied().find(|cell| cell.name() == name).ok_or_else(|| {
            let names: Vec<String> = CellKind::ALL.iter().map(|cell| format!("`{}`", cell.name())).collect();
            D::Error::custom(format_args!("unknown cell {name:?}, expected one of {}", names.join(", ")))
        })
    }
}

impl RecurrentSettings {
    /// The configuration of the stack, with what training drops between and inside its layers.
    pub fn config(&self, training: Regularisation) -> RecurrentConfig {
        let Self { cell, input, hidden, layers, bidirectional, bias, layer_norm, initial_state, .. } = *self;
        let Self { zoneout_hidden, zoneout_cell, .. } = *self;
        let Regularisation { layer_dropout: dropout, weight_dropout, recurrent_dropout, candidate_dropout, .. } =
            training;
        let regularisation = RecurrentRegularisation {
            weight_dropout,
            recurrent_dropout,
            candidate_dropout,
            zoneout_hidden,
            zoneout_cell,
        };
        RecurrentConfig {
            cell,
            input,
            hidden,
            layers,
            bidirectional,
            bias,
            layer_norm,
            dropout,
            regularisation,
            initial_state,
        }
    }

    /// D·H, the columns of the stack's output.
    pub fn output(&self) -> usize {
        self.config(Regularisation::default()).output()
    }

    /// Checks the rates, and the sizes of a model with an embedding of `vocabulary` units and a softmax over `outputs` classes. After
    /// it no product of sizes overflows.
    ///
    /// # Errors
    /// Names the key, its range and its value.
    pub fn check(&self, vocabulary: usize, outputs: usize) -> Result<(), ConfigError> {
        let sizes = [("input", self.input), ("hidden", self.hidden), ("vocabulary", vocabulary), ("classes", outputs)];
        for (key, size) in sizes {
            if size == 0 || size > LARGEST_SIZE {
                return Err(ConfigError::new(key, format_args!("1 to {LARGEST_SIZE}"), size));
            }
        }
        if self.layers == 0 || self.layers > MOST_LAYERS {
            return Err(ConfigError::new("layers", format_args!("1 to {MOST_LAYERS}"), self.layers));
        }
        for (key, rate) in [("zoneout_hidden", self.zoneout_hidden), ("zoneout_cell", self.zoneout_cell)] {
            if !(0.0..1.0).contains(&rate) {
                return Err(ConfigError::new(key, "at least 0 and below 1", rate));
            }
        }
        if self.zoneout_cell > 0.0 && !self.cell.has_cell_state() {
            let expected = format_args!("0, as the cell {} has no cell state", self.cell.name());
            return Err(ConfigError::new("zoneout_cell", expected, self.zoneout_cell));
        }
        let parameters = self.parameter_bound(vocabulary as f64, outputs as f64);
        if parameters > MOST_PARAMETERS {
            return Err(ConfigError::new("sizes", format_args!("at most {MOST_PARAMETERS} parameters"), parameters));
        }
        Ok(())
    }

    /// An upper bound on the number of parameters, in floating point so that nothing overflows.
    fn parameter_bound(&self, vocabulary: f64, outputs: f64) -> f64 {
        let (input, hidden, output) = (self.input as f64, self.hidden as f64, self.output() as f64);
        let direction = |input: f64| self.cell.gates() as f64 * hidden * (input + hidden + 6.0);
        let stack = direction(input) + (self.layers - 1) as f64 * direction(output);
        let directions = if self.bidirectional { 2.0 } else { 1.0 };
        directions * stack + vocabulary * input + outputs * (output + 1.0) + output * (output + 2.0)
    }

    /// How many numbers inference holds for one row: the input of the stack and the output of each layer.
    pub fn numbers_per_row(&self) -> usize {
        self.input + self.layers * self.output()
    }
}

/// A value in a model's configuration that is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The key.
    pub key: &'static str,
    /// What is allowed.
    pub expected: String,
    /// The value.
    pub found: String,
}

impl ConfigError {
    /// An error that says `key`: expected `expected`, found `found`.
    pub fn new(key: &'static str, expected: impl std::fmt::Display, found: impl std::fmt::Display) -> Self {
        Self { key, expected: expected.to_string(), found: found.to_string() }
    }
}

/// What regularises a network in training. A model in use has none of it, which is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Regularisation {
    /// The rate, in [0, 1), at which whole rows of the embedding are dropped (Gal and Ghahramani 2016).
    pub token_dropout: f32,
    /// The rate of dropout after the embedding (Srivastava et al. 2014), in [0, 1).
    pub embedding_dropout: f32,
    /// The rate of dropout between the layers of the stack, in [0, 1).
    pub layer_dropout: f32,
    /// The rate of dropout before the head, in [0, 1).
    pub output_dropout: f32,
    /// For what each of these three draws a mask.
    pub dropout_mask: DropoutMask,
    /// The rate at which recurrent weights are dropped (Merity et al. 2018), in [0, 1).
    pub weight_dropout: f32,
    /// The rate at which units of h_(t-1) are dropped where a product takes them (Gal and Ghahramani 2016), in [0, 1).
    pub recurrent_dropout: f32,
    /// The rate at which units of the candidate of an LSTM or a GRU are dropped (Semeniuta et al. 2016), in [0, 1).
    pub candidate_dropout: f32,
    /// Penalties on the output of the stack.
    pub penalty: ActivationPenalty,
}
