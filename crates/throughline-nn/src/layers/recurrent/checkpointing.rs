//! Checkpointing in time: training memory that grows with the square root of T instead of T.
//!
//! Backpropagation through T steps needs what every step computed. With checkpointing, forward keeps only the output
//! and the states at the start of each segment of k steps. Backward takes the segments from the last to the first: it
//! recomputes the segment from its states with a tape, backpropagates through it, and passes the gradient of its
//! initial states to the segment before (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016; for
//! recurrent networks Gruslys et al., "Memory-Efficient Backpropagation Through Time", NIPS 2016). This costs one more
//! forward pass, less the last segment, whose tape is still there. A pass without checkpointing is the case of one
//! segment.
//!
//! Outputs, final states, dx and the gradients of given states are the same bits for any k. Parameter gradients are
//! summed segment by segment, so they differ in rounding.
//!
//! # Memory
//! How many numbers a stack holds for one sequence of T steps in training, besides the parameters and the caller's x,
//! dy and dx. There are S slots per unit, c is 1 for an LSTM and otherwise 0, and a segment has k steps (T without
//! checkpointing):
//!
//! | what | numbers |
//! |---|---|
//! | output of the top layer | T·D·H |
//! | outputs of the layers below | k·(L-1)·D·H, with dropout between layers twice that |
//! | tapes | k·L·D·(S+c)·H |
//! | slot gradients | n·S·H for n rows of the batch: 393,216 / (S·H), clamped to 256 to 2,048, at most those of k steps |
//! | gradients of outputs between layers | k·min(L-1, 2)·D·H |
//! | states, with the first and the final ones | (⌈T/k⌉+1)·L·D·(1+c)·H |
//!
//! Dropout of h_(t-1) adds H for each row of the slot gradients; dropout of recurrent weights adds L·D·G·H·H, and packed
//! weights once more.
//!
//! For one LSTM layer (S = 4) in one direction this is 6·H per step without checkpointing, and with k = √T about (T +
//! 7·√T)·H in all, besides slot gradients. Only the output, which the caller reads, is then as long as the sequence.
//!
//! # Directions
//! All layers run over one segment before any runs over the next. A bidirectional layer needs the whole output of the
//! layer below, so a bidirectional stack cannot use checkpointing.

use alloc::vec::Vec;
use core::num::NonZero;
use core::ops::Range;

use throughline_kernels::sequence::Ragged;

/// For how many steps at a time training keeps a tape; see the [module](self). It is a setting of the tape, not of the
/// model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checkpointing {
    /// All of them.
    #[default]
    Off,
    /// k of them.
    Every(NonZero<usize>),
    /// ⌈√T⌉ for a batch of T steps.
    Auto,
}

impl Checkpointing {
    /// `steps` at a time; 0 for all of them.
    pub fn every(steps: usize) -> Self {
        NonZero::new(steps).map_or(Self::Off, Self::Every)
    }

    /// k for a batch of `steps` steps; at least 1.
    fn segment(self, steps: usize) -> usize {
        let k = match self {
            Self::Off => steps,
            Self::Every(k) => k.get(),
            Self::Auto => {
                let root = steps.isqrt();
                root + usize::from(root * root < steps)
            }
        };
        k.max(1)
    }
}

/// The time segments of a pass.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    pub(crate) checkpointing: Checkpointing,
    /// A step at which the next pass with a tape begins a segment too, if it has more than one.
    pub(crate) extra_cut: usize,
    /// The first step of every segment, then T; empty before the first pass.
    cuts: Vec<usize>,
    window: Ragged,
}

impl Segments {
    /// Cuts a pass of `steps` steps into segments. One that keeps no tape is one segment.
    pub(crate) fn cut(&mut self, steps: usize, keeps_tape: bool) {
        let (checkpointing, extra_cut) = match keeps_tape {
            true => (self.checkpointing, core::mem::take(&mut self.extra_cut)),
            false => (Checkpointing::Off, 0),
        };
        let length = checkpointing.segment(steps);
        self.cuts.clear();
        self.cuts.extend((0..steps.max(1)).step_by(length));
        if length < steps
            && extra_cut < steps
            && let Err(place) = self.cuts.binary_search(&extra_cut)
        {
            self.cuts.insert(place, extra_cut);
        }
        self.cuts.push(steps);
    }

    /// How many there are, at least 1.
    pub(crate) fn count(&self) -> usize {
        self.cuts.len().checked_sub(1).expect("run a forward pass first")
    }

    /// The index of the segment that begins at `step`; the number of segments for T.
    pub(crate) fn beginning_at(&self, step: usize) -> Option<usize> {
        self.cuts.binary_search(&step).ok()
    }

    /// `segment` of `batch` as a batch of its own, and the range of its packed rows in `batch`.
    pub(crate) fn window<'a>(&'a mut self, batch: &'a Ragged, segment: usize) -> (&'a Ragged, Range<usize>) {
        if self.count() == 1 {
            return (batch, 0..batch.rows());
        }
        let steps = self.cuts[segment]..self.cuts[segment + 1];
        let first = batch.row(steps.start, 0);
        self.window.set_window(batch, steps);
        (&self.window, first..first + self.window.rows())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(checkpointing: Checkpointing, extra_cut: usize, steps: usize) -> Vec<usize> {
        let mut segments = Segments { checkpointing, extra_cut, ..Segments::default() };
        segments.cut(steps, true);
        assert_eq!((segments.count() + 1, segments.cuts.last()), (segments.cuts.len(), Some(&steps)));
        segments.cuts
    }

    #[test]
    fn segments_cover_all_steps() {
        let every = Checkpointing::every;
        assert_eq!(cuts(every(3), 0, 8), [0, 3, 6, 8]);
        assert_eq!(cuts(every(3), 0, 6), [0, 3, 6]);
        assert_eq!(cuts(every(3), 4, 8), [0, 3, 4, 6, 8]);
        assert_eq!(cuts(every(3), 6, 8), [0, 3, 6, 8]);
        assert_eq!(cuts(every(3), 8, 8), [0, 3, 6, 8]);
        assert_eq!(cuts(Checkpointing::Auto, 0, 10), [0, 4, 8, 10]);
        assert_eq!(cuts(Checkpointing::Auto, 0, 9), [0, 3, 6, 9]);
        for whole in [every(0), every(8), every(9), Checkpointing::Off] {
            assert_eq!(cuts(whole, 5, 8), [0, 8]);
        }
        for none in [every(0), every(1), Checkpointing::Auto] {
            assert_eq!(cuts(none, 0, 0), [0, 0]);
        }
    }

    #[test]
    fn a_pass_without_a_tape_is_whole() {
        let mut segments = Segments { checkpointing: Checkpointing::Auto, ..Segments::default() };
        segments.cut(9, false);
        assert_eq!(segments.cuts, [0, 9]);
    }

    #[test]
    fn an_extra_cut_waits_for_a_pass_with_a_tape_and_is_made_once() {
        let mut segments = Segments { checkpointing: Checkpointing::every(3), extra_cut: 4, ..Segments::default() };
        for (keeps_tape, cuts) in [(false, &[0, 8][..]), (true, &[0, 3, 4, 6, 8]), (true, &[0, 3, 6, 8])] {
            segments.cut(8, keeps_tape);
            assert_eq!(segments.cuts, cuts);
        }
    }
}
