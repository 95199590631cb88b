//! A small causal Transformer beside recurrent networks of as many parameters: how fast they learn, what they keep of what they
//! have read, what the next step of a stream takes, and what they learn.

use std::time::Instant;

use throughline_inspect::Quantiles;
use throughline_inspect::figures::{Axis, Panel, Sheet};
use throughline_inspect::numbers::{counted, number, percent};
use throughline_kernels::cells::CellKind;
use throughline_kernels::ops::IGNORED;
use throughline_kernels::random::Stream;
use throughline_nn::heads::{Loss, Softmax};
use throughline_nn::initialise::Initialise;
use throughline_nn::layers::{Linear, Recurrent, RecurrentConfig, Transformer, TransformerConfig};
use throughline_nn::module::{Layer, Module};
use throughline_nn::network::Network;
use throughline_nn::parameters::Builder;

use crate::cells::nearest_width;
use crate::jobs;
use crate::learner::{Batch, Learner, Learning, Streamed};
use crate::outcome::{Best, Outcome, Spread, Table, listed};
use crate::problems::{one_hot, packed, random};
use crate::texts::{Part, Source};
use crate::{Bench, Effort, Experiment};

pub const EXPERIMENT: Experiment = Experiment {
    name: "transformer",
    question: "What does a Transformer buy beside recurrent networks of as many parameters, and what does it cost?",
    reads_text: true,
    run,
};

/// By name; what has no cell is the Transformer.
const KINDS: [(&str, Option<CellKind>); 3] =
    [("Transformer", None), ("LSTM", Some(CellKind::Lstm)), ("GRU", Some(CellKind::GruAfter))];
const NAMES: [&str; KINDS.len()] = [KINDS[TRANSFORMER].0, KINDS[1].0, KINDS[2].0];
const TRANSFORMER: usize = 0;

/// What can be learned.
#[derive(Clone, Copy, PartialEq)]
enum Task {
    /// Pairs of a key and a value, then some of the keys again; the answer to each is its value.
    Recall,
    /// The next symbol of a text.
    Text,
}

const TASKS: [(&str, Task); 2] = [("recall", Task::Recall), ("text", Task::Text)];
const KEYS: usize = 16;
const VALUES: usize = 16;
/// Pairs of a sequence, at least and at most.
const PAIRS: [usize; 2] = [4, 8];
const QUESTIONS: usize = 4;

impl Task {
    fn symbols(self, source: Source<'_>) -> usize {
        match self {
            Self::Recall => KEYS + VALUES,
            Self::Text => source.units(),
        }
    }

    /// Sequences, and the nats for each answer that nobody can do without.
    fn draw(self, size: &Size<'_>, random: &mut Stream, part: Part, count: usize) -> (Batch<u32>, f64) {
        match self {
            Self::Recall => (recall(random, count), 0.0),
            Self::Text => size.source.draw(random, part, count, size.length),
        }
    }
}

/// A symbol whose vector in the first layer begins with deviation 1, as embeddings do: the weights of a layer of n inputs begin
/// within 1 / sqrt(n). Smaller ones are lost beside the positions.
fn embedded(symbol: usize) -> Vec<f32> {
    let scale = (3.0 * (KEYS + VALUES) as f32).sqrt();
    one_hot(KEYS + VALUES, symbol).into_iter().map(|one| one * scale).collect()
}

fn recall(random: &mut Stream, count: usize) -> Batch<u32> {
    let (mut sequences, mut answers) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let pairs = PAIRS[0] + random.below(PAIRS[1] - PAIRS[0] + 1);
        let mut keys: Vec<usize> = (0..KEYS).collect();
        let mut symbols = Vec::new();
        for pair in 0..pairs {
            keys.swap(pair, pair + random.below(KEYS - pair));
            symbols.extend([keys[pair], KEYS + random.below(VALUES)]);
        }
        let mut answered = vec![IGNORED; symbols.len()];
        for _ in 0..QUESTIONS {
            let pair = random.below(pairs);
            answered.push(symbols[2 * pair + 1] as u32);
            symbols.push(keys[pair]);
        }
        sequences.push(symbols.into_iter().map(embedded).collect());
        answers.push(answered);
    }
    let ((rows, x), mut targets) = (packed(&sequences), Vec::new());
    rows.for_each_row(|_, sequence, t| targets.push(answers[sequence][t]));
    Batch { rows, x, targets }
}

