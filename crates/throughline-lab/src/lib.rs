//! Experiments of minutes on recurrent networks, on problems that are made as they are needed. Each ends in tables, a figure and
//! a paragraph on what was seen, which follows from the numbers and says the opposite where they do.
//!
//! Sequences, initial weights and hence every result but times are the same bits on any number of threads.
#![forbid(unsafe_code)]

mod cells;
mod depth;
mod direction;
mod jobs;
mod learner;
mod outcome;
mod problems;
mod sharing;
mod tags;
mod texts;
mod transformer;
mod vanishing;

pub use outcome::{Outcome, Table};
use texts::Source;
pub use texts::Text;

/// How much is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Enough to tell networks apart.
    Full,
    /// Seconds: enough to see that everything runs.
    Fast,
}

impl Effort {
    /// One of two settings.
    fn choose<T>(self, full: T, fast: T) -> T {
        match self {
            Self::Full => full,
            Self::Fast => fast,
        }
    }
}

/// What an experiment is run with.
#[derive(Clone, Copy)]
pub struct Bench<'a> {
    /// How much is run.
    pub effort: Effort,
    /// What the experiments that read a text read in place of that of a grammar.
    pub text: Option<&'a Text>,
    /// Networks that learn side by side, each on a thread of its own; what is timed on several threads is timed on one and on all.
    pub threads: usize,
    /// Is told how many networks have learned, and of how many.
    pub progress: &'a (dyn Fn(usize, usize) + Sync),
}

impl<'a> Bench<'a> {
    /// Where texts are from.
    fn texts(&self) -> Source<'a> {
        self.text.map_or(Source::Grammar, Source::Given)
    }
}

/// An experiment.
pub struct Experiment {
    /// Its name, also that of its files.
    pub name: &'static str,
    /// What it asks.
    pub question: &'static str,
    /// Whether it reads a text, which may be a [given one](Bench::text).
    pub reads_text: bool,
    run: fn(&Bench<'_>) -> Outcome,
}

/// Every experiment, in the order in which they build on each other.
pub const EXPERIMENTS: &[Experiment] = &[
    vanishing::EXPERIMENT,
    cells::EXPERIMENT,
    sharing::EXPERIMENT,
    transformer::EXPERIMENT,
    direction::EXPERIMENT,
    depth::EXPERIMENT,
];

impl Experiment {
    /// Runs it.
    ///
    /// # Panics
    /// If there are no threads, or the system cannot start them.
    pub fn run(&self, bench: &Bench<'_>) -> Outcome {
        assert!(bench.threads > 0, "at least one thread");
        (self.run)(bench)
    }
}
