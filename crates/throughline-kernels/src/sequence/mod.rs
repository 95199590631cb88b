//! The driver: products, time, raggedness and direction, once for every cell.
//!
//! - [`batch`]: the shape of a ragged batch;
//! - [`plan`]: a layer's shape, and its weights packed for the CPU at hand;
//! - [`tape`]: what forward keeps for backward, open to inspection;
//! - [`forward()`], [`backward()`]: one layer, all directions, over a whole batch;
//! - [`step()`]: one time step, for streaming;
//! - [`step_input`]: the hook for inputs that depend on the state.

pub mod backward;
pub mod batch;
pub mod forward;
pub mod plan;
pub mod step;
pub mod step_input;
pub mod tape;

pub use backward::{BackwardStates, LayerGradients, SlotGradients, backward};
pub use batch::{Direction, Previous, Ragged};
pub use forward::{InitialStates, Record, forward};
pub use plan::{DirectionWeights, LayerShape, PackedLayer, Scratch};
pub use step::step;
pub use step_input::{StepAt, StepInput};
pub use tape::{DirectionTape, Tape};

use throughline_simd::Lane;

/// Rows that a step or a product takes at a time; see [`crate::gemm::RowGroup`].
const GROUP: usize = crate::gemm::accumulate::GROUP;

/// Reads `count` elements, which are WIDTH if FULL.
///
/// # Safety
/// `at` is valid for reading them.
#[inline(always)]
unsafe fn load<L: Lane, const FULL: bool>(lane: L, at: *const L::Element, count: usize) -> L::Vector {
    // SAFETY: as the caller vouches.
    unsafe { if FULL { lane.load(at) } else { lane.load_first(at, count) } }
}

/// Writes `count` elements, which are WIDTH if FULL.
///
/// # Safety
/// `at` is valid for writing them.
#[inline(always)]
unsafe fn store<L: Lane, const FULL: bool>(lane: L, at: *mut L::Element, count: usize, x: L::Vector) {
    // SAFETY: as the caller vouches.
    unsafe { if FULL { lane.store(at, x) } else { lane.store_first(at, count, x) } }
}
