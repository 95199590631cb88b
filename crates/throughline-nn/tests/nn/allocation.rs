//! What has run once over a batch runs over it and over any smaller one without allocating, on one thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use crate::common::{Batch, Dropouts, Model, classifier, language_model, tagger, training};
use crate::recurrent_regularisation::regularisation;
use crate::transformer;
use throughline_kernels::cells::CellKind;
use throughline_kernels::for_each_cell;
use throughline_nn::heads::Head;
use throughline_nn::layers::recurrent::InitialState;
use throughline_nn::layers::{Pooling, RecurrentConfig, TransformerConfig};
use throughline_nn::{Module, Network};

const DROPOUTS: Dropouts = Dropouts { embedding: 0.2, output: 0.3 };

/// The system's allocator, counting the bytes that the calling thread holds and how often it asks.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: isize, allocations: usize) {
    HELD.set(HELD.get() + bytes);
    ALLOCATIONS.set(ALLOCATIONS.get() + allocations);
}

// SAFETY: every request goes to the system's allocator unchanged; counting touches thread-local numbers that need
// neither initialisation nor destruction.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize, 1);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize), 0);
        // SAFETY: the caller's promise about `at` and `layout` is passed on; `at` came from the system's allocator.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize, 1);
        // SAFETY: as for `dealloc`.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` allocates on this thread.
pub fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// Bytes that this thread holds.
pub fn bytes_held() -> isize {
    HELD.get()
}

#[test]
fn allocations_are_counted() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1u8; 100]))), 1);
    assert_eq!(allocations(|| ()), 0);
}

fn stack(cell: CellKind, bidirectional: bool) -> RecurrentConfig {
    let initial_state = InitialState::Learned;
    let regularisation = regularisation(cell);
    RecurrentConfig {
        layers: 2,
        dropout: 0.2,
        bidirectional,
        initial_state,
        regularisation,
        ..RecurrentConfig::new(cell, 9, 9)
    }
}

fn check_step(cell: CellKind) {
    for tied in [false, true] {
        let mut model = Model::<f32, _>::new(language_model(stack(cell, false), 13, tied, DROPOUTS), 1, 4, 0.3);
        let mut states = [5, 1, 3, 5].map(|streams| model.state(streams));
        let (network, weights, workspace) = model.borrowed();
        for state in &mut states[..1] {
            network.step(weights, &[1, 2, 3, 4, 5], state, workspace).expect("it reads forward");
        }
        for state in &mut states {
            let tokens = &[6, 7, 8, 9, 10][..state.streams()];
            let count = allocations(|| {
                network.step(weights, tokens, state, workspace).expect("it reads forward");
            });
            assert_eq!(count, 0, "a step of {} with {} streams allocates", cell.name(), tokens.len());
        }
    }
}

/// Learns from the first batch, then from all of them, none of which is larger.
fn check_learn<B: Module<f32, Input = [u32]>, H: Head<f32, Target = [u32]>>(
    name: &str,
    network: Network<B, H>,
    batches: &[Batch<f32>],
) {
    let mut model = Model::<f32, _, _>::new(network, 1, 4, 0.3);
    let mut gradients = model.network.layout().zeros();
    batches[0].learn(&mut model, training(1), &mut gradients);
    for (index, batch) in batches.iter().enumerate() {
        let count = allocations(|| {
            batch.learn(&mut model, training(2), &mut gradients);
        });
        assert_eq!(count, 0, "{name} allocates while it learns from batch {index}");
        let count = allocations(|| {
            batch.evaluate(&mut model);
        });
        assert_eq!(count, 0, "{name} allocates while it is evaluated on batch {index}");
    }
}

fn check_training(cell: CellKind) {
    let network = language_model(stack(cell, false), 13, true, DROPOUTS);
    let windows = [(20, 9), (20, 9), (7, 9), (20, 2), (1, 1)];
    let windows = windows.map(|(steps, streams)| Batch::window(13, steps, streams, 0).started(&network.state_shape()));
    check_learn(&format!("a language model of {}", cell.name()), network, &windows);
    let lengths = [&[9; 20][..], &[9; 20], &[3, 8, 0, 1, 8], &[0], &[1; 19]];
    let tagged = lengths.map(|lengths| Batch::tagged(13, 5, lengths));
    check_learn(&format!("a tagger of {}", cell.name()), tagger(stack(cell, true), 13, 5, DROPOUTS), &tagged);
    for pooling in Pooling::ALL {
        let network = classifier(stack(cell, true), 13, 3, pooling, DROPOUTS);
        let texts = lengths.map(|lengths| Batch::texts(13, 3, lengths));
        check_learn(&format!("{pooling:?} of {}", cell.name()), network, &texts);
    }
}

#[test]
fn learning_by_a_transformer() {
    let config = TransformerConfig { feed_forward: 11, dropout: 0.1, ..TransformerConfig::new(2, 2, 6) };
    let batches = [&[9; 20][..], &[9; 20], &[3, 8, 0, 1, 8], &[0], &[1; 19]].map(|l| Batch::tagged(13, 13, l));
    check_learn("a Transformer", transformer::network(&config, 13), &batches);
}

/// A step allocates where the cache grows, and nowhere else.
#[test]
fn a_step_of_a_transformer() {
    let mut model = Model::<f32, _>::new(transformer::network(&TransformerConfig::new(2, 2, 6), 13), 1, 4, 0.3);
    let mut state = model.state(3);
    let (network, weights, workspace) = model.borrowed();
    for position in 1..=130 {
        let count = allocations(|| {
            network.step(weights, &[1, 2, 3], &mut state, workspace).expect("there is room");
        });
        assert!(count == 0 || position % 64 == 1, "step {position} allocates");
    }
}

macro_rules! stamp {
    ($($name:ident: $cell:ident,)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn one_step() {
                check_step(CellKind::$cell);
            }

            #[test]
            fn learning() {
                check_training(CellKind::$cell);
            }
        })*
    };
}
for_each_cell!(stamp);
