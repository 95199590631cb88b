//! The tasks: what each has of its own for training lies in its folder, and a line in [`TASKS`] registers it. What serves
//! its models is in [`throughline_infer::tasks`].

pub mod classify;
pub mod classify_series;
pub mod lm;
pub mod regress;
pub mod roll;
pub mod shared;
pub mod tag;

use std::marker::PhantomData;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use throughline_data::Glimpse;
use throughline_infer::{Info, Model, Serve};
use throughline_inspect::{Inspectable, Report as Inside, Trace};
use toml::Table;

use crate::evaluate::{self, Report};
use crate::examine::{self, DataReport};
use crate::inspect::{self, Look, Tracing};
use crate::learn::{Learn, Sign};
use crate::recipe::{AnyOptions, Read, TaskOptions, TaskSettings, read_options};
use crate::trainer::{self, Event, Outcome, RangeRow, RangeTest, RateRange};
use crate::{Error, Recipe, Result, RunFolder};

/// Every task, in the order in which people read of them.
pub static TASKS: &[&dyn Task] = &[
    &TaskOf::<lm::Text>::TASK,
    &TaskOf::<classify::Texts>::TASK,
    &TaskOf::<tag::Words>::TASK,
    &TaskOf::<classify_series::Series>::TASK,
    &TaskOf::<regress::Series>::TASK,
    &TaskOf::<roll::Rolls>::TASK,
];

/// The task called `name`.
pub fn find(name: &str) -> Option<&'static dyn Task> {
    TASKS.iter().copied().find(|task| task.name() == name)
}

