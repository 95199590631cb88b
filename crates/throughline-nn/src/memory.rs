//! Shared by the modules: dropout, the record of the last pass, batches of one row per sequence, scratch
//! memory.

use alloc::vec::Vec;

use throughline_kernels::Element;
use throughline_kernels::ops::dropout;
use throughline_kernels::sequence::Ragged;
use throughline_kernels::threads::Threads;

use crate::module::{Call, Context, Cpu, Module, Pass};
use crate::parameters::{Builder, DropoutMask};

/// Inverted dropout of a module's output (Srivastava et al. 2014): in training each element is 0 with probability
/// `rate` and otherwise multiplied by 1 / (1 - rate).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Dropout {
    pub(crate) rate: f32,
    /// The number of this place of dropout in the model.
    pub(crate) site: u32,
    pub(crate) mask: DropoutMask,
}

impl Dropout {
    /// Dropout at a new site.
    ///
    /// # Panics
    /// If `rate` is not in [0, 1).
    pub(crate) fn new(builder: &mut Builder, rate: f32) -> Self {
        assert_is_rate(rate);
        Self { rate, site: builder.site(), mask: builder.dropout_mask() }
    }

    /// The masks of a pass, if it applies dropout here.
    pub(crate) fn of(self, pass: Pass) -> Option<dropout::Dropout> {
        let Pass::Training(philox) = pass else { return None };
        (self.rate > 0.0).then_some(dropout::Dropout { philox, rate: self.rate, place: self.site })
    }

    /// Applies the masks of a pass to `x` `[N, width]`, each row of which is that of a token, whole: in forward to the output,
    /// in backward to its gradient.
    pub(crate) fn apply_to_tokens<E: Element>(
        self,
        context: Context<'_, E>,
        tokens: &[u32],
        width: usize,
        x: &mut [E],
    ) {
        if let Some(dropout) = self.of(context.pass) {
            let Cpu { isa, threads } = context.cpu;
            dropout.apply_to_tokens(*isa, threads, x, width, tokens);
        }
    }

    /// Applies the masks of a pass to `x`, rows of `width` elements of which the first is packed row `first` of
    /// `batch`: in forward to the output, in backward to its gradient.
    pub(crate) fn apply<E: Element>(
        self,
        context: Context<'_, E>,
        batch: &Ragged,
        first: usize,
        width: usize,
        x: &mut [E],
    ) {
        if let Some(dropout) = self.of(context.pass) {
            let Cpu { isa, threads } = context.cpu;
            let row_id = |row| {
                let (sequence, time) = batch.sequence_and_time(first + row);
                match self.mask {
                    DropoutMask::Step => (sequence as u32, time as u32),
                    DropoutMask::Sequence => (sequence as u32, 0),
                }
            };
            dropout.apply(*isa, threads, x, width, &row_id);
        }
    }
}

/// Panics unless `rate` is a rate of dropout.
pub(crate) fn assert_is_rate(rate: f32) {
    assert!((0.0..1.0).contains(&rate), "a dropout rate is at least 0 and below 1, not {rate}");
}

const NO_PASS: &str = "no forward pass has finished here since the last step: run forward on this batch first";

/// What the last forward pass was called with, to check that later calls belong to it.
#[derive(Debug, Default)]
pub(crate) struct LastCall {
    rows: usize,
    lengths: Vec<usize>,
    order: Vec<usize>,
    /// Whether there was a boundary before each packed row; empty if there was none at all.
    boundaries: Vec<bool>,
    /// `None` before the first pass, after a step, and if the last pass panicked.
    pass: Option<Pass>,
    started: bool,
    begun: Vec<bool>,
}

impl LastCall {
    /// To be called at the beginning of a forward pass and of a step.
    pub(crate) fn forget(&mut self) {
        self.pass = None;
    }

    /// To be called at the end of a forward pass. Allocates only for a batch larger than any before.
    pub(crate) fn remember<E: Element, M: Module<E>>(&mut self, call: Call<'_, E, M>) {
        let rows = call.rows;
        self.rows = rows.rows();
        self.lengths.clear();
        self.lengths.extend_from_slice(rows.lengths());
        self.order.clear();
        self.order.extend_from_slice(rows.order());
        self.boundaries.clear();
        if rows.restarts() > 0 {
            self.boundaries.extend((0..rows.rows()).map(|row| rows.reset_before(row)));
        }
        self.started = call.start.is_some();
        self.begun.clear();
        self.begun.extend(call.start.iter().flat_map(|start| start.begun));
        self.pass = Some(call.context.pass);
    }

    /// The number of rows of the last pass. Panics unless it is that of `rows`.
    pub(crate) fn row_count(&self, rows: &Ragged) -> usize {
        assert!(self.pass.is_some(), "{NO_PASS}");
        let expected = "the last forward pass had another number of rows: run forward on this batch first";
        assert_eq!(self.rows, rows.rows(), "{expected}");
        self.rows
    }

    /// Panics unless the last pass was over `rows`.
    pub(crate) fn assert_was_over(&self, rows: &Ragged) {
        assert!(self.pass.is_some(), "{NO_PASS}");
        assert!(
            self.lengths == rows.lengths() && self.order == rows.order(),
            "the last forward pass had sequences of lengths {:?}, not {:?}: run forward on this batch first",
            self.lengths,
            rows.lengths()
        );
        let as_many = self.boundaries.is_empty() == (rows.restarts() == 0);
        let mut boundaries = self.boundaries.iter().enumerate();
        assert!(
            as_many && boundaries.all(|(row, &boundary)| boundary == rows.reset_before(row)),
            "the last forward pass had other boundaries (`Ragged::set_resets`): run forward on this batch first"
        );
    }

    /// Panics unless the last pass was `call` and kept a tape.
    pub(crate) fn assert_was<E: Element, M: Module<E>>(&self, call: Call<'_, E, M>) {
        let taped = self.pass.is_some_and(Pass::keeps_tape);
        assert!(
            taped,
            "no finished forward pass has kept a tape here: run forward on this batch first, and not for inference"
        );
        self.assert_was_over(call.rows);
        let (forward, backward) = (self.pass.expect("there was a pass"), call.context.pass);
        assert_eq!(forward, backward, "forward and backward were called with different kinds of pass");
        let begun = call.start.map_or(&[][..], |start| start.begun);
        assert!(
            self.started == call.start.is_some() && self.begun == begun,
            "forward and backward were called with different starts: not the same sequences had begun"
        );
    }
}

/// A batch of sequences of one row each, as a step reads and pooling writes.
#[derive(Debug, Default)]
pub(crate) struct OneRowEach {
    lengths: Vec<usize>,
    rows: Ragged,
}

impl OneRowEach {
    /// The batch of `sequences` sequences. Allocates only for more of them than ever before.
    pub(crate) fn of(&mut self, sequences: usize) -> &Ragged {
        if self.rows.batch() != sequences || sequences == 0 {
            self.lengths.resize(sequences, 1);
            self.rows.set(&self.lengths);
        }
        &self.rows
    }

    /// The batch of the last call of [`of`](Self::of).
    pub(crate) fn rows(&self) -> &Ragged {
        &self.rows
    }
}

/// Scratch memory for each thread. Allocates only for more threads than ever before.
pub(crate) fn one_for_each_thread<'a, S: Default>(scratch: &'a mut Vec<S>, threads: &Threads) -> &'a mut [S] {
    if scratch.len() < threads.count() {
        scratch.resize_with(threads.count(), S::default);
    }
    &mut scratch[..threads.count()]
}
