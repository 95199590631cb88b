//! Wrong use panics with a message that names what does not fit; nothing wrong is computed in silence.

use std::ops::Range;

use crate::common::{Batch, Dropouts, Model, Numbers, StreamReader, language_model, panic_of, standalone, training};
use throughline_kernels::cells::CellKind;
use throughline_kernels::sequence::Ragged;
use throughline_nn::concat::Concat;
use throughline_nn::heads::Softmax;
use throughline_nn::layers::recurrent::{InitialState, RecurrentRegularisation};
use throughline_nn::layers::{Embedding, Linear, Pool, Pooling, Recurrent, RecurrentConfig};
use throughline_nn::network::{Input, Wanted};
use throughline_nn::parameters::Builder;
use throughline_nn::standalone::Standalone;
use throughline_nn::state::StateShape;
use throughline_nn::{Layer, Module, Pass, State, weights};

const INPUT: usize = 3;

#[track_caller]
fn expect<T>(what: &str, expected: &str, work: impl FnOnce() -> T) {
    let message = panic_of(work);
    assert!(message.contains(expected), "{what}: expected a message with `{expected}`, found `{message}`");
}

fn config(cell: CellKind) -> RecurrentConfig {
    RecurrentConfig { layers: 2, ..RecurrentConfig::new(cell, INPUT, 4) }
}

fn stack(cell: CellKind) -> Standalone<Recurrent, f32> {
    let mut builder = Builder::new();
    let recurrent = Recurrent::new(&mut builder, "rnn", config(cell));
    standalone(recurrent, builder, 1, 0.5)
}

/// Everything that backward must refuse, and then what it must take.
fn check_pairing<M: Module<f32, Input = [f32]>>(name: &str, mut module: Standalone<M, f32>) {
    let rows = Ragged::new(&[3, 1, 2]);
    let mut numbers = Numbers::new(1);
    let x = numbers.draw::<f32>(rows.rows() * INPUT, 1.0);
    let start = numbers.state(&module.module().state_shape(), 3, 0.5);
    let length = module.run(&rows, &x, None).output.len();
    let dy = numbers.draw::<f32>(length, 1.0);
    let first = "run forward on this batch first";

    for lengths in [[1, 3, 2], [3, 2, 1], [2, 2, 2]] {
        module.run(&rows, &x, None);
        let other = Ragged::new(&lengths);
        expect(&format!("{name} over {lengths:?}"), first, || {
            module.backward(&other, &x, None, Some(&dy), None);
        });
    }
    let mut bounded = rows.clone();
    bounded.set_resets(|sequence, t| sequence == 0 && t == 2);
    for (forward, backward) in [(&rows, &bounded), (&bounded, &rows)] {
        module.run(forward, &x, None);
        expect(&format!("{name} with other boundaries"), first, || {
            module.backward(backward, &x, None, Some(&dy), None);
        });
    }
    module.set_pass(Pass::Inference);
    module.run(&rows, &x, None);
    expect(&format!("{name} after inference"), first, || {
        module.backward(&rows, &x, None, Some(&dy), None);
    });
    module.set_pass(training(1));
    module.run(&rows, &x, None);
    for other in [training(2), Pass::Traced] {
        module.set_pass(other);
        expect(&format!("{name}, another pass"), "different kinds of pass", || {
            module.backward(&rows, &x, None, Some(&dy), None);
        });
    }
    module.set_pass(Pass::Traced);
    let mut half_begun = start.clone();
    half_begun.reset_where(&[false, true, false]);
    for (forward, backward) in [(None, Some(&start)), (Some(&start), None), (Some(&start), Some(&half_begun))] {
        module.run(&rows, &x, forward);
        expect(&format!("{name} from another state"), "different starts", || {
            module.backward(&rows, &x, backward, Some(&dy), None);
        });
    }
    module.run(&rows, &x, None);
    for wrong in [&dy[1..], &[&dy[..], &dy[..1]].concat()] {
        expect(&format!("dy of {name}"), "dy is [", || {
            module.backward(&rows, &x, None, Some(wrong), None);
        });
    }
    for wrong in [&x[1..], &[&x[..], &x[..1]].concat()] {
        expect(&format!("x of {name}"), "x is [N, ", || {
            module.run(&rows, wrong, None);
        });
    }
    // Backward cannot follow a step, if the module has steps.
    let mut state = module.new_state(1);
    module.run(&rows, &x, None);
    if module.step(&x[..INPUT], &mut state).is_ok() {
        expect(&format!("{name} after a step"), "first", || {
            module.backward(&rows, &x, None, Some(&dy), None);
        });
        expect(&format!("x of a step of {name}"), "x is [", || {
            module.step(&x[..INPUT + 1], &mut state).expect("it has steps");
        });
    }
    module.run(&rows, &x, Some(&start));
    module.backward(&rows, &x, Some(&start), Some(&dy), Some(&start));
}

