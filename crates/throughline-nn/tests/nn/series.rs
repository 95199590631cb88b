//! Networks that read series of numbers: regression and class weights, with their gradients and bits.

use crate::common::{Model, Numbers, assert_close_tensors, training};
use throughline_kernels::Element;
use throughline_kernels::buffer::Buffer;
use throughline_kernels::cells::CellKind;
use throughline_kernels::ops::{IGNORED, Residual};
use throughline_kernels::sequence::Ragged;
use throughline_nn::chain::Chain;
use throughline_nn::heads::{Head, Regression, Softmax};
use throughline_nn::layers::{Pool, Pooling, Recurrent, RecurrentConfig};
use throughline_nn::network::{Input, Network, Wanted};
use throughline_nn::parameters::Builder;
use throughline_nn::{Layer, Loss, Pass};
use throughline_testkit::{assert_close, assert_same_bits};

/// Against the five-point difference of the model's own loss in f64, and its step.
const DIFFERENCE_TOLERANCE: f64 = 1e-9;
const DIFFERENCE_STEP: f64 = 1e-4;
/// Sums in another order, in f64.
const SUM_TOLERANCE: f64 = 1e-13;

const CHANNELS: usize = 3;
const OUTPUTS: usize = 2;
const CLASSES: usize = 3;
const LENGTHS: [usize; 7] = [4, 0, 9, 1, 4, 6, 2];
const LOSSES: [Residual; 3] = [Residual::Squared, Residual::Absolute, Residual::Huber(0.3)];

type Reader = Chain<Recurrent, Pool>;

fn reader(builder: &mut Builder, pooling: Pooling) -> Reader {
    let stack = RecurrentConfig {
        layers: 2,
        bidirectional: true,
        dropout: 0.25,
        ..RecurrentConfig::new(CellKind::Lstm, CHANNELS, 4)
    };
    let recurrent = Recurrent::new(builder, "rnn", stack);
    Pool::of(builder, "pool", recurrent, pooling).with_dropout(builder, 0.3)
}

fn regression(loss: Residual, pooling: Pooling) -> Network<Reader, Regression> {
    let builder = &mut Builder::new();
    let body = reader(builder, pooling);
    let head = Regression::new(builder, "head", body.width(), OUTPUTS, loss);
    body.ending_in(head, std::mem::take(builder))
}

fn classifier(weights: Option<&[f64]>) -> Network<Reader, Softmax> {
    let builder = &mut Builder::new();
    let body = reader(builder, Pooling::Mean);
    let head = Softmax::new(builder, "head", body.width(), CLASSES);
    let network = body.ending_in(head, std::mem::take(builder));
    match weights {
        Some(weights) => network.map_head(|head| head.with_class_weights(weights.to_vec())),
        None => network,
    }
}

/// Series of [`LENGTHS`], each with numbers.
struct Series<E> {
    values: Vec<Vec<E>>,
    targets: Vec<E>,
}

impl<E: Element> Series<E> {
    fn new() -> Self {
        let mut numbers = Numbers::new(21);
        let values = LENGTHS.map(|length| numbers.draw(length * CHANNELS, 1.0)).into();
        Self { values, targets: numbers.draw(LENGTHS.len() * OUTPUTS, 1.5) }
    }

    fn packed(&self, of: &[usize]) -> (Ragged, Vec<E>) {
        let rows = Ragged::new(&of.iter().map(|&index| LENGTHS[index]).collect::<Vec<_>>());
        let mut x = Vec::new();
        rows.for_each_row(|_, series, t| {
            x.extend_from_slice(&self.values[of[series]][t * CHANNELS..][..CHANNELS]);
        });
        (rows, x)
    }
}

fn learn<E: Element, H: Head<E>>(
    model: &mut Model<E, Reader, H>,
    (rows, x): &(Ragged, Vec<E>),
    wanted: Wanted<'_, H::Target>,
    pass: Pass,
) -> (Loss, Buffer<E>) {
    let mut gradients = model.network.layout().zeros();
    let (network, weights, workspace) = model.borrowed();
    let loss = network.learn(weights, Input::new(rows, &x[..]), wanted, pass, &mut gradients, workspace);
    (loss, gradients)
}

/// The gradients of all parameters against central differences of the loss.
fn check_gradient<H: Head<f64>>(name: &str, network: Network<Reader, H>, target: &H::Target) {
    let mut model = Model::new(network, 1, 4, 0.7);
    let batch = Series::new().packed(&[0, 1, 2, 3, 4, 5, 6]);
    for (pass, how) in [(Pass::Traced, "without dropout"), (training(9), "with dropout")] {
        let (_, got) = learn(&mut model, &batch, Wanted::new(target), pass);
        let want = model.differences(DIFFERENCE_STEP, |model| learn(model, &batch, Wanted::new(target), pass).0.mean());
        let what = format!("{name}, {how}: gradient");
        assert_close_tensors(&what, model.network.layout(), &got, &want, DIFFERENCE_TOLERANCE);
    }
}

