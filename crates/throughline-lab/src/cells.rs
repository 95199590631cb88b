//! What the cells cost and what they reach, at equal width and at equal parameters.

use std::time::Instant;

use throughline_inspect::Quantiles;
use throughline_inspect::figures::{Axis, Panel, Sheet};
use throughline_inspect::numbers::number;
use throughline_kernels::cells::CellKind;
use throughline_kernels::random::Stream;
use throughline_kernels::sequence::Ragged;
use throughline_nn::heads::Softmax;
use throughline_nn::initialise::Initialise;
use throughline_nn::layers::recurrent::Readout;
use throughline_nn::layers::{Recurrent, RecurrentConfig};
use throughline_nn::network::Network;

use crate::jobs;
use crate::learner::{Batch, Classifier, Learner, Learning, classifier};
use crate::outcome::{Best, Outcome, Spread, Table, listed};
use crate::problems::{one_hot, random};
use crate::{Bench, Effort, Experiment};

pub const EXPERIMENT: Experiment = Experiment {
    name: "cells",
    question: "What does each cell reach, and what does it cost, at equal width and at equal parameters?",
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
    kind("LSTM, layer-normalised", CellKind::Lstm, true),
    kind("GRU, reset after", CellKind::GruAfter, false),
    kind("GRU, reset before", CellKind::GruBefore, false),
];
const RNN: usize = 0;
/// Whose parameters the others are given.
const LSTM: usize = 1;

impl Kind {
    fn config(&self, hidden: usize) -> RecurrentConfig {
        RecurrentConfig { layer_norm: self.layer_norm, ..RecurrentConfig::new(self.cell, UNITS, hidden) }
    }

    fn network(&self, hidden: usize) -> Network<Recurrent, Softmax> {
        classifier(self.config(hidden), Readout::Rows, UNITS)
    }

    fn learner(&self, hidden: usize, seed: u64) -> Classifier {
        let how = Initialise { forget_bias: 1.0, ..Initialise::new(seed) };
        Learner::new(self.network(hidden), &how, Learning::adam(RATE))
    }

    fn parameters(&self, hidden: usize) -> usize {
        self.network(hidden).layout().parameter_count()
    }

