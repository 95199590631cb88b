//! Linear-chain conditional random field (Lafferty et al. 2001) over K tags: the loss of whole sequences of tags.
//!
//! With the emissions x_t of the units of a sequence, transition scores A (from, to), start scores b and end scores e, a path
//! y, which is a tag for each unit, has
//!
//! ```text
//! score(y) = b[y_1] + sum over t of x_t[y_t] + sum over t > 1 of A[y_{t-1}][y_t] + e[y_T]
//! p(y)     = e^score(y) / Z          Z = sum over all paths of e^score
//! loss     = -ln p(targets) = ln Z - ln Z(targets)
//! ```
//!
//! Z(targets) is the sum over the paths that agree with the targets: one path, unless units have no target ([`IGNORED`]).
//! Those are then summed over, so the loss is that of the targets there are.
//!
//! With p the marginals of all paths and q those of the paths that agree with the targets, the gradient by every score is
//! its expected use under p less that under q, and by an emission p_t\[j\] - q_t\[j\]. How they are computed stands in
//! `lattice.rs`.
//!
//! Everything here is computed in f64, by one thread for each sequence, and has the same bits for a sequence alone and in any
//! batch. Gradients of scores are summed over groups of sequences, in an order that depends on the batch alone.

mod lattice;

use alloc::vec::Vec;

use crate::Element;

use super::LossSum;
use super::cross_entropy::{Classified, IGNORED};
use crate::disjoint::Disjoint;
use crate::sequence::Ragged;
use crate::threads::Threads;
use lattice::{Lattice, ScoreGradients, Viterbi};

pub use lattice::{TagScores, Transitions};

/// Multiply-adds of a pass that make a group of sequences worth a task.
const GROUP: usize = 1 << 14;
/// The most groups, and the most numbers in the gradients of all groups, unless [`FEW_GROUPS`] have more.
const GROUPS: usize = 64;
const SUMS: usize = 1 << 21;
const FEW_GROUPS: usize = 8;

/// In gradients, probabilities that differ by less than this are equal: the products behind would have to do with subnormal
/// numbers, which are many times slower. 2^-64.
const TINY_DIFFERENCE: f64 = 1.0 / (1u128 << 64) as f64;

/// A batch of sequences, and the scores between their tags.
#[derive(Clone, Copy, Debug)]
pub struct CrfInputs<'a> {
    /// Threads to compute with.
    pub threads: &'a Threads,
    /// The scores between K tags.
    pub transitions: &'a Transitions,
    /// The shape of the batch; without boundaries inside its sequences.
    pub rows: &'a Ragged,
}

/// Gradients of the scores between tags. They accumulate.
#[derive(Debug)]
pub struct CrfGradients<'a, E> {
    /// `[K, K]`
    pub transitions: &'a mut [E],
    /// `[K]`
    pub start: &'a mut [E],
    /// `[K]`
    pub end: &'a mut [E],
}

/// Memory of a conditional random field. Grows to what the largest batch and the longest sequence needed.
#[derive(Debug, Default)]
pub struct Crf {
    workers: Vec<Worker>,
    /// `[groups, K² + 2K]`: the gradients of each group.
    sums: Vec<f64>,
    sequences: Vec<Classified>,
}

/// Memory of one thread, which has one sequence at a time.
#[derive(Debug, Default)]
struct Worker {
    /// `[T, K]`
    emissions: Vec<f64>,
    /// `[T]`
    targets: Vec<u32>,
    /// `[T]`: the best path.
    path: Vec<u32>,
    /// All paths, and those that agree with the targets.
    free: Lattice,
    clamped: Lattice,
    viterbi: Viterbi,
}

/// A sequence of a batch.
#[derive(Clone, Copy)]
struct Sequence<'a> {
    rows: &'a Ragged,
    column: usize,
    tags: usize,
}

