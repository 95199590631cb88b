//! What a run keeps.

pub mod card;
pub mod checkpoint;
mod events;
pub mod folder;
pub mod metrics;
pub(crate) mod name;
pub mod overview;
