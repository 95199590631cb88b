//! What each further layer buys, for tags that ask for more and more.

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
use crate::problems::{above_chance, random};
use crate::tags::{Texts, UNITS};
use crate::{Bench, Effort, Experiment};

pub const EXPERIMENT: Experiment = Experiment {
    name: "depth",
    question: "What does each further layer buy, and is it more than parameters?",
    reads_text: false,
    run,
};

const LEVELS: [&str; 3] = ["the next mark", "do last and next mark differ", "do those around the last question differ"];
const RATE: f64 = 0.004;
/// A skill from which tags count as learned, and one at which learning may stop.
const LEARNED: f64 = 0.9;
const ENOUGH: f64 = 0.99;
/// Updates from one test to the next.
const BETWEEN: usize = 50;

struct Size {
    hidden: usize,
    deepest: usize,
    batch: usize,
    updates: usize,
    tests: usize,
    seeds: u64,
}

impl Size {
    fn of(effort: Effort) -> Self {
        effort.choose(
            Self { hidden: 24, deepest: 3, batch: 32, updates: 1500, tests: 200, seeds: 3 },
            Self { hidden: 8, deepest: 2, batch: 8, updates: 20, tests: 20, seeds: 1 },
        )
    }
}

/// Layers and units of a network that reads both ways.
type Shape = (usize, usize);

fn network((layers, hidden): Shape) -> Network<Recurrent, Softmax> {
    let config = RecurrentConfig { bidirectional: true, layers, ..RecurrentConfig::new(CellKind::Lstm, UNITS, hidden) };
    classifier(config, Readout::Rows, 2)
}

fn parameters(shape: Shape) -> usize {
    network(shape).layout().parameter_count()
}

fn tagged(texts: &Texts, level: usize) -> Batch<u32> {
    texts.tagged(|text, t| match level {
        _ if text.is_mark(t) => None,
        0 => Some(text.next_mark(t)),
        1 => Some(text.differ(t)),
        _ => text.question_differs(t),
    })
}

/// The skill on other texts.
fn learn(shape: Shape, level: usize, seed: u64, size: &Size) -> f64 {
    let how = Initialise { forget_bias: 1.0, ..Initialise::new(seed) };
    let mut learner = Learner::new(network(shape), &how, Learning::adam(RATE));
    let (mut data, mut choice) = (random(seed, 0), random(seed, 1));
    let validation = tagged(&Texts::draw(&mut choice, size.tests / 2), level);
    for update in 1..=size.updates {
        learner.learn(&tagged(&Texts::draw(&mut data, size.batch), level));
        if update % BETWEEN == 0 && above_chance(learner.evaluate(&validation), 0.5) >= ENOUGH {
            break;
        }
    }
    above_chance(learner.evaluate(&tagged(&Texts::draw(&mut random(seed, 2), size.tests), level)), 0.5)
}

fn run(bench: &Bench<'_>) -> Outcome {
    let size = Size::of(bench.effort);
    let mut shapes: Vec<Shape> = (1..=size.deepest).map(|layers| (layers, size.hidden)).collect();
    let wanted = parameters((size.deepest, size.hidden));
    let wide = (size.hidden..).find(|&hidden| parameters((1, hidden)) >= wanted).expect("parameters grow");
    shapes.push((1, wide));
    let name = |(layers, hidden): Shape| match layers {
        1 if hidden == wide => "1 layer, as many parameters".to_owned(),
        1 => "1 layer".to_owned(),
        _ => format!("{layers} layers"),
    };
    // Deep and hard ones first.
    let mut jobs = Vec::new();
    for level in (0..LEVELS.len()).rev() {
        let seeds = |shape: Shape| (1..=size.seeds).map(move |seed| (shape, level, seed));
        jobs.extend(shapes.iter().rev().copied().flat_map(seeds));
    }
    let skills = jobs::each(bench, &jobs, |&(shape, level, seed)| learn(shape, level, seed, &size));
    let skill = |shape: Shape, level: usize| {
        let here = jobs.iter().zip(&skills).filter(|(job, _)| (job.0, job.1) == (shape, level));
        Spread::of(&here.map(|(_, skill)| *skill).collect::<Vec<_>>())
    };

    let head = ["network", "units", "parameters"].into_iter().chain(LEVELS).map(str::to_owned);
    let mut table = Table::new("Skill, mean ± half of the range; 0 is guessing", head);
    for &shape in &shapes {
        let counts = [format!("2 x {}", shape.1), parameters(shape).to_string()].into_iter();
        table.add(&name(shape), counts.chain((0..LEVELS.len()).map(|level| skill(shape, level).to_string())));
    }
    let curve = |level: usize| -> Vec<(f64, f64)> {
        let deep = &shapes[..size.deepest];
        deep.iter().map(|&shape| (shape.0 as f64, skill(shape, level).mean.max(0.0))).collect()
    };
    let panel = Panel {
        caption: format!("Layers of 2 x {} units", size.hidden),
        x: Axis::linear("layers", 1.0..size.deepest as f64),
        y: Axis::linear("skill", 0.0..1.0),
        guides: vec![LEARNED],
        curves: (0..LEVELS.len()).map(|level| (level, curve(level))).collect(),
    };
    let mut seen = Vec::new();
    for (level, tags) in LEVELS.iter().enumerate() {
        let enough = shapes[..size.deepest].iter().find(|&&shape| skill(shape, level).mean >= LEARNED);
        let of_wide = skill((1, wide), level).mean;
        let beside = match of_wide >= LEARNED {
            true => "one layer with as many parameters as the deepest does, too",
            false => "one layer with as many parameters as the deepest does not",
        };
        seen.push(match enough {
            Some(&shape) => format!(
                "\"{tags}\" is learned (skill {:.3}) with {}; {beside} ({of_wide:.3}).",
                skill(shape, level).mean,
                name(shape)
            ),
            None => {
                let best = (0..size.deepest).map(|place| skill(shapes[place], level).mean).fold(f64::MIN, f64::max);
                format!("\"{tags}\" is learned at no depth in this many updates (best mean skill {best:.3}).")
            }
        });
    }
    let steps = (1..size.deepest).flat_map(|place| (0..LEVELS.len()).map(move |level| (place, level)));
    let gains = steps.map(|(place, level)| {
        let gain = skill(shapes[place], level).mean - skill(shapes[place - 1], level).mean;
        (gain, place + 1, level)
    });
    let (gain, layer, level) = gains.max_by(|a, b| a.0.total_cmp(&b.0)).expect("there are two depths");
    seen.push(match gain > 0.05 {
        true => format!("The largest gain is that of layer {layer} in \"{}\": {gain:.3} of skill.", LEVELS[level]),
        false => "No further layer gained more than 0.05 of skill.".to_owned(),
    });
    Outcome {
        name: EXPERIMENT.name,
        question: EXPERIMENT.question,
        setting: format!(
            "Texts of {} units; a fifth are marks, X or Y, a fifth questions. Three tags for each other unit: the next mark; whether \
             last and next mark differ, which no sum of what each direction knows can tell; and whether those around \
             the last question do, which has to be carried on. Bidirectional LSTM under a linear softmax, at most {} updates of Adam at {RATE} with {} new texts each, clipped to 1, {} \
             seeds. From a skill of {LEARNED} on tags count as learned.",
            crate::tags::LENGTH,
            size.updates,
            size.batch,
            size.seeds
        ),
        tables: vec![table],
        figure: Sheet { keys: LEVELS.map(str::to_owned).to_vec(), panels: vec![panel] },
        seen: vec![seen.join(" ")],
    }
}
