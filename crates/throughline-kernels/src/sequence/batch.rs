//! Ragged batches: sequences of different lengths side by side, no step computed on padding.

use alloc::vec::Vec;
use core::ops::Range;

use crate::Element;

/// Which way a recurrent layer reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the first step to the last.
    Forward,
    /// From the last step to the first.
    Reverse,
}

impl Direction {
    /// Direction 0 is forward, direction 1 reverse.
    pub const BOTH: [Direction; 2] = [Direction::Forward, Direction::Reverse];
}

/// What a step starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Previous {
    /// The state after the packed row of that index.
    Row(usize),
    /// The initial state given for the sequence: here a direction enters it.
    Given,
    /// The restart state: there is a boundary between this step and the one before it.
    Restart,
}

/// The shape of a ragged batch.
///
/// `B` sequences are sorted by falling length (equal lengths keep their order); sorted place b is called *column* b.
/// The N real (time, sequence) rows are stored time-major: step t owns rows `row(t, 0) .. row(t, batch_sizes[t])`, one
/// for each of the first `batch_sizes[t]` columns. In a window of a batch ([`set_window`](Self::set_window)) the
/// columns keep the places that they have in the whole.
///
/// A reset is a boundary between t-1 and t of a sequence (a document ends there): both directions restart at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ragged {
    lengths: Vec<usize>,
    order: Vec<usize>,
    batch_sizes: Vec<usize>,
    offsets: Vec<usize>,
    /// The step of each packed row.
    times: Vec<usize>,
    /// For each packed row whether there is a boundary before it; empty where there is none at all.
    resets: Vec<bool>,
    restarts: usize,
    first_step: usize,
}

impl Ragged {
    /// Sequences of `lengths`, in the caller's order; lengths may be 0.
    pub fn new(lengths: &[usize]) -> Self {
        let mut batch = Self::default();
        batch.set(lengths);
        batch
    }

    /// `batch` sequences of `time` steps each.
    pub fn even(time: usize, batch: usize) -> Self {
        Self::new(&alloc::vec![time; batch])
    }

    /// Changes to another shape, without resets; allocates only when it is larger than every one before.
    pub fn set(&mut self, lengths: &[usize]) {
        self.lengths.clear();
        self.lengths.extend_from_slice(lengths);
        self.order.clear();
        self.order.extend(0..lengths.len());
        self.order.sort_unstable_by_key(|&i| (core::cmp::Reverse(lengths[i]), i));
        self.batch_sizes.clear();
        self.offsets.clear();
        self.offsets.push(0);
        self.times.clear();
        let (mut alive, mut rows) = (lengths.len(), 0);
        for t in 0.. {
            while alive > 0 && lengths[self.order[alive - 1]] <= t {
                alive -= 1;
            }
            if alive == 0 {
                break;
            }
            self.batch_sizes.push(alive);
            rows += alive;
            self.offsets.push(rows);
            self.times.resize(rows, t);
        }
        self.resets.clear();
        self.restarts = 0;
        self.first_step = 0;
    }

    /// Sets boundaries: `boundary(sequence, t)` tells whether there is one before step t of a sequence (in the caller's
    /// order). One before t = 0 takes the place of the state given to the forward direction, so that a run cut at a
    /// boundary equals the whole; the reverse direction never crosses it.
    pub fn set_resets(&mut self, boundary: impl Fn(usize, usize) -> bool) {
        self.resets.clear();
        for t in 0..self.steps() {
            for column in 0..self.batch_sizes[t] {
                self.resets.push(boundary(self.order[column], t));
            }
        }
        self.count_restarts();
    }

