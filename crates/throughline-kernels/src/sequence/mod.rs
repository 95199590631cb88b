//! The driver: products, time, raggedness and direction, written once for all cells.
//!
//! - [`batch`]: the shape of a ragged batch;
//! - [`shape`]: the shape of a layer;
//! - [`layer`]: its weights, packed for the CPU;
//! - [`plan`]: how its work is divided among threads;
//! - [`tape`]: what forward keeps for backward, open to inspection;
//! - [`row_gradients`]: the gradients inside a layer row by row, kept for inspection on request;
//! - [`forward()`], [`backward()`]: one layer, all directions, over a whole batch;
//! - [`regularisation`]: dropout inside the step and zoneout: the masks;
//! - [`normalisation`]: layer-normalised cells: parameters and memory;
//! - [`step()`]: one time step, for streaming;
//! - [`step_input`]: the hook for inputs that depend on the state.

pub mod backward;
pub mod batch;
pub mod forward;
pub mod layer;
pub mod normalisation;
pub mod plan;
pub mod regularisation;
pub mod row_gradients;
pub mod shape;
pub mod step;
pub mod step_input;
pub mod tape;

pub use backward::{BackwardPass, BackwardStates, LayerGradients, backward};
pub use batch::{Direction, Previous, Ragged};
pub use forward::{ForwardPass, InitialStates, Inputs, Record, forward};
pub use layer::{DirectionWeights, PackedLayer, Scratch};
pub use normalisation::{NormalisationGradients, NormalisationWeights};
pub use plan::{Plan, Split};
pub use regularisation::{Masks, Regularisation};
pub use row_gradients::RowGradients;
pub use shape::LayerShape;
pub use step::{Step, step};
pub use step_input::{StepAt, StepBackward, StepInput};
pub use tape::{DirectionTape, Tape};

use core::ops::Range;

use throughline_simd::Lane;

use crate::cells::Cell;
use crate::threads::Worker;

/// The most rows that a step or a product takes at a time; see [`crate::gemm::RowGroup`].
const GROUP: usize = crate::gemm::accumulate::GROUP;

/// Whether the map of phase `index` may change slot `slot`: the first phase all of them, since some take no hidden
/// term, a later one only its own, because other workers may be reading the rest.
#[inline(always)]
fn maps<C: Cell>(index: usize, slot: usize) -> bool {
    index == 0 || C::PHASES[index].slots.contains(&slot)
}

/// A worker's share of the hidden units of a layer.
#[derive(Clone, Copy)]
struct Share<'a> {
    index: usize,
    count: usize,
    worker: Option<&'a Worker<'a>>,
}

impl<'a> Share<'a> {
    /// All units: no other worker has the same rows.
    const ALL: Share<'static> = Share { index: 0, count: 1, worker: None };

    /// One of as many equal shares as there are workers.
    fn of(worker: &'a Worker<'a>) -> Self {
        Share { index: worker.index, count: worker.count, worker: Some(worker) }
    }

    /// Its units of `hidden`, in whole blocks.
    fn units(&self, block: impl Fn() -> usize, hidden: usize) -> Range<usize> {
        if self.count == 1 {
            return 0..hidden;
        }
        let block = block();
        let blocks = hidden.div_ceil(block);
        let cut = |index: usize| hidden.min(index * blocks / self.count * block);
        cut(self.index)..cut(self.index + 1)
    }

    /// Waits for the workers that share these rows.
    #[inline(always)]
    fn barrier(&self) {
        if let Some(worker) = self.worker {
            worker.barrier();
        }
    }
}

/// Reads `count <= WIDTH` elements.
///
/// # Safety
/// `at` is valid for reading them, and `count` is WIDTH if FULL.
#[inline(always)]
unsafe fn load<L: Lane, const FULL: bool>(lane: L, at: *const L::Element, count: usize) -> L::Vector {
    // SAFETY: the caller guarantees `count` readable elements at `at`, and that `count` is WIDTH if FULL.
    unsafe { if FULL { lane.load(at) } else { lane.load_first(at, count) } }
}

/// Writes `count <= WIDTH` elements.
///
/// # Safety
/// `at` is valid for writing them, and `count` is WIDTH if FULL.
#[inline(always)]
unsafe fn store<L: Lane, const FULL: bool>(lane: L, at: *mut L::Element, count: usize, x: L::Vector) {
    // SAFETY: the caller guarantees `count` writable elements at `at`, and that `count` is WIDTH if FULL.
    unsafe { if FULL { lane.store(at, x) } else { lane.store_first(at, count, x) } }
}
