//! A look inside recurrent networks of Throughline: what they remember, and how they learn it.
//!
//! [`inspect`] runs a trained model over some of its data, with its tape open, and measures
//!
//! - how far back gradients reach ([`gradient_flow()`]), and inputs ([`interventions`]);
//! - what the gates do, and for how long each unit remembers ([`gate_statistics`]);
//! - what the recurrent weights do to a state ([`spectra`]);
//! - what the answers to some sequences rest on, and what units do over them ([`examples()`]);
//! - whether something is wrong, and what may help ([`diagnose`]).
//!
//! Each of these also runs alone, on any network ([`Subject`]), in f32 or f64. [`trace()`] hands out the numbers themselves.
#![forbid(unsafe_code)]

mod attribution;
mod diagnosis;
mod examples;
pub mod figures;
mod gates;
mod gradient_flow;
mod horizon;
pub mod numbers;
mod probe;
mod quantiles;
mod report;
mod spectrum;
pub mod terminal;
mod trace;
mod training;

pub use attribution::{Attribution, Explained, ReadsVectors, RepeatRows, attributions};
pub use diagnosis::{Fault, Finding, diagnose};
pub use examples::{Column, Example, UnitTrace, examples};
pub use gates::{Activation, BINS, GateStatistics, Gates, StateStatistics, gate_statistics};
pub use gradient_flow::{AtLag, Flow, FlowState, GONE, gradient_flow};
pub use horizon::{Effect, ExchangeRows, interventions};
pub use probe::{Probe, Site, Subject};
pub use quantiles::Quantiles;
pub use report::Report;
pub use spectrum::{Spectrum, largest_singular_value, spectra, spectral_radius};
pub use trace::{Selection, Trace, TraceArray, TraceFormat, Tracer};
pub use training::{Training, Update};

use std::borrow::Borrow;

use probe::stacks;
use serde::{Serialize, Serializer};
use throughline_infer::{Chosen, Error, ExamplesOf, Parts, Result, Sample, Serve};
use throughline_kernels::cells::CellKind;
use throughline_kernels::sequence::Ragged;
use throughline_nn::layers::Recurrent;
use throughline_nn::layers::recurrent::RecurrentTape;
use throughline_nn::module::Cpu;
use throughline_nn::network::Weights;

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The sequences, and the steps of each.
    pub sample: Sample<'static>,
    /// Steps of each sequence from whose loss gradients go back, where every step has one.
    pub anchors: usize,
    /// Sequences that are shown in detail, half of them those of the highest loss and half those of the lowest.
    pub examples: usize,
}

impl Options {
    /// 100 sequences of at most 200 steps, 16 anchors in each, 4 of them in detail.
    pub const DEFAULT: Self = Self { sample: Sample::spread(100, 200), anchors: 16, examples: 4 };
}

