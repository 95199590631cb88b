//! Checkpointing in time: the same outputs and gradients as without, but for rounding in those of parameters, and memory that grows with the square root of T.

use std::alloc::{GlobalAlloc, Layout as MemoryLayout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::common::{Model, Numbers, classifier, language_model};
use throughline_kernels::buffer::Buffer;
use throughline_kernels::cells::CellKind;
use throughline_kernels::random::{Philox, Purpose};
use throughline_kernels::sequence::Ragged;
use throughline_kernels::threads::Threads;
use throughline_kernels::{Element, Isa, for_each_cell};
use throughline_nn::checkpointing::Checkpointing;
use throughline_nn::classifier::Sequences;
use throughline_nn::language_model::Window;
use throughline_nn::network::Dropouts;
use throughline_nn::parameters::Layout;
use throughline_nn::recurrent::{
    Context, InitialState, PackedRecurrent, Pass, Recurrent, RecurrentConfig, RecurrentWorkspace, States,
};
use throughline_nn::stack::Stack;
use throughline_testkit::gradient::Bits;
use throughline_testkit::{assert_close, assert_same_bits};

/// Of parameter gradients: the rows are added in another order.
const SUM_TOLERANCE_F32: f64 = 1e-6;
const SUM_TOLERANCE_F64: f64 = 1e-14;

const INPUT: usize = 3;
const HIDDEN: usize = 5;

/// A stack in training over one batch.
struct Problem<E> {
    recurrent: Recurrent,
    layout: Layout,
    parameters: Buffer<E>,
    packed: PackedRecurrent<E>,
    threads: Threads,
    batch: Ragged,
    x: Vec<E>,
    given: Option<States<E>>,
    dy: Option<Vec<E>>,
    d_last: Option<States<E>>,
    pass: Pass,
}

/// All that a training step yields.
struct Solution<E> {
    output: Vec<E>,
    last: States<E>,
    dx: Vec<E>,
    d_given: States<E>,
    gradients: Buffer<E>,
}

impl<E: Element> Problem<E> {
    fn new(config: RecurrentConfig, batch: Ragged, threads: usize) -> Self {
        let mut numbers = Numbers::new(7);
        let (mut layout, threads) = (Layout::new(), Threads::new(threads));
        let recurrent = Recurrent::new(config, &mut layout, "");
        let mut parameters = layout.zeros();
        for tensor in layout.tensors() {
            parameters[tensor.range()].copy_from_slice(&numbers.draw::<E>(tensor.count(), 0.7));
        }
        let mut packed = recurrent.packed(Isa::detect(), true);
        recurrent.pack(&threads, &layout, &parameters, &mut packed);
        let zeros = States::<E>::zeros(&config, batch.batch());
        let mut states = || States { h: numbers.draw(zeros.h.len(), 1.0), c: numbers.draw(zeros.c.len(), 1.0) };
        let (given, d_last) = (Some(states()), Some(states()));
        let x = numbers.draw(batch.rows() * config.input, 1.5);
        let dy = Some(numbers.draw(batch.rows() * config.output(), 1.0));
        let pass = Pass::Training(Philox::new(3, Purpose::Dropout, 4));
        Self { recurrent, layout, parameters, packed, threads, batch, x, given, dy, d_last, pass }
    }

    fn context(&self) -> Context<'_, E> {
        let Self { threads, packed, parameters, layout, .. } = self;
        Context { threads, packed, parameters, layout }
    }

    fn forward(&self, workspace: &mut RecurrentWorkspace<E>) {
        self.recurrent.forward(self.context(), &self.batch, &self.x, self.given.as_ref(), self.pass, workspace);
    }

    fn backward(&self, dx: &mut [E], gradients: &mut [E], workspace: &mut RecurrentWorkspace<E>) {
        self.recurrent.backward(
            self.context(),
            &self.batch,
            &self.x,
            self.given.is_some(),
            self.pass,
            self.dy.as_deref(),
            self.d_last.as_ref(),
            Some(dx),
            gradients,
            workspace,
        );
    }

    fn solve(&self, workspace: &mut RecurrentWorkspace<E>) -> Solution<E> {
        self.forward(workspace);
        let output = workspace.output(self.batch.rows(), self.recurrent.config().output()).to_vec();
        let (mut dx, mut gradients) = (vec![E::from_f64(f64::NAN); self.x.len()], self.layout.zeros());
        self.backward(&mut dx, &mut gradients, workspace);
        let (mut last, mut d_given) = (States::default(), States::default());
        self.recurrent.last_states(&self.batch, workspace, &mut last);
        self.recurrent.state_gradients(&self.batch, workspace, &mut d_given);
        Solution { output, last, dx, d_given, gradients }
    }

    fn workspace(&self, checkpointing: Checkpointing) -> RecurrentWorkspace<E> {
        let mut workspace = self.recurrent.workspace(&self.threads);
        workspace.set_checkpointing(checkpointing);
        workspace
    }
}

