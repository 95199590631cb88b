//! Every pooling: values against its definition, derivatives, the same bits in any batch and step by step.

use crate::common::{Numbers, check_gradients, numbers_of, random_state, standalone, training};
use throughline_kernels::Element;
use throughline_kernels::cells::CellKind;
use throughline_kernels::sequence::Ragged;
use throughline_nn::chain::Chain;
use throughline_nn::layers::recurrent::InitialState;
use throughline_nn::layers::{Pool, Pooling, Recurrent, RecurrentConfig};
use throughline_nn::parameters::Builder;
use throughline_nn::standalone::Standalone;
use throughline_nn::{Error, Layer, State};
use throughline_testkit::{assert_close, assert_same_bits};

/// Against the definition in f64, which adds in another order.
const TOLERANCE: f64 = 1e-13;

/// Unsorted, with an empty one, one of a single step, and equal ones.
const LENGTHS: [usize; 6] = [3, 0, 5, 1, 5, 2];

type Pooled<E> = Standalone<Chain<Recurrent, Pool>, E>;

fn pooled<E: Element>(
    pooling: Pooling,
    cell: CellKind,
    bidirectional: bool,
    dropout: f32,
    threads: usize,
) -> Pooled<E> {
    let initial_state = InitialState::Learned;
    let config = RecurrentConfig { bidirectional, initial_state, ..RecurrentConfig::new(cell, 3, 4) };
    let mut builder = Builder::new();
    let recurrent = Recurrent::new(&mut builder, "rnn", config);
    let pool = Pool::of(&mut builder, "pool", recurrent, pooling).with_dropout(&mut builder, dropout);
    standalone(pool, builder, threads, 0.8)
}

#[test]
fn derivatives() {
    let rows = Ragged::new(&LENGTHS);
    let x = Numbers::new(3).draw::<f64>(rows.rows() * 3, 1.5);
    for pooling in Pooling::ALL {
        for (bidirectional, cell) in [(false, CellKind::Lstm), (true, CellKind::GruAfter), (true, CellKind::Lstm)] {
            let mut module = pooled::<f64>(pooling, cell, bidirectional, 0.3, 1);
            let name = format!("{pooling:?}, {cell:?}, bidirectional {bidirectional}");
            check_gradients(&name, &mut module, &rows, &x, None);
            module.set_pass(training(2));
            check_gradients(&format!("{name}, with dropout"), &mut module, &rows, &x, None);
            let mut start = random_state(&module.module().state_shape(), LENGTHS.len(), 5);
            start.reset_where(&[false, false, true, true, false, false]);
            check_gradients(&format!("{name}, from a state"), &mut module, &rows, &x, Some(&start));
        }
    }
}

/// The rows `[N, D·H]` and the states that a module's stack ends with, by the stack alone.
fn rows_and_states(module: &Pooled<f64>, rows: &Ragged, x: &[f64]) -> (Vec<f64>, State<f64>) {
    let config = *module.module().first().config();
    let mut builder = Builder::new();
    let stack = Recurrent::new(&mut builder, "rnn", config);
    let mut stack = standalone::<f64, _>(stack, builder, 1, 1.0);
    stack.set_parameters(|layout, parameters| {
        for tensor in layout.tensors() {
            let id = module.layout().find(tensor.name()).expect("the pooled stack has it");
            parameters[tensor.range()].copy_from_slice(module.layout().view(module.parameters(), id));
        }
    });
    let run = stack.run(rows, x, None);
    (run.output, run.last)
}

#[test]
fn values_are_those_of_the_definition() {
    values_are_those_of_the_definition_over(&Ragged::new(&LENGTHS));
}

/// All rows of a sequence are pooled, before a boundary inside it and after.
#[test]
fn boundaries_do_not_divide_a_sequence() {
    let mut rows = Ragged::new(&LENGTHS);
    rows.set_resets(|_, t| t == 2);
    assert!(rows.restarts() > 0);
    values_are_those_of_the_definition_over(&rows);
}

