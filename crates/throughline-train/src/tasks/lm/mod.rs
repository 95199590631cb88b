//! Language modelling on one long text: parallel streams, the state kept from update to update, truncated BPTT.

mod options;
mod read;

pub use options::{Options, OutputLayer, Sample, Windows};
pub use read::BUILT_IN;

use std::collections::BTreeMap;
use std::path::PathBuf;

use throughline_data::{Glimpse, NgramModel, Split, Splits, Streams, TABLE_ENDINGS, UnknownReplacement, Vocabulary};
use throughline_infer::tasks::lm::{Continuation, generate, metrics};
use throughline_infer::tasks::{LanguageModel, lm};
use throughline_infer::{Regularisation, Runner, Serve, TextEncoder};
use throughline_kernels::random::{Philox, Purpose};
use throughline_kernels::sequence::Ragged;
use throughline_nn::decode::Sampling;
use throughline_nn::heads::Loss;
use throughline_nn::initialise::Initialise;
use throughline_nn::module::{Pass, TapeSetting};
use throughline_nn::network::{Input, Wanted};
use throughline_nn::state::State;

use crate::learn::{DataRecord, Description, Examined, Learn, Learned, Measured, Place, Score, Sign, SplitRecord};
use crate::run::card::grouped;
use crate::tasks::roll::ENDINGS as MUSIC_ENDINGS;
use crate::tasks::shared::{skipped_notes, text_counts};
use crate::tasks::tag::ENDINGS as TAGGED_ENDINGS;
use crate::{Digest, Recipe, Result};

/// How the names of files end that are not read as texts where nothing is said: tables, music, tagged sentences and series.
fn no_texts() -> Vec<&'static str> {
    [&TABLE_ENDINGS[..], MUSIC_ENDINGS, TAGGED_ENDINGS, &["ts"]].concat()
}

/// The data of a language model.
pub struct Text {
    options: Options,
    seed: u64,
    config: lm::Config,
    encoder: TextEncoder,
    splits: Splits<Vec<u32>>,
    record: DataRecord,
    skipped: Vec<throughline_data::Skipped>,
    streams: Streams,
    unknown: UnknownReplacement,
    /// The state at which the next window starts.
    state: State<f32>,
}

fn digest(text: &str, into: &mut Digest) {
    into.bytes(text.as_bytes());
}

impl Text {
    /// The steps of each stream that batch `index` of an epoch learns from.
    fn scored(&self, index: usize) -> std::ops::Range<usize> {
        let stride = self.options.windows.stride;
        let start = index * stride;
        start..self.streams.length().min(start + stride)
    }

    /// Where the window of batch `index` starts: so that it ends with the scored steps and is no longer than the window.
    fn window_start(&self, index: usize) -> usize {
        let scored = self.scored(index);
        scored.start.min(scored.end.saturating_sub(self.options.windows.gradient_window()))
    }
}

impl Learn for Text {
    type Serve = LanguageModel;
    type Options = Options;

    fn recognises(seen: &Glimpse) -> Option<Sign> {
        // What is called a text is one, so that its reader says what is wrong with it.
        let is_text = !seen.beginning.is_empty() && !seen.beginning.contains('\0') || seen.ends_in(&["txt"]);
        let has_text = seen.is_folder_without(&no_texts());
        (is_text || has_text).then_some(Sign::Faint("text"))
    }

    fn read(recipe: &Recipe) -> Result<Self> {
        let options = recipe.options::<Options>().clone();
        let read::Texts { splits: texts, skipped } = read::Texts::read(&options)?;
        let Options { cleaning, units, known, embedded, model, output, windows, .. } = &options;
        let vocabulary = Vocabulary::build(units.unit, [texts.train.as_str()], known.vocabulary(units.unit))?;
        let record = DataRecord::of(units.unit.plural(), texts.clone(), |text, into| {
            digest(text, into);
            units.unit.count(text)
        });
        let encoder = TextEncoder { rules: cleaning.rules(), vocabulary };
        let splits = texts.map(|text| encoder.encode(&text));
        read::check_length(&options, recipe.train.batch, &splits)?;
        let config = lm::Config {
            recurrent: model.settings(embedded.embedding, false),
            vocabulary: encoder.vocabulary.len(),
            tied: output.tied,
            text: cleaning.rules(),
        };
        let streams = Streams::new(splits.train.clone(), recipe.train.batch, windows.stride)?;
        let unknown = UnknownReplacement::new([&splits.train[..]], known.unknown_probability(units.unit), recipe.seed);
        let shape = LanguageModel::network(&config, Regularisation::default()).state_shape();
        let (state, seed) = (State::new(&shape, recipe.train.batch), recipe.seed);
        Ok(Self { options, seed, config, encoder, splits, record, skipped, streams, unknown, state })
    }

    fn config(&self) -> &lm::Config {
        &self.config
    }

