//! Whole models: the gradient of every parameter, and the same bits whatever the threads, the batch or the cut.

use crate::common::{
    Batch, Dropouts, Model, StreamReader, TextReader, assert_close_tensors, classifier, language_model, numbers_of,
    packed, training,
};
use throughline_kernels::buffer::Buffer;
use throughline_kernels::cells::CellKind;
use throughline_kernels::for_each_cell;
use throughline_kernels::ops::IGNORED;
use throughline_nn::heads::Softmax;
use throughline_nn::layers::recurrent::InitialState;
use throughline_nn::layers::{Pooling, RecurrentConfig};
use throughline_nn::{Module, Network, Pass};
use throughline_testkit::{assert_close, assert_same_bits};

/// Against the five-point difference of the model's own loss in f64, and its step.
const DIFFERENCE_TOLERANCE: f64 = 1e-9;
const DIFFERENCE_STEP: f64 = 1e-4;
/// The loss of training against that of evaluation, in f64.
const LOSS_TOLERANCE: f64 = 1e-13;

const DROPOUTS: Dropouts = Dropouts { embedding: 0.2, output: 0.3 };
const LENGTHS: [usize; 10] = [7, 0, 12, 1, 7, 3, 9, 2, 11, 5];

fn stack(cell: CellKind, input: usize, hidden: usize, bidirectional: bool) -> RecurrentConfig {
    RecurrentConfig {
        layers: 2,
        bidirectional,
        dropout: 0.25,
        initial_state: InitialState::Learned,
        ..RecurrentConfig::new(cell, input, hidden)
    }
}

fn streams(stack: RecurrentConfig, vocabulary: usize, tied: bool) -> Network<StreamReader, Softmax> {
    language_model(stack, vocabulary, tied, DROPOUTS)
}

fn texts(stack: RecurrentConfig, vocabulary: usize, classes: usize) -> Network<TextReader, Softmax> {
    classifier(stack, vocabulary, classes, Pooling::LastStates, DROPOUTS)
}

fn check_gradient<B: Module<f64, Input = [u32]>>(name: &str, network: Network<B, Softmax>, batch: &Batch<f64>) {
    let mut model = Model::new(network, 1, 4, 0.7);
    let evaluated = batch.evaluate(&mut model);
    for (pass, how) in [(Pass::Traced, "without dropout"), (training(9), "with dropout")] {
        let mut got: Buffer<f64> = model.network.layout().zeros();
        let loss = batch.learn(&mut model, pass, &mut got);
        if pass == Pass::Traced {
            assert_eq!((loss.weight, loss.correct), (evaluated.weight, evaluated.correct), "{name}");
            assert_close(&format!("loss of {name}"), &[loss.mean()], &[evaluated.mean()], LOSS_TOLERANCE);
        } else {
            assert_ne!(loss.sum, evaluated.sum, "{name}: training drops something");
        }
        let want = model.differences(DIFFERENCE_STEP, |model| {
            let mut unused = model.network.layout().zeros();
            batch.learn(model, pass, &mut unused).mean()
        });
        let what = format!("{name}, {how}: gradient");
        assert_close_tensors(&what, model.network.layout(), &got, &want, DIFFERENCE_TOLERANCE);

        // Gradients add up.
        let mut twice = got.clone();
        batch.learn(&mut model, pass, &mut twice);
        let doubled: Vec<f64> = got.iter().map(|x| 2.0 * x).collect();
        assert_close(&format!("{what} twice"), &twice, &doubled, LOSS_TOLERANCE);
    }
}

fn check_gradients(cell: CellKind) {
    for (tied, input) in [(false, 3), (true, 4)] {
        let network = streams(stack(cell, input, 4, false), 6, tied);
        for (started, first_scored) in [(false, 0), (true, 2)] {
            let name = format!("language model of {}, tied {tied}, from a state {started}", cell.name());
            let batch = Batch::window(6, 4, 2, first_scored);
            let batch = if started { batch.started(&network.state_shape()) } else { batch };
            check_gradient(&name, network.clone(), &batch);
        }
    }
    for bidirectional in [false, true] {
        let name = format!("classifier of {}, bidirectional {bidirectional}", cell.name());
        let network = texts(stack(cell, 3, 4, bidirectional), 6, 3);
        check_gradient(&name, network, &Batch::texts(6, 3, &[2, 0, 3, 1]));
    }
}

