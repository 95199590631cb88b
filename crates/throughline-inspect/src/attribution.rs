//! Which steps an answer rests on: gradient times input, and integrated gradients (Sundararajan, Taly and Yan 2017).
//!
//! What is explained is f, the log-likelihood of the right answer, which is minus its loss; for numbers minus the error. The
//! input of each step is a vector x_t: its embedding, or the numbers themselves. Gradient times input is x_t · df/dx_t.
//! Integrated gradients average that derivative along the straight line from a blank input, all vectors 0, to x:
//!
//! ```text
//! a_t = x_t · mean over s of df/dx_t (s x),   the sum of all a_t is f(x) - f(0)
//! ```
//!
//! Recurrent networks latch: f may jump within a small piece of the line. f itself says where, since over each piece it must
//! change by what the derivative adds up to; pieces where it does not are halved until the sum is right, or
//! they are narrower than f32 can tell: then the sum stays wrong, and [`Attribution::complete`] says so.

use serde::Serialize;
use throughline_kernels::Element;
use throughline_kernels::sequence::Ragged;
use throughline_nn::chain::Chain;
use throughline_nn::heads::{Bernoulli, Head, HeadCall, Regression, Softmax, Tagger};
use throughline_nn::layers::{Embedding, Linear, Recurrent, Words};
use throughline_nn::module::{Call, Gradients, Module, Pass, TapeSetting};

use crate::probe::{Probe, Subject, rows_of_sequences};

/// Pieces of the line at first, and at most.
const FEWEST_PIECES: usize = 16;
const MOST_PIECES: usize = 512;
/// Numbers of all points together at most.
const MOST_NUMBERS: usize = 1 << 26;
/// The narrowest piece that is halved: what happens within less of the line is lost in the numbers of f32.
const NARROWEST: f64 = 1e-6;
/// The sum of the parts is complete within this share of the difference that they explain, and within so many nats.
const TOLERANCE: f64 = 0.01;
const LEAST: f64 = 1e-3;
/// Rows that go through the network together at most, where one sequence has no more.
pub(crate) const ROWS: usize = 4096;

/// A body whose input is, or is turned into, a vector for each step.
pub trait ReadsVectors<E: Element>: Module<E> {
    /// What reads the vectors.
    type Reader: Module<E, Input = [E]>;
    /// Whether the vectors are the input itself.
    const ITSELF: bool;

    /// What reads the vectors, with its weights.
    fn reader<'a>(&'a self, packed: &'a Self::Packed) -> (&'a Self::Reader, &'a <Self::Reader as Module<E>>::Packed);

    /// `[N, F]`
    fn vectors(&self, call: Call<'_, E, Self>) -> Vec<E>;
}

/// Bodies that begin with a table of vectors.
macro_rules! reads_what_it_looks_up {
    ($($first:ty),*) => {$(
        impl<E: Element, B: Module<E, Input = [E]>> ReadsVectors<E> for Chain<$first, B> {
            type Reader = B;
            const ITSELF: bool = false;

            fn reader<'a>(&'a self, packed: &'a Self::Packed) -> (&'a B, &'a B::Packed) {
                (self.second(), &packed.1)
            }

            fn vectors(&self, Call { context, packed, rows, x, .. }: Call<'_, E, Self>) -> Vec<E> {
                let mut tape = Default::default();
                self.first().forward(Call { context, packed: &packed.0, rows, x, start: None }, &mut tape);
                self.first().output(rows, &tape).1.to_vec()
            }
        }
    )*};
}
reads_what_it_looks_up!(Embedding, Words);

/// Bodies that read numbers.
macro_rules! reads_its_input {
    ($([$($parameter:ident)?] $body:ty),*) => {$(
        impl<E: Element $(, $parameter: Module<E, Input = [E]>)?> ReadsVectors<E> for $body {
            type Reader = Self;
            const ITSELF: bool = true;

            fn reader<'a>(&'a self, packed: &'a Self::Packed) -> (&'a Self, &'a Self::Packed) {
                (self, packed)
            }

            fn vectors(&self, call: Call<'_, E, Self>) -> Vec<E> {
                call.x.to_vec()
            }
        }
    )*};
}
reads_its_input!([] Recurrent, [B] Chain<Recurrent, B>, [B] Chain<Linear, B>);

/// A head whose answers can be explained.
pub trait Explained<E: Element>: Head<E, Target: RepeatRows> {
    /// Whether the answer at the last step stands for itself; otherwise those of all steps are explained together.
    const LAST_STEP: bool;
}

impl<E: Element> Explained<E> for Softmax {
    const LAST_STEP: bool = true;
}
impl<E: Element> Explained<E> for Regression {
    const LAST_STEP: bool = true;
}
impl<E: Element> Explained<E> for Bernoulli {
    const LAST_STEP: bool = true;
}
/// A conditional random field answers for the whole sequence.
impl<E: Element> Explained<E> for Tagger {
    const LAST_STEP: bool = false;
}

