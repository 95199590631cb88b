//! The training loop of every task: schedule, clipping, update, evaluation, checkpoints, resumption.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use throughline_kernels::Isa;
use throughline_kernels::buffer::Buffer;
use throughline_kernels::ops::cross_entropy::Classified;
use throughline_kernels::ops::reduce;
use throughline_kernels::optim::{Optimiser, clipping_factor};
use throughline_kernels::random::{Philox, Purpose};
use throughline_kernels::threads::Threads;
use throughline_nn::network::{Network, PackedNetwork, Weights, Workspace};
use throughline_nn::recurrent::Pass;

use crate::card::{Card, Score};
use crate::checkpoint::Recent;
use crate::lesson::{self, Evaluation, Lesson, Model, NamedTensor, Place};
use crate::{
    Error, MetricsLog, Part, Progress, Recipe, Result, Row, RunFolder, checkpoint, read_at_most, write_atomically,
};

/// Rows that the training part adds to `metrics.jsonl` over a run, about.
const TRAINING_ROWS: u64 = 200;

/// What happens in a run, for whoever watches. The library itself never prints.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The data is read and the model made.
    Ready {
        /// Facts about the data.
        facts: &'a [(String, String)],
        /// What simple methods reach.
        baselines: &'a [Score],
        /// Trainable numbers.
        parameters: usize,
        /// Threads that compute.
        threads: usize,
        /// Updates already done.
        step: u64,
        /// Updates of the whole run.
        steps: u64,
    },
    /// An update is done.
    Update {
        /// Updates done.
        step: u64,
        /// Mean loss since the last row for the training part, in nats.
        loss: f64,
        /// Units learnt from per second, since the run or its resumption began.
        tokens_per_s: f64,
    },
    /// A row has been added to `metrics.jsonl` for a validation or test part.
    Evaluation {
        /// The row.
        row: &'a Row,
        /// Whether the model is the best so far and was saved.
        best: bool,
    },
    /// The model has written a text.
    Sample(&'a str),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Updates done.
    pub step: u64,
    /// Seconds of training, over all sessions.
    pub seconds: f64,
    /// What the best model reaches on the validation part.
    pub validation: Option<Evaluation>,
    /// What the best model reaches on the test part, if there is one.
    pub test: Option<Evaluation>,
}

