//! Whole models: the gradient of every parameter, and the same bits whatever the threads, the batch or the cut.

use crate::common::{Model, Numbers, assert_close_tensors};
use throughline_kernels::Element;
use throughline_kernels::buffer::Buffer;
use throughline_kernels::cells::CellKind;
use throughline_kernels::for_each_cell;
use throughline_kernels::ops::cross_entropy::{Classified, IGNORED};
use throughline_kernels::random::{Philox, Purpose};
use throughline_kernels::sequence::Ragged;
use throughline_nn::classifier::Sequences;
use throughline_nn::config::ModelConfig;
use throughline_nn::language_model::Window;
use throughline_nn::network::Dropouts;
use throughline_nn::recurrent::{InitialState, Pass, RecurrentConfig, States};
use throughline_testkit::{assert_close, assert_same_bits, central_difference};

/// Against the five-point difference of the model's own loss in f64, and its step.
const DIFFERENCE_TOLERANCE: f64 = 1e-9;
const DIFFERENCE_STEP: f64 = 1e-4;
/// The loss of training against that of evaluation, in f64.
const LOSS_TOLERANCE: f64 = 1e-13;

const DROPOUTS: Dropouts = Dropouts { embedding: 0.2, output: 0.3 };

fn training() -> Pass {
    Pass::Training(Philox::new(3, Purpose::Dropout, 9))
}

fn stack(cell: CellKind, input: usize, hidden: usize, bidirectional: bool) -> RecurrentConfig {
    RecurrentConfig {
        layers: 2,
        bidirectional,
        dropout: 0.25,
        initial_state: InitialState::Learned,
        ..RecurrentConfig::new(cell, input, hidden)
    }
}

fn mean(learnt: Classified) -> f64 {
    learnt.loss.sum / learnt.loss.count as f64
}

/// What a model learns from, once.
trait Exercise<E: Element> {
    /// Adds the gradients of the mean loss.
    fn learn(&self, model: &mut Model<E>, pass: Pass, gradients: &mut [E]) -> Classified;
    fn evaluate(&self, model: &mut Model<E>) -> Classified;
}

/// A window of a language model's streams.
struct Streams<E> {
    batch: Ragged,
    inputs: Vec<u32>,
    targets: Vec<u32>,
    first_scored: usize,
    given: Option<States<E>>,
}

impl<E: Element> Streams<E> {
    fn new(config: &ModelConfig, time: usize, batch: usize, first_scored: usize, given: bool) -> Self {
        let mut numbers = Numbers::new(8);
        let given = given.then(|| {
            let zeros = States::<E>::zeros(&config.recurrent, batch);
            States { h: numbers.draw(zeros.h.len(), 0.8), c: numbers.draw(zeros.c.len(), 0.8) }
        });
        let mut tokens = || numbers.tokens(time * batch, config.vocabulary);
        Self { batch: Ragged::even(time, batch), inputs: tokens(), targets: tokens(), first_scored, given }
    }

    fn window(&self) -> Window<'_> {
        let Self { batch, inputs, targets, first_scored, .. } = self;
        Window { batch, inputs, targets, first_scored: *first_scored }
    }
}

impl<E: Element> Exercise<E> for Streams<E> {
    fn learn(&self, model: &mut Model<E>, pass: Pass, gradients: &mut [E]) -> Classified {
        let (network, weights, workspace) = model.parts();
        network.train_language_model(weights, &self.window(), self.given.as_ref(), pass, gradients, workspace)
    }

    fn evaluate(&self, model: &mut Model<E>) -> Classified {
        let (network, weights, workspace) = model.parts();
        network.evaluate_language_model(weights, &self.window(), &mut self.given.clone(), workspace)
    }
}

/// Texts with their classes.
struct Texts {
    texts: Vec<Vec<u32>>,
    classes: Vec<u32>,
}

impl Texts {
    fn new(config: &ModelConfig, lengths: &[usize]) -> Self {
        let mut numbers = Numbers::new(9);
        let texts = lengths.iter().map(|&length| numbers.tokens(length, config.vocabulary)).collect();
        Self { texts, classes: numbers.tokens(lengths.len(), config.classes.expect("a classifier")) }
    }

