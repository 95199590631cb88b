//! The head of independent keys: against the definition and central differences, the same bits in other batches and on other
//! threads.

use std::ops::Range;

use crate::common::{DIFFERENCE_STEP, DIFFERENCE_TOLERANCE, Model, Numbers, assert_close_tensors, panic_of, training};
use throughline_kernels::Element;
use throughline_kernels::buffer::Buffer;
use throughline_kernels::cells::CellKind;
use throughline_kernels::sequence::Ragged;
use throughline_nn::chain::Chain;
use throughline_nn::heads::{Bernoulli, Head, HeadCall};
use throughline_nn::layers::{Linear, Recurrent, RecurrentConfig};
use throughline_nn::network::{Input, Network, Wanted};
use throughline_nn::parameters::Builder;
use throughline_nn::{Layer, Loss, Pass};
use throughline_testkit::{assert_close, assert_same_bits, central_difference};

/// Of f64 against the definition.
const TOLERANCE: f64 = 1e-13;
/// Of f32 against f64.
const F32_TOLERANCE: f64 = 1e-5;
const KEYS: usize = 5;
const LENGTHS: [usize; 6] = [3, 0, 7, 1, 5, 3];

type Rolls = Chain<Linear, Recurrent>;

/// Keys, a linear map, a stack, keys again.
fn network() -> Network<Rolls, Bernoulli> {
    let mut builder = Builder::new();
    let linear = Linear::new(&mut builder, "embedding", KEYS, 3).with_dropout(&mut builder, 0.2);
    let recurrent = RecurrentConfig { layers: 2, dropout: 0.3, ..RecurrentConfig::new(CellKind::Lstm, 3, 4) };
    let recurrent = Recurrent::new(&mut builder, "rnn", recurrent).with_dropout(&mut builder, 0.25);
    let head = Bernoulli::new(&mut builder, "head", 4, KEYS);
    linear.then(recurrent).ending_in(head, builder)
}

/// Sequences of sets of keys.
fn pieces() -> Vec<Vec<[f64; KEYS]>> {
    let mut numbers = Numbers::new(21);
    let mut set = || std::array::from_fn(|_| f64::from(numbers.tokens(1, 2)[0]));
    LENGTHS.iter().map(|&length| (0..=length).map(|_| set()).collect()).collect()
}

/// Each set predicted from those before it.
struct Batch<E> {
    rows: Ragged,
    x: Vec<E>,
    targets: Vec<E>,
}

impl<E: Element> Batch<E> {
    fn new(pieces: &[Vec<[f64; KEYS]>]) -> Self {
        let rows = Ragged::new(&pieces.iter().map(|piece| piece.len() - 1).collect::<Vec<_>>());
        let (mut x, mut targets) = (Vec::new(), Vec::new());
        rows.for_each_row(|_, piece, t| {
            x.extend(pieces[piece][t].map(E::from_f64));
            targets.extend(pieces[piece][t + 1].map(E::from_f64));
        });
        Self { rows, x, targets }
    }

    fn wanted(&self, scored: Option<Range<usize>>) -> Wanted<'_, [E]> {
        Wanted { scored, ..Wanted::new(&self.targets[..]) }
    }

    fn learn(
        &self,
        model: &mut Model<E, Rolls, Bernoulli>,
        scored: Option<Range<usize>>,
        pass: Pass,
    ) -> (Loss, Buffer<E>) {
        let mut gradients = model.network.layout().zeros();
        let (network, weights, workspace) = model.borrowed();
        let input = Input::new(&self.rows, &self.x[..]);
        let loss = network.learn(weights, input, self.wanted(scored), pass, &mut gradients, workspace);
        (loss, gradients)
    }

    fn evaluate(&self, model: &mut Model<E, Rolls, Bernoulli>, scored: Option<Range<usize>>) -> (Loss, Vec<f64>) {
        let (network, weights, workspace) = model.borrowed();
        let loss = network.evaluate(weights, Input::new(&self.rows, &self.x[..]), self.wanted(scored), workspace);
        (loss, workspace.head.row_losses().to_vec())
    }

    fn probabilities(&self, model: &mut Model<E, Rolls, Bernoulli>) -> Vec<E> {
        let (network, weights, workspace) = model.borrowed();
        network.read(weights, Input::new(&self.rows, &self.x[..]), workspace);
        let call = network.head_call(weights, &self.rows, &workspace.body);
        network.head().probabilities(call, &mut workspace.head).to_vec()
    }
}

