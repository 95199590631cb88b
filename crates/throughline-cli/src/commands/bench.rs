//! `throughline bench`: one stack, timed on random data.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::json;
use throughline::kernels::peak;
use throughline::prelude::*;

use crate::arguments::{BenchArguments, BenchCell, BenchMode};
use crate::output::say_line;

/// Time that untimed runs take at least, so that caches, clocks and memory have settled.
const WARM_UP: Duration = Duration::from_millis(300);
/// Time that the timed runs take about, unless their number is given.
const TIMED: f64 = 2.0;
/// How long the peak is measured before and after each run.
const BURST: Duration = Duration::from_millis(5);
/// More memory, in bytes, is not asked for.
const MOST_MEMORY: f64 = 64.0 * GIB;
const GIB: f64 = (1_u64 << 30) as f64;

struct Timed {
    seconds: f64,
    peak: f64,
}

pub fn run(arguments: &BenchArguments) -> Result<()> {
    check_memory(arguments)?;
    let mut bench = Bench::new(arguments)?;
    let begun = Instant::now();
    let mut last = bench.once();
    bench.once();
    while begun.elapsed() < WARM_UP {
        last = bench.once();
    }
    let runs = match arguments.runs {
        Some(runs) => runs as usize,
        None => ((TIMED / last) as usize).clamp(7, 200),
    };
    let mut timed: Vec<Timed> = Vec::with_capacity(runs);
    let mut before = bench.peak();
    for _ in 0..runs {
        let seconds = bench.once();
        let after = bench.peak();
        timed.push(Timed { seconds, peak: (before + after) / 2.0 });
        before = after;
    }
    Ok(say_line(&bench.report(&timed, arguments.json))?)
}

/// Refuses sizes that no memory holds. Counts in floating point, which does not overflow, what there is at least: input,
/// output, gates and states of every layer, and all of them, as the weights, with their gradients.
fn check_memory(arguments: &BenchArguments) -> Result<()> {
    let (input, hidden, layers) = (arguments.input as f64, arguments.hidden as f64, arguments.layers as f64);
    let directions = if arguments.bidirectional { 2.0 } else { 1.0 };
    let gates = cell_kind(arguments.cell).gates() as f64;
    let rows = arguments.batch as f64 * arguments.lengths.map_or(arguments.time, |(_, most)| most) as f64;
    let activations = rows * (input + layers * directions * hidden * (gates + 1.0));
    let others = (layers - 1.0) * (directions + 1.0) * hidden;
    let weights = directions * gates * hidden * (input + hidden + others);
    let bytes = 2.0 * 4.0 * (activations + weights);
    if bytes > MOST_MEMORY {
        bail!(
            "expected sizes that fit {} GiB of memory, found some that need {:.0} GiB or more; make --time (--lengths), \
             --batch, --input, --hidden or --layers smaller",
            MOST_MEMORY / GIB,
            bytes / GIB
        );
    }
    Ok(())
}

fn cell_kind(cell: BenchCell) -> CellKind {
    match cell {
        BenchCell::Lstm => CellKind::Lstm,
        BenchCell::Gru => CellKind::GruAfter,
        BenchCell::GruBefore => CellKind::GruBefore,
        BenchCell::Rnn => CellKind::RnnTanh,
    }
}

/// A stack with its data.
struct Bench<'a> {
    arguments: &'a BenchArguments,
    recurrent: Recurrent,
    layout: Layout,
    parameters: Vec<f32>,
    gradients: Vec<f32>,
    packed: throughline::nn::recurrent::PackedRecurrent<f32>,
    workspace: throughline::nn::recurrent::RecurrentWorkspace<f32>,
    threads: Threads,
    isa: Isa,
    batch: Ragged,
    x: Vec<f32>,
    dy: Vec<f32>,
    dx: Vec<f32>,
}

