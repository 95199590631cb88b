//! `config.json`: everything needed to rebuild a model, except its weights.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use throughline_kernels::cells::{CellKind, ConfigName};

use crate::error::{Error, Result};
use crate::recurrent::{InitialState, RecurrentConfig};

/// The version of `config.json` and of the metadata in `model.safetensors` that this crate writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// The most any size may be: enough for every model, and small enough that no product of two sizes overflows.
const LARGEST_SIZE: usize = 1 << 24;
/// The most layers.
const MOST_LAYERS: usize = 1 << 10;
/// The most parameters: 16 GiB of f32.
const MOST_PARAMETERS: usize = 1 << 32;

/// What a model is for. Exhaustive on purpose: every place that tells tasks apart must see a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Language modelling: the next unit.
    Lm,
    /// Classification of a whole sequence.
    Classify,
}

impl Task {
    /// The name in recipes and files.
    pub fn name(self) -> &'static str {
        match self {
            Task::Lm => "lm",
            Task::Classify => "classify",
        }
    }
}

/// `config.json` as it stands in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format_version: u32,
    task: Task,
    cell: String,
    reset: Option<String>,
    activation: Option<String>,
    input: usize,
    hidden: usize,
    layers: usize,
    bidirectional: bool,
    bias: bool,
    initial_state: InitialState,
    vocabulary: usize,
    classes: Option<usize>,
    tied: bool,
}

/// The part of [`File`] that the metadata of the weights repeats.
#[derive(Serialize)]
struct Kind {
    format_version: u32,
    task: Task,
    cell: String,
    reset: Option<String>,
    activation: Option<String>,
}

/// What a message says of a cell.
fn describe(ConfigName { family, reset, activation }: ConfigName<'_>) -> String {
    let key = |key: &str, value: Option<&str>| value.map_or_else(String::new, |value| format!(" with {key} {value}"));
    format!("{family}{}{}", key("reset", reset), key("activation", activation))
}

/// The version alone, read first: a later version may have other keys.
#[derive(Deserialize)]
struct Version {
    format_version: u32,
}

/// A model without its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// What the model is for.
    pub task: Task,
    /// The recurrent stack; its input is the embedding size.
    pub recurrent: RecurrentConfig,
    /// V, rows of the embedding.
    pub vocabulary: usize,
    /// Classes of a classifier; `None` for a language model.
    pub classes: Option<usize>,
    /// Whether a language model's output weights are the embedding's.
    pub tied: bool,
}

impl ModelConfig {
    /// Checks what the fields cannot express alone.
    ///
    /// # Errors
    /// Names the key, what it must be and what it is.
    pub fn check(&self) -> Result<()> {
        let wrong = |place: &str, expected: String, found: &dyn core::fmt::Display| {
            Err(Error::Config { place: place.to_string(), expected, found: found.to_string() })
        };
        let RecurrentConfig { input, hidden, layers, bidirectional, .. } = self.recurrent;
        let sizes = [("input", input), ("hidden", hidden), ("vocabulary", self.vocabulary)];
        for (place, size) in sizes.into_iter().chain(self.classes.map(|classes| ("classes", classes))) {
            if size == 0 || size > LARGEST_SIZE {
                return wrong(place, format!("1 to {LARGEST_SIZE}"), &size);
            }
        }
        if layers == 0 || layers > MOST_LAYERS {
            return wrong("layers", format!("1 to {MOST_LAYERS}"), &layers);
        }
        match self.task {
            Task::Lm if bidirectional => {
                return wrong("bidirectional", "false: a language model must not see the future".into(), &true);
            }
            Task::Lm if self.classes.is_some() => {
                return wrong("classes", "null for a language model".into(), &"a number");
            }
            Task::Lm if self.tied && input != hidden => {
                return wrong("tied", format!("false unless input ({input}) equals hidden ({hidden})"), &true);
            }
            Task::Classify if self.classes.is_none() => {
                return wrong("classes", "the number of classes of a classifier".into(), &"null");
            }
            Task::Classify if self.tied => return wrong("tied", "false for a classifier".into(), &true),
            _ => {}
        }
        let parameters = self.parameter_bound();
        if parameters > MOST_PARAMETERS as f64 {
            return wrong("sizes", format!("at most {MOST_PARAMETERS} parameters"), &parameters);
        }
        Ok(())
    }

