//! Classification of texts: ragged batches of texts of like length.

mod options;
mod read;

pub use options::{Examples, Options};

use std::collections::BTreeMap;
use std::path::PathBuf;

use throughline_data::{
    Format, Glimpse, LabelledSet, NaiveBayes, NaiveBayesOptions, Split, Splits, TaggedFormat, UnknownReplacement,
    Vocabulary, majority_class, shared_examples,
};
use throughline_infer::tasks::{Classify, classify};
use throughline_infer::{Regularisation, Runner, Serve, TextEncoder};
use throughline_nn::heads::Loss;
use throughline_nn::initialise::Initialise;
use throughline_nn::module::Pass;
use throughline_nn::network::Wanted;

use crate::learn::{
    DataRecord, Description, Examined, Learn, Learned, Measured, NetworkOf, Place, Score, Sign, SplitRecord,
    count_labels, key,
};
use crate::run::card::grouped;
use crate::tasks::shared::{Batches, check_names, text_counts, weight_of, weighted};
use crate::{Digest, Error, Recipe, Result};
use read::Labelled;

/// The data of a classifier.
pub struct Texts {
    options: Options,
    config: classify::Config,
    encoder: classify::Encoder,
    splits: Splits<classify::Texts>,
    record: DataRecord,
    data: Labelled,
    unknown: UnknownReplacement,
    class_weights: Option<Vec<f64>>,
    batches: Batches,
    batch: classify::Batch,
}

/// The tokens and classes of examples.
fn encode(encoder: &TextEncoder, longest: usize, set: &LabelledSet) -> classify::Texts {
    let tokens = set.examples.iter().map(|example| encoder.encode_example(&example.text, longest)).collect();
    classify::Texts { tokens, classes: set.classes() }
}

/// Takes a set into a digest: texts and the names of their classes, in their order.
fn digest(set: &LabelledSet, digest: &mut Digest) -> usize {
    for example in &set.examples {
        for text in [&set.labels[example.label as usize], &example.text] {
            digest.tokens(&[text.len() as u32]);
            digest.bytes(text.as_bytes());
        }
    }
    set.examples.len()
}

/// A text that does not fit the memory must not end the program later.
fn check_lengths(config: &classify::Config, set: &LabelledSet, texts: &classify::Texts) -> Result<()> {
    let longest = config.longest();
    let Some(index) = texts.tokens.iter().position(|tokens| tokens.len() > longest) else { return Ok(()) };
    let expected = format!("at most {longest} units, which is what fits the memory for one text; set data.max_length");
    let found = format!("{} units", texts.tokens[index].len());
    Err(Error::file(set.place(index).as_ref(), "text", expected, found))
}

impl Learn for Texts {
    type Serve = Classify;
    type Options = Options;

    fn recognises(seen: &Glimpse) -> Option<Sign> {
        if seen.has_columns(&["text", "label"]) {
            return Some(Sign::Clear("the columns `text` and `label`"));
        }
        if seen.labelled == Some(Format::LabelFirst) && seen.tagged != Some(TaggedFormat::Conllu) {
            return Some(Sign::Clear("a label at the beginning of each line"));
        }
        let of_folders = seen.folder.as_ref().is_some_and(|folder| folder.of_folders);
        (of_folders && seen.is_folder_of(&["txt", ""])).then_some(Sign::Clear("a folder of texts for each class"))
    }

