//! `throughline lab`

use std::fs;
use std::path::Path;
use std::thread::available_parallelism;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use throughline::data::TextReader;
use throughline::lab::{Bench, EXPERIMENTS, Effort, Experiment, Outcome, Text};
use throughline::train::{check_replaceable, write_atomically};

use crate::arguments::LabArguments;
use crate::output::{note, say};
use crate::plot::width;

pub fn run(arguments: &LabArguments) -> Result<()> {
    let LabArguments { experiments: names, text, out, fast, threads } = arguments;
    let wanted = |experiment: &&Experiment| match names.is_empty() {
        true => text.is_none() || experiment.reads_text,
        false => names.iter().any(|name| name == experiment.name),
    };
    let experiments: Vec<&Experiment> = EXPERIMENTS.iter().filter(wanted).collect();
    let text = match text {
        Some(path) => Some(read(path, &experiments)?),
        None => None,
    };
    // A folder that cannot be written to is refused before minutes of work.
    if let Some(folder) = out {
        prepare(folder, &experiments)?;
    }
    let effort = if *fast { Effort::Fast } else { Effort::Full };
    let cores = || available_parallelism().map_or(1, usize::from);
    let threads = threads.map_or_else(cores, usize::from);
    for (place, experiment) in experiments.into_iter().enumerate() {
        let (begun, bar) = (Instant::now(), super::bar(0));
        bar.set_message(experiment.name);
        let progress = |done: usize, all: usize| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        };
        let outcome = experiment.run(&Bench { effort, text: text.as_ref(), threads, progress: &progress });
        bar.finish_and_clear();
        if let Some(folder) = out {
            write(folder, &outcome)?;
        }
        say(&format!("{}{}", if place > 0 { "\n\n" } else { "" }, outcome.text(width())))?;
        note(&format!("{}: {}", experiment.name, super::duration(begun.elapsed().as_secs_f64())));
    }
    Ok(())
}

/// The text at `path`, which one of `experiments` must read.
fn read(path: &Path, experiments: &[&Experiment]) -> Result<Text> {
    if !experiments.iter().any(|experiment| experiment.reads_text) {
        let readers: Vec<&str> = EXPERIMENTS.iter().filter(|of| of.reads_text).map(|of| of.name).collect();
        bail!("--text: expected an experiment that learns from a text ({}), found none", readers.join(", "));
    }
    let text = TextReader::default().read_file(path)?;
    let found = text.chars().count();
    Text::new(&text).with_context(|| {
        format!("{}: expected at least {} characters to learn from, found {found}", path.display(), Text::FEWEST)
    })
}

/// Makes the folder, and sees to it that every file can be written.
fn prepare(folder: &Path, experiments: &[&Experiment]) -> Result<()> {
    let cannot = || format!("{}: cannot write to this folder; choose another with --out", folder.display());
    fs::create_dir_all(folder).with_context(cannot)?;
    for name in experiments.iter().flat_map(|experiment| Outcome::names(experiment.name)) {
        check_replaceable(&folder.join(name))?;
    }
    let trial = folder.join(".throughline-lab");
    fs::write(&trial, "").and_then(|()| fs::remove_file(&trial)).with_context(cannot)
}

fn write(folder: &Path, outcome: &Outcome) -> Result<()> {
    for (name, content) in outcome.files() {
        write_atomically(&folder.join(name), content.as_bytes())?;
    }
    Ok(())
}
