//! A run of any task from beginning to end: started or resumed, trained, measured and described.

mod course;
mod kept;
mod range;
mod saved;

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use throughline_data::Split;
use throughline_infer::{Evaluation, RunnerWorkspace, Serve, config_json};
use throughline_kernels::buffer::Buffer;
use throughline_kernels::optim::{Average, Optimiser};
use throughline_nn::module::{Cpu, TapeSetting};
use throughline_nn::network::{PackedNetwork, Workspace};

use crate::averaging::Averaged;
use crate::learn::{Description, Learn, NetworkOf, Score};
use crate::recipe::Schedule;
use crate::run::card::Card;
use crate::run::checkpoint::Progress;
use crate::run::folder::{RunLock, StagedRun, taken};
use crate::run::metrics::{MetricsLog, Row};
use crate::schedule::Span;
use crate::{Error, Recipe, Result, RunFolder, write_atomically};
use kept::Kept;

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
    /// The run is over and whole, and its page is about to be written to this file.
    Page(&'a Path),
    /// An update is done.
    Update {
        /// Updates done.
        step: u64,
        /// Mean loss since the last row for the training split, in nats.
        loss: f64,
        /// Units learned from per second, since the run or its resumption began.
        tokens_per_s: f64,
        /// Seconds until all updates are done at this speed, or until `train.max_seconds` are over if that comes first.
        seconds_left: f64,
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
    /// The learning rate went down a step, and the parameters, moments and average went back to those of the kept update.
    Restart {
        /// The kept update.
        kept: u64,
    },
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// All updates are done.
    Updates,
    /// `train.patience` evaluations in a row were no better.
    Patience {
        /// So many.
        evaluations: u64,
    },
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

pub(crate) use range::test_range;
pub use range::{RangeRow, RangeTest, RateRange};

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
    network: NetworkOf<L>,
    parameters: Buffer<f32>,
    gradients: Buffer<f32>,
    packed: PackedNetwork<f32, <L::Serve as Serve>::Body, <L::Serve as Serve>::Head>,
    workspace: RunnerWorkspace<L::Serve>,
    optimiser: Optimiser<f32>,
    /// The kept update, where the schedule goes back to it.
    kept: Option<Kept>,
    /// The average of the parameters, if it is to be kept in their place.
    average: Option<Average<f32>>,
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
        let network = data.network(&recipe);
        let mut parameters = network.initialise(&L::initialise(&recipe));
        data.set_parameters(&network, &mut parameters, false);
        let steps = match recipe.train.steps {
            0 => recipe.train.epochs.saturating_mul(data.batches_per_epoch().div_ceil(recipe.train.accumulate)),
            steps => steps,
        };
        let planned = recipe.schedule.length(steps);
        let optimiser = Optimiser::new(recipe.method(), network.layout().length());
        let average = recipe.averaging().map(|averaging| Average::new(averaging, network.layout().length()));
        let averaged = Averaged::start(&recipe.average);
        let progress = Progress::start(planned, averaged, data.record(), recipe.identity()?);
        let mut workspace = Workspace::default();
        network.set(&mut workspace, TapeSetting::Checkpointing(recipe.train.checkpoint_every));
        Ok(Self {
            gradients: network.layout().zeros(),
            packed: network.packed(&cpu, &parameters, true),
            workspace,
            kept: recipe.schedule.restart.then(|| Kept::new(&parameters, &optimiser, average.as_ref())),
            optimiser,
            average,
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

    /// Updates in an epoch; the last one is of the batches that are left.
    fn updates_per_epoch(&self) -> u64 {
        self.data.batches_per_epoch().div_ceil(self.recipe.train.accumulate)
    }

    /// How long the run and its epochs are.
    fn span(&self) -> Span {
        Span { updates: self.steps, epoch: self.updates_per_epoch() }
    }

    /// What the learning rate does where the run is resumed with a schedule of another length, if it jumps there.
    fn jump_of_the_rate(&self) -> Option<String> {
        let Progress { step, planned, plateau, .. } = &self.progress;
        let length = self.recipe.schedule.length(self.steps);
        let rate = |updates| {
            let schedule = Schedule { steps: updates, ..self.recipe.schedule.clone() };
            let run = Span { updates, ..self.span() };
            schedule.factor(*step, run, plateau) * self.recipe.optimiser.learning_rate
        };
        let (then, now) = (rate(*planned), rate(length));
        (then != now).then(|| {
            format!(
                "the learning rate jumps from {then:.3e} to {now:.3e} here, as the schedule now ends after {length} updates \
                 instead of {planned}; to keep its course, resume with --set schedule.steps={planned}"
            )
        })
    }

    /// Says what is to be trained, trains it and finishes the run.
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
        if self.recipe.train.tensorboard {
            log = log.with_events(self.progress.step)?;
        }
        let session = &mut Session { folder, begun: Begun::now(&self.progress), log, watch };
        let end = self.train(session, stop)?;
        self.finish(session, description, baselines, end)
    }

    /// Measures the best model once on the test split and writes the card.
    fn finish(
        &mut self,
        session: &mut Session<'_>,
        description: Description,
        baselines: Vec<Score>,
        end: End,
    ) -> Result<Outcome> {
        let folder = session.folder;
        self.load_model(folder)?;
        let validation = self.reach(Split::Validation);
        let test = self.reach(Split::Test);
        if let Some(reached) = &test {
            let row = self.row(Split::Test, session, reached);
            session.log.append(&row)?;
            (session.watch)(Event::Evaluation { row: &row, best: true });
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
            new_updates: progress.step - session.begun.step,
            end,
            seconds: progress.seconds,
            kept,
            beat_the_start,
            validation,
            test,
        })
    }
}

/// A run in this process, from its beginning or resumption to its end.
struct Session<'a> {
    folder: &'a RunFolder,
    begun: Begun,
    log: MetricsLog,
    watch: &'a mut dyn FnMut(Event<'_>),
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

    /// Seconds that so many updates will take at the speed so far.
    fn seconds_for(&self, updates: u64, progress: &Progress) -> f64 {
        self.at.elapsed().as_secs_f64() / (progress.step - self.step) as f64 * updates as f64
    }

    fn tokens_per_s(&self, progress: &Progress) -> f64 {
        (progress.tokens - self.tokens) as f64 / self.at.elapsed().as_secs_f64()
    }
}
