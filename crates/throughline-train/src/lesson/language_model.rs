//! Language modelling on one long text: parallel streams, states carried from update to update, truncated BPTT.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use throughline_data::{NgramModel, Split, Streams, TextReader, UNKNOWN, Vocabulary, first_units, join_texts};
use throughline_kernels::ops::IGNORED;
use throughline_kernels::ops::cross_entropy::Classified;
use throughline_kernels::random::{Philox, Purpose};
use throughline_kernels::sequence::Ragged;
use throughline_nn::config::ModelConfig;
use throughline_nn::language_model::Window;
use throughline_nn::network::Workspace;
use throughline_nn::recurrent::{Pass, States};
use throughline_nn::sampling::Sampling;

use super::{Evaluation, Lesson, Model, NamedTensor, Place, fractions, grouped, vocabulary_options};
use crate::card::Score;
use crate::tasks::lm::Options;
use crate::{Digest, Error, Part, Recipe, Result, Task, generate};

/// The path that stands for the text inside the program.
pub const BUILT_IN: &str = "built-in";
/// A text about recurrent networks, written for this program.
const BUILT_IN_TEXT: &str = include_str!("built_in.txt");

/// Steps of a stream that an evaluation reads at once.
const EVALUATION_STEPS: usize = 128;
/// An evaluation reads so many streams side by side at most, each at least so long.
pub(crate) const EVALUATION_STREAMS: usize = 16;
const EVALUATION_LENGTH: usize = 1024;
/// Units that every stream but the first reads before its loss counts, so that none is judged without context.
const EVALUATION_LEAD: usize = 256;

/// The data of a language model.
pub struct LanguageModelLesson {
    recipe: Recipe,
    vocabulary: Vocabulary,
    parts: Split<Vec<u32>>,
    skipped: usize,
    streams: Streams,
    /// Where the next window starts, and the states there.
    carried: States<f32>,
}

impl LanguageModelLesson {
    /// Reads the texts of a recipe, cuts them into parts and builds the vocabulary from the training part.
    pub(super) fn load(recipe: &Recipe) -> Result<Self> {
        let Options { data, model, windows, .. } = recipe.options();
        let reader = TextReader::default().encoding(&data.encoding)?;
        let mut skipped = 0;
        let mut text = read(&reader, &data.paths, &mut skipped)?;
        if data.limit > 0 {
            text.truncate(first_units(&text, data.unit, data.limit).len());
        }
        let cut = fractions(data)?.split_text(&text, data.unit);
        let validation = own_part(&reader, &data.validation, cut.validation, &mut skipped)?;
        let test = own_part(&reader, &data.test, cut.test, &mut skipped)?;
        let vocabulary = Vocabulary::build(data.unit, [cut.train], vocabulary_options(data))?;
        let parts =
            Split { train: cut.train, validation: &validation, test: &test }.map(|text| vocabulary.encode(text));
        check_length(recipe, &parts)?;
        let streams = Streams::new(parts.train.clone(), recipe.train.batch, windows.stride)?;
        let carried = States::zeros(&model.config(false), recipe.train.batch);
        Ok(Self { recipe: recipe.clone(), vocabulary, parts, skipped, streams, carried })
    }

    fn options(&self) -> &Options {
        self.recipe.options()
    }

    fn part(&self, part: Part) -> &[u32] {
        match part {
            Part::Training => &self.parts.train,
            Part::Validation => &self.parts.validation,
            Part::Test => &self.parts.test,
        }
    }

    /// The steps of each stream that update `index` of an epoch learns from.
    fn scored(&self, index: usize) -> std::ops::Range<usize> {
        let start = index * self.options().windows.stride;
        start..self.streams.length().min(start + self.options().windows.stride)
    }

    /// Where the window of update `index` starts: so that it ends with the scored steps and is no longer than the window.
    fn window_start(&self, index: usize) -> usize {
        let scored = self.scored(index);
        scored.start.min(scored.end.saturating_sub(self.options().windows.gradient_window()))
    }
}

/// The texts at `paths` one after another.
pub(crate) fn read(reader: &TextReader, paths: &[PathBuf], skipped: &mut usize) -> Result<String> {
    let mut all = Vec::new();
    for path in paths {
        if path == Path::new(BUILT_IN) {
            all.push(BUILT_IN_TEXT.to_owned());
        } else {
            let texts = reader.read(path)?;
            *skipped += texts.skipped.len();
            all.push(texts.concatenated());
        }
    }
    Ok(join_texts(all))
}