/// Targets with as many numbers for each row.
pub trait RepeatRows: ToOwned {
    /// The rows `of` out of `rows`, each `times` times.
    fn repeat_rows(&self, rows: usize, of: &[usize], times: usize) -> Self::Owned;
}

impl<T: Copy> RepeatRows for [T] {
    fn repeat_rows(&self, rows: usize, of: &[usize], times: usize) -> Vec<T> {
        let width = self.len() / rows.max(1);
        of.iter().flat_map(|row| self[row * width..][..width].repeat(times)).collect()
    }
}

/// What the answer to one sequence rests on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attribution {
    /// f(x), the log-likelihood of the right answer.
    pub value: f64,
    /// f(0), that after a blank input.
    pub baseline: f64,
    /// Gradient times input, by step.
    pub gradient_input: Vec<f64>,
    /// Integrated gradients, by step.
    pub integrated: Vec<f64>,
    /// Where the network reads numbers: integrated gradients by column of its input, then by step.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<Vec<f64>>,
    /// Points of the line at which the gradient was taken.
    pub points: usize,
    /// Whether the parts add up to f(x) - f(0), within 1 % of it or a thousandth of a nat.
    pub complete: bool,
}

impl Attribution {
    /// The sum of the integrated gradients, which completeness says is f(x) - f(0).
    pub fn sum(&self) -> f64 {
        self.integrated.iter().sum()
    }

    /// f(x) - f(0)
    pub fn difference(&self) -> f64 {
        self.value - self.baseline
    }
}

/// The attributions of every sequence of `subject` that has a step; `None` for the others.
///
/// # Panics
/// If an array of `subject` does not match the batch.
pub fn attributions<E, B, H>(subject: Subject<'_, E, B, H>) -> Vec<Option<Attribution>>
where
    E: Element,
    B: ReadsVectors<E>,
    H: Explained<E>,
{
    let vectors = subject.network.body().vectors(subject.call(Pass::Inference));
    let width = vectors.len() / subject.rows.rows().max(1);
    let pooled = Probe::new(subject, false).output().0 != subject.rows;
    let of_sequence = |(sequence, rows): (usize, Vec<usize>)| {
        let x: Vec<E> = rows.iter().flat_map(|row| &vectors[row * width..][..width]).copied().collect();
        (!rows.is_empty()).then(|| Line { subject, pooled, sequence, rows, x }.attribution())
    };
    rows_of_sequences(subject.rows).into_iter().enumerate().map(of_sequence).collect()
}

/// The line from a blank input to that of one sequence.
struct Line<'a, E: Element, B: Module<E>, H: Head<E>> {
    subject: Subject<'a, E, B, H>,
    /// Whether a sequence has one answer, not one for each step.
    pooled: bool,
    sequence: usize,
    /// The packed rows of the sequence.
    rows: Vec<usize>,
    /// `[T, F]`
    x: Vec<E>,
}

