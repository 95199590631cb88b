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
//! The mean is taken at the middles of equal parts of the line, of which there are more until the sum is right.

use serde::Serialize;
use throughline_kernels::Element;
use throughline_kernels::sequence::Ragged;
use throughline_nn::chain::Chain;
use throughline_nn::heads::{Bernoulli, Head, HeadCall, Regression, Softmax, Tagger};
use throughline_nn::layers::{Embedding, Linear, Recurrent, Words};
use throughline_nn::module::{Call, Gradients, Module, Pass};

use crate::probe::{Probe, Subject, rows_of_sequences};

/// Points of the line at first, and at most.
const FEWEST_POINTS: usize = 16;
const MOST_POINTS: usize = 256;
/// The sum of the parts is complete within this share of the difference that they explain, and within so many nats.
const TOLERANCE: f64 = 0.01;
const LEAST: f64 = 1e-3;
/// Rows that go through the network together at most, where one sequence has no more.
const ROWS: usize = 4096;

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

    /// Whether the sum is the difference, within 1 % of it or a thousandth of a nat.
    pub fn is_complete(&self) -> bool {
        (self.sum() - self.difference()).abs() <= (TOLERANCE * self.difference().abs()).max(LEAST)
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
        let (value, gradient) = self.at(&[1.0]);
        let (baseline, _) = self.at(&[0.0]);
        let mut points = FEWEST_POINTS;
        loop {
            let integrated = self.parts(&self.mean_gradient(points));
            let found = Attribution {
                value,
                baseline,
                gradient_input: by_step(&self.parts(&gradient), self.rows.len()),
                integrated: by_step(&integrated, self.rows.len()),
                columns: if B::ITSELF { by_column(&integrated, self.rows.len()) } else { Vec::new() },
                points,
            };
            if found.is_complete() || points >= MOST_POINTS {
                return found;
            }
            points *= 2;
        }
    }

    /// `[T, F]`: each number of x times its derivative.
    fn parts(&self, gradient: &[f64]) -> Vec<f64> {
        self.x.iter().zip(gradient).map(|(x, gradient)| x.to_f64() * gradient).collect()
    }

    /// `[T, F]`: the mean of the derivative over the middles of so many parts of the line.
    fn mean_gradient(&self, points: usize) -> Vec<f64> {
        let shares: Vec<f64> = (0..points).map(|point| (point as f64 + 0.5) / points as f64).collect();
        let mut mean = vec![0.0; self.x.len()];
        for shares in shares.chunks((ROWS / self.rows.len()).clamp(1, points)) {
            let (_, gradient) = self.at(shares);
            mean.iter_mut().zip(gradient).for_each(|(mean, gradient)| *mean += gradient / points as f64);
        }
        mean
    }

    /// The sums over these points of the line of f and of df/dx `[T, F]`. The points are sequences of a batch.
    fn at(&self, shares: &[f64]) -> (f64, Vec<f64>) {
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
        reader.forward(call, &mut tape);
        let (rows_out, y) = reader.output(&rows, &tape);
        let (wanted, scored) = if self.pooled {
            (targets.repeat_rows(self.subject.rows.batch(), &[self.sequence], points), 0..points)
        } else {
            let wanted = targets.repeat_rows(self.subject.rows.rows(), &self.rows, points);
            (wanted, if H::LAST_STEP { (steps - 1) * points..steps * points } else { 0..steps * points })
        };
        let mut gradients = vec![E::ZERO; network.layout().length()];
        let mut dy = vec![E::ZERO; y.len()];
        let head_call = HeadCall { context, packed: &weights.packed.head, rows: rows_out, x: y, scored };
        let wanted = std::borrow::Borrow::borrow(&wanted);
        let loss = network.head().learn(head_call, wanted, 1.0, &mut dy, &mut gradients, &mut Default::default());
        let mut dx = vec![E::ZERO; x.len()];
        let gradients =
            Gradients { dy: Some(&mut dy), d_end: None, dx: Some(&mut dx), d_start: None, parameters: &mut gradients };
        reader.backward(call, gradients, &mut tape);
        // The loss falls where the log-likelihood rises.
        let mut gradient = vec![0.0; self.x.len()];
        for (step, dx) in gradient.chunks_mut(width).zip(dx.chunks(points * width)) {
            for of_point in dx.chunks(width) {
                step.iter_mut().zip(of_point).for_each(|(sum, dx)| *sum -= dx.to_f64());
            }
        }
        (-loss.sum, gradient)
    }
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
