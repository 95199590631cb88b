//! What the tests share: a folder of their own, texts, recipes, and what a run leaves behind.
#![allow(dead_code, reason = "no test file uses all of it")]

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use safetensors::SafeTensors;
use throughline_data::MissingNumbers;
use throughline_infer::Model;
use throughline_kernels::random::{Philox, Purpose, Stream};
use throughline_train::tasks::{classify, classify_series, lm, regress, roll, tag};
use throughline_train::{Event, Outcome, Recipe, Report, Result, RunFolder, evaluate, resume, train};

/// An empty folder, removed when dropped.
pub struct TestFolder(PathBuf);

impl TestFolder {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("throughline-train-tests-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).expect("a fresh folder for the test");
        Self(path)
    }

    /// A file in the folder.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.join(name);
        std::fs::write(&path, content).expect("a file of the test");
        path
    }

    /// The run called `name` in the folder, whether it has begun or not.
    pub fn run(&self, name: &str) -> Run<'_> {
        Run { folder: self, name: name.to_owned() }
    }

    /// Names of the entries, sorted.
    pub fn entries(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).expect("the test's folder");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Deref for TestFolder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

pub fn random(seed: u64) -> Stream {
    Philox::new(seed, Purpose::Benchmark, 0).stream()
}

/// `length` characters out of five, the likelihood of each depending on the one before.
pub fn text(seed: u64, length: usize) -> String {
    let (mut random, mut last) = (random(seed), 0);
    (0..length)
        .map(|_| {
            last = if random.below(4) == 0 { random.below(5) } else { (last + 1) % 5 };
            char::from(b"abcd "[last])
        })
        .collect()
}

/// A table of short texts that say their class, more or less.
pub fn table(seed: u64, examples: usize) -> String {
    let mut random = random(seed);
    let mut table = String::from("text,label\n");
    for example in 0..examples {
        let (letter, label) = [("a", "first"), ("b", "second"), ("c", "third")][random.below(3)];
        let length = 1 + random.below(9);
        let word: String = (0..length).map(|_| if random.below(3) == 0 { "x" } else { letter }).collect();
        table.push_str(&format!("{word}{example},{label}\n"));
    }
    table
}

/// Sentences in columns: a word and its tag, which is O, or B-NUM and then I-NUM where words are numbers.
pub fn columns(seed: u64, sentences: usize) -> String {
    let (mut random, mut columns) = (random(seed), String::new());
    for _ in 0..sentences {
        let mut inside = false;
        for _ in 0..1 + random.below(9) {
            let number = random.below(3) == 0;
            let word =
                if number { random.below(1000).to_string() } else { ["a", "bc", "cab"][random.below(3)].to_owned() };
            let tag = if !number {
                "O"
            } else if inside {
                "I-NUM"
            } else {
                "B-NUM"
            };
            columns.push_str(&format!("{word}\t{tag}\n"));
            inside = number;
        }
        columns.push('\n');
    }
    columns
}

/// A small recipe for a language model that trains on `path`; the rest is for the test to set.
pub fn language_model(path: &Path) -> Recipe {
    let mut recipe = small("lm");
    let options = lm(&mut recipe);
    options.windows.stride = 6;
    options.files.paths = vec![path.to_path_buf()];
    (options.embedded.embedding, options.model.hidden) = (8, 12);
    options.sample.every_evaluation = false;
    recipe
}

/// A small recipe for a classifier that trains on `path`; the rest is for the test to set.
pub fn classifier(path: &Path) -> Recipe {
    let mut recipe = small("classify");
    let options = classify(&mut recipe);
    options.files.paths = vec![path.to_path_buf()];
    (options.embedded.embedding, options.model.hidden) = (8, 12);
    recipe
}

/// A small recipe for a tagger that trains on `path`; the rest is for the test to set.
pub fn tagger(path: &Path) -> Recipe {
    let mut recipe = small("tag");
    let options = tag(&mut recipe);
    options.files.paths = vec![path.to_path_buf()];
    (options.embedded.embedding, options.model.hidden, options.model.layers) = (6, 8, 1);
    (options.tagger.character_embedding, options.tagger.character_hidden) = (4, 5);
    recipe
}