/// The text of a part with paths of its own, or what was cut out for it.
fn own_part(reader: &TextReader, paths: &[PathBuf], cut: &str, skipped: &mut usize) -> Result<String> {
    if paths.is_empty() { Ok(cut.to_owned()) } else { read(reader, paths, skipped) }
}

/// Every stream must be at least one window long, and there must be something to evaluate on.
fn check_length(recipe: &Recipe, parts: &Split<Vec<u32>>) -> Result<()> {
    let Options { data, windows, .. } = recipe.options();
    let path = data.paths.first().map_or(Path::new("data.paths"), PathBuf::as_path);
    let window = windows.gradient_window();
    let needed = recipe.train.batch * window + 1;
    if parts.train.len() < needed {
        let expected = format!(
            "at least {} units ({} streams of one window of {window} units, and one more); \
             give more text or set a smaller train.batch, train.stride or train.window",
            grouped(needed),
            recipe.train.batch
        );
        return Err(Error::file(path, "training part", expected, format_args!("{} units", grouped(parts.train.len()))));
    }
    if parts.validation.len() < 2 {
        let found = format_args!("{} units", parts.validation.len());
        return Err(Error::file(path, "validation part", "at least 2 units; give more text or a larger share", found));
    }
    Ok(())
}

/// The loss of every unit of `tokens` but the first, read in at most `streams` parallel streams; `None` for fewer than two.
///
/// With L units for each of B streams, stream b reads units b·L to (b+1)·L + lead. The first is scored from its beginning,
/// the others from their lead on, so that every unit is scored once; what lies beyond the end is ignored.
pub(crate) fn evaluate(
    tokens: &[u32],
    streams: usize,
    model: Model<'_>,
    workspace: &mut Workspace<f32>,
) -> Option<(Evaluation, usize)> {
    let scored = tokens.len().checked_sub(1).filter(|&scored| scored > 0)?;
    let streams = (scored / EVALUATION_LENGTH).clamp(1, streams);
    let lead = if streams > 1 { EVALUATION_LEAD } else { 0 };
    let length = (scored - lead).div_ceil(streams);
    let unit = |stream: usize, t: usize| {
        let place = stream * length + t;
        if place >= scored {
            return (UNKNOWN, IGNORED);
        }
        (tokens[place], if stream == 0 || t >= lead { tokens[place + 1] } else { IGNORED })
    };
    let mut states = None;
    let mut total = Classified::default();
    for start in (0..length + lead).step_by(EVALUATION_STEPS) {
        let end = (length + lead).min(start + EVALUATION_STEPS);
        let units = (start..end).flat_map(|t| (0..streams).map(move |stream| (stream, t)));
        let (inputs, targets): (Vec<u32>, Vec<u32>) = units.map(|(stream, t)| unit(stream, t)).unzip();
        let batch = Ragged::even(end - start, streams);
        let window = Window { batch: &batch, inputs: &inputs, targets: &targets, first_scored: 0 };
        total += model.network.evaluate_language_model(model.weights, &window, &mut states, workspace);
    }
    let loss = total.loss.sum / total.loss.count as f64;
    Some((Evaluation { loss, score: loss, metrics: metrics(loss) }, total.loss.count))
}

/// Perplexity and bits per unit of a loss in nats per unit.
pub(crate) fn metrics(loss: f64) -> BTreeMap<String, f64> {
    let bits = loss / std::f64::consts::LN_2;
    BTreeMap::from([("bits_per_unit".to_owned(), bits), ("perplexity".to_owned(), loss.exp())])
}

impl Lesson for LanguageModelLesson {
    fn model_config(&self) -> ModelConfig {
        ModelConfig {
            task: Task::Lm,
            recurrent: self.options().model.config(false),
            vocabulary: self.vocabulary.len(),
            classes: None,
            tied: self.options().output.tied,
        }
    }

    fn updates_per_epoch(&self) -> u64 {
        self.streams.steps() as u64
    }