impl Default for Options {
    /// [`DEFAULT`](Self::DEFAULT)
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What [`inspect`] found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Inspection {
    /// The cell of the stack that reads the steps of the data.
    #[serde(serialize_with = "name_of")]
    pub cell: Option<CellKind>,
    /// Sequences that were read.
    pub sequences: usize,
    /// Their steps together.
    pub steps: usize,
    /// How far back gradients reach, for each state of each direction of each layer.
    pub flow: Vec<Flow>,
    /// Whether the answer to a sequence is made of all of its steps (by a mean, the largest or attention). Then its loss enters at
    /// each of them, and how gradients change with the lag says nothing about memory.
    pub pools_steps: bool,
    /// How far back inputs change the last output.
    pub effects: Vec<Effect>,
    /// Gates and states.
    #[serde(flatten)]
    pub gates: Gates,
    /// The recurrent weights.
    pub spectra: Vec<Spectrum>,
    /// Some sequences in detail, from the highest loss to the lowest.
    pub examples: Vec<Example>,
}

fn name_of<S: Serializer>(cell: &Option<CellKind>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    cell.map(CellKind::name).serialize(serializer)
}

/// A task whose models can be inspected.
pub trait Inspectable:
    Serve<Body: ReadsVectors<f32, Input: ToOwned<Owned: ExchangeRows + Clone>>, Head: Explained<f32>>
{
}

impl<T> Inspectable for T where
    T: Serve<Body: ReadsVectors<f32, Input: ToOwned<Owned: ExchangeRows + Clone>>, Head: Explained<f32>>
{
}

/// The most bytes that a sample may take.
const MOST_BYTES: usize = 4 << 30;
/// Sequences in which inputs are replaced, at most: each lag is a pass of its own.
const REPLACED: usize = 25;
/// Steps of a sequence that is shown in detail, at most.
const LONGEST_EXAMPLE: usize = 200;

/// Looks into a trained model with some of `data`.
///
/// # Errors
/// [`Error::Input`] if there is nothing to read in `data`, or the sample would take more than 4 GiB.
///
/// # Panics
/// If there are no anchors.
pub fn inspect<T: Inspectable>(parts: &Parts<T>, data: &T::Data, options: Options, cpu: &Cpu) -> Result<Inspection> {
    let Parts { network, parameters, .. } = parts;
    let sample = sampled(parts, data, options.sample)?;
    let rows = &sample.rows;
    let mut bytes = 0;
    stacks(network.body(), &Default::default(), &mut |stack, _| bytes += bytes_of(stack, rows, options));
    check_memory(rows, bytes, "take fewer sequences, steps, anchors or examples")?;
    let packed = network.packed(cpu, parameters, true);
    let weights = Weights { cpu, parameters: &parameters[..], packed: &packed };
    let subject = Subject { network, weights, rows, x: sample.x.borrow(), targets: sample.targets.borrow() };
    let mut probe = Probe::new(subject, true);
    let mut reading = Vec::new();
    probe.stacks(&mut |stack, _| reading.push(stack.clone()));
    let shown = examples::highest_and_lowest(&examples::losses(&probe), options.examples);
    let shown: Vec<usize> = shown.into_iter().map(|place| sample.indices[place]).collect();
    let fewer = match options.sample.chosen {
        Chosen::Spread(sequences) => Chosen::Spread(sequences.min(REPLACED)),
        these => these,
    };
    let fewer = sampled(parts, data, Sample { chosen: fewer, ..options.sample })?;
    let replaced = Subject { rows: &fewer.rows, x: fewer.x.borrow(), targets: fewer.targets.borrow(), ..subject };
    let effects = interventions(replaced, &fewer.x);
    Ok(Inspection {
        cell: reading.first().map(|stack| stack.config().cell),
        sequences: rows.batch(),
        steps: rows.rows(),
        gates: gate_statistics(&probe),
        pools_steps: probe.pools_steps(),
        flow: gradient_flow(&mut probe, options.anchors),
        effects,
        spectra: reading.iter().flat_map(|stack| spectra(cpu, network.layout(), parameters, stack)).collect(),
        examples: in_detail(subject, parts, data, options.sample, &shown),
    })
}

/// Every gate, state, pre-activation and gradient that is selected, of a trained model over some of `data`, with what was read at each
/// step.
///
/// # Errors
/// [`Error::Input`] if there is nothing to read in `data`, something is selected that the model does not have, or the arrays would
/// take more than 4 GiB.
pub fn trace<T: Serve>(
    parts: &Parts<T>,
    data: &T::Data,
    sample: Sample<'_>,
    selection: &Selection,
    cpu: &Cpu,
) -> Result<Trace<f32>> {
    let Parts { network, parameters, .. } = parts;
    let names = trace::names::<f32, _>(network.body());
    if let Some(pattern) = selection.without_match(&names) {
        let expected = format!("the name of an array, or a pattern that matches one of {}", names.join(", "));
        return Err(Error::Input { expected, found: format!("{pattern:?}") });
    }
    let examples = sampled(parts, data, sample)?;
    let rows = &examples.rows;
    let mut bytes = 0;
    let mut add = |stack: &Recurrent, _: &RecurrentTape<f32>| bytes += trace::bytes_of(stack, rows, selection);
    stacks(network.body(), &Default::default(), &mut add);
    check_memory(rows, bytes, "take fewer sequences or steps, or select fewer arrays")?;
    let packed = network.packed(cpu, parameters, true);
    let weights = Weights { cpu, parameters: &parameters[..], packed: &packed };
    let subject = Subject { network, weights, rows, x: examples.x.borrow(), targets: examples.targets.borrow() };
    Ok(Trace { pieces: examples.pieces, ..Trace::of(subject, selection) })
}

/// The sequences of `data` with these indices in detail.
fn in_detail<T: Inspectable>(
    subject: Subject<'_, f32, T::Body, T::Head>,
    parts: &Parts<T>,
    data: &T::Data,
    sample: Sample<'_>,
    indices: &[usize],
) -> Vec<Example> {
    if indices.is_empty() {
        return Vec::new();
    }
    // More steps than these are no picture.
    let few = Sample { chosen: Chosen::These(indices), steps: sample.steps.min(LONGEST_EXAMPLE), ..sample };
    let few = T::sample(&parts.config, &parts.encoder, data, few);
    let subject = Subject { rows: &few.rows, x: few.x.borrow(), targets: few.targets.borrow(), ..subject };
    examples(subject, few.pieces.as_ref(), &few.columns)
}

/// Some of `data`, of which something can be read.
fn sampled<T: Serve>(parts: &Parts<T>, data: &T::Data, sample: Sample<'_>) -> Result<ExamplesOf<T>> {
    let examples = T::sample(&parts.config, &parts.encoder, data, sample);
    if examples.rows.rows() == 0 {
        let expected = format!("{} to look at", T::INFO.counted);
        return Err(Error::Input { expected, found: "none with a step".to_owned() });
    }
    Ok(examples)
}

fn check_memory(rows: &Ragged, bytes: usize, advice: &str) -> Result<()> {
    if bytes > MOST_BYTES {
        let expected = format!("at most {MOST_BYTES} bytes of memory; {advice}");
        return Err(Error::Input { expected, found: format!("{bytes} bytes for {} steps", rows.rows()) });
    }
    Ok(())
}

/// What a look at these rows takes: on the tape and in the gradients of a row slots twice, h and c three times, and h and c once
/// more where inputs are replaced; the same of the rows that go through the network for attributions; and a norm for each anchor
/// and lag, of h and of c.
fn bytes_of(stack: &Recurrent, rows: &Ragged, options: Options) -> usize {
    let config = stack.config();
    let of_tape = config.hidden * (2 * config.cell.slots() + 6) * size_of::<f32>();
    let replaced = config.hidden * (config.cell.slots() + 2) * size_of::<f32>();
    let norms = 2 * options.anchors.min(rows.steps()) * size_of::<f64>();
    let in_detail = if options.examples > 0 { attribution::ROWS.max(rows.steps()) } else { 0 };
    config.layers * config.directions() * (rows.rows() * (of_tape + replaced + norms) + in_detail * of_tape)
}
