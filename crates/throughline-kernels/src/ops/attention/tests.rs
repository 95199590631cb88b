use throughline_testkit::{assert_close, assert_same_bits, central_difference};

use super::*;
use crate::ops::testing::{for_every_setting, numbers};

/// Sums of the same terms in another order, in f64.
const TOLERANCE: f64 = 1e-13;
/// Against central differences in f64.
const DIFFERENCE_TOLERANCE: f64 = 1e-9;

/// A batch: lengths, boundaries, and how many steps each sequence has seen before.
#[derive(Clone)]
struct Shape {
    rows: Ragged,
    past: Vec<usize>,
    heads: usize,
    features: usize,
}

/// Rows of the past of each sequence, used or not.
const PAST: usize = 70;

impl Shape {
    fn new(lengths: &[usize], past: &[usize], resets: bool, heads: usize, features: usize) -> Self {
        let mut rows = Ragged::new(lengths);
        if resets {
            rows.set_resets(|sequence, t| (2 * sequence + t) % 5 == 3 || (sequence == 0 && t == 0));
        }
        Self { rows, past: past.to_vec(), heads, features }
    }

    /// qkv, keys and values of the past.
    fn inputs<E: Element>(&self) -> [Vec<E>; 3] {
        let past = self.rows.batch() * PAST * self.features;
        [numbers(1, self.rows.rows() * 3 * self.features), numbers(2, past), numbers(3, past)]
            .map(|array: Vec<E>| array.into_iter().map(|x| E::from_f64(2.0) * x).collect())
    }

    fn spans(&self) -> Spans {
        let mut spans = Spans::default();
        spans.set(&self.rows, |sequence| self.past[sequence]);
        spans
    }
}

fn shapes() -> Vec<Shape> {
    vec![
        Shape::new(&[0], &[0], false, 1, 1),
        Shape::new(&[3, 0, 5, 1], &[0, 2, 0, 0], false, 2, 6),
        Shape::new(&[4, 1, 0, 7, 6], &[3, 0, 5, 1, 0], true, 1, 5),
        Shape::new(&[9, 12], &[0, 4], true, 3, 3),
        Shape::new(&[41, 70], &[66, 0], false, 2, 34),
        // Enough work for several threads.
        Shape::new(&[120, 0, 97, 130], &[66, 0, 70, 1], false, 2, 36),
    ]
}

/// For each packed row the keys and values that it sees, by the definition: rows of `numbers_of`.
fn seen<'a>(shape: &Shape, inputs: &'a [Vec<f64>; 3], row: usize, which: usize) -> Vec<&'a [f64]> {
    let (features, (time, column)) = (shape.features, shape.rows.place(row));
    let sequence = shape.rows.order()[column];
    let first = (0..=time).rev().find(|&t| shape.rows.reset_before(shape.rows.row(t, column)));
    let past = if first.is_none() { shape.past[sequence] } else { 0 };
    let before = (0..past).map(|j| &inputs[1 + which][(sequence * PAST + j) * features..][..features]);
    let own = (first.unwrap_or(0)..=time)
        .map(|t| &inputs[0][(shape.rows.row(t, column) * 3 + 1 + which) * features..][..features]);
    before.chain(own).collect()
}

/// The definition, in f64.
fn plain(shape: &Shape, inputs: &[Vec<f64>; 3]) -> Vec<f64> {
    let (features, width) = (shape.features, shape.features / shape.heads);
    let mut y = Vec::new();
    for row in 0..shape.rows.rows() {
        let query = &inputs[0][row * 3 * features..][..features];
        let (keys, values) = (seen(shape, inputs, row, 0), seen(shape, inputs, row, 1));
        for head in 0..shape.heads {
            let columns = head * width..(head + 1) * width;
            let dot = |key: &[f64]| columns.clone().map(|d| query[d] * key[d]).sum::<f64>() / (width as f64).sqrt();
            let weights: Vec<f64> = keys.iter().map(|key| dot(key).exp()).collect();
            let total: f64 = weights.iter().sum();
            y.extend(
                columns
                    .clone()
                    .map(|d| weights.iter().zip(&values).map(|(weight, value)| weight / total * value[d]).sum::<f64>()),
            );
        }
    }
    y
}