/// Trains from the beginning in a new run folder.
///
/// `stop` is looked at before every update; when it is set, the state is saved and the run ends with
/// [`Error::Interrupted`].
///
/// # Errors
/// If the data cannot be used, a file cannot be written, training diverges, or the run is interrupted.
pub fn train(recipe: Recipe, stop: &AtomicBool, watch: &mut dyn FnMut(Event<'_>)) -> Result<Outcome> {
    task_of(&recipe).train(recipe, stop, watch)
}

/// Goes on with a run from its checkpoint; with the same data it ends in the same bits as if it had never stopped.
///
/// # Errors
/// As [`train`](crate::train()); also if the checkpoint is damaged or belongs to other data or another recipe.
pub fn resume(
    recipe: Recipe,
    folder: &RunFolder,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome> {
    task_of(&recipe).resume(recipe, folder, stop, watch)
}

/// Reads the data of a recipe as training would, and tells what is in them.
///
/// # Errors
/// If the data cannot be used.
pub fn examine(recipe: &Recipe) -> Result<DataReport> {
    task_of(recipe).examine(recipe)
}

/// Tries learning rates, the next higher in each update, and writes nothing anywhere. The schedule of the recipe has no part in
/// it.
///
/// # Errors
/// If the data cannot be used.
pub fn find_learning_rate(recipe: Recipe, range: RateRange, watch: &mut dyn FnMut(&RangeRow)) -> Result<RangeTest> {
    task_of(&recipe).find_learning_rate(recipe, range, watch)
}

/// Measures the model of a run: on the files at `paths`, or on the test split of the run's own data if there are none.
///
/// # Errors
/// If the data cannot be read or used, do not fit the model, or are no longer those that the run has set aside for testing.
pub fn evaluate(folder: &RunFolder, model: &Model, paths: &[PathBuf]) -> Result<Report> {
    let recipe = folder.recipe()?;
    let task = task_of(&recipe);
    if model.info().name != task.info().name {
        let expected = format_args!("\"{}\", as config.toml says", recipe.task());
        return Err(Error::file(&folder.config_json(), "task", expected, model.info().name));
    }
    task.evaluate(folder, &recipe, model, paths)
}

/// Looks into the model of a run, with some of the files at `paths`, or of the test split of the run's own data if there are none.
///
/// # Errors
/// As [`evaluate`](crate::evaluate()); also if the model cannot be opened, or the sample would take too much memory.
pub fn inspect(folder: &RunFolder, paths: &[PathBuf], look: Look) -> Result<Inside> {
    let recipe = folder.recipe()?;
    task_of(&recipe).inspect(folder, &recipe, paths, look)
}

/// Every gate, state, pre-activation and gradient that is selected, of the model of a run over some of the files at `paths`, or of the
/// test split of the run's own data if there are none; and what was left out of the data or may be wrong with them.
///
/// # Errors
/// As [`inspect`](crate::inspect()); also if something is selected that the model does not have.
pub fn trace(folder: &RunFolder, paths: &[PathBuf], tracing: &Tracing) -> Result<(Trace<f32>, Vec<String>)> {
    let recipe = folder.recipe()?;
    task_of(&recipe).trace(folder, &recipe, paths, tracing)
}

pub(crate) fn task_of(recipe: &Recipe) -> &'static dyn Task {
    find(recipe.task()).expect("a recipe has a task")
}

/// A task as the rest of the program sees it.
pub trait Task: TaskSettings {
    /// What people are told of it.
    fn info(&self) -> &'static Info;

    /// See [`Learn::recognises`].
    fn recognises(&self, seen: &Glimpse) -> Option<Sign>;

    /// See [`train`](crate::train()).
    fn train(&self, recipe: Recipe, stop: &AtomicBool, watch: &mut dyn FnMut(Event<'_>)) -> Result<Outcome>;

    /// See [`resume`](crate::resume()).
    fn resume(
        &self,
        recipe: Recipe,
        folder: &RunFolder,
        stop: &AtomicBool,
        watch: &mut dyn FnMut(Event<'_>),
    ) -> Result<Outcome>;

    /// See [`examine`](crate::examine()).
    fn examine(&self, recipe: &Recipe) -> Result<DataReport>;

    /// See [`find_learning_rate`](crate::find_learning_rate()).
    fn find_learning_rate(
        &self,
        recipe: Recipe,
        range: RateRange,
        watch: &mut dyn FnMut(&RangeRow),
    ) -> Result<RangeTest>;

    /// See [`evaluate`](crate::evaluate()).
    fn evaluate(&self, folder: &RunFolder, recipe: &Recipe, model: &Model, paths: &[PathBuf]) -> Result<Report>;

    /// See [`inspect`](crate::inspect()).
    fn inspect(&self, folder: &RunFolder, recipe: &Recipe, paths: &[PathBuf], look: Look) -> Result<Inside>;

    /// See [`trace`](crate::trace()).
    fn trace(
        &self,
        folder: &RunFolder,
        recipe: &Recipe,
        paths: &[PathBuf],
        tracing: &Tracing,
    ) -> Result<(Trace<f32>, Vec<String>)>;
}

/// The task of `L`.
pub struct TaskOf<L>(PhantomData<fn() -> L>);

impl<L> TaskOf<L> {
    /// The only value.
    pub const TASK: Self = Self(PhantomData);
}

impl<L: Learn> TaskSettings for TaskOf<L> {
    fn name(&self) -> &'static str {
        L::Options::NAME
    }

    fn about(&self) -> &'static str {
        L::Serve::INFO.about
    }

    fn defaults(&self) -> Box<dyn AnyOptions> {
        Box::new(L::Options::default())
    }

    fn read(&self, recipe: &Table) -> Read<Box<dyn AnyOptions>> {
        read_options::<L::Options>(recipe)
    }
}

impl<L: Learn<Serve: Inspectable>> Task for TaskOf<L> {
    fn info(&self) -> &'static Info {
        &L::Serve::INFO
    }

    fn recognises(&self, seen: &Glimpse) -> Option<Sign> {
        L::recognises(seen)
    }

    fn train(&self, recipe: Recipe, stop: &AtomicBool, watch: &mut dyn FnMut(Event<'_>)) -> Result<Outcome> {
        let outcome = trainer::train::<L>(recipe, stop, watch)?;
        inspect::write_page::<L>(&outcome, watch);
        Ok(outcome)
    }

    fn resume(
        &self,
        recipe: Recipe,
        folder: &RunFolder,
        stop: &AtomicBool,
        watch: &mut dyn FnMut(Event<'_>),
    ) -> Result<Outcome> {
        let outcome = trainer::resume::<L>(recipe, folder, stop, watch)?;
        inspect::write_page::<L>(&outcome, watch);
        Ok(outcome)
    }

    fn examine(&self, recipe: &Recipe) -> Result<DataReport> {
        examine::examine::<L>(recipe)
    }

    fn find_learning_rate(
        &self,
        recipe: Recipe,
        range: RateRange,
        watch: &mut dyn FnMut(&RangeRow),
    ) -> Result<RangeTest> {
        trainer::test_range::<L>(recipe, range, watch)
    }

    fn evaluate(&self, folder: &RunFolder, recipe: &Recipe, model: &Model, paths: &[PathBuf]) -> Result<Report> {
        evaluate::measure::<L>(folder, recipe, model, paths)
    }

    fn inspect(&self, folder: &RunFolder, recipe: &Recipe, paths: &[PathBuf], look: Look) -> Result<Inside> {
        inspect::look_into::<L>(folder, recipe, paths, look)
    }

    fn trace(
        &self,
        folder: &RunFolder,
        recipe: &Recipe,
        paths: &[PathBuf],
        tracing: &Tracing,
    ) -> Result<(Trace<f32>, Vec<String>)> {
        inspect::trace_of::<L>(folder, recipe, paths, tracing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What trains a task and what serves its models are registered in two lists.
    #[test]
    fn every_task_is_trained_and_served() {
        let trained: Vec<&str> = TASKS.iter().map(|task| task.name()).collect();
        let served: Vec<&str> = throughline_infer::tasks::ALL.iter().map(|entry| entry.info.name).collect();
        assert_eq!(trained, served);
        assert!(TASKS.iter().all(|task| task.name() == task.info().name));
    }
}