struct Size<'a> {
    /// Where texts are from.
    source: Source<'a>,
    /// Blocks and heads of the Transformer, and features that every network reads.
    blocks: usize,
    heads: usize,
    width: usize,
    /// Symbols of a text.
    length: usize,
    batch: usize,
    /// By task.
    updates: [usize; TASKS.len()],
    /// Measurements in training.
    parts: usize,
    tests: usize,
    seeds: u64,
    /// Lengths at which training is timed, symbols of each batch, and timed updates.
    lengths: &'static [usize],
    symbols: usize,
    timed: usize,
    /// Positions at which a stream is looked at, and streams.
    positions: &'static [usize],
    streams: usize,
}

impl<'a> Size<'a> {
    fn of(effort: Effort, source: Source<'a>) -> Self {
        effort.choose(
            Self {
                source,
                blocks: 2,
                heads: 2,
                width: 32,
                length: 64,
                batch: 32,
                updates: [6000, 2000],
                parts: 20,
                tests: 200,
                seeds: 3,
                lengths: &[64, 256, 1024, 4096],
                symbols: 4096,
                timed: 5,
                positions: &[1, 64, 1024, 4096, 16384],
                streams: 3,
            },
            Self {
                source,
                blocks: 1,
                heads: 2,
                width: 8,
                length: 16,
                batch: 8,
                updates: [20, 20],
                parts: 2,
                tests: 20,
                seeds: 1,
                lengths: &[8, 16],
                symbols: 64,
                timed: 3,
                positions: &[1, 16],
                streams: 2,
            },
        )
    }

    /// The most steps that a network reads in a row.
    fn most_steps(&self) -> usize {
        let recall = 2 * PAIRS[1] + QUESTIONS;
        self.lengths.iter().chain(self.positions).copied().fold(self.length.max(recall), usize::max)
    }

    /// What is measured of a task.
    fn measured(&self, task: usize) -> &'static str {
        match TASKS[task].1 {
            Task::Recall => "nats an answer",
            Task::Text => self.source.measured(),
        }
    }

    fn threads(bench: &Bench<'_>) -> Vec<usize> {
        if bench.threads == 1 { vec![1] } else { vec![1, bench.threads] }
    }

    fn transformer(&self, symbols: usize) -> Network<impl Module<f32, Input = [f32]> + use<>, Softmax> {
        let Self { blocks, heads, width, .. } = *self;
        let mut builder = Builder::new();
        let features = Linear::new(&mut builder, "features", symbols, width);
        let config =
            TransformerConfig { most_steps: self.most_steps(), ..TransformerConfig::new(blocks, heads, width) };
        let transformer = Transformer::of(&mut builder, "transformer", &config);
        let head = Softmax::new(&mut builder, "head", width, symbols);
        features.then(transformer).ending_in(head, builder)
    }

    fn recurrent(
        &self,
        symbols: usize,
        cell: CellKind,
        hidden: usize,
    ) -> Network<impl Module<f32, Input = [f32]> + use<>, Softmax> {
        let mut builder = Builder::new();
        let features = Linear::new(&mut builder, "features", symbols, self.width);
        let layer = Recurrent::new(&mut builder, "rnn", RecurrentConfig::new(cell, self.width, hidden));
        let head = Softmax::new(&mut builder, "head", hidden, symbols);
        features.then(layer).ending_in(head, builder)
    }

    /// The width at which a recurrent network has the nearest to the Transformer's parameters.
    fn hidden(&self, symbols: usize, cell: CellKind) -> usize {
        let wanted = self.transformer(symbols).layout().parameter_count();
        nearest_width(wanted, |hidden| self.recurrent(symbols, cell, hidden).layout().parameter_count())
    }

    fn learner(&self, kind: usize, symbols: usize, seed: u64, threads: usize) -> Box<dyn Learns> {
        let how = Initialise { forget_bias: 1.0, ..Initialise::new(seed) };
        let learning = Learning::adam(rate(kind));
        match KINDS[kind].1 {
            None => Box::new(Learner::new(self.transformer(symbols), &how, learning).on(threads)),
            Some(cell) => {
                let network = self.recurrent(symbols, cell, self.hidden(symbols, cell));
                Box::new(Learner::new(network, &how, learning).on(threads))
            }
        }
    }
}

