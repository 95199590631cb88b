//! How the work of a stack is shared out, and whether another way would be faster.

use std::fmt::Write;

use anyhow::{Result, bail};
use throughline::kernels::sequence::{Plan, Split};

use super::Sizes;
use super::layer::Layer;
use super::timing::{Subject, median};
use crate::arguments::BenchArguments;

/// Times that every way is measured, unless the arguments say how often.
const ROUNDS: usize = 7;
/// Seconds that a way is timed in a round, about, unless a single run takes longer.
const LEAST: f64 = 5e-3;
/// What the chosen way may take of the best one's time.
const TOLERANCE: f64 = 1.1;

pub fn report(arguments: &BenchArguments) -> Result<String> {
    let sizes = Sizes::of_stack(arguments)?;
    sizes.check_memory(0)?;
    let mut layer = Layer::new(arguments, &sizes)?;
    let mut text = explain(&layer);
    if arguments.assert {
        let rounds = arguments.runs.map_or(ROUNDS, |runs| runs as usize);
        text.push_str(&compare(&mut layer, rounds)?);
    }
    Ok(text.trim_end().to_owned())
}

fn explain(layer: &Layer) -> String {
    let (batch, threads) = (&layer.batch, &layer.machine.threads);
    let mut text = format!(
        "{} sequences, {} steps, {} rows, {} threads, {}\n",
        batch.batch(),
        batch.steps(),
        batch.rows(),
        threads.count(),
        layer.machine.isa.name().as_str()
    );
    for (index, packed) in layer.packed.layers().iter().enumerate() {
        let shape = packed.shape();
        let weights = shape.gate_rows() * shape.hidden * size_of::<f32>();
        let kept = (shape.slot_width() + if shape.cell.has_cell_state() { shape.hidden } else { 0 }) * size_of::<f32>();
        let _ = writeln!(
            text,
            "layer {index}: {} {} -> {}, {} direction(s); recurrent weights of a direction {:.2} MiB; the tape keeps {kept} \
             bytes a row and direction",
            shape.cell.name(),
            shape.input,
            shape.hidden,
            shape.directions,
            weights as f64 / (1 << 20) as f64,
        );
        let chosen = packed.plan(batch, threads);
        for plan in packed.plans(batch, threads) {
            let mark = if same(&plan, &chosen) { "*" } else { " " };
            let _ = writeln!(text, "  {mark} {}: about {:.2} million cycles forward", name(&plan), plan.cycles / 1e6);
        }
    }
    text
}

/// Measures every plan on all layers by turns, round after round; and what the layers choose, where they do not agree.
fn compare(layer: &mut Layer, rounds: usize) -> Result<String> {
    let (batch, threads) = (&layer.batch, &layer.machine.threads);
    let chosen: Vec<Plan> = layer.packed.layers().iter().map(|packed| packed.plan(batch, threads)).collect();
    let mut ways: Vec<Option<Plan>> = layer.packed.layers()[0].plans(batch, threads).into_iter().map(Some).collect();
    if !chosen.iter().all(|plan| same(plan, &chosen[0])) {
        ways.push(None);
    }
    let as_chosen = ways.iter().position(|way| way.as_ref().is_none_or(|way| same(way, &chosen[0])));
    let as_chosen = if ways.last() == Some(&None) { ways.len() - 1 } else { as_chosen.expect("a plan is one of all") };
    let mut seconds = vec![Vec::with_capacity(rounds); ways.len()];
    for _ in 0..rounds {
        for (way, seconds) in ways.iter().zip(&mut seconds) {
            layer.packed.layers_mut().iter_mut().for_each(|layer| layer.force(*way));
            // Untimed, so that the caches hold what this way leaves in them.
            let first = layer.once();
            let runs = ((LEAST / first) as usize).clamp(1, 1000);
            seconds.push((0..runs).map(|_| layer.once()).sum::<f64>() / runs as f64);
        }
    }
    layer.packed.layers_mut().iter_mut().for_each(|layer| layer.force(None));
    let medians: Vec<f64> = seconds.iter_mut().map(|seconds| median(seconds)).collect();
    let best = medians.iter().copied().fold(f64::INFINITY, f64::min);
    let mut text = format!("measured, the medians of {rounds} rounds:\n");
    for (index, (way, median)) in ways.iter().zip(&medians).enumerate() {
        let mark = if index == as_chosen { "*" } else { " " };
        let name = way.as_ref().map_or("each layer as it chooses".to_owned(), name);
        let _ = writeln!(text, "  {mark} {name}: {:.3} ms, {:.2} of the best", median * 1e3, median / best);
    }
    let share = medians[as_chosen] / best;
    if share > TOLERANCE {
        bail!("{text}the chosen plan takes {share:.2} times the time of the best; {TOLERANCE} is allowed");
    }
    Ok(text)
}

fn same(a: &Plan, b: &Plan) -> bool {
    (a.workers, a.split) == (b.workers, b.split)
}

fn name(plan: &Plan) -> String {
    match (plan.workers, plan.split) {
        (1, _) => "one worker".to_owned(),
        (workers, Split::Columns) => format!("{workers} workers by sequences"),
        (workers, Split::Units) => format!("{workers} workers by hidden units"),
    }
}