#[test]
fn gradients_of_regression() {
    let targets = Series::new().targets;
    for loss in LOSSES {
        check_gradient(&format!("{loss:?}"), regression(loss, Pooling::LastStates), &targets);
    }
    check_gradient("attention", regression(Residual::Squared, Pooling::Attention), &targets);
}

#[test]
fn gradients_with_class_weights() {
    check_gradient("weighted", classifier(Some(&[0.5, 2.0, 0.0])), &[0, 1, 2, IGNORED, 1, 0, 1]);
}

/// The loss is the weighted mean, and classes that weigh the same have the gradients of no weights.
#[test]
fn class_weights() {
    let (series, targets) = (Series::<f64>::new(), [0, 1, 2, IGNORED, 1, 0, 1]);
    let all = series.packed(&[0, 1, 2, 3, 4, 5, 6]);
    let run = |weights: Option<&[f64]>| {
        let mut model = Model::new(classifier(weights), 1, 4, 0.7);
        let learned = learn(&mut model, &all, Wanted::new(&targets), Pass::Traced);
        let losses: Vec<f64> = model.workspace.head.row_losses().iter().map(|row| row.loss).collect();
        let (network, weights, workspace) = model.borrowed();
        let evaluated = network.evaluate(weights, Input::new(&all.0, &all.1[..]), Wanted::new(&targets), workspace);
        assert_eq!(evaluated, learned.0, "evaluation weighs as training does");
        (learned, losses)
    };
    let ((plain, want), losses) = run(None);
    let weights = [0.5, 2.0, 0.25];
    let ((weighted, _), _) = run(Some(&weights));
    let counted = targets.iter().zip(&losses).filter(|(target, _)| **target != IGNORED);
    let sum: f64 = counted.map(|(&target, loss)| weights[target as usize] * loss).sum();
    assert_eq!(weighted.weight, 2.0 * 0.5 + 3.0 * 2.0 + 0.25);
    assert_close("sum", &[weighted.sum], &[sum], SUM_TOLERANCE);
    let ((tripled, got), _) = run(Some(&[3.0; CLASSES]));
    assert_close("mean", &[tripled.mean()], &[plain.mean()], SUM_TOLERANCE);
    assert_close("gradient", &got, &want, SUM_TOLERANCE);
}

/// A prediction is the same bits alone and in a batch, and gradients are on any number of threads.
#[test]
fn bits_of_regression() {
    let series = Series::<f32>::new();
    let all = series.packed(&[0, 1, 2, 3, 4, 5, 6]);
    for pooling in Pooling::ALL {
        let mut model = Model::<f32, _, _>::new(regression(Residual::Huber(0.3), pooling), 1, 4, 0.7);
        let predict = |model: &mut Model<f32, Reader, Regression>, (rows, x): &(Ragged, Vec<f32>)| {
            let (network, weights, workspace) = model.borrowed();
            network.predict(weights, Input::new(rows, &x[..]), workspace).to_vec()
        };
        let together = predict(&mut model, &all);
        for index in 0..LENGTHS.len() {
            let alone = predict(&mut model, &series.packed(&[index]));
            assert_same_bits(&format!("{pooling:?}, series {index}"), &alone, &together[index * OUTPUTS..][..OUTPUTS]);
        }
        let (loss, want) = learn(&mut model, &all, Wanted::new(&series.targets), training(3));
        let mut of_three = Model::<f32, _, _>::new(model.network.clone(), 3, 4, 0.7);
        let (same, got) = learn(&mut of_three, &all, Wanted::new(&series.targets), training(3));
        assert_eq!(loss, same);
        assert_same_bits("gradients on three threads", &got, &want);
    }
}

/// Rows that are not scored are context: no loss, no gradient.
#[test]
fn scored_rows_of_regression() {
    let series = Series::<f64>::new();
    let all = series.packed(&[0, 1, 2, 3, 4, 5, 6]);
    let mut model = Model::new(regression(Residual::Squared, Pooling::LastStates), 1, 4, 0.7);
    let wanted = |scored| Wanted { target: &series.targets[..], scored, normaliser: Some(1.0) };
    let (whole, want) = learn(&mut model, &all, wanted(None), Pass::Traced);
    let (mut sum, mut got) = learn(&mut model, &all, wanted(Some(0..3)), Pass::Traced);
    let (rest, more) = learn(&mut model, &all, wanted(Some(3..7)), Pass::Traced);
    sum += rest;
    got.iter_mut().zip(&*more).for_each(|(sum, more)| *sum += more);
    assert_eq!(sum.weight, (LENGTHS.len() * OUTPUTS) as f64);
    assert_close("loss", &[sum.sum], &[whole.sum], SUM_TOLERANCE);
    assert_close("gradient", &got, &want, SUM_TOLERANCE);
}
