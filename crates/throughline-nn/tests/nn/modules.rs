//! Composed modules: all derivatives, the right order of states, the same bits step by step.

use crate::common::{Model, Numbers, check_gradients, language_model, numbers_of, random_state, standalone, training};
use throughline_kernels::cells::CellKind;
use throughline_kernels::ops::Dropout;
use throughline_kernels::sequence::Ragged;
use throughline_kernels::threads::Threads;
use throughline_kernels::{Element, Isa, for_each_cell};
use throughline_nn::chain::Chain;
use throughline_nn::concat::Concat;
use throughline_nn::layers::recurrent::InitialState;
use throughline_nn::layers::{LayerNorm, Linear, Recurrent, RecurrentConfig};
use throughline_nn::parameters::Builder;
use throughline_nn::standalone::{Stack, Standalone};
use throughline_nn::{Layer, Pass, State};
use throughline_testkit::{assert_close, assert_same_bits};

/// Sums of the same terms in another order, in f64.
const SUM_TOLERANCE: f64 = 1e-14;

/// Unsorted, with an empty one, one of a single step, and equal ones.
const LENGTHS: [usize; 5] = [2, 0, 4, 1, 4];
const BEGUN: [bool; 5] = [true, false, false, true, true];

fn config(cell: CellKind, input: usize, hidden: usize) -> RecurrentConfig {
    RecurrentConfig { initial_state: InitialState::Learned, ..RecurrentConfig::new(cell, input, hidden) }
}

fn batch(resets: bool) -> Ragged {
    let mut rows = Ragged::new(&LENGTHS);
    if resets {
        rows.set_resets(|sequence, t| (sequence + 2 * t) % 5 < 2);
    }
    rows
}

/// A mixed state: some streams have begun.
fn mixed<E: Element>(shape: &throughline_nn::state::StateShape) -> State<E> {
    let mut state = random_state(shape, LENGTHS.len(), 6);
    state.reset_where(&BEGUN.map(|begun| !begun));
    assert_eq!(state.begun(), BEGUN);
    state
}

type Sandwich = Chain<Chain<Chain<Recurrent, LayerNorm>, Linear>, Recurrent>;

/// A stack, a normalisation, a linear map and another stack, each with dropout.
fn sandwich<E: Element>(cell: CellKind, bidirectional: bool) -> Standalone<Sandwich, E> {
    let mut builder = Builder::new();
    let lower = RecurrentConfig { layers: 2, dropout: 0.3, bidirectional, ..config(cell, 3, 4) };
    let lower = Recurrent::new(&mut builder, "lower", lower).with_dropout(&mut builder, 0.2);
    let normalised = LayerNorm::new(&mut builder, "normalised", lower.width()).with_dropout(&mut builder, 0.15);
    let linear = Linear::new(&mut builder, "between", lower.width(), 5).with_dropout(&mut builder, 0.25);
    let upper = Recurrent::new(&mut builder, "upper", config(CellKind::GruAfter, 5, 2));
    standalone(lower.then(normalised).then(linear).then(upper), builder, 1, 0.8)
}

type Pair = Chain<Concat<Recurrent, Recurrent>, Linear>;

/// Two stacks side by side, and a linear map.
fn pair<E: Element>(cell: CellKind, threads: usize) -> Standalone<Pair, E> {
    let mut builder = Builder::new();
    let a = RecurrentConfig { layers: 2, dropout: 0.3, ..config(cell, 3, 4) };
    let a = Recurrent::new(&mut builder, "a", a).with_dropout(&mut builder, 0.2);
    let b = Recurrent::new(&mut builder, "b", config(CellKind::GruBefore, 3, 2)).with_dropout(&mut builder, 0.4);
    let linear = Linear::new(&mut builder, "linear", 6, 3);
    standalone(Concat::new(a, b).then(linear), builder, threads, 0.8)
}

