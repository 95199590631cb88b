//! Tagged sentences from files into splits.

use std::path::PathBuf;

use throughline_data::{EntityTags, Split, Splits, TaggedReader, TaggedSet};
use throughline_infer::tasks::tag;

use super::{Options, Scheme};
use crate::run::card::grouped;
use crate::{Digest, Error, Result};

/// The reader that a recipe asks for, with the tags where they are known.
pub(super) fn reader(options: &Options, tags: Option<Vec<String>>) -> Result<TaggedReader> {
    let column = |name: &str| (!name.is_empty()).then(|| name.to_owned());
    Ok(TaggedReader {
        text: options.cleaning.reader()?,
        format: options.sentences.format,
        word_column: column(&options.sentences.word_column),
        tag_column: column(&options.sentences.tag_column),
        comments: options.sentences.comments,
        tags,
    })
}

/// Reads the sentences of a recipe and divides them into splits, in the order of the files.
///
/// Sentences of a text stand in an order, and neighbours are alike: divided at random, the splits would share documents, and
/// scores would be better than on new text.
pub(super) fn read(options: &Options) -> Result<Splits<TaggedSet>> {
    let files = &options.files;
    files.check_twice()?;
    let mut set = reader(options, None)?.read(&files.paths)?;
    if files.limit > 0 {
        set = set.select(&(0..set.sentences.len().min(files.limit)).collect::<Vec<_>>());
    }
    let format = set.sentences.format;
    let own = |paths: &[PathBuf], cut: std::ops::Range<usize>| -> Result<TaggedSet> {
        if paths.is_empty() {
            return Ok(set.select(&cut.collect::<Vec<_>>()));
        }
        let reader = TaggedReader { format: Some(format), ..reader(options, Some(set.tags.clone()))? };
        Ok(reader.read(paths)?)
    };
    let ranges = files.fractions()?.ranges(set.sentences.len());
    let splits = Splits {
        train: own(&[], ranges.train)?,
        validation: own(&files.validation, ranges.validation)?,
        test: own(&files.test, ranges.test)?,
    };
    for split in [Split::Train, Split::Validation] {
        if splits.of(split).sentences.is_empty() {
            let expected = "at least one sentence; give more sentences, with a blank line after each, or a larger share in data.split";
            return Err(Error::file(options.files.place(), &format!("{} split", split.name()), expected, "none"));
        }
    }
    Ok(splits)
}

/// The sentences as forms and tags. One that does not fit the memory must not end the program later.
pub(super) fn encode(config: &tag::Config, encoder: &tag::Encoder, set: &TaggedSet) -> Result<tag::Sentences> {
    let longest = config.longest();
    let mut forms = tag::FormEncoder::new(encoder);
    let mut encoded = tag::Sentences::default();
    for sentence in 0..set.sentences.len() {
        let words = set.sentences.words(sentence);
        if words.len() > longest {
            let expected = format!("at most {longest} words, which is what fits the memory for one sentence");
            let found = format!("{} words", words.len());
            return Err(Error::file(set.sentences.place(sentence).as_ref(), "sentence", expected, found));
        }
        encoded.words.push(words.map(|word| forms.index(word)).collect());
        encoded.tags.push(set.tags_of(sentence).to_vec());
    }
    encoded.forms = forms.finish();
    Ok(encoded)
}

/// Takes a set into a digest: each sentence's words with the names of their tags. Returns how many words there are.
pub(super) fn digest(set: &TaggedSet, digest: &mut Digest) -> usize {
    for sentence in 0..set.sentences.len() {
        let tags = set.tags_of(sentence);
        digest.tokens(&[tags.len() as u32]);
        for (word, &tag) in set.sentences.words(sentence).zip(tags) {
            for text in [word, &set.tags[tag as usize]] {
                digest.tokens(&[text.len() as u32]);
                digest.bytes(text.as_bytes());
            }
        }
    }
    set.sentences.word_count()
}

/// What to say of the tags of entities in the splits: their scheme and what breaks it. Nothing where tags mark no entities.
pub(super) fn entities(splits: &Splits<TaggedSet>) -> Option<String> {
    let entities = EntityTags::new(&splits.train.tags)?;
    let sentences =
        |set: &TaggedSet| (0..set.sentences.len()).map(|index| set.tags_of(index).to_vec()).collect::<Vec<_>>();
    let scheme = entities.scheme(sentences(&splits.train).iter().map(Vec::as_slice));
    let invalid = Split::ALL.map(|split| {
        let of_split = sentences(splits.of(split));
        let count: u64 = of_split.iter().map(|tags| entities.invalid_transitions(scheme, tags)).sum();
        (count > 0).then(|| format!("{count} invalid transitions in the {} split", split.name()))
    });
    let invalid: Vec<String> = invalid.into_iter().flatten().collect();
    let invalid = if invalid.is_empty() { String::new() } else { format!(", with {}", invalid.join(", ")) };
    Some(format!("{} types, written as {scheme}{invalid}", entities.types().len()))
}

/// What may be wrong with the tags, a sentence each: some that mark no entity among others that do, a scheme that the data
/// break, a scheme for tags that mark no entities.
pub(super) fn warnings(options: &Options, training: &TaggedSet) -> Vec<String> {
    let marks = |tag: &String| EntityTags::new(std::slice::from_ref(tag)).is_some();
    let scheme = match options.tagger.scheme {
        Scheme::Of(scheme) if options.tagger.crf => Some(scheme),
        _ => None,
    };
    let Some(entities) = EntityTags::new(&training.tags) else {
        let marking = training.tags.iter().filter(|tag| tag.contains('-') && marks(tag)).count();
        let others: Vec<String> =
            training.tags.iter().filter(|tag| *tag != "O" && !marks(tag)).map(|tag| format!("{tag:?}")).collect();
        let mixed = (marking > others.len()).then(|| {
            format!(
                "entities are not scored: most tags mark entities, but not {}; a header is left out where data.word_column names \
                 a column",
                others.join(", ")
            )
        });
        let unused =
            scheme.map(|scheme| format!("model.scheme = \"{scheme}\" has no effect: the tags mark no entities"));
        return mixed.into_iter().chain(unused).collect();
    };
    let broken = scheme.and_then(|scheme| {
        let sentences = (0..training.sentences.len()).map(|sentence| training.tags_of(sentence));
        let count: u64 = sentences.map(|tags| entities.invalid_transitions(scheme, tags)).sum();
        (count > 0).then(|| {
            format!(
                "the training split breaks model.scheme = \"{scheme}\" in {} places, and no answer will do as it does there",
                grouped(count as usize)
            )
        })
    });
    broken.into_iter().collect()
}
