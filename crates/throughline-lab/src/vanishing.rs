//! Over how many steps networks learn to remember, what becomes of their gradients on the way back, and what clipping is for.

use std::cmp::Ordering;

use throughline_inspect::figures::{Axis, Panel, Sheet};
use throughline_inspect::numbers::{number, percent};
use throughline_inspect::{GONE, Probe, gradient_flow};
use throughline_kernels::cells::CellKind;
use throughline_kernels::optim::{Method, Sgd};
use throughline_nn::initialise::{Initialisation, Initialise};
use throughline_nn::layers::{Recurrent, RecurrentConfig};
use throughline_nn::module::Layer;
use throughline_nn::parameters::Builder;

use crate::jobs;
use crate::learner::{Batch, Learner, Learning};
use crate::outcome::{Outcome, Spread, Table, listed};
use crate::problems::{Adding, Copy, Order, Problem, random};
use crate::{Bench, Effort, Experiment};

pub const EXPERIMENT: Experiment = Experiment {
    name: "vanishing",
    question: "Over how many steps does a network learn to remember, and what do gradients have to do with it?",
    reads_text: false,
    run,
};

/// A network, and how it begins.
struct Kind {
    name: &'static str,
    cell: CellKind,
    recurrent: Initialisation,
    forget_bias: f32,
}

const fn kind(name: &'static str, cell: CellKind, recurrent: Initialisation, forget_bias: f32) -> Kind {
    Kind { name, cell, recurrent, forget_bias }
}

const KINDS: [Kind; 6] = [
    kind("RNN", CellKind::RnnTanh, Initialisation::Uniform, 0.0),
    kind("RNN (orthogonal)", CellKind::RnnTanh, Initialisation::Orthogonal, 0.0),
    kind("LSTM", CellKind::Lstm, Initialisation::Uniform, 0.0),
    kind("LSTM (forget bias 1)", CellKind::Lstm, Initialisation::Uniform, 1.0),
    kind("LSTM (forget bias 4)", CellKind::Lstm, Initialisation::Uniform, 4.0),
    kind("GRU", CellKind::GruAfter, Initialisation::Uniform, 0.0),
];
const PLAIN: usize = 0;
const ORTHOGONAL: usize = 1;
const LSTM: usize = 2;
const BIASED: [usize; 2] = [3, 4];
const GRU: usize = 5;

const PROBLEMS: [&str; 3] = [Copy::NAME, Adding::NAME, Order::NAME];

/// A skill from which a problem counts as learned.
const LEARNED: f64 = 0.9;
/// A skill at which learning may stop.
const ENOUGH: f64 = 0.98;

/// How much is run.
struct Size {
    hidden: usize,
    lags: &'static [usize],
    seeds: u64,
    updates: usize,
    /// Updates from one test to the next.
    between: usize,
    batch: usize,
    tests: usize,
    /// Of the gradients that are followed.
    flow_lag: usize,
    /// With and without clipping.
    clipping_lag: usize,
    clipping_updates: usize,
}

impl Size {
    fn of(effort: Effort) -> Self {
        effort.choose(
            Self {
                hidden: 32,
                lags: &[5, 10, 20, 40, 80],
                seeds: 3,
                updates: 1500,
                between: 50,
                batch: 32,
                tests: 500,
                flow_lag: 40,
                clipping_lag: 20,
                clipping_updates: 600,
            },
            Self {
                hidden: 12,
                lags: &[5, 10],
                seeds: 1,
                updates: 30,
                between: 10,
                batch: 16,
                tests: 100,
                flow_lag: 10,
                clipping_lag: 10,
                clipping_updates: 30,
            },
        )
    }
}

/// The rate of Adam for all of them.
const RATE: f64 = 0.004;

fn begin<P: Problem>(kind: &Kind, hidden: usize, seed: u64, learning: Learning) -> Learner<Recurrent, P::Head> {
    let mut builder = Builder::new();
    let config = RecurrentConfig::new(kind.cell, P::INPUT, hidden);
    let stack = Recurrent::new(&mut builder, "rnn", config).with_readout(P::READOUT);
    let head = P::head(&mut builder, stack.width());
    let how = Initialise { recurrent: kind.recurrent, forget_bias: kind.forget_bias, ..Initialise::new(seed) };
    Learner::new(stack.ending_in(head, builder), &how, learning)
}