impl Sequence<'_> {
    fn length(self) -> usize {
        self.rows.length_of(self.column)
    }

    /// The packed row of step t.
    fn row(self, t: usize) -> usize {
        self.rows.row(t, self.column)
    }

    /// Its place in the caller's order.
    fn place(self) -> usize {
        self.rows.order()[self.column]
    }

    /// Its row t of rows of K.
    fn of<E>(self, rows: &[E], t: usize) -> &[E] {
        &rows[self.row(t) * self.tags..][..self.tags]
    }

    /// Its row t of rows of K that several threads write.
    ///
    /// # Safety
    /// No other part with this row is in use.
    unsafe fn part_of<'a, E>(self, rows: Disjoint<'a, E>, t: usize) -> &'a mut [E] {
        // SAFETY: passed on to the caller.
        unsafe { rows.slice(self.row(t) * self.tags..(self.row(t) + 1) * self.tags) }
    }
}

impl Worker {
    fn reserve(&mut self, steps: usize, tags: usize) {
        self.emissions.resize(self.emissions.len().max(steps * tags), 0.0);
        for array in [&mut self.targets, &mut self.path] {
            array.resize(array.len().max(steps), 0);
        }
        self.free.reserve(steps, tags);
        self.clamped.reserve(steps, tags);
        self.viterbi.reserve(steps, tags);
    }

    /// Takes in row t of the emissions.
    fn read<E: Element>(&mut self, t: usize, emissions: &[E]) {
        let to = &mut self.emissions[t * emissions.len()..];
        to.iter_mut().zip(emissions).for_each(|(to, from)| *to = from.to_f64());
    }

    /// The loss of a sequence of at least one unit whose emissions were read.
    fn loss(&mut self, transitions: &Transitions, sequence: Sequence<'_>, targets: &[u32]) -> Classified {
        let length = sequence.length();
        let x = &self.emissions[..length * sequence.tags];
        let (own, path) = (&mut self.targets[..length], &mut self.path[..length]);
        for (t, target) in own.iter_mut().enumerate() {
            *target = targets[sequence.row(t)];
        }
        let count = own.iter().filter(|&&target| target != IGNORED).count();
        if count == 0 {
            return Classified::default();
        }
        let log_z = self.free.go_forward(transitions, x, &[]);
        let sum = gap(log_z, self.clamped.go_forward(transitions, x, own));
        self.viterbi.find(transitions.scores(), x, path);
        let correct = own.iter().zip(path).filter(|(target, best)| *target == *best).count();
        Classified { loss: LossSum { sum, count }, correct }
    }
}

/// How much more all paths weigh than some of them; rounding makes it no less than 0, and NaN stays NaN.
fn gap(all: f64, some: f64) -> f64 {
    if all < some { 0.0 } else { all - some }
}

impl Crf {
    /// Nothing allocated yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The loss of every sequence of the last training or evaluation, in the caller's order: in nats, of how many units with
    /// a target, and for how many of them the best path has it.
    pub fn sequences(&self) -> &[Classified] {
        &self.sequences
    }

    /// The loss of `targets` `[N]`, a tag for each packed row or [`IGNORED`]. Replaces `emissions` `[N, K]` by their gradient
    /// and adds those of the scores to `gradients`, all times `scale` (1 / count for the gradient of the mean).
    ///
    /// # Panics
    /// If a length does not fit, a target is neither a tag nor [`IGNORED`], or there is a boundary inside a sequence.
    pub fn train<E: Element>(
        &mut self,
        inputs: CrfInputs<'_>,
        emissions: &mut [E],
        targets: &[u32],
        scale: f64,
        gradients: CrfGradients<'_, E>,
    ) -> Classified {
        let CrfInputs { threads, transitions, rows } = inputs;
        let tags = transitions.tags();
        check_targets(rows, tags, targets);
        let groups = self.begin(inputs, emissions.len());
        let count = ScoreGradients::count(tags);
        self.sums.clear();
        self.sums.resize(groups * count, 0.0);
        let (emissions, sums) = (Disjoint::new(emissions), Disjoint::new(&mut self.sums));
        let sequences = Disjoint::new(&mut self.sequences);
        for_each_sequence(threads, groups, inputs, &mut self.workers, |group, sequence, worker| {
            let length = sequence.length();
            // SAFETY: the rows of a sequence are its own, and one worker has it.
            let row = |t: usize| unsafe { sequence.part_of(emissions, t) };
            (0..length).for_each(|t| worker.read(t, row(t)));
            let loss = worker.loss(transitions, sequence, targets);
            // SAFETY: so is its place in the caller's order.
            unsafe { write(sequences, sequence.place(), loss) };
            if loss.loss.count == 0 {
                (0..length).for_each(|t| row(t).fill(E::ZERO));
                return;
            }
            // SAFETY: a group has its own sums, and one worker at a time.
            let sums = unsafe { sums.slice(group * count..(group + 1) * count) };
            let Worker { free, clamped, targets, .. } = worker;
            free.go_back(transitions, length, &[], Some(ScoreGradients::of(1.0, tags, sums)));
            clamped.go_back(transitions, length, &targets[..length], Some(ScoreGradients::of(-1.0, tags, sums)));
            let mut marginals = free.marginals().iter().zip(clamped.marginals());
            for t in 0..length {
                for (gradient, (p, q)) in row(t).iter_mut().zip(&mut marginals) {
                    let difference = p - q;
                    *gradient = E::from_f64(if difference.abs() < TINY_DIFFERENCE { 0.0 } else { scale * difference });
                }
            }
        });
        let (first, others) = self.sums.split_at_mut(count.min(groups * count));
        for group in others.chunks_exact(count) {
            first.iter_mut().zip(group).for_each(|(sum, of_group)| *sum += of_group);
        }
        if groups > 0 {
            let sums = ScoreGradients::of(1.0, tags, first);
            add(gradients.transitions, sums.transitions, scale);
            add(gradients.start, sums.start, scale);
            add(gradients.end, sums.end, scale);
        }
        self.total()
    }

