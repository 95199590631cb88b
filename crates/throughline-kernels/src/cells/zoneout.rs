//! Zoneout (Krueger et al. 2017): units keep their previous state at random,
//!
//! s_t = k s_(t-1) + (1 - k) s', s' what the cell makes of the step.
//!
//! In training k is 1 with the probability of the rate and otherwise 0; in use it is the rate, the expectation. h and c
//! have rates of their own. The LSTM's h' is that of c', not of c_t, as in the paper's equations.

use throughline_simd::Lane;

use super::one;

/// The state after a step: `keep` is k.
#[inline(always)]
pub(crate) fn forward<L: Lane>(lane: L, keep: L::Vector, previous: L::Vector, new: L::Vector) -> L::Vector {
    lane.fma(keep, previous, lane.mul(lane.sub(lane.splat(one::<L>()), keep), new))
}

/// ds_(t-1) = k ds_t besides what passes through the cell, ds' = (1 - k) ds_t: the two in this order.
#[inline(always)]
pub(crate) fn backward<L: Lane>(lane: L, keep: L::Vector, d: L::Vector) -> [L::Vector; 2] {
    [lane.mul(keep, d), lane.mul(lane.sub(lane.splat(one::<L>()), keep), d)]
}
