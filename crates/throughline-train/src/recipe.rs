//! Recipes: everything that decides a training run, in one TOML file.
//!
//! A recipe is a TOML file, `--set key=value` overrides and `--data` paths, resolved into one [`Recipe`]
//! ([`Recipe::resolve`]). Written back ([`Recipe::to_toml`]) it spells out every default that has an effect and reads again
//! identically. The keys, with their units, defaults and ranges, are on the page [`settings`](crate::settings) and in the
//! recipe that [`commented`] prints. Every key has a default but `task` and `data.paths`; a key that has no effect beside the
//! others (`optimiser.momentum` with Adam, say) must be left at its default, so that no setting is ever ignored in silence.
//!
//! The settings of every task are fields of [`Recipe`]; those of one task are its [`TaskOptions`] in [`tasks`](crate::tasks).

mod build;
mod check;
mod document;
mod nearest;
mod options;
mod resolve;
mod rules;
mod sections;
pub(crate) mod settings;
mod table;
mod write;

use std::any::Any;
use std::path::PathBuf;

use toml::{Table, Value};

pub use check::Check;
pub(crate) use check::{LARGEST_COUNT, LARGEST_SIZE, LONGEST_WINDOW};
pub use document::{commented, settings_page};
pub use options::{AnyOptions, Read, Tables, TaskOptions, TaskSettings, read_options};
pub(crate) use resolve::{has_key, value_set};
pub use sections::{Average, AverageKind, General, Optimiser, OptimiserKind, Schedule, ScheduleKind, StepUnit, Train};
pub use settings::{Key, Settings};
pub(crate) use settings::{options, settings};
pub use throughline_nn::checkpointing::Checkpointing;
pub use throughline_nn::initialise::Initialisation;
pub use throughline_nn::layers::recurrent::InitialState;
pub use throughline_nn::parameters::DropoutMask;
pub use write::Difference;

/// What to train, on what and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// [`General::name`]
    pub name: String,
    /// [`General::seed`]
    pub seed: u64,
    /// [`General::threads`]
    pub threads: usize,
    /// [`General::runs_dir`]
    pub runs_dir: PathBuf,
    /// Table `[train]`.
    pub train: Train,
    /// Table `[optimiser]`.
    pub optimiser: Optimiser,
    /// Table `[schedule]`.
    pub schedule: Schedule,
    /// Table `[average]`.
    pub average: Average,
    /// The settings that only the task has; they say which task it is.
    options: TaskBox,
}

/// The options of some task.
#[derive(Debug)]
struct TaskBox(Box<dyn AnyOptions>);

impl Clone for TaskBox {
    fn clone(&self) -> Self {
        Self(self.0.boxed())
    }
}

impl PartialEq for TaskBox {
    fn eq(&self, other: &Self) -> bool {
        self.0.equals(&*other.0)
    }
}

/// Tables that stand before the others, so that a recipe is read from the data on.
const FIRST_TABLES: [&str; 2] = ["data", "model"];

impl Recipe {
    /// The built-in recipe of the task with the options `O`: every default. Of a task that reads texts it lacks only
    /// `data.paths`.
    pub fn new<O: TaskOptions>() -> Self {
        Self::with_defaults(Box::new(O::default()))
    }

    /// The task's name.
    pub fn task(&self) -> &'static str {
        self.options.0.task()
    }

    /// The settings that only the task has.
    ///
    /// # Panics
    /// If `O` is not of the recipe's [`task`](Self::task).
    pub fn options<O: TaskOptions>(&self) -> &O {
        let options: &dyn Any = &*self.options.0;
        options.downcast_ref().unwrap_or_else(|| panic!("options of {:?} of a recipe for {:?}", O::NAME, self.task()))
    }

    /// The same, to change them.
    ///
    /// # Panics
    /// If `O` is not of the recipe's [`task`](Self::task).
    pub fn options_mut<O: TaskOptions>(&mut self) -> &mut O {
        let task = self.task();
        let options: &mut dyn Any = &mut *self.options.0;
        options.downcast_mut().unwrap_or_else(|| panic!("options of {:?} of a recipe for {task:?}", O::NAME))
    }

    /// Every default, for the task that `options` are of.
    fn with_defaults(options: Box<dyn AnyOptions>) -> Self {
        let (train, optimiser, schedule) = (Train::default(), Optimiser::default(), Schedule::default());
        Self::assemble(General::default(), train, optimiser, schedule, Average::default(), options)
    }

    fn assemble(
        general: General,
        train: Train,
        optimiser: Optimiser,
        schedule: Schedule,
        average: Average,
        options: Box<dyn AnyOptions>,
    ) -> Self {
        let General { task: _, name, seed, threads, runs_dir } = general;
        Self { name, seed, threads, runs_dir, train, optimiser, schedule, average, options: TaskBox(options) }
    }

    /// The recipe for `task` in a table that has every key of such a recipe.
    fn read(task: &dyn TaskSettings, table: &Table) -> Read<Self> {
        let general = settings::read(table, "")?;
        let train = settings::read(table, "train")?;
        let optimiser = settings::read(table, "optimiser")?;
        let schedule = settings::read(table, "schedule")?;
        let average = settings::read(table, "average")?;
        Ok(Self::assemble(general, train, optimiser, schedule, average, task.read(table)?))
    }

    /// Every key with its value; the recipe must be checked.
    fn to_table(&self) -> Table {
        let Self { name, seed, threads, runs_dir, train, optimiser, schedule, average, options } = self;
        let general = General {
            task: self.task().to_owned(),
            name: name.clone(),
            seed: *seed,
            threads: *threads,
            runs_dir: runs_dir.clone(),
        };
        let mut table = Table::new();
        settings::write(&general, &mut table, "");
        let has = |name: &&str| options.0.tables().iter().any(|(table, _)| table == name);
        table.extend(FIRST_TABLES.into_iter().filter(has).map(|name| (name.to_owned(), Value::Table(Table::new()))));
        settings::write(train, &mut table, "train");
        settings::write(optimiser, &mut table, "optimiser");
        settings::write(schedule, &mut table, "schedule");
        settings::write(average, &mut table, "average");
        options.0.write(&mut table);
        table
    }

    /// Each table's name (`""`: the top) with keys in it; a name may occur more than once.
    fn tables(&self) -> Vec<(&'static str, &'static [Key])> {
        let common = [
            ("", General::KEYS),
            ("train", Train::KEYS),
            ("optimiser", Optimiser::KEYS),
            ("schedule", Schedule::KEYS),
            ("average", Average::KEYS),
        ];
        common.into_iter().chain(self.options.0.tables()).collect()
    }
}