/// The gradient is that of the mean which is returned: over the targets that count.
#[test]
fn ignored_targets() {
    fn check<B: Module<f64, Input = [u32]> + Clone>(name: &str, network: Network<B, Softmax>, batch: Batch<f64>) {
        // One target in `every` is ignored.
        let ignore = |every: usize| {
            let mut batch = batch.clone();
            batch.targets.iter_mut().step_by(every).for_each(|target| *target = IGNORED);
            batch
        };
        check_gradient(&format!("{name} with ignored targets"), network.clone(), &ignore(3));
        let mut model = Model::<f64, _>::new(network, 1, 4, 0.7);
        let mut gradients = model.network.layout().zeros();
        let loss = ignore(1).learn(&mut model, training(9), &mut gradients);
        assert_eq!((loss.weight, loss.mean()), (0.0, 0.0), "{name} without a target");
        assert!(gradients.iter().all(|&x| x == 0.0), "{name} without a target");
    }
    for first_scored in [0, 1] {
        let network = streams(stack(CellKind::Lstm, 3, 4, false), 6, false);
        check("language model", network, Batch::window(6, 4, 2, first_scored));
    }
    let network = texts(stack(CellKind::GruAfter, 3, 4, true), 6, 3);
    check("classifier", network, Batch::texts(6, 3, &[2, 0, 3, 1]));
}

/// Batches whose gradients are divided by the weight of all of them add up to all of them in one batch.
#[test]
fn batches_with_the_normaliser_of_the_whole_add_up_to_it() {
    let network = texts(stack(CellKind::Lstm, 3, 4, true), 6, 3);
    let all: Vec<Vec<u32>> = [3, 5, 1, 4].map(|length| vec![length as u32 % 6; length]).into();
    let classes = [0, IGNORED, 2, 1];
    let mut model = Model::<f64, _>::new(network, 1, 4, 0.7);
    let mut learn = |texts: std::ops::Range<usize>, normaliser: Option<f64>, gradients: &mut [f64]| {
        let batch = Batch { normaliser, ..Batch::of_texts(&all[texts.clone()], &classes[texts]) };
        batch.learn(&mut model, Pass::Traced, gradients)
    };
    let layout = texts_layout();
    let (mut want, mut got) = (layout.zeros(), layout.zeros());
    let whole = learn(0..4, None, &mut want);
    let mut sum = learn(0..2, Some(whole.weight), &mut got);
    sum += learn(2..4, Some(whole.weight), &mut got);
    assert_eq!((sum.weight, sum.correct), (3.0, whole.correct));
    assert_close("loss", &[sum.sum], &[whole.sum], LOSS_TOLERANCE);
    assert_close_tensors("gradient", &layout, &got, &want, LOSS_TOLERANCE);

    // A window of the whole's normaliser: the steps first, then the rest.
    let mut model = Model::<f64, _>::new(streams(stack(CellKind::GruBefore, 3, 4, false), 6, false), 1, 4, 0.7);
    let layout = model.network.layout().clone();
    let (mut want, mut got) = (layout.zeros(), layout.zeros());
    let batch = Batch::window(6, 5, 2, 0);
    let whole = batch.learn(&mut model, Pass::Traced, &mut want);
    let mut sum = throughline_nn::Loss::default();
    for scored in [0..4, 4..10] {
        let scored = Batch { scored: Some(scored), normaliser: Some(whole.weight), ..batch.clone() };
        sum += scored.learn(&mut model, Pass::Traced, &mut got);
    }
    assert_eq!((sum.weight, sum.correct), (whole.weight, whole.correct));
    assert_close("loss", &[sum.sum], &[whole.sum], LOSS_TOLERANCE);
    assert_close_tensors("gradient", &layout, &got, &want, LOSS_TOLERANCE);
}

fn texts_layout() -> throughline_nn::parameters::Layout {
    texts(stack(CellKind::Lstm, 3, 4, true), 6, 3).layout().clone()
}

fn check_threads(cell: CellKind) {
    fn check<B: Module<f32, Input = [u32]> + Clone>(cell: CellKind, network: Network<B, Softmax>, batch: &Batch<f32>) {
        let run = |threads: usize| {
            let mut model = Model::<f32, _>::new(network.clone(), threads, 4, 0.3);
            let mut gradients = model.network.layout().zeros();
            let loss = batch.learn(&mut model, training(9), &mut gradients);
            (loss, batch.evaluate(&mut model), gradients)
        };
        let want = run(1);
        for threads in [2, 3] {
            let got = run(threads);
            assert_eq!((got.0, got.1), (want.0, want.1), "losses of {} on {threads} threads", cell.name());
            assert_same_bits(&format!("gradients of {} on {threads} threads", cell.name()), &got.2, &want.2);
        }
    }
    let network = streams(stack(cell, 20, 33, false), 41, false);
    let batch = Batch::window(41, 12, 9, 4).started(&network.state_shape());
    check(cell, network, &batch);
    check(cell, streams(stack(cell, 33, 33, false), 41, true), &Batch::window(41, 7, 3, 0));
    check(cell, texts(stack(cell, 20, 33, true), 41, 5), &Batch::texts(41, 5, &LENGTHS));
}

