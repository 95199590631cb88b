//! PyTorch loads the files of a model by name and computes the same logits, where PyTorch is installed: in
//! `reference/.venv`, or under the Python that `THROUGHLINE_TORCH_PYTHON` names. Elsewhere this test says so and passes;
//! the reference vectors cover the same arithmetic.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::{Model, Numbers, classifier, language_model};
use throughline_kernels::cells::CellKind;
use throughline_nn::classifier::Sequences;
use throughline_nn::config::{ModelConfig, Task};
use throughline_nn::network::Dropouts;
use throughline_nn::recurrent::{Pass, RecurrentConfig};
use throughline_nn::weights;
use throughline_testkit::assert_close;

const TOLERANCE: f64 = 1e-5;

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

/// Our logits, one after another: `[T][V]` of each sequence for a language model, `[classes]` for a classifier.
fn logits(model: &mut Model<f32>, sequences: &[Vec<u32>]) -> Vec<f32> {
    let (network, weights, workspace) = model.parts();
    if network.config().task == Task::Classify {
        let mut batch = Sequences::default();
        batch.set(sequences.iter().map(|sequence| &sequence[..]));
        return network.classify(weights, &batch, Pass::Inference, workspace).to_vec();
    }
    let mut logits = Vec::new();
    for sequence in sequences {
        let mut states = None;
        for &token in sequence {
            logits.extend_from_slice(network.step_language_model(weights, &[token], &mut states, workspace));
        }
    }
    logits
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
    fn start(python: &Path, name: &str, config: ModelConfig) -> Self {
        let sequences: Vec<Vec<u32>> = [5, 1, 9].map(|length| Numbers::new(length).tokens(length as usize, 11)).into();
        let mut model = Model::<f32>::new(config, Dropouts::default(), 1, 7, 0.6);
        let folder = Folder::new(name);
        let write = |file: &str, bytes: &[u8]| std::fs::write(folder.0.join(file), bytes).expect("a file");
        let (network, parameters) = (&model.network, &model.parameters);
        write("config.json", network.config().to_json().as_bytes());
        write("model.safetensors", &weights::save(network.config(), network.layout(), parameters));
        write("tokens.json", serde_json::json!({ "sequences": sequences }).to_string().as_bytes());
        let process = Command::new(python)
            .arg(reference().join("check_torch_loads.py"))
            .arg(&folder.0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("Python starts");
        Self { name: name.to_owned(), _folder: folder, process, want: logits(&mut model, &sequences) }
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
        ("lm-lstm-tied", language_model(stack(CellKind::Lstm, 2), 11, true)),
        ("lm-gru", language_model(stack(CellKind::GruAfter, 2), 11, false)),
        ("lm-rnn", language_model(unbiased(CellKind::RnnTanh, 1), 11, false)),
        ("classify-lstm", classifier(both(CellKind::Lstm, 2), 11, 4)),
        ("classify-rnn-relu", classifier(both(CellKind::RnnRelu, 1), 11, 2)),
        ("lm-gru-before", language_model(stack(CellKind::GruBefore, 1), 11, false)),
    ];
    // Importing torch takes far longer than the rest: all at once.
    let checks = checks.map(|(name, config)| Check::start(&python, name, config));
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
