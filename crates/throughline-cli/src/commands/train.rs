//! `throughline train`

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use throughline::train::{self, BUILT_IN, Outcome, Recipe, RunFolder};

use crate::arguments::TrainArguments;
use crate::output::{note, say_line};

mod progress;

/// Settings for training with no recipe: small enough for two cores and two minutes.
const DEFAULTS: &[&str] = &[
    "task=lm",
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

pub fn run(arguments: TrainArguments) -> Result<()> {
    let training = Arc::new(AtomicBool::new(false));
    let stop = stop_on_interrupt(&training)?;
    let mut progress = progress::Progress::new(arguments.quiet);
    let (folder, outcome) = match &arguments.resume {
        Some(run) => {
            if let Some(key) = ["name", "runs_dir"].into_iter().find(|key| sets(&arguments, key)) {
                bail!(
                    "--set: {key}: expected no such setting with --resume, as the run stays in its folder, found one"
                );
            }
            let folder = RunFolder::open(Path::new(super::RUNS), run)?;
            let config = folder.config_toml();
            let recipe = Recipe::resolve(Some(&config), &arguments.set, &[])?;
            let changed = recipe.deciding_keys_unlike(&Recipe::resolve(Some(&config), &[], &[])?)?;
            if !changed.is_empty() {
                bail!(
                    "--set: {}: expected the value the run began with, as in {}, found another; leave it out, or start a \
                     new run",
                    changed.join(", "),
                    config.display()
                );
            }
            let outcome = train::resume(&recipe, &folder, &stop, &mut |event| {
                training.store(true, Ordering::Relaxed);
                progress.show(&event);
            });
            (folder, outcome)
        }
        None => {
            let mut recipe = recipe(&arguments)?;
            let folder = create_folder(&mut recipe)?;
            let outcome = train::train(&recipe, &folder, &stop, &mut |event| {
                training.store(true, Ordering::Relaxed);
                progress.show(&event);
            });
            (folder, outcome)
        }
    };
    progress.finish();
    let outcome = outcome.inspect_err(|_| discard_if_empty(&folder, arguments.resume.is_some()))?;
    Ok(say_line(&summary(&folder, &outcome))?)
}

/// Set by the first Ctrl-C once there is `training` to save; the second, or one before that, ends the program at once.
fn stop_on_interrupt(training: &Arc<AtomicBool>) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let (flag, training) = (Arc::clone(&stop), Arc::clone(training));
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) || !training.load(Ordering::Relaxed) {
            std::process::exit(i32::from(crate::INTERRUPTED));
        }
        note("stopping after this update (Ctrl-C again to stop at once) ...");
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(stop)
}

/// The recipe file, the settings and the data of the command line in one recipe.
fn recipe(arguments: &TrainArguments) -> Result<Recipe> {
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
        if task || paths {
            settings.extend((!task).then(|| "task=lm".to_owned()));
        } else {
            settings.extend(DEFAULTS.iter().map(|set| (*set).to_owned()));
        }
        if data.is_empty() && !paths {
            data = text_at_hand()?;
            if data == [Path::new(BUILT_IN)] {
                // A small text is read more often.
                settings.push("train.epochs=12".to_owned());
            }
        }
    }
    settings.extend(arguments.set.iter().cloned());
    Ok(Recipe::resolve(recipes.first().map(|path| path.as_path()), &settings, &data)?)
}

/// Whether `--set` gives `key`.
fn sets(arguments: &TrainArguments, key: &str) -> bool {
    arguments.set.iter().any(|set| set.split('=').next().map(str::trim) == Some(key))
}

/// The Rust sources and documents of the source tree that contains the current folder, or the text inside the program.
fn text_at_hand() -> Result<Vec<PathBuf>> {
    let here = std::env::current_dir().context("cannot tell the current folder")?;
    let tree = here.ancestors().find(|folder| folder.join("crates/throughline-cli/Cargo.toml").is_file());
    let Some(tree) = tree else {
        note("no sources at hand: learning from the text inside the program");
        return Ok(vec![PathBuf::from(BUILT_IN)]);
    };
    let parts = ["crates", "README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"];
    Ok(parts.iter().map(|part| tree.join(part)).filter(|path| path.exists()).collect())
}

fn create_folder(recipe: &mut Recipe) -> Result<RunFolder> {
    if !recipe.name.is_empty() {
        return Ok(RunFolder::create(&recipe.runs_dir, &recipe.name)?);
    }
    let folder = RunFolder::create_numbered(&recipe.runs_dir, recipe.task())?;
    recipe.name = folder.path().file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Ok(folder)
}

/// A new run that failed before anything was learnt leaves no folder behind.
fn discard_if_empty(folder: &RunFolder, resumed: bool) {
    if !resumed && !folder.checkpoint().exists() {
        let _ = std::fs::remove_dir_all(folder.path());
    }
}

fn summary(folder: &RunFolder, outcome: &Outcome) -> String {
    let part = |name: &str, reached: &Option<train::Evaluation>| {
        reached.as_ref().map(|reached| {
            let metrics: Vec<String> =
                reached.metrics.iter().map(|(name, value)| format!("{} {value:.4}", name.replace('_', " "))).collect();
            format!("{name} loss {:.4} ({})\n", reached.loss, metrics.join(", "))
        })
    };
    format!(
        "{}{}{} updates in {:.0} s; everything is in {}",
        part("validation", &outcome.validation).unwrap_or_default(),
        part("test", &outcome.test).unwrap_or_default(),
        outcome.step,
        outcome.seconds,
        folder.path().display()
    )
}
