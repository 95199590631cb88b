//! The tasks: what each has of its own lies in its folder.

pub mod classify;
pub mod lm;
pub mod shared;

use crate::recipe::{SettingsOf, TaskSettings};

/// Every task, in the order in which people read of them.
pub static TASKS: &[&dyn TaskSettings] = &[&SettingsOf::<lm::Options>::TASK, &SettingsOf::<classify::Options>::TASK];

/// The task called `name`.
pub fn find(name: &str) -> Option<&'static dyn TaskSettings> {
    TASKS.iter().copied().find(|task| task.name() == name)
}