/// The logits of a text are the same bits alone and in any batch.
fn check_alone(cell: CellKind) {
    let mut numbers = crate::common::Numbers::new(9);
    let texts: Vec<Vec<u32>> = LENGTHS.iter().map(|&length| numbers.tokens(length, 41)).collect();
    let mut model = Model::<f32, _>::new(self::texts(stack(cell, 20, 33, true), 41, 5), 2, 4, 0.3);
    let mut classify = |texts: &[Vec<u32>]| Batch::of_texts(texts, &[]).logits(&mut model);
    let alone: Vec<Vec<f32>> = texts.iter().map(|text| classify(std::slice::from_ref(text))).collect();
    for batch in [0..10, 2..7, 1..3] {
        let together = classify(&texts[batch.clone()]);
        assert_same_bits(&format!("logits of {} in {batch:?}", cell.name()), &together, &alone[batch].concat());
    }
}

/// A language model that reads a window at once or a unit at a time writes the same logits and reaches the same states.
fn check_steps(cell: CellKind) {
    let batch = Batch::<f32>::window(41, 6, 3, 0);
    let mut model = Model::<f32, _>::new(streams(stack(cell, 20, 33, false), 41, false), 1, 4, 0.3);
    let (mut whole, mut stepped) = (model.state(3), model.state(3));
    let total = batch.evaluate(&mut model);
    let logits = batch.logits(&mut model);
    let (network, weights, workspace) = model.borrowed();
    network.end(&batch.rows, workspace, &mut whole);
    let mut loss = 0.0;
    for ((inputs, targets), want) in batch.tokens.chunks(3).zip(batch.targets.chunks(3)).zip(logits.chunks(3 * 41)) {
        let logits = network.step(weights, inputs, &mut stepped, workspace).expect("it reads forward");
        assert_same_bits(&format!("logits of {} step by step", cell.name()), logits, want);
        for (logits, &target) in logits.chunks(41).zip(targets) {
            let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
            loss += sum.ln() - f64::from(logits[target as usize]);
        }
    }
    assert_eq!((whole.begun(), stepped.begun()), (&[true; 3][..], &[true; 3][..]));
    let name = format!("state of {} step by step", cell.name());
    assert_same_bits(&name, &numbers_of(&stepped), &numbers_of(&whole));
    assert_close(&format!("loss of {} step by step", cell.name()), &[loss], &[total.sum], 1e-6);
}

/// The tensors that files hold, in their order.
#[test]
fn names_of_parameters() {
    let names = |layout: &throughline_nn::parameters::Layout| -> Vec<String> {
        layout.tensors().iter().map(|tensor| format!("{} {:?}", tensor.name(), tensor.shape())).collect()
    };
    let lstm = |input, bidirectional| RecurrentConfig { layers: 1, ..stack(CellKind::Lstm, input, 4, bidirectional) };
    let forward = [
        "rnn.weight_ih_l0 [16, 3]",
        "rnn.weight_hh_l0 [16, 4]",
        "rnn.bias_ih_l0 [16]",
        "rnn.bias_hh_l0 [16]",
        "rnn.initial_h_l0 [4]",
        "rnn.initial_c_l0 [4]",
    ];
    let head = ["head.weight [6, 4]", "head.bias [6]"];
    let untied = [&["embedding.weight [6, 3]"][..], &forward, &head].concat();
    assert_eq!(names(streams(lstm(3, false), 6, false).layout()), untied);
    let tied = names(streams(lstm(4, false), 6, true).layout());
    assert_eq!((&tied[0][..], &tied[7][..], tied.len()), ("embedding.weight [6, 4]", "head.bias [6]", 8));

    let gru =
        RecurrentConfig { bias: false, initial_state: InitialState::Zero, ..stack(CellKind::GruAfter, 3, 4, true) };
    let want = [
        "embedding.weight [6, 3]",
        "rnn.weight_ih_l0 [12, 3]",
        "rnn.weight_hh_l0 [12, 4]",
        "rnn.weight_ih_l0_reverse [12, 3]",
        "rnn.weight_hh_l0_reverse [12, 4]",
        "rnn.weight_ih_l1 [12, 8]",
        "rnn.weight_hh_l1 [12, 4]",
        "rnn.weight_ih_l1_reverse [12, 8]",
        "rnn.weight_hh_l1_reverse [12, 4]",
        "head.weight [2, 8]",
        "head.bias [2]",
    ];
    assert_eq!(names(texts(gru, 6, 2).layout()), want);
    let attention = classifier(gru, 6, 2, Pooling::Attention, DROPOUTS);
    let own = ["pool.weight [8, 8]", "pool.bias [8]", "pool.query [8]"];
    assert_eq!(names(attention.layout()), [&want[..9], &own, &want[9..]].concat());

    let states: Vec<String> = streams(stack(CellKind::Lstm, 3, 4, false), 6, false)
        .state_shape()
        .arrays()
        .map(|(name, width)| format!("{name} {width}"))
        .collect();
    assert_eq!(states, ["rnn.h_l0 4", "rnn.h_l1 4", "rnn.c_l0 4", "rnn.c_l1 4"]);
    let states = texts(gru, 6, 2).state_shape();
    let states: Vec<&str> = states.arrays().map(|(name, _)| name).collect();
    assert_eq!(states, ["rnn.h_l0", "rnn.h_l0_reverse", "rnn.h_l1", "rnn.h_l1_reverse"]);
}