    /// The width at which it has the nearest to so many parameters.
    fn width_of(&self, parameters: usize) -> usize {
        nearest_width(parameters, |hidden| self.parameters(hidden))
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

/// Kinds of brackets, the words that are said within one, and how deep they nest.
const BRACKETS: usize = 4;
const WORDS: usize = 6;
const DEEPEST: usize = 8;
/// Opening brackets, closing ones, words.
pub const UNITS: usize = 2 * BRACKETS + WORDS;

/// The probability of each unit after what was written so far, of which the open brackets tell all.
fn probabilities(open: &[usize]) -> [f64; UNITS] {
    const OPENS: f64 = 0.25;
    const CLOSES: f64 = 0.25;
    let mut all = [0.0; UNITS];
    let (mut words, innermost) = (1.0, open.last());
    if open.len() < DEEPEST {
        all[..BRACKETS].fill(OPENS / BRACKETS as f64);
        words -= OPENS;
    }
    if let Some(&innermost) = innermost {
        all[BRACKETS + innermost] = CLOSES;
        words -= CLOSES;
    }
    // Within a bracket, its word is said more often than the others.
    for (word, probability) in all[2 * BRACKETS..].iter_mut().enumerate() {
        *probability = match innermost {
            Some(&innermost) if innermost == word => 0.75 * words,
            Some(_) => 0.25 * words / (WORDS - 1) as f64,
            None => words / WORDS as f64,
        };
    }
    all
}

/// Texts of the grammar: what is read, what comes next, and the nats for each unit that nobody can do without.
pub fn texts(random: &mut Stream, count: usize, length: usize) -> (Batch<u32>, f64) {
    let mut nats = 0.0;
    let mut text = || {
        let (mut open, mut units) = (Vec::new(), Vec::new());
        for _ in 0..=length {
            let all = probabilities(&open);
            let mut left = random.uniform();
            let unit = all.iter().position(|p| {
                left -= p;
                left < 0.0
            });
            // Rounding may leave a little of 1.
            let unit = unit.unwrap_or(UNITS - 1);
            // The first unit is only read.
            nats -= if units.is_empty() { 0.0 } else { all[unit].ln() };
            match unit {
                _ if unit < BRACKETS => open.push(unit),
                _ if unit < 2 * BRACKETS => _ = open.pop(),
                _ => (),
            }
            units.push(unit);
        }
        units
    };
    let texts: Vec<Vec<usize>> = (0..count).map(|_| text()).collect();
    let (rows, mut x, mut targets) = (Ragged::even(length, count), Vec::new(), Vec::new());
    rows.for_each_row(|_, text, t| {
        x.extend(one_hot(UNITS, texts[text][t]));
        targets.push(texts[text][t + 1] as u32);
    });
    (Batch { rows, x, targets }, nats / (count * length) as f64)
}

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

/// Nats for each unit above those of the grammar, after each part of the training.
fn learn(kind: &Kind, hidden: usize, seed: u64, size: &Size) -> Vec<f64> {
    let (tests, entropy) = texts(&mut random(seed, 1), size.tests, size.length);
    let (mut learner, mut data) = (kind.learner(hidden, seed), random(seed, 0));
    let mut excess = Vec::new();
    for update in 1..=size.updates {
        learner.learn(&texts(&mut data, size.batch, size.length).0);
        if update % size.between == 0 {
            excess.push(learner.evaluate(&tests).mean() - entropy);
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
fn cost(kind: &Kind, hidden: usize, size: &Size) -> Cost {
    let mut learner = kind.learner(hidden, 1);
    let (batch, _) = texts(&mut random(1, 2), size.batch, size.length);
    let steps = batch.rows.rows();
    let mut training: Vec<f64> = (0..size.timed)
        .map(|_| {
            let begun = Instant::now();
            learner.learn(&batch);
            begun.elapsed().as_secs_f64() * 1e6 / steps as f64
        })
        .collect();
    let tape = learner.tape().layer(0).bytes() / steps;
    let streamed = learner.stream(&batch.x[..UNITS], size.timed * size.length);
    let mut streamed: Vec<f64> = streamed.iter().map(|step| step.microseconds).collect();
    let [training, streamed] = [&mut training, &mut streamed].map(|times| Quantiles::of(times).low);
    let state = learner.network.state_shape().numbers() * size_of::<f32>();
    Cost { training, streamed, tape, state }
}

/// A cell at a width, with what was measured.
struct Measured {
    hidden: usize,
    parameters: usize,
    /// By seed, then by part of the training: nats above the grammar's.
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
    let size = Size::of(bench.effort);
    let parameters = KINDS[LSTM].parameters(size.hidden);
    let widths = [[size.hidden; KINDS.len()], KINDS.each_ref().map(|kind| kind.width_of(parameters))];
    let mut runs: Vec<(usize, usize, u64)> = Vec::new();
    for (kind, hidden) in widths.iter().flat_map(|widths| widths.iter().copied().enumerate()) {
        let new = (1..=size.seeds).map(|seed| (kind, hidden, seed)).filter(|run| !runs.contains(run));
        runs.extend(new.collect::<Vec<_>>());
    }
    let learned = jobs::each(bench, &runs, |&(kind, hidden, seed)| learn(&KINDS[kind], hidden, seed, &size));
    let measured = widths.map(|widths| {
        std::array::from_fn(|kind| {
            let hidden = widths[kind];
            let here = runs.iter().zip(&learned).filter(|(run, _)| (run.0, run.1) == (kind, hidden));
            let excess = here.map(|(_, excess)| excess.clone()).collect();
            Measured {
                hidden,
                parameters: KINDS[kind].parameters(hidden),
                excess,
                cost: cost(&KINDS[kind], hidden, &size),
            }
        })
    });
    let entropy = texts(&mut random(1, 1), size.tests, size.length).1;
    Outcome {
        name: EXPERIMENT.name,
        question: EXPERIMENT.question,
        setting: setting(&size, entropy),
        tables: measured.iter().zip(COMPARISONS).map(|(measured, name)| table(name, measured)).collect(),
        figure: figure(&size, &measured),
        seen: seen(&measured),
    }
}

fn setting(size: &Size, entropy: f64) -> String {
    format!(
        "The text is written by a grammar: {BRACKETS} kinds of brackets that nest at most {DEEPEST} deep, and {WORDS} words of which the \
         innermost open bracket makes one likely, so that good guesses need all brackets that are open. The grammar's own loss on \
         the test texts is {entropy:.3} nats a unit; what a model loses beyond it is counted. One layer under a softmax, texts of \
         {} units, {} updates of Adam at {RATE} with {} new texts each, clipped to 1, gates that keep the state begin with a bias of 1, {} \
         seeds. Times are on one thread, those of the fastest tenth; a step is a unit of one text.",
        size.length, size.updates, size.batch, size.seeds
    )
}

fn table(name: &str, measured: &[Measured; KINDS.len()]) -> Table {
    let head = ["cell", "units", "parameters", "nats above the grammar", "µs a training step", "µs a streamed step"];
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

fn figure(size: &Size, measured: &[[Measured; KINDS.len()]; 2]) -> Sheet {
    let curves = |measured: &[Measured]| -> Vec<(usize, Vec<(f64, f64)>)> {
        measured.iter().map(|measured| measured.curve(size.between)).enumerate().collect()
    };
    let panel = |(name, measured): (&str, &[Measured; KINDS.len()])| Panel {
        caption: format!("At {name}"),
        x: Axis::linear("update", size.between as f64..size.updates as f64),
        y: Axis::logarithmic("nats above the grammar", 10.0, 0.001..1.0),
        guides: Vec::new(),
        curves: curves(measured),
    };
    let keys = KINDS.iter().map(|kind| kind.name.to_owned()).collect();
    Sheet { keys, panels: COMPARISONS.into_iter().zip(measured).map(panel).collect() }
}

fn seen(measured: &[[Measured; KINDS.len()]; 2]) -> Vec<String> {
    let mut said = Vec::new();
    for (measured, name) in measured.iter().zip(COMPARISONS) {
        let reached: Vec<Spread> = measured.iter().map(Measured::reached).collect();
        let Best { place, others } = Best::of(&KINDS.each_ref().map(|kind| kind.name), &reached);
        said.push(format!(
            "At {name} the best was {}, {:.3} nats above the grammar ({others}).",
            KINDS[place].name, reached[place].mean
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
    fn the_grammar_is_one() {
        for open in [&[][..], &[2], &[0, 3, 1], &[1; DEEPEST]] {
            let all = probabilities(open);
            assert!((all.iter().sum::<f64>() - 1.0).abs() < 1e-12 && all.iter().all(|p| *p >= 0.0), "{all:?}");
            let closing = (0..BRACKETS).filter(|&kind| all[BRACKETS + kind] > 0.0).collect::<Vec<_>>();
            assert_eq!(closing, open.last().copied().into_iter().collect::<Vec<_>>());
            assert_eq!(all[0] > 0.0, open.len() < DEEPEST);
        }
    }

    #[test]
    fn texts_close_what_they_open() {
        let (batch, nats) = texts(&mut random(1, 0), 50, 80);
        assert!(nats > 1.0 && nats < (UNITS as f64).ln(), "{nats}");
        let mut open = vec![Vec::new(); 50];
        batch.rows.for_each_row(|row, text, _| {
            let unit = batch.x[row * UNITS..][..UNITS].iter().position(|&x| x == 1.0).unwrap();
            match unit {
                _ if unit < BRACKETS => open[text].push(unit),
                _ if unit < 2 * BRACKETS => assert_eq!(open[text].pop(), Some(unit - BRACKETS)),
                _ => (),
            }
            assert!(probabilities(&open[text])[batch.targets[row] as usize] > 0.0);
        });
    }

    #[test]
    fn the_nearest_width() {
        let lstm = &KINDS[LSTM];
        assert_eq!(lstm.width_of(lstm.parameters(9)), 9);
        let parameters = lstm.parameters(16);
        let hidden = KINDS[RNN].width_of(parameters);
        let distance = |hidden: usize| KINDS[RNN].parameters(hidden).abs_diff(parameters);
        assert!(hidden > 16 && distance(hidden) <= distance(hidden - 1).min(distance(hidden + 1)));
    }
}
