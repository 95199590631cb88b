//! What the cells cost and what they reach, at equal width and at equal parameters.

use std::time::Instant;

use throughline_inspect::Quantiles;
use throughline_inspect::figures::{Axis, Panel, Sheet};
use throughline_inspect::numbers::number;
use throughline_kernels::cells::CellKind;
use throughline_nn::heads::Softmax;
use throughline_nn::initialise::Initialise;
use throughline_nn::layers::recurrent::Readout;
use throughline_nn::layers::{Recurrent, RecurrentConfig};
use throughline_nn::network::Network;

use crate::jobs;
use crate::learner::{Classifier, Learner, Learning, classifier};
use crate::outcome::{Best, Outcome, Spread, Table, listed};
use crate::problems::random;
use crate::texts::{Part, Source};
use crate::{Bench, Effort, Experiment};

pub const EXPERIMENT: Experiment = Experiment {
    name: "cells",
    question: "What does each cell reach, and what does it cost, at equal width and at equal parameters?",
    reads_text: true,
    run,
};

struct Kind {
    name: &'static str,
    cell: CellKind,
    layer_norm: bool,
}

const fn kind(name: &'static str, cell: CellKind, layer_norm: bool) -> Kind {
    Kind { name, cell, layer_norm }
}

const KINDS: [Kind; 5] = [
    kind("RNN", CellKind::RnnTanh, false),
    kind("LSTM", CellKind::Lstm, false),
    kind("LSTM (layer-normalised)", CellKind::Lstm, true),
    kind("GRU (reset after)", CellKind::GruAfter, false),
    kind("GRU (reset before)", CellKind::GruBefore, false),
];
const RNN: usize = 0;
/// Whose parameters the others are given.
const LSTM: usize = 1;

impl Kind {
    /// Reads and predicts one of so many units.
    fn network(&self, units: usize, hidden: usize) -> Network<Recurrent, Softmax> {
        let config = RecurrentConfig { layer_norm: self.layer_norm, ..RecurrentConfig::new(self.cell, units, hidden) };
        classifier(config, Readout::Rows, units)
    }

    fn learner(&self, units: usize, hidden: usize, seed: u64) -> Classifier {
        let how = Initialise { forget_bias: 1.0, ..Initialise::new(seed) };
        Learner::new(self.network(units, hidden), &how, Learning::adam(RATE))
    }

    fn parameters(&self, units: usize, hidden: usize) -> usize {
        self.network(units, hidden).layout().parameter_count()
    }

    /// The width at which it has the nearest to so many parameters.
    fn width_of(&self, units: usize, parameters: usize) -> usize {
        nearest_width(parameters, |hidden| self.parameters(units, hidden))
    }
}

/// The width at which a network, which has `of` it parameters, has the nearest to so many.
pub fn nearest_width(parameters: usize, of: impl Fn(usize) -> usize) -> usize {
    let above = (1..).find(|&width| of(width) >= parameters).expect("parameters grow with the width");
    let below = above.saturating_sub(1).max(1);
    let distance = |width: usize| of(width).abs_diff(parameters);
    if distance(above) < distance(below) { above } else { below }
}

const RATE: f64 = 0.003;

struct Size {
    hidden: usize,
    length: usize,
    batch: usize,
    updates: usize,
    /// Updates from one measurement to the next.
    between: usize,
    tests: usize,
    seeds: u64,
    /// Updates and streamed steps that are timed.
    timed: usize,
}

impl Size {
    fn of(effort: Effort) -> Self {
        effort.choose(
            Self { hidden: 64, length: 64, batch: 32, updates: 1500, between: 100, tests: 200, seeds: 3, timed: 41 },
            Self { hidden: 12, length: 16, batch: 8, updates: 20, between: 10, tests: 20, seeds: 1, timed: 5 },
        )
    }
}

/// Nats for each unit above the least, after each part of the training.
fn learn(kind: &Kind, hidden: usize, seed: u64, size: &Size, source: Source<'_>) -> Vec<f64> {
    let (tests, least) = source.draw(&mut random(seed, 1), Part::Tests, size.tests, size.length);
    let (mut learner, mut data) = (kind.learner(source.units(), hidden, seed), random(seed, 0));
    let mut excess = Vec::new();
    for update in 1..=size.updates {
        learner.learn(&source.draw(&mut data, Part::Training, size.batch, size.length).0);
        if update % size.between == 0 {
            excess.push(learner.evaluate(&tests).mean() - least);
        }
    }
    excess
}