fn assert_same_solution<E: Element + Bits + Into<f64>>(
    what: &str,
    layout: &Layout,
    got: &Solution<E>,
    want: &Solution<E>,
    tolerance: f64,
) {
    for (name, got, want) in [
        ("output", &got.output, &want.output),
        ("h_n", &got.last.h, &want.last.h),
        ("c_n", &got.last.c, &want.last.c),
        ("dx", &got.dx, &want.dx),
        ("dh0", &got.d_given.h, &want.d_given.h),
        ("dc0", &got.d_given.c, &want.d_given.c),
    ] {
        assert_same_bits(&format!("{what}: {name}"), got, want);
    }
    for tensor in layout.tensors() {
        let name = format!("{what}: gradient of {}", tensor.name());
        assert_close(&name, &got.gradients[tensor.range()], &want.gradients[tensor.range()], tolerance);
    }
}

/// Every setting that matters for segments, over unsorted lengths with an empty one, one of a single step and equal ones.
/// The settings of k cut in one, in two, unevenly, at every step, and not at all.
fn check_against_whole<E: Element + Bits + Into<f64>>(cell: CellKind, tolerance: f64) {
    const LENGTHS: [usize; 6] = [4, 0, 11, 1, 11, 6];
    let every = Checkpointing::every;
    for bits in 0..16u32 {
        let [resets, given, learned, dropping] = [1, 2, 4, 8].map(|bit| bits & bit != 0);
        let mut batch = Ragged::new(&LENGTHS);
        if resets {
            batch.set_resets(|sequence, t| (sequence + 2 * t) % 5 < 2);
        }
        let config = RecurrentConfig {
            layers: 1 + bits as usize % 3,
            initial_state: if learned { InitialState::Learned } else { InitialState::Zero },
            dropout: if dropping { 0.4 } else { 0.0 },
            bias: bits % 5 > 0,
            ..RecurrentConfig::new(cell, INPUT, HIDDEN)
        };
        let mut problem = Problem::<E>::new(config, batch, 1 + bits as usize % 2);
        if !given {
            problem.given = None;
        }
        match bits % 3 {
            0 => problem.dy = None,
            1 => problem.d_last = None,
            _ => {}
        }
        let want = problem.solve(&mut problem.workspace(Checkpointing::Off));
        let mut one_for_all = problem.workspace(Checkpointing::Off);
        for checkpointing in
            [every(4), every(6), every(1), Checkpointing::Auto, every(11), every(100), every(2), Checkpointing::Off]
        {
            let what = format!("{checkpointing:?} of {config:?}, resets {resets}, given states {given}");
            let got = problem.solve(&mut problem.workspace(checkpointing));
            assert_same_solution(&what, &problem.layout, &got, &want, tolerance);
            one_for_all.set_checkpointing(checkpointing);
            one_for_all.keep_states_after(5);
            let got = problem.solve(&mut one_for_all);
            assert_same_solution(&format!("{what}, with an extra cut"), &problem.layout, &got, &want, tolerance);
        }
    }
}

fn check_nothing_to_read(cell: CellKind) {
    for lengths in [&[][..], &[0, 0]] {
        let config = RecurrentConfig { layers: 2, ..RecurrentConfig::new(cell, INPUT, HIDDEN) };
        let problem = Problem::<f32>::new(config, Ragged::new(lengths), 1);
        let want = problem.solve(&mut problem.workspace(Checkpointing::Off));
        assert_same_bits("h_n", &want.last.h, &problem.given.as_ref().unwrap().h);
        assert_same_bits("dh0", &want.d_given.h, &problem.d_last.as_ref().unwrap().h);
        for checkpointing in [Checkpointing::every(1), Checkpointing::Auto] {
            let got = problem.solve(&mut problem.workspace(checkpointing));
            assert_same_solution("nothing to read", &problem.layout, &got, &want, 0.0);
        }
    }
}