/// Where its rate of learning is highest: a Transformer bears less than a recurrent network.
fn rate(kind: usize) -> f64 {
    if kind == TRANSFORMER { 0.002 } else { 0.003 }
}

/// Whatever the network is.
trait Learns {
    fn parameters(&self) -> usize;
    fn set_rate(&mut self, rate: f64);
    fn learn(&mut self, batch: &Batch<u32>);
    fn evaluate(&mut self, batch: &Batch<u32>) -> Loss;
    fn stream(&mut self, x: &[f32], steps: usize) -> Vec<Streamed>;
}

impl<B: Module<f32, Input = [f32]>> Learns for Learner<B, Softmax> {
    fn parameters(&self) -> usize {
        self.network.layout().parameter_count()
    }
    fn set_rate(&mut self, rate: f64) {
        self.learning.rate = rate;
    }
    fn learn(&mut self, batch: &Batch<u32>) {
        self.learn(batch);
    }
    fn evaluate(&mut self, batch: &Batch<u32>) -> Loss {
        self.evaluate(batch)
    }
    fn stream(&mut self, x: &[f32], steps: usize) -> Vec<Streamed> {
        self.stream(x, steps)
    }
}

/// What was reached after a part of the training.
#[derive(Clone, Copy)]
struct Reached {
    /// Nats for each answer above those that nobody can do without.
    excess: f64,
    right: f64,
}

/// After each part of the training.
fn learn(size: &Size<'_>, kind: usize, task: usize, seed: u64) -> Vec<Reached> {
    let (updates, task) = (size.updates[task], TASKS[task].1);
    let (tests, least) = task.draw(size, &mut random(seed, 1), Part::Tests, size.tests);
    let (mut learner, mut data) = (size.learner(kind, task.symbols(size.source), seed, 1), random(seed, 0));
    let mut reached = Vec::new();
    for update in 1..=updates {
        // A rate that rises at first and ends at a tenth.
        let share = update as f64 / updates as f64;
        learner.set_rate(rate(kind) * (20.0 * share).min(1.0) * (1.0 - 0.9 * share));
        learner.learn(&task.draw(size, &mut data, Part::Training, size.batch).0);
        if update % (updates / size.parts) == 0 {
            let loss = learner.evaluate(&tests);
            reached.push(Reached { excess: loss.mean() - least, right: loss.correct / loss.weight });
        }
    }
    reached
}

/// Symbols a second in training at each length: the fastest tenth, which other work on the machine does not disturb.
fn speeds(size: &Size<'_>, kind: usize, threads: usize) -> Vec<f64> {
    let speed = |&length: &usize| {
        let mut learner = size.learner(kind, Source::Grammar.units(), 1, threads);
        let (batch, _) = Source::Grammar.draw(&mut random(1, 2), Part::Training, size.symbols / length, length);
        // The first allocates.
        learner.learn(&batch);
        let timed = (0..size.timed).map(|_| {
            let begun = Instant::now();
            learner.learn(&batch);
            begun.elapsed().as_secs_f64()
        });
        batch.rows.rows() as f64 / Quantiles::of(&mut timed.collect::<Vec<_>>()).low
    };
    size.lengths.iter().map(speed).collect()
}