/// Outputs and all gradients.
#[derive(Default)]
struct Results<E> {
    y: Vec<E>,
    d_qkv: Vec<E>,
    d_past: [Vec<E>; 2],
}

/// Forward and backward from `dy`; the gradients of the keys and values by span are `d_end` before.
fn run<E: Element>(isa: Isa, threads: &Threads, shape: &Shape, inputs: &[Vec<E>; 3], dy: &[E], d_end: E) -> Results<E> {
    let nan = E::from_f64(f64::NAN);
    let (attention, spans) = (Attention::new(isa, shape.heads, shape.features), shape.spans());
    let [mut keys, mut values] = [(); 2].map(|()| vec![nan; spans.keys() * shape.features]);
    let [qkv, past_keys, past_values] = inputs;
    let past = Past { keys: past_keys, values: past_values, stride: PAST * shape.features };
    spans.gather(&shape.rows, qkv, Some(past), [&mut keys, &mut values]);
    let batch = AttentionBatch { rows: &shape.rows, spans: &spans, qkv, keys: &keys, values: &values };
    let mut y = vec![nan; shape.rows.rows() * shape.features];
    let mut normalisers = vec![Normaliser::default(); shape.rows.rows() * shape.heads];
    let mut scratch: Vec<AttentionScratch<E>> = (0..threads.count()).map(|_| AttentionScratch::default()).collect();
    attention.forward(threads, batch, &mut y, &mut normalisers, &mut scratch);

    let mut d_qkv = vec![nan; qkv.len()];
    let [mut d_keys, mut d_values] = [(); 2].map(|()| vec![d_end; keys.len()]);
    let gradients = [&mut d_keys[..], &mut d_values];
    attention.backward(threads, batch, [&y, dy], &normalisers, &mut d_qkv, gradients, &mut scratch);
    let mut d_past = [(); 2].map(|()| vec![nan; past_keys.len()]);
    let [of_keys, of_values] = &mut d_past;
    spans.scatter(&shape.rows, [&d_keys, &d_values], &mut d_qkv, Some(([of_keys, of_values], past.stride)));
    Results { y, d_qkv, d_past }
}

#[test]
fn it_and_its_gradients_are_those_of_the_definition() {
    for shape in shapes() {
        let inputs = shape.inputs::<f64>();
        let dy: Vec<f64> = numbers(4, shape.rows.rows() * shape.features);
        let got = run(Isa::SCALAR, Threads::ONE, &shape, &inputs, &dy, 0.0);
        assert_close("y", &got.y, &plain(&shape, &inputs), TOLERANCE);

        if shape.rows.rows() > 50 {
            continue; // Central differences would take minutes; the gradients of long sequences are checked below.
        }
        let loss = |inputs: &[Vec<f64>; 3]| plain(&shape, inputs).iter().zip(&dy).map(|(y, dy)| y * dy).sum::<f64>();
        let [of_keys, of_values] = got.d_past;
        for (index, (name, got)) in
            [("dqkv", got.d_qkv), ("dkeys of the past", of_keys), ("dvalues of the past", of_values)]
                .into_iter()
                .enumerate()
        {
            let mut changed = inputs.clone();
            let want = central_difference(
                |x| {
                    changed[index].copy_from_slice(x);
                    loss(&changed)
                },
                &mut inputs[index].clone(),
                1e-3,
            );
            assert_close(name, &got, &want, DIFFERENCE_TOLERANCE);
        }
    }
}

