//! Trained models: opening and calling them.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::num::NonZero;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use throughline_kernels::buffer::Buffer;
use throughline_kernels::threads::Threads;
use throughline_nn::module::{Cpu, Layer};
use throughline_nn::network::{Network, PackedNetwork, Weights, Workspace};
use throughline_nn::weights;

use crate::config::Regularisation;
use crate::error::{Error, Result};
use crate::files::Files;
use crate::serve::{Evaluation, Generation, Info, Runner, RunnerWorkspace, Serve};
use crate::tasks;

/// The version of `config.json` and of the metadata in `model.safetensors` that this crate writes and reads.
pub const FORMAT_VERSION: u32 = 2;
/// The most bytes a `config.json` may have.
const LARGEST_CONFIG: u64 = 1 << 20;

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";

/// What every version of `config.json` has.
#[derive(Deserialize)]
struct Version {
    format_version: u32,
}

/// What the `config.json` of every task has.
#[derive(Deserialize)]
struct Task {
    task: String,
}

/// `config.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile<C> {
    format_version: u32,
    task: String,
    model: C,
}

/// The text of `config.json` for a model of task `T`.
pub fn config_json<T: Serve>(config: &T::Config) -> String {
    let file = ConfigFile { format_version: FORMAT_VERSION, task: T::INFO.name.to_owned(), model: config };
    serde_json::to_string_pretty(&file).expect("plain data has a JSON form") + "\n"
}

/// What tells a network of task `T` from others whose parameters have the same names and shapes: version, task and
/// cells, as JSON on one line.
pub fn kind_json<T: Serve>(network: &Network<T::Body, T::Head>) -> String {
    #[derive(Serialize)]
    struct Kind<'a> {
        format_version: u32,
        task: &'a str,
        cells: Vec<&'a str>,
    }
    let cells = network.body().cells().into_iter().map(|(_, cell)| cell.name()).collect();
    let kind = Kind { format_version: FORMAT_VERSION, task: T::INFO.name, cells };
    serde_json::to_string(&kind).expect("plain data has a JSON form")
}

/// Reads the text of a `config.json` of task `T`; `place` is the file's name in errors.
pub(crate) fn read_config<T: Serve>(text: &str, place: &str) -> Result<T::Config> {
    let file: ConfigFile<T::Config> = serde_json::from_str(text).map_err(|error| not_a_config(text, place, &error))?;
    T::check(&file.model).map_err(|wrong| Error::model(place, wrong.key, wrong.expected, wrong.found))?;
    Ok(file.model)
}

fn not_a_config(text: &str, place: &str, error: &serde_json::Error) -> Error {
    let near = key_before(text, error).map_or_else(String::new, |key| format!(", near \"{key}\""));
    let what = format!("line {}{near}", error.line());
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(&message[..], |(message, _)| message);
    Error::model(place, &what, format_args!("a model description of format_version {FORMAT_VERSION}"), message)
}

/// The last key before an error. Serde names the key only if the key itself is wrong.
fn key_before<'a>(text: &'a str, error: &serde_json::Error) -> Option<&'a str> {
    let lines = text.split_inclusive('\n').take(error.line().saturating_sub(1));
    let before = text.get(..lines.map(str::len).sum::<usize>() + error.column())?;
    let (key, _) = before.rsplit_once("\":")?;
    Some(key.rsplit_once('"')?.1)
}

/// The name of the task in the text of a `config.json`.
fn read_task(text: &str, place: &str) -> Result<String> {
    let wrong = |error: serde_json::Error| not_a_config(text, place, &error);
    let Version { format_version } = serde_json::from_str(text).map_err(wrong)?;
    if format_version != FORMAT_VERSION {
        let found = format_args!("{format_version}, which this version of Throughline does not read");
        return Err(Error::model(place, "format_version", FORMAT_VERSION, found));
    }
    let Task { task } = serde_json::from_str(text).map_err(wrong)?;
    Ok(task)
}

/// What a model of task `T` is made of.
pub struct Parts<T: Serve> {
    /// The configuration.
    pub config: T::Config,
    /// The encoder of inputs.
    pub encoder: T::Encoder,
    /// The network.
    pub network: Network<T::Body, T::Head>,
    /// All of its parameters, in its layout.
    pub parameters: Buffer<f32>,
}