/// At each position: the fastest tenth of the steps that lead to it, and the bytes of the state after it.
fn stream(size: &Size<'_>, kind: usize) -> Vec<Streamed> {
    /// Steps that lead to a position, no more.
    const WINDOW: usize = 32;
    let symbols = Source::Grammar.units();
    let mut learner = size.learner(kind, symbols, 1, 1);
    let (x, last) = (one_hot(symbols, 0), *size.positions.last().expect("positions are looked at"));
    // The first allocates.
    learner.stream(&x, size.positions[0]);
    let streams: Vec<Vec<Streamed>> = (0..size.streams).map(|_| learner.stream(&x, last)).collect();
    let at = |(place, &position): (usize, &usize)| {
        let before = if place == 0 { 0 } else { size.positions[place - 1] };
        let window = position.saturating_sub(WINDOW).max(before)..position;
        let steps = streams.iter().flat_map(|steps| &steps[window.clone()]);
        let mut times: Vec<f64> = steps.map(|step| step.microseconds).collect();
        Streamed { microseconds: Quantiles::of(&mut times).low, bytes: streams[0][position - 1].bytes }
    };
    size.positions.iter().enumerate().map(at).collect()
}

/// A kind of network, with what was measured.
struct Measured {
    /// By task.
    parameters: [usize; TASKS.len()],
    /// By task, then by seed, then by part of the training.
    reached: [Vec<Vec<Reached>>; TASKS.len()],
    /// By number of threads, then by length.
    speeds: Vec<Vec<f64>>,
    /// By position.
    streamed: Vec<Streamed>,
}

impl Measured {
    /// What was reached in the end, or after another part.
    fn spread(&self, task: usize, part: usize, of: fn(&Reached) -> f64) -> Spread {
        Spread::of(&self.reached[task].iter().map(|parts| of(&parts[part])).collect::<Vec<_>>())
    }

    fn last(&self) -> usize {
        self.reached[0][0].len() - 1
    }

    fn excess(&self, task: usize) -> Spread {
        self.spread(task, self.last(), |reached| reached.excess)
    }

    fn constant(&self) -> bool {
        self.streamed.iter().all(|step| step.bytes == self.streamed[0].bytes)
    }
}

fn measure(size: &Size<'_>, bench: &Bench<'_>) -> Vec<Measured> {
    let mut runs = Vec::new();
    for (kind, task) in (0..KINDS.len()).flat_map(|kind| (0..TASKS.len()).map(move |task| (kind, task))) {
        runs.extend((1..=size.seeds).map(|seed| (kind, task, seed)));
    }
    let learned = jobs::each(bench, &runs, |&(kind, task, seed)| learn(size, kind, task, seed));
    let of = |kind| Measured {
        parameters: TASKS.map(|(_, task)| size.learner(kind, task.symbols(size.source), 1, 1).parameters()),
        reached: std::array::from_fn(|task| {
            let here = runs.iter().zip(&learned).filter(|(run, _)| (run.0, run.1) == (kind, task));
            here.map(|(_, reached)| reached.clone()).collect()
        }),
        speeds: Size::threads(bench).into_iter().map(|threads| speeds(size, kind, threads)).collect(),
        streamed: stream(size, kind),
    };
    (0..KINDS.len()).map(of).collect()
}

fn run(bench: &Bench<'_>) -> Outcome {
    let size = Size::of(bench.effort, bench.texts());
    let (measured, threads) = (measure(&size, bench), Size::threads(bench));
    Outcome {
        name: EXPERIMENT.name,
        question: EXPERIMENT.question,
        setting: setting(&size),
        tables: tables(&size, &threads, &measured),
        figure: figure(&size, &threads, &measured),
        seen: seen(&size, &threads, &measured),
    }
}

