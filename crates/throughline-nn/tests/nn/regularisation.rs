//! What regularises training: masks of dropout that a sequence keeps, tokens that are dropped whole, penalties on
//! activations.

use crate::common::{
    Batch, Model, Numbers, StreamReader, assert_close_tensors, check_gradients, packed, standalone, training,
};
use throughline_kernels::Isa;
use throughline_kernels::cells::CellKind;
use throughline_kernels::ops::Dropout;
use throughline_kernels::random::Philox;
use throughline_kernels::sequence::Ragged;
use throughline_kernels::threads::Threads;
use throughline_nn::checkpointing::Checkpointing;
use throughline_nn::heads::Softmax;
use throughline_nn::initialise::Initialise;
use throughline_nn::layers::recurrent::ActivationPenalty;
use throughline_nn::layers::{Embedding, Pool, Pooling, Recurrent, RecurrentConfig};
use throughline_nn::module::TapeSetting;
use throughline_nn::parameters::{Builder, DropoutMask};
use throughline_nn::standalone::Standalone;
use throughline_nn::{Cpu, Layer, Module, Network, Pass};
use throughline_testkit::assert_same_bits;

/// Against the five-point difference of the model's own loss in f64, and its step.
const DIFFERENCE_TOLERANCE: f64 = 1e-9;
const DIFFERENCE_STEP: f64 = 1e-4;

/// Large, so that it counts.
const PENALTY: ActivationPenalty = ActivationPenalty { activation: 20.0, temporal: 30.0 };
const LENGTHS: [usize; 5] = [4, 0, 6, 1, 3];
const INPUT: usize = 5;
const HIDDEN: usize = 6;

fn config(layers: usize, bidirectional: bool) -> RecurrentConfig {
    let one = RecurrentConfig::new(CellKind::Lstm, INPUT, HIDDEN);
    RecurrentConfig { layers, bidirectional, dropout: if layers > 1 { 0.4 } else { 0.0 }, ..one }
}

/// Two layers with dropout between them and after them, one mask for each sequence.
fn locked(bidirectional: bool) -> (Recurrent, Builder) {
    let mut builder = Builder::new().with_dropout_mask(DropoutMask::Sequence);
    let stack = Recurrent::new(&mut builder, "rnn", config(2, bidirectional)).with_dropout(&mut builder, 0.3);
    (stack, builder)
}

fn philox(pass: Pass) -> Philox {
    let Pass::Training(philox) = pass else { unreachable!("it trains") };
    philox
}

#[test]
fn a_sequence_keeps_its_mask() {
    let (rows, pass) = (Ragged::new(&LENGTHS), training(17));
    let x = Numbers::new(2).draw::<f32>(rows.rows() * INPUT, 1.0);
    let (module, builder) = locked(true);
    let mut stack = standalone::<f32, _>(module, builder, 1, 0.6);
    stack.set_pass(pass);
    let got = stack.run(&rows, &x, None).output;

    // Layer by layer, with the masks by hand.
    let drop = |rate: f32, place: u32, y: &mut [f32]| {
        rows.for_each_row(|row, sequence, _| {
            let dropout = Dropout { philox: philox(pass), rate, place };
            let (isa, width) = (Isa::detect(), 2 * HIDDEN);
            dropout.apply(isa, Threads::ONE, &mut y[row * width..][..width], width, &|_| (sequence as u32, 0));
        });
    };
    let mut want = x.clone();
    for (layer, (rate, place)) in [(0.4, 0), (0.3, u32::MAX)].into_iter().enumerate() {
        let input = if layer == 0 { INPUT } else { 2 * HIDDEN };
        let mut builder = Builder::new();
        let module = Recurrent::new(&mut builder, "rnn", RecurrentConfig { input, ..config(1, true) });
        let mut one = Standalone::<_, f32>::of(module, builder, &Initialise::new(0), Cpu::new(1));
        one.set_parameters(|layout, to| {
            for tensor in layout.tensors() {
                let id = stack.layout().find(&tensor.name().replace("_l0", &format!("_l{layer}"))).expect("its own");
                to[tensor.range()].copy_from_slice(stack.layout().view(stack.parameters(), id));
            }
        });
        want = one.run(&rows, &want, None).output;
        drop(rate, place, &mut want);
    }
    assert_same_bits("output", &got, &want);
}