/// What truncated BPTT asks for before a pass is there after it, before and after the backward pass.
fn check_states_in_mid_sequence(cell: CellKind) {
    let config = RecurrentConfig { layers: 2, dropout: 0.3, ..RecurrentConfig::new(cell, INPUT, HIDDEN) };
    let problem = Problem::<f32>::new(config, Ragged::new(&[9, 12, 9]), 1);
    let mut whole = problem.workspace(Checkpointing::Off);
    problem.forward(&mut whole);
    let mut workspace = problem.workspace(Checkpointing::every(4));
    let states_after = |steps: usize, workspace: &RecurrentWorkspace<f32>| {
        let mut states = States::default();
        problem.recurrent.states_after(&problem.batch, steps, workspace, &mut states);
        states
    };
    for steps in 0..=9 {
        workspace.keep_states_after(steps);
        problem.forward(&mut workspace);
        let want = states_after(steps, &whole);
        assert_eq!(states_after(steps, &workspace), want, "after {steps} steps");
        problem.backward(&mut vec![0.0; problem.x.len()], &mut problem.layout.zeros(), &mut workspace);
        assert_eq!(states_after(steps, &workspace), want, "after {steps} steps and the backward pass");
    }
}

macro_rules! stamp {
    ($($name:ident: $cell:ident,)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn the_same_as_without() {
                check_against_whole::<f32>(CellKind::$cell, SUM_TOLERANCE_F32);
                check_against_whole::<f64>(CellKind::$cell, SUM_TOLERANCE_F64);
            }

            #[test]
            fn nothing_to_read() {
                check_nothing_to_read(CellKind::$cell);
            }

            #[test]
            fn states_in_mid_sequence() {
                check_states_in_mid_sequence(CellKind::$cell);
            }
        })*
    };
}
for_each_cell!(stamp);

#[test]
#[should_panic(expected = "has no checkpointing")]
fn a_stack_that_reads_both_ways_refuses() {
    let config = RecurrentConfig { bidirectional: true, ..RecurrentConfig::new(CellKind::Lstm, INPUT, HIDDEN) };
    Stack::<f32>::new(config, 1).set_checkpointing(Checkpointing::Auto);
}

#[test]
#[should_panic(expected = "after 5 steps are not kept")]
fn states_that_were_not_asked_for_are_refused() {
    let config = RecurrentConfig::new(CellKind::GruAfter, INPUT, HIDDEN);
    let problem = Problem::<f32>::new(config, Ragged::even(9, 2), 1);
    let mut workspace = problem.workspace(Checkpointing::every(3));
    problem.forward(&mut workspace);
    problem.recurrent.states_after(&problem.batch, 5, &workspace, &mut States::default());
}

#[test]
#[should_panic(expected = "run forward on this batch first")]
fn an_inference_pass_leaves_nothing_to_go_back_through() {
    let config = RecurrentConfig::new(CellKind::GruAfter, INPUT, HIDDEN);
    let mut problem = Problem::<f32>::new(config, Ragged::even(9, 2), 1);
    let mut workspace = problem.workspace(Checkpointing::every(3));
    problem.solve(&mut workspace);
    problem.pass = Pass::Inference;
    problem.solve(&mut workspace);
}