impl<T: Serve> Parts<T> {
    /// Reads a model from its files.
    ///
    /// # Errors
    /// If a file is missing or damaged, has another version or task, or does not match the others.
    pub fn open(files: &Files) -> Result<Self> {
        let place = files.place(CONFIG);
        let text = files.read_text(CONFIG, LARGEST_CONFIG)?;
        let task = read_task(&text, &place)?;
        if task != T::INFO.name {
            return Err(Error::model(&place, "task", format_args!("\"{}\"", T::INFO.name), format_args!("{task:?}")));
        }
        let config = read_config::<T>(&text, &place)?;
        let encoder = T::open_encoder(&config, files)?;
        let network = T::network(&config, Regularisation::default());
        let layout = network.layout();
        let bytes = files.read(WEIGHTS, weights::size_limit(layout))?;
        let place = files.place(WEIGHTS);
        // Before memory for the parameters is allocated.
        let needed = 4 * layout.parameter_count() as u64;
        if (bytes.len() as u64) < needed {
            let expected = format_args!("at least {needed} bytes for the model that config.json describes");
            return Err(Error::model(&place, "weights", expected, format_args!("{} bytes", bytes.len())));
        }
        let mut parameters = layout.zeros();
        weights::load(&kind_json::<T>(&network), layout, &bytes, &mut parameters).map_err(|error| match error {
            throughline_nn::Error::Weights { place: tensor, expected, found } => {
                Error::model(&place, &tensor, expected, found)
            }
            other => Error::model(&place, "weights", "those of this model", other),
        })?;
        Ok(Self { config, encoder, network, parameters })
    }
}

/// The CPU with `threads` threads, or with as many as it has.
///
/// # Errors
/// [`Error::Threads`] if the system cannot start the threads.
pub fn cpu(threads: Option<usize>) -> Result<Cpu> {
    let count = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, NonZero::get));
    let threads = Threads::try_new(count).map_err(|refused| Error::Threads { count, why: refused.to_string() })?;
    Ok(Cpu::of(threads))
}

/// A model of task `T`. It is immutable, and any number of threads can share it.
pub struct Served<T: Serve> {
    config: T::Config,
    encoder: T::Encoder,
    network: Network<T::Body, T::Head>,
    /// The parameters that are read unpacked, such as embeddings. Of the others there is only `packed`.
    parameters: Buffer<f32>,
    packed: PackedNetwork<f32, T::Body, T::Head>,
    parameter_count: usize,
    cpu: Cpu,
    /// Working memory that no call is using.
    workspaces: Mutex<Vec<RunnerWorkspace<T>>>,
}

impl<T: Serve> Served<T> {
    /// Opens a model from its files, to run on `threads` threads, or on as many as the CPU has.
    ///
    /// # Errors
    /// As [`Parts::open`], or if the system cannot start the threads.
    pub fn open(files: &Files, threads: Option<usize>) -> Result<Self> {
        let Parts { config, encoder, network, parameters } = Parts::<T>::open(files)?;
        Self::new(config, encoder, network, &parameters, threads)
    }

    /// A model of `network` with `parameters` in its layout, to run on `threads` threads, or on as many as the CPU has.
    ///
    /// # Errors
    /// [`Error::Threads`] if the system cannot start the threads.
    ///
    /// # Panics
    /// If `parameters` does not have the length of the layout.
    pub fn new(
        config: T::Config,
        encoder: T::Encoder,
        mut network: Network<T::Body, T::Head>,
        parameters: &[f32],
        threads: Option<usize>,
    ) -> Result<Self> {
        let cpu = cpu(threads)?;
        let packed = network.packed(&cpu, parameters, false);
        let parameter_count = network.layout().parameter_count();
        let parameters = network.keep_what_is_read(parameters);
        Ok(Self { config, encoder, network, parameters, packed, parameter_count, cpu, workspaces: Mutex::default() })
    }

    /// The configuration.
    pub fn config(&self) -> &T::Config {
        &self.config
    }

    /// The encoder of inputs.
    pub fn encoder(&self) -> &T::Encoder {
        &self.encoder
    }

    /// The number of parameters.
    pub fn parameter_count(&self) -> usize {
        self.parameter_count
    }

