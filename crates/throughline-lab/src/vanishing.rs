//! Over how many steps networks learn to remember, what becomes of their gradients on the way back, and what clipping is for.

use throughline_inspect::figures::{Axis, Panel, Sheet};
use throughline_inspect::numbers::{number, percent};
use throughline_inspect::{Probe, gradient_flow};
use throughline_kernels::cells::CellKind;
use throughline_kernels::optim::{Method, Sgd};
use throughline_nn::initialise::{Initialisation, Initialise};
use throughline_nn::layers::{Recurrent, RecurrentConfig};
use throughline_nn::module::Layer;
use throughline_nn::parameters::Builder;

use crate::jobs;
use crate::learner::{Learner, Learning};
use crate::outcome::{Outcome, Spread, Table, listed};
use crate::problems::{Adding, Copy, Order, Problem, random};
use crate::{Bench, Effort, Experiment};

pub const EXPERIMENT: Experiment = Experiment {
    name: "vanishing",
    question: "Over how many steps does a network learn to remember, and what do gradients have to do with it?",
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
    kind("RNN, orthogonal", CellKind::RnnTanh, Initialisation::Orthogonal, 0.0),
    kind("LSTM", CellKind::Lstm, Initialisation::Uniform, 0.0),
    kind("LSTM, forget bias 1", CellKind::Lstm, Initialisation::Uniform, 1.0),
    kind("LSTM, forget bias 4", CellKind::Lstm, Initialisation::Uniform, 4.0),
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
/// A share of a gradient at lag 0 below which it counts as gone.
const GONE: f64 = 0.01;

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
    /// Updates with and without clipping.
    exploding: usize,
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
                exploding: 600,
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
                exploding: 30,
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

/// The median gradient by lag as a share of that at lag 0, before and after training.
fn flows(kind: &Kind, size: &Size) -> [Vec<f64>; 2] {
    let mut learner = begin::<Order>(kind, size.hidden, 1, Learning::adam(RATE));
    let shown = Order::draw(&mut random(1, 3), 50, size.flow_lag);
    let look = |learner: &Learner<_, _>| -> Vec<f64> {
        let flow = gradient_flow(&mut Probe::new(learner.subject(&shown), true), 1);
        flow[0].lags.iter().map(|at| at.relative.median).collect()
    };
    let before = look(&learner);
    train::<Order>(&mut learner, size.flow_lag, 1, size);
    [before, look(&learner)]
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

/// An RNN of rectified units, whose states have no bound, learns by plain steps against the gradient.
fn exploding(clip: f64, seed: u64, size: &Size) -> Exploding {
    const KIND: Kind = kind("RNN, ReLU", CellKind::RnnRelu, Initialisation::Orthogonal, 0.0);
    let method = Method::Sgd(Sgd { momentum: 0.9, ..Sgd::default() });
    let mut learner = begin::<Adding>(&KIND, size.hidden, seed, Learning { method, rate: 0.01, clip });
    let (mut data, mut norms) = (random(seed, 0), Vec::new());
    for _ in 0..size.exploding {
        let (loss, norm) = learner.learn(&Adding::draw(&mut data, size.batch, size.flow_lag));
        if !(loss.mean().is_finite() && norm.is_finite()) {
            return Exploding { norms, skill: f64::NAN };
        }
        norms.push(norm);
    }
    let tests = Adding::draw(&mut random(seed, 2), size.tests, size.flow_lag);
    Exploding { norms, skill: Adding::skill(learner.evaluate(&tests)) }
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
        let caption = format!("{name}: skill by lag, mean (least to largest)");
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
         answer that has seen nothing and 1 for perfect ones; from {LEARNED} on a lag counts as learned. Copy: three symbols of \
         eight are written again, each a lag after it was read. Adding: the sum of two marked numbers, one of them at the \
         beginning. Order: which of X and Y came first and second, asked a lag later. \"RNN\", \"LSTM\" and \"GRU\" begin with \
         weights and biases uniform in ±1/sqrt(H). With and without clipping: an RNN of ReLU units with orthogonal weights, adding \
         at lag {}, SGD at 0.01 with momentum 0.9, {} updates.",
        size.hidden, size.updates, size.batch, size.seeds, size.flow_lag, size.exploding
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
    let mut table = Table::new("An RNN of ReLU units, adding, with and without clipping", head);
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
        caption: "Gradient norm of a ReLU RNN, with and without clipping".to_owned(),
        x: Axis::linear("update", 1.0..size.exploding as f64),
        y: Axis::logarithmic("norm", 10.0, 1e-3..1e6),
        guides: vec![1.0],
        curves: vec![(KINDS.len(), norms(with)), (PLAIN + 1, norms(without))],
    };
    let mut panels: Vec<Panel> = PROBLEMS.iter().enumerate().map(of_problem).collect();
    panels.extend(["before", "after"].into_iter().enumerate().map(of_flow));
    panels.push(explosions);
    let keys = KINDS.iter().map(|kind| kind.name).chain(["ReLU RNN, clipped"]).map(str::to_owned).collect();
    Sheet { keys, panels }
}

fn seen(size: &Size, reached: &Reached, flows: &[[Vec<f64>; 2]], [with, without]: [&[Exploding]; 2]) -> Vec<String> {
    let longest = size.lags[size.lags.len() - 1];
    let far = |kind: usize| -> Vec<String> {
        let of = |(problem, name): (usize, &&str)| match reached[problem][kind] {
            Some(lag) => format!("{name} up to lag {lag}"),
            None => format!("{name} at no lag"),
        };
        PROBLEMS.iter().enumerate().map(of).collect()
    };
    let steps = |kind: usize| reached.iter().map(move |kinds| kinds[kind].unwrap_or(0));
    let least_and_most = |kind| (steps(kind).min().unwrap_or(0), steps(kind).max().unwrap_or(0));
    let (least, most) = least_and_most(PLAIN);
    let rule = "\"Plain RNNs struggle beyond 10 to 20 steps\"";
    let verdict = if longest <= 20 {
        format!("{rule}: no lag beyond 20 was tried, so this run cannot tell.")
    } else if most <= 20 {
        format!("{rule}: confirmed for an RNN that begins with small random weights.")
    } else if least > 20 {
        format!("{rule}: not confirmed, the RNN learned every problem beyond lag 20.")
    } else {
        format!("{rule}: confirmed in part, it depends on the problem.")
    };
    let mut said = vec![format!("The RNN learned {}.", listed(&far(PLAIN))), verdict];
    said.push(format!("With orthogonal recurrent weights at first it learned {}.", listed(&far(ORTHOGONAL))));
    let total = |kind: usize| steps(kind).sum::<usize>();
    said.push(match total(ORTHOGONAL).cmp(&total(PLAIN)) {
        std::cmp::Ordering::Greater => {
            "So a good part of what is said of plain RNNs is said of how they begin, not of what they can do."
                .to_owned()
        }
        std::cmp::Ordering::Equal => "That is no further than without.".to_owned(),
        std::cmp::Ordering::Less => "That is less far than without.".to_owned(),
    });
    said.push(format!("The LSTM learned {}; the GRU {}.", listed(&far(LSTM)), listed(&far(GRU))));
    for kind in BIASED {
        let change = total(kind) as i64 - total(LSTM) as i64;
        let verdict = match change {
            1.. => "further than without it",
            0 => "as far as without it",
            _ => "less far than without it",
        };
        said.push(format!("{} learned {}: over all problems {verdict}.", KINDS[kind].name, listed(&far(kind))));
    }
    let best = total((0..KINDS.len()).max_by_key(|&kind| total(kind)).expect("there are kinds"));
    let winners: Vec<String> =
        (0..KINDS.len()).filter(|&kind| total(kind) == best).map(|kind| KINDS[kind].name.to_owned()).collect();
    said.push(format!("Furthest in all came: {}.", listed(&winners)));

    let lag = size.flow_lag;
    let left = |kind: usize, when: usize| number(flows[kind][when][lag]);
    let gone = |kind: usize| match horizon(&flows[kind][0]) {
        Some(at) => format!("is below 1 % from lag {at} on"),
        None => format!("is not below 1 % at any lag up to {lag}"),
    };
    said.push(format!(
        "Before any training the gradient of the RNN {}, that of the orthogonal RNN {}, of the LSTM {}, with forget bias 4 {}, of the \
         GRU {}.",
        gone(PLAIN),
        gone(ORTHOGONAL),
        gone(LSTM),
        gone(BIASED[1]),
        gone(GRU)
    ));
    let grew: Vec<String> = (0..KINDS.len())
        .filter(|&kind| flows[kind][1][lag] > 10.0 * flows[kind][0][lag])
        .map(|kind| format!("{} (from {} to {})", KINDS[kind].name, left(kind, 0), left(kind, 1)))
        .collect();
    said.push(match grew.is_empty() {
        true => format!("Training made no gradient at lag {lag} ten times as large as it was."),
        false => {
            format!("Training made the gradient at lag {lag} more than ten times as large in: {}.", grew.join("; "))
        }
    });
    said.push(about_clipping(with, without));
    said
}

fn about_clipping(with: &[Exploding], without: &[Exploding]) -> String {
    let count = |runs: &[Exploding]| runs.iter().filter(|run| run.diverged()).count();
    let largest = |runs: &[Exploding]| runs.iter().flat_map(|run| &run.norms).copied().fold(0.0, f64::max);
    let above = |runs: &[Exploding]| {
        let (over, all) = runs
            .iter()
            .flat_map(|run| &run.norms)
            .fold((0, 0), |(over, all), &norm| (over + usize::from(norm > 1.0), all + 1));
        percent(over as f64 / f64::from(all.max(1)))
    };
    let skill = |runs: &[Exploding]| {
        let skills: Vec<f64> = runs.iter().filter(|run| !run.diverged()).map(|run| run.skill).collect();
        if skills.is_empty() {
            "nothing learned".to_owned()
        } else {
            format!("mean skill {:.2}", Spread::of(&skills).mean)
        }
    };
    let verdict = match count(without).cmp(&count(with)) {
        std::cmp::Ordering::Greater => "Clipping kept training alive",
        std::cmp::Ordering::Equal => "Clipping decided nothing about divergence here",
        std::cmp::Ordering::Less => "Clipping did harm",
    };
    format!(
        "{verdict}: without it the loss became infinite or no number in {} of {} runs (largest norm before {}, {}), with it in {} of \
         {} ({} of the updates were clipped, {}).",
        count(without),
        without.len(),
        number(largest(without)),
        skill(without),
        count(with),
        with.len(),
        above(with),
        skill(with)
    )
}
