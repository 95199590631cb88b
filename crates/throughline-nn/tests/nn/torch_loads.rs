//! PyTorch loads the files of a model by name and computes the same logits, where PyTorch is installed: in
//! `reference/.venv`, or under the Python that `THROUGHLINE_TORCH_PYTHON` names. Elsewhere this test says so and
//! passes; the reference vectors cover the same arithmetic.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::{Batch, Dropouts, Model, Numbers, StreamReader, TextReader, classifier, language_model};
use throughline_kernels::cells::CellKind;
use throughline_nn::heads::Softmax;
use throughline_nn::layers::{Pooling, RecurrentConfig};
use throughline_nn::{Network, weights};
use throughline_testkit::assert_close;

const TOLERANCE: f64 = 1e-5;
const VOCABULARY: usize = 11;

fn reference() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../reference")
}

/// A Python that can import torch.
fn python() -> Option<PathBuf> {
    let python = std::env::var_os("THROUGHLINE_TORCH_PYTHON")
        .map_or_else(|| reference().join(".venv/bin/python"), PathBuf::from);
    let found = "import importlib.util, sys; sys.exit(importlib.util.find_spec('torch') is None)";
    let status = Command::new(&python).args(["-c", found]).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success()).then_some(python)
}

/// A folder that is removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("throughline-nn-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).expect("a fresh folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// A model that PyTorch is to load.
enum Loaded {
    LanguageModel(Network<StreamReader, Softmax>),
    Classifier(Network<TextReader, Softmax>),
}

impl Loaded {
    fn language_model(stack: RecurrentConfig, tied: bool) -> (Self, serde_json::Value) {
        let network = language_model(stack, VOCABULARY, tied, Dropouts::default());
        (Self::LanguageModel(network), description("lm", stack, serde_json::json!({ "tied": tied })))
    }

    fn classifier(stack: RecurrentConfig, classes: usize) -> (Self, serde_json::Value) {
        let network = classifier(stack, VOCABULARY, classes, Pooling::LastStates, Dropouts::default());
        let more = serde_json::json!({ "classes": classes, "pooling": Pooling::LastStates });
        (Self::Classifier(network), description("classify", stack, more))
    }

    /// The weights' file, and our logits, one after another: `[T][V]` of each sequence for a language model,
    /// `[classes]` for a classifier.
    fn run(self, sequences: &[Vec<u32>]) -> (Vec<u8>, Vec<f32>) {
        match self {
            Self::Classifier(network) => {
                let mut model = Model::<f32, _>::new(network, 1, 7, 0.6);
                let logits = Batch::of_texts(sequences, &[]).logits(&mut model);
                (weights::save("{}", model.network.layout(), &model.parameters), logits)
            }
            Self::LanguageModel(network) => {
                let mut model = Model::<f32, _>::new(network, 1, 7, 0.6);
                let mut logits = Vec::new();
                for sequence in sequences {
                    let mut state = model.state(1);
                    let (network, weights, workspace) = model.borrowed();
                    for token in sequence.chunks(1) {
                        logits.extend_from_slice(network.step(weights, token, &mut state, workspace).expect("steps"));
                    }
                }
                (weights::save("{}", model.network.layout(), &model.parameters), logits)
            }
        }
    }
}

/// What PyTorch's side reads of `config.json`; `model` is what the task adds to the sizes.
fn description(task: &str, stack: RecurrentConfig, mut model: serde_json::Value) -> serde_json::Value {
    let RecurrentConfig { cell, input, hidden, layers, bidirectional, bias, initial_state, .. } = stack;
    model["vocabulary"] = VOCABULARY.into();
    model["recurrent"] = serde_json::json!({
        "cell": cell.name(), "input": input, "hidden": hidden, "layers": layers, "bidirectional": bidirectional,
        "bias": bias, "initial_state": initial_state,
    });
    serde_json::json!({ "format_version": 2, "task": task, "model": model })
}

/// All numbers in nested lists.
fn flatten(value: &serde_json::Value) -> Vec<f64> {
    match value {
        serde_json::Value::Array(values) => values.iter().flat_map(flatten).collect(),
        number => vec![number.as_f64().expect("a number")],
    }
}

/// A model in files, PyTorch at work on them, and what it must find.
struct Check {
    name: String,
    _folder: Folder,
    process: Child,
    want: Vec<f32>,
}

impl Check {
    fn start(python: &Path, name: &str, (model, config): (Loaded, serde_json::Value)) -> Self {
        let tokens = |length: u64| Numbers::new(length).tokens(length as usize, VOCABULARY);
        let sequences: Vec<Vec<u32>> = [5, 1, 9].map(tokens).into();
        let (weights, want) = model.run(&sequences);
        let folder = Folder::new(name);
        let write = |file: &str, bytes: &[u8]| std::fs::write(folder.0.join(file), bytes).expect("a file");
        write("config.json", config.to_string().as_bytes());
        write("model.safetensors", &weights);
        write("tokens.json", serde_json::json!({ "sequences": sequences }).to_string().as_bytes());
        let process = Command::new(python)
            .arg(reference().join("check_torch_loads.py"))
            .arg(&folder.0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("Python starts");
        Self { name: name.to_owned(), _folder: folder, process, want }
    }

    /// What PyTorch prints, or why it refuses.
    fn end(self) -> (String, Vec<f32>, Result<String, String>) {
        let output = self.process.wait_with_output().expect("Python ends");
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let printed = if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) };
        (self.name, self.want, printed)
    }
}

#[test]
fn logits_are_the_same() {
    let Some(python) = python() else {
        println!("skipped: no Python with torch (reference/.venv, or THROUGHLINE_TORCH_PYTHON)");
        return;
    };
    let stack = |cell, layers| RecurrentConfig { layers, ..RecurrentConfig::new(cell, 6, 6) };
    let both = |cell, layers| RecurrentConfig { bidirectional: true, ..stack(cell, layers) };
    let unbiased = |cell, layers| RecurrentConfig { bias: false, ..stack(cell, layers) };
    let checks = [
        ("lm-lstm-tied", Loaded::language_model(stack(CellKind::Lstm, 2), true)),
        ("lm-gru", Loaded::language_model(stack(CellKind::GruAfter, 2), false)),
        ("lm-rnn", Loaded::language_model(unbiased(CellKind::RnnTanh, 1), false)),
        ("classify-lstm", Loaded::classifier(both(CellKind::Lstm, 2), 4)),
        ("classify-rnn-relu", Loaded::classifier(both(CellKind::RnnRelu, 1), 2)),
        ("lm-gru-before", Loaded::language_model(stack(CellKind::GruBefore, 1), false)),
    ];
    // Importing torch takes far longer than the rest: all at once.
    let checks = checks.map(|(name, model)| Check::start(&python, name, model));
    for (name, want, printed) in checks.map(Check::end) {
        match printed {
            Err(reason) => {
                assert_eq!(name, "lm-gru-before", "{reason}");
                assert!(reason.contains("resets before"), "{reason}");
            }
            Ok(printed) => {
                assert_ne!(name, "lm-gru-before", "PyTorch has no such cell");
                let printed: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
                assert_close(&name, &want, &flatten(&printed["logits"]), TOLERANCE);
            }
        }
    }
}
