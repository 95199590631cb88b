//! Classification of texts: ragged batches of texts of like length, the last states of the top layer.

use std::collections::BTreeMap;

use throughline_data::{
    ConfusionMatrix, Example, LabelledReader, LabelledSet, LengthBuckets, NaiveBayes, NaiveBayesOptions, Split,
    TextReader, UNKNOWN, Vocabulary, majority_class,
};
use throughline_kernels::ops::cross_entropy::Classified;
use throughline_nn::classifier::Sequences;
use throughline_nn::config::ModelConfig;
use throughline_nn::network::Workspace;
use throughline_nn::recurrent::Pass;

use super::{Evaluation, Lesson, Model, NamedTensor, Place, data_of, fractions, grouped, vocabulary_options};
use crate::card::Score;
use crate::tasks::classify::{Options, Pooling};
use crate::{Digest, Error, Origin, Part, Recipe, Result, Task};

/// Texts that an evaluation reads at once.
const EVALUATION_BATCH: usize = 256;

/// Texts as tokens, with their classes.
#[derive(Clone, Debug, Default)]
pub struct TokenSet {
    /// The tokens of each text.
    pub texts: Vec<Vec<u32>>,
    /// The class of each text.
    pub classes: Vec<u32>,
}

/// The data of a classifier.
pub struct ClassifyLesson {
    recipe: Recipe,
    vocabulary: Vocabulary,
    labels: Vec<String>,
    parts: Split<TokenSet>,
    duplicates: usize,
    blank: usize,
    buckets: LengthBuckets,
    /// The batches of the epoch that runs, and which it is.
    epoch: Option<(u64, Vec<Vec<usize>>)>,
    sequences: Sequences,
}

/// The reader that a recipe asks for, with the classes where they are known.
pub(crate) fn reader(recipe: &Recipe, labels: Option<Vec<String>>) -> Result<LabelledReader> {
    let Options { data, examples, .. } = recipe.options();
    let column = |name: &str| (!name.is_empty()).then(|| name.to_owned());
    Ok(LabelledReader {
        text: TextReader::default().encoding(&data.encoding)?,
        format: examples.format,
        text_column: column(&examples.text_column),
        label_column: column(&examples.label_column),
        labels,
    })
}

/// The tokens of `examples`, cut to the longest length of the recipe.
pub(crate) fn encode<'a>(
    recipe: &Recipe,
    vocabulary: &Vocabulary,
    examples: impl Iterator<Item = &'a Example>,
) -> TokenSet {
    let mut set = TokenSet::default();
    for example in examples {
        set.texts.push(encode_text(recipe.options::<Options>().examples.max_length, vocabulary, &example.text));
        set.classes.push(example.label);
    }
    set
}

/// The tokens of one text, at most `longest` (0: all).
pub(crate) fn encode_text(longest: usize, vocabulary: &Vocabulary, text: &str) -> Vec<u32> {
    let mut tokens = vocabulary.encode(text);
    if longest > 0 {
        tokens.truncate(longest);
    }
    tokens
}

impl ClassifyLesson {
    /// Reads the texts of a recipe, cuts them into parts and builds the vocabulary from the training part.
    pub(super) fn load(recipe: &Recipe) -> Result<Self> {
        let Options { data, examples: settings, reading, .. } = recipe.options();
        if reading.pooling != Pooling::LastStates {
            let expected = "\"last-states\", the only pooling that classifiers have yet";
            return Err(Error::recipe(
                &Origin::Default,
                "model.pooling",
                expected,
                format_args!("{:?}", reading.pooling),
            ));
        }
        let mut set = reader(recipe, None)?.read(&data.paths)?;
        let duplicates = if settings.deduplicate { set.remove_duplicates() } else { 0 };
        if data.limit > 0 {
            set.examples.truncate(data.limit);
            check_classes(recipe, &set)?;
        }
        let indices = fractions(data)?.stratified(&set.classes(), recipe.seed);
        let own = |paths: &[std::path::PathBuf]| -> Result<Option<LabelledSet>> {
            let read = || Ok(reader(recipe, Some(set.labels.clone()))?.read(paths)?);
            (!paths.is_empty()).then(read).transpose()
        };
        let (validation, test) = (own(&data.validation)?, own(&data.test)?);
        let choose = |indices: &[usize]| -> Vec<&Example> { indices.iter().map(|&i| &set.examples[i]).collect() };
        let part = |own: &Option<LabelledSet>, cut: &[usize]| -> Vec<Example> {
            match own {
                Some(own) => own.examples.clone(),
                None => choose(cut).into_iter().cloned().collect(),
            }
        };
        let examples = Split {
            train: choose(&indices.train).into_iter().cloned().collect(),
            validation: part(&validation, &indices.validation),
            test: part(&test, &indices.test),
        };
        check_parts(recipe, &examples)?;
        let vocabulary = Vocabulary::build(
            data.unit,
            examples.train.iter().map(|example| example.text.as_str()),
            vocabulary_options(data),
        )?;
        let parts = examples.map(|examples| encode(recipe, &vocabulary, examples.iter()));
        let lengths = parts.train.texts.iter().map(Vec::len).collect();
        let buckets = LengthBuckets::new(lengths, recipe.train.batch, recipe.seed);
        Ok(Self {
            recipe: recipe.clone(),
            vocabulary,
            labels: set.labels,
            parts,
            duplicates,
            blank: set.blank,
            buckets,
            epoch: None,
            sequences: Sequences::default(),
        })
    }