/// Pieces in JSON whose melody goes up and down over one of three chords, which change every four steps.
pub fn pieces(seed: u64, count: usize) -> String {
    let mut random = random(seed);
    let mut piece = || {
        let (length, mut chord, mut pitch) = (8 + random.below(30), random.below(3), 60 + random.below(6));
        let steps: Vec<String> = (0..length)
            .map(|t| {
                chord = (chord + usize::from(t % 4 == 0)) % 3;
                pitch = if pitch >= 70 { 60 } else { pitch + 2 };
                let [low, high] = [[40, 47], [45, 52], [43, 50]][chord];
                format!("[{low},{high},{pitch}]")
            })
            .collect();
        format!("[{}]", steps.join(","))
    };
    let pieces: Vec<String> = (0..count).map(|_| piece()).collect();
    format!("[{}]", pieces.join(",\n"))
}

/// A small recipe for a model of piano rolls that trains on `path`; the rest is for the test to set.
pub fn piano_roll(path: &Path) -> Recipe {
    let mut recipe = small("roll");
    let options = roll(&mut recipe);
    options.files.paths = vec![path.to_path_buf()];
    options.map.embedding = 8;
    (options.model.hidden, options.model.layers) = (16, 1);
    recipe
}

/// A table in long form of so many series of two channels, of 5 to 12 steps: the first rises where the class is `up` and falls
/// where it is `down`; `sum` is the sum of the second. One number in eight is missing.
pub fn series(seed: u64, count: usize) -> String {
    let mut random = Philox::new(seed, Purpose::Benchmark, 3).stream();
    let mut table = "id,time,level,weight,label,sum\n".to_owned();
    for id in 0..count {
        let (steps, up) = (5 + random.below(8), random.below(2) == 0);
        let slope = if up { 1.0 } else { -1.0 };
        let weights: Vec<f64> = (0..steps).map(|_| random.uniform().round_ties_even() + 1.0).collect();
        let sum: f64 = weights.iter().sum();
        for (time, weight) in weights.iter().enumerate() {
            let level = slope * time as f64 + random.uniform();
            let level = if random.below(8) == 0 { String::new() } else { level.to_string() };
            let label = if up { "up" } else { "down" };
            table += &format!("{id},{time},{level},{weight},{label},{sum}\n");
        }
    }
    table
}

/// A small recipe for a classifier of series that trains on `path`, a table of [`series`].
pub fn series_classifier(path: &Path) -> Recipe {
    let mut recipe = small("classify-series");
    let options = recipe.options_mut::<classify_series::Options>();
    options.files.paths = vec![path.to_path_buf()];
    options.tables.channels = vec!["level".to_owned()];
    options.tables.missing = MissingNumbers::Mask;
    (options.model.hidden, options.model.layers) = (8, 1);
    recipe
}

/// A small recipe for a regression that trains on `path`, a table of [`series`].
pub fn regression(path: &Path) -> Recipe {
    let mut recipe = small("regress");
    let options = recipe.options_mut::<regress::Options>();
    options.files.paths = vec![path.to_path_buf()];
    options.tables.channels = vec!["weight".to_owned()];
    options.targets.target_columns = vec!["sum".to_owned()];
    (options.model.hidden, options.model.layers) = (8, 1);
    recipe
}

/// What a recipe for a classifier of series has of its own.
pub fn of_classes(recipe: &mut Recipe) -> &mut classify_series::Options {
    recipe.options_mut()
}

/// What a recipe for a regression has of its own.
pub fn of_numbers(recipe: &mut Recipe) -> &mut regress::Options {
    recipe.options_mut()
}

fn small(task: &str) -> Recipe {
    let mut recipe = Recipe::default_for(task).expect("a task");
    recipe.threads = 1;
    recipe.train.batch = 4;
    recipe.train.evaluations = 5;
    // Tests count on all updates.
    recipe.train.patience = 0;
    recipe
}

/// What a recipe for a language model has of its own.
pub fn lm(recipe: &mut Recipe) -> &mut lm::Options {
    recipe.options_mut()
}

