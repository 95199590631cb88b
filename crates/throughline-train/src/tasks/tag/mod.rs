//! Tagging: ragged batches of sentences of like length.

mod baseline;
mod options;
mod read;
mod vectors;

pub use options::{Options, Scheme, Sentences, Tagger, Vectors};

use std::collections::BTreeMap;
use std::path::PathBuf;

use throughline_data::{
    EntityTags, Glimpse, Split, Splits, TaggedFormat, TaggedSet, Unit, UnknownReplacement, Vocabulary,
};
use throughline_infer::tasks::{Tag, tag};
use throughline_infer::{Regularisation, Runner};
use throughline_nn::heads::Loss;
use throughline_nn::initialise::Initialise;
use throughline_nn::module::Pass;
use throughline_nn::network::Wanted;

use crate::learn::{
    DataRecord, Description, Examined, Learn, Learned, Measured, NetworkOf, Place, Score, Sign, SplitRecord,
    count_labels, key,
};
use crate::run::card::grouped;
use crate::tasks::shared::{Batches, check_names};
use crate::{Digest, Recipe, Result};
use vectors::Pretrained;

/// How the names of files with tagged sentences end.
pub(super) const ENDINGS: &[&str] = &["conllu", "conll", "iob", "iob2", "bio"];

/// The data of a tagger.
pub struct Words {
    options: Options,
    config: tag::Config,
    encoder: tag::Encoder,
    splits: Splits<tag::Sentences>,
    record: DataRecord,
    data: Splits<TaggedSet>,
    pretrained: Option<Pretrained>,
    unknown_words: UnknownReplacement,
    unknown_characters: UnknownReplacement,
    batches: Batches,
    batch: tag::Batch,
}

/// The encoder of a training split.
fn encoder(options: &Options, training: &TaggedSet) -> Result<tag::Encoder> {
    let sentences = &training.sentences;
    let words = || (0..sentences.len()).flat_map(|sentence| sentences.words(sentence));
    let lowercase = options.sentences.lowercase;
    let keys: Vec<String> = words().map(|word| tag::key(word, lowercase).into_owned()).collect();
    let known = options.known.vocabulary(Unit::Word);
    let vocabulary = Vocabulary::build(Unit::Word, keys.iter().map(String::as_str), known)?;
    let read = options.tagger.character_hidden > 0;
    let characters = read.then(|| Vocabulary::build(Unit::Char, words(), Default::default())).transpose()?;
    Ok(tag::Encoder {
        rules: options.cleaning.rules(),
        lowercase,
        words: vocabulary,
        characters,
        tags: training.tags.clone(),
        entities: EntityTags::new(&training.tags),
    })
}

impl Learn for Words {
    type Serve = Tag;
    type Options = Options;

    fn recognises(seen: &Glimpse) -> Option<Sign> {
        if seen.tagged == Some(TaggedFormat::Conllu) {
            return Some(Sign::Clear("sentences in CoNLL-U"));
        }
        let named = seen.ends_in(ENDINGS) || seen.is_folder_of(ENDINGS);
        named.then_some(Sign::Clear("a name that ends in .conllu, .conll, .iob or .bio"))
    }

