//! What the tests share: a folder of their own, texts, recipes, and what a run leaves behind.
#![allow(dead_code, reason = "every test file uses its own part")]

use std::collections::BTreeMap;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use safetensors::SafeTensors;
use throughline_kernels::random::{Philox, Purpose, Stream};
use throughline_train::tasks::{classify, lm};
use throughline_train::{Event, Outcome, Recipe, Result, RunFolder, Task, resume, train};

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

    /// A new run folder.
    pub fn run(&self, name: &str) -> RunFolder {
        RunFolder::create(self, name).expect("a name that is free")
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

/// A small recipe of `task` that trains on `paths`; the rest is for the test to set.
pub fn recipe(task: Task, paths: &[&Path]) -> Recipe {
    let mut recipe = Recipe::default_for(task.name()).expect("a task");
    recipe.threads = 1;
    recipe.train.batch = 4;
    recipe.train.evaluations = 5;
    let (data, model) = match task {
        Task::Lm => {
            let options = lm(&mut recipe);
            options.windows.stride = 6;
            (&mut options.data, &mut options.model)
        }
        Task::Classify => {
            let options = classify(&mut recipe);
            (&mut options.data, &mut options.model)
        }
    };
    data.paths = paths.iter().map(|path| path.to_path_buf()).collect();
    (model.embedding, model.hidden) = (8, 12);
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

/// Trains to the end.
pub fn train_all(recipe: &Recipe, run: &RunFolder) -> Result<Outcome> {
    train(recipe, run, &AtomicBool::new(false), &mut |_| ())
}

/// Goes on to the end.
pub fn resume_all(recipe: &Recipe, run: &RunFolder) -> Result<Outcome> {
    resume(recipe, run, &AtomicBool::new(false), &mut |_| ())
}

/// How [`train`] and [`resume`] are called.
pub type Session = fn(&Recipe, &RunFolder, &AtomicBool, &mut dyn FnMut(Event<'_>)) -> Result<Outcome>;

/// Trains or goes on until `step` updates are done.
pub fn stop_after(step: u64, session: Session, recipe: &Recipe, run: &RunFolder) -> Result<Outcome> {
    let stop = AtomicBool::new(step == 0);
    session(recipe, run, &stop, &mut |event| {
        if let Event::Update { step: done, .. } = event {
            stop.store(done >= step, Ordering::Relaxed);
        }
    })
}

/// The tensors of a checkpoint by name, as their bits.
pub fn checkpoint(run: &RunFolder) -> BTreeMap<String, Vec<u32>> {
    let bytes = std::fs::read(run.checkpoint()).expect("a checkpoint");
    let file = SafeTensors::deserialize(&bytes).expect("a whole checkpoint");
    let bits = |data: &[u8]| data.as_chunks::<4>().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect();
    file.tensors().into_iter().map(|(name, view)| (name, bits(view.data()))).collect()
}

/// The parameters of a checkpoint.
pub fn checkpoint_parameters(run: &RunFolder) -> Vec<f32> {
    checkpoint(run)["parameters"].iter().map(|&bits| f32::from_bits(bits)).collect()
}