    /// Changes to the steps `steps` of `whole`; allocates only when that is larger than every shape before.
    ///
    /// The columns stay those of `whole`, so that its packed rows of these steps are this batch's rows and states go
    /// from window to window as they are. A boundary before the first step takes the place of the state given there.
    ///
    /// # Panics
    /// If `whole` has fewer steps.
    pub fn set_window(&mut self, whole: &Ragged, steps: Range<usize>) {
        assert!(
            steps.start <= steps.end && steps.end <= whole.steps(),
            "a window of {steps:?} out of {} steps",
            whole.steps()
        );
        self.lengths.clear();
        self.lengths.extend(whole.lengths.iter().map(|length| length.clamp(&steps.start, &steps.end) - steps.start));
        self.order.clone_from(&whole.order);
        self.batch_sizes.clear();
        self.batch_sizes.extend_from_slice(&whole.batch_sizes[steps.clone()]);
        self.offsets.clear();
        self.offsets.push(0);
        self.times.clear();
        let mut rows = 0;
        for (t, alive) in self.batch_sizes.iter().enumerate() {
            rows += alive;
            self.offsets.push(rows);
            self.times.resize(rows, t);
        }
        self.resets.clear();
        if !whole.resets.is_empty() {
            let first = whole.offsets[steps.start];
            self.resets.extend_from_slice(&whole.resets[first..first + rows]);
        }
        self.count_restarts();
        self.first_step = whole.first_step + steps.start;
    }

    /// Counts the boundaries and drops the list if there are none.
    fn count_restarts(&mut self) {
        self.restarts = self.resets.iter().filter(|&&reset| reset).count();
        if self.restarts == 0 {
            self.resets.clear();
        }
    }

    /// B
    pub fn batch(&self) -> usize {
        self.lengths.len()
    }
    /// The greatest length, T.
    pub fn steps(&self) -> usize {
        self.batch_sizes.len()
    }
    /// N
    pub fn rows(&self) -> usize {
        self.offsets.last().copied().unwrap_or(0)
    }
    /// Lengths in the caller's order.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }
    /// `order()[column]` is the caller's index of the sequence.
    pub fn order(&self) -> &[usize] {
        &self.order
    }
    /// How many sequences are still alive at each step.
    pub fn batch_sizes(&self) -> &[usize] {
        &self.batch_sizes
    }
    /// The step of the whole batch at which this window begins; 0 for a whole batch. A window of a window counts from
    /// the whole.
    pub fn first_step(&self) -> usize {
        self.first_step
    }
    /// How many boundaries there are.
    pub fn restarts(&self) -> usize {
        self.restarts
    }
    /// The length of the sequence in `column`.
    pub fn length_of(&self, column: usize) -> usize {
        self.lengths[self.order[column]]
    }

    /// The packed row of step `t` of the sequence in `column`.
    #[inline(always)]
    pub fn row(&self, t: usize, column: usize) -> usize {
        self.offsets[t] + column
    }

    /// The (step, column) of packed row `row`.
    #[inline(always)]
    pub fn place(&self, row: usize) -> (usize, usize) {
        let t = self.times[row];
        (t, row - self.offsets[t])
    }

    /// What identifies packed row `row` in any order and window: the caller's index of the sequence, and its step in
    /// the whole batch. Masks and step inputs depend on nothing else.
    #[inline(always)]
    pub fn sequence_and_time(&self, row: usize) -> (usize, usize) {
        let (t, column) = self.place(row);
        (self.order[column], self.first_step + t)
    }

    /// The packed rows of steps `steps`.
    pub fn rows_of(&self, steps: &Range<usize>) -> Range<usize> {
        self.offsets[steps.start]..self.offsets[steps.end]
    }

    /// Whether there is a boundary before packed row `row`.
    pub fn reset_before(&self, row: usize) -> bool {
        !self.resets.is_empty() && self.resets[row]
    }

    /// What step `t` of `column` starts from when read in `direction`.
    #[inline(always)]
    pub fn previous(&self, direction: Direction, t: usize, column: usize) -> Previous {
        match direction {
            Direction::Forward if self.reset_before(self.row(t, column)) => Previous::Restart,
            Direction::Forward if t == 0 => Previous::Given,
            Direction::Forward => Previous::Row(self.row(t - 1, column)),
            Direction::Reverse if t + 1 >= self.steps() || column >= self.batch_sizes[t + 1] => Previous::Given,
            Direction::Reverse if self.reset_before(self.row(t + 1, column)) => Previous::Restart,
            Direction::Reverse => Previous::Row(self.row(t + 1, column)),
        }
    }

