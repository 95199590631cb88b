//! How a stack's work is split across threads, and whether another plan would be faster.

use std::fmt::Write;

use anyhow::{Result, bail};
use throughline_kernels::sequence::{Plan, Split};

use crate::arguments::Arguments;
use crate::layer::Layer;
use crate::output::say;
use crate::sizes::Sizes;
use crate::timing::{Subject, median};

/// Rounds in which every plan is measured, unless the arguments say how many.
const ROUNDS: usize = 7;
/// About how many seconds a plan is timed in a round, unless a single run takes longer.
const LEAST: f64 = 5e-3;
/// How many times as long as the best plan the chosen one may take.
const TOLERANCE: f64 = 1.1;

/// Says what is known before anything is measured, so that it is there however the measurement ends.
pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.runs.is_some() && !arguments.assert {
        bail!(
            "--runs: expected --assert with it, as --explain alone times nothing, found none; add it, or leave --runs out"
        );
    }
    let sizes = Sizes::of_stack(arguments)?;
    let mut layer = Layer::new(arguments, &sizes)?;
    say(&explain(&layer))?;
    if arguments.assert {
        let rounds = arguments.runs.map_or(ROUNDS, |runs| runs as usize);
        let (text, share) = compare(&mut layer, rounds);
        say(&text)?;
        judge(share)?;
    }
    Ok(())
}

/// `share`: the time of the chosen plan over that of the best.
fn judge(share: f64) -> Result<()> {
    if share > TOLERANCE {
        bail!(
            "--assert: expected a plan that takes at most {TOLERANCE} times the time of the best, found {share:.2} times"
        );
    }
    Ok(())
}

fn explain(layer: &Layer) -> String {
    let (batch, threads) = (&layer.batch, &layer.cpu.threads);
    let mut text = format!(
        "{} sequences, {} steps, {} rows, {} threads, {}\n",
        batch.batch(),
        batch.steps(),
        batch.rows(),
        threads.count(),
        layer.cpu.isa.name().as_str()
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

/// Measures every plan on all layers by turns, round after round; and what the layers choose, where they do not agree. In
/// words, and the chosen plan's share of the best one's time.
fn compare(layer: &mut Layer, rounds: usize) -> (String, f64) {
    let (batch, threads) = (&layer.batch, &layer.cpu.threads);
    let chosen: Vec<Plan> = layer.packed.layers().iter().map(|packed| packed.plan(batch, threads)).collect();
    let mut plans: Vec<Option<Plan>> = layer.packed.layers()[0].plans(batch, threads).into_iter().map(Some).collect();
    if !chosen.iter().all(|plan| same(plan, &chosen[0])) {
        plans.push(None);
    }
    let as_chosen = plans.iter().position(|plan| plan.as_ref().is_none_or(|plan| same(plan, &chosen[0])));
    let as_chosen =
        if plans.last() == Some(&None) { plans.len() - 1 } else { as_chosen.expect("a plan is one of all") };
    let mut seconds = vec![Vec::with_capacity(rounds); plans.len()];
    for _ in 0..rounds {
        for (plan, seconds) in plans.iter().zip(&mut seconds) {
            layer.packed.layers_mut().iter_mut().for_each(|layer| layer.force(*plan));
            // Untimed, so that the caches hold what this plan leaves in them.
            let first = layer.run(1);
            let runs = ((LEAST / first) as usize).clamp(1, 1000);
            seconds.push(layer.run(runs) / runs as f64);
        }
    }
    layer.packed.layers_mut().iter_mut().for_each(|layer| layer.force(None));
    let medians: Vec<f64> = seconds.iter_mut().map(|seconds| median(seconds)).collect();
    let best = medians.iter().copied().fold(f64::INFINITY, f64::min);
    let mut text = format!("measured, the medians of {rounds} rounds:\n");
    for (index, (plan, median)) in plans.iter().zip(&medians).enumerate() {
        let mark = if index == as_chosen { "*" } else { " " };
        let name = plan.as_ref().map_or("each layer as it chooses".to_owned(), name);
        let _ = writeln!(text, "  {mark} {name}: {:.3} ms, {:.2} of the best", median * 1e3, median / best);
    }
    (text, medians[as_chosen] / best)
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

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn a_plan_may_be_a_little_slower_than_the_best() {
        assert!(judge(1.0).is_ok() && judge(1.1).is_ok());
        assert!(judge(1.2).unwrap_err().to_string().contains("found 1.20 times"));
    }
}