/// Every place that drops has the number it always had, and its masks follow (sequence, time): networks in training are
/// layers run one by one, with the masks applied by hand between them.
#[test]
fn sites_of_dropout() {
    use crate::common::Numbers;
    use throughline_kernels::ops::Dropout;
    use throughline_kernels::threads::Threads;
    use throughline_nn::Cpu;
    use throughline_nn::initialise::Initialise;
    use throughline_nn::layers::Recurrent;
    use throughline_nn::parameters::{Builder, Layout};
    use throughline_nn::standalone::Standalone;

    let config = RecurrentConfig { layers: 3, ..stack(CellKind::Lstm, 5, 6, true) };
    let pass = training(17);
    let Pass::Training(philox) = pass else { unreachable!("it trains") };
    let drop = |rate: f32, place: u32, width: usize, rows: &mut [f32], id: &(dyn Fn(usize) -> (u32, u32) + Sync)| {
        let dropout = Dropout { philox, rate, place };
        dropout.apply(throughline_kernels::Isa::detect(), Threads::ONE, rows, width, id);
    };
    let mut numbers = Numbers::new(5);
    let texts: Vec<Vec<u32>> = [4, 0, 6, 1].iter().map(|&length| numbers.tokens(length, 7)).collect();
    let (rows, tokens) = packed(&texts);
    let mut places = Vec::new();
    rows.for_each_row(|_, sequence, t| places.push((sequence as u32, t as u32)));
    let by_row = |row: usize| places[row];

    let tensor = |layout: &Layout, parameters: &[f32], name: &str| -> Vec<f32> {
        layout.view(parameters, layout.find(name).unwrap_or_else(|| panic!("no {name}"))).to_vec()
    };
    // The stack's rows before the last dropout, and the last states of its top layer.
    let by_hand = |layout: &Layout, parameters: &[f32]| {
        let table = tensor(layout, parameters, "embedding.weight");
        let mut x: Vec<f32> = tokens.iter().flat_map(|&token| table[token as usize * 5..][..5].to_vec()).collect();
        drop(DROPOUTS.embedding, u32::MAX, 5, &mut x, &by_row);
        let mut last = None;
        for layer in 0..3 {
            let one = RecurrentConfig { layers: 1, dropout: 0.0, input: if layer == 0 { 5 } else { 12 }, ..config };
            let mut builder = Builder::new();
            let module = Recurrent::new(&mut builder, "rnn", one);
            let mut stack = Standalone::<_, f32>::of(module, builder, &Initialise::new(0), Cpu::new(1));
            stack.set_parameters(|own, to| {
                for id in own.tensors().iter().map(|tensor| own.find(tensor.name()).expect("its own")) {
                    let name = own.tensor(id).name().replace("_l0", &format!("_l{layer}"));
                    own.view_mut(to, id).copy_from_slice(&tensor(layout, parameters, &name));
                }
            });
            let run = stack.run(&rows, &x, None);
            x = run.output;
            last = Some(run.last);
            if layer < 2 {
                drop(config.dropout, layer, 12, &mut x, &by_row);
            }
        }
        (x, last.expect("three layers"))
    };
    let logits = |layout: &Layout, parameters: &[f32], features: &[f32]| -> Vec<f64> {
        let (weight, bias) = (tensor(layout, parameters, "head.weight"), tensor(layout, parameters, "head.bias"));
        let row = |x: &[f32]| -> Vec<f64> {
            let sum = |(weight, bias): (&[f32], &f32)| {
                weight.iter().zip(x).fold(f64::from(*bias), |sum, (w, x)| sum + f64::from(*w) * f64::from(*x))
            };
            weight.chunks(12).zip(&bias).map(sum).collect()
        };
        features.chunks(12).flat_map(row).collect()
    };
    let loss = |logits: &[f64], targets: &[u32], classes: usize| -> f64 {
        let row = |(logits, &target): (&[f64], &u32)| {
            logits.iter().map(|x| x.exp()).sum::<f64>().ln() - logits[target as usize]
        };
        logits.chunks(classes).zip(targets).map(row).sum()
    };

    let mut model = Model::<f32, _>::new(streams(config, 7, false), 1, 4, 0.6);
    let layout = model.network.layout().clone();
    let batch =
        Batch { rows: rows.clone(), tokens: tokens.clone(), scored: None, ..Batch::window(7, rows.rows(), 1, 0) };
    let got = batch.learn(&mut model, pass, &mut layout.zeros());
    let (mut features, _) = by_hand(&layout, &model.parameters);
    drop(DROPOUTS.output, u32::MAX - 1, 12, &mut features, &by_row);
    let want = loss(&logits(&layout, &model.parameters, &features), &batch.targets, 7);
    assert_close("loss of the language model", &[got.sum], &[want], 1e-6);

    let mut model = Model::<f32, _>::new(self::texts(config, 7, 3), 1, 4, 0.6);
    let layout = model.network.layout().clone();
    let batch = Batch { rows: rows.clone(), tokens: tokens.clone(), ..Batch::texts(7, 3, &[1; 4]) };
    let got = batch.learn(&mut model, pass, &mut layout.zeros());
    let (_, last) = by_hand(&layout, &model.parameters);
    let of_sequence =
        |sequence| [last.array("rnn.h_l0").of(sequence), last.array("rnn.h_l0_reverse").of(sequence)].concat();
    let mut features: Vec<f32> = (0..4).flat_map(of_sequence).collect();
    drop(DROPOUTS.output, u32::MAX - 1, 12, &mut features, &|row| (row as u32, 0));
    let want = loss(&logits(&layout, &model.parameters, &features), &batch.targets, 3);
    assert_close("loss of the classifier", &[got.sum], &[want], 1e-6);
}

