//! Batches of examples and of token streams. Everything here is a function of its arguments, so a run resumes from the
//! numbers of its epoch and step.

use std::ops::Range;

use throughline_kernels::random::{Philox, Purpose};

use crate::error::{Error, Result};
use crate::unknown::UnknownReplacement;

/// Batches of examples of similar length, in a different order each epoch.
#[derive(Clone, Debug)]
pub struct LengthBuckets {
    lengths: Vec<usize>,
    batch_size: usize,
    seed: u64,
}

impl LengthBuckets {
    /// How many batches are sorted by length together: enough for similar lengths in a batch, and few enough that an
    /// example has different neighbours each epoch.
    const POOL: usize = 32;

    /// Batches of `batch_size` examples, of which `lengths` gives the length of each.
    ///
    /// # Panics
    /// If `batch_size` is 0.
    pub fn new(lengths: Vec<usize>, batch_size: usize, seed: u64) -> Self {
        assert!(batch_size > 0, "the batch size must be at least 1");
        Self { lengths, batch_size, seed }
    }

    /// The number of batches in an epoch.
    pub fn batches(&self) -> usize {
        self.lengths.len().div_ceil(self.batch_size)
    }

    /// The batches of one epoch, each a list of indices of examples, the longest example first. Every example occurs
    /// once, and every batch has `batch_size` examples, except one with the remainder.
    ///
    /// The examples are shuffled, sorted by length within pools of 32 batches, and cut into batches, which are shuffled
    /// in turn.
    pub fn epoch(&self, epoch: u64) -> Vec<Vec<usize>> {
        let mut random = Philox::new(self.seed, Purpose::Shuffle, epoch).stream();
        let mut order: Vec<usize> = (0..self.lengths.len()).collect();
        random.shuffle(&mut order);
        for pool in order.chunks_mut(self.batch_size.saturating_mul(Self::POOL)) {
            pool.sort_by_key(|&example| std::cmp::Reverse(self.lengths[example]));
        }
        let mut batches: Vec<Vec<usize>> = order.chunks(self.batch_size).map(<[usize]>::to_vec).collect();
        random.shuffle(&mut batches);
        batches
    }
}

/// A token sequence cut into `B` parallel streams for a stateful language model: stream `b` of step `i + 1` continues
/// where stream `b` of step `i` ended.
///
/// Of `n` tokens the first `B * L + 1` are used, with `L = (n - 1) / B` rounded down, so at most `B - 1` are left over.
/// Stream `b` reads the tokens `b * L .. (b + 1) * L` and predicts the token after each; the last target of a stream is
/// the first input of the next.
#[derive(Clone, Debug)]
pub struct Streams {
    tokens: Vec<u32>,
    batch: usize,
    stride: usize,
}

/// A window of all streams: the inputs and targets of a language model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamWindow {
    /// The number of time steps `T`.
    pub time: usize,
    /// `[T, B]`: the tokens read.
    pub inputs: Vec<u32>,
    /// `[T, B]`: the token after each of them.
    pub targets: Vec<u32>,
}

impl Streams {
    /// Cuts `tokens` into `batch` streams, `B`, each of which reads `stride` tokens per step.
    ///
    /// # Errors
    /// [`Error::TooFew`] if there are fewer than `batch + 1` tokens.
    ///
    /// # Panics
    /// If `batch` or `stride` is 0.
    pub fn new(tokens: Vec<u32>, batch: usize, stride: usize) -> Result<Self> {
        assert!(batch > 0 && stride > 0, "batch and stride must be at least 1");
        if tokens.len() <= batch {
            let hint = "use more text or a smaller batch";
            let needed = batch.saturating_add(1);
            return Err(Error::TooFew { what: "tokens for the streams", needed, found: tokens.len(), hint });
        }
        Ok(Self { tokens, batch, stride })
    }

    /// The number of streams `B`.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The length `L` of each stream in tokens; at least 1.
    pub fn length(&self) -> usize {
        (self.tokens.len() - 1) / self.batch
    }

    /// The number of steps in one pass over the streams.
    pub fn steps(&self) -> usize {
        self.length().div_ceil(self.stride)
    }

    /// Step `index`, from 0: `stride` tokens of each stream, or fewer in the last step.
    ///
    /// # Panics
    /// If `index` is not below [`steps`](Self::steps).
    pub fn step(&self, index: usize) -> StreamWindow {
        assert!(index < self.steps(), "there is no step {index}, only {} steps", self.steps());
        let start = index * self.stride;
        self.window(start..self.length().min(start.saturating_add(self.stride)))
    }

    /// The positions `time` of each stream.
    ///
    /// # Panics
    /// If `time` ends after [`length`](Self::length).
    pub fn window(&self, time: Range<usize>) -> StreamWindow {
        self.window_of(time, |_, token| token)
    }

    /// As [`window`](Self::window), with some rare tokens replaced by the unknown token in this epoch. The choice
    /// depends on the position in the whole sequence, so a token that is replaced as a target is replaced as the next
    /// input too, and in every window that has it.
    ///
    /// # Panics
    /// If `time` ends after [`length`](Self::length).
    pub fn window_with_unknown(
        &self,
        time: Range<usize>,
        replacement: &UnknownReplacement,
        epoch: u64,
    ) -> StreamWindow {
        let epoch = replacement.epoch(epoch);
        self.window_of(time, |position, token| epoch.token(0, position as u64, token))
    }