fn check_derivatives(cell: CellKind) {
    for resets in [false, true] {
        let rows = batch(resets);
        let x = Numbers::new(3).draw::<f64>(rows.rows() * 3, 1.5);
        for pass in [Pass::Traced, training(2)] {
            for bidirectional in [false, true] {
                let mut module = sandwich::<f64>(cell, bidirectional);
                module.set_pass(pass);
                let start = mixed(&module.module().state_shape());
                let name = format!("chain, {cell:?}, bidirectional {bidirectional}, resets {resets}, {pass:?}");
                check_gradients(&name, &mut module, &rows, &x, None);
                check_gradients(&format!("{name}, from a state"), &mut module, &rows, &x, Some(&start));
            }
            let mut module = pair::<f64>(cell, 1);
            module.set_pass(pass);
            let start = mixed(&module.module().state_shape());
            let name = format!("concat, {cell:?}, resets {resets}, {pass:?}");
            check_gradients(&name, &mut module, &rows, &x, None);
            check_gradients(&format!("{name}, from a state"), &mut module, &rows, &x, Some(&start));
        }
    }
}

/// Streams read a step at a time, from a mixed state, write and end in the same bits as whole sequences.
fn check_steps(cell: CellKind) {
    fn check<M: throughline_nn::Module<f32, Input = [f32]>>(name: &str, mut module: Standalone<M, f32>) {
        let rows = Ragged::even(6, LENGTHS.len());
        let x = Numbers::new(3).draw::<f32>(rows.rows() * 3, 1.5);
        let mut state = mixed(&module.module().state_shape());
        let whole = module.run(&rows, &x, Some(&state));
        let width = module.module().width();
        for (x, want) in x.chunks(LENGTHS.len() * 3).zip(whole.output.chunks(LENGTHS.len() * width)) {
            assert_same_bits(name, module.step(x, &mut state).expect("it reads forward"), want);
        }
        assert_same_bits(&format!("state of {name}"), &numbers_of(&state), &numbers_of(&whole.last));
        assert_eq!(state, whole.last, "{name}");
    }
    check(&format!("a chain of {cell:?}"), sandwich::<f32>(cell, false));
    check(&format!("a pair of {cell:?}"), pair::<f32>(cell, 1));
}

/// The modules of a pair run as they do alone, each from its own arrays.
fn check_pair(cell: CellKind) {
    let mut builder = Builder::new();
    let [a, b] = [("a", config(cell, 3, 4)), ("b", config(CellKind::Lstm, 3, 2))]
        .map(|(name, config)| Recurrent::new(&mut builder, name, config));
    let (shape_a, shape_b) = (a.state_shape(), b.state_shape());
    let mut both = standalone::<f32, _>(Concat::new(a.clone(), b.clone()), builder, 1, 0.8);
    let (rows, numbers) = (batch(true), &mut Numbers::new(3));
    let x = numbers.draw::<f32>(rows.rows() * 3, 1.5);
    let start = mixed::<f32>(&both.module().state_shape());
    let names: Vec<&str> = start.arrays().iter().map(|array| array.name()).collect();
    let of = |shape: &throughline_nn::state::StateShape| shape.arrays().map(|(name, _)| name.to_owned()).collect();
    let (names_a, names_b): (Vec<String>, Vec<String>) = (of(&shape_a), of(&shape_b));
    assert_eq!(names, [&names_a[..], &names_b].concat());
    let run = both.run(&rows, &x, Some(&start));
    let dy = numbers.draw::<f32>(run.output.len(), 1.0);
    let got = both.backward(&rows, &x, Some(&start), Some(&dy), Some(&start));
    let mut dx = vec![0.0; x.len()];
    for (config, shape, columns) in [(a.config(), shape_a, 0..4), (b.config(), shape_b, 4..6)] {
        let name = if columns.start == 0 { "a." } else { "b." };
        let mut alone = Stack::<f32>::new(*config, 1);
        alone.set_parameters(|layout, parameters| {
            for tensor in layout.tensors() {
                let id = both.layout().find(&format!("{name}{}", tensor.name())).expect("the pair has it");
                parameters[tensor.range()].copy_from_slice(both.layout().view(both.parameters(), id));
            }
        });
        let taken = |state: &State<f32>| {
            let mut own = State::new(&alone.module().state_shape(), LENGTHS.len());
            for (to, (from, _)) in own.arrays_mut().iter_mut().zip(shape.arrays()) {
                to.values_mut().copy_from_slice(state.array(from).values());
            }
            own.begin();
            own.reset_where(&state.begun().iter().map(|begun| !begun).collect::<Vec<_>>());
            own
        };
        let cut = |rows: &[f32]| -> Vec<f32> { rows.chunks(6).flat_map(|row| row[columns.clone()].to_vec()).collect() };
        let (own_start, own_end) = (taken(&start), taken(&run.last));
        let own = alone.run(&rows, &x, Some(&own_start));
        assert_same_bits(&format!("output of {name}"), &cut(&run.output), &own.output);
        assert_same_bits(&format!("state of {name}"), &numbers_of(&own_end), &numbers_of(&own.last));
        let own = alone.backward(&rows, &x, Some(&own_start), Some(&cut(&dy)), Some(&own_start));
        let d_start: Vec<f32> = shape.arrays().flat_map(|(name, _)| got.start.array(name).values().to_vec()).collect();
        assert_same_bits(&format!("d_start of {name}"), &d_start, &numbers_of(&own.start));
        for tensor in alone.layout().tensors() {
            let id = both.layout().find(&format!("{name}{}", tensor.name())).expect("the pair has it");
            let gradient = both.layout().view(both.gradients(), id);
            assert_same_bits(&format!("gradient of {}", tensor.name()), gradient, &alone.gradients()[tensor.range()]);
        }
        dx.iter_mut().zip(own.x).for_each(|(sum, dx)| *sum += dx);
    }
    assert_same_bits("dx", &got.x, &dx);
}

