//! Folders with a run that was trained once, for tests that use it or damage it.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use crate::folder::Folder;

/// Settings of a language model that is trained in an instant.
pub const TINY_LANGUAGE_MODEL: &[&str] = &[
    "--set",
    "threads=1",
    "model.embedding=8",
    "model.hidden=16",
    "train.batch=4",
    "train.stride=16",
    "train.steps=40",
    "train.patience=0",
    "schedule.warmup=0",
    "sample.length=20",
];

/// Settings of a classifier that is trained in a moment.
pub const TINY_CLASSIFIER: &[&str] = &[
    "--set",
    "task=classify",
    "threads=1",
    "model.embedding=8",
    "model.hidden=8",
    "model.layers=1",
    "train.batch=8",
    "train.epochs=8",
    "train.patience=0",
    "optimiser.learning_rate=0.02",
];

/// A text of so many lines, always the same.
pub fn text(lines: usize) -> String {
    (0..lines).map(|i| format!("line {i} of {} words\n", i * 7 % 13)).collect()
}

/// Labelled texts, (label, text), which a look at the words tells apart.
pub fn examples() -> Vec<(&'static str, String)> {
    let label = |i: usize| if i.is_multiple_of(2) { "good" } else { "bad" };
    let words = |i: usize| if i.is_multiple_of(2) { "a fine, bright film" } else { "dull and far too long" };
    (0..80).map(|i| (label(i), format!("{} number {i}", words(i)))).collect()
}

/// The examples as a table with a header.
pub fn tsv() -> String {
    examples().iter().fold("label\ttext\n".to_owned(), |table, (label, text)| table + &format!("{label}\t{text}\n"))
}

/// `first` and then `others`.
pub fn with<'a>(first: &[&'a str], others: &[&'a str]) -> Vec<&'a str> {
    [first, others].concat()
}

/// A folder with `text.txt` and the language model that was trained on it in `runs/lm-1`.
pub fn language_model() -> Folder {
    static FILES: OnceLock<Files> = OnceLock::new();
    let files = FILES.get_or_init(|| {
        let folder = Folder::with(&[("text.txt", &text(300))]);
        folder.run(&with(&["train", "--text", "text.txt"], TINY_LANGUAGE_MODEL)).succeeded();
        files_of(&folder)
    });
    folder_of(files)
}

/// A folder with `texts.tsv` and the classifier that was trained on it in `runs/classify-1`.
pub fn classifier() -> Folder {
    static FILES: OnceLock<Files> = OnceLock::new();
    let files = FILES.get_or_init(|| {
        let folder = Folder::with(&[("texts.tsv", &tsv())]);
        folder.run(&with(&["train", "--data", "texts.tsv"], TINY_CLASSIFIER)).succeeded();
        files_of(&folder)
    });
    folder_of(files)
}

/// Names and contents.
type Files = Vec<(String, Vec<u8>)>;

fn files_of(folder: &Folder) -> Files {
    let mut files = Files::new();
    collect(folder, folder, &mut files);
    files
}

fn collect(root: &Path, folder: &Path, files: &mut Files) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.push((name, fs::read(path).unwrap()));
        }
    }
}

fn folder_of(files: &Files) -> Folder {
    let folder = Folder::new();
    for (name, content) in files {
        folder.write(name, content);
    }
    folder
}

/// Sentences in columns, a word and its tag: numbers are entities, all other words are not.
pub fn columns() -> String {
    let sentence = |i: usize| format!("on O\nday O\n{i} B-NUM\n{} I-NUM\nit O\nwas O\n\n", i * 37 % 100);
    (0..60).map(sentence).collect()
}

/// Settings of a tagger that is trained in a moment.
pub const TINY_TAGGER: &[&str] = &[
    "--set",
    "task=tag",
    "threads=1",
    "model.embedding=8",
    "model.hidden=8",
    "model.layers=1",
    "model.character_embedding=4",
    "model.character_hidden=4",
    "model.crf=true",
    "train.batch=4",
    "train.epochs=4",
    "train.patience=0",
    "optimiser.learning_rate=0.02",
];

/// A folder with `sentences.txt` and the tagger that was trained on it in `runs/tag-1`.
pub fn tagger() -> Folder {
    static FILES: OnceLock<Files> = OnceLock::new();
    let files = FILES.get_or_init(|| {
        let folder = Folder::with(&[("sentences.txt", &columns())]);
        folder.run(&with(&["train", "--data", "sentences.txt"], TINY_TAGGER)).succeeded();
        files_of(&folder)
    });
    folder_of(files)
}

/// Pieces in JSON of three chords in turn, begun at any of them.
pub fn chords() -> String {
    let chord = |i: usize| ["[60,64,67]", "[65,69,72]", "[67,71,74]"][i % 3];
    let piece = |first: usize| format!("[{}]", (first..first + 16).map(chord).collect::<Vec<_>>().join(","));
    format!("[{}]", (0..40).map(piece).collect::<Vec<_>>().join(",\n"))
}

/// Settings of a model of piano rolls that is trained in a moment.
pub const TINY_ROLL: &[&str] = &[
    "--set",
    "task=roll",
    "threads=1",
    "data.lowest_pitch=60",
    "data.highest_pitch=79",
    "model.embedding=8",
    "model.hidden=16",
    "model.layers=1",
    "train.batch=4",
    "train.epochs=20",
    "optimiser.learning_rate=0.05",
];

/// A folder with `pieces.json` and the model of piano rolls that was trained on it in `runs/roll-1`.
pub fn piano_rolls() -> Folder {
    static FILES: OnceLock<Files> = OnceLock::new();
    let files = FILES.get_or_init(|| {
        let folder = Folder::with(&[("pieces.json", &chords())]);
        folder.run(&with(&["train", "--data", "pieces.json"], TINY_ROLL)).succeeded();
        files_of(&folder)
    });
    folder_of(files)
}