fn setting(size: &Size<'_>) -> String {
    let Size {
        source,
        blocks,
        heads,
        width,
        length,
        batch,
        updates: [for_recall, for_text],
        tests,
        seeds,
        symbols,
        timed,
        streams,
        ..
    } = size;
    let hidden = |task: Task| {
        let hidden = KINDS.iter().filter_map(|&(name, cell)| Some((name, size.hidden(task.symbols(*source), cell?))));
        listed(&hidden.map(|(name, hidden)| format!("{name} {hidden}")).collect::<Vec<_>>())
    };
    let [of_recall, of_text] = [Task::Recall, Task::Text].map(hidden);
    let least = source.draw(&mut random(1, 1), Part::Tests, *tests, *length).1;
    format!(
        "Every network reads {width} features, a linear map of a symbol, and ends in a softmax. The Transformer ({blocks} x {heads} heads) normalises before each part and knows positions by sines; the recurrent networks have one layer, of the units \
         that give the nearest number of parameters: for recall {of_recall}, for text {of_text}. Recall: {} to {} pairs of one of \
         {KEYS} keys and one of {VALUES} values, then {QUESTIONS} of these keys, each to be answered by its value. Text: the next symbol, in texts of {length}. {} \
         {for_recall} updates of Adam for recall and {for_text} for text, with {batch} sequences each, at a rate that rises to {} (Transformer) or {} and \
         falls to a tenth, clipped to 1; {tests} test sequences; {seeds} seeds. Training is timed on texts of the grammar, {symbols} \
         symbols a batch at every length, {timed} times; a stream is read alone on one thread, {streams} times. Times are those of the \
         fastest tenth.",
        PAIRS[0],
        PAIRS[1],
        source.about(least),
        rate(TRANSFORMER),
        rate(TRANSFORMER + 1),
    )
}

fn table<T>(
    caption: &str,
    corner: &str,
    columns: &[usize],
    measured: &[Measured],
    of: impl Fn(&Measured) -> &[T],
    show: fn(&T) -> String,
) -> Table {
    let head = std::iter::once(corner.to_owned()).chain(columns.iter().map(ToString::to_string));
    let mut table = Table::new(caption, head);
    for (name, measured) in NAMES.iter().zip(measured) {
        table.add(name, of(measured).iter().map(show));
    }
    table
}

fn tables(size: &Size<'_>, threads: &[usize], measured: &[Measured]) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    for (place, &threads) in threads.iter().enumerate() {
        let caption = format!("Symbols a second in training on {}", counted(threads, "thread"));
        tables.push(table(
            &caption,
            "length",
            size.lengths,
            measured,
            |m| &m.speeds[place][..],
            |speed| format!("{speed:.0}"),
        ));
    }
    let streamed = |caption, show| table(caption, "position", size.positions, measured, |m| &m.streamed[..], show);
    tables.push(streamed("Bytes of state in a stream", |step| step.bytes.to_string()));
    tables.push(streamed("Microseconds a streamed symbol", |step| number(step.microseconds)));
    for (task, (name, _)) in TASKS.iter().enumerate() {
        let head = ["network", "parameters", size.measured(task), "answers right"].map(str::to_owned);
        let mut table = Table::new(&format!("What was learned of {name}"), head);
        for (name, measured) in NAMES.iter().zip(measured) {
            let right = measured.spread(task, measured.last(), |reached| reached.right).mean;
            table.add(name, [measured.parameters[task].to_string(), measured.excess(task).to_string(), percent(right)]);
        }
        tables.push(table);
    }
    tables
}

/// A panel of a curve for each network, over an axis from its least to its largest number.
fn panel(
    caption: String,
    x: &'static str,
    y: &'static str,
    points: &[usize],
    measured: &[Measured],
    of: impl Fn(&Measured) -> Vec<f64>,
) -> Panel {
    let curve = |measured| points.iter().map(|&at| at as f64).zip(of(measured)).collect();
    let curves: Vec<(usize, Vec<(f64, f64)>)> = measured.iter().map(curve).enumerate().collect();
    let all = || curves.iter().flat_map(|(_, points)| points).map(|&(_, value)| value);
    let least = all().fold(f64::INFINITY, f64::min).max(1e-4);
    let most = all().fold(least, f64::max);
    // Whole powers, where the ticks are.
    let ends = 10f64.powf(least.log10().floor())..10f64.powf(most.log10().ceil());
    let x = Axis::logarithmic(x, 10.0, points[0] as f64..points[points.len() - 1] as f64);
    Panel { caption, x, y: Axis::logarithmic(y, 10.0, ends), guides: Vec::new(), curves }
}