    /// A window of the tokens that `token` returns for each position in the whole sequence and the token there.
    fn window_of(&self, time: Range<usize>, token: impl Fn(usize, u32) -> u32) -> StreamWindow {
        let length = self.length();
        assert!(time.end <= length, "the window {time:?} ends after the streams, which have length {length}");
        let at = |shift: usize| {
            let mut tokens = Vec::with_capacity(time.len() * self.batch);
            for position in time.clone() {
                for stream in 0..self.batch {
                    let place = stream * length + position + shift;
                    tokens.push(token(place, self.tokens[place]));
                }
            }
            tokens
        };
        StreamWindow { time: time.len(), inputs: at(0), targets: at(1) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::vocabulary::Vocabulary;

    #[test]
    fn batches_hold_examples_of_similar_length() {
        let lengths: Vec<usize> = (0..4096).map(|i| i * 7919 % 4096).collect();
        let mean_spread = |batches: &[Vec<usize>]| {
            let spread = |batch: &Vec<usize>| lengths[batch[0]] - lengths[batch[batch.len() - 1]];
            batches.iter().map(spread).sum::<usize>() / batches.len()
        };
        let batches = LengthBuckets::new(lengths.clone(), 16, 1).epoch(0);
        assert!(mean_spread(&batches) < 4096 / 16, "{}", mean_spread(&batches));
    }

    #[test]
    fn streams_are_laid_side_by_side() {
        let streams = Streams::new((0..15).collect(), 2, 3).unwrap();
        assert_eq!((streams.length(), streams.steps(), streams.batch()), (7, 3, 2));
        let step = StreamWindow { time: 3, inputs: vec![0, 7, 1, 8, 2, 9], targets: vec![1, 8, 2, 9, 3, 10] };
        assert_eq!(streams.step(0), step);
        assert_eq!(streams.step(2), StreamWindow { time: 1, inputs: vec![6, 13], targets: vec![7, 14] });
        assert_eq!(streams.window(1..3).inputs, [1, 8, 2, 9]);
        assert!(matches!(Streams::new(vec![0; 2], 2, 3), Err(Error::TooFew { needed: 3, found: 2, .. })));
    }

    #[test]
    fn an_unknown_target_is_the_unknown_input_after_it() {
        let tokens: Vec<u32> = (1..1000).collect();
        let replacement = UnknownReplacement::new([&tokens[..]], 0.5, 7);
        let streams = Streams::new(tokens, 4, 10).unwrap();
        let length = streams.length();
        let whole = streams.window_with_unknown(0..length, &replacement, 2);
        let (inputs, targets) = (&whole.inputs[4..], &whole.targets[..whole.targets.len() - 4]);
        assert_eq!(inputs, targets);
        let share = Vocabulary::unknown_share(&whole.inputs);
        assert!((share - 0.5).abs() < 0.1, "{share}");
        let middle = streams.window_with_unknown(30..50, &replacement, 2);
        assert_eq!(middle.inputs, whole.inputs[30 * 4..50 * 4]);
        let never = UnknownReplacement::new([&[1, 2, 3][..]], 0.0, 7);
        assert_eq!(streams.window_with_unknown(0..length, &never, 2), streams.window(0..length));
    }

    #[test]
    #[should_panic(expected = "there is no step 3, only 3 steps")]
    fn there_is_no_step_after_the_last() {
        Streams::new((0..15).collect(), 2, 3).unwrap().step(3);
    }

    proptest! {
        #[test]
        fn an_epoch_has_each_example_once(
            lengths in prop::collection::vec(0usize..50, 0..300),
            batch_size in 1usize..20,
            (seed, epoch) in any::<(u64, u64)>(),
        ) {
            let buckets = LengthBuckets::new(lengths.clone(), batch_size, seed);
            let batches = buckets.epoch(epoch);
            prop_assert_eq!(&batches, &buckets.epoch(epoch));
            prop_assert_eq!(batches.len(), buckets.batches());
            let partial: Vec<usize> = batches.iter().map(Vec::len).filter(|&size| size != batch_size).collect();
            let rest = lengths.len() % batch_size;
            prop_assert_eq!(partial, if rest == 0 { vec![] } else { vec![rest] });
            prop_assert!(batches.iter().all(|batch| batch.is_sorted_by(|&a, &b| lengths[a] >= lengths[b])));
            let mut all = batches.concat();
            all.sort_unstable();
            prop_assert!(all.into_iter().eq(0..lengths.len()));
            if lengths.len() > 30 {
                prop_assert_ne!(buckets.epoch(epoch).concat(), buckets.epoch(epoch ^ 1).concat());
            }
        }

        #[test]
        fn streams_waste_less_than_one_token_each(n in 2usize..200, batch in 1usize..20, stride in 1usize..20) {
            prop_assume!(n > batch);
            let streams = Streams::new((0..n as u32).collect(), batch, stride).unwrap();
            let mut read = vec![Vec::new(); batch];
            for index in 0..streams.steps() {
                let step = streams.step(index);
                prop_assert!(step.time == stride || index + 1 == streams.steps());
                prop_assert_eq!(step.inputs.len(), step.time * batch);
                prop_assert!(step.targets.iter().zip(&step.inputs).all(|(target, input)| *target == input + 1));
                step.inputs.iter().enumerate().for_each(|(place, &token)| read[place % batch].push(token));
            }
            let used = read.concat().len();
            prop_assert!(read.concat().into_iter().eq(0..used as u32));
            prop_assert!(n - 1 - used < batch);
        }
    }
}
