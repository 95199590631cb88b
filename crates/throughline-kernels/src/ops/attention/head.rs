//! One head of one span: what a task computes.

use core::ops::Range;

use super::weights::{Divide, Normaliser, ScoreGradient, Weigh};
use super::{Attention, AttentionBatch, AttentionScratch, Span};
use crate::Element;
use crate::buffer::Buffer;
use crate::disjoint::Disjoint;
use crate::gemm::{OuterProducts, Panels, RowGroup, accumulate, add_outer_products};

/// Steps whose scores are computed together, and how many scores they should have at most, which then stay in the second cache.
const MOST_STEPS: usize = 32;
const FEWEST_STEPS: usize = 8;
const TILE_SCORES: usize = 1 << 16;
/// Steps whose sums over values go together as far as they see the same steps.
const TOGETHER: usize = 8;

/// A head of a span that has steps. Its numbers in rows of queries, keys, values and outputs, and in what is made of these, belong
/// to one task alone.
pub(super) struct Head<'a, E> {
    attention: Attention,
    batch: AttentionBatch<'a, E>,
    span: &'a Span,
    index: usize,
}

/// Rows `[N, width]`, in whose first F columns each head has its D numbers.
#[derive(Clone, Copy)]
struct Rows<'a, E> {
    numbers: &'a [E],
    width: usize,
}

impl<'a, E: Element> Head<'a, E> {
    /// Head `task` of all heads of all spans; none if its span has no steps.
    pub(super) fn of(attention: Attention, batch: AttentionBatch<'a, E>, task: usize) -> Option<Self> {
        let (span, index) = (&batch.spans[task / attention.heads], task % attention.heads);
        (!span.steps().is_empty()).then_some(Self { attention, batch, span, index })
    }

    /// Writes this head's columns of `y` `[N, F]` and of `normalisers` `[N, heads]` in the rows of the span.
    pub(super) fn forward(
        &self,
        y: Disjoint<'_, E>,
        normalisers: Disjoint<'_, Normaliser<E>>,
        scratch: &mut AttentionScratch<E>,
    ) {
        let (Attention { isa, width, .. }, keys) = (self.attention, self.span.keys());
        let AttentionScratch { keys_by_number, values_by_key, scores, zeros, .. } = scratch;
        self.pack_by_number(self.batch.keys, keys_by_number);
        self.pack_by_key(self.batch.values, values_by_key);
        let zeros = zeros.at_least(keys.max(width));
        for tile in self.tiles() {
            let scores = scores.at_least(tile.len() * keys);
            self.products(keys_by_number, &tile, self.queries(), scores, zeros);
            for group in tile.clone().step_by(TOGETHER).map(|t| t..tile.end.min(t + TOGETHER)) {
                let weights = &mut scores[(group.start - tile.start) * keys..][..group.len() * keys];
                let mut of_group = [Normaliser::default(); TOGETHER];
                for ((weights, normaliser), t) in weights.chunks_exact_mut(keys).zip(&mut of_group).zip(group.clone()) {
                    let scores = &mut weights[..self.span.seen_by(t)];
                    *normaliser = E::dispatch(isa, Weigh { scores, scale: self.attention.scale() });
                }
                self.sum_values(values_by_key, &group, weights, y, zeros);
                for (t, normaliser) in group.zip(of_group) {
                    let (row, at) = (self.at(t, self.attention.features()), self.normaliser(t));
                    // SAFETY: this head of this row belongs to this task alone, and no other slice of it is in use.
                    let (y, kept) = unsafe { (y.slice(row..row + width), normalisers.slice(at..at + 1)) };
                    E::dispatch(isa, Divide { y, normaliser });
                    kept[0] = normaliser;
                }
            }
        }
    }