/// The learned initial state receives the gradients of the streams that had not begun and of no other.
fn check_initial_state(cell: CellKind) {
    let mut stack = Stack::<f64>::new(RecurrentConfig { layers: 2, bidirectional: true, ..config(cell, 3, 4) }, 1);
    stack.set_parameters(|_, parameters| parameters.iter_mut().for_each(|x| *x *= 1.5));
    let (rows, numbers) = (batch(false), &mut Numbers::new(3));
    let x = numbers.draw::<f64>(rows.rows() * 3, 1.5);
    let dy = numbers.draw::<f64>(rows.rows() * 8, 1.0);
    let start = mixed(&stack.module().state_shape());
    // Without a start every sequence's gradient is that of the initial state.
    stack.run(&rows, &x, None);
    let each = stack.backward(&rows, &x, None, Some(&dy), Some(&start)).start;
    stack.clear_gradients();
    stack.run(&rows, &x, Some(&start));
    let got = stack.backward(&rows, &x, Some(&start), Some(&dy), Some(&start)).start;
    for (each, got) in each.arrays().iter().zip(got.arrays()) {
        let not_begun = || (0..LENGTHS.len()).filter(|&sequence| !BEGUN[sequence]);
        assert!(not_begun().all(|sequence| got.of(sequence).iter().all(|&x| x == 0.0)), "{}", got.name());
        let begun = (0..LENGTHS.len()).filter(|&sequence| BEGUN[sequence] && LENGTHS[sequence] > 0);
        assert!(begun.into_iter().all(|sequence| got.of(sequence).iter().any(|&x| x != 0.0)), "{}", got.name());
        let sum = |i: usize| not_begun().map(|sequence| each.of(sequence)[i]).sum::<f64>();
        let want: Vec<f64> = (0..4).map(sum).collect();
        let name = each.name().replace("h_", "initial_h_").replace("c_", "initial_c_");
        let id = stack.layout().find(&name).unwrap_or_else(|| panic!("no {name}"));
        assert_close(&name, stack.layout().view(stack.gradients(), id), &want, SUM_TOLERANCE);
    }
}