/// Trains until the problem is solved or time is up; the skill on other sequences.
fn train<P: Problem>(learner: &mut Learner<Recurrent, P::Head>, lag: usize, seed: u64, size: &Size) -> f64 {
    let (mut data, mut choice) = (random(seed, 0), random(seed, 1));
    let validation = P::draw(&mut choice, size.tests / 2, lag);
    for update in 1..=size.updates {
        learner.learn(&P::draw(&mut data, size.batch, lag));
        if update % size.between == 0 && P::skill(learner.evaluate(&validation)) >= ENOUGH {
            break;
        }
    }
    P::skill(learner.evaluate(&P::draw(&mut random(seed, 2), size.tests, lag)))
}

fn skill<P: Problem>(kind: &Kind, lag: usize, seed: u64, size: &Size) -> f64 {
    train::<P>(&mut begin::<P>(kind, size.hidden, seed, Learning::adam(RATE)), lag, seed, size)
}

/// The gradient of the loss by lag as a share of that at lag 0, median over sequences: with respect to the state that a cell carries
/// on, an LSTM's c and the h of others.
fn flow(learner: &Learner<Recurrent, <Order as Problem>::Head>, shown: &Batch<u32>) -> Vec<f64> {
    let flows = gradient_flow(&mut Probe::new(learner.subject(shown), true), 1);
    let carried = flows.iter().find(|flow| flow.carried).expect("a stack has states");
    carried.lags.iter().map(|at| at.relative.median).collect()
}

/// The gradients before and after training.
fn flows(kind: &Kind, size: &Size) -> [Vec<f64>; 2] {
    let mut learner = begin::<Order>(kind, size.hidden, 1, Learning::adam(RATE));
    let shown = Order::draw(&mut random(1, 3), 50, size.flow_lag);
    let before = flow(&learner, &shown);
    train::<Order>(&mut learner, size.flow_lag, 1, size);
    [before, flow(&learner, &shown)]
}

/// Training with or without clipping.
struct Exploding {
    /// Of each update until the loss was no number.
    norms: Vec<f64>,
    skill: f64,
}

impl Exploding {
    fn diverged(&self) -> bool {
        !self.skill.is_finite()
    }
}

/// An RNN with orthogonal weights learns order by plain steps against the gradient, whose length then counts.
fn exploding(clip: f64, seed: u64, size: &Size) -> Exploding {
    let method = Method::Sgd(Sgd { momentum: 0.9, ..Sgd::default() });
    let mut learner = begin::<Order>(&KINDS[ORTHOGONAL], size.hidden, seed, Learning { method, rate: 0.01, clip });
    let (mut data, mut norms) = (random(seed, 0), Vec::new());
    for _ in 0..size.clipping_updates {
        let (loss, norm) = learner.learn(&Order::draw(&mut data, size.batch, size.clipping_lag));
        if !(loss.mean().is_finite() && norm.is_finite()) {
            return Exploding { norms, skill: f64::NAN };
        }
        norms.push(norm);
    }
    let tests = Order::draw(&mut random(seed, 2), size.tests, size.clipping_lag);
    Exploding { norms, skill: Order::skill(learner.evaluate(&tests)) }
}