fn figure(size: &Size<'_>, threads: &[usize], measured: &[Measured]) -> Sheet {
    let mut panels = Vec::new();
    for (place, &threads) in threads.iter().enumerate() {
        let caption = format!("Training on {}", counted(threads, "thread"));
        let speeds = |measured: &Measured| measured.speeds[place].iter().map(|speed| speed / 1e3).collect();
        panels.push(panel(caption, "length", "thousand symbols a second", size.lengths, measured, speeds));
    }
    let streamed = |caption: &str, y, of: fn(&Streamed) -> f64| {
        let values = |measured: &Measured| measured.streamed.iter().map(of).collect();
        panel(caption.to_owned(), "position", y, size.positions, measured, values)
    };
    panels.push(streamed("State of a stream", "thousand bytes", |step| step.bytes as f64 / 1e3));
    panels.push(streamed("A streamed symbol", "µs", |step| step.microseconds));
    for (task, (name, _)) in TASKS.iter().enumerate() {
        let updates: Vec<usize> = (1..=size.parts).map(|part| part * size.updates[task] / size.parts).collect();
        let excess = |measured: &Measured| -> Vec<f64> {
            (0..=measured.last()).map(|part| measured.spread(task, part, |reached| reached.excess).mean).collect()
        };
        panels.push(panel(format!("Learning {name}"), "update", size.measured(task), &updates, measured, excess));
    }
    Sheet { keys: NAMES.map(str::to_owned).to_vec(), panels }
}

/// Each network's name with a number.
fn by_name(of: impl Fn(usize) -> f64) -> String {
    listed(&(0..KINDS.len()).map(|kind| format!("{} {}", NAMES[kind], number(of(kind)))).collect::<Vec<_>>())
}

fn seen(size: &Size<'_>, threads: &[usize], measured: &[Measured]) -> Vec<String> {
    vec![
        [of_training(size, threads, measured), of_streams(size, measured), of_quality(size, measured)]
            .concat()
            .join(" "),
    ]
}

fn of_training(size: &Size<'_>, threads: &[usize], measured: &[Measured]) -> Vec<String> {
    let [shortest, .., longest] = *size.lengths else { panic!("training is timed at two lengths at least") };
    let (first, last) = (0, size.lengths.len() - 1);
    let speed = |kind: usize, at: usize| measured[kind].speeds[0][at];
    let fastest = |at: usize| {
        let kinds = 0..KINDS.len();
        kinds.max_by(|&a, &b| speed(a, at).total_cmp(&speed(b, at))).expect("there are networks")
    };
    let mut said = vec![
        format!(
            "On one thread {} trained fastest at length {shortest}, with {:.0} symbols a second, and {} at {longest}, with {:.0}.",
            NAMES[fastest(first)],
            speed(fastest(first), first),
            NAMES[fastest(last)],
            speed(fastest(last), last)
        ),
        format!(
            "From the one length to the other its speed is multiplied by: {}.",
            by_name(|kind| speed(kind, last) / speed(kind, first))
        ),
    ];
    if let [_, all] = threads {
        let gain = |kind: usize, at: usize| measured[kind].speeds[1][at] / speed(kind, at);
        said.push(format!(
            "{} instead of one multiply the speed at length {shortest} by: {}; at {longest}, where a batch has {} by: {}.",
            counted(*all, "thread"),
            by_name(|kind| gain(kind, first)),
            match size.symbols / longest {
                1 => "a single sequence,".to_owned(),
                sequences => format!("{sequences} sequences,"),
            },
            by_name(|kind| gain(kind, last))
        ));
    }
    said
}

fn of_streams(size: &Size<'_>, measured: &[Measured]) -> Vec<String> {
    let (first, last) = (0, size.positions.len() - 1);
    let mut said = Vec::new();
    for (name, measured) in NAMES.iter().zip(measured) {
        let [begun, ended] = [first, last].map(|at| &measured.streamed[at]);
        let bytes = match measured.constant() {
            true => format!("the same {} bytes of state at every position", begun.bytes),
            false => format!("{} bytes of state at first and {} in the end", begun.bytes, ended.bytes),
        };
        let [begun, ended] = [begun, ended].map(|step| number(step.microseconds));
        said.push(format!("{name} {bytes}, and {begun} µs a symbol at first and {ended} in the end"));
    }
    let mut said = vec![format!(
        "A stream has, from position {} to {}: {}.",
        size.positions[first],
        size.positions[last],
        said.join("; ")
    )];
    let slower = |at: &usize| {
        let time = |kind: usize| measured[kind].streamed[*at].microseconds;
        (TRANSFORMER + 1..KINDS.len()).all(|kind| time(TRANSFORMER) > time(kind))
    };
    said.push(match (0..=last).find(|at| (*at..=last).all(|at| slower(&at))) {
        Some(at) if at == first => "Every position is dearer to the Transformer than to all others.".to_owned(),
        Some(at) => {
            format!("From position {} on the Transformer's symbols take longer than all others'.", size.positions[at])
        }
        None => "The Transformer's symbols do not take longer than all others', even in the end.".to_owned(),
    });
    said
}

