//! The shape of a layer.

use crate::cells::CellKind;

/// The shape of one recurrent layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerShape {
    /// The cell.
    pub cell: CellKind,
    /// I, columns of the input.
    pub input: usize,
    /// Columns that a step input adds after the input's; 0 without one.
    pub extra: usize,
    /// H
    pub hidden: usize,
    /// D, 1 or 2.
    pub directions: usize,
    /// Whether the sums of a step are normalised: see [`normalisation`](super::normalisation).
    pub normalised: bool,
}

impl LayerShape {
    /// G·H, rows of `weight_ih` and `weight_hh`.
    pub fn gate_rows(&self) -> usize {
        self.cell.gates() * self.hidden
    }
    /// S·H, columns of a tape row.
    pub fn slot_width(&self) -> usize {
        self.cell.slots() * self.hidden
    }
    /// D·H, columns of the output.
    pub fn output(&self) -> usize {
        self.directions * self.hidden
    }

    /// Whether a step takes whole states, so that no worker can have some units of them.
    pub(super) fn needs_whole_states(&self) -> bool {
        self.extra > 0 || self.normalised
    }

    /// # Panics
    /// If a size is out of range, or a normalised layer has extra columns.
    pub(crate) fn check(&self) {
        assert!(self.input > 0 && self.hidden > 0, "I and H are at least 1: {self:?}");
        assert!((1..=2).contains(&self.directions), "a layer reads in 1 or 2 directions: {self:?}");
        assert!(self.extra == 0 || !self.normalised, "a normalised layer has no step input: {self:?}");
    }
}