/// Trains from the beginning in a new run folder.
///
/// `stop` is looked at before every update; when it is set, the state is saved and the run ends with
/// [`Error::Interrupted`].
///
/// # Errors
/// If the data cannot be used, a file cannot be written, training diverges, or the run is interrupted.
pub fn train(
    recipe: &Recipe,
    folder: &RunFolder,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome> {
    let _lock = folder.lock()?;
    let mut trainer = Trainer::new(recipe, folder)?;
    trainer.write_model_files()?;
    trainer.run(stop, watch)
}

/// Goes on with a run from its checkpoint; with the same data it ends in the same bits as if it had never stopped.
///
/// # Errors
/// As [`train`]; also if the checkpoint is damaged or belongs to other data or another recipe.
pub fn resume(
    recipe: &Recipe,
    folder: &RunFolder,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome> {
    let _lock = folder.lock()?;
    let mut trainer = Trainer::new(recipe, folder)?;
    trainer.load_checkpoint()?;
    if trainer.steps < trainer.progress.step {
        let expected = format!("at least the {} updates that are done", trainer.progress.step);
        return Err(Error::file(&folder.config_toml(), "train.steps or train.epochs", expected, trainer.steps));
    }
    // What was changed to go on, such as the number of epochs, holds from now on.
    trainer.write_model_files()?;
    trainer.run(stop, watch)
}

/// A run in progress.
struct Trainer<'a> {
    recipe: &'a Recipe,
    folder: &'a RunFolder,
    threads: Threads,
    isa: Isa,
    lesson: Box<dyn Lesson>,
    network: Network,
    parameters: Buffer<f32>,
    gradients: Buffer<f32>,
    packed: PackedNetwork<f32>,
    workspace: Workspace<f32>,
    optimiser: Optimiser<f32>,
    progress: Progress,
    steps: u64,
}

impl<'a> Trainer<'a> {
    fn new(recipe: &'a Recipe, folder: &'a RunFolder) -> Result<Self> {
        let threads = recipe.start_threads(None)?;
        let isa = Isa::detect();
        let lesson = lesson::load(recipe)?;
        let (model, _) = lesson::model_of(recipe);
        let network = Network::new(lesson.model_config(), model.dropouts()).map_err(|error| {
            Error::file(&folder.config_toml(), "model", "sizes that make a model; change [model]", error)
        })?;
        let parameters = network.initialise(recipe.seed, model.initialise, model.forget_bias as f32);
        let steps = match recipe.train.steps {
            0 => recipe.train.epochs.saturating_mul(lesson.updates_per_epoch()),
            steps => steps,
        };
        let progress = Progress::start(lesson.digest(), recipe.identity()?);
        let mut workspace = network.workspace(&threads);
        workspace.recurrent_mut().set_checkpointing(recipe.train.checkpoint_every);
        Ok(Self {
            recipe,
            folder,
            isa,
            gradients: network.layout().zeros(),
            packed: network.packed(isa, &threads, &parameters, true),
            workspace,
            optimiser: Optimiser::new(recipe.method(), network.layout().length()),
            threads,
            lesson,
            network,
            parameters,
            progress,
            steps,
        })
    }

    /// The files that say what the model is; they do not change over the run.
    fn write_model_files(&self) -> Result<()> {
        write_atomically(&self.folder.config_toml(), self.recipe.to_toml()?.as_bytes())?;
        write_atomically(&self.folder.config_json(), self.network.config().to_json().as_bytes())?;
        write_atomically(&self.folder.vocabulary(), self.lesson.vocabulary().to_json().as_bytes())?;
        if let Some(labels) = self.lesson.labels() {
            write_atomically(&self.folder.labels(), crate::model::labels_json(labels).as_bytes())?;
        }
        Ok(())
    }

    fn run(&mut self, stop: &AtomicBool, watch: &mut dyn FnMut(Event<'_>)) -> Result<Outcome> {
        let baselines = self.lesson.baselines()?;
        watch(Event::Ready {
            facts: &self.lesson.facts(),
            baselines: &baselines,
            parameters: self.network.layout().parameter_count(),
            threads: self.threads.count(),
            step: self.progress.step,
            steps: self.steps,
        });
        let mut log = MetricsLog::open(&self.folder.metrics(), self.progress.step)?;
        let begun = Begun { at: Instant::now(), seconds: self.progress.seconds, tokens: self.progress.tokens };
        let mut saved = Instant::now();
        if self.progress.evaluated_at.is_none() {
            self.evaluate(true, &begun, &mut log, watch)?;
            self.save_checkpoint()?;
        }
        while self.progress.step < self.steps && !self.out_of_time() && !self.out_of_patience() {
            if stop.load(Ordering::Relaxed) {
                self.save_checkpoint()?;
                return Err(Error::Interrupted { step: self.progress.step, run: self.folder.path().to_path_buf() });
            }
            self.update(&begun)?;
            let step = self.progress.step;
            watch(Event::Update {
                step,
                loss: self.progress.recent.mean_loss(),
                tokens_per_s: begun.tokens_per_s(&self.progress),
            });
            if falls_due(step, self.steps, TRAINING_ROWS) {
                log.append(&self.training_row(&begun))?;
                self.progress.recent =
                    Recent { learning_rate: self.progress.recent.learning_rate, ..Recent::default() };
            }
            if falls_due(step, self.steps, self.recipe.train.evaluations) {
                self.evaluate(true, &begun, &mut log, watch)?;
            }
            if saved.elapsed() >= Duration::from_secs(self.recipe.train.checkpoint_seconds) {
                self.save_checkpoint()?;
                saved = Instant::now();
            }
        }
        if self.progress.evaluated_at != Some(self.progress.step) {
            // Stopped early, by time: the last state has its say too.
            self.evaluate(false, &begun, &mut log, watch)?;
        }
        self.save_checkpoint()?;
        self.finish(&begun, &mut log, baselines, watch)
    }

    fn out_of_time(&self) -> bool {
        let limit = self.recipe.train.max_seconds;
        limit > 0 && self.progress.seconds >= limit as f64
    }

    fn out_of_patience(&self) -> bool {
        let patience = self.recipe.train.patience;
        patience > 0 && self.progress.evaluations_since_best >= patience
    }

    fn learning_rate(&self) -> f64 {
        let factor = self.recipe.schedule.factor(self.progress.step, self.steps, &self.progress.plateau);
        self.recipe.optimiser.learning_rate * factor
    }

    /// One update: gradients, their norm, clipping, the optimiser, packing.
    fn update(&mut self, begun: &Begun) -> Result<()> {
        let Progress { step, epoch, position, .. } = self.progress;
        let learning_rate = self.learning_rate();
        let Self { threads, lesson, network, parameters, gradients, packed, workspace, optimiser, isa, .. } = self;
        let (isa, train) = (*isa, &self.recipe.train);
        let pass = Pass::Training(Philox::new(self.recipe.seed, Purpose::Dropout, step));
        let (threads, place) = (&*threads, Place { epoch, index: position });
        reduce::clear(threads, gradients);
        let model = Model { network, weights: Weights { parameters, packed, threads } };
        let (learnt, tokens) = lesson.learn(place, model, pass, gradients, workspace);
        let grad_norm = reduce::sum_of_squares(isa, threads, gradients).sqrt();
        let loss = learnt.loss.sum / learnt.loss.count as f64;
        if !loss.is_finite() || !grad_norm.is_finite() {
            return Err(self.diverged(loss, grad_norm));
        }
        if train.clip_value > 0.0 {
            reduce::clip_value(isa, threads, train.clip_value, gradients);
        }
        let factor = match train.clip_norm {
            limit if limit > 0.0 && train.clip_value > 0.0 => {
                clipping_factor(reduce::sum_of_squares(isa, threads, gradients).sqrt(), limit)
            }
            limit if limit > 0.0 => clipping_factor(grad_norm, limit),
            _ => 1.0,
        };
        optimiser.step(isa, threads, learning_rate, factor, parameters, gradients);
        network.pack(threads, parameters, packed);

        self.progress.recent.add(learnt, grad_norm, learning_rate);
        self.progress.step += 1;
        self.progress.position += 1;
        self.progress.tokens += tokens as u64;
        if self.progress.position == self.lesson.updates_per_epoch() {
            self.progress.position = 0;
            self.progress.epoch += 1;
        }
        self.progress.seconds = begun.seconds();
        Ok(())
    }

    fn diverged(&self, loss: f64, grad_norm: f64) -> Error {
        let checkpoint = self.folder.checkpoint();
        let checkpoint = checkpoint.exists().then_some(checkpoint);
        Error::NonFiniteLoss { step: self.progress.step, loss, grad_norm, checkpoint }
    }

    fn model(&mut self) -> (&mut dyn Lesson, Model<'_>, &mut Workspace<f32>) {
        let Self { lesson, network, parameters, packed, threads, workspace, .. } = self;
        (lesson.as_mut(), Model { network, weights: Weights { parameters, packed, threads } }, workspace)
    }

    /// Measures the validation part, and keeps the model if it is the best so far. An evaluation that is not `due`, because
    /// time ran out, has no part in what decides the course of the run: the schedule and the patience.
    fn evaluate(
        &mut self,
        due: bool,
        begun: &Begun,
        log: &mut MetricsLog,
        watch: &mut dyn FnMut(Event<'_>),
    ) -> Result<()> {
        let step = self.progress.step;
        let samples = lesson::samples(self.recipe) && step > 0;
        let (lesson, model, workspace) = self.model();
        let reached = lesson.evaluate(Part::Validation, model, workspace).expect("a run has a validation part");
        let sample = if samples { lesson.sample(step, model, workspace) } else { None };
        if !reached.loss.is_finite() {
            return Err(self.diverged(reached.loss, f64::NAN));
        }
        let since_best = self.progress.evaluations_since_best;
        let best = self.progress.observe(reached.score);
        if due {
            self.progress.plateau.observe(&self.recipe.schedule, reached.loss);
        } else if !best {
            self.progress.evaluations_since_best = since_best;
        }
        self.progress.evaluated_at = Some(step);
        if best {
            self.save_model()?;
        }
        self.progress.seconds = begun.seconds();
        let row = self.row(Part::Validation, begun, &reached);
        log.append(&row)?;
        watch(Event::Evaluation { row: &row, best });
        if let Some(sample) = sample {
            watch(Event::Sample(&sample));
        }
        Ok(())
    }

    fn row(&self, split: Part, begun: &Begun, reached: &Evaluation) -> Row {
        Row {
            step: self.progress.step,
            epoch: self.progress.step.div_ceil(self.lesson.updates_per_epoch()),
            split,
            loss: reached.loss,
            lr: self.progress.recent.learning_rate,
            grad_norm: f64::NAN,
            tokens_per_s: begun.tokens_per_s(&self.progress),
            seconds: self.progress.seconds,
            metrics: reached.metrics.clone(),
        }
    }

    fn training_row(&self, begun: &Begun) -> Row {
        let recent = &self.progress.recent;
        let metrics = recent.metrics(self.recipe);
        let row = self.row(Part::Training, begun, &Evaluation { loss: recent.mean_loss(), score: f64::NAN, metrics });
        Row { grad_norm: recent.grad_norm / recent.updates as f64, ..row }
    }

    fn save_model(&self) -> Result<()> {
        let bytes = throughline_nn::weights::save(self.network.config(), self.network.layout(), &self.parameters);
        write_atomically(&self.folder.model(), &bytes)
    }

    /// The arrays of a checkpoint beside what the lesson carries.
    fn tensors(&self) -> Vec<NamedTensor<'_>> {
        let shape = vec![self.network.layout().length()];
        let mut tensors: Vec<NamedTensor<'_>> = vec![("parameters".to_owned(), shape.clone(), &self.parameters[..])];
        for (name, moment) in self.optimiser.state() {
            tensors.push((format!("optimiser.{name}"), shape.clone(), moment));
        }
        tensors.extend(self.lesson.carried());
        tensors
    }

    fn save_checkpoint(&self) -> Result<()> {
        checkpoint::save(&self.folder.checkpoint(), &self.progress, &self.tensors())
    }

    fn load_checkpoint(&mut self) -> Result<()> {
        let path = self.folder.checkpoint();
        let expected: Vec<(String, Vec<usize>)> =
            self.tensors().into_iter().map(|(name, shape, _)| (name, shape)).collect();
        let (progress, tensors) = checkpoint::load(&path, &expected)?;
        progress.check_digests(&path, &self.progress.data_digest, &self.progress.recipe_digest)?;
        progress.check_place(&path, self.lesson.updates_per_epoch())?;
        let mut tensors = tensors.into_iter();
        self.parameters.copy_from_slice(&tensors.next().expect("the parameters"));
        for (_, moment) in self.optimiser.state_mut() {
            moment.copy_from_slice(&tensors.next().expect("every moment"));
        }
        self.lesson.restore(tensors.collect());
        self.optimiser.set_updates(progress.step);
        self.progress = progress;
        self.network.pack(&self.threads, &self.parameters, &mut self.packed);
        Ok(())
    }

    /// Measures the best model once on the test part and writes the card.
    fn finish(
        &mut self,
        begun: &Begun,
        log: &mut MetricsLog,
        baselines: Vec<Score>,
        watch: &mut dyn FnMut(Event<'_>),
    ) -> Result<Outcome> {
        let path = self.folder.model();
        let limit = crate::model::largest_weights(&self.network);
        throughline_nn::weights::load(
            self.network.config(),
            self.network.layout(),
            &read_at_most(&path, limit)?,
            &mut self.parameters,
        )
        .map_err(|error| Error::file(&path, "model", "the best model of this run", error))?;
        self.network.pack(&self.threads, &self.parameters, &mut self.packed);
        let (lesson, model, workspace) = self.model();
        let validation = lesson.evaluate(Part::Validation, model, workspace);
        let test = lesson.evaluate(Part::Test, model, workspace);
        if let Some(reached) = &test {
            let row = self.row(Part::Test, begun, reached);
            log.append(&row)?;
            watch(Event::Evaluation { row: &row, best: true });
        }
        let results =
            [(Part::Validation, &validation), (Part::Test, &test)].into_iter().filter_map(|(split, reached)| {
                let reached = reached.as_ref()?;
                let mut metrics = reached.metrics.clone();
                metrics.insert("loss".to_owned(), reached.loss);
                Some(Score { method: "this model".to_owned(), split, metrics })
            });
        let name = self.folder.path().file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let run = if self.recipe.runs_dir == Path::new("runs") {
            name.clone()
        } else {
            self.folder.path().display().to_string()
        };
        let card = Card {
            name: &name,
            recipe: self.recipe,
            data: self.lesson.facts(),
            parameters: self.network.layout().parameter_count(),
            updates: self.progress.step,
            seconds: self.progress.seconds,
            results: results.collect(),
            baselines,
            usage: crate::model::usage(lesson::task_of(self.recipe), &run),
        };
        write_atomically(&self.folder.card(), card.render().as_bytes())?;
        Ok(Outcome { step: self.progress.step, seconds: self.progress.seconds, validation, test })
    }
}

/// Whether one of `times` events spread evenly over `steps` updates falls due after update `step`; the last one after the
/// last update.
fn falls_due(step: u64, steps: u64, times: u64) -> bool {
    let due = |step: u64| u128::from(step) * u128::from(times) / u128::from(steps);
    due(step) != due(step - 1)
}

/// When a session began, and how far the run was then.
struct Begun {
    at: Instant,
    seconds: f64,
    tokens: u64,
}

impl Begun {
    fn seconds(&self) -> f64 {
        self.seconds + self.at.elapsed().as_secs_f64()
    }

    fn tokens_per_s(&self, progress: &Progress) -> f64 {
        (progress.tokens - self.tokens) as f64 / self.at.elapsed().as_secs_f64()
    }
}

impl Recent {
    fn add(&mut self, learnt: Classified, grad_norm: f64, learning_rate: f64) {
        self.loss += learnt.loss.sum;
        self.count += learnt.loss.count as u64;
        self.correct += learnt.correct as u64;
        self.grad_norm += grad_norm;
        self.updates += 1;
        self.learning_rate = learning_rate;
    }

    fn mean_loss(&self) -> f64 {
        self.loss / self.count as f64
    }

    fn metrics(&self, recipe: &Recipe) -> BTreeMap<String, f64> {
        match lesson::task_of(recipe) {
            crate::Task::Lm => lesson::language_metrics(self.mean_loss()),
            crate::Task::Classify => BTreeMap::from([("accuracy".to_owned(), self.correct as f64 / self.count as f64)]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::falls_due;

    #[test]
    fn events_are_spread_evenly_and_include_the_last_update() {
        for (steps, times) in [(10, 5), (7, 5), (3, 5), (1000, 7)] {
            let due: Vec<u64> = (1..=steps).filter(|&step| falls_due(step, steps, times)).collect();
            assert_eq!(due.len() as u64, times.min(steps));
            assert_eq!(due.last(), Some(&steps));
        }
    }
}