    /// The transpose of [`forward`](Self::forward): writes this head's columns of the queries in `d_qkv`, and adds to those of
    /// `d_keys` and `d_values`.
    pub(super) fn backward(
        &self,
        [y, dy]: [&[E]; 2],
        normalisers: &[Normaliser<E>],
        [d_qkv, d_keys, d_values]: [Disjoint<'_, E>; 3],
        scratch: &mut AttentionScratch<E>,
    ) {
        let (features, keys) = (self.attention.features(), self.span.keys());
        let AttentionScratch { keys_by_number, values_by_number, keys_by_key, scores, d_scores, zeros, outer, .. } =
            scratch;
        self.pack_by_number(self.batch.keys, keys_by_number);
        self.pack_by_number(self.batch.values, values_by_number);
        self.pack_by_key(self.batch.keys, keys_by_key);
        let zeros = zeros.at_least(keys.max(self.attention.width));
        let [y, dy] = [y, dy].map(|numbers| Rows { numbers, width: features });
        for tile in self.tiles() {
            let [scores, d_scores] = [&mut *scores, d_scores].map(|rows| rows.at_least(tile.len() * keys));
            self.products(keys_by_number, &tile, self.queries(), scores, zeros);
            self.products(values_by_number, &tile, dy, d_scores, zeros);
            self.score_gradients(&tile, [y, dy], normalisers, scores, d_scores);
            self.query_gradients(keys_by_key, &tile, d_scores, d_qkv, zeros);
            self.add_over_steps(&tile, scores, dy, d_values, outer);
            self.add_over_steps(&tile, d_scores, self.queries(), d_keys, outer);
        }
    }

    fn queries(&self) -> Rows<'a, E> {
        Rows { numbers: self.batch.qkv, width: 3 * self.attention.features() }
    }

    /// Where this head's numbers of step `t` begin in rows of `width`.
    fn at(&self, t: usize, width: usize) -> usize {
        self.batch.rows.row(t, self.span.column()) * width + self.index * self.attention.width
    }