    /// The packed row after which `direction` has read the whole sequence in `column`; none for length 0.
    pub fn last_row(&self, direction: Direction, column: usize) -> Option<usize> {
        let length = self.length_of(column);
        let t = match direction {
            Direction::Forward => length.checked_sub(1)?,
            Direction::Reverse => (length > 0).then_some(0)?,
        };
        Some(self.row(t, column))
    }

    /// Calls `visit(packed row, caller's sequence, t)` for every real row, in packed order.
    pub fn for_each_row(&self, mut visit: impl FnMut(usize, usize, usize)) {
        for t in 0..self.steps() {
            for column in 0..self.batch_sizes[t] {
                visit(self.row(t, column), self.order[column], t);
            }
        }
    }

    /// Collects the real rows of a padded time-major array `[T, B, F]` into packed rows `[N, F]`.
    ///
    /// # Panics
    /// If a length is another.
    pub fn pack_time_major<E: Element>(&self, padded: &[E], features: usize, packed: &mut [E]) {
        let batch = self.batch();
        self.check_padded(padded.len(), self.steps(), features, "[T, B, F]");
        self.copy_rows(padded, packed, features, |sequence, t| t * batch + sequence);
    }

    /// Collects the real rows of a padded batch-first array `[B, time, F]` into packed rows `[N, F]`.
    ///
    /// # Panics
    /// If a length is another, or a sequence is longer than `time`.
    pub fn pack_batch_first<E: Element>(&self, padded: &[E], time: usize, features: usize, packed: &mut [E]) {
        self.check_padded(padded.len(), time, features, "[B, time, F]");
        self.copy_rows(padded, packed, features, |sequence, t| sequence * time + t);
    }

    /// A padded array of `time` steps has `found` numbers.
    fn check_padded(&self, found: usize, time: usize, features: usize, shape: &str) {
        let (batch, steps) = (self.batch(), self.steps());
        assert!(time >= steps, "padded rows of {time} steps do not hold the longest sequence, {steps} steps");
        let expected = time * batch * features;
        assert_eq!(
            found, expected,
            "a padded array is {shape}: {expected} numbers for {time} steps, {batch} sequences, {features} features"
        );
    }

    fn copy_rows<E: Element>(
        &self,
        padded: &[E],
        packed: &mut [E],
        features: usize,
        place: impl Fn(usize, usize) -> usize,
    ) {
        assert_eq!(packed.len(), self.rows() * features, "packed rows are [N, F]");
        self.for_each_row(|row, sequence, t| {
            let from = place(sequence, t) * features;
            packed[row * features..][..features].copy_from_slice(&padded[from..from + features]);
        });
    }

    /// Spreads packed rows `[N, F]` into a padded time-major array `[T, B, F]`; padding becomes 0.
    ///
    /// # Panics
    /// If a length is another.
    pub fn unpack_time_major<E: Element>(&self, packed: &[E], features: usize, padded: &mut [E]) {
        let batch = self.batch();
        self.check_padded(padded.len(), self.steps(), features, "[T, B, F]");
        self.spread_rows(packed, padded, features, |sequence, t| t * batch + sequence);
    }

    /// Spreads packed rows `[N, F]` into a padded batch-first array `[B, time, F]`; padding becomes 0.
    ///
    /// # Panics
    /// If a length is another, or a sequence is longer than `time`.
    pub fn unpack_batch_first<E: Element>(&self, packed: &[E], time: usize, features: usize, padded: &mut [E]) {
        self.check_padded(padded.len(), time, features, "[B, time, F]");
        self.spread_rows(packed, padded, features, |sequence, t| sequence * time + t);
    }

