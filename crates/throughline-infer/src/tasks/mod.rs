//! The tasks: each has a file, and a line in [`ALL`].

pub mod classify;
pub mod classify_series;
pub mod lm;
pub mod regress;
pub mod roll;
pub mod tag;

pub use classify::Classify;
pub use classify_series::ClassifySeries;
pub use lm::LanguageModel;
pub use regress::Regress;
pub use roll::Roll;
pub use tag::Tag;

use crate::error::Result;
use crate::files::Files;
use crate::model::{Model, Served};
use crate::serve::{Info, Serve};

/// A task as the registry knows it.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The name and description of the task.
    pub info: &'static Info,
    /// Opens a model of the task.
    pub(crate) open: fn(&Files, Option<usize>) -> Result<Model>,
}

impl Entry {
    const fn of<T: Serve>() -> Self {
        Self { info: &T::INFO, open: |files, threads| Ok(Model::of(Served::<T>::open(files, threads)?)) }
    }
}

/// Every task.
pub const ALL: &[Entry] = &[
    Entry::of::<LanguageModel>(),
    Entry::of::<Classify>(),
    Entry::of::<Tag>(),
    Entry::of::<ClassifySeries>(),
    Entry::of::<Regress>(),
    Entry::of::<Roll>(),
];
