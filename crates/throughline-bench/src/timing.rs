//! Timing: warm up, then block by block, each between two looks at what the machine can do at that moment. A block is one
//! run, or as many as the clock can tell well.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use throughline_kernels::peak;
use throughline_kernels::threads::Threads;
use throughline_nn::Cpu;

use crate::arguments::Arguments;
use crate::memory::bytes_of;

/// Time that the timed runs take about, unless their number is given.
const TIMED: f64 = 2.0;
/// The fewest and the most runs then.
const RUNS: (usize, usize) = (3, 200);
/// The runs of a block take at least so long together: the clock can tell that well, and what the measuring of the limits has
/// put into the caches is soon forgotten.
const BLOCK: Duration = BURST;
/// A run that seems to take less, in seconds, is looked at so often before it is judged, and runs once untimed before each
/// block.
const SHORT: f64 = 20e-3;
const LOOKS: usize = 5;
/// How long a limit of the machine is measured before and after each run.
pub const BURST: Duration = Duration::from_millis(5);

/// What is computed with.
pub fn cpu(arguments: &Arguments) -> anyhow::Result<Cpu> {
    Ok(Cpu::of(Threads::try_new(usize::from(arguments.threads))?))
}

/// The peak of all threads together, in operations a second.
pub fn peak(cpu: &Cpu) -> f64 {
    let mut rates = vec![0.0; cpu.threads.count()];
    let isa = cpu.isa;
    cpu.threads.for_each_mut(&mut rates, |rate| *rate = peak::measure(isa, BURST));
    rates.iter().sum()
}

/// Something to time beside `K` measures of the machine.
pub trait Subject<const K: usize> {
    /// Runs it so many times; the seconds of all of them that count.
    fn run(&mut self, times: usize) -> f64;

    /// What the machine does at this moment: the first is the peak, the most multiply-adds that it can do. Another need not
    /// be a limit: a plain reading loop reads less than a product that asks for its weights ahead.
    fn limits(&mut self) -> [f64; K];
}

/// One timed block, and the means of the limits before and after it.
pub struct Timed<const K: usize> {
    /// Of one run.
    pub seconds: f64,
    pub limits: [f64; K],
}

/// Times `subject` as the arguments ask; the blocks, and how many runs each has.
pub fn measure<const K: usize>(subject: &mut impl Subject<K>, arguments: &Arguments) -> (Vec<Timed<K>>, usize) {
    let (begun, warm_up) = (Instant::now(), Duration::from_millis(u64::from(arguments.warm_up)));
    // The fastest decides how many runs a block has: the first is cold, and any may have been interrupted.
    let (mut block, mut untimed) = (subject.run(1), 1);
    while begun.elapsed() < warm_up || (block < SHORT && untimed < LOOKS) {
        block = block.min(subject.run(1));
        untimed += 1;
    }
    let mut repeats = 1;
    while block < BLOCK.as_secs_f64() {
        repeats *= 2;
        block = subject.run(repeats).min(subject.run(repeats));
    }
    let runs = match arguments.runs {
        Some(runs) => runs as usize,
        None => ((TIMED / block) as usize).clamp(RUNS.0, RUNS.1),
    };
    let mut timed = Vec::with_capacity(runs);
    let mut before = subject.limits();
    for _ in 0..runs {
        if block < SHORT {
            // What measures the limits leaves a short run cold.
            subject.run(1);
        }
        let seconds = subject.run(repeats) / repeats as f64;
        let after = subject.limits();
        timed.push(Timed { seconds, limits: std::array::from_fn(|k| (before[k] + after[k]) / 2.0) });
        before = after;
    }
    (timed, repeats)
}

/// What the timed runs come to.
pub struct Figures {
    pub median_s: f64,
    pub p90_s: f64,
    /// Timed blocks.
    pub runs: usize,
    /// Runs of a block.
    pub repeats: usize,
    /// Operations a second, in units of 10^9.
    pub gflops: f64,
    /// The share of the peak, the first of the limits: the median over the runs, each beside its own.
    pub peak_share: f64,
}

impl Figures {
    /// Of blocks of `repeats` runs of `operations` operations each.
    pub fn of<const K: usize>(timed: &[Timed<K>], repeats: usize, operations: f64) -> Self {
        let mut seconds: Vec<f64> = timed.iter().map(|timed| timed.seconds).collect();
        let median_s = median(&mut seconds);
        let p90_s = seconds[(seconds.len() * 9).div_ceil(10) - 1];
        let mut shares: Vec<f64> = timed.iter().map(|timed| operations / timed.seconds / timed.limits[0]).collect();
        let (gflops, peak_share) = (operations / median_s / 1e9, median(&mut shares));
        Self { median_s, p90_s, runs: timed.len(), repeats, gflops, peak_share }
    }

    /// As JSON, with what was computed with.
    pub fn json(&self, cpu: &Cpu) -> Map<String, Value> {
        let Self { median_s, p90_s, runs, repeats, gflops, peak_share } = self;
        let object = json!({
            "median_s": median_s,
            "p90_s": p90_s,
            "runs": runs,
            "repeats": repeats,
            "gflops": gflops,
            "peak_share": peak_share,
            "peak_rss_mib": peak_rss_mib(),
            "isa": cpu.isa.name().as_str(),
            "threads": cpu.threads.count(),
        });
        let Value::Object(object) = object else { unreachable!("it is written as an object") };
        object
    }

    /// For people.
    pub fn text(&self, cpu: &Cpu) -> String {
        let (isa, threads) = (cpu.isa.name().as_str(), cpu.threads.count());
        format!(
            "median {}, 90 % below {}, {} runs{}; {:.1} GFLOP/s, {:.0} % of the peak; {isa}, {threads} threads",
            time(self.median_s),
            time(self.p90_s),
            self.runs,
            if self.repeats > 1 { format!(" of {} each", self.repeats) } else { String::new() },
            self.gflops,
            self.peak_share * 100.0
        )
    }
}

/// Seconds for people.
fn time(seconds: f64) -> String {
    if seconds < 1e-3 { format!("{:.3} µs", seconds * 1e6) } else { format!("{:.3} ms", seconds * 1e3) }
}

/// Sorts `values`; the middle one, or the mean of the two in the middle.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0
}

/// The most memory this process has held, in MiB; `None` where the system does not tell.
fn peak_rss_mib() -> Option<f64> {
    bytes_of("/proc/self/status", "VmHWM:").map(|bytes| bytes / (1 << 20) as f64)
}
