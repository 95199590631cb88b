//! `throughline runs`

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;
use throughline::train::{Overview, RunFolder};

use super::RUNS;
use crate::arguments::RunsArguments;
use crate::output::{note, say, say_json, say_line};
use crate::table::table;

pub fn run(arguments: &RunsArguments) -> Result<()> {
    if let [a, b] = &arguments.diff[..] {
        return differences([a, b], arguments.json);
    }
    let mut runs = read(&arguments.folders)?;
    match &arguments.sort {
        Some(metric) => sort(&mut runs, metric)?,
        None => runs.sort_by(|a, b| natural_order(&a.run, &b.run)),
    }
    if arguments.json {
        let lines = runs.iter().map(|run| Ok(serde_json::to_string(run)? + "\n"));
        return Ok(say_json(&lines.collect::<Result<String>>()?)?);
    }
    let metric = arguments.sort.as_ref().map(|metric| metric.trim_start_matches('-'));
    Ok(if runs.is_empty() { say_line("no runs") } else { say(&list(&runs, metric)) }?)
}

/// The runs in the folders; what is none is said, and what cannot be read is no reason to leave out the others.
fn read(folders: &[PathBuf]) -> Result<Vec<Overview>> {
    let given = if folders.is_empty() { &[PathBuf::from(RUNS)] } else { folders };
    let mut runs = Vec::new();
    for folder in given {
        if folders.is_empty() && !folder.exists() {
            continue;
        }
        for path in paths_of_runs(folder)? {
            let run = RunFolder::open(folder, &path);
            match run.and_then(|run| Overview::read(&run)) {
                Ok(run) => runs.push(run),
                Err(error) => note(&format!("warning: left out: {error}")),
            }
        }
    }
    Ok(runs)
}

/// The folder itself if it is a run, else the folders in it but hidden ones.
fn paths_of_runs(folder: &Path) -> Result<Vec<PathBuf>> {
    if RunFolder::open(Path::new(""), folder).is_ok() {
        return Ok(vec![folder.to_path_buf()]);
    }
    let place = || folder.display().to_string();
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).with_context(place)? {
        let entry = entry.with_context(place)?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if !hidden && entry.path().is_dir() {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// Sorts by a metric, those that lack it last.
fn sort(runs: &mut [Overview], metric: &str) -> Result<()> {
    let (name, largest_first) = metric.strip_prefix('-').map_or((metric, false), |name| (name, true));
    if !runs.is_empty() && runs.iter().all(|run| value(run, name).is_none()) {
        let mut known: Vec<&str> = runs.iter().flat_map(|run| run.validation.keys()).map(String::as_str).collect();
        known.sort_unstable();
        known.dedup();
        bail!("--sort: expected a metric of these runs (updates, seconds, {}), found {name}", known.join(", "));
    }
    runs.sort_by(|a, b| match (value(a, name), value(b, name)) {
        (Some(a), Some(b)) if largest_first => b.total_cmp(&a),
        (Some(a), Some(b)) => a.total_cmp(&b),
        (a, b) => b.is_some().cmp(&a.is_some()),
    });
    Ok(())
}

/// What a run is sorted by.
fn value(run: &Overview, name: &str) -> Option<f64> {
    let value = match name {
        "updates" => Some(run.updates as f64),
        "seconds" => Some(run.seconds),
        _ => run.validation.get(name).copied(),
    };
    value.filter(|value| !value.is_nan())
}

/// Numbers in names count as numbers: lm-2 stands before lm-10.
fn natural_order(a: &str, b: &str) -> Ordering {
    let key = |name: &str| {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned();
        let number = name[stem.len()..].parse::<u64>().ok();
        (stem, number)
    };
    key(a).cmp(&key(b)).then_with(|| a.cmp(b))
}

/// The runs as a table, with one metric or with the one that decided in each.
fn list(runs: &[Overview], metric: Option<&str>) -> String {
    let head = ["run", "task", "network", "updates", "kept", "time", "validation", "test"].map(str::to_owned);
    let row = |run: &Overview| {
        let metric = metric.filter(|name| !matches!(*name, "updates" | "seconds")).unwrap_or(&run.metric);
        let reached = |metrics: &std::collections::BTreeMap<String, f64>| {
            let value = metrics.get(metric).filter(|value| value.is_finite());
            value.map_or_else(|| "-".to_owned(), |value| format!("{} {value:.4}", metric.replace('_', " ")))
        };
        let kept = run.kept.map_or_else(|| "-".to_owned(), |kept| kept.to_string());
        let Overview { run: path, task, network, updates, seconds, validation, test, .. } = run;
        let (time, updates) = (super::duration(*seconds), updates.to_string());
        let cells = [path, task, network, &updates, &kept, &time, &reached(validation), &reached(test)];
        cells.map(String::clone).to_vec()
    };
    table(&std::iter::once(head.to_vec()).chain(runs.iter().map(row)).collect::<Vec<_>>())
}

/// The settings in which the recipes of two runs differ, but for their names.
fn differences(runs: [&PathBuf; 2], json: bool) -> Result<()> {
    let recipe = |run: &PathBuf| RunFolder::open(Path::new(RUNS), run)?.recipe();
    let mut differences = recipe(runs[0])?.differences(&recipe(runs[1])?)?;
    differences.retain(|difference| difference.key != "name");
    if json {
        let line = |difference: &throughline::train::recipe::Difference| {
            format!("{}\n", json!({ "key": difference.key, "values": difference.values }))
        };
        return Ok(say_json(&differences.iter().map(line).collect::<String>())?);
    }
    if differences.is_empty() {
        return Ok(say_line("the recipes are the same")?);
    }
    let head = vec!["setting".to_owned(), runs[0].display().to_string(), runs[1].display().to_string()];
    let rows = differences.into_iter().map(|difference| {
        let [a, b] = difference.values.map(|value| value.unwrap_or_else(|| "-".to_owned()));
        vec![difference.key, a, b]
    });
    Ok(say(&table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_count_as_numbers() {
        let mut names = ["lm-10", "lm-2", "a", "lm-2b", "lm-002", "lm-99999999999999999999999"];
        names.sort_by(|a, b| natural_order(a, b));
        assert_eq!(names, ["a", "lm-99999999999999999999999", "lm-002", "lm-2", "lm-10", "lm-2b"]);
    }
}
