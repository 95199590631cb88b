//! Settings that several tasks have.

mod cell;
mod recurrent;
mod text;

pub use recurrent::{EmbeddingStart, RecurrentModel};
pub use text::{KnownUnits, Normalise, TextFiles, TextUnits};
pub(crate) use text::{check_names, skipped_notes, text_counts};
