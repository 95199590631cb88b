//! What a recipe knows of a task: its name, and the settings that it alone has.

use std::any::Any;
use std::fmt::Debug;

use toml::Table;

use super::check::Check;
use super::sections::Train;
use super::settings::Key;
use crate::Result;

/// Settings that were read, or what is wrong with them.
pub type Read<T> = std::result::Result<T, toml::de::Error>;

/// The tables of a recipe that hold the options of a task; `options!` implements it.
pub trait Tables: Clone + Debug + Default + PartialEq + Send + Sync + 'static {
    /// Each table's name, with the keys in it; a name may occur more than once.
    fn tables() -> Vec<(&'static str, &'static [Key])>;
    /// The options in a recipe that has all their keys.
    fn read(recipe: &Table) -> Read<Self>;
    /// Adds all keys to a recipe. The options must be checked.
    fn write(&self, recipe: &mut Table);
}

/// The settings that a task has beside those of every task.
pub trait TaskOptions: Tables {
    /// The task's name in recipes and files.
    const NAME: &'static str;
    /// Keys, or tables, that do not decide the numbers of a run, so that they may change when it is resumed.
    const MAY_CHANGE: &'static [&'static str] = &[];

    /// Checks every range and every rule between values; `train`, like all settings of every task, has passed its checks.
    fn check(&self, train: &Train, check: &Check<'_>) -> Result<()>;

    /// With what `key` has an effect, such as `model.layers above 1`, if it has none. The key may be of every task, such as
    /// `train.checkpoint_every`.
    fn unused(&self, key: &str) -> Option<&'static str>;
}

/// The [`TaskOptions`] of some task.
pub trait AnyOptions: Any + Debug + Send + Sync {
    /// [`TaskOptions::NAME`]
    fn task(&self) -> &'static str;
    /// [`TaskOptions::MAY_CHANGE`]
    fn may_change(&self) -> &'static [&'static str];
    /// [`Tables::tables`]
    fn tables(&self) -> Vec<(&'static str, &'static [Key])>;
    /// [`Tables::write`]
    fn write(&self, recipe: &mut Table);
    /// [`TaskOptions::check`]
    fn check(&self, train: &Train, check: &Check<'_>) -> Result<()>;
    /// [`TaskOptions::unused`]
    fn unused(&self, key: &str) -> Option<&'static str>;
    /// The defaults of the same task.
    fn defaults(&self) -> Box<dyn AnyOptions>;
    /// A copy.
    fn boxed(&self) -> Box<dyn AnyOptions>;
    /// Whether `other` has the same values for the same task.
    fn equals(&self, other: &dyn AnyOptions) -> bool;
}

impl<O: TaskOptions> AnyOptions for O {
    fn task(&self) -> &'static str {
        O::NAME
    }

    fn may_change(&self) -> &'static [&'static str] {
        O::MAY_CHANGE
    }

    fn tables(&self) -> Vec<(&'static str, &'static [Key])> {
        O::tables()
    }

    fn write(&self, recipe: &mut Table) {
        Tables::write(self, recipe);
    }

    fn check(&self, train: &Train, check: &Check<'_>) -> Result<()> {
        TaskOptions::check(self, train, check)
    }

    fn unused(&self, key: &str) -> Option<&'static str> {
        TaskOptions::unused(self, key)
    }

    fn defaults(&self) -> Box<dyn AnyOptions> {
        Box::new(O::default())
    }

    fn boxed(&self) -> Box<dyn AnyOptions> {
        Box::new(self.clone())
    }

    fn equals(&self, other: &dyn AnyOptions) -> bool {
        (other as &dyn Any).downcast_ref::<O>() == Some(self)
    }
}

/// A task as recipes see it.
pub trait TaskSettings: Sync {
    /// The task's name in recipes and files.
    fn name(&self) -> &'static str;
    /// What the task is, in a line for people: the object of "train ...".
    fn about(&self) -> &'static str;
    /// The defaults of its options.
    fn defaults(&self) -> Box<dyn AnyOptions>;
    /// Its options in a recipe that has all their keys.
    fn read(&self, recipe: &Table) -> Read<Box<dyn AnyOptions>>;
}

/// The options `O` in a recipe that has all their keys.
pub fn read_options<O: TaskOptions>(recipe: &Table) -> Read<Box<dyn AnyOptions>> {
    Ok(Box::new(O::read(recipe)?))
}
