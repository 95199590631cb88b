//! LSTM (Hochreiter and Schmidhuber 1997; forget gate: Gers, Schmidhuber and Cummins 2000):
//!
//! i, f, o = sigmoid(W [x, h] + b), g = tanh(W [x, h] + b), c' = f c + i g, h' = o tanh(c').
//!
//! Slots: i, f, g, o. The tape keeps c beside them; c' and tanh(c') are computed again on the way back, which costs less
//! than the memory they would take.

use throughline_simd::{Element, Lane};

use super::{
    Backward, Cell, Forward, MAX_SLOTS, Names, Operand, Phase, PyTorch, TINY_STATE, sigmoid_slope, tanh_slope,
};

/// Long short-term memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lstm;

/// c' = f c + i g, tiny values written as 0, with the candidate g times the factor m of its dropout.
#[inline(always)]
fn cell_state<L: Lane>(lane: L, [i, f, g, _]: [L::Vector; 4], m: L::Vector, c: L::Vector) -> L::Vector {
    let new = lane.fma(f, c, lane.mul(i, lane.mul(g, m)));
    lane.flush_below(L::Element::from_f64(TINY_STATE), new)
}

impl Cell for Lstm {
    const NAME: &'static str = "lstm";
    const NAMES: Names = Names { recipe: "lstm", title: "LSTM", pytorch: PyTorch::Same("torch.nn.LSTM") };
    const SLOT_NAMES: &'static [&'static str] = &["input", "forget", "cell", "output"];
    const GATES: usize = 4;
    const HAS_CELL_STATE: bool = true;
    const HAS_CANDIDATE: bool = true;
    const PHASES: &'static [Phase] = &[Phase { first_gate: 0, slots: &[0, 1, 2, 3], operand: Operand::Hidden }];

    #[inline(always)]
    fn forward<L: Lane>(lane: L, _: usize, unit: &mut Forward<L::Vector>) {
        let [i, f, g, o] = unit.slots;
        unit.slots = [lane.sigmoid(i), lane.sigmoid(f), lane.tanh(g), lane.sigmoid(o)];
        unit.c = cell_state(lane, unit.slots, unit.dropout.candidate, unit.c);
    }

    /// From c' = f c + i m g: di = dc m g, df = dc c, dg = dc i m, and dc for the step before is dc f. Each gate's
    /// pre-activation receives its gradient times the slope of its activation. Nothing of h_(t-1) bypasses the product.
    #[inline(always)]
    fn backward<L: Lane>(lane: L, _: usize, unit: &mut Backward<L::Vector>) {
        let ([i, f, g, _], m, dc) = (unit.slots, unit.dropout.candidate, unit.dc);
        unit.d[0] = lane.mul(lane.mul(dc, lane.mul(g, m)), sigmoid_slope(lane, i));
        unit.d[1] = lane.mul(lane.mul(dc, unit.c_previous), sigmoid_slope(lane, f));
        unit.d[2] = lane.mul(lane.mul(dc, lane.mul(i, m)), tanh_slope(lane, g));
        unit.dc = lane.mul(dc, f);
        unit.dh = lane.splat(L::Element::ZERO);
    }

    #[inline(always)]
    fn cell_state<L: Lane>(lane: L, unit: &Backward<L::Vector>) -> L::Vector {
        cell_state(lane, unit.slots, unit.dropout.candidate, unit.c_previous)
    }

    /// h' = o tanh(c')
    #[inline(always)]
    fn read_out<L: Lane>(lane: L, slots: &[L::Vector; MAX_SLOTS], c: L::Vector) -> L::Vector {
        lane.mul(slots[3], lane.tanh(c))
    }

    /// With q = tanh(c'): do = dh q, and c' receives dh o (1 - q²).
    #[inline(always)]
    fn read_out_backward<L: Lane>(lane: L, c: L::Vector, unit: &mut Backward<L::Vector>) {
        let (o, q) = (unit.slots[3], lane.tanh(c));
        unit.d[3] = lane.mul(lane.mul(unit.dh, q), sigmoid_slope(lane, o));
        unit.dc = lane.fma(lane.mul(unit.dh, o), tanh_slope(lane, q), unit.dc);
    }
}