    fn read(recipe: &Recipe) -> Result<Self> {
        let options = recipe.options::<Options>().clone();
        let data = Labelled::read(&options, recipe.seed)?;
        let Options { cleaning, units, known, embedded, model, examples, reading, weighting, .. } = &options;
        let training = data.splits.train.examples.iter().map(|example| example.text.as_str());
        let vocabulary = Vocabulary::build(units.unit, training, known.vocabulary(units.unit))?;
        let config = classify::Config {
            recurrent: model.settings(embedded.embedding, reading.bidirectional),
            vocabulary: vocabulary.len(),
            classes: data.splits.train.labels.len(),
            pooling: reading.pooling,
            max_length: examples.max_length,
            text: cleaning.rules(),
        };
        let labels = data.splits.train.labels.clone();
        let encoder = classify::Encoder { text: TextEncoder { rules: cleaning.rules(), vocabulary }, labels };
        let encoded = |set: &LabelledSet| -> Result<classify::Texts> {
            let texts = encode(&encoder.text, examples.max_length, set);
            check_lengths(&config, set, &texts)?;
            Ok(texts)
        };
        let Splits { train, validation, test } = &data.splits;
        let splits = Splits { train: encoded(train)?, validation: encoded(validation)?, test: encoded(test)? };
        let record = DataRecord::of("texts", Splits { train, validation, test }, |set, into| digest(set, into));
        let training = splits.train.tokens.iter().map(Vec::as_slice);
        let unknown = UnknownReplacement::new(training, known.unknown_probability(units.unit), recipe.seed);
        let lengths = splits.train.tokens.iter().map(Vec::len).collect();
        let batches = Batches::new(lengths, recipe.train.batch, recipe.seed);
        let class_weights = weighting.of(&splits.train.classes, config.classes);
        let batch = classify::Batch::default();
        Ok(Self { options, config, encoder, splits, record, data, unknown, class_weights, batches, batch })
    }

    /// The format of the files.
    fn write_down(&self, recipe: &mut Recipe) {
        recipe.options_mut::<Options>().examples.format = Some(self.data.splits.train.format);
    }

    fn config(&self) -> &classify::Config {
        &self.config
    }