    /// Reads a window from the state saved at its start, takes the loss of its newest `stride` steps, and saves the state
    /// at which the next window starts. The first windows of an epoch start at the beginning, from the initial state.
    fn learn(
        &mut self,
        place: Place,
        model: Model<'_>,
        pass: Pass,
        gradients: &mut [f32],
        workspace: &mut Workspace<f32>,
    ) -> (Classified, usize) {
        let index = place.index as usize;
        let (start, scored) = (self.window_start(index), self.scored(index));
        let piece = self.streams.window(start..scored.end);
        let batch = Ragged::even(piece.time, self.streams.batch());
        let first_scored = scored.start - start;
        let window = Window { batch: &batch, inputs: &piece.inputs, targets: &piece.targets, first_scored };
        let given = (start > 0).then_some(&self.carried);
        let next = (index + 1 < self.streams.steps()).then(|| self.window_start(index + 1) - start);
        if let Some(next) = next {
            workspace.recurrent_mut().keep_states_after(next);
        }
        let learnt = model.network.train_language_model(model.weights, &window, given, pass, gradients, workspace);
        if let Some(next) = next {
            let recurrent = model.network.recurrent();
            recurrent.states_after(&batch, next, workspace.recurrent(), &mut self.carried);
        }
        (learnt, scored.len() * self.streams.batch())
    }

    fn evaluate(&mut self, part: Part, model: Model<'_>, workspace: &mut Workspace<f32>) -> Option<Evaluation> {
        Some(evaluate(self.part(part), EVALUATION_STREAMS, model, workspace)?.0)
    }

    fn count(&self, part: Part) -> usize {
        self.part(part).len()
    }

    fn baselines(&self) -> Result<Vec<Score>> {
        let mut scores = Vec::new();
        for (method, order) in [("unigram", 1), ("interpolated bigram", 2), ("interpolated trigram", 3)] {
            let model = NgramModel::fit(&self.parts.train, self.vocabulary.len(), order)?;
            for split in [Part::Validation, Part::Test] {
                let tokens = self.part(split);
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

    fn sample(&self, step: u64, model: Model<'_>, workspace: &mut Workspace<f32>) -> Option<String> {
        let sample = &self.options().sample;
        let sampling = Sampling { temperature: sample.temperature, ..Sampling::default() };
        let random = Philox::new(self.recipe.seed, Purpose::Sample, step).stream();
        let mut text = sample.prompt.clone();
        generate::generate(
            model,
            &self.vocabulary,
            &sample.prompt,
            sample.length,
            &sampling,
            random,
            workspace,
            &mut |piece| {
                text.push_str(piece);
                Ok::<(), std::convert::Infallible>(())
            },
        )
        .ok()?;
        Some(text)
    }

    fn carried(&self) -> Vec<NamedTensor<'_>> {
        let recurrent = self.options().model.config(false);
        let shape = vec![recurrent.layers, self.streams.batch(), recurrent.hidden];
        let mut tensors = vec![("carried.h".to_owned(), shape.clone(), &self.carried.h[..])];
        if recurrent.cell.has_cell_state() {
            tensors.push(("carried.c".to_owned(), shape, &self.carried.c));
        }
        tensors
    }

    fn restore(&mut self, tensors: Vec<Vec<f32>>) {
        let mut tensors = tensors.into_iter();
        self.carried.h = tensors.next().expect("the hidden states");
        self.carried.c = tensors.next().unwrap_or_default();
    }

    fn digest(&self) -> String {
        let mut digest = Digest::default();
        for part in [&self.parts.train, &self.parts.validation, &self.parts.test] {
            digest.tokens(&[part.len() as u32]);
            digest.tokens(part);
        }
        digest.bytes(self.vocabulary.to_json().as_bytes());
        digest.finish()
    }

    fn facts(&self) -> Vec<(String, String)> {
        let unit = self.vocabulary.unit().name();
        let count = |tokens: &[u32]| {
            let unknown = tokens.iter().filter(|&&token| token == UNKNOWN).count();
            let unknown = if unknown > 0 { format!(", {} unknown", grouped(unknown)) } else { String::new() };
            format!("{} {unit}s{unknown}", grouped(tokens.len()))
        };
        let mut facts = vec![
            ("training part".to_owned(), count(&self.parts.train)),
            ("validation part".to_owned(), count(&self.parts.validation)),
            ("test part".to_owned(), count(&self.parts.test)),
            ("vocabulary".to_owned(), format!("{} {unit}s", grouped(self.vocabulary.len()))),
        ];
        if self.skipped > 0 {
            facts.push(("files without text, skipped".to_owned(), grouped(self.skipped)));
        }
        facts
    }

    fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    fn labels(&self) -> Option<&[String]> {
        None
    }
}
