//! A look inside recurrent networks of Throughline: what they remember, and how they learn it.
//!
//! [`inspect`] runs a trained model over some of its data, with its tape open, and measures
//!
//! - how far back gradients reach ([`gradient_flow()`]), and inputs ([`interventions`]);
//! - what the gates do, and for how long each unit remembers ([`gate_statistics`]);
//! - what the recurrent weights do to a state ([`spectra`]);
//! - whether something is wrong, and what may help ([`diagnose`]).
//!
//! Each of these also runs alone, on any network ([`Subject`]), in f32 or f64.
#![forbid(unsafe_code)]

mod diagnosis;
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
mod training;

pub use diagnosis::{Fault, Finding, diagnose};
pub use gates::{Activation, BINS, GateStatistics, Gates, StateStatistics, gate_statistics};
pub use gradient_flow::{AtLag, Flow, gradient_flow};
pub use horizon::{Effect, ExchangeRows, interventions};
pub use probe::{Probe, Site, Subject};
pub use quantiles::Quantiles;
pub use report::Report;
pub use spectrum::{Spectrum, largest_singular_value, spectra, spectral_radius};
pub use training::{Training, Update};

use probe::every_stack;
use serde::{Serialize, Serializer};
use throughline_infer::{Error, ExamplesOf, Parts, Result, Sample, Serve};
use throughline_kernels::cells::CellKind;
use throughline_kernels::sequence::Ragged;
use throughline_nn::layers::Recurrent;
use throughline_nn::module::{Cpu, Module};
use throughline_nn::network::Weights;

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The sequences, and the steps of each.
    pub sample: Sample,
    /// Steps of each sequence from whose loss gradients go back, where every step has one.
    pub anchors: usize,
}

impl Default for Options {
    /// 100 sequences of at most 200 steps, 16 anchors in each.
    fn default() -> Self {
        Self { sample: Sample { sequences: 100, steps: 200 }, anchors: 16 }
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
    /// How far back gradients reach, for each direction of each layer.
    pub flow: Vec<Flow>,
    /// How far back inputs change the last output.
    pub effects: Vec<Effect>,
    /// Gates and states.
    #[serde(flatten)]
    pub gates: Gates,
    /// The recurrent weights.
    pub spectra: Vec<Spectrum>,
}

fn name_of<S: Serializer>(cell: &Option<CellKind>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    cell.map(CellKind::name).serialize(serializer)
}

/// The most bytes that a sample may take.
const MOST_BYTES: usize = 4 << 30;

/// Looks into a trained model with some of `data`.
///
/// # Errors
/// [`Error::Input`] if there is nothing to read in `data`, or the sample would take more than 4 GiB.
///
/// # Panics
/// If there are no anchors.
pub fn inspect<T: Serve>(parts: &Parts<T>, data: &T::Data, options: Options, cpu: &Cpu) -> Result<Inspection>
where
    <<T::Body as Module<f32>>::Input as ToOwned>::Owned: ExchangeRows + Clone,
{
    let Parts { config, encoder, network, parameters } = parts;
    let examples: ExamplesOf<T> = T::sample(config, encoder, data, options.sample);
    let rows = &examples.rows;
    if rows.rows() == 0 {
        let expected = format!("{} to look at", T::INFO.counted);
        return Err(Error::Input { expected, found: "none with a step".to_owned() });
    }
    let (body, mut bytes) = (network.body(), 0);
    every_stack(body, &Default::default(), &mut |stack, _| bytes += bytes_of(stack, rows, options.anchors));
    if bytes > MOST_BYTES {
        let expected = format!("at most {MOST_BYTES} bytes of memory; take fewer sequences, steps or anchors");
        return Err(Error::Input { expected, found: format!("{bytes} bytes for {} steps", rows.rows()) });
    }
    let packed = network.packed(cpu, parameters, true);
    let weights = Weights { cpu, parameters: &parameters[..], packed: &packed };
    let (x, targets) = (std::borrow::Borrow::borrow(&examples.x), std::borrow::Borrow::borrow(&examples.targets));
    let subject = Subject { network, weights, rows, x, targets };
    let mut probe = Probe::new(subject, true);
    let mut reading = Vec::new();
    probe.stacks(&mut |stack, _| reading.push(stack.clone()));
    Ok(Inspection {
        cell: reading.first().map(|stack| stack.config().cell),
        sequences: rows.batch(),
        steps: rows.rows(),
        gates: gate_statistics(&probe),
        flow: gradient_flow(&mut probe, options.anchors),
        effects: interventions(subject, &examples.x),
        spectra: reading.iter().flat_map(|stack| spectra(cpu, network.layout(), parameters, stack)).collect(),
    })
}

/// What a look at these rows takes: on the tape and in the gradients of a row slots twice, h and c three times; and a norm for
/// each anchor and lag.
fn bytes_of(stack: &Recurrent, rows: &Ragged, anchors: usize) -> usize {
    let config = stack.config();
    let of_tape = config.hidden * (2 * config.cell.slots() + 6) * size_of::<f32>();
    let of_norms = anchors.min(rows.steps()) * size_of::<f64>();
    config.layers * config.directions() * rows.rows() * (of_tape + of_norms)
}