/// What a recipe for a classifier has of its own.
pub fn classify(recipe: &mut Recipe) -> &mut classify::Options {
    recipe.options_mut()
}

/// What a recipe for a tagger has of its own.
pub fn tag(recipe: &mut Recipe) -> &mut tag::Options {
    recipe.options_mut()
}

/// What a recipe for a model of piano rolls has of its own.
pub fn roll(recipe: &mut Recipe) -> &mut roll::Options {
    recipe.options_mut()
}

/// A run that a test trains.
pub struct Run<'a> {
    folder: &'a TestFolder,
    name: String,
}

impl Run<'_> {
    /// The recipe for this run.
    fn named(&self, recipe: &Recipe) -> Recipe {
        let mut recipe = recipe.clone();
        (recipe.name, recipe.runs_dir) = (self.name.clone(), self.folder.to_path_buf());
        recipe
    }

    /// Trains to the end.
    pub fn train(&self, recipe: &Recipe) -> Result<Outcome> {
        self.train_until(u64::MAX, recipe)
    }

    /// Goes on to the end.
    pub fn resume(&self, recipe: &Recipe) -> Result<Outcome> {
        self.resume_until(u64::MAX, recipe)
    }

    /// Trains until `step` updates are done.
    pub fn train_until(&self, step: u64, recipe: &Recipe) -> Result<Outcome> {
        let stop = AtomicBool::new(step == 0);
        train(self.named(recipe), &stop, &mut stop_at(step, &stop))
    }

    /// Goes on until `step` updates are done.
    pub fn resume_until(&self, step: u64, recipe: &Recipe) -> Result<Outcome> {
        let stop = AtomicBool::new(false);
        resume(self.named(recipe), &self.opened(), &stop, &mut stop_at(step, &stop))
    }

    /// Trains to the end and tells `watch` what happens.
    pub fn train_watched(&self, recipe: &Recipe, watch: &mut dyn FnMut(Event<'_>)) -> Result<Outcome> {
        train(self.named(recipe), &AtomicBool::new(false), watch)
    }

    /// Goes on to the end and tells `watch` what happens.
    pub fn resume_watched(&self, recipe: &Recipe, watch: &mut dyn FnMut(Event<'_>)) -> Result<Outcome> {
        resume(self.named(recipe), &self.opened(), &AtomicBool::new(false), watch)
    }

    /// The folder of a run that has begun.
    pub fn opened(&self) -> RunFolder {
        RunFolder::open(self.folder, Path::new(&self.name)).expect("a run that has begun")
    }

    /// The model that was kept.
    pub fn model(&self) -> Model {
        Model::open(self.opened().path(), Some(1)).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Measures the model on `paths`, or on its own data if there are none.
    pub fn evaluate(&self, paths: &[PathBuf]) -> Result<Report> {
        evaluate(&self.opened(), &self.model(), paths)
    }

    /// The model card.
    pub fn card(&self) -> String {
        std::fs::read_to_string(self.opened().card()).expect("a card")
    }

    /// The tensors of the checkpoint by name, as their bits.
    pub fn checkpoint(&self) -> BTreeMap<String, Vec<u32>> {
        let bytes = std::fs::read(self.opened().checkpoint()).expect("a checkpoint");
        let file = SafeTensors::deserialize(&bytes).expect("a whole checkpoint");
        let bits = |data: &[u8]| data.as_chunks::<4>().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect();
        file.tensors().into_iter().map(|(name, view)| (name, bits(view.data()))).collect()
    }

    /// The parameters of the checkpoint.
    pub fn parameters(&self) -> Vec<f32> {
        self.checkpoint()["parameters"].iter().map(|&bits| f32::from_bits(bits)).collect()
    }
}

/// Sets `stop` when `step` updates are done.
fn stop_at(step: u64, stop: &AtomicBool) -> impl FnMut(Event<'_>) {
    move |event| {
        if let Event::Update { step: done, .. } = event {
            stop.store(done >= step, Ordering::Relaxed);
        }
    }
}
