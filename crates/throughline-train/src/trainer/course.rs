//! The training loop: updates, with evaluations and checkpoints in between, until the run is over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use throughline_data::Split;
use throughline_infer::{Evaluation, Runner, Serve};
use throughline_kernels::ops::reduce;
use throughline_kernels::optim::clipping_factor;
use throughline_kernels::random::{Philox, Purpose};
use throughline_nn::heads::Loss;
use throughline_nn::module::{Cpu, Pass};
use throughline_nn::network::Weights;

use super::kept::Kept;
use super::{End, Event, Session, Trainer};
use crate::learn::{Learn, Learned, Place};
use crate::run::checkpoint::{Counts, Progress, Reached, Recent};
use crate::run::metrics::Row;
use crate::{Error, Result, RunFolder};

/// Rows that the training split adds to `metrics.jsonl` over a run, about.
const TRAINING_ROWS: u64 = 200;

/// What an evaluation has shown.
struct Measured {
    /// The model is the best so far.
    best: bool,
    /// The schedule lowers the learning rate.
    lowered: bool,
}

impl<L: Learn> Trainer<L> {
    /// Trains until the run is over, evaluates once more if it ended between two evaluations, and saves a checkpoint.
    pub(super) fn train(&mut self, session: &mut Session<'_>, stop: &AtomicBool) -> Result<End> {
        let folder = session.folder;
        let mut saved = Instant::now();
        if self.progress.evaluated_at.is_none() {
            self.evaluate(true, session)?;
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
            if let Err(NotFinite { loss, grad_norm }) = self.update(self.learning_rate()) {
                return Err(self.diverged(folder, loss, grad_norm));
            }
            self.progress.seconds = session.begun.seconds();
            let step = self.progress.step;
            let seconds_left = self.seconds_left(session);
            (session.watch)(Event::Update {
                step,
                loss: self.progress.recent.mean_loss(),
                tokens_per_s: session.begun.tokens_per_s(&self.progress),
                seconds_left,
            });
            if falls_due(step, self.steps, TRAINING_ROWS) {
                session.log.append(&self.training_row(session))?;
                self.progress.recent =
                    Recent { learning_rate: self.progress.recent.learning_rate, ..Recent::default() };
            }
            if falls_due(step, self.steps, self.recipe.train.evaluations) {
                self.evaluate(true, session)?;
            }
            if saved.elapsed() >= Duration::from_secs(self.recipe.train.checkpoint_seconds) {
                self.save_checkpoint(folder)?;
                saved = Instant::now();
            }
        };
        if self.progress.evaluated_at != Some(self.progress.step) {
            // Time ran out between two evaluations.
            self.evaluate(false, session)?;
        }
        self.save_checkpoint(folder)?;
        Ok(end)
    }

    /// Why the run is over, if it is.
    fn end(&self) -> Option<End> {
        let (train, progress) = (&self.recipe.train, &self.progress);
        if progress.step >= self.steps {
            Some(End::Updates)
        } else if train.max_seconds > 0 && progress.step > 0 && progress.seconds >= train.max_seconds as f64 {
            Some(End::Time)
        } else if train.patience > 0 && progress.evaluations_since_best >= train.patience {
            Some(End::Patience { evaluations: progress.evaluations_since_best })
        } else {
            None
        }
    }

    fn seconds_left(&self, session: &Session<'_>) -> f64 {
        let (train, progress) = (&self.recipe.train, &self.progress);
        let of_updates = session.begun.seconds_for(self.steps - progress.step, progress);
        match train.max_seconds {
            0 => of_updates,
            limit => of_updates.min((limit as f64 - progress.seconds).max(0.0)),
        }
    }

    fn learning_rate(&self) -> f64 {
        let factor = self.recipe.schedule.factor(self.progress.step, self.span(), &self.progress.plateau);
        self.recipe.optimiser.learning_rate * factor
    }

    /// The data, and the network at work.
    fn runner(&mut self) -> (&mut L, Runner<'_, L::Serve>, &mut [f32]) {
        let Self { data, network, parameters, packed, cpu, workspace, gradients, .. } = self;
        (data, Runner { network, weights: Weights { cpu, parameters, packed }, workspace }, gradients)
    }

