//! The shape of a recurrent stack.

use throughline_kernels::cells::CellKind;
use throughline_kernels::sequence::LayerShape;

/// Where sequences start when no state is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InitialState {
    /// Zeros.
    #[default]
    Zero,
    /// Parameters, one state for each layer and direction.
    Learned,
}

/// The shape of a stack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecurrentConfig {
    /// The cell of every layer.
    pub cell: CellKind,
    /// I of the first layer; the layers above take D·H.
    pub input: usize,
    /// H
    pub hidden: usize,
    /// L
    pub layers: usize,
    /// Whether each layer also reads backward; its output is then the concatenation `[forward, reverse]`, D = 2.
    pub bidirectional: bool,
    /// Whether there are biases.
    pub bias: bool,
    /// Share of the outputs between layers that training drops (Zaremba et al. 2014); 0 for none.
    pub dropout: f32,
    /// The state without a given one, and after a boundary.
    pub initial_state: InitialState,
}

impl RecurrentConfig {
    /// One layer, one direction, with biases, from zero states.
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

    /// D
    pub fn directions(&self) -> usize {
        if self.bidirectional { 2 } else { 1 }
    }

    /// D·H, columns of the output.
    pub fn output(&self) -> usize {
        self.directions() * self.hidden
    }

    pub(super) fn shape(&self, layer: usize) -> LayerShape {
        let input = if layer == 0 { self.input } else { self.output() };
        LayerShape { cell: self.cell, input, extra: 0, hidden: self.hidden, directions: self.directions() }
    }
}