/// What a network costs.
struct Cost {
    /// Microseconds a step of training, and a step of one stream.
    training: f64,
    streamed: f64,
    /// Bytes a step of the tape, and of the state of a stream.
    tape: usize,
    state: usize,
}

/// Measured alone, on one thread: what other work on the machine does not disturb, the fastest tenth.
fn cost(kind: &Kind, hidden: usize, size: &Size, source: Source<'_>) -> Cost {
    let mut learner = kind.learner(source.units(), hidden, 1);
    let (batch, _) = source.draw(&mut random(1, 2), Part::Training, size.batch, size.length);
    let steps = batch.rows.rows();
    let mut training: Vec<f64> = (0..size.timed)
        .map(|_| {
            let begun = Instant::now();
            learner.learn(&batch);
            begun.elapsed().as_secs_f64() * 1e6 / steps as f64
        })
        .collect();
    let tape = learner.tape().layer(0).bytes() / steps;
    let streamed = learner.stream(&batch.x[..source.units()], size.timed * size.length);
    let mut streamed: Vec<f64> = streamed.iter().map(|step| step.microseconds).collect();
    let [training, streamed] = [&mut training, &mut streamed].map(|times| Quantiles::of(times).low);
    let state = learner.network.state_shape().numbers() * size_of::<f32>();
    Cost { training, streamed, tape, state }
}

/// A cell at a width, with what was measured.
struct Measured {
    hidden: usize,
    parameters: usize,
    /// By seed, then by part of the training: nats above the least.
    excess: Vec<Vec<f64>>,
    cost: Cost,
}

impl Measured {
    fn reached(&self) -> Spread {
        Spread::of(&self.excess.iter().map(|parts| parts[parts.len() - 1]).collect::<Vec<_>>())
    }

    /// The mean over seeds after each part of the training.
    fn curve(&self, between: usize) -> Vec<(f64, f64)> {
        let mean = |part: usize| Spread::of(&self.excess.iter().map(|parts| parts[part]).collect::<Vec<_>>()).mean;
        (0..self.excess[0].len()).map(|part| ((between * (part + 1)) as f64, mean(part))).collect()
    }
}

const COMPARISONS: [&str; 2] = ["equal width", "equal parameters"];

fn run(bench: &Bench<'_>) -> Outcome {
    let (size, source) = (Size::of(bench.effort), bench.texts());
    let units = source.units();
    let parameters = KINDS[LSTM].parameters(units, size.hidden);
    let widths = [[size.hidden; KINDS.len()], KINDS.each_ref().map(|kind| kind.width_of(units, parameters))];
    let mut runs: Vec<(usize, usize, u64)> = Vec::new();
    for (kind, hidden) in widths.iter().flat_map(|widths| widths.iter().copied().enumerate()) {
        let new = (1..=size.seeds).map(|seed| (kind, hidden, seed)).filter(|run| !runs.contains(run));
        runs.extend(new.collect::<Vec<_>>());
    }
    let learned = jobs::each(bench, &runs, |&(kind, hidden, seed)| learn(&KINDS[kind], hidden, seed, &size, source));
    let measured = widths.map(|widths| {
        std::array::from_fn(|kind| {
            let hidden = widths[kind];
            let here = runs.iter().zip(&learned).filter(|(run, _)| (run.0, run.1) == (kind, hidden));
            let excess = here.map(|(_, excess)| excess.clone()).collect();
            Measured {
                hidden,
                parameters: KINDS[kind].parameters(units, hidden),
                excess,
                cost: cost(&KINDS[kind], hidden, &size, source),
            }
        })
    });
    let least = source.draw(&mut random(1, 1), Part::Tests, size.tests, size.length).1;
    Outcome {
        name: EXPERIMENT.name,
        question: EXPERIMENT.question,
        setting: setting(&size, &source.about(least)),
        tables: measured.iter().zip(COMPARISONS).map(|(measured, name)| table(name, source, measured)).collect(),
        figure: figure(&size, source, &measured),
        seen: seen(source, &measured),
    }
}

fn setting(size: &Size, text: &str) -> String {
    format!(
        "{text} One layer under a softmax, texts of {} units, {} updates of Adam at {RATE} with {} texts each, clipped to 1, gates that \
         keep the state begin with a bias of 1, {} seeds. Times are on one thread, those of the fastest tenth; a step is a unit of one \
         text.",
        size.length, size.updates, size.batch, size.seeds
    )
}