    fn read(recipe: &Recipe) -> Result<Self> {
        let options = recipe.options::<Options>().clone();
        let data = read::read(&options)?;
        let encoder = encoder(&options, &data.train)?;
        let Options { cleaning, known, embedded, model, tagger, .. } = &options;
        let sentences = (0..data.train.sentences.len()).map(|sentence| data.train.tags_of(sentence));
        let scheme = match (tagger.scheme, &encoder.entities) {
            (Scheme::Of(scheme), Some(_)) => Some(scheme),
            (Scheme::Auto, Some(entities)) => Some(entities.scheme(sentences)),
            _ => None,
        };
        let config = tag::Config {
            recurrent: throughline_infer::RecurrentSettings {
                input: options.word_width(),
                ..model.settings(embedded.embedding, tagger.bidirectional)
            },
            vocabulary: encoder.words.len(),
            embedding: embedded.embedding,
            characters: encoder.characters.as_ref().and_then(|known| options.characters(known.len())),
            tags: encoder.tags.len(),
            crf: tagger.crf,
            scheme: scheme.filter(|_| tagger.crf),
            lowercase: encoder.lowercase,
            text: cleaning.rules(),
        };
        let pretrained = Pretrained::read(&options, &encoder.words)?;
        let encoded = |set: &TaggedSet| read::encode(&config, &encoder, set);
        let Splits { train, validation, test } = &data;
        let splits = Splits { train: encoded(train)?, validation: encoded(validation)?, test: encoded(test)? };
        let record = DataRecord::of("words", Splits { train, validation, test }, |set, into| {
            let of_training = pretrained.as_ref().filter(|_| std::ptr::eq(*set, train));
            of_training.into_iter().for_each(|pretrained| pretrained.digest(into));
            read::digest(set, into)
        });
        let train = &splits.train;
        let tokens: Vec<Vec<u32>> = train
            .words
            .iter()
            .map(|words| words.iter().map(|&form| train.forms[form as usize].token).collect())
            .collect();
        // Words and characters are counted alike, so each needs random numbers of its own.
        let replacement = |texts: Vec<&[u32]>, unit: Unit, stream: u64| {
            UnknownReplacement::new(texts, known.unknown_probability(unit), recipe.seed ^ (stream << 32))
        };
        let unknown_words = replacement(tokens.iter().map(Vec::as_slice).collect(), Unit::Word, 0);
        let spellings = train.forms.iter().map(|form| &form.characters[..]).collect();
        let unknown_characters = replacement(spellings, Unit::Char, 1);
        let lengths = train.words.iter().map(Vec::len).collect();
        let batches = Batches::new(lengths, recipe.train.batch, recipe.seed);
        let batch = tag::Batch::default();
        Ok(Self {
            options,
            config,
            encoder,
            splits,
            record,
            data,
            pretrained,
            unknown_words,
            unknown_characters,
            batches,
            batch,
        })
    }

    /// The format of the files.
    fn write_down(&self, recipe: &mut Recipe) {
        recipe.options_mut::<Options>().sentences.format = Some(self.data.train.sentences.format);
    }

    fn config(&self) -> &tag::Config {
        &self.config
    }

    fn encoder(&self) -> &tag::Encoder {
        &self.encoder
    }

    fn regularisation(recipe: &Recipe) -> Regularisation {
        let Options { embedded, model, .. } = recipe.options();
        embedded.regularisation(model)
    }

    fn initialise(recipe: &Recipe) -> Initialise {
        let Options { embedded, model, .. } = recipe.options();
        embedded.initialise(model, recipe.seed)
    }

    fn set_parameters(&self, network: &NetworkOf<Self>, parameters: &mut [f32], after_update: bool) {
        if let Some(pretrained) = self.pretrained.as_ref().filter(|pretrained| pretrained.frozen || !after_update) {
            let table = network.body().first().embedding().table();
            pretrained.write(network.layout().view_mut(parameters, table));
        }
    }

    fn batches_per_epoch(&self) -> u64 {
        self.batches.per_epoch()
    }

    fn weight(&mut self, place: Place) -> f64 {
        let tags = &self.splits.train.tags;
        self.batches.at(place).iter().map(|&index| tags[index].len()).sum::<usize>() as f64
    }

    fn learn(
        &mut self,
        place: Place,
        normaliser: f64,
        pass: Pass,
        runner: &mut Runner<'_, Tag>,
        gradients: &mut [f32],
    ) -> Learned {
        let (set, indices) = (&self.splits.train, self.batches.at(place));
        let words: Vec<&[u32]> = indices.iter().map(|&index| &set.words[index][..]).collect();
        let tags: Vec<&[u32]> = indices.iter().map(|&index| &set.tags[index][..]).collect();
        let unknown_words = self.unknown_words.epoch(place.epoch);
        let unknown_characters = self.unknown_characters.epoch(place.epoch);
        self.batch.set(
            &set.forms,
            &words,
            |sentence, position, token| unknown_words.token(indices[sentence] as u64, position as u64, token),
            |form, position, character| unknown_characters.token(u64::from(form), position as u64, character),
        );
        let targets = self.batch.targets(&tags);
        let Runner { network, weights, workspace } = runner;
        let wanted = Wanted { normaliser: Some(normaliser), ..Wanted::new(&targets[..]) };
        let loss = network.learn(*weights, self.batch.input(), wanted, pass, gradients, workspace);
        if let Some(pretrained) = &self.pretrained {
            let table = network.body().first().embedding().table();
            pretrained.clear_frozen(network.layout().view_mut(gradients, table));
        }
        Learned { loss, units: self.batch.rows() }
    }

    fn data(&self, split: Split) -> &tag::Sentences {
        self.splits.of(split)
    }

