//! Which steps see each other, and where their keys and values are.

use alloc::vec::Vec;
use core::ops::{Deref, Range};

use crate::Element;
use crate::sequence::Ragged;

/// A run of steps of one sequence with no boundary between them, and what it sees of the time before the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    column: usize,
    steps: Range<usize>,
    past: usize,
    first_key: usize,
    is_last: bool,
}

impl Span {
    /// The column of its sequence.
    pub fn column(&self) -> usize {
        self.column
    }

    /// Its steps; none where a sequence has none.
    pub fn steps(&self) -> Range<usize> {
        self.steps.clone()
    }

    /// How many steps before the batch it sees.
    pub fn past(&self) -> usize {
        self.past
    }

    /// How many keys it has: of the past, then of its own steps.
    pub fn keys(&self) -> usize {
        self.past + self.steps.len()
    }

    /// The row of its first key among the keys by span.
    pub fn first_key(&self) -> usize {
        self.first_key
    }

    /// Whether its sequence ends with it, so that its keys and values are what later steps see.
    pub fn is_last(&self) -> bool {
        self.is_last
    }

    /// How many keys step `t` sees, its own among them: its position, counted from 1.
    pub fn seen_by(&self, t: usize) -> usize {
        self.past + t - self.steps.start + 1
    }
}

const OTHER_BATCH: &str = "the spans are those of another batch: set them to this one first";

/// The spans of a batch, column after column. Keys and values by span are `[M, F]`: those of one span after the other, each in
/// order of time.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    spans: Vec<Span>,
    keys: usize,
}

/// Keys and values of steps before a batch, for each sequence in the caller's order.
#[derive(Clone, Copy, Debug)]
pub struct Past<'a, E> {
    /// `[B, stride]`: rows of F numbers one after the other.
    pub keys: &'a [E],
    /// `[B, stride]`
    pub values: &'a [E],
    /// Numbers of a sequence.
    pub stride: usize,
}

impl Spans {
    /// Changes to those of `rows`, where a sequence sees `past(sequence)` steps before its first one. Allocates only for more
    /// spans than ever before.
    pub fn set(&mut self, rows: &Ragged, past: impl Fn(usize) -> usize) {
        self.spans.clear();
        self.keys = 0;
        for (column, &sequence) in rows.order().iter().enumerate() {
            let (mut start, mut seen) = (0, past(sequence));
            for t in 0..rows.length_of(column) {
                if rows.reset_before(rows.row(t, column)) {
                    if t > start {
                        self.push(Span { column, steps: start..t, past: seen, first_key: 0, is_last: false });
                    }
                    (start, seen) = (t, 0);
                }
            }
            let steps = start..rows.length_of(column);
            self.push(Span { column, steps, past: seen, first_key: 0, is_last: true });
        }
    }

    fn push(&mut self, span: Span) {
        self.spans.push(Span { first_key: self.keys, ..span });
        self.keys += self.spans[self.spans.len() - 1].keys();
    }

    /// M, the keys of all spans.
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// Panics unless they divide the steps of `rows` among them. Tasks rely on it: no two spans have a packed row in common.
    pub(super) fn assert_cover(&self, rows: &Ragged) {
        let (mut column, mut t) = (0, 0);
        for span in &self.spans {
            let follows = span.column == column && span.steps.start == t && column < rows.batch();
            assert!(follows, "{OTHER_BATCH}");
            t = span.steps.end;
            if span.is_last {
                assert_eq!(t, rows.length_of(column), "{OTHER_BATCH}");
                (column, t) = (column + 1, 0);
            }
        }
        assert_eq!(column, rows.batch(), "{OTHER_BATCH}");
    }

    /// Brings the keys and values of `qkv` `[N, 3F]`, and those of the `past`, into the order of the spans.
    ///
    /// # Panics
    /// If a length does not fit, or a span has a past and there is none.
    pub fn gather<E: Element>(
        &self,
        rows: &Ragged,
        qkv: &[E],
        past: Option<Past<'_, E>>,
        [keys, values]: [&mut [E]; 2],
    ) {
        let Some(features) = self.features(rows, qkv.len(), [keys.len(), values.len()]) else { return };
        for span in &self.spans {
            let sequence = rows.order()[span.column];
            for (which, array) in [&mut *keys, &mut *values].into_iter().enumerate() {
                let own = &mut array[span.first_key * features..(span.first_key + span.keys()) * features];
                let (before, own) = own.split_at_mut(span.past * features);
                if span.past > 0 {
                    let past = past.expect("the past of a span that has one");
                    let from = if which == 0 { past.keys } else { past.values };
                    before.copy_from_slice(&from[sequence * past.stride..][..before.len()]);
                }
                for (to, t) in own.chunks_exact_mut(features).zip(span.steps()) {
                    let from = (rows.row(t, span.column) * 3 + 1 + which) * features;
                    to.copy_from_slice(&qkv[from..from + features]);
                }
            }
        }
    }

    /// The transpose of [`gather`](Self::gather): writes the columns of keys and values of `d_qkv` `[N, 3F]`, and the gradients
    /// of the past, `[B, stride]` each, if wanted; what no span sees of it becomes 0.
    ///
    /// # Panics
    /// If a length does not fit.
    pub fn scatter<E: Element>(
        &self,
        rows: &Ragged,
        [d_keys, d_values]: [&[E]; 2],
        d_qkv: &mut [E],
        d_past: Option<([&mut [E]; 2], usize)>,
    ) {
        let (mut d_past, stride) = d_past.unzip();
        d_past.iter_mut().flatten().for_each(|array| array.fill(E::ZERO));
        let Some(features) = self.features(rows, d_qkv.len(), [d_keys.len(), d_values.len()]) else { return };
        for span in &self.spans {
            for (which, gradients) in [d_keys, d_values].into_iter().enumerate() {
                let own = &gradients[span.first_key * features..(span.first_key + span.keys()) * features];
                let (before, own) = own.split_at(span.past * features);
                if let (Some(d_past), Some(stride)) = (&mut d_past, stride) {
                    let to = &mut d_past[which][rows.order()[span.column] * stride..][..stride];
                    if span.past > 0 {
                        to[..before.len()].copy_from_slice(before);
                    }
                }
                for (from, t) in own.chunks_exact(features).zip(span.steps()) {
                    let to = (rows.row(t, span.column) * 3 + 1 + which) * features;
                    d_qkv[to..to + features].copy_from_slice(from);
                }
            }
        }
    }

    /// F, of arrays with these lengths; none where there are no keys.
    fn features(&self, rows: &Ragged, qkv: usize, keys: [usize; 2]) -> Option<usize> {
        self.assert_cover(rows);
        let features = keys[0].checked_div(self.keys)?;
        assert_eq!(keys, [self.keys * features; 2], "keys and values by span are [M, F], M = {}", self.keys);
        assert_eq!(qkv, rows.rows() * 3 * features, "queries, keys and values are [N, 3F], F = {features}");
        Some(features)
    }
}

impl Deref for Spans {
    type Target = [Span];
    fn deref(&self) -> &[Span] {
        &self.spans
    }
}
