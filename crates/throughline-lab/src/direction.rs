//! What it buys to read in both directions, where tags need what comes later.

use throughline_inspect::figures::{Axis, Panel, Sheet};
use throughline_kernels::cells::CellKind;
use throughline_nn::heads::Softmax;
use throughline_nn::initialise::Initialise;
use throughline_nn::layers::recurrent::Readout;
use throughline_nn::layers::{Recurrent, RecurrentConfig};
use throughline_nn::network::Network;

use crate::jobs;
use crate::learner::{Batch, Learner, Learning, classifier};
use crate::outcome::{Outcome, Spread, Table};
use crate::problems::random;
use crate::tags::{Texts, UNITS};
use crate::{Bench, Effort, Experiment};

pub const EXPERIMENT: Experiment = Experiment {
    name: "direction",
    question: "What does the second direction buy where tags need the future?",
    reads_text: false,
    run,
};

/// The kinds of the last mark and the next one together.
const TAGS: usize = 4;
const RATE: f64 = 0.004;
/// Steps to the next mark that are told apart; those beyond count as the last.
const FARTHEST: usize = 10;

struct Size {
    hidden: usize,
    batch: usize,
    updates: usize,
    tests: usize,
    seeds: u64,
}

impl Size {
    fn of(effort: Effort) -> Self {
        effort.choose(
            Self { hidden: 32, batch: 32, updates: 600, tests: 400, seeds: 5 },
            Self { hidden: 8, batch: 8, updates: 20, tests: 20, seeds: 1 },
        )
    }
}

fn network(bidirectional: bool, hidden: usize) -> Network<Recurrent, Softmax> {
    let config = RecurrentConfig { bidirectional, ..RecurrentConfig::new(CellKind::Lstm, UNITS, hidden) };
    classifier(config, Readout::Rows, TAGS)
}

fn parameters((bidirectional, hidden): (bool, usize)) -> usize {
    network(bidirectional, hidden).layout().parameter_count()
}

fn tagged(texts: &Texts) -> Batch<u32> {
    texts.tagged(|text, t| (!text.is_mark(t)).then(|| 2 * text.last_mark(t) + text.next_mark(t)))
}

/// Shares of right answers.
struct Reached {
    /// About the last mark, and about the next one.
    halves: [f64; 2],
    /// About both, by the steps to the next mark, from 1.
    both: Vec<f64>,
    all: f64,
}

fn learn((bidirectional, hidden): (bool, usize), seed: u64, size: &Size) -> Reached {
    let how = Initialise { forget_bias: 1.0, ..Initialise::new(seed) };
    let mut learner = Learner::new(network(bidirectional, hidden), &how, Learning::adam(RATE));
    let mut data = random(seed, 0);
    for _ in 0..size.updates {
        learner.learn(&tagged(&Texts::draw(&mut data, size.batch)));
    }
    let texts = Texts::draw(&mut random(seed, 1), size.tests);
    let batch = tagged(&texts);
    let logits = learner.predict(&batch).to_vec();
    let (mut right, mut asked) = ([0.0; 2], 0.0);
    let mut by_distance = [[0.0; 2]; FARTHEST];
    texts.for_each_row(&batch, |row, text, t| {
        if text.is_mark(t) {
            return;
        }
        let logits = &logits[row * TAGS..][..TAGS];
        let answer = (0..TAGS).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).expect("there are tags") as u32;
        let of_halves = [answer / 2 == text.last_mark(t), answer % 2 == text.next_mark(t)];
        let here = &mut by_distance[text.distance(t).min(FARTHEST) - 1];
        here[0] += f64::from(u8::from(of_halves == [true; 2]));
        here[1] += 1.0;
        right.iter_mut().zip(of_halves).for_each(|(right, is)| *right += f64::from(u8::from(is)));
        asked += 1.0;
    });
    let all = by_distance.iter().map(|here| here[0]).sum::<f64>() / asked;
    // A distance that did not occur has no share, which is not drawn.
    Reached {
        halves: right.map(|right| right / asked),
        both: by_distance.iter().map(|here| here[0] / here[1]).collect(),
        all,
    }
}

const FORWARD: usize = 0;
const WIDE: usize = 1;
const BOTH: usize = 2;
const NAMES: [&str; 3] = ["forward", "forward, as many parameters", "both directions"];