    fn encoder(&self) -> &TextEncoder {
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

    fn batches_per_epoch(&self) -> u64 {
        self.streams.steps() as u64
    }

    fn weight(&mut self, place: Place) -> f64 {
        (self.scored(place.index as usize).len() * self.streams.batch()) as f64
    }

    /// Reads a window from the state saved at its start, takes the loss of its newest `stride` steps, and saves the state
    /// at which the next window starts. The first windows of an epoch start at the beginning, from the initial state.
    fn learn(
        &mut self,
        place: Place,
        normaliser: f64,
        pass: Pass,
        runner: &mut Runner<'_, LanguageModel>,
        gradients: &mut [f32],
    ) -> Learned {
        let index = place.index as usize;
        let (start, scored) = (self.window_start(index), self.scored(index));
        let window = self.streams.window_with_unknown(start..scored.end, &self.unknown, place.epoch);
        let (streams, first) = (self.streams.batch(), scored.start - start);
        let rows = Ragged::even(window.time, streams);
        let input = Input { rows: &rows, x: &window.inputs[..], start: (start > 0).then_some(&self.state) };
        let scored_rows = Some(first * streams..rows.rows());
        let wanted = Wanted { target: &window.targets[..], scored: scored_rows, normaliser: Some(normaliser) };
        let next = (index + 1 < self.streams.steps()).then(|| self.window_start(index + 1) - start);
        let Runner { network, weights, workspace } = runner;
        if let Some(next) = next {
            network.set(workspace, TapeSetting::KeepStateAfter(next));
        }
        let loss = network.learn(*weights, input, wanted, pass, gradients, workspace);
        if let Some(next) = next {
            network.state_after(&rows, next, workspace, &mut self.state);
        }
        Learned { loss, units: scored.len() * streams }
    }

    fn data(&self, split: Split) -> &Vec<u32> {
        self.splits.of(split)
    }

    fn baselines(&self) -> Result<Vec<Score>> {
        let mut scores = Vec::new();
        for (method, order) in [("unigram", 1), ("interpolated bigram", 2), ("interpolated trigram", 3)] {
            let model = NgramModel::fit(&self.splits.train, self.encoder.vocabulary.len(), order)?;
            for split in [Split::Validation, Split::Test] {
                let tokens = self.splits.of(split);
                if tokens.len() > 1 {
                    let loss = model.entropy(tokens)?;
                    let mut metrics = metrics(loss);
                    metrics.insert("loss".to_owned(), loss);
                    scores.push(Score { method: method.to_owned(), split, metrics });
                }
            }
        }
        Ok(scores)
    }

    fn training_metrics(loss: &Loss) -> BTreeMap<String, f64> {
        metrics(loss.sum / loss.weight)
    }

    fn sample(&self, step: u64, runner: &mut Runner<'_, LanguageModel>) -> Option<String> {
        let sample = &self.options.sample;
        if !sample.every_evaluation {
            return None;
        }
        let sampling = Sampling { temperature: sample.temperature, ..Sampling::default() };
        let continuation = Continuation { prompt: &sample.prompt, length: sample.length, sampling };
        let random = Philox::new(self.seed, Purpose::Sample, step).stream();
        let mut text = sample.prompt.clone();
        generate(runner, &self.encoder, continuation, random, &mut |more| {
            text.push_str(more);
            Ok::<(), std::convert::Infallible>(())
        })
        .ok()?;
        Some(text)
    }

    fn state(&self) -> Option<&State<f32>> {
        Some(&self.state)
    }

    fn state_mut(&mut self) -> Option<&mut State<f32>> {
        Some(&mut self.state)
    }

    fn record(&self) -> DataRecord {
        self.record.clone()
    }

    fn describe(&self) -> Description {
        let vocabulary = &self.encoder.vocabulary;
        let of_split =
            |split: Split| (format!("{} split", split.name()), text_counts(vocabulary.unit(), self.splits.of(split)));
        let mut data: Vec<(String, String)> = Split::ALL.into_iter().map(of_split).collect();
        data.push(("vocabulary".to_owned(), format!("{} {}", grouped(vocabulary.len()), vocabulary.unit().plural())));
        data.extend(skipped_notes(&self.skipped).map(|note| ("left out".to_owned(), note)));
        let warnings = self.options.files.warning_of_repetition().into_iter().collect();
        Description {
            data,
            warnings,
            ..self.options.embedded.describe(
                &self.options.model,
                &self.options.files,
                vocabulary.unit().plural(),
                false,
            )
        }
    }

    fn examine(&self, split: Split) -> Examined {
        let (tokens, vocabulary) = (self.splits.of(split), &self.encoder.vocabulary);
        let lengths = match vocabulary.encode("\n")[..] {
            // A line feed ends a line and is none of its units; the last line may lack it.
            [end] => tokens
                .split_inclusive(|&token| token == end)
                .map(|line| line.len() - usize::from(line.ends_with(&[end])))
                .collect(),
            _ => Vec::new(),
        };
        Examined { what: "lines", lengths, unknown_share: Vocabulary::unknown_share(tokens), ..Examined::default() }
    }

    fn measured(
        recipe: &Recipe,
        _: &lm::Config,
        encoder: &TextEncoder,
        paths: &[PathBuf],
    ) -> Result<Measured<Vec<u32>>> {
        let options = recipe.options::<Options>();
        let (text, what, skipped) = if paths.is_empty() {
            let texts = read::Texts::read(options)?;
            (texts.splits.test, "test split".to_owned(), texts.skipped)
        } else {
            let mut skipped = Vec::new();
            let text = read::join(&options.cleaning.reader()?, paths, &mut skipped)?;
            let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            (text, names.join(", "), skipped)
        };
        let record = paths.is_empty().then(|| {
            let mut sum = Digest::default();
            digest(&text, &mut sum);
            SplitRecord { count: options.units.unit.count(&text), digest: sum.finish() }
        });
        let notes = skipped_notes(&skipped).map(|note| format!("left out: {note}")).collect();
        Ok(Measured { data: encoder.encode(&text), what, notes, record })
    }
}