    /// The test part.
    pub(super) fn test_part(&self) -> &TokenSet {
        &self.parts.test
    }

    fn part(&self, part: Part) -> &TokenSet {
        match part {
            Part::Training => &self.parts.train,
            Part::Validation => &self.parts.validation,
            Part::Test => &self.parts.test,
        }
    }
}

/// Every class must have kept an example.
fn check_classes(recipe: &Recipe, set: &LabelledSet) -> Result<()> {
    let classes = set.classes();
    let Some(lost) = (0..set.labels.len()).find(|&label| !classes.contains(&(label as u32))) else { return Ok(()) };
    let path = data_of(recipe).paths.first().map_or(std::path::Path::new("data.paths"), |path| path.as_path());
    let expected = format!("a data.limit that leaves an example of class \"{}\"", set.labels[lost]);
    Err(Error::file(path, "data.limit", expected, data_of(recipe).limit))
}

fn check_parts(recipe: &Recipe, parts: &Split<Vec<Example>>) -> Result<()> {
    for (name, part) in [("training part", &parts.train), ("validation part", &parts.validation)] {
        if part.is_empty() {
            let path = data_of(recipe).paths.first().map_or(std::path::Path::new("data.paths"), |path| path.as_path());
            let expected = "at least one example; give more examples or a larger share in data.split";
            return Err(Error::file(path, name, expected, "none"));
        }
    }
    Ok(())
}

/// The predicted class of every text and the summed loss, computed in batches of texts of like length.
pub(crate) fn predict(set: &TokenSet, model: Model<'_>, workspace: &mut Workspace<f32>) -> (Vec<u32>, Classified) {
    let mut order: Vec<usize> = (0..set.texts.len()).collect();
    order.sort_by_key(|&i| set.texts[i].len());
    let mut predictions = vec![0; set.texts.len()];
    let mut total = Classified::default();
    let mut sequences = Sequences::default();
    let classes = model.network.config().classes.expect("a classifier has classes");
    for batch in order.chunks(EVALUATION_BATCH) {
        sequences.set(batch.iter().map(|&i| &set.texts[i][..]));
        let targets: Vec<u32> = batch.iter().map(|&i| set.classes[i]).collect();
        total += model.network.evaluate_classifier(model.weights, &sequences, &targets, workspace);
        for (&i, logits) in batch.iter().zip(workspace.logits(batch.len() * classes).chunks(classes)) {
            predictions[i] = most_probable(logits) as u32;
        }
    }
    (predictions, total)
}

/// The index of the largest logit, the first of equal ones.
pub(crate) fn most_probable(logits: &[f32]) -> usize {
    (0..logits.len()).reduce(|best, i| if logits[i] > logits[best] { i } else { best }).unwrap_or(0)
}

/// Counts of (truth, prediction).
pub(crate) fn confusion(labels: &[String], classes: &[u32], predictions: &[u32]) -> ConfusionMatrix {
    let mut matrix = ConfusionMatrix::new(labels.to_vec());
    for (&truth, &prediction) in classes.iter().zip(predictions) {
        matrix.add(truth, prediction);
    }
    matrix
}

/// Accuracy and macro F1.
pub(crate) fn metrics(matrix: &ConfusionMatrix) -> BTreeMap<String, f64> {
    BTreeMap::from([("accuracy".to_owned(), matrix.accuracy()), ("macro_f1".to_owned(), matrix.macro_f1())])
}

impl Lesson for ClassifyLesson {
    fn model_config(&self) -> ModelConfig {
        ModelConfig {
            task: Task::Classify,
            recurrent: {
                let Options { model, reading, .. } = self.recipe.options();
                model.config(reading.bidirectional)
            },
            vocabulary: self.vocabulary.len(),
            classes: Some(self.labels.len()),
            tied: false,
        }
    }

    fn updates_per_epoch(&self) -> u64 {
        self.buckets.batches() as u64
    }

