//! What a run keeps.

pub mod card;
pub mod checkpoint;
pub mod folder;
pub mod metrics;
pub(crate) mod name;
pub mod overview;