    fn sequences(&self) -> Sequences {
        let mut sequences = Sequences::default();
        sequences.set(self.texts.iter().map(|text| &text[..]));
        sequences
    }
}

impl<E: Element> Exercise<E> for Texts {
    fn learn(&self, model: &mut Model<E>, pass: Pass, gradients: &mut [E]) -> Classified {
        let (network, weights, workspace) = model.parts();
        network.train_classifier(weights, &self.sequences(), &self.classes, pass, gradients, workspace)
    }

    fn evaluate(&self, model: &mut Model<E>) -> Classified {
        let (network, weights, workspace) = model.parts();
        network.evaluate_classifier(weights, &self.sequences(), &self.classes, workspace)
    }
}

fn check_gradient(name: &str, config: ModelConfig, exercise: &dyn Exercise<f64>) {
    let mut model = Model::<f64>::new(config, DROPOUTS, 1, 4, 0.7);
    let evaluated = exercise.evaluate(&mut model);
    for (pass, how) in [(Pass::Traced, "without dropout"), (training(), "with dropout")] {
        let mut got: Buffer<f64> = model.network.layout().zeros();
        let learnt = exercise.learn(&mut model, pass, &mut got);
        if pass == Pass::Traced {
            assert_eq!((learnt.loss.count, learnt.correct), (evaluated.loss.count, evaluated.correct), "{name}");
            assert_close(&format!("loss of {name}"), &[mean(learnt)], &[mean(evaluated)], LOSS_TOLERANCE);
        } else {
            assert_ne!(learnt.loss.sum, evaluated.loss.sum, "{name}: training drops something");
        }
        let mut parameters = model.parameters.to_vec();
        let want = central_difference(
            |parameters| {
                model.set(|_, buffer| buffer.copy_from_slice(parameters));
                let mut unused = model.network.layout().zeros();
                mean(exercise.learn(&mut model, pass, &mut unused))
            },
            &mut parameters,
            DIFFERENCE_STEP,
        );
        model.set(|_, buffer| buffer.copy_from_slice(&parameters));
        let what = format!("{name}, {how}: gradient");
        assert_close_tensors(&what, model.network.layout(), &got, &want, DIFFERENCE_TOLERANCE);

        // Gradients add up.
        let mut twice = got.clone();
        exercise.learn(&mut model, pass, &mut twice);
        let doubled: Vec<f64> = got.iter().map(|x| 2.0 * x).collect();
        assert_close(&format!("{what} twice"), &twice, &doubled, LOSS_TOLERANCE);
    }
}

fn check_gradients(cell: CellKind) {
    for (tied, input) in [(false, 3), (true, 4)] {
        let config = crate::common::language_model(stack(cell, input, 4, false), 6, tied);
        for (given, first_scored) in [(false, 0), (true, 2)] {
            let name = format!("language model of {}, tied {tied}, given states {given}", cell.name());
            check_gradient(&name, config.clone(), &Streams::new(&config, 4, 2, first_scored, given));
        }
    }
    for bidirectional in [false, true] {
        let config = crate::common::classifier(stack(cell, 3, 4, bidirectional), 6, 3);
        let name = format!("classifier of {}, bidirectional {bidirectional}", cell.name());
        check_gradient(&name, config.clone(), &Texts::new(&config, &[2, 0, 3, 1]));
    }
}

/// The gradient is that of the mean which is returned: over the targets that count.
#[test]
fn ignored_targets() {
    fn check(name: &str, config: ModelConfig, ignore: impl Fn(usize) -> Box<dyn Exercise<f64>>) {
        check_gradient(&format!("{name} with ignored targets"), config.clone(), &*ignore(3));
        let mut model = Model::<f64>::new(config, DROPOUTS, 1, 4, 0.7);
        let mut gradients = model.network.layout().zeros();
        let learnt = ignore(1).learn(&mut model, training(), &mut gradients);
        assert_eq!((learnt.loss.count, learnt.loss.mean()), (0, 0.0), "{name} without a target");
        assert!(gradients.iter().all(|&x| x == 0.0), "{name} without a target");
    }
    // One target in so many does not count.
    let ignore = |targets: &mut [u32], every: usize| targets.iter_mut().step_by(every).for_each(|x| *x = IGNORED);
    for first_scored in [0, 1] {
        let config = crate::common::language_model(stack(CellKind::Lstm, 3, 4, false), 6, false);
        check("language model", config.clone(), |every| {
            let mut streams = Streams::new(&config, 4, 2, first_scored, false);
            ignore(&mut streams.targets, every);
            Box::new(streams)
        });
    }
    let config = crate::common::classifier(stack(CellKind::GruAfter, 3, 4, true), 6, 3);
    check("classifier", config.clone(), |every| {
        let mut texts = Texts::new(&config, &[2, 0, 3, 1]);
        ignore(&mut texts.classes, every);
        Box::new(texts)
    });
}

