//! The command line.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use throughline::infer::{Chosen, Sample};
use throughline::inspect::Options;
use throughline::lab::EXPERIMENTS;

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
  throughline train reviews.csv                        the task that the data seem to be for
  throughline train recipes/names.toml --data names/   follow a recipe
  throughline train recipe.toml --set model.hidden=512 follow it with one setting changed
  throughline data check reviews.csv                   is anything wrong with them?
  throughline lr-find recipes/names.toml --data names/ which learning rate?
  throughline recipe classify > recipe.toml            begin a recipe of your own
  throughline train recipe.toml --minutes 10           stop in time, whatever the recipe says
  throughline train --resume runs/lm-1                 go on where a run stopped
  throughline runs --sort -accuracy                    which run is the best?
  throughline runs --diff lm-1 lm-2                    what was different?
  throughline generate lm-1 --prompt \"fn \" --length 300
  throughline generate roll-1 --prompt piece.mid --length 256 --out continued.mid
  throughline inspect lm-1                             what does it remember, and is anything wrong?
  throughline trace lm-1 --out trace.npz               every gate, state and gradient, for NumPy
  throughline lab vanishing                            who learns to remember for how long, and why?
  echo \"what a fine film\" | throughline predict classify-1
  throughline eval classify-1 --data test.tsv --json

Environment:
  THROUGHLINE_ISA   the instruction set to compute with: scalar, neon, avx2 or avx512 [default: the widest there is]";

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a model, by a recipe or with the defaults.
    Train(TrainArguments),
    /// Try learning rates, from very low to very high, and suggest one.
    LrFind(LrFindArguments),
    /// Print a recipe with every default and a comment on every setting, or the tasks that there are.
    Recipe(RecipeArguments),
    /// Look at data before any training.
    #[command(subcommand)]
    Data(DataCommand),
    /// List runs with what they reached, or show in which settings two of them differ.
    Runs(RunsArguments),
    /// Measure a trained model on its test split or on other data.
    Eval(EvalArguments),
    /// Look inside a trained model: how far back gradients and inputs reach, what the gates do, whether something is wrong.
    Inspect(InspectArguments),
    /// Write every gate, state and gradient of a trained model over some data to a file, as arrays with names.
    Trace(TraceArguments),
    /// Run experiments of minutes: what networks learn to remember, and what gates, shared weights, directions, depth and Transformers buy.
    Lab(LabArguments),
    /// Read lines from standard input and answer each: with classes, tags, numbers or pitches, or with the loss of the line.
    Predict(PredictArguments),
    /// Let a model write: a language model a text, a model of piano rolls a piece of music.
    Generate(GenerateArguments),
}

/// `throughline train`
#[derive(Args, Debug)]
pub struct TrainArguments {
    /// What to train, and how.
    #[command(flatten)]
    pub given: RecipeArgument,
    /// Train for at most so many minutes, such as 1.5, over all sessions of the run: train.max_seconds.
    #[arg(long, value_name = "M", value_parser = minutes)]
    pub minutes: Option<f64>,
    /// Pass so many times over the training split: train.epochs, also where the recipe counts updates.
    #[arg(long, value_name = "E", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub epochs: Option<u64>,
    /// Write the metrics for TensorBoard, too: train.tensorboard.
    #[arg(long)]
    pub tensorboard: bool,
    /// Go on with a run: its folder, or its name under runs/. With --set, train.epochs, train.steps and the like may change.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["paths", "data", "text"])]
    pub resume: Option<PathBuf>,
    /// Write nothing but the result, and what goes wrong.
    #[arg(long, short)]
    pub quiet: bool,
}

/// A recipe, and what is changed in it.
#[derive(Args, Debug)]
pub struct RecipeArgument {
    /// A recipe (a file that ends in .toml) and files or folders with data, in any order. Without a recipe, the task is told by
    /// the data.
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
}

/// `throughline lr-find`
#[derive(Args, Debug)]
pub struct LrFindArguments {
    /// What would be trained, and how.
    #[command(flatten)]
    pub given: RecipeArgument,
    /// The lowest learning rate.
    #[arg(long, value_name = "RATE", default_value_t = 1e-6, value_parser = rate)]
    pub from: f64,
    /// The highest learning rate; the test ends before it where the loss rises to four times its lowest.
    #[arg(long, value_name = "RATE", default_value_t = 1.0, value_parser = rate)]
    pub to: f64,
    /// Updates, with a higher learning rate in each.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(10..=1_000_000))]
    pub updates: u64,
    /// Write rates and losses to this file, as CSV.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// `throughline recipe`
#[derive(Args, Debug)]
pub struct RecipeArguments {
    /// The task to print a recipe for [default: list the tasks].
    #[arg(value_name = "TASK")]
    pub task: Option<String>,
}

/// `throughline data`
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Read data as training would, and tell what is in them: what was left out, lengths, equal examples, labels, baselines.
    Check(DataCheckArguments),
}