#[test]
fn masks_of_sequences_have_their_gradients() {
    let rows = Ragged::new(&LENGTHS);
    for bidirectional in [false, true] {
        let (module, builder) = locked(bidirectional);
        let mut stack = standalone::<f64, _>(module, builder, 1, 0.6);
        stack.set_pass(training(5));
        let x = Numbers::new(3).draw::<f64>(rows.rows() * INPUT, 1.0);
        check_gradients("one mask for a sequence", &mut stack, &rows, &x, None);
    }
}

/// Neither threads nor checkpointing change a bit of the output and of dx, with penalties too.
#[test]
fn nothing_depends_on_how_a_batch_is_computed() {
    let rows = Ragged::new(&[9, 7, 7, 2]);
    let x = Numbers::new(4).draw::<f32>(rows.rows() * INPUT, 1.0);
    let dy = Numbers::new(5).draw::<f32>(rows.rows() * HIDDEN, 1.0);
    let run = |threads: usize, checkpointing: Checkpointing| {
        let (module, builder) = locked(false);
        let mut stack = standalone::<f32, _>(module.with_penalty(PENALTY), builder, threads, 0.6);
        stack.set(TapeSetting::Checkpointing(checkpointing));
        stack.set_pass(training(5));
        let output = stack.run(&rows, &x, None).output;
        (output, stack.backward(&rows, &x, None, Some(&dy), None).x)
    };
    let want = run(1, Checkpointing::Off);
    for (threads, checkpointing) in [(2, Checkpointing::Off), (1, Checkpointing::every(2)), (2, Checkpointing::Auto)] {
        let got = run(threads, checkpointing);
        assert_same_bits("output", &got.0, &want.0);
        assert_same_bits("dx", &got.1, &want.1);
    }
}

fn tokens_dropped(rate: f32) -> Network<StreamReader, Softmax> {
    let mut builder = Builder::new();
    let embedding = Embedding::new(&mut builder, "embedding", 7, INPUT).with_dropout(&mut builder, 0.2);
    let embedding = embedding.with_token_dropout(&mut builder, rate);
    let stack = Recurrent::new(&mut builder, "rnn", config(1, false));
    let head = Softmax::new(&mut builder, "head", HIDDEN, 7);
    embedding.then(stack).ending_in(head, builder)
}

/// The same bits as a table whose rows were dropped beforehand.
#[test]
fn a_token_is_dropped_in_the_whole_update() {
    let (batch, pass) = (Batch::<f32>::window(7, 9, 4, 0), training(3));
    let mut model = Model::<f32, _>::new(tokens_dropped(0.4), 1, 4, 0.6);
    let mut gradients = model.network.layout().zeros();
    let got = batch.learn(&mut model, pass, &mut gradients);
    let mut by_hand = Model::<f32, _>::new(tokens_dropped(0.0), 1, 4, 0.6);
    let mut kept = [true; 7];
    by_hand.set(|layout, parameters| {
        let table = layout.view_mut(parameters, layout.find("embedding.weight").expect("the table"));
        for (token, row) in table.chunks_mut(INPUT).enumerate() {
            // The second place of dropout that is not between layers.
            let number = f64::from(philox(pass).block([u32::MAX - 1, token as u32, 0, 0])[0]) / 4_294_967_296.0;
            kept[token] = number >= f64::from(0.4f32);
            let factor = if kept[token] { (1.0 / (1.0 - f64::from(0.4f32))) as f32 } else { 0.0 };
            row.iter_mut().for_each(|x| *x *= factor);
        }
    });
    assert!(kept.contains(&true) && kept.contains(&false), "{kept:?}");
    assert_eq!(got, batch.learn(&mut by_hand, pass, &mut gradients));
    let mut plain = Model::<f32, _>::new(tokens_dropped(0.0), 1, 4, 0.6);
    assert_eq!(batch.evaluate(&mut model), batch.evaluate(&mut plain), "in training alone");
}

#[test]
fn dropped_tokens_have_their_gradients() {
    let mut model = Model::<f64, _>::new(tokens_dropped(0.4), 1, 4, 0.6);
    let (batch, layout) = (Batch::<f64>::window(7, 9, 4, 2), model.network.layout().clone());
    let mut got = layout.zeros();
    batch.learn(&mut model, training(3), &mut got);
    let want = model.differences(DIFFERENCE_STEP, |model| batch.learn(model, training(3), &mut layout.zeros()).mean());
    assert_close_tensors("gradient", &layout, &got, &want, DIFFERENCE_TOLERANCE);
}