/// Whoever catches a panic of forward finds nothing to go back through, not what an earlier pass or a part of this one left;
/// the next forward pass sets it right.
#[test]
fn a_forward_pass_that_panics_leaves_nothing_to_go_back_through() {
    let config = RecurrentConfig { layers: 2, ..RecurrentConfig::new(CellKind::Lstm, INPUT, HIDDEN) };
    let problem = Problem::<f32>::new(config, Ragged::even(9, 2), 1);
    for checkpointing in [Checkpointing::Off, Checkpointing::every(4)] {
        let mut workspace = problem.workspace(checkpointing);
        let want = problem.solve(&mut workspace);
        // The first four steps' rows alone.
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let x = &problem.x[..4 * 2 * INPUT];
            problem.recurrent.forward(problem.context(), &problem.batch, x, None, problem.pass, &mut workspace);
        }));
        assert!(caught.is_err(), "x is too short");
        let (mut dx, mut gradients) = (vec![0.0; problem.x.len()], problem.layout.zeros());
        let caught = catch_unwind(AssertUnwindSafe(|| problem.backward(&mut dx, &mut gradients, &mut workspace)));
        let message = *caught.expect_err("there is no tape").downcast::<&str>().expect("a message");
        assert!(message.contains("no finished forward pass has kept a tape"), "{message}");
        assert!(gradients.iter().all(|&x| x == 0.0));
        let got = problem.solve(&mut workspace);
        assert_same_solution(&format!("{checkpointing:?}"), &problem.layout, &got, &want, 0.0);
    }
}

/// Whole models with every kind of dropout learn the same, whatever the checkpointing.
#[test]
fn networks() {
    let stack = RecurrentConfig { layers: 2, dropout: 0.2, ..RecurrentConfig::new(CellKind::Lstm, INPUT + 2, HIDDEN) };
    let dropouts = Dropouts { embedding: 0.3, output: 0.4 };
    let pass = Pass::Training(Philox::new(3, Purpose::Dropout, 4));
    let (steps, streams, vocabulary) = (13, 3, 6);
    let tokens = Numbers::new(1).tokens((steps + 1) * streams, vocabulary);
    let batch = Ragged::even(steps, streams);
    let (inputs, targets) = (&tokens[..steps * streams], &tokens[streams..]);
    let window = Window { batch: &batch, inputs, targets, first_scored: 5 };
    let mut sequences = Sequences::default();
    sequences.set([&tokens[..11], &tokens[3..5], &[], &tokens[8..16]].into_iter());

    let learn = |checkpointing: Checkpointing, classify: bool| {
        let config = match classify {
            true => classifier(stack, vocabulary, 3),
            false => language_model(stack, vocabulary, false),
        };
        let mut model = Model::<f32>::new(config, dropouts, 1, 1, 0.5);
        model.workspace.recurrent_mut().set_checkpointing(checkpointing);
        let mut gradients = model.network.layout().zeros();
        let (network, weights, workspace) = model.parts();
        let learnt = match classify {
            true => network.train_classifier(weights, &sequences, &[0, 2, 1, 1], pass, &mut gradients, workspace),
            false => network.train_language_model(weights, &window, None, pass, &mut gradients, workspace),
        };
        (learnt, gradients)
    };
    for classify in [false, true] {
        let want = learn(Checkpointing::Off, classify);
        for checkpointing in [Checkpointing::every(3), Checkpointing::Auto, Checkpointing::every(50)] {
            let got = learn(checkpointing, classify);
            assert_eq!(got.0, want.0, "the loss with {checkpointing:?}");
            assert_close("gradients", &got.1, &want.1, SUM_TOLERANCE_F32);
        }
    }
}

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

