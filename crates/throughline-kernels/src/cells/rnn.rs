//! The vanilla RNN (Elman 1990): h' = act(W_ih x + b_ih + W_hh h + b_hh).
//!
//! Slot: the activation a. The state is a with tiny values written as 0, so the derivative is taken from the slot.

use throughline_simd::{Element, Lane};

use super::{Backward, Cell, Forward, Names, Operand, Phase, PyTorch, one, tanh_slope};

const PHASES: &[Phase] = &[Phase { first_gate: 0, slots: &[0], operand: Operand::Hidden }];

/// Vanilla RNN with act = tanh.
#[derive(Clone, Copy, Debug, Default)]
pub struct RnnTanh;

/// Vanilla RNN with act = relu, max(0, x).
#[derive(Clone, Copy, Debug, Default)]
pub struct RnnRelu;

impl Cell for RnnTanh {
    const NAME: &'static str = "rnn_tanh";
    const NAMES: Names = Names { recipe: "rnn", title: "vanilla RNN (tanh)", pytorch: PyTorch::Same("torch.nn.RNN") };
    const SLOT_NAMES: &'static [&'static str] = &["activation"];
    const GATES: usize = 1;
    const HAS_CELL_STATE: bool = false;
    const HAS_CANDIDATE: bool = false;
    const PHASES: &'static [Phase] = PHASES;

    #[inline(always)]
    fn forward<L: Lane>(lane: L, _: usize, unit: &mut Forward<L::Vector>) {
        unit.slots[0] = lane.tanh(unit.slots[0]);
        unit.h = unit.slots[0];
    }

    /// a = tanh(p), so dp = dh (1 - a²). Nothing of h_(t-1) bypasses the product.
    #[inline(always)]
    fn backward<L: Lane>(lane: L, _: usize, unit: &mut Backward<L::Vector>) {
        unit.d[0] = lane.mul(unit.dh, tanh_slope(lane, unit.slots[0]));
        unit.dh = lane.splat(L::Element::ZERO);
    }
}

impl Cell for RnnRelu {
    const NAME: &'static str = "rnn_relu";
    const NAMES: Names = Names {
        recipe: "rnn-relu",
        title: "vanilla RNN (relu)",
        pytorch: PyTorch::Same("torch.nn.RNN(nonlinearity=\"relu\")"),
    };
    const SLOT_NAMES: &'static [&'static str] = &["activation"];
    const GATES: usize = 1;
    const HAS_CELL_STATE: bool = false;
    const HAS_CANDIDATE: bool = false;
    const PHASES: &'static [Phase] = PHASES;

    #[inline(always)]
    fn forward<L: Lane>(lane: L, _: usize, unit: &mut Forward<L::Vector>) {
        unit.slots[0] = lane.relu(unit.slots[0]);
        unit.h = unit.slots[0];
    }

    /// a = max(0, p), so dp = dh where a > 0 and 0 where not (at p = 0 too, as usual). Where a is NaN neither holds,
    /// and dp is a: a 0 would hide that the run is broken.
    #[inline(always)]
    fn backward<L: Lane>(lane: L, _: usize, unit: &mut Backward<L::Vector>) {
        let (zero, a) = (lane.splat(L::Element::ZERO), unit.slots[0]);
        let closed = lane.select(lane.less(a, lane.splat(one::<L>())), zero, a);
        unit.d[0] = lane.select(lane.less(zero, a), unit.dh, closed);
        unit.dh = zero;
    }
}
