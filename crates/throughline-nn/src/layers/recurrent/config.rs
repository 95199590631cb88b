//! The shape of a recurrent stack.

use throughline_kernels::cells::CellKind;
use throughline_kernels::sequence::LayerShape;

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
    /// The rate of dropout between layers in training (Zaremba et al. 2014), in [0, 1); 0 for none.
    pub dropout: f32,
    /// The state at the start of a sequence for which none is given, and after a boundary.
    pub initial_state: InitialState,
}

impl RecurrentConfig {
    /// One layer and one direction, with biases, without dropout, from zero states.
    pub fn new(cell: CellKind, input: usize, hidden: usize) -> Self {
        Self {
            cell,
            input,
            hidden,
            layers: 1,
            bidirectional: false,
            bias: true,
            dropout: 0.0,
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
        let input = if layer == 0 { self.input } else { self.output() };
        LayerShape { cell: self.cell, input, extra: 0, hidden: self.hidden, directions: self.directions() }
    }
}
