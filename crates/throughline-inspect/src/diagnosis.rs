//! What is wrong with a network, in words: each finding with its measurement and a remedy.

use serde::Serialize;
use throughline_kernels::cells::CellKind;

use crate::gates::Activation;
use crate::gradient_flow::GONE;
use crate::numbers::{ascending, counted};
use crate::{Flow, Inspection, Training};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Gradients die within a few steps.
    Vanishing,
    /// Gradients grow with the lag, or most updates had to be clipped.
    Exploding,
    /// Most activations of a gate stand at the ends of its range, where its slope is almost 0.
    Saturated,
    /// Units that do nothing.
    Dead,
}

/// A fault, what it was seen by, and what may help.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// The fault.
    pub fault: Fault,
    /// What was measured, in a sentence.
    pub seen: String,
    /// What may help, in a sentence.
    pub remedy: String,
}

/// Where half of the gradients are gone so early, training cannot connect a cause with what comes later.
const EARLY: usize = 5;
/// Lags that a sequence must have for its gradients to be judged.
const LONG_ENOUGH: usize = 12;
/// Gradients that grow to so many times that at lag 0 explode.
const GROWN: f64 = 10.0;
/// More clipped updates than this are too many.
const CLIPPED: f64 = 0.5;
/// A gate is saturated where so many activations are near the ends of its range.
const SATURATED: f64 = 0.9;
/// More dead units than this are too many.
const DEAD: f64 = 0.2;

/// What is wrong; nothing with a healthy network.
pub fn diagnose(inspection: &Inspection, training: &Training) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(vanishing(inspection));
    findings.extend(exploding(inspection, training));
    findings.extend(saturated(inspection));
    findings.extend(dead(inspection));
    findings
}

/// What tells of memory: the states that carry it, unless losses enter at every step and need none.
fn judged(inspection: &Inspection) -> impl Iterator<Item = &Flow> {
    inspection.flow.iter().filter(|flow| flow.carried && !inspection.pools_steps)
}

fn vanishing(inspection: &Inspection) -> impl Iterator<Item = Finding> {
    let gated = inspection.cell.is_some_and(CellKind::has_candidate);
    judged(inspection).filter(|flow| flow.lags.len() >= LONG_ENOUGH).filter_map(move |flow| {
        let horizon = flow.horizon(GONE).filter(|&lag| lag <= EARLY)?;
        let remedy = match gated {
            false => {
                "A plain RNN multiplies the gradient by W_hh at every step: use an LSTM or a GRU (model.cell), or begin with \
                 orthogonal recurrent weights (model.initialise = \"orthogonal\")."
            }
            true => {
                "Begin with gates that remember: model.forget_bias = 1 or more, or model.longest_memory at the lag that \
                 matters; check too that the data ask for a longer memory at all."
            }
        };
        Some(Finding {
            fault: Fault::Vanishing,
            seen: format!(
                "Gradients vanish in {}: {} back, half of them have less than 1 % of their size left.",
                flow.site,
                counted(horizon, "step")
            ),
            remedy: remedy.to_owned(),
        })
    })
}

fn exploding(inspection: &Inspection, training: &Training) -> Vec<Finding> {
    let remedy = match training.clip_norm {
        Some(_) => "Lower the learning rate, clip to a smaller train.clip_norm, or use a gated cell.",
        None => "Clip gradients (train.clip_norm = 1), lower the learning rate, or use a gated cell.",
    };
    let grown = judged(inspection).filter_map(|flow| {
        let (lag, at) =
            flow.lags.iter().enumerate().max_by(|(_, a), (_, b)| ascending(&a.relative.median, &b.relative.median))?;
        (at.relative.median > GROWN).then(|| Finding {
            fault: Fault::Exploding,
            seen: format!(
                "Gradients explode in {}: {} back, half of them are more than {:.0} times as large as at the loss itself.",
                flow.site,
                counted(lag, "step"),
                at.relative.median
            ),
            remedy: remedy.to_owned(),
        })
    });
    let clipped = training.clipped().and_then(|share| {
        (share > CLIPPED).then(|| Finding {
            fault: Fault::Exploding,
            seen: format!(
                "In {:.0} % of the measured updates the gradient was larger than train.clip_norm.",
                100.0 * share
            ),
            remedy: "Lower the learning rate or warm it up for longer, or raise train.clip_norm if training is stable."
                .to_owned(),
        })
    });
    grown.chain(clipped).collect()
}

fn saturated(inspection: &Inspection) -> impl Iterator<Item = Finding> {
    // A gate that keeps the state is near 1 where memory is long; the candidates of trained gated cells are often all but
    // binary, and their gates do the weighing; a ReLU has no upper end.
    let gated = inspection.cell.is_some_and(CellKind::has_candidate);
    let judged = inspection.gates.gates.iter().filter(move |gate| match gate.activation {
        Activation::Sigmoid => true,
        Activation::Tanh => !gated,
        Activation::Relu => false,
    });
    let with_share = judged.map(|gate| (gate, gate.low + if gate.keeps { 0.0 } else { gate.high }));
    with_share.filter(|(_, share)| *share > SATURATED).map(|(gate, share)| Finding {
        fault: Fault::Saturated,
        seen: format!(
            "The {} of {} is saturated: {:.0} % of its activations are near the ends of their range, where they hardly \
             learn.",
            gate.gate,
            gate.site,
            100.0 * share
        ),
        remedy: "Begin with smaller weights, scale the inputs, lower the learning rate, or use weight decay."
            .to_owned(),
    })
}

fn dead(inspection: &Inspection) -> impl Iterator<Item = Finding> {
    let states = inspection.gates.states.iter();
    let with_units = states.filter_map(|state| {
        let gate = inspection.gates.gates.iter().find(|gate| gate.site == state.site)?;
        Some((state, gate.units.len()))
    });
    with_units.filter(|(state, units)| state.dead as f64 > DEAD * *units as f64).map(|(state, units)| Finding {
        fault: Fault::Dead,
        seen: format!(
            "{} of the {units} units of {} are dead: their state is below 0.001 at every step.",
            state.dead, state.site
        ),
        remedy: "Lower the learning rate, use tanh or a gated cell instead of a ReLU, or make the layer smaller."
            .to_owned(),
    })
}
