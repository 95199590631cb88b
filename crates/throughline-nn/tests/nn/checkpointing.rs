//! Checkpointing in time: the same outputs and gradients as without, but for rounding in those of parameters, and
//! memory that grows with the square root of T.

use std::time::Instant;

use crate::allocation::{allocations, bytes_held};
use crate::common::{Batch, Dropouts, Flat, Model, Numbers, classifier, language_model, panic_of, training};
use throughline_kernels::buffer::Buffer;
use throughline_kernels::cells::CellKind;
use throughline_kernels::sequence::{LayerShape, PackedLayer, Ragged};
use throughline_kernels::{Element, for_each_cell};
use throughline_nn::checkpointing::Checkpointing;
use throughline_nn::heads::Softmax;
use throughline_nn::layers::recurrent::{InitialState, PackedRecurrent, RecurrentTape};
use throughline_nn::layers::{Pooling, Recurrent, RecurrentConfig};
use throughline_nn::module::{Call, Gradients, TapeSetting};
use throughline_nn::parameters::{Builder, Layout};
use throughline_nn::standalone::Stack;
use throughline_nn::{Context, Cpu, Layer, Module, Network, Pass, State};
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
    cpu: Cpu,
    batch: Ragged,
    x: Vec<E>,
    start: Option<State<E>>,
    dy: Option<Vec<E>>,
    d_end: Option<State<E>>,
    pass: Pass,
}

/// All that a training step yields.
struct Solution<E> {
    output: Vec<E>,
    end: Flat<E>,
    dx: Vec<E>,
    d_start: Flat<E>,
    gradients: Buffer<E>,
}

impl<E: Element> Problem<E> {
    fn new(config: RecurrentConfig, batch: Ragged, threads: usize) -> Self {
        let mut numbers = Numbers::new(7);
        let (mut builder, cpu) = (Builder::new(), Cpu::new(threads));
        let recurrent = Recurrent::new(&mut builder, "", config);
        let layout = builder.into_layout();
        let parameters = numbers.parameters(&layout, 0.7);
        let mut packed = recurrent.packed(cpu.isa, true);
        recurrent.pack(&cpu, &layout, &parameters, &mut packed);
        let mut state = || Some(numbers.state(&recurrent.state_shape(), batch.batch(), 1.0));
        let (start, d_end) = (state(), state());
        let x = numbers.draw(batch.rows() * config.input, 1.5);
        let dy = Some(numbers.draw(batch.rows() * config.output(), 1.0));
        Self { recurrent, layout, parameters, packed, cpu, batch, x, start, dy, d_end, pass: training(4) }
    }