impl<'a> Bench<'a> {
    fn new(arguments: &'a BenchArguments) -> Result<Self> {
        let cell = cell_kind(arguments.cell);
        let config = RecurrentConfig {
            layers: arguments.layers,
            bidirectional: arguments.bidirectional,
            ..RecurrentConfig::new(cell, arguments.input, arguments.hidden)
        };
        let mut random = Philox::new(1, Purpose::Benchmark, 0).stream();
        let lengths: Vec<usize> = match arguments.lengths {
            Some((least, most)) => (0..arguments.batch).map(|_| least + random.below(most - least + 1)).collect(),
            None => vec![arguments.time; arguments.batch],
        };
        let batch = Ragged::new(&lengths);
        let mut noise = |count: usize| -> Vec<f32> { (0..count).map(|_| random.uniform() as f32 - 0.5).collect() };
        let (x, dy) = (noise(batch.rows() * config.input), noise(batch.rows() * config.output()));
        let mut layout = Layout::new();
        let recurrent = Recurrent::new(config, &mut layout, "");
        let mut parameters = vec![0.0; layout.length()];
        recurrent.initialise(&layout, 1, Initialisation::Uniform, &mut parameters);
        let (isa, threads) = (Isa::detect(), Threads::try_new(usize::from(arguments.threads))?);
        let mut packed = recurrent.packed(isa, arguments.mode == BenchMode::Train);
        recurrent.pack(&threads, &layout, &parameters, &mut packed);
        Ok(Self {
            gradients: vec![0.0; layout.length()],
            workspace: recurrent.workspace(&threads),
            dx: vec![0.0; x.len()],
            arguments,
            recurrent,
            layout,
            parameters,
            packed,
            threads,
            isa,
            batch,
            x,
            dy,
        })
    }

    /// Seconds of one run.
    fn once(&mut self) -> f64 {
        let Self { recurrent, layout, parameters, gradients, packed, workspace, threads, batch, x, dy, dx, .. } = self;
        let mode = self.arguments.mode;
        let begun = Instant::now();
        threads.enter(|| {
            if mode == BenchMode::Train {
                recurrent.pack(threads, layout, parameters, packed);
            }
            let context = throughline::nn::recurrent::Context { threads, packed, parameters, layout };
            let pass = if mode == BenchMode::Train { Pass::Traced } else { Pass::Inference };
            recurrent.forward(context, batch, x, None, pass, workspace);
            if mode == BenchMode::Train {
                recurrent.backward(context, batch, x, false, pass, Some(dy), None, Some(dx), gradients, workspace);
            }
        });
        begun.elapsed().as_secs_f64()
    }

    /// The peak of all threads together, in operations a second.
    fn peak(&self) -> f64 {
        let mut rates = vec![0.0; self.threads.count()];
        let isa = self.isa;
        self.threads.for_each_mut(&mut rates, |rate| *rate = peak::measure(isa, BURST));
        rates.iter().sum()
    }

    /// Operations of one run: 2·N·G·H·(I + H) for each layer and direction, three times as many with backward.
    fn operations(&self) -> f64 {
        let config = self.recurrent.config();
        let products = |input: usize| (config.cell.gates() * config.hidden * (input + config.hidden)) as f64;
        let stack = products(config.input) + (config.layers - 1) as f64 * products(config.output());
        let passes = if self.arguments.mode == BenchMode::Train { 3.0 } else { 1.0 };
        2.0 * self.batch.rows() as f64 * config.directions() as f64 * stack * passes
    }

    fn report(&self, timed: &[Timed], as_json: bool) -> String {
        let operations = self.operations();
        let mut seconds: Vec<f64> = timed.iter().map(|timed| timed.seconds).collect();
        let mut shares: Vec<f64> = timed.iter().map(|timed| operations / timed.seconds / timed.peak).collect();
        let (median_seconds, share) = (median(&mut seconds), median(&mut shares));
        let p90 = seconds[(seconds.len() * 9).div_ceil(10) - 1];
        let gflops = operations / median_seconds / 1e9;
        let (isa, threads) = (self.isa.name().as_str(), self.threads.count());
        if as_json {
            return json!({
                "median_s": median_seconds,
                "p90_s": p90,
                "runs": timed.len(),
                "gflops": gflops,
                "peak_share": share,
                "peak_rss_mib": peak_rss_mib(),
                "isa": isa,
                "threads": threads,
                "rows": self.batch.rows(),
                "lengths": self.batch.lengths(),
            })
            .to_string();
        }
        format!(
            "median {:.3} ms, 90 % below {:.3} ms, {} runs; {gflops:.1} GFLOP/s, {:.0} % of the peak; {isa}, {threads} threads",
            median_seconds * 1e3,
            p90 * 1e3,
            timed.len(),
            share * 100.0
        )
    }
}

/// Sorts `values`; the middle one, or the mean of the two in the middle.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}

/// The most memory this process has held, in MiB; `None` where the system does not tell.
fn peak_rss_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}
