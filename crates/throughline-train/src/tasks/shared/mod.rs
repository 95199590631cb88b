//! Settings that several tasks have.

mod batches;
mod cell;
mod class_weights;
mod embedding;
mod files;
mod reading;
mod recurrent;
mod series;
mod text;

pub(crate) use batches::Batches;
pub use class_weights::{ClassWeighting, ClassWeights};
pub(crate) use class_weights::{weight_of, weighted};
pub use embedding::{EmbeddingModel, EmbeddingStart};
pub use files::DataFiles;
pub use reading::Reading;
pub use recurrent::RecurrentModel;
pub(crate) use series::{MeasuredSeries, SeriesData, check_columns, check_lengths, ts_says};
pub use series::{SeriesForm, SeriesTables};
pub use text::{KnownUnits, Normalise, TextCleaning, TextUnits};
pub(crate) use text::{check_names, skipped_notes, text_counts};