#[test]
fn backward_repeats_forward() {
    check_pairing("a stack", stack(CellKind::Lstm));
    let mut builder = Builder::new();
    let linear = Linear::new(&mut builder, "linear", INPUT, 4).with_dropout(&mut builder, 0.5);
    check_pairing("a linear map", standalone(linear, builder, 1, 0.5));
    let mut builder = Builder::new();
    let [a, b] = ["a", "b"].map(|name| Recurrent::new(&mut builder, name, config(CellKind::GruAfter)));
    check_pairing("a pair", standalone(Concat::new(a, b), builder, 1, 0.5));
    for pooling in Pooling::ALL {
        let mut builder = Builder::new();
        let recurrent = Recurrent::new(&mut builder, "rnn", config(CellKind::GruAfter));
        let pool = Pool::of(&mut builder, "pool", recurrent, pooling).with_dropout(&mut builder, 0.5);
        check_pairing(&format!("{pooling:?}"), standalone(pool, builder, 1, 0.5));
    }
}

/// A pooling can be taken out of its chain and be given rows that are not its stack's.
#[test]
fn pooling_alone_reads_rows_of_its_width() {
    let rows = Ragged::new(&[3, 1]);
    for pooling in Pooling::ALL {
        let mut builder = Builder::new();
        let recurrent = Recurrent::new(&mut builder, "rnn", config(CellKind::Lstm));
        let chain = Pool::of(&mut builder, "pool", recurrent, pooling);
        let mut pool = standalone::<f32, _>(chain.second().clone(), builder, 1, 0.5);
        for wrong in [15, 17] {
            expect(&format!("x of {pooling:?}"), "x is [N, 4]", || pool.run(&rows, &vec![0.5; wrong], None));
        }
    }
}

#[test]
fn backward_without_forward() {
    let rows = Ragged::even(2, 1);
    expect("a fresh stack", "run forward on this batch first", || {
        stack(CellKind::Lstm).backward(&rows, &[0.0; 6], None, None, None);
    });
}

/// States of another module, of another number of streams, or with an array too few.
#[test]
fn states_fit() {
    let rows = Ragged::new(&[3, 1]);
    let x = vec![0.5; 4 * INPUT];
    let mut lstm = stack(CellKind::Lstm);
    let shape = lstm.module().state_shape();
    let mut wide = StateShape::default();
    shape.arrays().for_each(|(name, width)| wide.push(name.to_owned(), width + 1));
    let wrong = [
        ("a GRU's", stack(CellKind::GruAfter).new_state(2), "does not have the arrays"),
        ("three streams'", lstm.new_state(3), "one stream for each sequence"),
        ("a wider stack's", State::new(&wide, 2), "is [B, H]"),
    ];
    for (name, mut state, expected) in wrong {
        state.begin();
        expect(&format!("a start that is {name}"), expected, || {
            lstm.run(&rows, &x, Some(&state));
        });
        lstm.run(&rows, &x, None);
        expect(&format!("a d_last that is {name}"), expected, || {
            lstm.backward(&rows, &x, None, None, Some(&state));
        });
        let module = lstm.module();
        let arrays_fit = state.arrays().len() == 4;
        let expected = if arrays_fit { "is [B, H]" } else { "does not have the arrays" };
        expect(&format!("an end that is {name}"), expected, || {
            module.end(&rows, lstm.module_tape(), state.arrays_mut());
        });
        if state.streams() == 2 {
            expect(&format!("a step's state that is {name}"), expected, || {
                lstm.step(&x[..2 * INPUT], &mut state).expect("it has steps");
            });
        }
    }
    // The state of another module, with too few arrays for the first of a chain.
    let mut builder = Builder::new();
    let recurrent = Recurrent::new(&mut builder, "rnn", config(CellKind::Lstm));
    let chain = recurrent.then(Linear::new(&mut builder, "linear", 4, 2));
    let mut chain = standalone::<f32, _>(chain, builder, 1, 0.5);
    chain.run(&rows, &x, None);
    let mut few = stack(CellKind::RnnTanh).new_state(2);
    expect("too few arrays", "the state has 2 arrays", || {
        chain.module().end(&rows, chain.module_tape(), few.arrays_mut());
    });
    expect("a mask", "one entry for each stream", || lstm.new_state(2).reset_where(&[true]));
}