    /// Calls `work` with a [`Runner`] whose working memory no other call uses.
    pub fn run<R>(&self, work: impl FnOnce(&mut Runner<'_, T>) -> R) -> R {
        let free = || self.workspaces.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = free().pop();
        let mut workspace = taken.unwrap_or_else(Workspace::default);
        let weights = Weights { cpu: &self.cpu, parameters: &self.parameters, packed: &self.packed };
        let result = work(&mut Runner { network: &self.network, weights, workspace: &mut workspace });
        free().push(workspace);
        result
    }

    /// The predictions for `inputs`, in their order. Inputs of similar length run in one batch; a prediction is the
    /// same bits whatever the other inputs are.
    pub fn predict(&self, inputs: &[&str]) -> Vec<Result<T::Prediction>> {
        self.run(|runner| T::predict(runner, &self.config, &self.encoder, inputs))
    }

    /// Evaluates the model; `None` if `data` has nothing to predict.
    pub fn evaluate(&self, data: &T::Data) -> Option<Evaluation> {
        self.run(|runner| T::evaluate(runner, &self.config, &self.encoder, data))
    }
}

/// [`Served`] without its task type.
trait AnyModel: Any + Send + Sync {
    fn info(&self) -> &'static Info;
    fn parameter_count(&self) -> usize;
    fn predict_lines(&self, lines: &[&str]) -> Vec<Result<Value>>;
    fn write(&self, generation: &Generation<'_>, write: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<()>;
}

impl<T: Serve> AnyModel for Served<T> {
    fn info(&self) -> &'static Info {
        &T::INFO
    }

    fn parameter_count(&self) -> usize {
        self.parameter_count
    }

    fn predict_lines(&self, lines: &[&str]) -> Vec<Result<Value>> {
        let json = |prediction| serde_json::to_value(prediction).expect("predictions have a JSON form");
        self.predict(lines).into_iter().map(|answer| answer.map(json)).collect()
    }

    fn write(&self, generation: &Generation<'_>, write: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<()> {
        self.run(|runner| T::generate(runner, &self.config, &self.encoder, generation, write))
    }
}

/// A trained model of any task.
pub struct Model(Box<dyn AnyModel>);

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Model").field(&self.info().name).finish()
    }
}

impl Model {
    /// Opens the model in a folder, to run on `threads` threads, or on as many as the CPU has.
    ///
    /// # Errors
    /// If a file is missing or damaged, has another version or an unknown task, or does not match the others; or if the
    /// system cannot start the threads.
    pub fn open(folder: impl AsRef<Path>, threads: Option<usize>) -> Result<Self> {
        Self::from_files(&Files::Folder(folder.as_ref().to_path_buf()), threads)
    }

    /// Opens a model from files in memory, given by name: `config.json`, `model.safetensors`, `vocabulary.json`, and
    /// for a classifier `labels.json`, for a tagger `tags.json` and `characters.json`. Other files are ignored.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes<N: Into<String>, B: Into<Vec<u8>>>(
        files: impl IntoIterator<Item = (N, B)>,
        threads: Option<usize>,
    ) -> Result<Self> {
        let files: BTreeMap<String, Vec<u8>> =
            files.into_iter().map(|(name, bytes)| (name.into(), bytes.into())).collect();
        Self::from_files(&Files::Memory(files), threads)
    }

    fn from_files(files: &Files, threads: Option<usize>) -> Result<Self> {
        let place = files.place(CONFIG);
        let task = read_task(&files.read_text(CONFIG, LARGEST_CONFIG)?, &place)?;
        let entry = tasks::ALL.iter().find(|entry| entry.info.name == task).ok_or_else(|| {
            let names: Vec<&str> = tasks::ALL.iter().map(|entry| entry.info.name).collect();
            Error::model(&place, "task", format_args!("one of {}", names.join(", ")), format_args!("{task:?}"))
        })?;
        (entry.open)(files, threads)
    }

    /// A model of task `T`.
    pub fn of<T: Serve>(served: Served<T>) -> Self {
        Self(Box::new(served))
    }

    /// The name and description of its task.
    pub fn info(&self) -> &'static Info {
        self.0.info()
    }

    /// The number of parameters.
    pub fn parameter_count(&self) -> usize {
        self.0.parameter_count()
    }

    /// The model with the types of task `T`; `None` if it is of another task.
    pub fn get<T: Serve>(&self) -> Option<&Served<T>> {
        let any: &dyn Any = &*self.0;
        any.downcast_ref()
    }

    /// The model with the types of task `T`.
    ///
    /// # Errors
    /// [`Error::Task`], which names both tasks, if it is of another task.
    pub fn expect<T: Serve>(&self) -> Result<&Served<T>> {
        self.get().ok_or(Error::Task { expected: T::INFO.name, found: self.info().name })
    }

    /// The predictions for lines of text, in their order, each as a JSON object.
    pub fn predict_lines(&self, lines: &[&str]) -> Vec<Result<Value>> {
        self.0.predict_lines(lines)
    }

    /// Writes the prompt of `generation` and what the model puts after it; see [`Serve::generate`].
    ///
    /// # Errors
    /// If the model does not write, cannot take the prompt or the ending, or `write` fails.
    pub fn write(&self, generation: &Generation<'_>, write: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<()> {
        self.0.write(generation, write)
    }
}