fn values_are_those_of_the_definition_over(rows: &Ragged) {
    let x = Numbers::new(3).draw::<f64>(rows.rows() * 3, 1.5);
    for pooling in Pooling::ALL {
        for bidirectional in [false, true] {
            let mut module = pooled::<f64>(pooling, CellKind::Lstm, bidirectional, 0.3, 1);
            let width = if bidirectional { 8 } else { 4 };
            let got = module.run(rows, &x, None).output;
            let (outputs, last) = rows_and_states(&module, rows, &x);
            let mut of_sequence: Vec<Vec<&[f64]>> = vec![Vec::new(); LENGTHS.len()];
            rows.for_each_row(|row, sequence, _| of_sequence[sequence].push(&outputs[row * width..][..width]));
            let parameter = |name: &str| {
                let id = module.layout().find(name).expect("a parameter of the attention");
                module.layout().view(module.parameters(), id).to_vec()
            };
            for (sequence, rows) in of_sequence.iter().enumerate() {
                let column = |feature: usize| -> Vec<f64> { rows.iter().map(|row| row[feature]).collect() };
                let want: Vec<f64> = match pooling {
                    Pooling::LastStates => {
                        let names = ["rnn.h_l0", "rnn.h_l0_reverse"];
                        names[..width / 4].iter().flat_map(|name| last.array(name).of(sequence).to_vec()).collect()
                    }
                    _ if rows.is_empty() => vec![0.0; width],
                    Pooling::Last => [&rows[rows.len() - 1][..4], &rows[0][4..]].concat(),
                    Pooling::Mean => (0..width).map(|i| column(i).iter().sum::<f64>() / rows.len() as f64).collect(),
                    Pooling::Max => (0..width).map(|i| column(i).into_iter().fold(f64::MIN, f64::max)).collect(),
                    Pooling::Attention => {
                        let [weight, bias, query] = ["pool.weight", "pool.bias", "pool.query"].map(parameter);
                        let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
                        let score = |row: &&[f64]| -> f64 {
                            let u = |i: usize| (dot(&weight[i * width..][..width], row) + bias[i]).tanh();
                            (0..width).map(|i| query[i] * u(i)).sum()
                        };
                        let shares: Vec<f64> = rows.iter().map(|row| score(row).exp()).collect();
                        let sum: f64 = shares.iter().sum();
                        (0..width).map(|i| dot(&shares, &column(i)) / sum).collect()
                    }
                };
                let name = format!("{pooling:?} of sequence {sequence}, bidirectional {bidirectional}");
                assert_close(&name, &got[sequence * width..][..width], &want, TOLERANCE);
            }
            if pooling == Pooling::Attention {
                let tape = module.module_tape();
                let weights = module.module().second().weights(tape.second()).expect("an attention has weights");
                let mut sums = [0.0; 6];
                rows.for_each_row(|row, sequence, _| sums[sequence] += weights[row]);
                assert_close("sums of weights", &sums, &[1.0, 0.0, 1.0, 1.0, 1.0, 1.0], TOLERANCE);
            }
        }
    }
}