fn run(bench: &Bench<'_>) -> Outcome {
    let size = Size::of(bench.effort);
    // The long sequences first: then no thread is left alone with one.
    let mut runs = Vec::new();
    for &lag in size.lags.iter().rev() {
        let seeds = || 1..=size.seeds;
        let of_kind = |kind: usize| seeds().map(move |seed| (kind, seed));
        let pairs: Vec<(usize, u64)> = (0..KINDS.len()).flat_map(of_kind).collect();
        runs.extend(
            (0..PROBLEMS.len()).flat_map(|problem| pairs.iter().map(move |&(kind, seed)| (problem, kind, lag, seed))),
        );
    }
    let skills = jobs::each(bench, &runs, |&(problem, kind, lag, seed)| {
        let learn = [skill::<Copy>, skill::<Adding>, skill::<Order>][problem];
        learn(&KINDS[kind], lag, seed, &size)
    });
    let skills = |problem: usize, kind: usize, lag: usize| -> Vec<f64> {
        let here = runs.iter().zip(&skills).filter(|(run, _)| (run.0, run.1, run.2) == (problem, kind, lag));
        here.map(|(_, skill)| *skill).collect()
    };
    let flows = jobs::each(bench, &KINDS, |kind| flows(kind, &size));
    let clips = [1.0, f64::INFINITY];
    let clipped: Vec<(f64, u64)> =
        clips.iter().flat_map(|&clip| (1..=size.seeds).map(move |seed| (clip, seed))).collect();
    let explosions = jobs::each(bench, &clipped, |&(clip, seed)| exploding(clip, seed, &size));
    let (with, without) = explosions.split_at(size.seeds as usize);

    let reached: Reached = std::array::from_fn(|problem| {
        std::array::from_fn(|kind| {
            let learned = |lag: &&usize| {
                let skills = skills(problem, kind, **lag);
                2 * skills.iter().filter(|skill| **skill >= LEARNED).count() > skills.len()
            };
            size.lags.iter().take_while(learned).last().copied()
        })
    });
    let tables = PROBLEMS.iter().enumerate().map(|(problem, name)| {
        let caption = format!("{name}: skill by lag, mean ± half of the range");
        let lags = size.lags.iter().map(|lag| format!("lag {lag}"));
        let mut table = Table::new(&caption, std::iter::once("network".to_owned()).chain(lags));
        for (kind, Kind { name, .. }) in KINDS.iter().enumerate() {
            table.add(name, size.lags.iter().map(|&lag| Spread::of(&skills(problem, kind, lag)).to_string()));
        }
        table
    });
    let mut tables: Vec<Table> = tables.collect();
    tables.push(table_of_flows(&flows, size.flow_lag));
    tables.push(table_of_explosions([with, without]));

    Outcome {
        name: EXPERIMENT.name,
        question: EXPERIMENT.question,
        setting: setting(&size),
        tables,
        figure: figure(&size, skills, &flows, [with, without]),
        seen: seen(&size, &reached, &flows, [with, without]),
    }
}

/// By problem and kind the longest lag up to which most seeds learned all.
type Reached = [[Option<usize>; KINDS.len()]; PROBLEMS.len()];

fn setting(size: &Size) -> String {
    format!(
        "One layer of {} units, Adam at {RATE}, clipped to 1, at most {} updates of {} new sequences, {} seeds. Skill is 0 for an \
         answer that has seen nothing and 1 for perfect ones; a lag counts as learned where most seeds reach {LEARNED}. Copy: three symbols of \
         eight are written again, each a lag after it was read. Adding: the sum of two marked numbers, one of them at the \
         beginning. Order: which of X and Y came first and second, asked a lag later. \"RNN\", \"LSTM\" and \"GRU\" begin with \
         weights and biases uniform in ±1/sqrt(H). Gradients are those of \
         the loss of order with respect to the state so many steps before the answer: the cell state of an LSTM, the hidden state of \
         others. With and without clipping: the RNN with orthogonal weights, order at lag {}, SGD at 0.01 with momentum 0.9, {} \
         updates.",
        size.hidden, size.updates, size.batch, size.seeds, size.clipping_lag, size.clipping_updates
    )
}

/// The first lag at which a gradient is gone.
fn horizon(shares: &[f64]) -> Option<usize> {
    shares.iter().position(|&share| share < GONE)
}

fn told(lag: Option<usize>, longest: usize) -> String {
    lag.map_or(format!("> {longest}"), |lag| lag.to_string())
}

fn table_of_flows(flows: &[[Vec<f64>; 2]], lag: usize) -> Table {
    let caption =
        format!("Gradients of order at lag {lag}: share of lag 0 that is left there, and the first lag below 1 %");
    let head = ["network", "left before training", "after", "below 1 % before", "after"].map(str::to_owned);
    let mut table = Table::new(&caption, head);
    for (Kind { name, .. }, shares) in KINDS.iter().zip(flows) {
        let left = shares.each_ref().map(|shares| number(shares[lag]));
        let gone = shares.each_ref().map(|shares| told(horizon(shares), shares.len() - 1));
        table.add(name, left.into_iter().chain(gone));
    }
    table
}

fn table_of_explosions(both: [&[Exploding]; 2]) -> Table {
    let head = ["training", "median norm", "largest norm", "loss no number", "skill"].map(str::to_owned);
    let mut table = Table::new("The RNN with orthogonal weights, by SGD with and without clipping", head);
    for (name, runs) in ["clipped to 1", "not clipped"].iter().zip(both) {
        let mut norms: Vec<f64> = runs.iter().flat_map(|run| run.norms.iter().copied()).collect();
        norms.sort_by(f64::total_cmp);
        let of = |norms: &[f64], place: usize| norms.get(place).map_or("-".to_owned(), |&norm| number(norm));
        let skills: Vec<f64> = runs.iter().filter(|run| !run.diverged()).map(|run| run.skill).collect();
        table.add(
            name,
            [
                of(&norms, norms.len() / 2),
                of(&norms, norms.len().saturating_sub(1)),
                format!("{} of {}", runs.len() - skills.len(), runs.len()),
                if skills.is_empty() { "-".to_owned() } else { Spread::of(&skills).to_string() },
            ],
        );
    }
    table
}

