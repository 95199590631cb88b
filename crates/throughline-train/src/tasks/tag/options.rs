//! The settings of taggers.

use std::path::PathBuf;

use throughline_data::{TagScheme, TaggedFormat, Unit};
use throughline_infer::Serve;
use throughline_infer::tasks::Tag;
use throughline_infer::tasks::tag::Characters;

use crate::Result;
use crate::recipe::{Check, LARGEST_SIZE, TaskOptions, Train, options, settings};
use crate::tasks::shared::{DataFiles, EmbeddingModel, KnownUnits, RecurrentModel, TextCleaning};

options! {
    /// The settings that a tagger has beside those of every task.
    pub struct Options {
        /// Where the sentences are.
        [data] files: DataFiles,
        /// How their words are cleaned.
        [data] cleaning: TextCleaning,
        /// The words that the model knows.
        [data] known: KnownUnits,
        /// How sentences lie in the files.
        [data] sentences: Sentences,
        /// The word vectors to begin with.
        [data] vectors: Vectors,
        /// The embedding of words.
        [model] embedded: EmbeddingModel,
        /// The recurrent layers.
        [model] model: RecurrentModel,
        /// How words are read and tags are chosen.
        [model] tagger: Tagger,
    }
}

settings! {
    /// In table `[data]`: how sentences lie in the files.
    pub struct Sentences {
        /// `"auto"` (found out from the files), `"conllu"` or `"columns"` (a word on each line, a blank line after each
        /// sentence; columns between tabs or spaces).
        #[serde(with = "auto_or_format")]
        format: Option<TaggedFormat> = None,
        /// Column of the words: a number from 1, or from -1 backwards, or a name of CoNLL-U or of the header. Empty: `FORM`
        /// in CoNLL-U, else the first.
        word_column: String = String::new(),
        /// Column of the tags, given like `word_column`. Empty: `UPOS` in CoNLL-U, else the last.
        tag_column: String = String::new(),
        /// Lines that begin with `#` are comments in files of columns, too.
        comments: bool = false,
        /// Look words up in lower case; their characters are read as they are.
        lowercase: bool = false,
    }
}

settings! {
    /// In table `[data]`: word vectors that others have trained.
    pub struct Vectors {
        /// A text file of GloVe, word2vec or fastText, whose vectors of the words in the training split the embedding begins
        /// with; a word that is not in it takes the vector of its form in lower case. Empty: none.
        vectors: PathBuf = PathBuf::new(),
        /// Leave these vectors as they are; all other words are trained.
        freeze_vectors: bool = false,
    }
}

settings! {
    /// In table `[model]`: how words are read and tags are chosen.
    pub struct Tagger {
        /// Read each sentence in both directions.
        bidirectional: bool = true,
        /// Numbers per embedded character, 1 to 65536.
        character_embedding: usize = 32,
        /// Hidden units per direction of the layer that reads the characters of a word, 0 to 65536; 0: words are read whole.
        character_hidden: usize = 64,
        /// Choose the tags of a sentence together, by a conditional random field (Lafferty et al. 2001), and not each on its
        /// own.
        crf: bool = false,
        /// What the chosen tags must follow where they mark entities, with `crf`: `"auto"` (the scheme of the training split),
        /// `"none"`, `"bio"`, `"iob1"` or `"iobes"`. The model is trained without it.
        #[serde(with = "scheme_name")]
        scheme: Scheme = Scheme::Auto,
    }
}

/// The scheme that chosen tags must follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// That of the training split.
    #[default]
    Auto,
    /// Any tag may follow any other.
    None,
    /// This one.
    Of(TagScheme),
}

impl Options {
    /// How the characters of words are read; `vocabulary` of them are known.
    pub(super) fn characters(&self, vocabulary: usize) -> Option<Characters> {
        let Tagger { character_embedding: embedding, character_hidden: hidden, .. } = self.tagger;
        (hidden > 0).then_some(Characters { vocabulary, embedding, hidden })
    }

    /// Columns of a word and what is read from its characters.
    pub(super) fn word_width(&self) -> usize {
        self.embedded.embedding + 2 * self.tagger.character_hidden
    }
}

impl TaskOptions for Options {
    const NAME: &'static str = Tag::INFO.name;

    fn check(&self, train: &Train, check: &Check<'_>) -> Result<()> {
        self.files.check(check)?;
        self.cleaning.check(check)?;
        self.known.check(check)?;
        let readable = self.sentences.format != Some(TaggedFormat::Lines);
        let path = self.vectors.vectors.to_str().is_some();
        check.require("data.vectors", path, "a path in Unicode", &self.vectors.vectors)?;
        check.require("data.format", readable, "a format that has tags, `conllu` or `columns`", "lines")?;
        check.within("model.character_embedding", self.tagger.character_embedding, 1..=LARGEST_SIZE)?;
        check.within("model.character_hidden", self.tagger.character_hidden, 0..=LARGEST_SIZE)?;
        self.embedded.check(&self.model, train, self.tagger.bidirectional, check)
    }

    fn unused(&self, key: &str) -> Option<&'static str> {
        let Tagger { bidirectional, character_hidden, crf, .. } = self.tagger;
        let (used, with) = match key {
            "train.checkpoint_every" => (!bidirectional, "model.bidirectional = false"),
            "model.character_embedding" => (character_hidden > 0, "model.character_hidden above 0"),
            "data.freeze_vectors" => (!self.vectors.vectors.as_os_str().is_empty(), "data.vectors"),
            "model.scheme" => (crf, "model.crf = true"),
            _ => return self.known.unused(Unit::Word, key).or_else(|| self.embedded.unused(&self.model, key)),
        };
        (!used).then_some(with)
    }
}

/// [`Sentences::format`] in TOML: `None` is `"auto"`.
mod auto_or_format {
    use serde::de::{Deserializer, Error};
    use serde::{Deserialize, Serializer};
    use throughline_data::TaggedFormat;

    const AUTO: &str = "auto";

    pub fn serialize<S: Serializer>(format: &Option<TaggedFormat>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(format.map_or(AUTO, TaggedFormat::name))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TaggedFormat>, D::Error> {
        let name = String::deserialize(deserializer)?;
        let format = TaggedFormat::ALL.into_iter().find(|format| format.name() == name);
        if format.is_none() && name != AUTO {
            return Err(D::Error::custom("expected one of `auto`, `conllu`, `columns`"));
        }
        Ok(format)
    }
}

/// [`Scheme`] in TOML.
mod scheme_name {
    use serde::de::{Deserializer, Error};
    use serde::{Deserialize, Serializer};
    use throughline_data::TagScheme;

    use super::Scheme;

    const AUTO: &str = "auto";
    const NONE: &str = "none";

    pub fn serialize<S: Serializer>(scheme: &Scheme, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match scheme {
            Scheme::Auto => AUTO,
            Scheme::None => NONE,
            Scheme::Of(scheme) => scheme.name(),
        })
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Scheme, D::Error> {
        let name = String::deserialize(deserializer)?;
        match TagScheme::ALL.into_iter().find(|scheme| scheme.name() == name) {
            Some(scheme) => Ok(Scheme::Of(scheme)),
            None if name == AUTO => Ok(Scheme::Auto),
            None if name == NONE => Ok(Scheme::None),
            None => Err(D::Error::custom("expected one of `auto`, `none`, `bio`, `iob1`, `iobes`")),
        }
    }
}
