//! Sentences of words, and the tag of each word.

use std::ops::Range;
use std::path::PathBuf;

use crate::labelled::LabelledSet;
use crate::printable::Shown;

mod columns;
pub(crate) mod format;
pub(crate) mod reader;

use format::TaggedFormat;

/// Sentences of words, and where they came from.
///
/// The words of all sentences stand one after another in a single text, so that a corpus takes little more memory than
/// its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sentences {
    /// The words of all sentences, one after another.
    text: String,
    /// Where each word ends in `text`.
    ends: Vec<usize>,
    sentences: Vec<Sentence>,
    /// The files read.
    pub files: Vec<PathBuf>,
    /// How many `-DOCSTART-` lines were left out, each of which begins a document.
    pub documents: usize,
    /// The format of all files, given or detected. Whoever reads more data of the same kind should give it.
    pub format: TaggedFormat,
}

/// A sentence, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sentence {
    /// Its words; at least one.
    words: Range<usize>,
    /// The file it was read from, an index into [`Sentences::files`].
    file: u32,
    /// The line of its first word, from 1.
    line: usize,
}

impl Sentences {
    fn new(format: TaggedFormat) -> Self {
        let (text, ends, sentences, files) = Default::default();
        Self { text, ends, sentences, files, documents: 0, format }
    }

    /// The number of sentences.
    pub fn len(&self) -> usize {
        self.sentences.len()
    }

    /// Whether there is no sentence. A set that was read has at least one.
    pub fn is_empty(&self) -> bool {
        self.sentences.is_empty()
    }

    /// The number of words of all sentences.
    pub fn word_count(&self) -> usize {
        self.ends.len()
    }

    /// The number of words of each sentence, each at least 1.
    pub fn lengths(&self) -> Vec<usize> {
        self.sentences.iter().map(|sentence| sentence.words.len()).collect()
    }

    /// The words of a sentence, cleaned and without the white space around them; none is empty. In files with tabs they
    /// may hold spaces.
    ///
    /// # Panics
    /// If there is no such sentence.
    pub fn words(&self, sentence: usize) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.sentences[sentence].words.clone().map(|word| {
            let start = word.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.text[start..self.ends[word]]
        })
    }

    /// `file:line` of the first word of a sentence, for a message.
    ///
    /// # Panics
    /// If there is no such sentence.
    pub fn place(&self, sentence: usize) -> String {
        let Sentence { file, line, .. } = self.sentences[sentence];
        format!("{}:{line}", Shown(&self.files[file as usize]))
    }

    /// These sentences alone, in this order; everything else stays as it is.
    ///
    /// # Panics
    /// If an index is not below the number of sentences.
    pub fn select(&self, sentences: &[usize]) -> Self {
        let mut selected = Self { files: self.files.clone(), documents: self.documents, ..Self::new(self.format) };
        for &sentence in sentences {
            let begin = selected.ends.len();
            self.words(sentence).for_each(|word| selected.push_word(word));
            let Sentence { file, line, .. } = self.sentences[sentence];
            selected.sentences.push(Sentence { words: begin..selected.ends.len(), file, line });
        }
        selected
    }

    fn push_word(&mut self, word: &str) {
        self.text += word;
        self.ends.push(self.text.len());
    }
}

/// Sentences in which each word has a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaggedSet {
    /// The names of the tags: those given, or those found, ordered by code point.
    pub tags: Vec<String>,
    /// The sentences in the order in which they were read.
    pub sentences: Sentences,
    /// The tag of each word of all sentences.
    word_tags: Vec<u32>,
}

impl TaggedSet {
    /// The most different tags a set may have. More of them mean that a column of numbers or of words was taken for the
    /// tags.
    pub const MAX_TAGS: usize = LabelledSet::MAX_CLASSES;

    /// The tags of the words of a sentence, as indices into [`tags`](Self::tags).
    ///
    /// # Panics
    /// If there is no such sentence.
    pub fn tags_of(&self, sentence: usize) -> &[u32] {
        &self.word_tags[self.sentences.sentences[sentence].words.clone()]
    }

    /// The tags of the words of all sentences, one after another.
    pub fn word_tags(&self) -> &[u32] {
        &self.word_tags
    }

    /// A set of these sentences alone, in this order; everything else stays as it is.
    ///
    /// # Panics
    /// If an index is not below the number of sentences.
    pub fn select(&self, sentences: &[usize]) -> Self {
        let word_tags = sentences.iter().flat_map(|&sentence| self.tags_of(sentence)).copied().collect();
        Self { tags: self.tags.clone(), sentences: self.sentences.select(sentences), word_tags }
    }
}