    /// The loss of `targets` for `emissions` `[N, K]`; the same bits as that of [`train`](Self::train).
    ///
    /// # Panics
    /// As there.
    pub fn evaluate<E: Element>(&mut self, inputs: CrfInputs<'_>, emissions: &[E], targets: &[u32]) -> Classified {
        let CrfInputs { threads, transitions, rows } = inputs;
        check_targets(rows, transitions.tags(), targets);
        let groups = self.begin(inputs, emissions.len());
        let sequences = Disjoint::new(&mut self.sequences);
        for_each_sequence(threads, groups, inputs, &mut self.workers, |_, sequence, worker| {
            (0..sequence.length()).for_each(|t| worker.read(t, sequence.of(emissions, t)));
            let loss = worker.loss(transitions, sequence, targets);
            // SAFETY: its place in the caller's order is a sequence's own, and one worker has it.
            unsafe { write(sequences, sequence.place(), loss) };
        });
        self.total()
    }

    /// Writes the tags of the best path of every sequence by `scores` to `tags` `[N]`, in packed rows, and ln p of that path
    /// to `log_probabilities` `[B]`, in the caller's order; of no units 0. Where equal scores leave a choice, going back from
    /// the last unit, the smallest tag is taken.
    ///
    /// `scores` are those of the inputs, or with negative infinity for what must not be; p is that of the inputs.
    ///
    /// # Panics
    /// If a length does not fit, or there is a boundary inside a sequence.
    pub fn decode<E: Element>(
        &mut self,
        inputs: CrfInputs<'_>,
        emissions: &[E],
        scores: &TagScores,
        tags: &mut [u32],
        log_probabilities: &mut [f64],
    ) {
        let CrfInputs { threads, transitions, rows } = inputs;
        assert_eq!(scores.start.len(), transitions.tags(), "scores of as many tags");
        assert_eq!(tags.len(), rows.rows(), "a tag for each packed row");
        assert_eq!(log_probabilities.len(), rows.batch(), "a probability for each sequence");
        let groups = self.begin(inputs, emissions.len());
        log_probabilities.fill(0.0);
        let (tags, log_probabilities) = (Disjoint::new(tags), Disjoint::new(log_probabilities));
        for_each_sequence(threads, groups, inputs, &mut self.workers, |_, sequence, worker| {
            let length = sequence.length();
            (0..length).for_each(|t| worker.read(t, sequence.of(emissions, t)));
            let (x, path) = (&worker.emissions[..length * sequence.tags], &mut worker.path[..length]);
            worker.viterbi.find(scores, x, path);
            let log_z = worker.free.go_forward(transitions, x, &[]);
            let log_probability = -gap(log_z, worker.clamped.go_forward(transitions, x, path));
            for (t, &tag) in path.iter().enumerate() {
                // SAFETY: the rows of a sequence are its own, and one worker has it.
                unsafe { write(tags, sequence.row(t), tag) };
            }
            // SAFETY: so is its place in the caller's order.
            unsafe { write(log_probabilities, sequence.place(), log_probability) };
        });
    }