    /// About how many parameters, in floating point so that absurd sizes do not overflow.
    fn parameter_bound(&self) -> f64 {
        let RecurrentConfig { cell, input, hidden, layers, .. } = self.recurrent;
        let (input, hidden, output) = (input as f64, hidden as f64, self.recurrent.output() as f64);
        let direction = |input: f64| cell.gates() as f64 * hidden * (input + hidden + 2.0);
        let stack = direction(input) + (layers - 1) as f64 * direction(output);
        let outputs = self.classes.unwrap_or(self.vocabulary) as f64;
        self.recurrent.directions() as f64 * stack + self.vocabulary as f64 * input + outputs * (output + 1.0)
    }

    /// The text of `config.json`.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(&self.file()).expect("plain data has a JSON form") + "\n"
    }

    /// What tells this kind of model from others whose weights have the same shapes, as JSON on one line.
    pub(crate) fn kind_json(&self) -> String {
        let File { format_version, task, cell, reset, activation, .. } = self.file();
        let kind = Kind { format_version, task, cell, reset, activation };
        serde_json::to_string(&kind).expect("plain data has a JSON form")
    }

    fn file(&self) -> File {
        let ConfigName { family, reset, activation } = self.recurrent.cell.names().config;
        File {
            format_version: FORMAT_VERSION,
            task: self.task,
            cell: family.to_string(),
            reset: reset.map(str::to_string),
            activation: activation.map(str::to_string),
            input: self.recurrent.input,
            hidden: self.recurrent.hidden,
            layers: self.recurrent.layers,
            bidirectional: self.recurrent.bidirectional,
            bias: self.recurrent.bias,
            initial_state: self.recurrent.initial_state,
            vocabulary: self.vocabulary,
            classes: self.classes,
            tied: self.tied,
        }
    }

    /// Reads the text of a `config.json`. Dropout is a matter of training and not in it.
    ///
    /// # Errors
    /// If it is no JSON, has another version or unknown keys, or describes an impossible model.
    pub fn from_json(text: &str) -> Result<Self> {
        let syntax = |error: serde_json::Error| Error::Config {
            place: format!("line {}, column {}", error.line(), error.column()),
            expected: "a model description of format_version 1".to_string(),
            found: error.to_string(),
        };
        let Version { format_version } = serde_json::from_str(text).map_err(syntax)?;
        if format_version != FORMAT_VERSION {
            return Err(Error::Config {
                place: "format_version".to_string(),
                expected: FORMAT_VERSION.to_string(),
                found: format!("{format_version}, which this version of Throughline does not know"),
            });
        }
        let file: File = serde_json::from_str(text).map_err(syntax)?;
        let name =
            ConfigName { family: &file.cell, reset: file.reset.as_deref(), activation: file.activation.as_deref() };
        let cell = CellKind::from_config_name(name).ok_or_else(|| Error::Config {
            place: "cell, reset, activation".to_string(),
            expected: CellKind::ALL.iter().map(|cell| describe(cell.names().config)).collect::<Vec<_>>().join("; "),
            found: describe(name),
        })?;
        let config = ModelConfig {
            task: file.task,
            recurrent: RecurrentConfig {
                cell,
                input: file.input,
                hidden: file.hidden,
                layers: file.layers,
                bidirectional: file.bidirectional,
                bias: file.bias,
                dropout: 0.0,
                initial_state: file.initial_state,
            },
            vocabulary: file.vocabulary,
            classes: file.classes,
            tied: file.tied,
        };
        config.check()?;
        Ok(config)
    }
}
