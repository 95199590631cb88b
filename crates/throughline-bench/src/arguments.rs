//! The command line.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Parser, ValueEnum};
use throughline_kernels::cells::CellKind;

/// Times the engine of Throughline on this machine, with random data.
///
/// By default a recurrent stack over a whole batch; with --model a whole training step; with --maths the elementwise
/// functions.
#[derive(Debug, Parser)]
#[command(name = "throughline-bench", version, after_help = EXAMPLES)]
pub struct Arguments {
    /// The cell of every layer.
    #[arg(long, default_value = "lstm", value_parser = cells())]
    pub cell: CellKind,
    /// forward: inference, with the weights packed outside the timing. train: pack, forward, full backward. step: one
    /// streaming step on one thread, reported beside the bandwidth of a plain reading loop.
    #[arg(long, value_enum, default_value_t = Mode::Train, conflicts_with = "model")]
    pub mode: Mode,
    /// Time a whole training step of this model; any size given replaces the model's.
    #[arg(long, value_enum)]
    pub model: Option<ModelChoice>,
    /// Time exp, tanh and sigmoid over an array that stays in the nearest caches.
    #[arg(long, conflicts_with_all = NOT_WITH_MATHS)]
    pub maths: bool,
    /// Show how each layer's work would be split across the threads, with the estimated cost of every plan.
    #[arg(long, conflicts_with_all = ["maths", "model", "write", "json"])]
    pub explain: bool,
    /// With --explain: measure every plan, and fail if the chosen one takes over 10 % more time than the best.
    #[arg(long, requires = "explain")]
    pub assert: bool,
    /// Steps T of every sequence [default: 20, or the model's].
    #[arg(long, value_parser = size)]
    pub time: Option<usize>,
    /// Sequences B [default: 20, or the model's].
    #[arg(long, value_parser = size)]
    pub batch: Option<usize>,
    /// Input size I; a model's embedding size [default: 200, or the model's].
    #[arg(long, value_parser = size)]
    pub input: Option<usize>,
    /// Hidden size H [default: 200, or the model's].
    #[arg(long, value_parser = size)]
    pub hidden: Option<usize>,
    /// Layers L [default: 1, or the model's].
    #[arg(long, value_parser = size)]
    pub layers: Option<usize>,
    /// Read in both directions; a model reads as its task requires.
    #[arg(long, conflicts_with = "model")]
    pub bidirectional: bool,
    /// Layer-normalised cells.
    #[arg(long, conflicts_with = "model")]
    pub layer_norm: bool,
    /// Instead of --time: lengths drawn uniformly from MIN to MAX, both included, or the length of each sequence.
    #[arg(long, value_name = "MIN..MAX|N,N,...", value_parser = lengths, conflicts_with = "time")]
    pub lengths: Option<Lengths>,
    /// Tokens V in a model's vocabulary [default: the model's].
    #[arg(long, value_parser = size, requires = "model")]
    pub vocabulary: Option<usize>,
    /// Threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: u16,
    /// Timed runs, at least 3, each of as many repetitions as the clock needs; with --assert, rounds [default: 3 to 200,
    /// as many as fit in about two seconds; 7 rounds].
    #[arg(long, value_parser = clap::value_parser!(u32).range(3..=100_000))]
    pub runs: Option<u32>,
    /// Least time for untimed runs before that; there is always one.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 300, conflicts_with = "explain")]
    #[arg(value_parser = clap::value_parser!(u32).range(..=60_000))]
    pub warm_up: u32,
    /// Run once before the timing, and write inputs, parameters and results to a safetensors file, against which others
    /// can check theirs; the peak memory then includes the file. Replaces a regular file of that name, and nothing else.
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Write one JSON object.
    #[arg(long)]
    pub json: bool,
}

const EXAMPLES: &str = "\
Examples:
  throughline-bench --cell gru --mode train --json
  throughline-bench --mode step --hidden 128 --batch 1
  throughline-bench --model char-lm --threads 2
  throughline-bench --explain --batch 64 --threads 2

Environment:
  THROUGHLINE_ISA   the instruction set to compute with: scalar, neon, avx2 or avx512 [default: the widest there is]";

/// Options that mean nothing to elementwise functions.
const NOT_WITH_MATHS: [&str; 14] = [
    "cell",
    "mode",
    "model",
    "time",
    "batch",
    "input",
    "hidden",
    "layers",
    "bidirectional",
    "layer_norm",
    "lengths",
    "vocabulary",
    "threads",
    "write",
];

/// What to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// inference
    Forward,
    /// a training step without the optimiser
    Train,
    /// one streaming step
    Step,
}

/// A model whose training step is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModelChoice {
    /// word language model: V 10000, embedding 200, 2 layers of H 200, T 20, B 20, SGD, norm clipped to 5
    WordLm,
    /// character language model: V 96, embedding 96, 2 layers of H 512, T 256, B 64, Adam, norm clipped to 1
    CharLm,
    /// tagger: V 20000, embedding 100, bidirectional, H 256, T 50, B 32, 17 tags, Adam
    Tagger,
    /// classifier: V 20000, embedding 128, bidirectional, H 256, 50 to 200 steps, B 32, 2 classes, Adam
    Classifier,
}

/// The lengths of the sequences of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lengths {
    /// Drawn uniformly, both ends included.
    Between(usize, usize),
    /// One for each sequence, in order.
    Listed(Vec<usize>),
}

/// Every registered cell, by the name that it has in recipes.
fn cells() -> impl TypedValueParser<Value = CellKind> {
    let names = CellKind::ALL.iter().map(|cell| cell.names());
    let parser = PossibleValuesParser::new(names.map(|names| PossibleValue::new(names.recipe).help(names.title)));
    parser.map(|name| CellKind::from_recipe_name(&name).expect("only names of cells are possible"))
}

fn size(text: &str) -> Result<usize, String> {
    let size = text.parse().ok().filter(|size| (1..=1 << 20).contains(size));
    size.ok_or_else(|| "expected a whole number from 1 to 1048576".to_owned())
}

fn lengths(text: &str) -> Result<Lengths, String> {
    let Some((least, most)) = text.split_once("..") else {
        let listed: Result<_, _> = text.split(',').map(size).collect();
        let expected = |error| format!("expected MIN..MAX, such as 5..50, or N,N,..., such as 50,49,7: {error}");
        return listed.map(Lengths::Listed).map_err(expected);
    };
    let (least, most) = (size(least)?, size(most)?);
    if least <= most {
        return Ok(Lengths::Between(least, most));
    }
    Err(format!("expected MIN..MAX with {least} <= {most}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