/// A sequence's output and dx are the same bits alone and in any batch, everything on any number of threads.
#[test]
fn any_batch_and_any_threads() {
    let rows = Ragged::new(&LENGTHS);
    let x = Numbers::new(3).draw::<f32>(rows.rows() * 3, 1.5);
    let mut of_sequence: Vec<Vec<usize>> = vec![Vec::new(); LENGTHS.len()];
    rows.for_each_row(|row, sequence, _| of_sequence[sequence].push(row));
    for pooling in Pooling::ALL {
        for bidirectional in [false, true] {
            let width = if bidirectional { 8 } else { 4 };
            let dy = Numbers::new(4).draw::<f32>(LENGTHS.len() * width, 1.0);
            let solve = |threads: usize, rows: &Ragged, x: &[f32], dy: &[f32]| {
                let mut module = pooled::<f32>(pooling, CellKind::Lstm, bidirectional, 0.0, threads);
                let output = module.run(rows, x, None).output;
                let dx = module.backward(rows, x, None, Some(dy), None).x;
                (output, dx, module.gradients().to_vec())
            };
            let name = |what: &str| format!("{what} of {pooling:?}, bidirectional {bidirectional}");
            let want = solve(1, &rows, &x, &dy);
            for threads in [2, 3] {
                let got = solve(threads, &rows, &x, &dy);
                assert_same_bits(&name("output"), &got.0, &want.0);
                assert_same_bits(&name("dx"), &got.1, &want.1);
                assert_same_bits(&name("gradients"), &got.2, &want.2);
            }
            let taken = |rows: &[usize], numbers: &[f32]| -> Vec<f32> {
                rows.iter().flat_map(|row| numbers[row * 3..][..3].to_vec()).collect()
            };
            for (sequence, own) in of_sequence.iter().enumerate() {
                let features = sequence * width..(sequence + 1) * width;
                let alone = Ragged::new(&LENGTHS[sequence..=sequence]);
                let got = solve(1, &alone, &taken(own, &x), &dy[features.clone()]);
                assert_same_bits(&name("output alone"), &got.0, &want.0[features]);
                assert_same_bits(&name("dx alone"), &got.1, &taken(own, &want.1));
            }
        }
    }
}

const RUNNING: [Pooling; 4] = [Pooling::LastStates, Pooling::Last, Pooling::Mean, Pooling::Max];

/// After each step stands the pooling of the steps so far, and a pass goes on from where another has ended.
#[test]
fn running_pooling_is_that_of_the_prefix() {
    const STREAMS: usize = 3;
    let x = Numbers::new(3).draw::<f32>(6 * STREAMS * 3, 1.5);
    for pooling in RUNNING {
        let mut module = pooled::<f32>(pooling, CellKind::GruBefore, false, 0.3, 1);
        let mut stepped = module.new_state(STREAMS);
        for steps in 1..=6 {
            let prefix = &x[..steps * STREAMS * 3];
            let whole = module.run(&Ragged::even(steps, STREAMS), prefix, None);
            let y = module.step(&prefix[(steps - 1) * STREAMS * 3..], &mut stepped).expect("it goes step by step");
            assert_same_bits(&format!("{pooling:?} after {steps} steps"), y, &whole.output);
            assert_same_bits(&format!("state after {steps} steps"), &numbers_of(&stepped), &numbers_of(&whole.last));
            // The rest in one pass, from there.
            let rest = module.run(&Ragged::even(6 - steps, STREAMS), &x[prefix.len()..], Some(&stepped));
            let all = module.run(&Ragged::even(6, STREAMS), &x, None);
            if pooling != Pooling::Last || steps < 6 {
                assert_same_bits(&format!("{pooling:?} cut after {steps} steps"), &rest.output, &all.output);
            }
            assert_eq!(rest.last, all.last, "{pooling:?} cut after {steps} steps");
        }
    }
}

#[test]
fn what_needs_the_whole_sequence_has_no_steps() {
    for (pooling, bidirectional, who) in
        Pooling::ALL.map(|pooling| (pooling, true, "rnn")).into_iter().chain([(Pooling::Attention, false, "pool")])
    {
        let mut module = pooled::<f32>(pooling, CellKind::Lstm, bidirectional, 0.0, 1);
        let mut state = module.new_state(1);
        match module.step(&[1.0; 3], &mut state) {
            Err(Error::NoSteps { module, .. }) => assert_eq!(module, who, "{pooling:?}"),
            other => panic!("{pooling:?}: expected an error, got {other:?}"),
        }
    }
}

/// NaN is not lost among the largest values.
#[test]
fn a_largest_value_that_is_not_a_number() {
    let mut module = pooled::<f32>(Pooling::Max, CellKind::RnnTanh, false, 0.0, 1);
    let mut x = vec![0.5; 3 * 3];
    x[3] = f32::NAN;
    let output = module.run(&Ragged::even(3, 1), &x, None).output;
    assert!(output.iter().all(|x| x.is_nan()), "{output:?}");
}