/// Sequences of several tiles, along random directions.
#[test]
fn gradients_of_long_sequences() {
    let shape = Shape::new(&[131, 300], &[68, 5], false, 2, 22);
    let inputs = shape.inputs::<f64>();
    let dy: Vec<f64> = numbers(4, shape.rows.rows() * shape.features);
    let got = run(Isa::detect(), Threads::ONE, &shape, &inputs, &dy, 0.0);
    let gradients = [got.d_qkv, got.d_past[0].clone(), got.d_past[1].clone()];
    for seed in 5..8 {
        let directions: Vec<Vec<f64>> = inputs.iter().map(|array| numbers(seed, array.len())).collect();
        let along = |distance: &[f64]| {
            let mut inputs = inputs.clone();
            for (array, direction) in inputs.iter_mut().zip(&directions) {
                array.iter_mut().zip(direction).for_each(|(x, d)| *x += distance[0] * d);
            }
            plain(&shape, &inputs).iter().zip(&dy).map(|(y, dy)| y * dy).sum::<f64>()
        };
        let want = central_difference(along, &mut [0.0], 1e-4);
        let dot = |(gradient, direction): (&Vec<f64>, &Vec<f64>)| {
            gradient.iter().zip(direction).map(|(g, d)| g * d).sum::<f64>()
        };
        let got: f64 = gradients.iter().zip(&directions).map(dot).sum();
        assert_close("slope", &[got], &want, DIFFERENCE_TOLERANCE);
    }
}

/// The gradient of the keys and values at the end is added to theirs.
#[test]
fn gradients_of_keys_and_values_accumulate() {
    for shape in shapes() {
        let inputs = shape.inputs::<f64>();
        let dy: Vec<f64> = numbers(4, shape.rows.rows() * shape.features);
        let [without, with] = [0.0, 0.5].map(|d| run(Isa::detect(), Threads::ONE, &shape, &inputs, &dy, d));
        let (features, mut want) = (shape.features, without.d_qkv.clone());
        for row in want.chunks_mut(3 * features) {
            row[features..].iter_mut().for_each(|x| *x += 0.5);
        }
        assert_close("dqkv", &with.d_qkv, &want, TOLERANCE);
    }
}

#[test]
fn the_same_bits_in_every_setting() {
    for shape in shapes() {
        let inputs = shape.inputs::<f32>();
        let dy: Vec<f32> = numbers(4, shape.rows.rows() * shape.features);
        let want = run(Isa::SCALAR, Threads::ONE, &shape, &inputs, &dy, 0.25);
        for_every_setting(|isa, threads| {
            let got = run(isa, threads, &shape, &inputs, &dy, 0.25);
            assert_same_bits("y", &got.y, &want.y);
            assert_same_bits("dqkv", &got.d_qkv, &want.d_qkv);
            assert_same_bits("dkeys of the past", &got.d_past[0], &want.d_past[0]);
            assert_same_bits("dvalues of the past", &got.d_past[1], &want.d_past[1]);
        });
    }
}

/// The rows of `width` numbers of one sequence.
fn of_sequence<E: Copy>(rows: &Ragged, sequence: usize, width: usize, array: &[E]) -> Vec<E> {
    let mut own = Vec::new();
    rows.for_each_row(|row, of, _| {
        if of == sequence {
            own.extend_from_slice(&array[row * width..][..width]);
        }
    });
    own
}

#[test]
fn a_sequence_has_the_same_bits_alone() {
    for shape in shapes() {
        let inputs = shape.inputs::<f32>();
        let dy: Vec<f32> = numbers(4, shape.rows.rows() * shape.features);
        let whole = run(Isa::detect(), Threads::ONE, &shape, &inputs, &dy, 0.0);
        for (sequence, &length) in shape.rows.lengths().iter().enumerate() {
            let mut alone = Shape::new(&[length], &shape.past[sequence..=sequence], false, shape.heads, shape.features);
            let column = shape.rows.order().iter().position(|&of| of == sequence).expect("every sequence has a column");
            alone.rows.set_resets(|_, t| shape.rows.reset_before(shape.rows.row(t, column)));
            let of_past = sequence * PAST * shape.features..(sequence + 1) * PAST * shape.features;
            let cut = |width: usize, array: &[f32]| of_sequence(&shape.rows, sequence, width * shape.features, array);
            let own = [cut(3, &inputs[0]), inputs[1][of_past.clone()].to_vec(), inputs[2][of_past.clone()].to_vec()];
            let got = run(Isa::detect(), Threads::ONE, &alone, &own, &cut(1, &dy), 0.0);
            assert_same_bits("y", &got.y, &cut(1, &whole.y));
            assert_same_bits("dqkv", &got.d_qkv, &cut(3, &whole.d_qkv));
            assert_same_bits("dkeys of the past", &got.d_past[0], &whole.d_past[0][of_past.clone()]);
            assert_same_bits("dvalues of the past", &got.d_past[1], &whole.d_past[1][of_past]);
        }
    }
}

