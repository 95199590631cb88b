//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Recurrent networks that train fast on a CPU.
///
/// `throughline train` alone trains a character language model on the text at hand: the Rust sources and documents of the
/// project you stand in, or a text inside the program. A run keeps everything in a folder under runs/.
#[derive(Debug, Parser)]
#[command(name = "throughline", version, after_help = EXAMPLES)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  throughline train                                    learn from the text at hand
  throughline train --text book.txt notes/             learn from your own text
  throughline train recipes/names.toml --data names/   follow a recipe
  throughline train recipe.toml --set model.hidden=512 follow it with one setting changed
  throughline recipe classify > recipe.toml            begin a recipe of your own
  throughline train --resume runs/lm-1                 go on where a run stopped
  throughline generate lm-1 --prompt \"fn \" --length 300
  echo \"what a fine film\" | throughline predict classify-1
  throughline eval classify-1 --data test.tsv --json
  throughline bench --cell gru --mode train --json

Environment:
  THROUGHLINE_ISA   the instruction set to compute with: scalar, neon, avx2 or avx512 [default: the widest there is]";

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model, by a recipe or with the defaults.
    Train(TrainArguments),
    /// Print a recipe with every default and a comment on every setting, or the tasks that there are.
    Recipe(RecipeArguments),
    /// Measure a trained model on its test part or on other data.
    Eval(EvalArguments),
    /// Read lines from standard input and write one JSON object for each: classes and probabilities, or the loss of the line.
    Predict(PredictArguments),
    /// Let a language model write.
    Generate(GenerateArguments),
    /// Time the engine on this machine with random data.
    Bench(BenchArguments),
}

/// `throughline train`
#[derive(Args, Debug)]
pub struct TrainArguments {
    /// A recipe (a file that ends in .toml) and files or folders with data, in any order.
    #[arg(value_name = "RECIPE.toml|PATH")]
    pub paths: Vec<PathBuf>,
    /// Files or folders with data; they take the place of the recipe's `data.paths`.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// Files or folders with text for a language model.
    #[arg(long, value_name = "FILE|DIR", num_args = 1.., conflicts_with = "data")]
    pub text: Vec<PathBuf>,
    /// Change a setting of the recipe, such as model.hidden=512; may be given many times. A word needs no quotes.
    #[arg(long, value_name = "KEY=VALUE", num_args = 1..)]
    pub set: Vec<String>,
    /// Go on with a run: its folder, or its name under runs/. With --set, train.epochs, train.steps and the like may change.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["paths", "data", "text"])]
    pub resume: Option<PathBuf>,
    /// Write only what goes wrong.
    #[arg(long, short)]
    pub quiet: bool,
}

/// `throughline recipe`
#[derive(Args, Debug)]
pub struct RecipeArguments {
    /// The task to print a recipe for [default: list the tasks].
    #[arg(value_name = "TASK")]
    pub task: Option<String>,
}