impl<E: Element, B: ReadsVectors<E>, H: Explained<E>> Line<'_, E, B, H> {
    fn attribution(&self) -> Attribution {
        let shares: Vec<f64> = (0..=FEWEST_PIECES).map(|edge| edge as f64 / FEWEST_PIECES as f64).collect();
        let mut points = self.at(&shares);
        loop {
            let wrong: Vec<f64> = points.windows(2).map(|ends| wrong_by(&ends[0], &ends[1]).abs()).collect();
            let difference = points[points.len() - 1].value - points[0].value;
            // Half of what is tolerated, since rounding has a part in it.
            let tolerated = 0.5 * (TOLERANCE * difference.abs()).max(LEAST) / wrong.len() as f64;
            let width = |piece: usize| points[piece + 1].share - points[piece].share;
            let bad = (0..wrong.len()).filter(|&piece| wrong[piece] > tolerated && width(piece) > NARROWEST);
            let bad: Vec<f64> = bad.map(|piece| points[piece].share + 0.5 * width(piece)).collect();
            if bad.is_empty() || points.len() + bad.len() > self.most_points() {
                return self.found(&points);
            }
            points.extend(self.at(&bad));
            points.sort_by(|a, b| a.share.total_cmp(&b.share));
        }
    }

    /// As many as the pieces may have ends, and as memory has room for.
    fn most_points(&self) -> usize {
        (MOST_PIECES + 1).min(MOST_NUMBERS / self.x.len())
    }

    /// The mean over the line of what was found at these points of it.
    fn found(&self, points: &[Point]) -> Attribution {
        let (first, last) = (&points[0], &points[points.len() - 1]);
        let mut integrated = vec![0.0; first.parts.len()];
        for ends in points.windows(2) {
            let half = 0.5 * (ends[1].share - ends[0].share);
            for (sum, (a, b)) in integrated.iter_mut().zip(ends[0].parts.iter().zip(&ends[1].parts)) {
                *sum += half * (a + b);
            }
        }
        let steps = self.rows.len();
        let (sum, difference) = (integrated.iter().sum::<f64>(), last.value - first.value);
        Attribution {
            complete: (sum - difference).abs() <= (TOLERANCE * difference.abs()).max(LEAST),
            value: last.value,
            baseline: first.value,
            gradient_input: by_step(&last.parts, steps),
            integrated: by_step(&integrated, steps),
            columns: if B::ITSELF { by_column(&integrated, steps) } else { Vec::new() },
            points: points.len(),
        }
    }

    /// Points of the line, as many at a time as are no more rows than [`ROWS`]. Where all steps are explained together, so is
    /// all of a batch.
    fn at(&self, shares: &[f64]) -> Vec<Point> {
        let together = self.pooled || H::LAST_STEP;
        let count = if together { (ROWS / self.rows.len()).max(1) } else { 1 };
        shares.chunks(count).flat_map(|shares| self.batch(shares)).collect()
    }

    /// The points are sequences of a batch.
    fn batch(&self, shares: &[f64]) -> Vec<Point> {
        let Subject { network, weights, targets, .. } = self.subject;
        let (steps, points) = (self.rows.len(), shares.len());
        let width = self.x.len() / steps;
        let rows = Ragged::even(steps, points);
        let step = |x: &[E]| -> Vec<E> {
            let at = |share: &f64| -> Vec<E> { x.iter().map(|x| E::from_f64(x.to_f64() * share)).collect() };
            shares.iter().flat_map(at).collect()
        };
        let x: Vec<E> = self.x.chunks(width).flat_map(step).collect();
        let (reader, packed) = network.body().reader(&weights.packed.body);
        let context = self.subject.call(Pass::Traced).context;
        let call = Call { context, packed, rows: &rows, x: &x[..], start: None };
        let mut tape = Default::default();
        reader.set(&mut tape, TapeSetting::ParameterGradients(false));
        reader.forward(call, &mut tape);
        let (rows_out, y) = reader.output(&rows, &tape);
        let (wanted, scored) = if self.pooled {
            (targets.repeat_rows(self.subject.rows.batch(), &[self.sequence], points), 0..points)
        } else {
            let wanted = targets.repeat_rows(self.subject.rows.rows(), &self.rows, points);
            (wanted, if H::LAST_STEP { (steps - 1) * points..steps * points } else { 0..steps * points })
        };
        let wanted = std::borrow::Borrow::borrow(&wanted);
        let mut gradients = vec![E::ZERO; network.layout().length()];
        let (mut dy, mut head) = (vec![E::ZERO; y.len()], Default::default());
        let of_rows = |scored| HeadCall { context, packed: &weights.packed.head, rows: rows_out, x: y, scored };
        network.head().learn(of_rows(scored.clone()), wanted, 1.0, &mut dy, &mut gradients, &mut head);
        let each = scored.len() / points;
        let of_point = |point: usize| scored.start + point * each..scored.start + (point + 1) * each;
        // The loss falls where the log-likelihood rises.
        let mut value = |point: usize| -network.head().evaluate(of_rows(of_point(point)), wanted, &mut head).sum;
        let values: Vec<f64> = (0..points).map(&mut value).collect();
        let mut dx = vec![E::ZERO; x.len()];
        let gradients =
            Gradients { dy: Some(&mut dy), d_end: None, dx: Some(&mut dx), d_start: None, parameters: &mut gradients };
        reader.backward(call, gradients, &mut tape);
        let part = |point: usize, place: usize| {
            let (step, column) = (place / width, place % width);
            -self.x[place].to_f64() * dx[(step * points + point) * width + column].to_f64()
        };
        let point = |(point, value): (usize, f64)| {
            let parts = (0..self.x.len()).map(|place| part(point, place)).collect::<Vec<_>>();
            let parts = if B::ITSELF { parts } else { by_step(&parts, steps) };
            Point { share: shares[point], value, parts }
        };
        values.into_iter().enumerate().map(point).collect()
    }
}

/// What is known at a point of the line.
struct Point {
    /// Where: 0 is blank, 1 is x.
    share: f64,
    /// f there.
    value: f64,
    /// `[T, F]`, or where columns say nothing `[T]`: the numbers of x times their derivatives.
    parts: Vec<f64>,
}

/// How far the mean of the derivatives at two points is from the change of f between them.
fn wrong_by(from: &Point, to: &Point) -> f64 {
    let slopes: f64 = from.parts.iter().chain(&to.parts).sum();
    to.value - from.value - 0.5 * (to.share - from.share) * slopes
}

/// Sums of `[T, F]` over columns.
fn by_step(parts: &[f64], steps: usize) -> Vec<f64> {
    parts.chunks(parts.len() / steps).map(|step| step.iter().sum()).collect()
}

/// `[T, F]` column by column.
fn by_column(parts: &[f64], steps: usize) -> Vec<Vec<f64>> {
    let width = parts.len() / steps;
    (0..width).map(|column| parts.iter().skip(column).step_by(width).copied().collect()).collect()
}
