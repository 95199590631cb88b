//! The shape of a recurrent stack.

use throughline_kernels::cells::CellKind;
use throughline_kernels::sequence::{self, LayerShape, Masks};

/// The state that sequences start from when none is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InitialState {
    /// Zeros.
    #[default]
    Zero,
    /// Parameters, one vector for each layer and direction, initially 0.
    Learned,
}

/// Regularisers inside the recurrence of every layer. Each rate is at least 0, its default, and below 1. All but zoneout
/// act in training alone; zoneout takes its expectation elsewhere and so belongs to the model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RecurrentRegularisation {
    /// Rate at which recurrent weights are dropped, `weight_hh`, one mask for each pass of an update (DropConnect;
    /// Merity et al. 2018). Those kept are scaled by 1 / (1 - rate), and so are the units below.
    pub weight_dropout: f32,
    /// Rate at which units of h_(t-1) are dropped where a product takes them, one mask for all steps of a sequence (Gal
    /// and Ghahramani 2016).
    pub recurrent_dropout: f32,
    /// Rate at which units of the candidate are dropped, g of an LSTM and n of a GRU, in each step anew (Semeniuta et
    /// al. 2016). A plain RNN has none.
    pub candidate_dropout: f32,
    /// Rate at which units of h keep their previous value, in each step anew (Krueger et al. 2017).
    pub zoneout_hidden: f32,
    /// The same for c, which an LSTM alone has.
    pub zoneout_cell: f32,
}

impl RecurrentRegularisation {
    /// Inside the steps of a layer, with the masks of a pass.
    pub(super) fn of_steps(&self, masks: Option<Masks>) -> sequence::Regularisation {
        let Self { recurrent_dropout, candidate_dropout, zoneout_hidden, zoneout_cell, .. } = *self;
        sequence::Regularisation { recurrent_dropout, candidate_dropout, zoneout_hidden, zoneout_cell, masks }
    }
}

/// The shape of a stack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecurrentConfig {
    /// The cell of every layer.
    pub cell: CellKind,
    /// I, the input features of the first layer. The layers above read D·H.
    pub input: usize,
    /// H, the hidden units of each layer and direction.
    pub hidden: usize,
    /// L, the number of layers.
    pub layers: usize,
    /// Whether each layer also reads in reverse, D = 2. A row of its output is then the forward state followed by the
    /// reverse.
    pub bidirectional: bool,
    /// Whether there are biases, `bias_ih` and `bias_hh`.
    pub bias: bool,
    /// Whether the cells are layer-normalised (Ba et al. 2016): each term of a step's sums, and what an LSTM reads out of
    /// its cell state; see [`sequence::normalisation`].
    pub layer_norm: bool,
    /// The rate of dropout between layers in training (Zaremba et al. 2014), in [0, 1); 0 for none.
    pub dropout: f32,
    /// What regularises the recurrence; nothing by default.
    pub regularisation: RecurrentRegularisation,
    /// The state at the start of a sequence for which none is given, and after a boundary.
    pub initial_state: InitialState,
}

impl RecurrentConfig {
    /// One layer and one direction, with biases, without dropout or other regularisers, from zero states.
    pub fn new(cell: CellKind, input: usize, hidden: usize) -> Self {
        Self {
            cell,
            input,
            hidden,
            layers: 1,
            bidirectional: false,
            bias: true,
            layer_norm: false,
            dropout: 0.0,
            regularisation: RecurrentRegularisation::default(),
            initial_state: InitialState::Zero,
        }
    }

    /// D, 1 or 2.
    pub fn directions(&self) -> usize {
        if self.bidirectional { 2 } else { 1 }
    }

    /// D·H, the columns of the output.
    pub fn output(&self) -> usize {
        self.directions() * self.hidden
    }

    pub(super) fn shape(&self, layer: usize) -> LayerShape {
        let Self { cell, hidden, layer_norm: normalised, .. } = *self;
        let input = if layer == 0 { self.input } else { self.output() };
        LayerShape { cell, input, extra: 0, hidden, directions: self.directions(), normalised }
    }
}