/// Which run.
#[derive(Args, Debug)]
pub struct RunArgument {
    /// A run folder, or the name of one under runs/.
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Threads to compute with [default: as many as the run was trained with].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

/// `throughline eval`
#[derive(Args, Debug)]
pub struct EvalArguments {
    /// The model.
    #[command(flatten)]
    pub run: RunArgument,
    /// Files or folders to measure on, in the format of the run's data [default: the run's test part].
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// Write one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `throughline predict`
#[derive(Args, Debug)]
pub struct PredictArguments {
    /// The model.
    #[command(flatten)]
    pub run: RunArgument,
    /// Write so many of the most probable classes.
    #[arg(long, value_name = "K", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub top: u16,
}

/// `throughline generate`
#[derive(Args, Debug)]
pub struct GenerateArguments {
    /// The model.
    #[command(flatten)]
    pub run: RunArgument,
    /// What the text begins with.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub prompt: String,
    /// Units (characters, bytes or words) to write.
    #[arg(long, default_value_t = 500)]
    pub length: usize,
    /// Divides the logits: below 1 bolder, above 1 wilder, 0 always the most probable unit.
    #[arg(long, default_value_t = 0.8, value_parser = temperature)]
    pub temperature: f64,
    /// Choose among the K most probable units only; 0 for all.
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub top_k: usize,
    /// Choose among the fewest units that together reach this probability.
    #[arg(long, value_name = "P", default_value_t = 1.0, value_parser = probability)]
    pub top_p: f64,
    /// The same seed writes the same text.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// `throughline bench`
///
/// Times a recurrent stack with random numbers; with --model a whole training step; with --maths the elementwise
/// functions.
#[derive(Args, Debug)]
pub struct BenchArguments {
    /// The cell: gru resets after the product (as PyTorch does), gru-before resets before it, rnn is tanh.
    #[arg(long, value_enum, default_value_t = BenchCell::Lstm)]
    pub cell: BenchCell,
    /// forward: inference, weights packed outside the timing. train: pack, forward, full backward. step: one streaming
    /// step on one thread, the states carried from step to step; its bandwidth is beside that of a plain reading loop.
    #[arg(long, value_enum, default_value_t = BenchMode::Train, conflicts_with = "model")]
    pub mode: BenchMode,
    /// Time a whole training step of this model; sizes that are given take the place of the model's.
    #[arg(long, value_enum)]
    pub model: Option<BenchModel>,
    /// Time exp, tanh and sigmoid over an array that stays in the nearest caches.
    #[arg(long, conflicts_with_all = NOT_WITH_MATHS)]
    pub maths: bool,
    /// Say how each layer's work would be shared out to the threads, and what other ways are thought to cost.
    #[arg(long, conflicts_with_all = ["maths", "model", "write", "json"])]
    pub explain: bool,
    /// With --explain: measure every way, and fail if the chosen one takes over 10 % more time than the best.
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
    /// Read in both directions; a model reads as its task asks.
    #[arg(long, conflicts_with = "model")]
    pub bidirectional: bool,
    /// Lengths drawn uniformly from MIN to MAX, both included, or the length of each sequence, instead of --time for
    /// all.
    #[arg(long, value_name = "MIN..MAX|N,N,...", value_parser = lengths, conflicts_with = "time")]
    pub lengths: Option<BenchLengths>,
    /// Tokens V that a model knows [default: the model's].
    #[arg(long, value_parser = size, requires = "model")]
    pub vocabulary: Option<usize>,
    /// Threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: u16,
    /// Timed runs, at least 3, of as many repetitions as the clock needs; with --assert rounds [default: 3 to 200, as fit
    /// into about two seconds; 7 rounds].
    #[arg(long, value_parser = clap::value_parser!(u32).range(3..=100_000))]
    pub runs: Option<u32>,
    /// Time that untimed runs take at least before that; there is always one.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 300, conflicts_with = "explain")]
    #[arg(value_parser = clap::value_parser!(u32).range(..=60_000))]
    pub warm_up: u32,
    /// Run once before the timing, and write inputs, parameters and results to a safetensors file that others can check
    /// theirs against; the peak memory then includes the file. A regular file of that name is replaced, anything else
    /// refused.
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Write one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// What says nothing about elementwise functions.
const NOT_WITH_MATHS: [&str; 13] = [
    "cell",
    "mode",
    "model",
    "time",
    "batch",
    "input",
    "hidden",
    "layers",
    "bidirectional",
    "lengths",
    "vocabulary",
    "threads",
    "write",
];

/// A cell to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchCell {
    /// LSTM
    Lstm,
    /// GRU, reset after
    Gru,
    /// GRU, reset before
    GruBefore,
    /// vanilla RNN, tanh
    Rnn,
}

/// What to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchMode {
    /// inference
    Forward,
    /// a training step without the optimiser
    Train,
    /// one streaming step
    Step,
}

/// A model whose training step is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchModel {
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
pub enum BenchLengths {
    /// Drawn uniformly, both ends included.
    Between(usize, usize),
    /// These, in this order.
    These(Vec<usize>),
}

fn number<T: std::str::FromStr>(text: &str, valid: impl Fn(&T) -> bool, expected: &str) -> Result<T, String> {
    text.parse().ok().filter(|value| valid(value)).ok_or_else(|| format!("expected {expected}"))
}

fn temperature(text: &str) -> Result<f64, String> {
    number(text, |value| (0.0..=100.0).contains(value), "a number from 0 to 100")
}

fn probability(text: &str) -> Result<f64, String> {
    number(text, |value| *value > 0.0 && *value <= 1.0, "a number above 0, at most 1")
}

fn size(text: &str) -> Result<usize, String> {
    number(text, |value| (1..=1 << 20).contains(value), "a whole number from 1 to 1048576")
}

fn lengths(text: &str) -> Result<BenchLengths, String> {
    let Some((least, most)) = text.split_once("..") else {
        let these: Result<_, _> = text.split(',').map(size).collect();
        let expected = |error| format!("expected MIN..MAX, such as 5..50, or N,N,..., such as 50,49,7: {error}");
        return these.map(BenchLengths::These).map_err(expected);
    };
    let (least, most) = (size(least)?, size(most)?);
    if least <= most {
        return Ok(BenchLengths::Between(least, most));
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