#[test]
fn what_is_asked_after_a_pass_is_of_that_pass() {
    let (rows, other) = (Ragged::new(&[3, 2]), Ragged::new(&[2, 3]));
    let x = vec![0.5; 5 * INPUT];
    let mut lstm = stack(CellKind::Lstm);
    let mut state = lstm.new_state(2);
    expect("the end of nothing", "no forward pass has finished", || {
        lstm.module().end(&rows, lstm.module_tape(), state.arrays_mut());
    });
    expect("the output of nothing", "no forward pass has finished", || {
        lstm.module().output(&rows, lstm.module_tape());
    });
    lstm.run(&rows, &x, None);
    expect("the end of another batch", "not [2, 3]", || {
        lstm.module().end(&other, lstm.module_tape(), state.arrays_mut());
    });
    expect("the output of another batch", "another number of rows", || {
        lstm.module().output(&Ragged::even(1, 1), lstm.module_tape());
    });
    for (steps, expected) in [(3, "not every sequence has 3 steps"), (4, "not every sequence has 4 steps")] {
        expect("mid-sequence", expected, || {
            lstm.module().state_after(&rows, steps, lstm.module_tape(), state.arrays_mut());
        });
    }
    lstm.module().state_after(&rows, 2, lstm.module_tape(), state.arrays_mut());
    lstm.set_pass(Pass::Inference);
    lstm.run(&rows, &x, None);
    expect("mid-sequence of inference", "kept no tape", || {
        lstm.module().state_after(&rows, 2, lstm.module_tape(), state.arrays_mut());
    });
    let mut builder = Builder::new();
    let both = RecurrentConfig { bidirectional: true, ..config(CellKind::Lstm) };
    let mut both = standalone::<f32, _>(Recurrent::new(&mut builder, "rnn", both), builder, 1, 0.5);
    both.run(&rows, &x, None);
    let mut state = both.new_state(2);
    expect("a stack that reads backward", "has no state in mid-sequence", || {
        both.module().state_after(&rows, 1, both.module_tape(), state.arrays_mut());
    });
    let mut builder = Builder::new();
    let recurrent = Recurrent::new(&mut builder, "rnn", config(CellKind::Lstm));
    let mean = Pool::of(&mut builder, "pool", recurrent, Pooling::Mean);
    let mut mean = standalone::<f32, _>(mean, builder, 1, 0.5);
    mean.run(&rows, &x, None);
    let mut state = mean.new_state(2);
    expect("a mean in mid-sequence", "is not kept", || {
        mean.module().state_after(&rows, 1, mean.module_tape(), state.arrays_mut());
    });
}

fn model() -> Model<f32, StreamReader> {
    Model::new(language_model(config(CellKind::Lstm), 6, false, Dropouts::default()), 1, 4, 0.5)
}

