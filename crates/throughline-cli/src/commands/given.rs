//! The recipe that a command line gives.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use throughline::train::{self, BUILT_IN, Guess, Recipe};

use crate::arguments::RecipeArgument;
use crate::output::note;

/// The task where nothing is said.
const TASK: &str = "lm";

/// Its settings for training with no recipe: small enough for two cores and two minutes.
const DEFAULTS: &[&str] = &[
    "model.cell=gru",
    "model.embedding=64",
    "model.hidden=256",
    "model.layers=1",
    "model.output_dropout=0.1",
    "train.epochs=3",
    "train.max_seconds=100",
    "train.batch=16",
    "train.stride=64",
    "optimiser.learning_rate=0.004",
    "schedule.kind=cosine",
    "schedule.warmup=50",
];

/// The recipe file, the settings (`changes`, those of `--set` among them) and the data of the command line in one recipe.
pub fn recipe(arguments: &RecipeArgument, changes: &[String], quiet: bool) -> Result<Recipe> {
    let is_recipe = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "toml");
    let (recipes, data): (Vec<&PathBuf>, Vec<&PathBuf>) = arguments.paths.iter().partition(is_recipe);
    if let [first, second, ..] = recipes[..] {
        bail!("expected one recipe, found two: {} and {}", first.display(), second.display());
    }
    if let Some(recipe) = arguments.data.iter().find(is_recipe) {
        bail!("{}: expected data, found a recipe; name it before --data", recipe.display());
    }
    let mut data: Vec<PathBuf> = data.into_iter().chain(&arguments.data).chain(&arguments.text).cloned().collect();
    let mut settings = Vec::new();
    if recipes.is_empty() {
        let (task, paths) = (sets(arguments, "task"), sets(arguments, "data.paths"));
        let guessed = if task || paths || data.is_empty() || !arguments.text.is_empty() {
            TASK
        } else {
            guessed_task(&data, changes, quiet)?
        };
        settings.extend((!task).then(|| format!("task={guessed}")));
        if !task && !paths && guessed == TASK {
            settings.extend(DEFAULTS.iter().map(|set| (*set).to_owned()));
        }
        if data.is_empty() && !paths {
            data = text_at_hand(quiet)?;
            if data == [Path::new(BUILT_IN)] {
                // A small text is read more often.
                settings.push("train.epochs=12".to_owned());
            }
        }
    }
    settings.extend(changes.iter().cloned());
    Ok(Recipe::resolve(recipes.first().map(|path| path.as_path()), &settings, &data)?)
}

/// The task that `data` seem to be for; people are told from what.
fn guessed_task(data: &[PathBuf], sets: &[String], quiet: bool) -> Result<&'static str> {
    let Guess { task, seen } = train::guess(data, sets)?;
    let name = task.info().name;
    if !quiet {
        let data = data[0].display();
        note(&format!("{data}: {seen}, so the task is {name}; for another one, --set task=..."));
    }
    Ok(name)
}

/// Whether `--set` gives `key`.
pub fn sets(arguments: &RecipeArgument, key: &str) -> bool {
    arguments.set.iter().any(|set| set.split('=').next().is_some_and(|name| name.trim() == key))
}

/// The Rust sources and documents of the source tree that contains the current folder, or the text inside the program.
fn text_at_hand(quiet: bool) -> Result<Vec<PathBuf>> {
    let here = std::env::current_dir().context("cannot tell the current folder")?;
    let tree = here.ancestors().find(|folder| folder.join("crates/throughline-cli/Cargo.toml").is_file());
    let Some(tree) = tree else {
        if !quiet {
            note("no sources at hand: learning from the text inside the program");
        }
        return Ok(vec![PathBuf::from(BUILT_IN)]);
    };
    let parts = ["crates", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"];
    Ok(parts.iter().map(|part| tree.join(part)).filter(|path| path.exists()).collect())
}
