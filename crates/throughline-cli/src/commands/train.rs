//! `throughline train`

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use throughline::infer::Evaluation;
use throughline::train::{self, End, Event, Outcome, Recipe, RunFolder};

use super::given::{recipe, sets};
use crate::arguments::TrainArguments;
use crate::output::{note, say_line};

mod progress;

pub fn run(arguments: &TrainArguments) -> Result<()> {
    let begun = Arc::new(AtomicBool::new(false));
    let stop = stop_on_interrupt(&begun)?;
    let mut progress = progress::Progress::new(arguments.quiet);
    let mut watch = |event: Event<'_>| {
        match event {
            Event::Begin => begun.store(true, Ordering::Relaxed),
            // All of the run is on the disk: there is nothing to wait for.
            Event::Page(_) => begun.store(false, Ordering::Relaxed),
            _ => {}
        }
        progress.show(&event);
    };
    let outcome = match &arguments.resume {
        Some(run) => resume(arguments, run, &stop, &mut watch),
        None => changes(arguments)
            .and_then(|changes| recipe(&arguments.given, &changes, arguments.quiet))
            .and_then(|recipe| Ok(train::train(recipe, &stop, &mut watch)?)),
    };
    progress.finish();
    Ok(say_line(&summary(&outcome?))?)
}

fn resume(
    arguments: &TrainArguments,
    run: &Path,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome> {
    if let Some(key) = ["name", "runs_dir"].into_iter().find(|key| sets(&arguments.given, key)) {
        bail!("--set: {key}: expected no such setting with --resume, as the run stays in its folder, found one");
    }
    let folder = RunFolder::open(Path::new(super::RUNS), run)?;
    let config = folder.config_toml();
    let recipe = Recipe::resolve(Some(&config), &changes(arguments)?, &[])?;
    let changed = recipe.deciding_keys_unlike(&folder.recipe()?)?;
    if !changed.is_empty() {
        bail!(
            "--set: {}: expected the value the run began with, as in {}, found another; leave it out, or start a new run",
            changed.join(", "),
            config.display()
        );
    }
    Ok(train::resume(recipe, &folder, stop, watch)?)
}

/// Set by the first Ctrl-C while the run, having `begun`, is not over; the second, or one before or after that, ends the program at
/// once: until then nothing is on the disk, and afterwards all is.
fn stop_on_interrupt(begun: &Arc<AtomicBool>) -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let (flag, begun) = (Arc::clone(&stop), Arc::clone(begun));
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) || !begun.load(Ordering::Relaxed) {
            std::process::exit(i32::from(crate::INTERRUPTED));
        }
        note("stopping after this update (Ctrl-C again to stop at once) ...");
    })
    .context("cannot listen for Ctrl-C")?;
    Ok(stop)
}

/// What `--set` and the flags that stand for settings change.
fn changes(arguments: &TrainArguments) -> Result<Vec<String>> {
    let mut changes = arguments.given.set.clone();
    let mut flag = |flag: &str, key: &str, value: String| {
        if sets(&arguments.given, key) {
            bail!("{flag}: expected no --set {key} beside it, as it stands for the same setting, found one");
        }
        changes.push(format!("{key}={value}"));
        Ok(())
    };
    if let Some(minutes) = arguments.minutes {
        flag("--minutes", "train.max_seconds", (60.0 * minutes).ceil().to_string())?;
    }
    if let Some(epochs) = arguments.epochs {
        flag("--epochs", "train.epochs", epochs.to_string())?;
        flag("--epochs", "train.steps", 0.to_string())?;
    }
    if arguments.tensorboard {
        flag("--tensorboard", "train.tensorboard", true.to_string())?;
    }
    Ok(changes)
}

/// What came of a run, for people.
fn summary(outcome: &Outcome) -> String {
    let Outcome { folder, step, new_updates, end, seconds, kept, beat_the_start, validation, test } = outcome;
    let reached = |name: &str, reached: &Option<Evaluation>| {
        reached.as_ref().map(|reached| {
            let metrics: Vec<String> =
                reached.metrics.iter().map(|(name, value)| format!("{} {value:.4}", name.replace('_', " "))).collect();
            format!("{name} loss {:.4} ({})\n", reached.loss, metrics.join(", "))
        })
    };
    let mut text = [reached("validation", validation), reached("test", test)].into_iter().flatten().collect::<String>();
    text += &match end {
        End::Patience { evaluations } => format!("stopped after {evaluations} evaluations without a better one; "),
        End::Time => "stopped when train.max_seconds were over; ".to_owned(),
        _ => String::new(),
    };
    if !beat_the_start {
        text += "no update was better on the validation split than the untrained model; ";
    }
    text += &format!("kept update {kept} of {step}; {seconds:.0} s; everything is in {}", folder.path().display());
    let why = match end {
        End::Updates => "all its updates are done; give it more with --epochs ... or --set train.steps=...",
        End::Patience { .. } => {
            "train.patience evaluations in a row were no better; raise it with --set train.patience=..."
        }
        End::Time => "its train.max_seconds are over; raise them with --minutes ...",
        _ => "it is over",
    };
    if *new_updates == 0 {
        text += &format!("\nnothing was trained: {why}");
    }
    text
}
