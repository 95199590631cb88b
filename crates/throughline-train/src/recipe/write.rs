//! Recipes as TOML, and what tells one from another.

use super::Recipe;
use super::table::{dotted_keys, retain, value_at};
use crate::{Digest, Result};

/// Keys of every task that say where a run lies, when it saves and how long it goes on; they may change when it is resumed.
const MAY_CHANGE: [&str; 12] = [
    "name",
    "threads",
    "runs_dir",
    "train.epochs",
    "train.steps",
    "train.evaluations",
    "train.checkpoint_seconds",
    "train.max_seconds",
    "train.patience",
    "train.tensorboard",
    "train.report",
    "schedule.steps",
];

/// A setting in which two recipes differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The dotted key.
    pub key: String,
    /// Its value in each of them, as TOML; `None` where the task has no such key.
    pub values: [Option<String>; 2],
}

impl Recipe {
    /// The recipe as TOML: every key that has an effect, defaults spelled out.
    ///
    /// # Errors
    /// [`Error::Recipe`](crate::Error::Recipe) if the recipe does not pass [`Recipe::check`], as TOML could not hold it.
    pub fn to_toml(&self) -> Result<String> {
        self.toml_of(|_| true)
    }

    /// A digest of what decides the numbers of the run: all but where it lies, its threads, when it saves and how long it goes
    /// on. A checkpoint resumes only under a recipe of the same identity.
    ///
    /// # Errors
    /// As [`Recipe::to_toml`].
    pub fn identity(&self) -> Result<String> {
        Ok(Digest::of(self.toml_of(|key| self.decides(key))?.as_bytes()))
    }

    /// The keys that give this recipe another [`identity`](Self::identity) than `other`.
    ///
    /// # Errors
    /// As [`Recipe::to_toml`], for either of them.
    pub fn deciding_keys_unlike(&self, other: &Self) -> Result<Vec<String>> {
        let unlike = self.differences(other)?.into_iter().map(|difference| difference.key);
        Ok(unlike.filter(|key| self.decides(key)).collect())
    }

    /// The settings in which this recipe and `other` differ.
    ///
    /// # Errors
    /// As [`Recipe::to_toml`], for either of them.
    pub fn differences(&self, other: &Self) -> Result<Vec<Difference>> {
        self.check()?;
        other.check()?;
        let [ours, theirs] = [self, other].map(Self::to_table);
        let mut keys = dotted_keys(&ours);
        keys.extend(dotted_keys(&theirs).into_iter().filter(|key| value_at(&ours, key).is_none()));
        let difference = |key: String| {
            let values = [&ours, &theirs].map(|table| value_at(table, &key));
            let is_table = values.into_iter().flatten().any(toml::Value::is_table);
            let values = values.map(|value| value.map(ToString::to_string));
            (!is_table && values[0] != values[1]).then_some(Difference { key, values })
        };
        Ok(keys.into_iter().filter_map(difference).collect())
    }

    /// The value of a dotted key as TOML, if the recipe has it; the recipe must be checked.
    pub(crate) fn value(&self, key: &str) -> Option<toml::Value> {
        value_at(&self.to_table(), key).cloned()
    }

    /// Whether `key` decides the numbers of the run.
    fn decides(&self, key: &str) -> bool {
        let is = |name: &&str| key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        !MAY_CHANGE.iter().chain(self.options.0.may_change()).any(is)
    }

    /// The keys that have an effect and that `keep` accepts.
    fn toml_of(&self, keep: impl Fn(&str) -> bool) -> Result<String> {
        self.check()?;
        let mut table = self.to_table();
        retain(&mut table, &|key| keep(key) && self.unused(key).is_none());
        Ok(toml::to_string(&table).expect("a table of plain values is TOML"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::TASKS;

    /// A misspelt key would decide the numbers of the run after all.
    #[test]
    fn the_keys_that_may_change_exist() {
        for task in TASKS {
            let options = task.defaults();
            let named: Vec<&str> = MAY_CHANGE.iter().chain(options.may_change()).copied().collect();
            let keys = dotted_keys(&Recipe::with_defaults(options).to_table());
            for name in named {
                assert!(keys.iter().any(|key| key == name), "{name}");
            }
        }
    }
}