    fn learn(
        &mut self,
        place: Place,
        model: Model<'_>,
        pass: Pass,
        gradients: &mut [f32],
        workspace: &mut Workspace<f32>,
    ) -> (Classified, usize) {
        if self.epoch.as_ref().is_none_or(|(epoch, _)| *epoch != place.epoch) {
            self.epoch = Some((place.epoch, self.buckets.epoch(place.epoch)));
        }
        let (_, batches) = self.epoch.as_ref().expect("the epoch was just made");
        let batch = &batches[place.index as usize];
        let set = &self.parts.train;
        self.sequences.set(batch.iter().map(|&i| &set.texts[i][..]));
        let targets: Vec<u32> = batch.iter().map(|&i| set.classes[i]).collect();
        let learnt =
            model.network.train_classifier(model.weights, &self.sequences, &targets, pass, gradients, workspace);
        (learnt, self.sequences.rows())
    }

    fn evaluate(&mut self, part: Part, model: Model<'_>, workspace: &mut Workspace<f32>) -> Option<Evaluation> {
        let set = self.part(part);
        if set.texts.is_empty() {
            return None;
        }
        let (predictions, total) = predict(set, model, workspace);
        let matrix = confusion(&self.labels, &set.classes, &predictions);
        let loss = total.loss.sum / total.loss.count as f64;
        // A loss that is not a number must not look like a good score.
        let score = if loss.is_finite() { 1.0 - matrix.accuracy() } else { f64::NAN };
        Some(Evaluation { loss, score, metrics: metrics(&matrix) })
    }

    fn count(&self, part: Part) -> usize {
        self.part(part).texts.len()
    }

    fn baselines(&self) -> Result<Vec<Score>> {
        let train = &self.parts.train;
        let tokens: Vec<&[u32]> = train.texts.iter().map(|text| &text[..]).collect();
        let options = NaiveBayesOptions::of(self.vocabulary.unit());
        let bayes = NaiveBayes::fit(&tokens, &train.classes, self.labels.len(), options);
        let majority = majority_class(&train.classes).map_or(0, |(class, _)| class);
        let mut scores = Vec::new();
        for split in [Part::Validation, Part::Test] {
            let set = self.part(split);
            if set.texts.is_empty() {
                continue;
            }
            let bayes: Vec<u32> = set.texts.iter().map(|text| bayes.predict(text)).collect();
            let majority = vec![majority; set.texts.len()];
            for (method, predictions) in [("majority class", majority), ("n-gram naive Bayes", bayes)] {
                let metrics = metrics(&confusion(&self.labels, &set.classes, &predictions));
                scores.push(Score { method: method.to_owned(), split, metrics });
            }
        }
        Ok(scores)
    }

    fn sample(&self, _: u64, _: Model<'_>, _: &mut Workspace<f32>) -> Option<String> {
        None
    }

    fn carried(&self) -> Vec<NamedTensor<'_>> {
        Vec::new()
    }

    fn restore(&mut self, _: Vec<Vec<f32>>) {}

    fn digest(&self) -> String {
        let mut digest = Digest::default();
        for part in [&self.parts.train, &self.parts.validation, &self.parts.test] {
            for text in &part.texts {
                digest.tokens(&[text.len() as u32]);
                digest.tokens(text);
            }
            digest.tokens(&part.classes);
        }
        digest.bytes(self.vocabulary.to_json().as_bytes());
        digest.bytes(self.labels.join("\n").as_bytes());
        digest.finish()
    }

    fn facts(&self) -> Vec<(String, String)> {
        let count = |set: &TokenSet| {
            let units: usize = set.texts.iter().map(Vec::len).sum();
            let unknown = set.texts.iter().flatten().filter(|&&token| token == UNKNOWN).count();
            let unknown = if unknown > 0 { format!(", {} unknown", grouped(unknown)) } else { String::new() };
            let unit = self.vocabulary.unit().name();
            format!("{} texts of {} {unit}s{unknown}", grouped(set.texts.len()), grouped(units))
        };
        let mut facts = vec![
            ("training part".to_owned(), count(&self.parts.train)),
            ("validation part".to_owned(), count(&self.parts.validation)),
            ("test part".to_owned(), count(&self.parts.test)),
            ("vocabulary".to_owned(), format!("{} {}s", grouped(self.vocabulary.len()), self.vocabulary.unit().name())),
            ("classes".to_owned(), grouped(self.labels.len())),
        ];
        for (what, number) in [("duplicates removed", self.duplicates), ("blank texts left out", self.blank)] {
            if number > 0 {
                facts.push((what.to_owned(), grouped(number)));
            }
        }
        facts
    }

    fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    fn labels(&self) -> Option<&[String]> {
        Some(&self.labels)
    }
}
