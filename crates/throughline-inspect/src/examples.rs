//! A few sequences in detail: what was read, what the answer rests on, and what some units do over it.

use std::borrow::Borrow;

use serde::Serialize;
use throughline_infer::Pieces;
use throughline_kernels::Element;
use throughline_kernels::sequence::Ragged;
use throughline_nn::heads::Head;
use throughline_nn::module::Module;

use crate::attribution::{Attribution, Explained, ReadsVectors, RepeatRows, attributions};
use crate::numbers::ascending;
use crate::probe::{Probe, Site, Subject, rows_of_sequences};

/// Units that are shown.
const UNITS: usize = 6;

/// The hidden state of one unit over a sequence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UnitTrace {
    /// Where the unit is.
    #[serde(flatten)]
    pub site: Site,
    /// Which of the layer's units it is, from 0.
    pub unit: usize,
    /// h by step.
    pub values: Vec<f64>,
}

/// A column of the numbers that are read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Column {
    /// Its name, such as that of a channel.
    pub name: String,
    /// Its numbers by step.
    pub values: Vec<f64>,
}

/// One sequence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Example {
    /// The mean loss over the sequence.
    pub loss: f64,
    /// What was read at each step; `None` where it was numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pieces: Option<Vec<String>>,
    /// Where numbers were read: these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Column>,
    /// What the answer rests on.
    pub attribution: Attribution,
    /// The units of the top layer whose state changes most over all examples.
    pub units: Vec<UnitTrace>,
}

/// Every sequence of `subject` that has a step; `pieces` says what its rows read, or `columns` what their numbers are.
///
/// # Panics
/// If there is not a name for each column of numbers.
pub fn examples<E, B, H>(subject: Subject<'_, E, B, H>, pieces: Option<&Pieces>, columns: &[String]) -> Vec<Example>
where
    E: Element,
    B: ReadsVectors<E>,
    H: Explained<E>,
{
    let probe = Probe::new(subject, false);
    let of_sequences = rows_of_sequences(subject.rows);
    let x = if B::ITSELF && pieces.is_none() {
        subject.network.body().vectors(subject.call(throughline_nn::module::Pass::Inference))
    } else {
        Vec::new()
    };
    let width = x.len() / subject.rows.rows().max(1);
    assert!(x.is_empty() || columns.len() == width, "{} names for {width} columns", columns.len());
    let (units, losses) = (lively_units(&probe), losses(&probe));
    let all = attributions(subject).into_iter().enumerate();
    all.filter_map(|(sequence, attribution)| {
        let rows = &of_sequences[sequence];
        let trace = |(site, unit, states): &(Site, usize, Vec<f64>)| UnitTrace {
            site: site.clone(),
            unit: *unit,
            values: rows.iter().map(|&row| states[row]).collect(),
        };
        let column = |column: usize| Column {
            name: columns[column].clone(),
            values: rows.iter().map(|row| x[row * width + column].to_f64()).collect(),
        };
        Some(Example {
            loss: losses[sequence],
            pieces: pieces.map(|pieces| rows.iter().map(|&row| pieces.at(row).to_owned()).collect()),
            inputs: (0..width).map(column).collect(),
            attribution: attribution?,
            units: units.iter().map(trace).collect(),
        })
    })
    .collect()
}

/// The mean loss of each sequence. The head reads what the body has put out for one after the other.
pub(crate) fn losses<E, B, H>(probe: &Probe<'_, E, B, H>) -> Vec<f64>
where
    E: Element,
    B: Module<E>,
    H: Explained<E>,
{
    let (rows, y) = probe.output();
    let width = y.len() / rows.rows().max(1);
    let loss = |own: Vec<usize>| {
        let y: Vec<E> = own.iter().flat_map(|row| &y[row * width..][..width]).copied().collect();
        let targets = probe.targets().repeat_rows(rows.rows(), &own, 1);
        probe.loss(&Ragged::new(&[own.len()]), &y, targets.borrow()).mean()
    };
    rows_of_sequences(rows).into_iter().map(loss).collect()
}

/// At most `count` sequences, from the highest loss to the lowest: half of them have the highest, and half the lowest.
pub(crate) fn highest_and_lowest(losses: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..losses.len()).collect();
    order.sort_by(|&a, &b| ascending(&losses[b], &losses[a]));
    let left_out = losses.len().saturating_sub(count);
    let highest = (losses.len() - left_out).div_ceil(2);
    order.drain(highest..highest + left_out);
    order
}

/// The units of the top layer's forward direction whose h varies most, with h of every packed row, in the order of the units.
fn lively_units<E: Element, B: Module<E>, H: Head<E>>(probe: &Probe<'_, E, B, H>) -> Vec<(Site, usize, Vec<f64>)> {
    let (rows, mut found) = (probe.rows().rows(), Vec::new());
    probe.stacks(&mut |stack, tape| {
        let Some(site) = Site::all(stack).filter(|site| !site.reverse).last() else { return };
        let states = |unit: usize| -> Vec<f64> {
            (0..rows).map(|row| tape.hidden(site.layer, site.direction(), row)[unit].to_f64()).collect()
        };
        found = (0..stack.config().hidden).map(|unit| (site.clone(), unit, states(unit))).collect();
    });
    let variance = |states: &[f64]| {
        let mean = states.iter().sum::<f64>() / states.len() as f64;
        states.iter().map(|h| (h - mean) * (h - mean)).sum::<f64>()
    };
    found.sort_by(|(_, _, a), (_, _, b)| variance(b).total_cmp(&variance(a)));
    found.truncate(UNITS);
    found.sort_by_key(|(_, unit, _)| *unit);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_are_the_worst_and_half_the_best() {
        let losses = [0.5, 3.0, 0.1, 2.0, 1.0];
        assert_eq!(highest_and_lowest(&losses, 4), [1, 3, 0, 2]);
        assert_eq!(highest_and_lowest(&losses, 3), [1, 3, 2]);
        assert_eq!(highest_and_lowest(&losses, 0), [0usize; 0]);
        assert_eq!(highest_and_lowest(&losses, 9), [1, 3, 4, 0, 2]);
        assert_eq!(highest_and_lowest(&[1.0, -f64::NAN, 2.0], 2), [1, 0]);
    }
}