    fn call<'a>(&'a self, x: &'a [E], packed: &'a PackedRecurrent<E>) -> Call<'a, E, Recurrent> {
        let Self { cpu, layout, parameters, batch, start, pass, .. } = self;
        let context = Context { cpu, layout, parameters, pass: *pass };
        Call { context, packed, rows: batch, x, start: start.as_ref().map(State::start) }
    }

    fn forward(&self, tape: &mut RecurrentTape<E>) {
        self.recurrent.forward(self.call(&self.x, &self.packed), tape);
    }

    /// `dy` is memory for the gradient of the output, which the stack may change.
    fn backward(
        &self,
        dy: Option<&mut [E]>,
        dx: &mut [E],
        d_start: Option<&mut State<E>>,
        gradients: &mut [E],
        tape: &mut RecurrentTape<E>,
    ) {
        let gradients = Gradients {
            dy,
            d_end: self.d_end.as_ref().map(State::arrays),
            dx: Some(dx),
            d_start: d_start.map(State::arrays_mut),
            parameters: gradients,
        };
        self.recurrent.backward(self.call(&self.x, &self.packed), gradients, tape);
    }

    fn new_state(&self) -> State<E> {
        State::new(&self.recurrent.state_shape(), self.batch.batch())
    }

    fn solve(&self, tape: &mut RecurrentTape<E>) -> Solution<E> {
        let (config, batch) = (self.recurrent.config(), &self.batch);
        self.forward(tape);
        let output = self.recurrent.output(batch, tape).1.to_vec();
        let (mut dx, mut gradients) = (vec![E::from_f64(f64::NAN); self.x.len()], self.layout.zeros());
        let (mut end, mut d_start) = (self.new_state(), self.new_state());
        self.recurrent.end(batch, tape, end.arrays_mut());
        self.backward(self.dy.clone().as_deref_mut(), &mut dx, Some(&mut d_start), &mut gradients, tape);
        let (end, d_start) = (Flat::of(config, &end), Flat::of(config, &d_start));
        Solution { output, end, dx, d_start, gradients }
    }

    fn tape(&self, checkpointing: Checkpointing) -> RecurrentTape<E> {
        let mut tape = RecurrentTape::default();
        self.recurrent.set(&mut tape, TapeSetting::Checkpointing(checkpointing));
        tape
    }

    fn keep_state_after(&self, steps: usize, tape: &mut RecurrentTape<E>) {
        self.recurrent.set(tape, TapeSetting::KeepStateAfter(steps));
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
        ("h_n", &got.end.h, &want.end.h),
        ("c_n", &got.end.c, &want.end.c),
        ("dx", &got.dx, &want.dx),
        ("dh0", &got.d_start.h, &want.d_start.h),
        ("dc0", &got.d_start.c, &want.d_start.c),
    ] {
        assert_same_bits(&format!("{what}: {name}"), got, want);
    }
    for tensor in layout.tensors() {
        let name = format!("{what}: gradient of {}", tensor.name());
        assert_close(&name, &got.gradients[tensor.range()], &want.gradients[tensor.range()], tolerance);
    }
}

/// Every setting that matters for segments, over unsorted lengths with an empty one, one of a single step and equal
/// ones. The settings of k cut in one, in two, unevenly, at every step, and not at all.
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
            problem.start = None;
        }
        match bits % 3 {
            0 => problem.dy = None,
            1 => problem.d_end = None,
            _ => {}
        }
        let want = problem.solve(&mut problem.tape(Checkpointing::Off));
        let mut one_for_all = problem.tape(Checkpointing::Off);
        for checkpointing in
            [every(4), every(6), every(1), Checkpointing::Auto, every(11), every(100), every(2), Checkpointing::Off]
        {
            let what = format!("{checkpointing:?} of {config:?}, resets {resets}, from a state {given}");
            let got = problem.solve(&mut problem.tape(checkpointing));
            assert_same_solution(&what, &problem.layout, &got, &want, tolerance);
            problem.recurrent.set(&mut one_for_all, TapeSetting::Checkpointing(checkpointing));
            problem.keep_state_after(5, &mut one_for_all);
            let got = problem.solve(&mut one_for_all);
            assert_same_solution(&format!("{what}, with an extra cut"), &problem.layout, &got, &want, tolerance);
        }
    }
}

fn check_nothing_to_read(cell: CellKind) {
    for lengths in [&[][..], &[0, 0]] {
        let config = RecurrentConfig { layers: 2, ..RecurrentConfig::new(cell, INPUT, HIDDEN) };
        let problem = Problem::<f32>::new(config, Ragged::new(lengths), 1);
        let want = problem.solve(&mut problem.tape(Checkpointing::Off));
        let given = |state: &Option<State<f32>>| Flat::of(&config, state.as_ref().expect("one is given"));
        assert_same_bits("h_n", &want.end.h, &given(&problem.start).h);
        assert_same_bits("dh0", &want.d_start.h, &given(&problem.d_end).h);
        for checkpointing in [Checkpointing::every(1), Checkpointing::Auto] {
            let got = problem.solve(&mut problem.tape(checkpointing));
            assert_same_solution("nothing to read", &problem.layout, &got, &want, 0.0);
        }
    }
}