    /// This head's numbers of step `t`.
    fn of_step<'b>(&self, t: usize, rows: Rows<'b, E>) -> &'b [E] {
        &rows.numbers[self.at(t, rows.width)..][..self.attention.width]
    }

    /// Where the normaliser of step `t` is in `[N, heads]`.
    fn normaliser(&self, t: usize) -> usize {
        self.batch.rows.row(t, self.span.column()) * self.attention.heads + self.index
    }

    /// Where this head's numbers of the first key are in `[M, F]`.
    fn first_key(&self) -> usize {
        self.span.first_key() * self.attention.features() + self.index * self.attention.width
    }

    /// Packs keys or values `[M, F]` as a matrix `[D, keys]`, for products over the numbers of the head.
    fn pack_by_number(&self, array: &[E], panels: &mut Panels<E>) {
        let Attention { isa, width, .. } = self.attention;
        let stride = self.attention.features();
        panels.pack_transposed(isa, &array[self.first_key()..], stride, width, self.span.keys(), &[0]);
    }

    /// Packs keys or values `[M, F]` as a matrix `[keys, D]`, for sums over keys.
    fn pack_by_key(&self, array: &[E], panels: &mut Panels<E>) {
        let Attention { isa, width, .. } = self.attention;
        panels.pack(isa, &array[self.first_key()..], self.attention.features(), self.span.keys(), width);
    }

    /// The steps in runs whose scores are computed together.
    fn tiles(&self) -> impl Iterator<Item = Range<usize>> + use<E> {
        let (steps, count) = (self.span.steps(), (TILE_SCORES / self.span.keys()).clamp(FEWEST_STEPS, MOST_STEPS));
        steps.clone().step_by(count).map(move |t| t..steps.end.min(t + count))
    }

    /// Writes to `out` `[tile, keys]` the products of the head's numbers in `rows` and those of each key that the tile sees, and
    /// of some more. `panels` are keys or values by number; there is a zero for each key.
    fn products(&self, panels: &Panels<E>, tile: &Range<usize>, rows: Rows<'_, E>, out: &mut [E], zeros: &[E]) {
        let (Attention { isa, width, .. }, keys) = (self.attention, self.span.keys());
        let mut group = RowGroup::from_init(&zeros[..keys]);
        for (t, out) in tile.clone().zip(out.chunks_exact_mut(keys)) {
            group.push(self.of_step(t, rows).as_ptr(), out.as_mut_ptr());
        }
        let which = 0..self.span.seen_by(tile.end - 1).div_ceil(panels.units_per_panel());
        // SAFETY: a row has D numbers, the depth of the panels; each row of `out`, and the zeros, has an element for each key,
        // the columns of the panels; rows of `out` do not overlap.
        unsafe { accumulate(isa, panels, which, 0..width, &group) };
    }

    /// Writes to this head's columns of `y` the sums of the values that each step of `steps` sees, by `weights` `[steps, keys]`.
    /// `panels` are the values by key. First as far as all see them, then step by step: a chain has no terms for steps that are
    /// not seen.
    fn sum_values(&self, panels: &Panels<E>, steps: &Range<usize>, weights: &[E], y: Disjoint<'_, E>, zeros: &[E]) {
        let (Attention { isa, width, .. }, keys) = (self.attention, self.span.keys());
        let seen_by_all = self.span.seen_by(steps.start);
        let out = |t: usize| y.at(self.at(t, self.attention.features()));
        let mut group = RowGroup::from_init(&zeros[..width]);
        for (t, weights) in steps.clone().zip(weights.chunks_exact(keys)) {
            group.push(weights.as_ptr(), out(t));
        }
        // SAFETY: a row has a weight for each key, the depth of the panels; this head of these rows of y, D numbers each, belongs
        // to this task alone; there are D zeros.
        unsafe { accumulate(isa, panels, 0..panels.count(), 0..seen_by_all, &group) };
        for (t, weights) in steps.clone().zip(weights.chunks_exact(keys)).skip(1) {
            let mut group = RowGroup::default();
            group.push(weights[seen_by_all..].as_ptr(), out(t));
            // SAFETY: as above; the step sees keys after those that all see.
            unsafe { accumulate(isa, panels, 0..panels.count(), seen_by_all..self.span.seen_by(t), &group) };
        }
    }

    /// From the products q · k and dy · v of the steps of a tile, `[tile, keys]` each, to probabilities and the gradients of
    /// the products q · k, with 0 for what a step does not see and the last of the tile does.
    fn score_gradients(
        &self,
        tile: &Range<usize>,
        [y, dy]: [Rows<'_, E>; 2],
        normalisers: &[Normaliser<E>],
        scores: &mut [E],
        d_scores: &mut [E],
    ) {
        let (keys, seen) = (self.span.keys(), self.span.seen_by(tile.end - 1));
        let rows = scores.chunks_exact_mut(keys).zip(d_scores.chunks_exact_mut(keys));
        for ((scores, d_scores), t) in rows.zip(tile.clone()) {
            let own = self.span.seen_by(t);
            scores[own..seen].fill(E::ZERO);
            d_scores[own..seen].fill(E::ZERO);
            let [y, dy] = [y, dy].map(|rows| self.of_step(t, rows));
            let (normaliser, scale) = (normalisers[self.normaliser(t)], self.attention.scale());
            let (scores, d_scores) = (&mut scores[..own], &mut d_scores[..own]);
            E::dispatch(self.attention.isa, ScoreGradient { scores, d_scores, y, dy, normaliser, scale });
        }
    }

    /// Writes the gradients of the queries of a tile from those of its scores, `[tile, keys]`. `panels` are the keys by key.
    fn query_gradients(
        &self,
        panels: &Panels<E>,
        tile: &Range<usize>,
        d_scores: &[E],
        d_qkv: Disjoint<'_, E>,
        zeros: &[E],
    ) {
        let mut group = RowGroup::from_init(&zeros[..self.attention.width]);
        for (t, d_scores) in tile.clone().zip(d_scores.chunks_exact(self.span.keys())) {
            group.push(d_scores.as_ptr(), d_qkv.at(self.at(t, 3 * self.attention.features())));
        }
        let seen = self.span.seen_by(tile.end - 1);
        // SAFETY: a row has a gradient for each key, the depth of the panels; this head of the queries of these rows, D numbers
        // each, belongs to this task alone; there are D zeros.
        unsafe { accumulate(self.attention.isa, panels, 0..panels.count(), 0..seen, &group) };
    }

    /// Adds to this head's columns of `out` `[M, F]`, for each key that a tile sees, the sum of `rows` by the `weights` of the key,
    /// `[tile, keys]`.
    fn add_over_steps(
        &self,
        tile: &Range<usize>,
        weights: &[E],
        rows: Rows<'_, E>,
        out: Disjoint<'_, E>,
        scratch: &mut Buffer<E>,
    ) {
        let products = OuterProducts {
            rows: tile.len(),
            a: weights.as_ptr(),
            a_stride: self.span.keys(),
            outputs: 0..self.span.seen_by(tile.end - 1),
            b: &|i| self.of_step(tile.start + i, rows).as_ptr(),
            columns: self.attention.width,
            out: out.at(self.first_key()),
            out_stride: self.attention.features(),
            sums: core::ptr::null_mut(),
        };
        // SAFETY: a row of weights has one for each key; each row b has D numbers; this head of the keys of this span, D numbers
        // each, belongs to this task alone.
        unsafe { add_outer_products(self.attention.isa, products, scratch) };
    }
}