    fn encoder(&self) -> &classify::Encoder {
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

    fn network(&self, recipe: &Recipe) -> NetworkOf<Self> {
        weighted(Classify::network(&self.config, Self::regularisation(recipe)), self.class_weights.as_deref())
    }

    fn batches_per_epoch(&self) -> u64 {
        self.batches.per_epoch()
    }

    fn weight(&mut self, place: Place) -> f64 {
        let classes = &self.splits.train.classes;
        let targets = self.batches.at(place).iter().map(|&index| classes[index]);
        weight_of(self.class_weights.as_deref(), targets)
    }

    fn learn(
        &mut self,
        place: Place,
        normaliser: f64,
        pass: Pass,
        runner: &mut Runner<'_, Classify>,
        gradients: &mut [f32],
    ) -> Learned {
        let (set, indices) = (&self.splits.train, self.batches.at(place));
        let unknown = self.unknown.epoch(place.epoch);
        let mut texts: Vec<Vec<u32>> = indices.iter().map(|&index| set.tokens[index].clone()).collect();
        for (tokens, &index) in texts.iter_mut().zip(indices) {
            unknown.replace(index as u64, tokens);
        }
        let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        let targets: Vec<u32> = indices.iter().map(|&index| set.classes[index]).collect();
        self.batch.set(&texts);
        let Runner { network, weights, workspace } = runner;
        let wanted = Wanted { normaliser: Some(normaliser), ..Wanted::new(&targets[..]) };
        let loss = network.learn(*weights, self.batch.input(), wanted, pass, gradients, workspace);
        Learned { loss, units: self.batch.rows() }
    }

    fn data(&self, split: Split) -> &classify::Texts {
        self.splits.of(split)
    }

    fn baselines(&self) -> Result<Vec<Score>> {
        let train = &self.splits.train;
        let tokens: Vec<&[u32]> = train.tokens.iter().map(|text| &text[..]).collect();
        let labels = &self.encoder.labels;
        let options = NaiveBayesOptions::of(self.encoder.text.vocabulary.unit());
        let bayes = NaiveBayes::fit(&tokens, &train.classes, labels.len(), options);
        let majority = majority_class(&train.classes).map_or(0, |(class, _)| class);
        let mut scores = Vec::new();
        for split in [Split::Validation, Split::Test] {
            let set = self.splits.of(split);
            if set.tokens.is_empty() {
                continue;
            }
            let bayes: Vec<u32> = set.tokens.iter().map(|text| bayes.predict(text)).collect();
            let majority = vec![majority; set.tokens.len()];
            for (method, predictions) in [("majority class", majority), ("n-gram naive Bayes", bayes)] {
                let metrics = classify::metrics(&classify::confusion(labels, &set.classes, &predictions));
                scores.push(Score { method: method.to_owned(), split, metrics });
            }
        }
        Ok(scores)
    }

    fn training_metrics(loss: &Loss) -> BTreeMap<String, f64> {
        BTreeMap::from([("accuracy".to_owned(), loss.correct / loss.weight)])
    }

    fn record(&self) -> DataRecord {
        self.record.clone()
    }

    fn describe(&self) -> Description {
        let vocabulary = &self.encoder.text.vocabulary;
        let of_split = |split: Split| {
            let set = self.splits.of(split);
            let units = text_counts(vocabulary.unit(), set.tokens.iter().flatten());
            (format!("{} split", split.name()), format!("{} texts of {units}", grouped(set.tokens.len())))
        };
        let mut data: Vec<(String, String)> = Split::ALL.into_iter().map(of_split).collect();
        data.push(("format".to_owned(), self.data.splits.train.format.to_string()));
        data.push(("vocabulary".to_owned(), format!("{} {}", grouped(vocabulary.len()), vocabulary.unit().plural())));
        data.push(("classes".to_owned(), grouped(self.encoder.labels.len())));
        let Labelled { duplicates, blank, skipped, .. } = &self.data;
        if *duplicates > 0 {
            data.push(("duplicates removed".to_owned(), grouped(duplicates)));
        }
        data.extend(read::left_out(*blank, skipped).into_iter().map(|what| ("left out".to_owned(), what)));
        let warnings = read::warning_of_shared(&self.data.splits, &shared_examples(&self.data.splits));
        Description {
            data,
            warnings: warnings.into_iter().collect(),
            ..self.options.embedded.describe(
                &self.options.model,
                &self.options.files,
                vocabulary.unit().plural(),
                self.options.reading.bidirectional,
            )
        }
    }

    fn examine(&self, split: Split) -> Examined {
        let (texts, set) = (self.splits.of(split), self.data.splits.of(split));
        Examined {
            what: "texts",
            lengths: texts.tokens.iter().map(Vec::len).collect(),
            keys: set.examples.iter().map(|example| key(&example.text)).collect(),
            labels: count_labels(&self.encoder.labels, texts.classes.iter().copied()),
            unknown_share: Vocabulary::unknown_share(&texts.tokens.concat()),
        }
    }

    fn measured(
        recipe: &Recipe,
        config: &classify::Config,
        encoder: &classify::Encoder,
        paths: &[PathBuf],
    ) -> Result<Measured<classify::Texts>> {
        let options = recipe.options::<Options>();
        let mut notes = Vec::new();
        let (set, what, left_out) = if paths.is_empty() {
            let data = Labelled::read(options, recipe.seed)?;
            check_names(options.files.place(), "classes", &data.splits.test.labels, &encoder.labels)?;
            notes.extend(read::warning_of_shared(&data.splits, &shared_examples(&data.splits)));
            (data.splits.test, "test split".to_owned(), read::left_out(data.blank, &data.skipped))
        } else {
            let set = read::reader_beside(options, options.examples.format, &encoder.labels, paths)?.read(paths)?;
            let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            let left_out = read::left_out(set.blank, &set.skipped);
            (set, names.join(", "), left_out)
        };
        notes.extend(left_out.into_iter().map(|what| format!("left out: {what}")));
        let data = encode(&encoder.text, config.max_length, &set);
        check_lengths(config, &set, &data)?;
        let record = paths.is_empty().then(|| {
            let mut sum = Digest::default();
            let count = digest(&set, &mut sum);
            SplitRecord { count, digest: sum.finish() }
        });
        Ok(Measured { data, what, notes, record })
    }
}