fn run(bench: &Bench<'_>) -> Outcome {
    let size = Size::of(bench.effort);
    let both = (true, size.hidden);
    let wanted = parameters(both);
    let wide = (size.hidden..).find(|&hidden| parameters((false, hidden)) >= wanted).expect("parameters grow");
    let networks = [(false, size.hidden), (false, wide), both];
    let jobs: Vec<(usize, u64)> =
        (0..networks.len()).flat_map(|which| (1..=size.seeds).map(move |seed| (which, seed))).collect();
    let mut reached = jobs::each(bench, &jobs, |&(which, seed)| learn(networks[which], seed, &size)).into_iter();
    let reached: [Vec<Reached>; 3] = std::array::from_fn(|_| reached.by_ref().take(size.seeds as usize).collect());
    let spread =
        |which: usize, of: &dyn Fn(&Reached) -> f64| Spread::of(&reached[which].iter().map(of).collect::<Vec<_>>());

    let head = ["network", "units", "parameters", "the last mark", "the next mark", "both"].map(str::to_owned);
    let mut table = Table::new("Share of right answers about each letter, mean ± half of the range", head);
    for (which, (name, network)) in NAMES.iter().zip(networks).enumerate() {
        let directions = if network.0 { "2 x " } else { "" };
        let counts = [format!("{directions}{}", network.1), parameters(network).to_string()].into_iter();
        let halves = (0..2).map(|half| spread(which, &|reached: &Reached| reached.halves[half]).to_string());
        table.add(name, counts.chain(halves).chain([spread(which, &|reached| reached.all).to_string()]));
    }
    let curve = |which: usize| -> Vec<(f64, f64)> {
        (0..FARTHEST).map(|at| (at as f64 + 1.0, spread(which, &|reached| reached.both[at]).mean)).collect()
    };
    let panel = Panel {
        caption: "Both marks, by the way to the next one".to_owned(),
        x: Axis::linear("steps to the next mark", 1.0..FARTHEST as f64),
        y: Axis::linear("right", 0.0..1.0),
        guides: vec![0.5],
        curves: (0..NAMES.len()).map(|which| (which, curve(which))).collect(),
    };
    let half = |which: usize, half: usize| spread(which, &|reached: &Reached| reached.halves[half]).mean;
    let all = |which: usize| spread(which, &|reached| reached.all).mean;
    let gain = all(BOTH) - all(FORWARD);
    let seen = [
        format!(
            "The forward network tells {:.3} of the last marks and {:.3} of the next ones, {}.",
            half(FORWARD, 0),
            half(FORWARD, 1),
            match half(FORWARD, 1) < 0.55 {
                true => "where guessing tells half",
                false => "more than the half that guessing tells, so something before gives the next mark away",
            }
        ),
        format!(
            "With as many parameters as both directions have it tells {:.3} of the next marks: {}.",
            half(WIDE, 1),
            match half(WIDE, 1) - half(FORWARD, 1) > 0.05 {
                true => "parameters help, too",
                false => "no parameters make up for what has not been read yet",
            }
        ),
        format!(
            "The second direction tells {:.3} of the next marks and brings right answers about both from {:.3} to {:.3}: it buys \
             {}.",
            half(BOTH, 1),
            all(FORWARD),
            all(BOTH),
            match gain {
                _ if gain > 0.3 => "what the first cannot know",
                _ if gain > 0.05 => "a part of what the first cannot know",
                _ => "nothing here",
            }
        ),
    ];
    Outcome {
        name: EXPERIMENT.name,
        question: EXPERIMENT.question,
        setting: format!(
            "Texts of {} units; a fifth of them are marks, X or Y. The tag of every other unit says which mark came last and which \
             comes next; half of it lies in the future. LSTM, one layer, {} updates of Adam at {RATE} with {} new texts each, clipped \
             to 1, {} seeds, {} texts to test on.",
            crate::tags::LENGTH,
            size.updates,
            size.batch,
            size.seeds,
            size.tests
        ),
        tables: vec![table],
        figure: Sheet { keys: NAMES.map(str::to_owned).to_vec(), panels: vec![panel] },
        seen: vec![seen.join(" ")],
    }
}