fn of_quality(size: &Size<'_>, measured: &[Measured]) -> Vec<String> {
    let tasks = TASKS.iter().enumerate().map(|(task, (name, _))| {
        let reached: Vec<Spread> = measured.iter().map(|measured| measured.excess(task)).collect();
        let Best { place, others } = Best::of(&NAMES, &reached);
        let right = measured[place].spread(task, measured[place].last(), |reached| reached.right).mean;
        format!(
            "The best at {name} was {}, {:.3} {}, with {} of its answers right ({others}).",
            NAMES[place],
            reached[place].mean,
            size.measured(task),
            percent(right)
        )
    });
    tasks.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_the_values_of_their_keys() {
        let batch = recall(&mut random(1, 0), 50);
        let mut read: Vec<Vec<usize>> = vec![Vec::new(); 50];
        let mut answers = 0;
        batch.rows.for_each_row(|row, sequence, _| {
            let x = &batch.x[row * (KEYS + VALUES)..][..KEYS + VALUES];
            let (symbol, before) = (x.iter().position(|&x| x > 0.0).unwrap(), &read[sequence]);
            // A key that comes again is a question.
            let asked = before.iter().step_by(2).position(|&key| key == symbol).map(|pair| before[2 * pair + 1]);
            assert_eq!(batch.targets[row], asked.map_or(IGNORED, |value| value as u32));
            answers += usize::from(asked.is_some());
            read[sequence].push(symbol);
        });
        assert_eq!(answers, 50 * QUESTIONS);
    }

    #[test]
    fn networks_have_about_as_many_parameters() {
        let size = Size::of(Effort::Full, Source::Grammar);
        for (_, task) in TASKS {
            let parameters =
                [0, 1, 2].map(|kind| size.learner(kind, task.symbols(size.source), 1, 1).parameters() as f64);
            assert!(
                parameters.iter().all(|count| (count / parameters[TRANSFORMER] - 1.0).abs() < 0.02),
                "{parameters:?}"
            );
        }
    }

    /// The cache of keys and values grows; what a recurrent network keeps does not.
    #[test]
    fn only_the_transformer_keeps_more_and_more() {
        let size = Size { positions: &[1, 16, 100, 300], ..Size::of(Effort::Fast, Source::Grammar) };
        let bytes = [0, 1, 2].map(|kind| -> Vec<usize> { stream(&size, kind).iter().map(|step| step.bytes).collect() });
        assert!(bytes[TRANSFORMER].is_sorted() && bytes[TRANSFORMER][3] >= 300 * 2 * size.width * 4, "{bytes:?}");
        let states = [2, 1].map(|arrays| arrays * size_of::<f32>());
        for (kind, state) in [1, 2].into_iter().zip(states) {
            let hidden = size.hidden(Source::Grammar.units(), KINDS[kind].1.unwrap());
            assert_eq!(bytes[kind], [state * hidden; 4], "{}", NAMES[kind]);
        }
    }

    #[test]
    fn what_is_learned_is_the_same_on_any_number_of_threads() {
        let told = [1, 3].map(|threads| {
            let outcome = run(&Bench { effort: Effort::Fast, text: None, threads, progress: &|_, _| () });
            let learned = outcome.tables.iter().filter(|table| table.caption.starts_with("What was learned"));
            learned.map(|table| table.rows.clone()).collect::<Vec<_>>()
        });
        assert_eq!(told[0].len(), TASKS.len());
        assert_eq!(told[0], told[1]);
    }
}