    /// Replaces `emissions` `[N, K]` by the marginals: the probability that a path through the sequence has this tag there.
    ///
    /// # Panics
    /// If a length does not fit, or there is a boundary inside a sequence.
    pub fn marginals<E: Element>(&mut self, inputs: CrfInputs<'_>, emissions: &mut [E]) {
        let CrfInputs { threads, transitions, .. } = inputs;
        let tags = transitions.tags();
        let groups = self.begin(inputs, emissions.len());
        let emissions = Disjoint::new(emissions);
        for_each_sequence(threads, groups, inputs, &mut self.workers, |_, sequence, worker| {
            let length = sequence.length();
            // SAFETY: the rows of a sequence are its own, and one worker has it.
            let row = |t: usize| unsafe { sequence.part_of(emissions, t) };
            (0..length).for_each(|t| worker.read(t, row(t)));
            worker.free.go_forward(transitions, &worker.emissions[..length * tags], &[]);
            worker.free.go_back(transitions, length, &[], None);
            let mut marginals = worker.free.marginals().iter();
            for t in 0..length {
                row(t).iter_mut().zip(&mut marginals).for_each(|(to, &p)| *to = E::from_f64(p));
            }
        });
    }

    /// Makes room for a batch; into how many groups its sequences are divided.
    fn begin(&mut self, CrfInputs { threads, transitions, rows }: CrfInputs<'_>, emissions: usize) -> usize {
        let tags = transitions.tags();
        assert_eq!(emissions, rows.rows() * tags, "emissions are [N, {tags}], N = {}", rows.rows());
        assert_eq!(rows.restarts(), 0, "a path runs through a whole sequence: no boundaries inside one");
        self.workers.resize_with(threads.count().max(self.workers.len()), Worker::default);
        self.workers.iter_mut().for_each(|worker| worker.reserve(rows.steps(), tags));
        self.sequences.clear();
        self.sequences.resize(rows.batch(), Classified::default());
        let most = (SUMS / ScoreGradients::count(tags)).clamp(FEW_GROUPS, GROUPS);
        (rows.rows() * tags * tags).div_ceil(GROUP).min(most).min(rows.batch())
    }

    /// The losses of all sequences, in the caller's order.
    fn total(&self) -> Classified {
        let mut total = Classified::default();
        self.sequences.iter().for_each(|&sequence| total += sequence);
        total
    }
}

/// Shares out `work(group, sequence, worker)` on every sequence with a unit. Of G groups, group g has every G-th column from g
/// on, and so about as many units as the others, and one worker has all of a group.
fn for_each_sequence(
    threads: &Threads,
    groups: usize,
    CrfInputs { transitions, rows, .. }: CrfInputs<'_>,
    workers: &mut [Worker],
    work: impl Fn(usize, Sequence<'_>, &mut Worker) + Sync,
) {
    threads.for_each(groups, workers, |group, worker| {
        for column in (group..rows.batch()).step_by(groups) {
            let sequence = Sequence { rows, column, tags: transitions.tags() };
            if sequence.length() > 0 {
                work(group, sequence, worker);
            }
        }
    });
}

/// Writes one element of what several threads write.
///
/// # Safety
/// No part with this element is in use.
unsafe fn write<T>(to: Disjoint<'_, T>, index: usize, value: T) {
    // SAFETY: passed on to the caller.
    let place = unsafe { to.slice(index..index + 1) };
    place[0] = value;
}

fn check_targets(rows: &Ragged, tags: usize, targets: &[u32]) {
    assert_eq!(targets.len(), rows.rows(), "one target for each of {} rows", rows.rows());
    let valid = |&target: &u32| target == IGNORED || (target as usize) < tags;
    assert!(targets.iter().all(valid), "a target is below {tags} or IGNORED");
}

/// `gradient += scale · sum`
fn add<E: Element>(gradient: &mut [E], sum: &[f64], scale: f64) {
    assert_eq!(gradient.len(), sum.len(), "a gradient for every score");
    gradient.iter_mut().zip(sum).for_each(|(gradient, sum)| *gradient = *gradient + E::from_f64(scale * sum));
}