#[test]
fn the_loss_is_that_of_the_probabilities() {
    let batch = Batch::<f64>::new(&pieces());
    let mut model = Model::new(network(), 1, 4, 0.7);
    let probabilities = batch.probabilities(&mut model);
    let term = |(&p, &y): (&f64, &f64)| -(y * p.ln() + (1.0 - y) * (1.0 - p).ln());
    let of_rows: Vec<f64> = probabilities
        .chunks(KEYS)
        .zip(batch.targets.chunks(KEYS))
        .map(|(p, y)| p.iter().zip(y).map(term).sum())
        .collect();
    let scored = 5..batch.rows.rows();
    let (loss, rows) = batch.evaluate(&mut model, Some(scored.clone()));
    assert_close("losses of rows", &rows, &of_rows[scored.clone()], TOLERANCE);
    assert_eq!((loss.weight, loss.correct), (scored.len() as f64, 0.0));
    assert_close("loss", &[loss.sum], &[of_rows[scored].iter().sum::<f64>()], TOLERANCE);
    let mut single = Model::new(network(), 1, 4, 0.7);
    let (in_f32, _) = Batch::<f32>::new(&pieces()).evaluate(&mut single, Some(5..batch.rows.rows()));
    assert_close("loss in f32", &[in_f32.sum], &[loss.sum], F32_TOLERANCE);
}

#[test]
fn gradients_are_those_of_the_mean_over_rows() {
    let batch = Batch::<f64>::new(&pieces());
    for scored in [None, Some(5..14)] {
        for pass in [Pass::Traced, training(9)] {
            let mut model = Model::new(network(), 1, 4, 0.7);
            let (loss, gradients) = batch.learn(&mut model, scored.clone(), pass);
            if pass == Pass::Traced {
                assert_eq!(batch.evaluate(&mut model, scored.clone()).0, loss, "evaluation gives the bits of training");
            }
            let mut parameters = model.parameters.to_vec();
            let value = |parameters: &[f64]| {
                model.set(|_, buffer| buffer.copy_from_slice(parameters));
                batch.learn(&mut model, scored.clone(), pass).0.mean()
            };
            let want = central_difference(value, &mut parameters, DIFFERENCE_STEP);
            let what = format!("gradient of rows {scored:?}, {pass:?}");
            assert_close_tensors(&what, model.network.layout(), &gradients, &want, DIFFERENCE_TOLERANCE);
        }
    }
}

#[test]
fn a_batch_is_its_sequences_one_at_a_time_on_any_threads() {
    let pieces = pieces();
    let batch = Batch::<f32>::new(&pieces);
    let mut model = Model::new(network(), 1, 4, 0.7);
    let (whole, (loss, gradients)) = (batch.probabilities(&mut model), batch.learn(&mut model, None, Pass::Traced));
    for (index, piece) in pieces.iter().enumerate() {
        let alone = Batch::new(std::slice::from_ref(piece)).probabilities(&mut model);
        let mut in_batch = Vec::new();
        batch.rows.for_each_row(|row, of, _| {
            if of == index {
                in_batch.extend_from_slice(&whole[row * KEYS..][..KEYS]);
            }
        });
        assert_same_bits(&format!("sequence {index}"), &in_batch, &alone);
    }
    let mut threaded = Model::new(network(), 3, 4, 0.7);
    let (same_loss, same_gradients) = batch.learn(&mut threaded, None, Pass::Traced);
    assert_eq!(same_loss, loss);
    assert_same_bits("gradients on three threads", &same_gradients, &gradients);
}

#[test]
fn arrays_that_do_not_fit_are_refused() {
    let rows = Ragged::new(&[2]);
    let mut model = Model::<f32, _, _>::new(network(), 1, 4, 0.7);
    let mut evaluate = |targets: &[f32], scored: Range<usize>| {
        let (network, weights, workspace) = model.borrowed();
        let x = [0.0; 2 * KEYS];
        network.read(weights, Input::new(&rows, &x[..]), workspace);
        let call = HeadCall { scored, ..network.head_call(weights, &rows, &workspace.body) };
        network.head().evaluate(call, targets, &mut workspace.head);
    };
    assert!(panic_of(|| evaluate(&[0.0; KEYS], 0..2)).contains("the targets are [N, 5], N = 2"));
    assert!(panic_of(|| evaluate(&[0.0; 2 * KEYS], 1..3)).contains("not a range of the 2 rows"));
    assert!(panic_of(|| evaluate(&[-1.0; 2 * KEYS], 0..2)).contains("a target is from 0 to 1"));
}