fn check_threads(cell: CellKind) {
    let check = |config: &ModelConfig, exercise: &dyn Exercise<f32>| {
        let run = |threads: usize| {
            let mut model = Model::<f32>::new(config.clone(), DROPOUTS, threads, 4, 0.3);
            let mut gradients = model.network.layout().zeros();
            let learnt = exercise.learn(&mut model, training(), &mut gradients);
            (learnt, exercise.evaluate(&mut model), gradients)
        };
        let want = run(1);
        for threads in [2, 3] {
            let got = run(threads);
            assert_eq!((got.0, got.1), (want.0, want.1), "losses of {} on {threads} threads", cell.name());
            assert_same_bits(&format!("gradients of {} on {threads} threads", cell.name()), &got.2, &want.2);
        }
    };
    let config = crate::common::language_model(stack(cell, 20, 33, false), 41, false);
    check(&config, &Streams::new(&config, 12, 9, 4, true));
    let config = crate::common::language_model(stack(cell, 33, 33, false), 41, true);
    check(&config, &Streams::new(&config, 7, 3, 0, false));
    let config = crate::common::classifier(stack(cell, 20, 33, true), 41, 5);
    check(&config, &Texts::new(&config, &[7, 0, 12, 1, 7, 3, 9, 2, 11, 5]));
}

/// The logits of a text are the same bits alone and in any company.
fn check_alone(cell: CellKind) {
    let config = crate::common::classifier(stack(cell, 20, 33, true), 41, 5);
    let texts = Texts::new(&config, &[7, 0, 12, 1, 7, 3, 9, 2, 11, 5]).texts;
    let mut model = Model::<f32>::new(config, DROPOUTS, 2, 4, 0.3);
    let mut classify = |texts: &[Vec<u32>]| {
        let mut sequences = Sequences::default();
        sequences.set(texts.iter().map(|text| &text[..]));
        let (network, weights, workspace) = model.parts();
        network.classify(weights, &sequences, Pass::Inference, workspace).to_vec()
    };
    let alone: Vec<Vec<f32>> = texts.iter().map(|text| classify(std::slice::from_ref(text))).collect();
    for company in [0..10, 2..7, 1..3] {
        let together = classify(&texts[company.clone()]);
        assert_same_bits(&format!("logits of {} in {company:?}", cell.name()), &together, &alone[company].concat());
    }
}

/// A language model that reads a window at once or a unit at a time reaches the same states and losses.
fn check_steps(cell: CellKind) {
    let config = crate::common::language_model(stack(cell, 20, 33, false), 41, false);
    let streams = Streams::<f32>::new(&config, 6, 3, 0, false);
    let mut model = Model::<f32>::new(config, DROPOUTS, 1, 4, 0.3);
    let (network, weights, workspace) = model.parts();
    let (mut whole, mut stepped) = (None, None);
    let total = network.evaluate_language_model(weights, &streams.window(), &mut whole, workspace);
    let mut loss = 0.0;
    for (inputs, targets) in streams.inputs.chunks(3).zip(streams.targets.chunks(3)) {
        let logits = network.step_language_model(weights, inputs, &mut stepped, workspace);
        for (logits, &target) in logits.chunks(41).zip(targets) {
            let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
            loss += sum.ln() - f64::from(logits[target as usize]);
        }
    }
    let (whole, stepped) = (whole.expect("states"), stepped.expect("states"));
    assert_same_bits(&format!("h of {} step by step", cell.name()), &stepped.h, &whole.h);
    assert_same_bits(&format!("c of {} step by step", cell.name()), &stepped.c, &whole.c);
    assert_close(&format!("loss of {} step by step", cell.name()), &[loss], &[total.loss.sum], 1e-6);
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