/// Two stacks of one model drop by different masks.
#[test]
fn stacks_have_sites_of_their_own() {
    use throughline_kernels::sequence::Ragged;
    use throughline_nn::concat::Concat;
    use throughline_nn::initialise::Initialise;
    use throughline_nn::layers::Recurrent;
    use throughline_nn::parameters::Builder;
    use throughline_nn::standalone::Standalone;
    use throughline_nn::{Cpu, Layer};

    let config = RecurrentConfig { dropout: 0.5, ..stack(CellKind::RnnTanh, 3, 8, false) };
    let mut builder = Builder::new();
    let [a, b] = ["a", "b"].map(|name| Recurrent::new(&mut builder, name, config));
    let both = Concat::new(a, b);
    assert_eq!(both.width(), 16);
    let mut both = Standalone::<_, f32>::of(both, builder, &Initialise::new(1), Cpu::new(1));
    both.set_parameters(|layout, parameters| {
        for tensor in layout.tensors().iter().filter(|tensor| tensor.name().starts_with("b.")) {
            let twin = layout.find(&tensor.name().replacen("b.", "a.", 1)).expect("the twin");
            let values = layout.view(parameters, twin).to_vec();
            parameters[tensor.range()].copy_from_slice(&values);
        }
    });
    let (rows, x) = (Ragged::even(3, 2), crate::common::Numbers::new(3).draw::<f32>(18, 1.0));
    let halves_agree = |output: &[f32]| output.chunks(16).all(|row| row[..8] == row[8..]);
    assert!(halves_agree(&both.run(&rows, &x, None).output), "twins without dropout");
    both.set_pass(training(1));
    assert!(!halves_agree(&both.run(&rows, &x, None).output), "twins with masks of their own");
}

macro_rules! stamp {
    ($($name:ident: $cell:ident,)*) => {
        $(mod $name {
            use super::*;

            #[test]
            fn every_gradient() {
                check_gradients(CellKind::$cell);
            }

            #[test]
            fn any_threads() {
                check_threads(CellKind::$cell);
            }

            #[test]
            fn alone_or_in_a_batch() {
                check_alone(CellKind::$cell);
            }

            #[test]
            fn step_by_step() {
                check_steps(CellKind::$cell);
            }
        })*
    };
}
for_each_cell!(stamp);