/// The penalties on a stack's output, `raw` before its dropout and `dropped` after it, sequence by sequence.
fn penalty(rows: &Ragged, width: usize, raw: &[f64], dropped: &[f64], boundary: impl Fn(usize, usize) -> bool) -> f64 {
    let mut sequences = vec![Vec::new(); rows.batch()];
    rows.for_each_row(|row, sequence, _| sequences[sequence].push(&raw[row * width..][..width]));
    let (mut differences, mut pairs) = (0.0, 0);
    for (sequence, rows) in sequences.iter().enumerate() {
        for (_, two) in rows.windows(2).enumerate().filter(|(t, _)| !boundary(sequence, t + 1)) {
            pairs += 1;
            differences += two[0].iter().zip(two[1]).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        }
    }
    let squares: f64 = dropped.iter().map(|y| y * y).sum();
    PENALTY.activation * squares / dropped.len() as f64 + PENALTY.temporal * differences / (pairs * width) as f64
}

/// The rows of the stack in a network with the parameters `parameters`, with dropout after it at `rate`.
fn rows_of(stack: RecurrentConfig, rate: f32, batch: &Batch<f64>, parameters: &[f64], pass: Pass) -> Vec<f64> {
    let mut builder = Builder::new();
    let embedding = Embedding::new(&mut builder, "embedding", 7, INPUT).with_dropout(&mut builder, 0.2);
    let recurrent = Recurrent::new(&mut builder, "rnn", stack).with_dropout(&mut builder, rate);
    let mut module = standalone::<f64, _>(embedding.then(recurrent), builder, 1, 1.0);
    // The head's parameters are the last.
    module.set_parameters(|_, to| to.copy_from_slice(&parameters[..to.len()]));
    module.set_pass(pass);
    module.run(&batch.rows, &batch.tokens, None).output
}

/// The gradient of a network whose stack is penalised, against the loss of its head and the penalties by hand.
fn check_penalty<B: Module<f64, Input = [u32]>>(
    name: &str,
    network: Network<B, Softmax>,
    (stack, output_rate): (RecurrentConfig, f32),
    batch: &Batch<f64>,
    boundary: impl Fn(usize, usize) -> bool + Copy,
) {
    let (mut model, pass) = (Model::<f64, _>::new(network, 1, 4, 0.6), training(3));
    let layout = model.network.layout().clone();
    let mut got = layout.zeros();
    batch.learn(&mut model, pass, &mut got);
    let want = model.differences(DIFFERENCE_STEP, |model| {
        let raw = rows_of(stack, 0.0, batch, &model.parameters, pass);
        let dropped = rows_of(stack, output_rate, batch, &model.parameters, pass);
        let own = penalty(&batch.rows, stack.output(), &raw, &dropped, boundary);
        batch.learn(model, pass, &mut layout.zeros()).mean() + own
    });
    assert_close_tensors(name, &layout, &got, &want, DIFFERENCE_TOLERANCE);
}

#[test]
fn penalties_of_a_language_model() {
    let stack = config(2, false);
    let mut builder = Builder::new();
    let embedding = Embedding::new(&mut builder, "embedding", 7, INPUT).with_dropout(&mut builder, 0.2);
    let recurrent = Recurrent::new(&mut builder, "rnn", stack).with_dropout(&mut builder, 0.3).with_penalty(PENALTY);
    let head = Softmax::new(&mut builder, "head", HIDDEN, 7);
    let network = embedding.then(recurrent).ending_in(head, builder);
    check_penalty("a window", network.clone(), (stack, 0.3), &Batch::window(7, 6, 3, 2), |_, _| false);
    let boundary = |sequence: usize, t: usize| (sequence, t) == (0, 2) || t == 4;
    let mut ragged = Batch::window(7, LENGTHS.iter().sum(), 1, 0);
    ragged.rows = Ragged::new(&LENGTHS);
    ragged.rows.set_resets(boundary);
    check_penalty("a ragged batch with boundaries", network, (stack, 0.3), &ragged, boundary);
}