/// `throughline data check`
#[derive(Args, Debug)]
pub struct DataCheckArguments {
    /// Which data, and what they are for.
    #[command(flatten)]
    pub given: RecipeArgument,
    /// Write one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `throughline runs`
#[derive(Args, Debug)]
pub struct RunsArguments {
    /// Folders of runs, or runs [default: runs/].
    #[arg(value_name = "FOLDER")]
    pub folders: Vec<PathBuf>,
    /// Show this metric and sort by it on the validation split, the smallest first, or with a minus before it the largest:
    /// loss, -accuracy, updates, seconds. Without, each run shows the metric by which its best update was chosen.
    #[arg(long, value_name = "METRIC", allow_hyphen_values = true)]
    pub sort: Option<String>,
    /// Show the settings in which two runs differ.
    #[arg(long, value_names = ["RUN_A", "RUN_B"], num_args = 2, conflicts_with_all = ["folders", "sort"])]
    pub diff: Vec<PathBuf>,
    /// Write one JSON object for each line.
    #[arg(long)]
    pub json: bool,
}

/// Which run.
#[derive(Args, Debug)]
pub struct RunArgument {
    /// A run folder, or the name of one under runs/.
    #[arg(value_name = "RUN")]
    pub run: PathBuf,
    /// Threads to compute with [default: all there are].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

/// `throughline eval`
#[derive(Args, Debug)]
pub struct EvalArguments {
    /// The model.
    #[command(flatten)]
    pub run: RunArgument,
    /// Files or folders to measure on, in the format of the run's data [default: the run's test split].
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// Write one JSON object, as --format json does.
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// Write for people, as one JSON object, or as a table with one row.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text, requires_if("parquet", "out"))]
    pub format: OutputFormat,
    /// Write to this file, which is whole or not there, in place of standard output.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// How much of a model's data is looked at where nothing is said.
const LOOK: Options = Options::DEFAULT;
const SEQUENCES: usize = match LOOK.sample.chosen {
    Chosen::Spread(sequences) => sequences,
    Chosen::These(indices) => indices.len(),
};

/// A model, and some data that it is shown.
#[derive(Args, Debug)]
pub struct ShownArguments {
    /// The model.
    #[command(flatten)]
    pub run: RunArgument,
    /// Files or folders to show it, in the format of the run's data [default: the run's test split].
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// Sequences that it is shown, spread evenly over the data.
    #[arg(long, value_name = "N", default_value_t = SEQUENCES, value_parser = at_least_one)]
    pub sequences: usize,
    /// Steps of each sequence, from its beginning.
    #[arg(long, value_name = "N", default_value_t = LOOK.sample.steps, value_parser = at_least_one)]
    pub steps: usize,
}

impl ShownArguments {
    /// How much of the data.
    pub fn sample(&self) -> Sample<'static> {
        Sample::spread(self.sequences, self.steps)
    }
}

/// `throughline inspect`
#[derive(Args, Debug)]
pub struct InspectArguments {
    /// The model, and what it is shown.
    #[command(flatten)]
    pub shown: ShownArguments,
    /// Steps of each sequence from whose loss gradients go back.
    #[arg(long, value_name = "N", default_value_t = LOOK.anchors, value_parser = at_least_one)]
    pub anchors: usize,
    /// Sequences that are shown in detail, half of them those of the highest loss and half those of the lowest: what the answer
    /// rests on, and what units do over them.
    #[arg(long, value_name = "N", default_value_t = LOOK.examples)]
    pub examples: usize,
    /// Write a page with figures to this file, too, and measure how good the model is on the data.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Write one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// `throughline trace`
#[derive(Args, Debug)]
pub struct TraceArguments {
    /// The model, and what it is shown.
    #[command(flatten)]
    pub shown: ShownArguments,
    /// Keep only the arrays of these names, in which * stands for any text, such as '*.forget' [default: all arrays].
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub select: Vec<String>,
    /// The file to write: .npz for NumPy, .safetensors, or .parquet for tables.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// `throughline lab`
#[derive(Args, Debug)]
pub struct LabArguments {
    /// What to run [default: all of them, or with --text those that learn from a text].
    #[arg(value_name = "EXPERIMENT", value_parser = PossibleValuesParser::new(EXPERIMENTS.iter().map(|of| of.name)))]
    pub experiments: Vec<String>,
    /// Learn from this text instead of a made one, where an experiment learns from a text.
    #[arg(long, value_name = "FILE")]
    pub text: Option<PathBuf>,
    /// Write tables as Markdown and figures as SVG to this folder, too.
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Take seconds instead of minutes: enough to see that everything runs, and for no conclusion.
    #[arg(long)]
    pub fast: bool,
    /// Networks that learn side by side, each on a thread of its own, and threads on which `transformer` times one network [default: as
    /// many as there are cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
}

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Text,
    /// JSON objects, a line each.
    Json,
    /// A table with a header (RFC 4180).
    Csv,
    /// A table of Apache Parquet, to a file (--out).
    #[cfg(feature = "parquet")]
    Parquet,
}

/// `throughline predict`
#[derive(Args, Debug)]
pub struct PredictArguments {
    /// The model.
    #[command(flatten)]
    pub run: RunArgument,
    /// Of a classifier, write so many of the most probable classes [default: 3].
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u16).range(1..))]
    pub top: Option<u16>,
    /// Write a JSON object for each line; a table, where what has parts is JSON in its cell; or for people: what was predicted
    /// and the line, or of a tagger a word and its tag on each line.
    #[arg(long, value_enum, default_value_t = OutputFormat::Json, requires_if("parquet", "out"))]
    pub format: OutputFormat,
    /// Write to this file, which is whole or not there, in place of standard output.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Of a tagger: read sentences from files in CoNLL-U or columns, in place of lines from standard input, and write a word and
    /// its tag on each line, a tab between, with a blank line after each sentence.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["top", "format"])]
    pub columns: Vec<PathBuf>,
    /// Of a classifier of series or a regression: answer the series of files (.ts or tables) or of folders, in place of lines
    /// from standard input.
    #[arg(long, value_name = "PATH", num_args = 1.., conflicts_with = "columns")]
    pub series: Vec<PathBuf>,
    /// The column that says which series a row belongs to, with --series [default: id].
    #[arg(long, value_name = "COLUMN", requires = "series")]
    pub id_column: Option<String>,
    /// The column of the times, with --series [default: time, where there is one].
    #[arg(long, value_name = "COLUMN", requires = "series")]
    pub time_column: Option<String>,
    /// The column of the words, with --columns: a number from 1, from -1 backwards, or a name [default: FORM, or the first].
    #[arg(long, value_name = "COLUMN", requires = "columns", allow_hyphen_values = true)]
    pub word_column: Option<String>,
}