    /// One update: gradients, their norm, clipping, the optimiser, packing. Its mean loss.
    pub(super) fn update(&mut self, learning_rate: f64) -> std::result::Result<f64, NotFinite> {
        let Progress { step, epoch, position, .. } = self.progress;
        let seed = self.recipe.seed;
        let accumulate = self.recipe.train.accumulate;
        reduce::clear(&self.cpu.threads, &mut self.gradients);
        let (data, mut runner, gradients) = self.runner();
        let first = position * accumulate;
        let batches = first..data.batches_per_epoch().min(first + accumulate);
        let weights: Vec<f64> = batches.clone().map(|index| data.weight(Place { epoch, index })).collect();
        let normaliser = weights.iter().sum();
        let mut learned = Learned { loss: Loss::default(), units: 0 };
        for (index, weight) in batches.zip(weights) {
            let random = Philox::new(seed, Purpose::Dropout, step * accumulate + index - first);
            let place = Place { epoch, index };
            let batch = data.learn(place, normaliser, Pass::Training(random), &mut runner, gradients);
            assert_eq!(batch.loss.weight, weight, "a batch has the weight that its task has announced");
            learned.add(batch);
        }
        let Self { cpu, data, network, parameters, gradients, packed, optimiser, average, progress, .. } = self;
        let (Cpu { isa, threads }, train) = (&*cpu, &self.recipe.train);
        let grad_norm = reduce::sum_of_squares(*isa, threads, gradients).sqrt();
        let loss = learned.loss.sum / learned.loss.weight;
        if !loss.is_finite() || !grad_norm.is_finite() {
            return Err(NotFinite { loss, grad_norm });
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
        data.set_parameters(network, parameters, true);
        network.pack(cpu, parameters, packed);
        if let Some(average) = average.as_mut().filter(|_| progress.averaged.begun()) {
            average.add(*isa, threads, parameters);
        }
        progress.counts = Counts::of(optimiser, average.as_ref());
        self.count(learned, grad_norm, learning_rate);
        Ok(loss)
    }

    fn count(&mut self, learned: Learned, grad_norm: f64, learning_rate: f64) {
        let updates_per_epoch = self.updates_per_epoch();
        let progress = &mut self.progress;
        progress.recent.add(learned.loss, grad_norm, learning_rate);
        progress.step += 1;
        progress.position += 1;
        progress.tokens += learned.units as u64;
        if progress.position == updates_per_epoch {
            progress.position = 0;
            progress.epoch += 1;
        }
    }

    fn diverged(&self, folder: &RunFolder, loss: f64, grad_norm: f64) -> Error {
        let checkpoint = (self.progress.step > 0).then(|| folder.checkpoint());
        Error::NonFiniteLoss { step: self.progress.step, loss, grad_norm, checkpoint }
    }

    /// What the parameters at hand reach on a split.
    pub(super) fn reach(&mut self, split: Split) -> Option<Evaluation> {
        let (data, mut runner, _) = self.runner();
        <L::Serve as Serve>::evaluate(&mut runner, data.config(), data.encoder(), data.data(split))
    }

    /// Measures the model, whose parameters are their average where there is one. Where the learning rate is lowered for it, the
    /// run may go back to the kept update.
    fn evaluate(&mut self, due: bool, session: &mut Session<'_>) -> Result<()> {
        self.swap_average();
        let measured = self.measure(due, session);
        self.swap_average();
        let Measured { best, lowered } = measured?;
        if best {
            self.keep();
        }
        if let (true, Some(kept)) = (lowered, self.progress.best)
            && self.go_back()
        {
            (session.watch)(Event::Restart { kept: kept.step });
        }
        if best {
            // A crash between two checkpoints would leave a model later than the update that the checkpoint names as the best.
            self.save_checkpoint(session.folder)?;
        }
        Ok(())
    }

    /// Lets the parameters and their average change places, if there is an average yet.
    fn swap_average(&mut self) {
        let Self { average, network, cpu, parameters, packed, .. } = self;
        if let Some(average) = average.as_mut().filter(|average| average.count() > 0) {
            parameters.swap_with_slice(average.values_mut());
            network.pack(cpu, parameters, packed);
        }
    }

    /// Measures the validation split, and saves the model if it is the best so far. An evaluation that is not `due`, because
    /// time ran out, is not shown to the schedule, and the patience goes on as if it had not been.
    fn measure(&mut self, due: bool, session: &mut Session<'_>) -> Result<Measured> {
        let step = self.progress.step;
        let reached = self.reach(Split::Validation).expect("a run has a validation split");
        let (data, mut runner, _) = self.runner();
        let sample = if step > 0 { data.sample(step, &mut runner) } else { None };
        if !reached.loss.is_finite() {
            return Err(self.diverged(session.folder, reached.loss, f64::NAN));
        }
        let score = <L::Serve as Serve>::INFO.score(&reached);
        let best = self.progress.observe(Reached { step, score, loss: reached.loss }, due);
        let lowered = due && self.progress.plateau.observe(&self.recipe.schedule, reached.loss);
        if due {
            self.progress.averaged.observe(&self.recipe.average, reached.loss);
        }
        self.progress.evaluated_at = Some(step);
        if best {
            self.save_model(session.folder)?;
        }
        self.progress.seconds = session.begun.seconds();
        let row = self.row(Split::Validation, session, &reached);
        session.log.append(&row)?;
        (session.watch)(Event::Evaluation { row: &row, best });
        if let Some(sample) = sample {
            (session.watch)(Event::Sample(&sample));
        }
        Ok(Measured { best, lowered })
    }

    /// Remembers the parameters, moments and average at hand, where the schedule may go back to them.
    fn keep(&mut self) {
        if let Some(kept) = &mut self.kept {
            *kept = Kept::new(&self.parameters, &self.optimiser, self.average.as_ref());
            self.progress.kept_counts = kept.counts();
        }
    }

    /// Goes back to what was kept; `false` where the schedule does not.
    fn go_back(&mut self) -> bool {
        let Some(kept) = &self.kept else { return false };
        kept.restore(&mut self.parameters, &mut self.optimiser, self.average.as_mut());
        self.progress.counts = kept.counts();
        self.network.pack(&self.cpu, &self.parameters, &mut self.packed);
        true
    }

    pub(super) fn row(&self, split: Split, session: &Session<'_>, reached: &Evaluation) -> Row {
        Row {
            step: self.progress.step,
            epoch: self.progress.step.div_ceil(self.updates_per_epoch()),
            split,
            loss: reached.loss,
            lr: self.progress.recent.learning_rate,
            grad_norm: f64::NAN,
            tokens_per_s: session.begun.tokens_per_s(&self.progress),
            seconds: self.progress.seconds,
            metrics: reached.metrics.clone(),
        }
    }

    fn training_row(&self, session: &Session<'_>) -> Row {
        let recent = &self.progress.recent;
        let Recent { loss: sum, weight, correct, .. } = *recent;
        Row {
            step: self.progress.step,
            epoch: self.progress.step.div_ceil(self.updates_per_epoch()),
            split: Split::Train,
            loss: recent.mean_loss(),
            lr: recent.learning_rate,
            grad_norm: recent.grad_norm / recent.updates as f64,
            tokens_per_s: session.begun.tokens_per_s(&self.progress),
            seconds: self.progress.seconds,
            metrics: L::training_metrics(&Loss { sum, weight, correct }),
        }
    }
}

/// The loss or the gradient of an update is infinite or not a number; nothing was changed.
pub(super) struct NotFinite {
    loss: f64,
    grad_norm: f64,
}

/// Whether one of `times` events spread evenly over `steps` updates falls due after update `step`; the last one after the
/// last update.
fn falls_due(step: u64, steps: u64, times: u64) -> bool {
    let due = |step: u64| u128::from(step) * u128::from(times) / u128::from(steps);
    due(step) != due(step - 1)
}

impl Learned {
    fn add(&mut self, batch: Self) {
        self.loss.sum += batch.loss.sum;
        self.loss.weight += batch.loss.weight;
        self.loss.correct += batch.loss.correct;
        self.units += batch.units;
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