fn figure(
    size: &Size,
    skills: impl Fn(usize, usize, usize) -> Vec<f64>,
    flows: &[[Vec<f64>; 2]],
    [with, without]: [&[Exploding]; 2],
) -> Sheet {
    let lags = size.lags[0] as f64..size.lags[size.lags.len() - 1] as f64;
    let of_problem = |(problem, name): (usize, &&str)| Panel {
        caption: format!("Learned: {name}"),
        x: Axis::logarithmic("lag", 2.0, lags.clone()),
        y: Axis::linear("skill", 0.0..1.0),
        guides: vec![LEARNED],
        curves: (0..KINDS.len())
            .map(|kind| {
                let point = |&lag: &usize| (lag as f64, Spread::of(&skills(problem, kind, lag)).mean.max(0.0));
                (kind, size.lags.iter().map(point).collect())
            })
            .collect(),
    };
    let of_flow = |(when, name): (usize, &str)| Panel {
        caption: format!("Gradients of order {name} training"),
        x: Axis::linear("lag", 0.0..size.flow_lag as f64),
        y: Axis::logarithmic("share of lag 0", 10.0, 1e-8..10.0),
        guides: vec![GONE],
        curves: flows
            .iter()
            .enumerate()
            .map(|(kind, shares)| {
                (kind, shares[when].iter().enumerate().map(|(lag, &share)| (lag as f64, share)).collect())
            })
            .collect(),
    };
    let norms = |runs: &[Exploding]| -> Vec<(f64, f64)> {
        runs[0].norms.iter().enumerate().map(|(update, &norm)| (update as f64 + 1.0, norm)).collect()
    };
    let explosions = Panel {
        caption: "Gradient norm, with and without clipping".to_owned(),
        x: Axis::linear("update", 1.0..size.clipping_updates as f64),
        y: Axis::logarithmic("norm", 10.0, 1e-3..1e3),
        guides: vec![1.0],
        curves: vec![(KINDS.len() + 1, norms(without)), (KINDS.len(), norms(with))],
    };
    let mut panels: Vec<Panel> = PROBLEMS.iter().enumerate().map(of_problem).collect();
    panels.extend(["before", "after"].into_iter().enumerate().map(of_flow));
    panels.push(explosions);
    let keys =
        KINDS.iter().map(|kind| kind.name).chain(["SGD, clipped", "SGD, not clipped"]).map(str::to_owned).collect();
    Sheet { keys, panels }
}

fn seen(size: &Size, reached: &Reached, flows: &[[Vec<f64>; 2]], [with, without]: [&[Exploding]; 2]) -> Vec<String> {
    vec![about_plain(size, reached), about_others(reached), about_gradients(size, flows), about_clipping(with, without)]
}

/// How far a kind came: `copy up to lag 20 and order up to lag 40`.
fn far(reached: &Reached, kind: usize) -> String {
    let of = |(problem, name): (usize, &&str)| reached[problem][kind].map(|lag| format!("{name} up to lag {lag}"));
    let learned: Vec<String> = PROBLEMS.iter().enumerate().filter_map(of).collect();
    if learned.is_empty() { "nothing".to_owned() } else { listed(&learned) }
}

/// The longest lags of a kind, added up over the problems.
fn total(reached: &Reached, kind: usize) -> usize {
    reached.iter().map(|kinds| kinds[kind].unwrap_or(0)).sum()
}

fn compared(reached: &Reached, kind: usize, with: usize) -> &'static str {
    match total(reached, kind).cmp(&total(reached, with)) {
        Ordering::Greater => "further than",
        Ordering::Equal => "as far as",
        Ordering::Less => "less far than",
    }
}