/// `throughline generate`
#[derive(Args, Debug)]
#[command(allow_negative_numbers = true)]
pub struct GenerateArguments {
    /// The model.
    #[command(flatten)]
    pub run: RunArgument,
    /// What it continues: a text; or for music a file (.mid, .midi or .json) or a list of steps in JSON.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub prompt: String,
    /// Units (characters, bytes or words) or steps to write.
    #[arg(long, default_value_t = 500)]
    pub length: usize,
    /// Divides the logits: below 1 bolder, above 1 wilder, 0 always the most probable.
    #[arg(long, default_value_t = 0.8, value_parser = temperature)]
    pub temperature: f64,
    /// Choose among the K most probable units only; 0 for all.
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub top_k: usize,
    /// Choose among the fewest units that together reach this probability.
    #[arg(long, value_name = "P", default_value_t = 1.0, value_parser = probability)]
    pub top_p: f64,
    /// The same seed writes the same.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write to this file, with the prompt: music as MIDI (.mid, .midi) or JSON (.json) [default: standard output, music as JSON].
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

fn number<T: std::str::FromStr>(text: &str, valid: impl Fn(&T) -> bool, expected: &str) -> Result<T, String> {
    text.parse().ok().filter(|value| valid(value)).ok_or_else(|| format!("expected {expected}"))
}

fn at_least_one(text: &str) -> Result<usize, String> {
    number(text, |value| *value > 0, "a whole number above 0")
}

fn rate(text: &str) -> Result<f64, String> {
    number(text, |value| *value > 0.0 && *value <= 1000.0, "a number above 0, at most 1000")
}

fn minutes(text: &str) -> Result<f64, String> {
    number(text, |value| *value > 0.0 && *value <= 1e6, "a number above 0, at most 1000000")
}

fn temperature(text: &str) -> Result<f64, String> {
    number(text, |value| (0.0..=100.0).contains(value), "a number from 0 to 100")
}

fn probability(text: &str) -> Result<f64, String> {
    number(text, |value| *value > 0.0 && *value <= 1.0, "a number above 0, at most 1")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Arguments::command().debug_assert();
    }
}
