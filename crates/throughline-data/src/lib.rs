//! Data for Throughline: from files to batches, with baselines and metrics.
//!
//! Every text is cleaned by the same [`TextRules`], whether it comes from files ([`TextReader`], [`LabelledReader`]), a
//! stream ([`BoundedLines`]) or a caller. Vocabularies and models see only clean text.
//!
//! For a language model: a text split in order ([`Fractions::split_text`]), a [`Vocabulary`] of the training split, and
//! parallel [`Streams`] of tokens. The baseline is an [`NgramModel`].
//!
//! For a classifier: a [`LabelledSet`] from tables, folders or lists, split class by class ([`Fractions::stratified`])
//! with no example in two splits ([`shared_examples`], [`remove_duplicates`]), and batches of similar length
//! ([`LengthBuckets`]). The baselines are [`NaiveBayes`] and the [`majority_class`]; errors are counted in a
//! [`ConfusionMatrix`].
//!
//! For a tagger: a [`TaggedSet`] from CoNLL-U or column files ([`TaggedReader`]), with a tag for each word of a sentence.
//! Tags that mark entities ([`EntityTags`]) are scored by [`EntityScores`]. Pretrained word vectors are read by a
//! [`WordVectorReader`].
//!
//! For series of numbers: a [`SeriesSet`] from `.ts` files or tables ([`SeriesReader`]), with a class or numbers to predict for
//! each, and a [`Scale`] for each channel, fitted on the training split.
//!
//! For music: [`Pieces`] from MIDI files and from piano rolls in JSON ([`PieceReader`]), as the [`Pitches`] that sound at
//! each step. What a model finds is scored by [`FrameScores`].
//!
//! Files are checked strictly: anything wrong is an [`Error`] that says where, and what is not read of a folder is
//! listed ([`Skipped`]). Everything random depends only on a seed.
//!
//! ```
//! use throughline_data::{Fractions, Streams, Unit, Vocabulary, VocabularyOptions, interpolated_entropy};
//!
//! # fn main() -> throughline_data::Result<()> {
//! let text = "to be or not to be, that is the question: ".repeat(30);
//! let splits = Fractions::new(0.8, 0.1, 0.1)?.split_text(&text, Unit::Char);
//! let vocabulary = Vocabulary::build(Unit::Char, [splits.train], VocabularyOptions::default())?;
//! let splits = splits.map(|text| vocabulary.encode(text));
//!
//! let bigram = interpolated_entropy(&splits.train, &splits.test, vocabulary.len(), 2)?;
//! println!("to beat: {bigram:.3} nats per character");
//!
//! let streams = Streams::new(splits.train, 4, 16)?;
//! for index in 0..streams.steps() {
//!     let window = streams.step(index);
//!     assert_eq!(window.inputs.len(), window.time * streams.batch());
//! }
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod batching;
mod clean;
mod compressed;
mod decoded;
mod entities;
mod error;
mod folder;
mod format;
mod glimpse;
mod labelled;
mod labels;
mod lines;
mod metrics;
mod naive_bayes;
mod ngram;
mod printable;
mod roll;
mod series;
mod split;
mod table;
mod tagged;
#[cfg(test)]
mod testing;
mod text;
mod trie;
mod unit;
mod unknown;
mod vocabulary;
mod word_vectors;

pub use batching::{LengthBuckets, StreamWindow, Streams};
pub use clean::TextRules;
pub use entities::{Entity, EntityTags, TagScheme};
pub use error::{Error, Result};
pub use folder::{SkipReason, Skipped};
pub use format::Format;
pub use glimpse::{FolderGlimpse, Glimpse};
pub use labelled::columns::TextColumn;
pub use labelled::duplicates::{SharedExample, remove_duplicates, shared_examples};
pub use labelled::reader::LabelledReader;
pub use labelled::{Example, LabelledSet};
pub use lines::{BoundedLines, Chunk, Line};
pub use metrics::entities::EntityScores;
pub use metrics::frames::FrameScores;
pub use metrics::residuals::Regressed;
pub use metrics::{ClassScores, ConfusionMatrix, majority_class};
pub use naive_bayes::{NaiveBayes, NaiveBayesOptions};
pub use ngram::{NgramModel, interpolated_entropy};
pub use printable::{PRINTABLE_WIDTH, printable, printable_text};
pub use roll::json::{Wrong, piano_roll_from_json, piano_roll_to_json};
pub use roll::midi::piano_roll_to_midi;
pub use roll::reader::{PieceReader, Pieces};
pub use roll::{PianoRoll, Pitches};
pub use series::reader::{SeriesReader, WantedAnswers};
pub use series::scaling::{MissingNumbers, Scale, Scaling};
pub use series::{Answers, SeriesFormat, SeriesSet};
pub use split::{Fractions, Split, Splits, first_units};
pub use table::TABLE_ENDINGS;
#[cfg(feature = "parquet")]
pub use table::parquet::{
    arrays::{ParquetArray, write_parquet_arrays},
    reader::panic_is_caught,
    writer::ParquetWriter,
};
pub use tagged::format::TaggedFormat;
pub use tagged::reader::TaggedReader;
pub use tagged::{Sentences, TaggedSet};
pub use text::{Document, TextReader, Texts, join_texts};
pub use unit::Unit;
pub use unknown::{UnknownEpoch, UnknownReplacement};
pub use vocabulary::{Decoder, UNKNOWN, UNKNOWN_TOKEN, Vocabulary, VocabularyOptions};
pub use word_vectors::{WordVectorReader, WordVectors};