/// What truncated BPTT asks for before a pass is there after it, before and after the backward pass.
fn check_states_in_mid_sequence(cell: CellKind) {
    let config = RecurrentConfig { layers: 2, dropout: 0.3, ..RecurrentConfig::new(cell, INPUT, HIDDEN) };
    let problem = Problem::<f32>::new(config, Ragged::new(&[9, 12, 9]), 1);
    let mut whole = problem.tape(Checkpointing::Off);
    problem.forward(&mut whole);
    let mut tape = problem.tape(Checkpointing::every(4));
    let state_after = |steps: usize, tape: &RecurrentTape<f32>| {
        let mut state = problem.new_state();
        problem.recurrent.state_after(&problem.batch, steps, tape, state.arrays_mut());
        state
    };
    for steps in 0..=9 {
        problem.keep_state_after(steps, &mut tape);
        problem.forward(&mut tape);
        let want = state_after(steps, &whole);
        assert_eq!(state_after(steps, &tape), want, "after {steps} steps");
        let mut dy = problem.dy.clone();
        let (dx, gradients) = (&mut vec![0.0; problem.x.len()], &mut problem.layout.zeros());
        problem.backward(dy.as_deref_mut(), dx, None, gradients, &mut tape);
        assert_eq!(state_after(steps, &tape), want, "after {steps} steps and the backward pass");
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
#[should_panic(expected = "cannot use checkpointing")]
fn a_stack_that_reads_both_ways_refuses() {
    let config = RecurrentConfig { bidirectional: true, ..RecurrentConfig::new(CellKind::Lstm, INPUT, HIDDEN) };
    Stack::<f32>::new(config, 1).set(TapeSetting::Checkpointing(Checkpointing::Auto));
}

#[test]
#[should_panic(expected = "after 5 steps were not kept")]
fn states_that_were_not_asked_for_are_refused() {
    let config = RecurrentConfig::new(CellKind::GruAfter, INPUT, HIDDEN);
    let problem = Problem::<f32>::new(config, Ragged::even(9, 2), 1);
    let mut tape = problem.tape(Checkpointing::every(3));
    problem.forward(&mut tape);
    problem.recurrent.state_after(&problem.batch, 5, &tape, problem.new_state().arrays_mut());
}

#[test]
#[should_panic(expected = "run forward on this batch first")]
fn backward_after_an_inference_pass_panics() {
    let config = RecurrentConfig::new(CellKind::GruAfter, INPUT, HIDDEN);
    let mut problem = Problem::<f32>::new(config, Ragged::even(9, 2), 1);
    let mut tape = problem.tape(Checkpointing::every(3));
    problem.solve(&mut tape);
    problem.pass = Pass::Inference;
    problem.solve(&mut tape);
}

/// After a caught panic of forward, backward refuses what an earlier pass or the unfinished one left. The next forward
/// pass is right again.
#[test]
fn backward_after_a_forward_pass_that_panicked_panics() {
    let config = RecurrentConfig { layers: 2, ..RecurrentConfig::new(CellKind::Lstm, INPUT, HIDDEN) };
    let problem = Problem::<f32>::new(config, Ragged::even(9, 2), 1);
    // The weights of the second layer are of another size, so that the first has run before the second finds out.
    let mut wrong = problem.recurrent.packed(problem.cpu.isa, true);
    problem.recurrent.pack(&problem.cpu, &problem.layout, &problem.parameters, &mut wrong);
    let hidden = HIDDEN + 1;
    let shape = LayerShape { cell: config.cell, input: HIDDEN, extra: 0, hidden, directions: 1, normalised: false };
    wrong.layers_mut()[1] = PackedLayer::new(shape, problem.cpu.isa, true);
    for checkpointing in [Checkpointing::Off, Checkpointing::every(4)] {
        let mut tape = problem.tape(checkpointing);
        let want = problem.solve(&mut tape);
        let too_short = &problem.x[..4 * 2 * INPUT];
        for call in [problem.call(too_short, &problem.packed), problem.call(&problem.x, &wrong)] {
            panic_of(|| problem.recurrent.forward(call, &mut tape));
            let (mut dx, mut gradients) = (vec![0.0; problem.x.len()], problem.layout.zeros());
            let mut dy = problem.dy.clone();
            let message = panic_of(|| {
                problem.backward(dy.as_deref_mut(), &mut dx, None, &mut gradients, &mut tape);
            });
            assert!(message.contains("no finished forward pass has kept a tape"), "{message}");
            assert!(gradients.iter().all(|&x| x == 0.0));
            let got = problem.solve(&mut tape);
            assert_same_solution(&format!("{checkpointing:?}"), &problem.layout, &got, &want, 0.0);
        }
    }
}

/// Whole models with every kind of dropout learn the same, whatever the checkpointing.
#[test]
fn networks() {
    fn check<B: Module<f32, Input = [u32]>>(network: impl Fn() -> Network<B, Softmax>, batch: &Batch<f32>) {
        let learn = |checkpointing: Checkpointing| {
            let mut model = Model::<f32, _>::new(network(), 1, 1, 0.5);
            model.network.set(&mut model.workspace, TapeSetting::Checkpointing(checkpointing));
            let mut gradients = model.network.layout().zeros();
            let loss = batch.learn(&mut model, training(4), &mut gradients);
            (loss, gradients)
        };
        let want = learn(Checkpointing::Off);
        for checkpointing in [Checkpointing::every(3), Checkpointing::Auto, Checkpointing::every(50)] {
            let got = learn(checkpointing);
            assert_eq!(got.0, want.0, "the loss with {checkpointing:?}");
            assert_close("gradients", &got.1, &want.1, SUM_TOLERANCE_F32);
        }
    }
    let stack = RecurrentConfig { layers: 2, dropout: 0.2, ..RecurrentConfig::new(CellKind::Lstm, INPUT + 2, HIDDEN) };
    let dropouts = Dropouts { embedding: 0.3, output: 0.4 };
    check(|| language_model(stack, 6, false, dropouts), &Batch::window(6, 13, 3, 5));
    for pooling in Pooling::ALL {
        check(|| classifier(stack, 6, 3, pooling, dropouts), &Batch::texts(6, 3, &[11, 2, 0, 8]));
    }
}

/// What the documentation of [`throughline_nn::checkpointing`] says a stack holds for `batch` sequences of `steps`
/// steps, in bytes of f32, with k steps in a segment.
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
            let mut d_start = problem.new_state();
            for (checkpointing, k) in
                [(Checkpointing::Off, steps), (Checkpointing::Auto, 50), (Checkpointing::every(200), 200)]
            {
                let mut tape = problem.tape(checkpointing);
                let before = bytes_held();
                problem.forward(&mut tape);
                problem.backward(None, &mut dx, Some(&mut d_start), &mut gradients, &mut tape);
                let held = (bytes_held() - before) as usize;
                let documented = documented(&config, steps, batch, k);
                let most = documented + documented / 50 + incidental(&config, batch, k);
                let what = format!("{checkpointing:?} of {config:?}: {held} bytes, documented {documented}");
                assert!(held >= documented && held <= most, "{what}, at most {most}");

                let again = allocations(|| {
                    problem.forward(&mut tape);
                    problem.backward(None, &mut dx, Some(&mut d_start), &mut gradients, &mut tape);
                });
                assert_eq!(again, 0, "allocations of a second pass of {what}");
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
        let mut ways = [Checkpointing::Off, Checkpointing::Auto].map(|way| problem.tape(way));
        let mut dy = problem.dy.clone();
        let (mut held, mut ratios) = (Vec::new(), Vec::new());
        let mut least = [f64::INFINITY; 2];
        for round in 0..=ROUNDS {
            let seconds: [f64; 2] = std::array::from_fn(|way| {
                let (before, begun) = (bytes_held(), Instant::now());
                problem.forward(&mut ways[way]);
                problem.backward(dy.as_deref_mut(), &mut dx, None, &mut gradients, &mut ways[way]);
                if round == 0 {
                    held.push((bytes_held() - before) as f64);
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