fn table(name: &str, source: Source<'_>, measured: &[Measured; KINDS.len()]) -> Table {
    let head = ["cell", "units", "parameters", source.measured(), "µs a training step", "µs a streamed step"];
    let head = head.into_iter().chain(["tape, bytes a step", "state, bytes"]).map(str::to_owned);
    let mut table = Table::new(&format!("At {name}"), head);
    for (kind, measured) in KINDS.iter().zip(measured) {
        let Measured { hidden, parameters, cost: Cost { training, streamed, tape, state }, .. } = measured;
        let counts = [hidden, parameters].map(ToString::to_string).into_iter();
        let rest =
            [measured.reached().to_string(), number(*training), number(*streamed), tape.to_string(), state.to_string()];
        table.add(kind.name, counts.chain(rest));
    }
    table
}

fn figure(size: &Size, source: Source<'_>, measured: &[[Measured; KINDS.len()]; 2]) -> Sheet {
    let curves = |measured: &[Measured]| -> Vec<(usize, Vec<(f64, f64)>)> {
        measured.iter().map(|measured| measured.curve(size.between)).enumerate().collect()
    };
    let panel = |(name, measured): (&str, &[Measured; KINDS.len()])| Panel {
        caption: format!("At {name}"),
        x: Axis::linear("update", size.between as f64..size.updates as f64),
        y: match source {
            Source::Grammar => Axis::logarithmic(source.measured(), 10.0, 0.001..1.0),
            Source::Given(_) => {
                let all = measured.iter().flat_map(|measured| measured.excess.iter().flatten().copied());
                Axis::linear(source.measured(), 0.0..all.filter(|nats| nats.is_finite()).fold(1.0, f64::max).ceil())
            }
        },
        guides: Vec::new(),
        curves: curves(measured),
    };
    let keys = KINDS.iter().map(|kind| kind.name.to_owned()).collect();
    Sheet { keys, panels: COMPARISONS.into_iter().zip(measured).map(panel).collect() }
}

fn seen(source: Source<'_>, measured: &[[Measured; KINDS.len()]; 2]) -> Vec<String> {
    let mut said = Vec::new();
    for (measured, name) in measured.iter().zip(COMPARISONS) {
        let reached: Vec<Spread> = measured.iter().map(Measured::reached).collect();
        let Best { place, others } = Best::of(&KINDS.each_ref().map(|kind| kind.name), &reached);
        said.push(format!(
            "At {name} the best was {}, {:.3} {} ({others}).",
            KINDS[place].name,
            reached[place].mean,
            source.measured()
        ));
    }
    let [of_width, of_parameters] = measured;
    let gap = |measured: &[Measured; KINDS.len()]| measured[RNN].reached().mean - measured[LSTM].reached().mean;
    let [at_width, at_parameters] = [gap(of_width), gap(of_parameters)];
    said.push(match (at_width > 0.0, at_parameters > 0.0) {
        (true, true) => format!(
            "The RNN is {at_width:.3} nats behind the LSTM at equal width and {at_parameters:.3} at equal parameters: {}.",
            if at_parameters < at_width / 2.0 {
                "most of its lag is its fewer parameters"
            } else {
                "what it lacks is not parameters but gates"
            }
        ),
        (true, false) => "The RNN is behind the LSTM at equal width and not at equal parameters.".to_owned(),
        (false, _) => "The RNN is not behind the LSTM, even at equal width.".to_owned(),
    });
    let share = |of: fn(&Cost) -> f64, kind: usize| of(&of_width[kind].cost) / of(&of_width[LSTM].cost);
    let compared = |of: fn(&Cost) -> f64| -> Vec<String> {
        let others = (0..KINDS.len()).filter(|&kind| kind != LSTM);
        others.map(|kind| format!("{} {:.2}", KINDS[kind].name, share(of, kind))).collect()
    };
    said.push(format!(
        "At equal width a step of training takes, with the LSTM's as 1: {}; its tape: {}.",
        listed(&compared(|cost| cost.training)),
        listed(&compared(|cost| cost.tape as f64))
    ));
    vec![said.join(" ")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_width() {
        let lstm = &KINDS[LSTM];
        assert_eq!(lstm.width_of(14, lstm.parameters(14, 9)), 9);
        let parameters = lstm.parameters(14, 16);
        let hidden = KINDS[RNN].width_of(14, parameters);
        let distance = |hidden: usize| KINDS[RNN].parameters(14, hidden).abs_diff(parameters);
        assert!(hidden > 16 && distance(hidden) <= distance(hidden - 1).min(distance(hidden + 1)));
    }
}
