//! GRU in its two forms, r, z = sigmoid(W [x, h] + b) and h' = (1 - z) n + z h, with the reset gate r applied
//!
//! - *before* the product: n = tanh(W_in x + b_in + W_hn (r h) + b_hn) (Cho et al. 2014, the first version; ONNX's
//!   default);
//! - *after* it: n = tanh(W_in x + b_in + r (W_hn h + b_hn)) (cuDNN, PyTorch).
//!
//! The textbook's h' = (1 - z) h + z n is the same cell with the rows of z negated; the conversion is
//! [`negate_update_gate`], not another kernel.

use throughline_simd::{Element, Lane};

use super::{Backward, Cell, Forward, Names, Operand, Phase, PyTorch, one, sigmoid_slope, tanh_slope};

/// GRU, reset after the product. Slots: r, z, n, and the hidden term of n (W_hn h + b_hn).
#[derive(Clone, Copy, Debug, Default)]
pub struct GruAfter;

/// GRU, reset before the product. Slots: r, z, n, and r h, which the second product multiplies.
#[derive(Clone, Copy, Debug, Default)]
pub struct GruBefore;

/// Turns the weights or biases of a GRU between h' = (1 - z) n + z h and the textbook's h' = (1 - z) h + z n:
/// sigmoid(-p) = 1 - sigmoid(p), so the z rows (the second third of `w`, gate order r, z, n) change their sign.
///
/// # Panics
/// If `w` is not made of three equal blocks.
pub fn negate_update_gate<E: Element + core::ops::Neg<Output = E>>(w: &mut [E]) {
    assert!(w.len().is_multiple_of(3), "the weights of a GRU are three blocks, got {} numbers", w.len());
    let block = w.len() / 3;
    for x in &mut w[block..2 * block] {
        *x = -*x;
    }
}

/// (1 - z) n + z h = n + z (h - n), for n already times the factor m of its dropout.
#[inline(always)]
fn blend<L: Lane>(lane: L, z: L::Vector, n: L::Vector, h: L::Vector) -> L::Vector {
    lane.fma(z, lane.sub(h, n), n)
}

/// Transpose of [`blend`] and of the slopes of z and n: h' = (1 - z) m n + z h gives dz = dh (h - m n) and
/// dn = dh (1 - z) m. Sets the pre-activation gradients of z and n and leaves in dh what bypasses the products, dh z.
#[inline(always)]
fn blend_backward<L: Lane>(lane: L, unit: &mut Backward<L::Vector>) {
    let [_, z, n, _] = unit.slots;
    let m = unit.dropout.candidate;
    let dz = lane.mul(unit.dh, lane.sub(unit.h_previous, lane.mul(n, m)));
    let dn = lane.mul(unit.dh, lane.mul(lane.sub(lane.splat(one::<L>()), z), m));
    unit.d[1] = lane.mul(dz, sigmoid_slope(lane, z));
    unit.d[2] = lane.mul(dn, tanh_slope(lane, n));
    unit.dh = lane.mul(unit.dh, z);
}

impl GruAfter {
    /// The pre-activation of n: its input term plus r times its hidden term.
    #[inline(always)]
    fn whole<L: Lane>(lane: L, r: L::Vector, n: L::Vector, n_hidden: L::Vector) -> L::Vector {
        lane.fma(r, n_hidden, n)
    }
}

