//! How far back an input changes the output: by intervention.
//!
//! For each lag k, the input k steps before the last one is replaced by that of another sequence, as many steps before its
//! end, all else unchanged, and the change of the head's numbers at the end is measured: |y' - y| / |y|. A lag at which nothing
//! changes is beyond the model's memory, whatever gradients say.

use serde::Serialize;
use throughline_kernels::Element;
use throughline_kernels::sequence::Ragged;
use throughline_nn::heads::{Head, HeadCall};
use throughline_nn::layers::WordRows;
use throughline_nn::module::{Module, Pass};

use crate::probe::{Subject, rows_of_sequences};
use crate::quantiles::Quantiles;

/// An input whose packed rows can be exchanged.
pub trait ExchangeRows {
    /// Writes packed row `from` of `before` over row `to` of `self`, of `rows` rows in all.
    fn copy_row(&mut self, before: &Self, rows: usize, from: usize, to: usize);
}

impl<T: Copy> ExchangeRows for Vec<T> {
    fn copy_row(&mut self, before: &Self, rows: usize, from: usize, to: usize) {
        let width = self.len() / rows;
        self[to * width..][..width].copy_from_slice(&before[from * width..][..width]);
    }
}

impl ExchangeRows for WordRows {
    fn copy_row(&mut self, before: &Self, _: usize, from: usize, to: usize) {
        WordRows::copy_row(self, before, from, to);
    }
}

/// The effect of inputs at one lag.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Effect {
    /// Steps between the replaced input and the output.
    pub lag: usize,
    /// Sequences that are so long, and have another one to take the input from.
    pub sequences: usize,
    /// |y' - y| / |y|
    pub change: Quantiles,
}

/// The lags that are tried in sequences of at most `longest` steps: 0, 1, 2, 4, 8, ...
fn lags(longest: usize) -> impl Iterator<Item = usize> {
    let doubled = std::iter::successors(Some(1), |lag| Some(2 * lag));
    std::iter::once(0).chain(doubled).take_while(move |&lag| lag < longest)
}

/// The effect of the inputs at lags 0, 1, 2, 4, 8, ... on the last output of each sequence of `subject`, whose input is `x`.
pub fn interventions<E, B, H>(subject: Subject<'_, E, B, H>, x: &<B::Input as ToOwned>::Owned) -> Vec<Effect>
where
    E: Element,
    B: Module<E, Input: ToOwned<Owned: ExchangeRows + Clone>>,
    H: Head<E>,
{
    let of_sequences = rows_of_sequences(subject.rows);
    let longest = of_sequences.iter().map(Vec::len).max().unwrap_or(0);
    let rows = subject.rows.rows();
    let (mut body, mut head) = (B::Tape::default(), H::Tape::default());
    let before = last_outputs(subject, &mut body, &mut head);
    let effect = |lag: usize| {
        let mut changed = x.clone();
        let long: Vec<usize> = (0..of_sequences.len()).filter(|&index| of_sequences[index].len() > lag).collect();
        for (place, &index) in long.iter().enumerate() {
            let donor = &of_sequences[long[(place + 1) % long.len()]];
            let own = &of_sequences[index];
            changed.copy_row(x, rows, donor[donor.len() - 1 - lag], own[own.len() - 1 - lag]);
        }
        let after = last_outputs(Subject { x: std::borrow::Borrow::borrow(&changed), ..subject }, &mut body, &mut head);
        let mut changes: Vec<f64> = match long.len() {
            0 | 1 => Vec::new(),
            _ => long.iter().map(|&index| relative_change(&before[index], &after[index])).collect(),
        };
        Effect { lag, sequences: changes.len(), change: Quantiles::of(&mut changes) }
    };
    lags(longest).map(effect).filter(|effect| effect.sequences > 0).collect()
}

/// The head's numbers at the last step of each sequence; of one without a step none.
fn last_outputs<E: Element, B: Module<E>, H: Head<E>>(
    subject: Subject<'_, E, B, H>,
    body: &mut B::Tape,
    head: &mut H::Tape,
) -> Vec<Vec<f64>> {
    let Subject { network, weights, rows, .. } = subject;
    network.body().forward(subject.call(Pass::Inference), body);
    let call = network.head_call(weights, rows, body);
    let width = call.x.len() / call.rows.rows().max(1);
    let last: Vec<Option<usize>> = rows_of_sequences(call.rows).iter().map(|rows| rows.last().copied()).collect();
    // The head reads the last rows alone: of all rows its numbers could be many times what the body keeps.
    let x: Vec<E> = last.iter().flatten().flat_map(|row| &call.x[row * width..][..width]).copied().collect();
    let ends = Ragged::even(1, last.iter().flatten().count());
    let outputs = network.head().project(HeadCall { rows: &ends, x: &x, scored: 0..ends.rows(), ..call }, head);
    let mut outputs = outputs.chunks((outputs.len() / ends.rows().max(1)).max(1));
    let of_sequence = |row: Option<usize>| {
        let output = row.and_then(|_| outputs.next()).unwrap_or_default();
        output.iter().map(|y| y.to_f64()).collect()
    };
    last.into_iter().map(of_sequence).collect()
}

fn relative_change(before: &[f64], after: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let change = norm(&mut before.iter().zip(after).map(|(before, after)| after - before));
    let size = norm(&mut before.iter().copied());
    if change == 0.0 { 0.0 } else { change / size }
}