fn about_plain(size: &Size, reached: &Reached) -> String {
    /// The lags of the rule that is tried.
    const RULE: usize = 20;
    let longest = size.lags[size.lags.len() - 1];
    let beyond = |kind: usize| reached.iter().filter(|kinds| kinds[kind].is_some_and(|lag| lag > RULE)).count();
    let rule = "\"Plain RNNs struggle beyond 10 to 20 steps\"";
    let verdict = match (longest > RULE, beyond(PLAIN), beyond(ORTHOGONAL)) {
        (false, ..) => format!("no lag beyond {RULE} was tried, so this run cannot tell"),
        (true, 0, 0) => "confirmed, whether its weights begin small or orthogonal".to_owned(),
        (true, 0, _) => "confirmed where its weights begin small, corrected where they begin orthogonal".to_owned(),
        (true, some, _) if some < PROBLEMS.len() => "confirmed in part, it depends on the problem".to_owned(),
        _ => "not confirmed, every problem was learned beyond".to_owned(),
    };
    format!(
        "The RNN learned {}. With orthogonal recurrent weights at first it learned {}, over all {} without. {rule}: {verdict}.",
        far(reached, PLAIN),
        far(reached, ORTHOGONAL),
        compared(reached, ORTHOGONAL, PLAIN)
    )
}

fn about_others(reached: &Reached) -> String {
    let biased = BIASED.map(|kind| {
        let name = KINDS[kind].name;
        format!("{name} learned {}, over all {} without.", far(reached, kind), compared(reached, kind, LSTM))
    });
    let best = (0..KINDS.len()).map(|kind| total(reached, kind)).max().unwrap_or(0);
    let winners: Vec<String> = (0..KINDS.len())
        .filter(|&kind| total(reached, kind) == best)
        .map(|kind| format!("\"{}\"", KINDS[kind].name))
        .collect();
    format!(
        "The LSTM learned {}, over all {} the RNN; the GRU {}, {} the LSTM. {} Furthest over all came {}{}.",
        far(reached, LSTM),
        compared(reached, LSTM, PLAIN),
        far(reached, GRU),
        compared(reached, GRU, LSTM),
        biased.join(" "),
        listed(&winners),
        if winners.len() > 1 { ", alike" } else { "" }
    )
}

fn about_gradients(size: &Size, flows: &[[Vec<f64>; 2]]) -> String {
    let lag = size.flow_lag;
    let gone = |(kind, shares): (&Kind, &[Vec<f64>; 2])| match horizon(&shares[0]) {
        Some(at) => format!("\"{}\" from lag {at}", kind.name),
        None => format!("\"{}\" at no lag", kind.name),
    };
    let gone: Vec<String> = KINDS.iter().zip(flows).map(gone).collect();
    let changed = |grew: bool| -> String {
        let far = |shares: &[Vec<f64>; 2]| match grew {
            true => shares[1][lag] > 10.0 * shares[0][lag],
            false => shares[1][lag] < shares[0][lag] / 10.0,
        };
        let told = |(kind, [before, after]): (&Kind, &[Vec<f64>; 2])| {
            format!("\"{}\" (from {} to {})", kind.name, number(before[lag]), number(after[lag]))
        };
        listed(&KINDS.iter().zip(flows).filter(|(_, shares)| far(shares)).map(told).collect::<Vec<_>>())
    };
    format!(
        "Before any training the gradient is below 1 % of that at lag 0: {}. Training on order at lag {lag} made its share there more \
         than ten times as large in: {}; less than a tenth in: {}.",
        listed(&gone),
        changed(true),
        changed(false)
    )
}

fn about_clipping(with: &[Exploding], without: &[Exploding]) -> String {
    // A run whose loss is no number has learned nothing.
    let skill = |runs: &[Exploding]| {
        Spread::of(&runs.iter().map(|run| if run.diverged() { 0.0 } else { run.skill }).collect::<Vec<_>>())
    };
    let largest = |runs: &[Exploding]| number(runs.iter().flat_map(|run| &run.norms).copied().fold(0.0, f64::max));
    let above = |runs: &[Exploding]| {
        let norms = || runs.iter().flat_map(|run| &run.norms);
        percent(norms().filter(|norm| **norm > 1.0).count() as f64 / norms().count().max(1) as f64)
    };
    let gain = skill(with).mean - skill(without).mean;
    let verdict = match gain {
        _ if gain > 0.1 => "Clipping lets training go on where gradients explode",
        _ if gain < -0.1 => "Clipping did harm here",
        _ => "Clipping made no difference to what was learned here",
    };
    format!(
        "{verdict}: clipped to 1 the skill is {}, with {} of the gradients cut and the largest of norm {}; without it is {}, and the \
         largest gradient has norm {}.",
        skill(with),
        above(with),
        largest(with),
        skill(without),
        largest(without)
    )
}