// SAFETY: every request goes to the system's allocator unchanged; counting touches thread-local numbers that need neither
// initialisation nor destruction.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: MemoryLayout) -> *mut u8 {
        count(layout.size() as isize, 1);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: MemoryLayout) {
        count(-(layout.size() as isize), 0);
        // SAFETY: the caller's promise about `at` and `layout` is passed on; `at` came from the system's allocator.
        unsafe { System.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: MemoryLayout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize, 1);
        // SAFETY: as for `dealloc`.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What the documentation of [`throughline_nn::checkpointing`] says a stack holds for `batch` sequences of `steps` steps, in
/// bytes of f32, with k steps in a segment.
fn documented(config: &RecurrentConfig, steps: usize, batch: usize, k: usize) -> usize {
    let RecurrentConfig { cell, hidden, layers, .. } = *config;
    let c = usize::from(cell.has_cell_state());
    let below = if config.dropout > 0.0 { 2 } else { 1 } * (layers - 1);
    let of_segment = below + layers * (cell.slots() + c) + (layers - 1).min(2);
    let slots = cell.slots() * hidden;
    let slot_gradients = slots * (batch * k).min((393_216 / slots).clamp(256, 2_048));
    4 * (slot_gradients + batch * hidden * (steps + k * of_segment + (steps.div_ceil(k) + 1) * layers * (1 + c)))
}

/// Bytes beside those: scratch of a thread, state gradients, the shape of a window.
fn incidental(config: &RecurrentConfig, batch: usize, k: usize) -> usize {
    let scratch = 128 * config.cell.slots().max(config.input) * config.hidden;
    4 * (4 * scratch + 8 * config.layers * batch * config.hidden) + 8 * batch * (k + 10) + 20_000
}

#[test]
fn memory_is_what_the_documentation_says() {
    let (steps, batch) = (2_500, 2);
    for (layers, dropout) in [(1, 0.0), (3, 0.1)] {
        for &cell in CellKind::ALL {
            let config = RecurrentConfig { layers, dropout, ..RecurrentConfig::new(cell, 8, 24) };
            let mut problem = Problem::<f32>::new(config, Ragged::even(steps, batch), 1);
            problem.dy = None;
            let (mut dx, mut gradients) = (vec![0.0; problem.x.len()], problem.layout.zeros());
            for (checkpointing, k) in
                [(Checkpointing::Off, steps), (Checkpointing::Auto, 50), (Checkpointing::every(200), 200)]
            {
                let mut workspace = problem.workspace(checkpointing);
                let before = HELD.get();
                problem.forward(&mut workspace);
                problem.backward(&mut dx, &mut gradients, &mut workspace);
                let held = (HELD.get() - before) as usize;
                let documented = documented(&config, steps, batch, k);
                let most = documented + documented / 50 + incidental(&config, batch, k);
                let what = format!("{checkpointing:?} of {config:?}: {held} bytes, documented {documented}");
                assert!(held >= documented && held <= most, "{what}, at most {most}");

                let before = ALLOCATIONS.get();
                problem.forward(&mut workspace);
                problem.backward(&mut dx, &mut gradients, &mut workspace);
                assert_eq!(ALLOCATIONS.get() - before, 0, "allocations of a second pass of {what}");
            }
        }
    }
}

/// LSTMs over 10,000 steps: memory and time with and without checkpointing, by turns. Run it in release:
/// `cargo test --release -p throughline-nn --test nn -- --ignored --nocapture a_long_sequence`.
#[test]
#[ignore = "measures time"]
fn a_long_sequence() {
    const STEPS: usize = 10_000;
    const ROUNDS: usize = 9;
    for layers in [1, 3] {
        let config = RecurrentConfig { layers, ..RecurrentConfig::new(CellKind::Lstm, 64, 128) };
        let problem = Problem::<f32>::new(config, Ragged::even(STEPS, 4), 1);
        let (mut dx, mut gradients) = (vec![0.0; problem.x.len()], problem.layout.zeros());
        let mut ways = [Checkpointing::Off, Checkpointing::Auto].map(|way| problem.workspace(way));
        let (mut held, mut ratios) = (Vec::new(), Vec::new());
        let mut least = [f64::INFINITY; 2];
        for round in 0..=ROUNDS {
            let seconds: [f64; 2] = std::array::from_fn(|way| {
                let (before, begun) = (HELD.get(), Instant::now());
                problem.forward(&mut ways[way]);
                problem.backward(&mut dx, &mut gradients, &mut ways[way]);
                if round == 0 {
                    held.push((HELD.get() - before) as f64);
                }
                begun.elapsed().as_secs_f64()
            });
            if round > 0 {
                ratios.push(seconds[1] / seconds[0]);
                least = [0, 1].map(|way| least[way].min(seconds[way]));
            }
        }
        ratios.sort_by(f64::total_cmp);
        println!("{layers} layers, memory: {:.1} MB without, {:.1} MB with", held[0] / 1e6, held[1] / 1e6);
        println!("{layers} layers, time: at least {:.3} s without, {:.3} s with", least[0], least[1]);
        println!("{layers} layers, ratios: {ratios:.3?}");
        let output = (4 * 4 * 128 * STEPS) as f64;
        assert!(held[1] - output < 0.03 * (held[0] - output), "beside the output, which the caller reads");
        assert!(ratios[ROUNDS / 2] <= 1.45, "{ratios:?}");
    }
}
