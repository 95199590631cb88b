//! A look inside the model of a run, with its held-out data and the log of its training.

use std::path::PathBuf;

use throughline_data::Split;
use throughline_infer::{Files, Parts, Sample, Serve, Served, cpu};
use throughline_inspect::{Inspectable, Options, Report, Selection, Trace, Training, Update, diagnose};

use crate::evaluate::held_out;
use crate::learn::{Learn, Measured};
use crate::run::metrics::{Row, read_rows};
use crate::run::overview::network;
use crate::trainer::{Event, Outcome};
use crate::{Error, Recipe, Result, RunFolder, write_atomically};

/// How to look into a model.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// How much of the data the model is shown.
    pub options: Options,
    /// Threads to compute with; `None`: all there are.
    pub threads: Option<usize>,
    /// Whether the model is evaluated on the data, too.
    pub evaluate: bool,
}

/// See [`inspect`](crate::inspect()).
pub(crate) fn look_into<L: Learn<Serve: Inspectable>>(
    folder: &RunFolder,
    recipe: &Recipe,
    paths: &[PathBuf],
    Look { options, threads, evaluate }: Look,
) -> Result<Report> {
    let parts = Parts::<L::Serve>::open(&Files::Folder(folder.path().to_path_buf()))?;
    let training = training(folder, recipe)?;
    let Measured { data, what, notes, .. } = held_out::<L>(folder, recipe, &parts.config, &parts.encoder, paths)?;
    let inspection = throughline_inspect::inspect(&parts, &data, options, &cpu(threads)?);
    let inspection = inspection.map_err(in_place(folder, &what))?;
    let evaluation = match evaluate {
        true => {
            let Parts { config, encoder, network, parameters } = parts;
            Served::<L::Serve>::new(config, encoder, network, &parameters, threads)?.evaluate(&data)
        }
        false => None,
    };
    let path = folder.path();
    Ok(Report {
        run: path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
        model: L::Serve::INFO.title,
        counted: L::Serve::INFO.counted,
        network: network(recipe),
        data: what,
        notes,
        findings: diagnose(&inspection, &training),
        inspection,
        training,
        evaluation,
    })
}

/// How much of the data the page at the end of a run shows.
const AT_THE_END: Options = Options { sample: Sample::spread(30, 100), anchors: 8, examples: 4 };

/// Writes the page of a run that has ended, if it wants one. It is no reason for the run to fail.
pub(crate) fn write_page<L: Learn<Serve: Inspectable>>(outcome: &Outcome, watch: &mut dyn FnMut(Event<'_>)) {
    let Outcome { folder, test, .. } = outcome;
    let mut write = || -> Result<()> {
        let recipe = folder.recipe()?;
        if !recipe.train.report {
            return Ok(());
        }
        let Some(test) = test else {
            return Err(Error::file(
                folder.path(),
                "train.report",
                "a test split to show, or false",
                "true and no test split",
            ));
        };
        watch(Event::Page(&folder.report()));
        let threads = (recipe.threads > 0).then_some(recipe.threads);
        let report = look_into::<L>(folder, &recipe, &[], Look { options: AT_THE_END, threads, evaluate: false })?;
        // The test split was measured a moment ago.
        let report = Report { evaluation: Some(test.clone()), ..report };
        write_atomically(&folder.report(), report.html().as_bytes())
    };
    if let Err(error) = write() {
        watch(Event::Warning(&format!("no page was written: {error}")));
    }
}

/// How to trace a model.
#[derive(Clone, Debug)]
pub struct Tracing {
    /// How much of the data the model reads.
    pub sample: Sample<'static>,
    /// The arrays that are wanted.
    pub selection: Selection,
    /// Threads to compute with; `None`: all there are.
    pub threads: Option<usize>,
}

/// See [`trace`](crate::trace()).
pub(crate) fn trace_of<L: Learn>(
    folder: &RunFolder,
    recipe: &Recipe,
    paths: &[PathBuf],
    Tracing { sample, selection, threads }: &Tracing,
) -> Result<(Trace<f32>, Vec<String>)> {
    let parts = Parts::<L::Serve>::open(&Files::Folder(folder.path().to_path_buf()))?;
    let Measured { data, what, notes, .. } = held_out::<L>(folder, recipe, &parts.config, &parts.encoder, paths)?;
    let trace = throughline_inspect::trace(&parts, &data, *sample, selection, &cpu(*threads)?);
    Ok((trace.map_err(in_place(folder, &what))?, notes))
}

/// Says of what run and data an error is.
fn in_place<'a>(folder: &'a RunFolder, what: &'a str) -> impl FnOnce(throughline_infer::Error) -> Error + 'a {
    move |error| match error {
        throughline_infer::Error::Input { expected, found } => Error::file(folder.path(), what, expected, found),
        other => other.into(),
    }
}

/// What the log says of the training; nothing where none was kept beside the model.
fn training(folder: &RunFolder, recipe: &Recipe) -> Result<Training> {
    let rows = if folder.metrics().exists() { read_rows(&folder.metrics())? } else { Vec::new() };
    let clip_norm = recipe.train.clip_norm;
    Ok(Training {
        updates: rows.iter().filter(|row| row.split != Split::Test).map(update).collect(),
        clip_norm: (clip_norm > 0.0).then_some(clip_norm),
    })
}

fn update(row: &Row) -> Update {
    let of = |split: Split| (row.split == split).then_some(row.loss);
    Update {
        update: row.step,
        loss: of(Split::Train),
        validation_loss: of(Split::Validation),
        gradient_norm: Some(row.grad_norm).filter(|norm| norm.is_finite()),
        learning_rate: row.lr,
    }
}
