//! How the work of a layer is divided among threads, chosen from its shape.
//!
//! A step of a recurrent layer multiplies few rows by many weights, so its cost is either its multiply-adds or reading
//! its weights. A worker that runs whole sequences ([`Split::Columns`]) waits for no other, but reads all weights in
//! every step for its few rows. A worker that computes some units of all sequences ([`Split::Units`]) reads only its
//! share, which may then stay in its own cache, but needs a barrier after every product. The plan estimates both in
//! cycles and takes the cheaper. It depends on shape, instruction set and number of threads, never on measurements, and
//! changes no bit of any result.

use throughline_simd::Isa;

use crate::Element;

use super::shape::LayerShape;
use crate::gemm::panels::Width;
use crate::threads::Threads;

/// What a worker computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Whole sequences: some columns of the batch, or one of two directions.
    Columns,
    /// Some hidden units of every sequence, with a barrier after every product of a step.
    Units,
}

/// How a pass over a layer is divided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// How many threads work on it.
    pub workers: usize,
    /// What each of them computes.
    pub split: Split,
    /// The estimated cost of a forward pass for each worker, in cycles; NaN if there was no choice. Backward costs
    /// about twice that either way; it runs one direction after the other, and each chunk of steps has its own plan.
    pub cycles: f64,
}

/// Bytes of weights that stay in a core's own cache beside what a step reads and writes.
const CORE_CACHE: f64 = 1.25e6;
/// Bytes a cycle that arrive from a core's own cache, and from the one that all share.
const CORE_CACHE_BYTES: f64 = 32.0;
const SHARED_CACHE_BYTES: f64 = 7.0;
/// Cycles that a unit of a row spends in the cell's map for each gate, times the vector width: an exponential and its
/// share of the rest.
const MAP: f64 = 27.0;
/// Other cycles of a step: the loops over rows and products.
const STEP: f64 = 200.0;
/// Cycles of a barrier on average: workers are never equally fast.
const BARRIER: f64 = 2_500.0;
/// Cycles of waking the other workers and waiting for the last.
const FORK: f64 = 14_000.0;
/// Vector multiply-adds per cycle.
const PIPES: f64 = 2.0;

impl Plan {
    /// Every way to divide `steps` steps of a layer, with `alive` rows each on average, among `threads` threads, one
    /// worker first. A layer that needs whole states always runs whole sequences.
    pub(super) fn candidates<E: Element>(
        shape: &LayerShape,
        isa: Isa,
        steps: usize,
        alive: f64,
        threads: &Threads,
    ) -> impl Iterator<Item = Plan> {
        let all = threads.count();
        let several = (all > 1).then_some((all, Split::Columns));
        let by_units = (all > 1 && !shape.needs_whole_states()).then_some((all, Split::Units));
        [Some((1, Split::Columns)), several, by_units].into_iter().flatten().map(move |(workers, split)| {
            let cycles = forward_pass::<E>(shape, isa, steps as f64, alive, workers as f64, split);
            Plan { workers, split, cycles: cycles + if workers > 1 { FORK } else { 0.0 } }
        })
    }

    /// The cheapest of the [`candidates`](Self::candidates). A single thread has no choice, and its cost is not
    /// estimated.
    pub(super) fn choose<E: Element>(
        shape: &LayerShape,
        isa: Isa,
        steps: usize,
        alive: f64,
        threads: &Threads,
    ) -> Plan {
        if threads.count() == 1 {
            return Plan { workers: 1, split: Split::Columns, cycles: f64::NAN };
        }
        let plans = Self::candidates::<E>(shape, isa, steps, alive, threads);
        plans.min_by(|a, b| a.cycles.total_cmp(&b.cycles)).expect("one worker is always possible")
    }
}

/// The cycles of each worker in a forward pass, without starting the other workers.
fn forward_pass<E: Element>(shape: &LayerShape, isa: Isa, steps: f64, alive: f64, workers: f64, split: Split) -> f64 {
    let (hidden, directions) = (shape.hidden as f64, shape.directions as f64);
    let width = E::dispatch(isa, Width) as f64;
    let weights = shape.cell.gates() as f64 * hidden * hidden;
    let input_weights = shape.cell.gates() as f64 * hidden * (shape.input + shape.extra) as f64;
    // Rows of one worker's step, its share of the weights, and the directions that it runs one after the other.
    let (rows, share, in_turn) = match split {
        Split::Columns => {
            let per_direction = (workers / directions).max(1.0);
            (libm::ceil(alive / per_direction), 1.0, (directions / workers).max(1.0))
        }
        Split::Units => {
            let blocks = libm::ceil(hidden / (4.0 * width));
            (alive, libm::ceil(blocks / workers) / blocks, directions)
        }
    };
    let bytes = weights * share * size_of::<E>() as f64;
    // A chain of a single row of four vectors waits for each multiply-add: a quarter of the speed.
    let efficiency = (rows / 2.0).clamp(0.5, 1.0);
    let arithmetic = rows * weights * share / (PIPES * width * efficiency);
    // The products with the input take the rows of many steps at a time.
    let of_input = rows * input_weights * share / (PIPES * width);
    let all_bytes = if split == Split::Columns && workers < directions { bytes * directions } else { bytes };
    let arrival = if all_bytes <= CORE_CACHE { CORE_CACHE_BYTES } else { SHARED_CACHE_BYTES };
    let map = rows * hidden * share * shape.cell.gates() as f64 * MAP / width;
    let barriers =
        if split == Split::Units && workers > 1.0 { shape.cell.phases().len() as f64 * BARRIER } else { 0.0 };
    steps * in_turn * (of_input + arithmetic.max(bytes / arrival) + map + STEP + barriers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::CellKind;

    fn choose(cell: CellKind, hidden: usize, directions: usize, steps: usize, batch: usize, threads: usize) -> Plan {
        let shape = LayerShape { cell, input: 64, extra: 0, hidden, directions, normalised: false };
        Plan::choose::<f32>(&shape, Isa::SCALAR, steps, batch as f64, &Threads::new(threads))
    }

    #[test]
    fn small_problems_stay_on_one_core() {
        assert_eq!(choose(CellKind::Lstm, 4, 1, 3, 2, 2).workers, 1);
        assert_eq!(choose(CellKind::RnnTanh, 16, 1, 1, 1, 4).workers, 1);
        assert_eq!(choose(CellKind::RnnTanh, 8, 1, 100, 2, 2).workers, 1);
    }

    #[test]
    fn one_long_sequence_is_split_by_units_and_many_by_columns() {
        let one = choose(CellKind::Lstm, 256, 1, 1000, 1, 2);
        assert_eq!((one.workers, one.split), (2, Split::Units));
        let many = choose(CellKind::Lstm, 128, 1, 100, 64, 2);
        assert_eq!((many.workers, many.split), (2, Split::Columns));
        let both_ways = choose(CellKind::Lstm, 256, 2, 100, 32, 2);
        assert_eq!((both_ways.workers, both_ways.split), (2, Split::Columns));
    }

    #[test]
    fn a_step_input_and_normalisation_need_whole_states() {
        for (extra, normalised) in [(4, false), (0, true)] {
            let shape = LayerShape { cell: CellKind::Lstm, input: 8, extra, hidden: 512, directions: 1, normalised };
            let plan = Plan::choose::<f32>(&shape, Isa::SCALAR, 1000, 1.0, &Threads::new(2));
            assert_eq!(plan.split, Split::Columns);
        }
    }
}