/// Streams are put back and picked out between steps.
fn check_streams(cell: CellKind) {
    let mut model = Model::<f32, _>::new(
        language_model(
            RecurrentConfig { layers: 2, ..config(cell, 3, 4) },
            7,
            false,
            crate::common::Dropouts::default(),
        ),
        1,
        4,
        0.7,
    );
    let (mut together, fresh) = (model.state(3), model.state(1));
    let (network, weights, workspace) = model.borrowed();
    let mut step = |tokens: &[u32], state: &mut State<f32>| {
        network.step(weights, tokens, state, workspace).expect("it reads forward").to_vec()
    };
    let mut alone: Vec<State<f32>> = vec![fresh.clone(); 3];
    step(&[1, 2, 3], &mut together);
    for (state, token) in alone.iter_mut().zip([1, 2, 3]) {
        step(&[token], state);
    }
    together.reset_where(&[false, true, false]);
    alone[1] = fresh;
    let mut together = together.gather(&[2, 0, 1, 2]);
    let mut alone: Vec<State<f32>> = [2, 0, 1, 2].map(|stream| alone[stream].clone()).into();
    for tokens in [[4, 4, 5, 6], [0, 1, 1, 0]] {
        let logits = step(&tokens, &mut together);
        for (stream, state) in alone.iter_mut().enumerate() {
            let want = step(&tokens[stream..=stream], state);
            assert_same_bits(&format!("logits of stream {stream}"), &logits[stream * 7..][..7], &want);
            assert_eq!(together.gather(&[stream]), *state, "stream {stream}");
        }
    }
}

#[test]
fn pairs_on_any_threads() {
    let rows = batch(true);
    let x = Numbers::new(3).draw::<f32>(rows.rows() * 3, 1.5);
    let dy = Numbers::new(4).draw::<f32>(rows.rows() * 3, 1.0);
    let solve = |threads: usize| {
        let mut pair = pair::<f32>(CellKind::Lstm, threads);
        pair.set_pass(training(5));
        let output = pair.run(&rows, &x, None).output;
        (output, pair.backward(&rows, &x, None, Some(&dy), None).x, pair.gradients().to_vec())
    };
    let want = solve(1);
    for threads in [2, 3] {
        let got = solve(threads);
        assert_same_bits("output", &got.0, &want.0);
        assert_same_bits("dx", &got.1, &want.1);
        assert_same_bits("gradients", &got.2, &want.2);
    }
}

/// Values by definition, masks by (sequence, time) from the module's own site, derivatives with and without them.
#[test]
fn linear_with_dropout() {
    let mut builder = Builder::new();
    let linear = Linear::new(&mut builder, "linear", 3, 5).with_dropout(&mut builder, 0.4);
    let mut linear = standalone::<f64, _>(linear, builder, 1, 0.8);
    let rows = batch(false);
    let x = Numbers::new(3).draw::<f64>(rows.rows() * 3, 1.5);
    let [weight, bias] = ["linear.weight", "linear.bias"].map(|name| {
        let id = linear.layout().find(name).expect("its parameter");
        linear.layout().view(linear.parameters(), id).to_vec()
    });
    let row = |x: &[f64]| -> Vec<f64> {
        let output = |(w, b): (&[f64], &f64)| w.iter().zip(x).fold(*b, |sum, (w, x)| sum + w * x);
        weight.chunks(3).zip(&bias).map(output).collect()
    };
    let mut want: Vec<f64> = x.chunks(3).flat_map(row).collect();
    assert_close("output", &linear.run(&rows, &x, None).output, &want, SUM_TOLERANCE);
    check_gradients("linear", &mut linear, &rows, &x, None);
    let pass = training(3);
    let Pass::Training(philox) = pass else { unreachable!("it trains") };
    let mut places = Vec::new();
    rows.for_each_row(|_, sequence, t| places.push((sequence as u32, t as u32)));
    let dropout = Dropout { philox, rate: 0.4, place: u32::MAX };
    dropout.apply(Isa::detect(), Threads::ONE, &mut want, 5, &|row| places[row]);
    linear.set_pass(pass);
    let got = linear.run(&rows, &x, None).output;
    assert_close("dropped output", &got, &want, SUM_TOLERANCE);
    assert!(got.contains(&0.0) && got.iter().any(|&x| x != 0.0));
    check_gradients("linear with dropout", &mut linear, &rows, &x, None);
}

macro_rules! stamp {
    ($($name:ident: $cell:ident,)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn derivatives() {
                check_derivatives(CellKind::$cell);
            }

            #[test]
            fn step_by_step() {
                check_steps(CellKind::$cell);
            }

            #[test]
            fn side_by_side() {
                check_pair(CellKind::$cell);
            }

            #[test]
            fn learned_initial_states() {
                check_initial_state(CellKind::$cell);
            }

            #[test]
            fn streams_are_reset_and_gathered() {
                check_streams(CellKind::$cell);
            }
        })*
    };
}
for_each_cell!(stamp);
