//! The driver: products, time, raggedness and direction, once for every cell.
//!
//! - [`batch`]: the shape of a ragged batch;
//! - [`shape`]: the shape of a layer;
//! - [`layer`]: its weights, packed for the CPU at hand;
//! - [`plan`]: how its work is shared out to threads;
//! - [`tape`]: what forward keeps for backward, open to inspection;
//! - [`row_gradients`]: what backward finds for every row, open to inspection where asked for;
//! - [`forward()`], [`backward()`]: one layer, all directions, over a whole batch;
//! - [`step()`]: one time step, for streaming;
//! - [`step_input`]: the hook for inputs that depend on the state.

pub mod backward;
pub mod batch;
pub mod forward;
pub mod layer;
pub mod plan;
pub mod row_gradients;
pub mod shape;
pub mod step;
pub mod step_input;
pub mod tape;

pub use backward::{BackwardPass, BackwardStates, LayerGradients, backward};
pub use batch::{Direction, Previous, Ragged};
pub use forward::{ForwardPass, InitialStates, Inputs, Record, forward};
pub use layer::{DirectionWeights, PackedLayer, Scratch};
pub use plan::{Plan, Split};
pub use row_gradients::RowGradients;
pub use shape::LayerShape;
pub use step::{Step, step};
pub use step_input::{StepAt, StepBackward, StepInput};
pub use tape::{DirectionTape, Tape};

use core::ops::Range;

use throughline_simd::Lane;

use crate::cells::Cell;
use crate::threads::Worker;

/// Rows that a step or a product takes at a time; see [`crate::gemm::RowGroup`].
const GROUP: usize = crate::gemm::accumulate::GROUP;

/// Whether the map of phase `index` may change slot `slot`: the first phase all of them, since some take no hidden term, a
/// later one its own. What it may not change others may be reading.
#[inline(always)]
fn maps<C: Cell>(index: usize, slot: usize) -> bool {
    index == 0 || C::PHASES[index].slots.contains(&slot)
}

/// A worker's share of the hidden units of a layer.
#[derive(Clone, Copy)]
struct Share<'a> {
    part: usize,
    parts: usize,
    worker: Option<&'a Worker<'a>>,
}

impl<'a> Share<'a> {
    /// All units: nobody else works on the same rows.
    const ALL: Share<'static> = Share { part: 0, parts: 1, worker: None };

    /// One of equal shares for all workers of a team.
    fn of(worker: &'a Worker<'a>) -> Self {
        Share { part: worker.index, parts: worker.count, worker: Some(worker) }
    }

    /// Its units of `hidden`, in whole blocks.
    fn units(&self, block: impl Fn() -> usize, hidden: usize) -> Range<usize> {
        if self.parts == 1 {
            return 0..hidden;
        }
        let block = block();
        let blocks = hidden.div_ceil(block);
        let cut = |part: usize| hidden.min(part * blocks / self.parts * block);
        cut(self.part)..cut(self.part + 1)
    }

    /// Waits for the workers that share the same rows.
    #[inline(always)]
    fn meet(&self) {
        if let Some(worker) = self.worker {
            worker.meet();
        }
    }
}

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