#[test]
fn networks_name_what_does_not_fit() {
    let mut model = model();
    let mut gradients = model.network.layout().zeros::<f32>();
    let batch = Batch::window(6, 4, 2, 0);
    let wrong: [(&str, Batch<f32>, &str); 8] = [
        ("tokens", Batch { tokens: batch.tokens[1..].to_vec(), ..batch.clone() }, "one token for each packed row"),
        ("a token", Batch { tokens: vec![6; 8], ..batch.clone() }, "6"),
        ("targets", Batch { targets: batch.targets[1..].to_vec(), ..batch.clone() }, "one target for each"),
        ("a target", Batch { targets: vec![6; 8], ..batch.clone() }, "6"),
        (
            "scored rows",
            Batch { scored: Some(5..9), targets: vec![0; 9], ..batch.clone() },
            "one target for each of 8 rows",
        ),
        ("no rows", Batch { scored: Some(Range { start: 5, end: 3 }), ..batch.clone() }, "rows 5..3 are"),
        ("a normaliser", Batch { normaliser: Some(f64::NAN), ..batch.clone() }, "the normaliser must be"),
        ("a negative normaliser", Batch { normaliser: Some(-1.0), ..batch.clone() }, "the normaliser must be"),
    ];
    for (name, batch, expected) in wrong {
        expect(name, expected, || {
            batch.learn(&mut model, Pass::Traced, &mut gradients);
        });
        if !name.contains("normaliser") {
            expect(name, expected, || {
                batch.evaluate(&mut model);
            });
        }
    }
    expect("an inference pass", "call `evaluate` instead", || {
        batch.learn(&mut model, Pass::Inference, &mut gradients);
    });
    expect("gradients", "in the layout of the parameters", || {
        batch.learn(&mut model, Pass::Traced, &mut gradients[1..]);
    });
    let gru = language_model(config(CellKind::GruAfter), 6, false, Dropouts::default());
    let state = State::<f32>::new(&gru.state_shape(), 2);
    expect("a GRU's state", "does not have the arrays of this model", || {
        Batch { start: Some(state.clone()), ..batch.clone() }.evaluate(&mut model);
    });
    let parameters = model.parameters.clone();
    let (network, weights, workspace) = model.borrowed();
    expect("a GRU's state in a step", "does not have the arrays of this model", || {
        network.step(weights, &[1, 2], &mut state.clone(), workspace).expect("it reads forward");
    });
    let mut own = State::<f32>::new(&network.state_shape(), 2);
    expect("tokens of a step", "one token for each stream", || {
        network.step(weights, &[1], &mut own, workspace).expect("it reads forward");
    });
    expect("parameters", "in the network's layout", || {
        network.packed(weights.cpu, &parameters[1..], true);
    });
    expect("parameters of a file", "in the layout given with them", || {
        weights::save("{}", network.layout(), &parameters[1..]);
    });
    let packed = network.packed(weights.cpu, &parameters, false);
    let weights = throughline_nn::network::Weights { packed: &packed, ..weights };
    let (input, wanted) = (Input::new(&batch.rows, &batch.tokens[..]), Wanted::new(&batch.targets[..]));
    expect("weights for inference", "packed for inference", || {
        network.learn(weights, input, wanted, Pass::Traced, &mut gradients, workspace);
    });
}

#[test]
fn constructors_refuse_what_cannot_be() {
    let builder = &mut Builder::new();
    expect("V", "V and F are at least 1", || Embedding::new(builder, "a", 0, 3));
    expect("O", "I and O are at least 1", || Linear::new(builder, "b", 3, 0));
    expect("K", "I and O are at least 1", || Softmax::new(builder, "c", 3, 0));
    let none = RecurrentConfig { layers: 0, ..config(CellKind::Lstm) };
    expect("L", "I, H and L are at least 1", || Recurrent::new(builder, "d", none));
    Linear::new(builder, "e", 3, 2);
    expect("a name", "two tensors are named `e.weight`", || Linear::new(builder, "e", 3, 2));
    for rate in [1.0, -0.1, f32::NAN, f32::INFINITY] {
        let expected = "a dropout rate is at least 0 and below 1";
        let (linear, embedding) =
            (Linear::new(builder, &format!("f{rate}"), 3, 2), Embedding::new(builder, &format!("g{rate}"), 3, 2));
        expect("a rate", expected, || linear.with_dropout(builder, rate));
        expect("a rate", expected, || embedding.with_dropout(builder, rate));
        let stack = Recurrent::new(builder, &format!("h{rate}"), config(CellKind::Lstm));
        expect("a rate", expected, || stack.clone().with_dropout(builder, rate));
        let pooled = Pool::of(builder, &format!("i{rate}"), stack, Pooling::Mean);
        expect("a rate", expected, || pooled.with_dropout(builder, rate));
        let between = RecurrentConfig { dropout: rate, initial_state: InitialState::Zero, ..config(CellKind::Lstm) };
        expect("a rate", expected, || Recurrent::new(builder, "j", between));
        let weights = RecurrentRegularisation { weight_dropout: rate, ..RecurrentRegularisation::default() };
        let weights = RecurrentConfig { regularisation: weights, ..config(CellKind::Lstm) };
        expect("a rate", expected, || Recurrent::new(builder, "k", weights));
    }
    let candidate = RecurrentRegularisation { candidate_dropout: 0.1, ..RecurrentRegularisation::default() };
    let plain = RecurrentConfig { regularisation: candidate, ..config(CellKind::RnnRelu) };
    let expected = "the cell rnn_relu has no candidate to drop";
    expect("candidate dropout", expected, || Recurrent::new(builder, "l", plain));
}