/// Also where the rows have no gradient but that of the penalties.
#[test]
fn penalties_of_a_classifier() {
    let stack = config(1, true);
    for pooling in [Pooling::LastStates, Pooling::Mean] {
        let mut builder = Builder::new();
        let embedding = Embedding::new(&mut builder, "embedding", 7, INPUT).with_dropout(&mut builder, 0.2);
        let recurrent = Recurrent::new(&mut builder, "rnn", stack).with_penalty(PENALTY);
        let pooled = Pool::of(&mut builder, "pool", recurrent, pooling).with_dropout(&mut builder, 0.3);
        let head = Softmax::new(&mut builder, "head", 2 * HIDDEN, 3);
        let network = embedding.then(pooled).ending_in(head, builder);
        check_penalty(&format!("{pooling:?}"), network, (stack, 0.0), &Batch::texts(7, 3, &LENGTHS), |_, _| false);
    }
}

/// The batches of an update share its penalties by their weight, and an evaluation has none.
#[test]
fn penalties_are_a_mean_over_the_update() {
    let network = |penalty| {
        let mut builder = Builder::new();
        let embedding = Embedding::new(&mut builder, "embedding", 7, INPUT);
        let stack = Recurrent::new(&mut builder, "rnn", config(1, false)).with_penalty(penalty);
        let head = Softmax::new(&mut builder, "head", HIDDEN, 7);
        embedding.then(stack).ending_in(head, builder)
    };
    let mut model = Model::<f64, _>::new(network(PENALTY), 1, 4, 0.6);
    let layout = model.network.layout().clone();
    let whole = Batch::<f64>::window(7, 5, 4, 0);
    let half = |first: usize| {
        let of_half = |all: &[u32]| all.chunks(4).flat_map(|step| step[first..first + 2].to_vec()).collect();
        let (tokens, targets) = (of_half(&whole.tokens), of_half(&whole.targets));
        Batch { rows: Ragged::even(5, 2), tokens, targets, scored: None, normaliser: Some(20.0), start: None }
    };
    let (mut want, mut got) = (layout.zeros(), layout.zeros());
    let loss = whole.learn(&mut model, training(1), &mut want);
    for first in [0, 2] {
        half(first).learn(&mut model, training(1), &mut got);
    }
    assert_close_tensors("gradient", &layout, &got, &want, 1e-13);

    let mut plain = Model::<f64, _>::new(network(ActivationPenalty::default()), 1, 4, 0.6);
    assert_eq!(whole.learn(&mut plain, training(1), &mut layout.zeros()), loss, "the loss is the head's");
    let gradients = |model: &mut Model<f64, _>, pass| {
        let mut gradients = layout.zeros();
        whole.learn(model, pass, &mut gradients);
        gradients.to_vec()
    };
    assert_same_bits("traced", &gradients(&mut model, Pass::Traced), &gradients(&mut plain, Pass::Traced));
    assert_ne!(gradients(&mut model, training(1)), gradients(&mut plain, training(1)));
}

/// A text that is read alone has the masks that it has as the first of a batch.
#[test]
fn a_text_has_its_masks_in_any_batch() {
    let texts: Vec<Vec<u32>> = [5, 3, 4].iter().map(|&length| Numbers::new(6).tokens(length, 7)).collect();
    let run = |texts: &[Vec<u32>]| {
        let (rows, tokens) = packed(texts);
        let mut builder = Builder::new().with_dropout_mask(DropoutMask::Sequence);
        let embedding = Embedding::new(&mut builder, "embedding", 7, INPUT).with_dropout(&mut builder, 0.5);
        let embedding = embedding.with_token_dropout(&mut builder, 0.3);
        let parameters = Numbers::new(7).parameters::<f32>(builder.layout(), 1.0);
        let mut module = Standalone::<_, f32>::of(embedding, builder, &Initialise::new(0), Cpu::new(1));
        module.set_parameters(|_, to| to.copy_from_slice(&parameters));
        module.set_pass(training(8));
        let output = module.run(&rows, &tokens, None).output;
        let mut first = Vec::new();
        rows.for_each_row(|row, sequence, _| {
            if sequence == 0 {
                first.extend_from_slice(&output[row * INPUT..][..INPUT]);
            }
        });
        first
    };
    assert_same_bits("the first text", &run(&texts), &run(&texts[..1]));
}