    fn spread_rows<E: Element>(
        &self,
        packed: &[E],
        padded: &mut [E],
        features: usize,
        place: impl Fn(usize, usize) -> usize,
    ) {
        assert_eq!(packed.len(), self.rows() * features, "packed rows are [N, F]");
        padded.fill(E::ZERO);
        self.for_each_row(|row, sequence, t| {
            let to = place(sequence, t) * features;
            padded[to..to + features].copy_from_slice(&packed[row * features..][..features]);
        });
    }

    /// The first column of run `index` when the columns are divided into `count` runs with about equally many rows in
    /// `steps`, for threads; the number of columns for `index == count`. A run may be empty.
    pub(crate) fn column_cut(&self, steps: &Range<usize>, count: usize, index: usize) -> usize {
        if index == count {
            return self.batch();
        }
        let sizes = &self.batch_sizes[steps.clone()];
        let target = self.rows_of(steps).len() * index / count;
        let mut rows = 0;
        for column in 0..self.batch() {
            let of_column = sizes.iter().filter(|&&size| size > column).count();
            if rows + of_column / 2 >= target {
                return column;
            }
            rows += of_column;
        }
        self.batch()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_sort_into_columns() {
        let batch = Ragged::new(&[2, 0, 3, 2]);
        assert_eq!(batch.order(), [2, 0, 3, 1]);
        assert_eq!(batch.batch_sizes(), [3, 3, 1]);
        assert_eq!((batch.rows(), batch.steps(), batch.batch()), (7, 3, 4));
        assert_eq!(batch.previous(Direction::Forward, 0, 1), Previous::Given);
        assert_eq!(batch.previous(Direction::Forward, 1, 1), Previous::Row(1));
        assert_eq!(batch.previous(Direction::Reverse, 1, 1), Previous::Given);
        assert_eq!(batch.previous(Direction::Reverse, 1, 0), Previous::Row(6));
        assert_eq!(batch.last_row(Direction::Forward, 0), Some(6));
        assert_eq!(batch.last_row(Direction::Reverse, 3), None);
    }

    #[test]
    fn a_window_has_the_rows_and_boundaries_of_the_whole() {
        let mut whole = Ragged::new(&[4, 0, 7, 2, 4, 5]);
        let boundary = |sequence: usize, t: usize| (sequence + t).is_multiple_of(3);
        whole.set_resets(boundary);
        let mut window = Ragged::default();
        for (start, end) in (0..=7).flat_map(|start| (start..=7).map(move |end| (start, end))) {
            window.set_window(&whole, start..end);
            assert_eq!((window.order(), window.steps(), window.batch()), (whole.order(), end - start, 6));
            let (mut next, mut restarts) = (0, 0);
            for t in start..end {
                for column in 0..whole.batch_sizes()[t] {
                    let (here, there) = (window.row(t - start, column), whole.row(t, column));
                    assert_eq!((here, there - next), (next, whole.row(start, 0)));
                    assert_eq!(window.place(here), (t - start, column));
                    assert_eq!(window.sequence_and_time(here), (whole.order()[column], t));
                    assert_eq!(window.sequence_and_time(here), whole.sequence_and_time(there));
                    assert_eq!(window.reset_before(here), whole.reset_before(there));
                    let entered = t == start && !whole.reset_before(there);
                    let previous = match whole.previous(Direction::Forward, t, column) {
                        Previous::Row(row) if !entered => Previous::Row(row - whole.row(start, 0)),
                        _ if entered => Previous::Given,
                        other => other,
                    };
                    assert_eq!(window.previous(Direction::Forward, t - start, column), previous);
                    restarts += usize::from(boundary(whole.order()[column], t));
                    next += 1;
                }
            }
            assert_eq!((window.rows(), window.restarts()), (next, restarts));
            for column in 0..6 {
                assert_eq!(window.length_of(column), whole.length_of(column).clamp(start, end) - start);
            }
        }
        window.set_window(&whole, 2..6);
        let mut inner = Ragged::default();
        inner.set_window(&window, 1..3);
        assert_eq!((window.first_step(), inner.first_step()), (2, 3));
        window.set_window(&whole, 0..7);
        assert_eq!(window, whole);
        window.set_window(&Ragged::default(), 0..0);
        assert_eq!((window.rows(), window.batch()), (0, 0));
    }

    #[test]
    fn packing_and_unpacking_undo_each_other() {
        let batch = Ragged::new(&[1, 3, 0, 2]);
        let padded: Vec<f32> = (0..3 * 4 * 2).map(|i| i as f32 + 1.0).collect();
        let mut packed = alloc::vec![0.0; batch.rows() * 2];
        batch.pack_time_major(&padded, 2, &mut packed);
        let mut again = alloc::vec![9.0; padded.len()];
        batch.unpack_time_major(&packed, 2, &mut again);
        for t in 0..3 {
            for b in 0..4 {
                let want = if t < batch.lengths()[b] { padded[(t * 4 + b) * 2] } else { 0.0 };
                assert_eq!(again[(t * 4 + b) * 2], want);
            }
        }
        let mut first = alloc::vec![0.0; 4 * 3 * 2];
        batch.unpack_batch_first(&packed, 3, 2, &mut first);
        let mut repacked = alloc::vec![0.0; packed.len()];
        batch.pack_batch_first(&first, 3, 2, &mut repacked);
        assert_eq!(packed, repacked);
    }

    fn assert_refuses(what: &str, call: impl FnOnce()) {
        let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err();
        assert!(refused, "{what} must be refused");
    }

    #[test]
    fn conversions_refuse_other_lengths() {
        let batch = Ragged::new(&[3, 1]);
        let (mut packed, right, long) = ([0.0f32; 4], [0.0f32; 6], [0.0f32; 8]);
        batch.pack_time_major(&right, 1, &mut packed);
        batch.pack_batch_first(&right, 3, 1, &mut packed);
        batch.pack_batch_first(&long, 4, 1, &mut packed);
        assert_refuses("a padded array of other steps", || batch.pack_time_major(&long, 1, &mut packed));
        assert_refuses("fewer steps than the longest", || batch.pack_batch_first(&right[..4], 2, 1, &mut packed));
        assert_refuses("not [B, time, F]", || batch.pack_batch_first(&long, 3, 1, &mut packed));
        assert_refuses("other packed rows", || batch.pack_batch_first(&right, 3, 1, &mut packed[..3]));
        let (mut short, mut padded, mut spare) = ([0.0f32; 4], [0.0f32; 6], [0.0f32; 8]);
        batch.unpack_time_major(&packed, 1, &mut padded);
        batch.unpack_batch_first(&packed, 4, 1, &mut spare);
        assert_refuses("a padded array of other steps", || batch.unpack_time_major(&packed, 1, &mut spare));
        assert_refuses("fewer steps than the longest", || batch.unpack_batch_first(&packed, 2, 1, &mut short));
        assert_refuses("not [B, time, F]", || batch.unpack_batch_first(&packed, 3, 1, &mut spare));
        assert_refuses("other packed rows", || batch.unpack_time_major(&packed[..3], 1, &mut padded));
    }

    #[test]
    fn cuts_cover_all_columns() {
        for lengths in [&[5usize, 1, 1, 1, 1, 1][..], &[0, 0, 0], &[], &[7], &[3, 3, 3, 3]] {
            let batch = Ragged::new(lengths);
            for count in 1..4 {
                for steps in [0..batch.steps(), 0..batch.steps() / 2, batch.steps() / 2..batch.steps()] {
                    let cuts: Vec<usize> = (0..=count).map(|index| batch.column_cut(&steps, count, index)).collect();
                    assert_eq!((cuts[0], cuts[count]), (0, batch.batch()));
                    assert!(cuts.is_sorted());
                }
            }
        }
    }
}