/// Step by step, several streams with caches of different lengths.
#[test]
fn steps_have_the_bits_of_the_sequence() {
    for (heads, features, past) in
        [(1, 1, [0, 3]), (2, 34, [17, 0]), (1, 80, [0, 64]), (3, 48, [1, 2]), (4, 256, [70, 64])]
    {
        let steps = 40;
        let shape = Shape::new(&[steps, steps], &past, false, heads, features);
        let inputs = shape.inputs::<f32>();
        let dy = vec![0.0; shape.rows.rows() * features];
        let want = run(Isa::SCALAR, Threads::ONE, &shape, &inputs, &dy, 0.0).y;
        for_every_setting(|isa, threads| {
            let attention = Attention::new(isa, heads, features);
            let stride = (PAST + steps) * features;
            let mut caches = [(); 2].map(|()| vec![f32::NAN; 2 * stride]);
            for (cache, past) in caches.iter_mut().zip(&inputs[1..]) {
                for (cache, past) in cache.chunks_mut(stride).zip(past.chunks(PAST * features)) {
                    cache[..past.len()].copy_from_slice(past);
                }
            }
            let mut scratch: Vec<_> = (0..threads.count()).map(|_| AttentionScratch::default()).collect();
            for (t, qkv) in inputs[0].chunks(2 * 3 * features).enumerate() {
                let seen = past.map(|past| past + t + 1);
                for (which, cache) in caches.iter_mut().enumerate() {
                    for (stream, cache) in cache.chunks_mut(stride).enumerate() {
                        let own = &qkv[(stream * 3 + 1 + which) * features..][..features];
                        cache[(seen[stream] - 1) * features..][..features].copy_from_slice(own);
                    }
                }
                let cache = Past { keys: &caches[0], values: &caches[1], stride };
                let mut y = vec![f32::NAN; 2 * features];
                attention.step(threads, qkv, cache, &seen, &mut y, &mut scratch);
                assert_same_bits(&format!("step {t}"), &y, &want[t * 2 * features..][..2 * features]);
            }
        });
    }
}

/// Scores far beyond what e^x can hold, and a broken number, which harms no step that does not see it.
#[test]
fn huge_scores_stay_finite_and_a_broken_number_stays_in_the_future() {
    let shape = Shape::new(&[50], &[0], false, 1, 4);
    let mut inputs = shape.inputs::<f32>();
    inputs[0].iter_mut().for_each(|x| *x *= 1e9);
    let dy = vec![1.0; 200];
    let huge = run(Isa::detect(), Threads::ONE, &shape, &inputs, &dy, 0.0);
    assert!(huge.y.iter().chain(&huge.d_qkv).all(|x| x.is_finite()));
    let mut broken = inputs.clone();
    broken[0][30 * 12 + 4..30 * 12 + 12].fill(f32::NAN);
    let y = run(Isa::detect(), Threads::ONE, &shape, &broken, &dy, 0.0).y;
    assert_same_bits("steps before", &y[..30 * 4], &huge.y[..30 * 4]);
    assert!(y[30 * 4..].iter().all(|y| y.is_nan()));
}

#[test]
#[should_panic(expected = "F is a multiple of the number of heads, at least 1, not 10 for 3 heads")]
fn heads_divide_the_features() {
    Attention::new(Isa::SCALAR, 3, 10);
}

#[test]
#[should_panic(expected = "the spans are those of another batch")]
fn spans_of_another_batch_are_refused() {
    let (shape, other) = (Shape::new(&[3, 1], &[0; 2], false, 1, 1), Shape::new(&[2, 2], &[0; 2], false, 1, 1));
    let (spans, qkv) = (other.spans(), [1.0f32; 12]);
    let batch = AttentionBatch { rows: &shape.rows, spans: &spans, qkv: &qkv, keys: &[1.0; 4], values: &[1.0; 4] };
    let (attention, mut normalisers) = (Attention::new(Isa::SCALAR, 1, 1), [Normaliser::default(); 4]);
    attention.forward(Threads::ONE, batch, &mut [0.0; 4], &mut normalisers, &mut [AttentionScratch::default()]);
}