    fn baselines(&self) -> Result<Vec<Score>> {
        Ok(baseline::scores(&self.encoder, &self.data))
    }

    fn training_metrics(loss: &Loss) -> BTreeMap<String, f64> {
        BTreeMap::from([("accuracy".to_owned(), loss.correct / loss.weight)])
    }

    fn record(&self) -> DataRecord {
        self.record.clone()
    }

    fn describe(&self) -> Description {
        let of_split = |split: Split| {
            let (set, name) = (self.splits.of(split), split.name());
            let words = grouped(set.words.iter().map(Vec::len).sum::<usize>());
            (format!("{name} split"), format!("{} sentences of {words} words", grouped(set.words.len())))
        };
        let mut data: Vec<(String, String)> = Split::ALL.into_iter().map(of_split).collect();
        data.push(("format".to_owned(), self.data.train.sentences.format.to_string()));
        let Sentences { word_column, tag_column, .. } = &self.options.sentences;
        let [words, tags] = match self.data.train.sentences.format {
            TaggedFormat::Conllu => ["FORM", "UPOS"],
            _ => ["the first", "the last"],
        };
        let given = |column: &str, otherwise: &str| if column.is_empty() { otherwise } else { column }.to_owned();
        let columns = format!("words {}, tags {}", given(word_column, words), given(tag_column, tags));
        data.push(("columns".to_owned(), columns));
        let characters = self.encoder.characters.as_ref();
        let characters = characters.map_or_else(String::new, |known| format!(", {} characters", grouped(known.len())));
        data.push(("vocabulary".to_owned(), format!("{} words{characters}", grouped(self.encoder.words.len()))));
        data.extend(self.pretrained.as_ref().map(|vectors| ("word vectors".to_owned(), vectors.describe())));
        data.push(("tags".to_owned(), grouped(self.encoder.tags.len())));
        data.extend(read::entities(&self.data).map(|entities| ("entities".to_owned(), entities)));
        let Tagger { bidirectional, character_embedding, character_hidden, crf, .. } = self.options.tagger;
        let mut described =
            self.options.embedded.describe(&self.options.model, &self.options.files, "words", bidirectional);
        if character_hidden > 0 {
            let read = format!("{character_embedding} numbers each, {character_hidden} hidden units in each direction");
            described.sizes.push(("characters".to_owned(), read));
        }
        let choice = match (crf, self.config.scheme) {
            (false, _) => "word by word".to_owned(),
            (true, None) => "a conditional random field".to_owned(),
            (true, Some(scheme)) => format!("a conditional random field that keeps to {scheme}"),
        };
        described.sizes.push(("choice of tags".to_owned(), choice));
        let mut warnings = read::warnings(&self.options, &self.data.train);
        warnings.extend(self.options.files.warning_of_repetition());
        Description { data, warnings, ..described }
    }

    fn examine(&self, split: Split) -> Examined {
        let (sentences, set) = (self.splits.of(split), self.data.of(split));
        let words = sentences.words.iter().flatten().map(|&form| sentences.forms[form as usize].token);
        Examined {
            what: "sentences",
            lengths: sentences.words.iter().map(Vec::len).collect(),
            keys: (0..set.sentences.len()).map(|index| key(set.sentences.words(index).collect::<Vec<_>>())).collect(),
            labels: count_labels(&self.encoder.tags, sentences.tags.iter().flatten().copied()),
            unknown_share: Vocabulary::unknown_share(&words.collect::<Vec<_>>()),
        }
    }

    fn measured(
        recipe: &Recipe,
        config: &tag::Config,
        encoder: &tag::Encoder,
        paths: &[PathBuf],
    ) -> Result<Measured<tag::Sentences>> {
        let options = recipe.options::<Options>();
        let (set, what) = if paths.is_empty() {
            (read::read(options)?.test, "test split".to_owned())
        } else {
            let set = read::reader(options, Some(encoder.tags.clone()))?.read(paths)?;
            let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            (set, names.join(", "))
        };
        check_names(options.files.place(), "tags", &set.tags, &encoder.tags)?;
        let data = read::encode(config, encoder, &set)?;
        let record = paths.is_empty().then(|| {
            let mut sum = Digest::default();
            let count = read::digest(&set, &mut sum);
            SplitRecord { count, digest: sum.finish() }
        });
        Ok(Measured { data, what, notes: Vec::new(), record })
    }
}