impl Cell for GruAfter {
    const NAME: &'static str = "gru_after";
    const NAMES: Names =
        Names { recipe: "gru", title: "GRU (reset after the product)", pytorch: PyTorch::Same("torch.nn.GRU") };
    const SLOT_NAMES: &'static [&'static str] = &["reset", "update", "new", "hidden_new"];
    const GATES: usize = 3;
    const HAS_CELL_STATE: bool = false;
    const HAS_CANDIDATE: bool = true;
    const PHASES: &'static [Phase] = &[Phase { first_gate: 0, slots: &[0, 1, 3], operand: Operand::Hidden }];

    #[inline(always)]
    fn forward<L: Lane>(lane: L, _: usize, unit: &mut Forward<L::Vector>) {
        let [r, z, n, n_hidden] = unit.slots;
        let (r, z) = (lane.sigmoid(r), lane.sigmoid(z));
        let n = lane.tanh(Self::whole(lane, r, n, n_hidden));
        unit.h = blend(lane, z, lane.mul(n, unit.dropout.candidate), unit.h);
        unit.slots = [r, z, n, n_hidden];
    }

    #[inline(always)]
    fn pre_activations<L: Lane>(
        lane: L,
        [r, z, n, n_hidden]: [L::Vector; 4],
        after: &[L::Vector; 4],
    ) -> [L::Vector; 4] {
        [r, z, Self::whole(lane, after[0], n, n_hidden), n_hidden]
    }

    /// n = tanh(p) with p = (W_in x + b_in) + r s, s the slot of the hidden term: the input term receives dp, s
    /// receives dp r, r receives dp s.
    #[inline(always)]
    fn backward<L: Lane>(lane: L, _: usize, unit: &mut Backward<L::Vector>) {
        blend_backward(lane, unit);
        let [r, _, _, n_hidden] = unit.slots;
        let dp = unit.d[2];
        unit.d[0] = lane.mul(lane.mul(dp, n_hidden), sigmoid_slope(lane, r));
        unit.d[3] = lane.mul(dp, r);
    }
}

impl Cell for GruBefore {
    const NAME: &'static str = "gru_before";
    const NAMES: Names = Names {
        recipe: "gru-before",
        title: "GRU (reset before the product)",
        pytorch: PyTorch::LooksLike {
            module: "torch.nn.GRU",
            difference: "Its reset gate acts before the recurrent product, \
                         `n = tanh(W_in x + b_in + W_hn (r * h) + b_hn)`; that of `torch.nn.GRU` acts after it.",
        },
    };
    const SLOT_NAMES: &'static [&'static str] = &["reset", "update", "new", "reset_hidden"];
    const GATES: usize = 3;
    const HAS_CELL_STATE: bool = false;
    const HAS_CANDIDATE: bool = true;
    const PHASES: &'static [Phase] = &[
        Phase { first_gate: 0, slots: &[0, 1], operand: Operand::Hidden },
        Phase { first_gate: 2, slots: &[2], operand: Operand::Slot(3) },
    ];

    #[inline(always)]
    fn forward<L: Lane>(lane: L, phase: usize, unit: &mut Forward<L::Vector>) {
        if phase == 0 {
            unit.slots[0] = lane.sigmoid(unit.slots[0]);
            unit.slots[1] = lane.sigmoid(unit.slots[1]);
            unit.slots[3] = lane.mul(unit.slots[0], lane.mul(unit.h, unit.dropout.hidden));
        } else {
            unit.slots[2] = lane.tanh(unit.slots[2]);
            unit.h = blend(lane, unit.slots[1], lane.mul(unit.slots[2], unit.dropout.candidate), unit.h);
        }
    }

    /// The second product gives s = r (m h) the gradient ds = W_hn' dn (slot 3 on the way back), m the factor of the
    /// dropout of h: r receives ds m h, and h_(t-1) receives ds r m besides dh z and what the first product brings.
    #[inline(always)]
    fn backward<L: Lane>(lane: L, phase: usize, unit: &mut Backward<L::Vector>) {
        if phase == 1 {
            blend_backward(lane, unit);
            unit.d[3] = lane.splat(L::Element::ZERO);
        } else {
            let (r, m) = (unit.slots[0], unit.dropout.hidden);
            let ds = unit.d[3];
            unit.d[0] = lane.mul(lane.mul(ds, lane.mul(unit.h_previous, m)), sigmoid_slope(lane, r));
            unit.dh = lane.fma(ds, lane.mul(r, m), unit.dh);
        }
    }
}
