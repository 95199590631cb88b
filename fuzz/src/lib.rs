//! What the fuzz targets do with an input. Whatever the bytes are, they are read or refused with an error that says
//! something; nothing panics. What was read keeps its invariants, and comes back the same after it has been written.
//!
//! Each function says whether it accepted the input. The test `hostile_input` of the crate `throughline` includes this
//! file and runs the same functions, briefly, on seeded mutations of the same seeds.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, fs, process};

use throughline_data::{Format, LabelledReader, Vocabulary};
use throughline_nn::config::ModelConfig;
use throughline_nn::network::{Dropouts, Network};
use throughline_nn::parameters::Layout;
use throughline_nn::weights;
use throughline_train::Recipe;

/// Reads an input; says whether it was accepted.
pub struct Target {
    /// The name of the function.
    pub name: &'static str,
    /// The function.
    pub run: fn(&[u8]) -> bool,
    /// Inputs that are accepted.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: [Target; 4] = [
    Target { name: "tables", run: tables, seeds: table_seeds },
    Target { name: "model_files", run: model_files, seeds: model_file_seeds },
    Target { name: "recipes", run: recipes, seeds: recipe_seeds },
    Target { name: "vocabulary", run: vocabulary, seeds: vocabulary_seeds },
];

/// Numbers of the largest model that is given memory. Larger ones are the business of whoever opens a file.
const MOST_PARAMETERS: usize = 1 << 16;

/// Reads a CSV, TSV or label-first file. The first byte chooses the format, and of a table whether it has a header.
pub fn tables(input: &[u8]) -> bool {
    let Some((&choice, content)) = input.split_first() else { return false };
    let (format, header) = match choice % 5 {
        0 => (Format::Csv, true),
        1 => (Format::Csv, false),
        2 => (Format::Tsv, true),
        3 => (Format::Tsv, false),
        _ => (Format::LabelFirst, true),
    };
    let column = |number: &str| (!header).then(|| number.to_owned());
    let (text_column, label_column) = (column("1"), column("2"));
    let reader = LabelledReader { format: Some(format), text_column, label_column, ..LabelledReader::default() };
    with_file(content, |path| {
        let Some(set) = accepted(reader.read(&[path])) else { return false };
        assert!(set.labels.is_sorted() && set.labels.len() >= 2, "{:?}", set.labels);
        assert!(set.examples.is_sorted_by_key(|example| example.line));
        let lines = content.iter().filter(|&&byte| byte == b'\n' || byte == b'\r').count() + 1;
        for example in &set.examples {
            assert!((example.label as usize) < set.labels.len() && example.file == 0, "{example:?}");
            assert!((1..=lines).contains(&example.line), "{example:?} of {lines} lines");
            assert!(!example.text.is_empty() && example.text == example.text.trim(), "{example:?}");
        }
        assert_eq!(accepted(reader.read(&[path])), Some(set), "read a second time");
        true
    })
}

fn table_seeds() -> Vec<Vec<u8>> {
    let seeds: [&[u8]; 6] = [
        b"\0text,label\na fine film,good\n\"dull, and\nlong\",bad\n\"he said \"\"no\"\"\",bad\n",
        b"\0\xEF\xBB\xBFid;x,label,text\r\n1,good,ja\r\n2,bad,nein\r\n",
        b"\x01a fine film,good\ndull,bad\n",
        b"\x02label\ttext\ngood\ta \"fine\" film\nbad\tdull\n",
        b"\x03ein Film\t1\nnoch einer\t2\n",
        b"\x041 a fine film\n0 dull\n\n1 bright\n",
    ];
    seeds.map(<[u8]>::to_vec).to_vec()
}

/// Reads a `config.json` and, after a zero byte, a `model.safetensors`.
pub fn model_files(input: &[u8]) -> bool {
    let Some(end) = input.iter().position(|&byte| byte == 0) else { return false };
    let (text, bytes) = (&input[..end], &input[end + 1..]);
    let Ok(text) = str::from_utf8(text) else { return false };
    let Some(config) = accepted(ModelConfig::from_json(text)) else { return false };
    assert_eq!(accepted(ModelConfig::from_json(&config.to_json())).as_ref(), Some(&config), "written and read again");
    let Some(network) = accepted(Network::new(config.clone(), Dropouts::default())) else { return false };
    let layout = network.layout();
    if layout.length() > MOST_PARAMETERS {
        return false;
    }
    let Some(parameters) = load(&config, layout, bytes) else { return false };
    let again = load(&config, layout, &weights::save(&config, layout, &parameters)).expect("it has just been written");
    let bits = |parameters: &[f32]| parameters.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&again), bits(&parameters));
    true
}

