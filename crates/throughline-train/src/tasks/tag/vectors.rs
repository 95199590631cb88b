//! Word vectors that others have trained, as the first rows of the embedding or as rows that stay.

use throughline_data::{Vocabulary, WordVectorReader, WordVectors};

use super::Options;
use crate::{Digest, Error, Result};

/// The vectors of the words of a vocabulary.
pub(super) struct Pretrained {
    vectors: WordVectors,
    words: usize,
    pub frozen: bool,
}

impl Pretrained {
    /// Reads the vectors that the options name, if they name any.
    pub fn read(options: &Options, words: &Vocabulary) -> Result<Option<Self>> {
        let settings = &options.vectors;
        if settings.vectors.as_os_str().is_empty() {
            return Ok(None);
        }
        let reader = WordVectorReader { lowercase: true };
        let vectors = reader.read(&settings.vectors, words.tokens())?;
        if vectors.dim() != options.embedded.embedding {
            let expected = format!("vectors of model.embedding = {} numbers", options.embedded.embedding);
            return Err(Error::file(&settings.vectors, "data.vectors", expected, vectors.dim()));
        }
        if vectors.found() == 0 {
            let expected = "vectors of words in the training split; check their language and data.lowercase";
            return Err(Error::file(&settings.vectors, "data.vectors", expected, "none"));
        }
        Ok(Some(Self { vectors, words: words.len(), frozen: settings.freeze_vectors }))
    }

    /// Each row of a table `[V, E]` whose word has a vector.
    fn rows<'a>(&'a self, table: &'a mut [f32]) -> impl Iterator<Item = (&'a mut [f32], &'a [f32])> {
        table.chunks_mut(self.vectors.dim()).enumerate().filter_map(|(word, row)| Some((row, self.vectors.get(word)?)))
    }

    /// Writes the vectors to the embedding.
    pub fn write(&self, table: &mut [f32]) {
        self.rows(table).for_each(|(row, vector)| row.copy_from_slice(vector));
    }

    /// Takes the gradients of frozen rows away, so that they count neither in an update nor in the norm of the gradient.
    pub fn clear_frozen(&self, gradients: &mut [f32]) {
        if self.frozen {
            self.rows(gradients).for_each(|(row, _)| row.fill(0.0));
        }
    }

    /// Takes the vectors into a digest: a run that is resumed must have the same.
    pub fn digest(&self, digest: &mut Digest) {
        for vector in (0..self.words).filter_map(|word| self.vectors.get(word)) {
            vector.iter().for_each(|number| digest.bytes(&number.to_le_bytes()));
        }
    }

    /// How many words have one, in words.
    pub fn describe(&self) -> String {
        let WordVectors { by_lowercase, duplicates, .. } = &self.vectors;
        let mut text = format!("of {} of {} words", self.vectors.found(), self.words);
        if *by_lowercase > 0 {
            text += &format!(", {by_lowercase} by their form in lower case");
        }
        if *duplicates > 0 {
            text += &format!("; {duplicates} repeated ones left out");
        }
        text + if self.frozen { "; frozen" } else { "; trained on" }
    }
}
