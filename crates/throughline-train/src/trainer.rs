//! The training loop of every task: schedule, clipping, update, evaluation, checkpoints, resumption.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use throughline_data::Split;
use throughline_infer::{Evaluation, Runner, RunnerWorkspace, Serve, config_json, kind_json};
use throughline_kernels::buffer::Buffer;
use throughline_kernels::ops::reduce;
use throughline_kernels::optim::{Optimiser, clipping_factor};
use throughline_kernels::random::{Philox, Purpose};
use throughline_nn::heads::Loss;
use throughline_nn::module::{Cpu, Pass, TapeSetting};
use throughline_nn::network::{Network, PackedNetwork, Weights, Workspace};
use throughline_nn::weights;

use crate::learn::{Description, Learn, Learned, Place, Score, state_tensors};
use crate::recipe::Schedule;
use crate::run::card::Card;
use crate::run::checkpoint::{self, Progress, Reached, Recent};
use crate::run::folder::{RunLock, StagedRun, taken};
use crate::run::metrics::{MetricsLog, Row};
use crate::{Error, Recipe, Result, RunFolder, read_at_most, write_atomically};

/// Rows that the training split adds to `metrics.jsonl` over a run, about.
const TRAINING_ROWS: u64 = 200;

/// What happens in a run, for whoever watches. The library itself never prints.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The data is read, and the run folder is about to be made or taken up: from now on the run can be resumed, and wants
    /// to be stopped by its flag.
    Begin,
    /// What is to be trained.
    Ready {
        /// The model and its data.
        description: &'a Description,
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
    /// Something that goes on in a way one may not expect.
    Warning(&'a str),
    /// An update is done.
    Update {
        /// Updates done.
        step: u64,
        /// Mean loss since the last row for the training split, in nats.
        loss: f64,
        /// Units learned from per second, since the run or its resumption began.
        tokens_per_s: f64,
    },
    /// A row has been added to `metrics.jsonl` for a validation or test split.
    Evaluation {
        /// The row.
        row: &'a Row,
        /// Whether the model is the best so far and was saved.
        best: bool,
    },
    /// The model has written a text.
    Sample(&'a str),
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// All updates are done.
    Updates,
    /// `train.patience` evaluations in a row were no better.
    Patience,
    /// `train.max_seconds` are over.
    Time,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Its folder.
    pub folder: RunFolder,
    /// Updates done.
    pub step: u64,
    /// Updates done since the run began or was resumed.
    pub new_updates: u64,
    /// Why it ended.
    pub end: End,
    /// Seconds of training, over all sessions.
    pub seconds: f64,
    /// The update whose parameters were kept.
    pub kept: u64,
    /// Whether they are better on the validation split than the untrained ones.
    pub beat_the_start: bool,
    /// What the kept parameters reach on the validation split.
    pub validation: Option<Evaluation>,
    /// What they reach on the test split, if there is one.
    pub test: Option<Evaluation>,
}

pub(crate) fn train<L: Learn>(recipe: Recipe, stop: &AtomicBool, watch: &mut dyn FnMut(Event<'_>)) -> Result<Outcome> {
    if !recipe.name.is_empty() {
        RunFolder::check_free(&recipe.runs_dir, &recipe.name)?;
    }
    let mut trainer = Trainer::<L>::new(recipe)?;
    let baselines = trainer.data.baselines()?;
    watch(Event::Begin);
    let (folder, _lock) = trainer.create_folder()?;
    let outcome = trainer.run(&folder, baselines, stop, watch);
    let interrupted = matches!(outcome, Err(Error::Interrupted { .. }));
    if outcome.is_err() && !interrupted && trainer.progress.step == 0 {
        // Nothing was learned, and there is nothing to go on with.
        std::fs::remove_dir_all(folder.path()).ok();
    }
    outcome
}

pub(crate) fn resume<L: Learn>(
    recipe: Recipe,
    folder: &RunFolder,
    stop: &AtomicBool,
    watch: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome> {
    let _lock = folder.lock()?;
    let mut trainer = Trainer::<L>::new(recipe)?;
    trainer.load_checkpoint(folder)?;
    if trainer.steps < trainer.progress.step {
        let expected = format!("at least the {} updates that are done", trainer.progress.step);
        return Err(Error::file(&folder.config_toml(), "train.steps or train.epochs", expected, trainer.steps));
    }
    if let Some(warning) = trainer.jump_of_the_rate() {
        watch(Event::Warning(&warning));
    }
    trainer.progress.planned = trainer.recipe.schedule.length(trainer.steps);
    let baselines = trainer.data.baselines()?;
    watch(Event::Begin);
    // What was changed to go on, such as the number of epochs, holds from now on.
    write_atomically(&folder.config_toml(), trainer.recipe.to_toml()?.as_bytes())?;
    trainer.run(folder, baselines, stop, watch)
}

/// A run in progress.
struct Trainer<L: Learn> {
    recipe: Recipe,
    data: L,
    cpu: Cpu,
    network: Network<<L::Serve as Serve>::Body, <L::Serve as Serve>::Head>,
    parameters: Buffer<f32>,
    gradients: Buffer<f32>,
    packed: PackedNetwork<f32, <L::Serve as Serve>::Body, <L::Serve as Serve>::Head>,
    workspace: RunnerWorkspace<L::Serve>,
    optimiser: Optimiser<f32>,
    progress: Progress,
    steps: u64,
}

impl<L: Learn> Trainer<L> {
    fn new(mut recipe: Recipe) -> Result<Self> {
        let cpu = Cpu::of(recipe.start_threads(None)?);
        let data = L::read(&recipe)?;
        data.write_down(&mut recipe);
        <L::Serve as Serve>::check(data.config()).map_err(|wrong| {
            let key = format!("model ({})", wrong.key);
            Error::recipe(&crate::Origin::Default, &key, wrong.expected, wrong.found)
        })?;
        let network = <L::Serve as Serve>::network(data.config(), L::dropouts(&recipe));
        let parameters = network.initialise(&L::initialise(&recipe));
        let steps = match recipe.train.steps {
            0 => recipe.train.epochs.saturating_mul(data.updates_per_epoch()),
            steps => steps,
        };
        let planned = recipe.schedule.length(steps);
        let progress = Progress::start(planned, data.record(), recipe.identity()?);
        let mut workspace = Workspace::default();
        network.set(&mut workspace, TapeSetting::Checkpointing(recipe.train.checkpoint_every));
        Ok(Self {
            gradients: network.layout().zeros(),
            packed: network.packed(&cpu, &parameters, true),
            workspace,
            optimiser: Optimiser::new(recipe.method(), network.layout().length()),
            cpu,
            data,
            network,
            parameters,
            progress,
            steps,
            recipe,
        })
    }

    /// Makes the run folder with everything that is needed to resume the run.
    fn create_folder(&mut self) -> Result<(RunFolder, RunLock)> {
        let staged = StagedRun::begin(&self.recipe.runs_dir)?;
        let lock = staged.folder().lock()?;
        let folder = staged.folder();
        write_atomically(&folder.config_json(), config_json::<L::Serve>(self.data.config()).as_bytes())?;
        for (name, bytes) in <L::Serve as Serve>::encoder_files(self.data.encoder()) {
            write_atomically(&folder.path().join(name), &bytes)?;
        }
        let record = serde_json::to_string_pretty(&self.progress.data).expect("plain data has a JSON form") + "\n";
        write_atomically(&folder.data_json(), record.as_bytes())?;
        self.save_checkpoint(folder)?;
        let given = !self.recipe.name.is_empty();
        for number in 1_u64.. {
            if !given {
                self.recipe.name = format!("{}-{number}", self.recipe.task());
            }
            write_atomically(&staged.folder().config_toml(), self.recipe.to_toml()?.as_bytes())?;
            match staged.publish(&self.recipe.name)? {
                Some(folder) => return Ok((folder, lock)),
                None if given => break,
                None => {}
            }
        }
        Err(taken(&self.recipe.runs_dir, &self.recipe.name))
    }

    /// What the learning rate does where the run is resumed with a schedule of another length, if it jumps there.
    fn jump_of_the_rate(&self) -> Option<String> {
        let Progress { step, planned, plateau, .. } = &self.progress;
        let length = self.recipe.schedule.length(self.steps);
        let rate = |steps| {
            let schedule = Schedule { steps, ..self.recipe.schedule.clone() };
            schedule.factor(*step, steps, plateau) * self.recipe.optimiser.learning_rate
        };
        let (then, now) = (rate(*planned), rate(length));
        (then != now).then(|| {
            format!(
                "the learning rate jumps from {then:.3e} to {now:.3e} here, as the schedule now ends after {length} updates \
                 instead of {planned}; to keep its course, resume with --set schedule.steps={planned}"
            )
        })
    }

    fn run(
        &mut self,
        folder: &RunFolder,
        baselines: Vec<Score>,
        stop: &AtomicBool,
        watch: &mut dyn FnMut(Event<'_>),
    ) -> Result<Outcome> {
        let description = self.data.describe();
        for warning in &description.warnings {
            watch(Event::Warning(warning));
        }
        watch(Event::Ready {
            description: &description,
            baselines: &baselines,
            parameters: self.network.layout().parameter_count(),
            threads: self.cpu.threads.count(),
            step: self.progress.step,
            steps: self.steps,
        });
        let mut log = MetricsLog::open(&folder.metrics(), self.progress.step)?;
        let begun = Begun::now(&self.progress);
        let mut saved = Instant::now();
        if self.progress.evaluated_at.is_none() {
            self.evaluate(true, folder, &begun, &mut log, watch)?;
            self.save_checkpoint(folder)?;
        }
        let end = loop {
            if let Some(end) = self.end() {
                break end;
            }
            if stop.load(Ordering::Relaxed) {
                self.save_checkpoint(folder)?;
                return Err(Error::Interrupted { step: self.progress.step, run: folder.path().to_path_buf() });
            }
            self.update(folder, &begun)?;
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
                self.evaluate(true, folder, &begun, &mut log, watch)?;
            }
            if saved.elapsed() >= Duration::from_secs(self.recipe.train.checkpoint_seconds) {
                self.save_checkpoint(folder)?;
                saved = Instant::now();
            }
        };
        if self.progress.evaluated_at != Some(self.progress.step) {
            // Stopped early, by time: the last state has its say too.
            self.evaluate(false, folder, &begun, &mut log, watch)?;
        }
        self.save_checkpoint(folder)?;
        let run = Finished { folder, begun: &begun, description, baselines, end };
        self.finish(run, &mut log, watch)
    }

    /// Why the run is over, if it is.
    fn end(&self) -> Option<End> {
        let (train, progress) = (&self.recipe.train, &self.progress);
        if progress.step >= self.steps {
            Some(End::Updates)
        } else if train.max_seconds > 0 && progress.step > 0 && progress.seconds >= train.max_seconds as f64 {
            Some(End::Time)
        } else if train.patience > 0 && progress.evaluations_since_best >= train.patience {
            Some(End::Patience)
        } else {
            None
        }
    }

    fn learning_rate(&self) -> f64 {
        let factor = self.recipe.schedule.factor(self.progress.step, self.steps, &self.progress.plateau);
        self.recipe.optimiser.learning_rate * factor
    }

    /// The data, and the network at work.
    fn runner(&mut self) -> (&mut L, Runner<'_, L::Serve>, &mut [f32]) {
        let Self { data, network, parameters, packed, cpu, workspace, gradients, .. } = self;
        (data, Runner { network, weights: Weights { cpu, parameters, packed }, workspace }, gradients)
    }

    /// One update: gradients, their norm, clipping, the optimiser, packing.
    fn update(&mut self, folder: &RunFolder, begun: &Begun) -> Result<()> {
        let Progress { step, epoch, position, .. } = self.progress;
        let (learning_rate, seed) = (self.learning_rate(), self.recipe.seed);
        let pass = Pass::Training(Philox::new(seed, Purpose::Dropout, step));
        reduce::clear(&self.cpu.threads, &mut self.gradients);
        let (data, mut runner, gradients) = self.runner();
        let learned = data.learn(Place { epoch, index: position }, pass, &mut runner, gradients);
        let Self { cpu, network, parameters, gradients, packed, optimiser, .. } = self;
        let (Cpu { isa, threads }, train) = (&*cpu, &self.recipe.train);
        let grad_norm = reduce::sum_of_squares(*isa, threads, gradients).sqrt();
        let loss = learned.loss.sum / learned.loss.weight;
        if !loss.is_finite() || !grad_norm.is_finite() {
            return Err(self.diverged(folder, loss, grad_norm));
        }
        if train.clip_value > 0.0 {
            reduce::clip_value(*isa, threads, train.clip_value, gradients);
        }
        let factor = match train.clip_norm {
            limit if limit > 0.0 && train.clip_value > 0.0 => {
                clipping_factor(reduce::sum_of_squares(*isa, threads, gradients).sqrt(), limit)
            }
            limit if limit > 0.0 => clipping_factor(grad_norm, limit),
            _ => 1.0,
        };
        optimiser.step(*isa, threads, learning_rate, factor, parameters, gradients);
        network.pack(cpu, parameters, packed);
        self.count(learned, grad_norm, learning_rate);
        self.progress.seconds = begun.seconds();
        Ok(())
    }

    fn count(&mut self, learned: Learned, grad_norm: f64, learning_rate: f64) {
        let progress = &mut self.progress;
        progress.recent.add(learned.loss, grad_norm, learning_rate);
        progress.step += 1;
        progress.position += 1;
        progress.tokens += learned.units as u64;
        if progress.position == self.data.updates_per_epoch() {
            progress.position = 0;
            progress.epoch += 1;
        }
    }

    fn diverged(&self, folder: &RunFolder, loss: f64, grad_norm: f64) -> Error {
        let checkpoint = (self.progress.step > 0).then(|| folder.checkpoint());
        Error::NonFiniteLoss { step: self.progress.step, loss, grad_norm, checkpoint }
    }

    /// What the parameters at hand reach on a split.
    fn reach(&mut self, split: Split) -> Option<Evaluation> {
        let (data, mut runner, _) = self.runner();
        <L::Serve as Serve>::evaluate(&mut runner, data.config(), data.encoder(), data.data(split))
    }

    /// Measures the validation split, and keeps the model if it is the best so far. An evaluation that is not `due`, because
    /// time ran out, is not shown to the schedule and does not count against the patience.
    fn evaluate(
        &mut self,
        due: bool,
        folder: &RunFolder,
        begun: &Begun,
        log: &mut MetricsLog,
        watch: &mut dyn FnMut(Event<'_>),
    ) -> Result<()> {
        let step = self.progress.step;
        let reached = self.reach(Split::Validation).expect("a run has a validation split");
        let (data, mut runner, _) = self.runner();
        let sample = if step > 0 { data.sample(step, &mut runner) } else { None };
        if !reached.loss.is_finite() {
            return Err(self.diverged(folder, reached.loss, f64::NAN));
        }
        let since_best = self.progress.evaluations_since_best;
        let score = <L::Serve as Serve>::score(&reached);
        let best = self.progress.observe(Reached { step, score, loss: reached.loss });
        if due {
            self.progress.plateau.observe(&self.recipe.schedule, reached.loss);
        } else if !best {
            self.progress.evaluations_since_best = since_best;
        }
        self.progress.evaluated_at = Some(step);
        if best {
            self.save_model(folder)?;
        }
        self.progress.seconds = begun.seconds();
        let row = self.row(Split::Validation, begun, &reached);
        log.append(&row)?;
        watch(Event::Evaluation { row: &row, best });
        if let Some(sample) = sample {
            watch(Event::Sample(&sample));
        }
        Ok(())
    }

    fn row(&self, split: Split, begun: &Begun, reached: &Evaluation) -> Row {
        Row {
            step: self.progress.step,
            epoch: self.progress.step.div_ceil(self.data.updates_per_epoch()),
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
        let Recent { loss: sum, weight, correct, .. } = *recent;
        Row {
            step: self.progress.step,
            epoch: self.progress.step.div_ceil(self.data.updates_per_epoch()),
            split: Split::Train,
            loss: recent.mean_loss(),
            lr: recent.learning_rate,
            grad_norm: recent.grad_norm / recent.updates as f64,
            tokens_per_s: begun.tokens_per_s(&self.progress),
            seconds: self.progress.seconds,
            metrics: L::training_metrics(&Loss { sum, weight, correct }),
        }
    }

    fn save_model(&self, folder: &RunFolder) -> Result<()> {
        let kind = kind_json::<L::Serve>(&self.network);
        write_atomically(&folder.model(), &weights::save(&kind, self.network.layout(), &self.parameters))
    }

    /// Takes back the parameters that were kept.
    fn load_model(&mut self, folder: &RunFolder) -> Result<()> {
        let (path, layout) = (folder.model(), self.network.layout());
        let bytes = read_at_most(&path, weights::size_limit(layout))?;
        let kind = kind_json::<L::Serve>(&self.network);
        weights::load(&kind, layout, &bytes, &mut self.parameters)
            .map_err(|error| Error::file(&path, "model", "the best model of this run", error))?;
        self.network.pack(&self.cpu, &self.parameters, &mut self.packed);
        Ok(())
    }

    /// The arrays of a checkpoint.
    fn tensors(&self) -> Vec<(String, Vec<usize>, &[f32])> {
        let shape = vec![self.network.layout().length()];
        let mut tensors = vec![("parameters".to_owned(), shape.clone(), &self.parameters[..])];
        for (name, moment) in self.optimiser.state() {
            tensors.push((format!("optimiser.{name}"), shape.clone(), moment));
        }
        tensors.extend(self.data.state().into_iter().flat_map(state_tensors));
        tensors
    }

    fn save_checkpoint(&self, folder: &RunFolder) -> Result<()> {
        checkpoint::save(&folder.checkpoint(), &self.progress, &self.tensors())
    }

    fn load_checkpoint(&mut self, folder: &RunFolder) -> Result<()> {
        let path = folder.checkpoint();
        let expected: Vec<(String, Vec<usize>)> =
            self.tensors().into_iter().map(|(name, shape, _)| (name, shape)).collect();
        // Other data may make another model, so the data are compared first.
        checkpoint::peek(&path)?.check_origin(&path, &self.progress.data, &self.progress.recipe_digest)?;
        let (progress, tensors) = checkpoint::load(&path, &expected)?;
        progress.check_place(&path, self.data.updates_per_epoch())?;
        let mut tensors = tensors.into_iter();
        self.parameters.copy_from_slice(&tensors.next().expect("the parameters"));
        for (_, moment) in self.optimiser.state_mut() {
            moment.copy_from_slice(&tensors.next().expect("every moment"));
        }
        if let Some(state) = self.data.state_mut() {
            for (array, values) in state.arrays_mut().iter_mut().zip(tensors) {
                array.values_mut().copy_from_slice(&values);
            }
            state.begin();
        }
        self.optimiser.set_updates(progress.step);
        self.progress = progress;
        self.network.pack(&self.cpu, &self.parameters, &mut self.packed);
        Ok(())
    }

    /// Measures the best model once on the test split and writes the card.
    fn finish(&mut self, run: Finished<'_>, log: &mut MetricsLog, watch: &mut dyn FnMut(Event<'_>)) -> Result<Outcome> {
        let Finished { folder, begun, description, baselines, end } = run;
        self.load_model(folder)?;
        let validation = self.reach(Split::Validation);
        let test = self.reach(Split::Test);
        if let Some(reached) = &test {
            let row = self.row(Split::Test, begun, reached);
            log.append(&row)?;
            watch(Event::Evaluation { row: &row, best: true });
        }
        let score = |split, reached: &Option<Evaluation>| {
            let reached = reached.as_ref()?;
            let mut metrics = reached.metrics.clone();
            metrics.insert("loss".to_owned(), reached.loss);
            Some(Score { method: "this model".to_owned(), split, metrics })
        };
        let results =
            [score(Split::Validation, &validation), score(Split::Test, &test)].into_iter().flatten().collect();
        let name = folder.path().file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let run_argument =
            if self.recipe.runs_dir == Path::new("runs") { name.clone() } else { folder.path().display().to_string() };
        let progress = &self.progress;
        let (kept, beat_the_start) = (progress.best.map_or(0, |best| best.step), progress.beat_the_start());
        let card = Card {
            name: &name,
            info: &<L::Serve as Serve>::INFO,
            recipe: &self.recipe,
            description,
            parameters: self.network.layout().parameter_count(),
            updates: progress.step,
            seconds: progress.seconds,
            kept,
            beat_the_start,
            results,
            baselines,
            run: &run_argument,
        };
        write_atomically(&folder.card(), card.render().as_bytes())?;
        Ok(Outcome {
            folder: folder.clone(),
            step: progress.step,
            new_updates: progress.step - begun.step,
            end,
            seconds: progress.seconds,
            kept,
            beat_the_start,
            validation,
            test,
        })
    }
}

/// A run whose updates are over.
struct Finished<'a> {
    folder: &'a RunFolder,
    begun: &'a Begun,
    description: Description,
    baselines: Vec<Score>,
    end: End,
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
    step: u64,
    seconds: f64,
    tokens: u64,
}

impl Begun {
    fn now(progress: &Progress) -> Self {
        Self { at: Instant::now(), step: progress.step, seconds: progress.seconds, tokens: progress.tokens }
    }

    fn seconds(&self) -> f64 {
        self.seconds + self.at.elapsed().as_secs_f64()
    }

    fn tokens_per_s(&self, progress: &Progress) -> f64 {
        (progress.tokens - self.tokens) as f64 / self.at.elapsed().as_secs_f64()
    }
}

impl Recent {
    fn add(&mut self, loss: Loss, grad_norm: f64, learning_rate: f64) {
        self.loss += loss.sum;
        self.weight += loss.weight;
        self.correct += loss.correct;
        self.grad_norm += grad_norm;
        self.updates += 1;
        self.learning_rate = learning_rate;
    }

    fn mean_loss(&self) -> f64 {
        self.loss / self.weight
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