fn load(config: &ModelConfig, layout: &Layout, bytes: &[u8]) -> Option<Vec<f32>> {
    let mut parameters = vec![0.0; layout.length()];
    accepted(weights::load(config, layout, bytes, &mut parameters))?;
    assert!(parameters.iter().all(|x| x.is_finite()));
    Some(parameters)
}

fn model_file_seeds() -> Vec<Vec<u8>> {
    let config = |task: &str, cell: &str, bidirectional: bool, classes: &str| {
        format!(
            r#"{{"format_version": 1, "task": "{task}", {cell}, "input": 2, "hidden": 3, "layers": 1,
            "bidirectional": {bidirectional}, "bias": true, "initial_state": "zero", "vocabulary": 5,
            "classes": {classes}, "tied": false}}"#
        )
    };
    let lstm = r#""cell": "lstm", "reset": null, "activation": null"#;
    let gru = r#""cell": "gru", "reset": "after", "activation": null"#;
    let rnn = r#""cell": "rnn", "reset": null, "activation": "tanh""#;
    let configs =
        [config("lm", lstm, false, "null"), config("classify", gru, true, "2"), config("lm", rnn, false, "null")];
    let with_weights = |text: String| {
        let config = ModelConfig::from_json(&text).expect("a seed is right");
        let network = Network::new(config.clone(), Dropouts::default()).expect("a seed is right");
        let parameters: Vec<f32> = (0..network.layout().length()).map(|index| index as f32 / 8.0).collect();
        [text.as_bytes(), &[0], &weights::save(&config, network.layout(), &parameters)].concat()
    };
    configs.map(with_weights).to_vec()
}

/// Reads a recipe whose data are given beside it, as `train RECIPE --data PATH` does.
pub fn recipes(input: &[u8]) -> bool {
    let data = [PathBuf::from("data")];
    let resolve = |text: &[u8]| with_file(text, |path| accepted(Recipe::resolve(Some(path), &[], &data)));
    let Some(recipe) = resolve(input) else { return false };
    let written = recipe.to_toml().expect("a recipe that was resolved has passed its check");
    assert_eq!(resolve(written.as_bytes()), Some(recipe), "{written}");
    true
}

fn recipe_seeds() -> Vec<Vec<u8>> {
    let seeds = [
        include_str!("../../recipes/names.toml"),
        include_str!("../../recipes/shakespeare.toml"),
        "task = \"lm\"\n[data]\npaths = [\"a.txt\"]\nunit = \"byte\"\n[model]\ncell = \"gru\"\n[train]\nsteps = 10\n",
    ];
    seeds.map(|text| text.as_bytes().to_vec()).to_vec()
}

/// Reads a vocabulary.
pub fn vocabulary(input: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(input) else { return false };
    let read = |text: &str| accepted(Vocabulary::from_json(text, Path::new("vocabulary.json")));
    let Some(vocabulary) = read(text) else { return false };
    assert_eq!(read(&vocabulary.to_json()).as_ref(), Some(&vocabulary), "written and read again");
    let tokens = vocabulary.encode(text);
    assert!(tokens.iter().all(|&token| (token as usize) < vocabulary.len()), "{tokens:?}");
    assert_eq!(vocabulary.decode(&tokens).is_empty(), tokens.is_empty());
    true
}

fn vocabulary_seeds() -> Vec<Vec<u8>> {
    let seeds = [
        r#"{"format_version": 1, "unit": "char", "tokens": ["<unk>", " ", "a", "é", "\n", "😀"]}"#,
        r#"{"format_version": 1, "unit": "word", "tokens": ["<unk>", "a", "film", "fine"]}"#,
    ];
    seeds.map(|text| text.as_bytes().to_vec()).to_vec()
}

/// What was read; of an error makes sure that it says something.
fn accepted<T, E: Display>(result: Result<T, E>) -> Option<T> {
    result.map_err(|error| assert!(!error.to_string().trim().is_empty())).ok()
}

/// Gives `content` as a file to what reads only files.
fn with_file<T>(content: &[u8], read: impl FnOnce(&Path) -> T) -> T {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = env::temp_dir().join(format!("throughline-fuzz-{}-{number}", process::id()));
    fs::write(&path, content).expect("the folder for temporary files can be written to");
    let result = read(&path);
    fs::remove_file(&path).expect("a file that was just written can be removed");
    result
}
