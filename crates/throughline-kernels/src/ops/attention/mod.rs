//! Causal multi-head scaled dot-product attention (Vaswani et al. 2017, section 3.2) over ragged batches.
//!
//! Step i of a sequence sees the keys and values of steps j <= i, and no step beyond a boundary. In each head of D numbers, with
//! q, k, v of one step each:
//!
//! ```text
//! s_ij = (q_i · k_j) / sqrt(D),   p_ij = e^(s_ij - m_i) / sum over j' <= i of e^(s_ij' - m_i),   m_i = max over j <= i of s_ij
//! y_i = sum over j <= i of p_ij v_j
//! ```
//!
//! With dp_ij = dy_i · v_j, the gradient of p_ij, the softmax gives ds_ij = p_ij (dp_ij - sum over j' of p_ij' dp_ij'), and that
//! sum is dy_i · y_i, since y_i is the sum of p_ij' v_j'. The products then give
//!
//! ```text
//! ds_ij = p_ij (dp_ij - dy_i · y_i)
//! dv_j = sum over i >= j of p_ij dy_i
//! dq_i = sum over j <= i of ds_ij k_j / sqrt(D)
//! dk_j = sum over i >= j of ds_ij q_i / sqrt(D)
//! ```
//!
//! Forward keeps two numbers for each row and head, m and the inverse of the sum ([`Normaliser`]), and backward computes the
//! probabilities again. Keeping those would take T / 2 numbers for each row and head: 1 GiB for 8 sequences of 4,096 steps in 4
//! heads, where this takes 1 MiB and one more product.
//!
//! q · k and the sum over j are chains of fused multiply-adds over ascending numbers and ascending steps, with no terms for steps
//! that are not seen; the sum of exponentials has the fixed order of all sums here. A row's output has therefore the same bits
//! alone or in any batch, in one run or after any cut, and in [`Attention::step`], which reads a cache as it is.

mod spans;
mod step;
mod weights;

use throughline_simd::Isa;

pub use self::spans::{Past, Span, Spans};
pub use self::weights::Normaliser;
use self::weights::{Divide, ScoreGradient, Weigh};
use crate::Element;
use crate::buffer::Buffer;
use crate::disjoint::Disjoint;
use crate::gemm::{OuterProducts, Panels, RowGroup, accumulate, add_outer_products};
use crate::sequence::Ragged;
use crate::threads::Threads;

/// Steps whose scores are computed together, and how many scores they should have at most, which then stay in the second cache.
const MOST_STEPS: usize = 32;
const FEWEST_STEPS: usize = 8;
const TILE_SCORES: usize = 1 << 16;
/// Steps whose sums over values go together as far as they see the same steps.
const TOGETHER: usize = 8;

/// Attention with a number of heads, on an instruction set.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    isa: Isa,
    heads: usize,
    /// D
    width: usize,
}

/// A batch on its way through attention.
#[derive(Clone, Copy, Debug)]
pub struct AttentionBatch<'a, E> {
    /// Its shape.
    pub rows: &'a Ragged,
    /// Which steps see each other.
    pub spans: &'a Spans,
    /// `[N, 3F]`: the query, key and value of each packed row.
    pub qkv: &'a [E],
    /// `[M, F]`: keys by span, as [`Spans::gather`] writes them.
    pub keys: &'a [E],
    /// `[M, F]`: values by span.
    pub values: &'a [E],
}

/// The memory of one thread.
#[derive(Debug, Default)]
pub struct AttentionScratch<E> {
    /// Keys and values as the matrices of products over the numbers of a head, `[D, keys]`, and over keys, `[keys, D]`.
    keys_by_number: Panels<E>,
    values_by_number: Panels<E>,
    keys_by_key: Panels<E>,
    values_by_key: Panels<E>,
    /// `[steps, keys]`
    scores: Buffer<E>,
    /// `[steps, keys]`
    d_scores: Buffer<E>,
    /// Never written.
    zeros: Buffer<E>,
    outer: Buffer<E>,
}

impl Attention {
    /// `heads` heads for rows of F = `features` numbers, on `isa`.
    ///
    /// # Panics
    /// If F is not a multiple of the number of heads, or one of them is 0.
    pub fn new(isa: Isa, heads: usize, features: usize) -> Self {
        let fits = heads > 0 && features > 0 && features.is_multiple_of(heads);
        assert!(fits, "F is a multiple of the number of heads, at least 1, not {features} for {heads} heads");
        Self { isa, heads, width: features / heads }
    }

    /// F
    pub fn features(self) -> usize {
        self.heads * self.width
    }

    /// The number of heads.
    pub fn heads(self) -> usize {
        self.heads
    }

    /// 1 / sqrt(D)
    fn scale<E: Element>(self) -> E {
        E::from_f64(1.0 / libm::sqrt(self.width as f64))
    }

    /// Writes `y` `[N, F]` and what backward needs, `normalisers` `[N, heads]`. `scratch` has one element for each thread.
    ///
    /// # Panics
    /// If a length does not fit.
    pub fn forward<E: Element>(
        self,
        threads: &Threads,
        batch: AttentionBatch<'_, E>,
        y: &mut [E],
        normalisers: &mut [Normaliser<E>],
        scratch: &mut [AttentionScratch<E>],
    ) {
        self.check(batch, y.len(), normalisers.len());
        let (y, normalisers) = (Disjoint::new(y), Disjoint::new(normalisers));
        threads.for_each(batch.spans.len() * self.heads, scratch, |task, scratch| {
            let place = self.place(batch, task);
            if !place.span.steps().is_empty() {
                self.forward_of(batch, place, y, normalisers, scratch);
            }
        });
    }

    /// Writes the gradients of the queries, the first F columns of `d_qkv` `[N, 3F]`, and adds to those of keys and values,
    /// `[M, F]` each, which [`Spans::scatter`] brings to where they came from. `y` and `normalisers` are what
    /// [`forward`](Self::forward) wrote, `dy` `[N, F]` the gradient of `y`.
    ///
    /// # Panics
    /// If a length does not fit.
    #[allow(clippy::too_many_arguments, reason = "those of forward and their gradients")]
    pub fn backward<E: Element>(
        self,
        threads: &Threads,
        batch: AttentionBatch<'_, E>,
        [y, dy]: [&[E]; 2],
        normalisers: &[Normaliser<E>],
        d_qkv: &mut [E],
        [d_keys, d_values]: [&mut [E]; 2],
        scratch: &mut [AttentionScratch<E>],
    ) {
        self.check(batch, y.len(), normalisers.len());
        assert!(dy.len() == y.len() && d_qkv.len() == batch.qkv.len(), "a gradient is like what it is of");
        let like_keys = d_keys.len() == batch.keys.len() && d_values.len() == batch.keys.len();
        assert!(like_keys, "gradients of keys and values are [M, F] like these");
        let [d_qkv, d_keys, d_values] = [d_qkv, d_keys, d_values].map(Disjoint::new);
        threads.for_each(batch.spans.len() * self.heads, scratch, |task, scratch| {
            let place = self.place(batch, task);
            if !place.span.steps().is_empty() {
                self.backward_of(batch, place, [y, dy], normalisers, [d_qkv, d_keys, d_values], scratch);
            }
        });
    }

    fn check<E>(self, batch: AttentionBatch<'_, E>, y: usize, normalisers: usize) {
        let (rows, features) = (batch.rows.rows(), self.features());
        assert_eq!(batch.qkv.len(), rows * 3 * features, "queries, keys and values are [N, 3F], N = {rows}");
        assert!(y == rows * features && normalisers == rows * self.heads, "y is [N, F], normalisers [N, heads]");
        let keys = batch.spans.keys() * features;
        assert!(batch.keys.len() == keys && batch.values.len() == keys, "keys and values are [M, F]");
        batch.spans.assert_cover(batch.rows);
    }

    /// Task `task`: a head of a span.
    fn place<E>(self, batch: AttentionBatch<'_, E>, task: usize) -> Place {
        Place { span: batch.spans[task / self.heads].clone(), head: task % self.heads }
    }

    /// Where the head's numbers are in a row of F.
    fn columns(self, place: &Place) -> core::ops::Range<usize> {
        place.head * self.width..(place.head + 1) * self.width
    }

    /// The query of packed row `row`.
    fn query<'a, E>(self, batch: AttentionBatch<'a, E>, place: &Place, row: usize) -> &'a [E] {
        &batch.qkv[row * 3 * self.features()..][self.columns(place)]
    }

    /// One head of one span, which has steps.
    fn forward_of<E: Element>(
        self,
        batch: AttentionBatch<'_, E>,
        place: Place,
        y: Disjoint<'_, E>,
        normalisers: Disjoint<'_, Normaliser<E>>,
        scratch: &mut AttentionScratch<E>,
    ) {
        let Self { isa, width, .. } = self;
        let (features, span, columns) = (self.features(), &place.span, self.columns(&place));
        let (keys, first) = (span.keys(), span.first_key() * features + columns.start);
        let AttentionScratch { keys_by_number, values_by_key, scores, zeros, .. } = scratch;
        keys_by_number.pack_transposed(isa, &batch.keys[first..], features, width, keys, &[0]);
        values_by_key.pack(isa, &batch.values[first..], features, keys, width);
        let zeros = zeros.at_least(keys.max(width));
        for tile in tiles(span) {
            let scores = scores.at_least(tile.len() * keys);
            let which = 0..span.seen_by(tile.end - 1).div_ceil(keys_by_number.units_per_panel());
            let of_tile = scores.as_mut_ptr();
            let queries = tile.clone().enumerate().map(|(i, t)| {
                let query = self.query(batch, &place, batch.rows.row(t, span.column()));
                (query.as_ptr(), of_tile.wrapping_add(i * keys))
            });
            // SAFETY: a query has D numbers, the depth of the panels; each row of scores, and the zeros, has one element
            // for each key, the columns of the panels; the scores belong to this thread.
            unsafe { product(isa, keys_by_number, which, 0..width, Some(&zeros[..keys]), queries) };
            for (scores, t) in scores.chunks_exact_mut(keys).zip(tile.clone()) {
                let scores = &mut scores[..span.seen_by(t)];
                let row = batch.rows.row(t, span.column()) * self.heads + place.head;
                // SAFETY: this head of this row belongs to this task alone.
                let normaliser = unsafe { normalisers.slice(row..row + 1) };
                normaliser[0] = E::dispatch(isa, Weigh { scores, scale: self.scale() });
            }
            let of_row = |t: usize| batch.rows.row(t, span.column()) * features + columns.start;
            for group in tile.clone().step_by(TOGETHER).map(|t| t..tile.end.min(t + TOGETHER)) {
                let (seen, panels) = (span.seen_by(group.start), 0..values_by_key.count());
                let place_of = |t: usize| (scores[(t - tile.start) * keys..].as_ptr(), y.at(of_row(t)));
                // SAFETY: a row of weights has one for each key, the depth of the panels; this head of these rows of y, D
                // numbers each, belongs to this task alone; there are at least D zeros.
                unsafe {
                    let rows = group.clone().map(place_of);
                    product(isa, values_by_key, panels.clone(), 0..seen, Some(&zeros[..width]), rows);
                    for t in group.start + 1..group.end {
                        let (weights, y) = place_of(t);
                        let rest = core::iter::once((weights.wrapping_add(seen), y));
                        product(isa, values_by_key, panels.clone(), seen..span.seen_by(t), None, rest);
                    }
                }
            }
            for t in tile {
                let row = batch.rows.row(t, span.column()) * self.heads + place.head;
                // SAFETY: this head of this row belongs to this task alone, and no other slice of it is in use.
                let (y, normaliser) =
                    unsafe { (y.slice(of_row(t)..of_row(t) + width), normalisers.slice(row..row + 1)) };
                E::dispatch(isa, Divide { y, normaliser: normaliser[0] });
            }
        }
    }

    /// The transpose of [`forward_of`](Self::forward_of).
    fn backward_of<E: Element>(
        self,
        batch: AttentionBatch<'_, E>,
        place: Place,
        [y, dy]: [&[E]; 2],
        normalisers: &[Normaliser<E>],
        [d_qkv, d_keys, d_values]: [Disjoint<'_, E>; 3],
        scratch: &mut AttentionScratch<E>,
    ) {
        let Self { isa, width, .. } = self;
        let (features, span, columns) = (self.features(), &place.span, self.columns(&place));
        let (keys, first) = (span.keys(), span.first_key() * features + columns.start);
        let AttentionScratch { keys_by_number, values_by_number, keys_by_key, scores, d_scores, zeros, outer, .. } =
            scratch;
        keys_by_number.pack_transposed(isa, &batch.keys[first..], features, width, keys, &[0]);
        values_by_number.pack_transposed(isa, &batch.values[first..], features, width, keys, &[0]);
        keys_by_key.pack(isa, &batch.keys[first..], features, keys, width);
        let zeros = zeros.at_least(keys.max(width));
        for tile in tiles(span) {
            let (scores, d_scores) = (scores.at_least(tile.len() * keys), d_scores.at_least(tile.len() * keys));
            let seen = span.seen_by(tile.end - 1);
            let which = 0..seen.div_ceil(keys_by_number.units_per_panel());
            let row = |t: usize| batch.rows.row(t, span.column());
            let query = |t: usize| self.query(batch, &place, row(t)).as_ptr();
            let d_output = |t: usize| dy[row(t) * features..][columns.clone()].as_ptr();
            let (of_scores, of_d_scores) = (scores.as_mut_ptr(), d_scores.as_mut_ptr());
            let at = |rows: *mut E, t: usize| rows.wrapping_add((t - tile.start) * keys);
            // SAFETY: queries and gradients of the output have D numbers, the depth of the panels; each row of scores and
            // of their gradients, and the zeros, has one element for each key, the columns of the panels; both belong to
            // this thread.
            unsafe {
                let rows = tile.clone().map(|t| (query(t), at(of_scores, t)));
                product(isa, keys_by_number, which.clone(), 0..width, Some(&zeros[..keys]), rows);
                let rows = tile.clone().map(|t| (d_output(t), at(of_d_scores, t)));
                product(isa, values_by_number, which, 0..width, Some(&zeros[..keys]), rows);
            }
            let of_tile = scores.chunks_exact_mut(keys).zip(d_scores.chunks_exact_mut(keys));
            for ((scores, d_scores), t) in of_tile.zip(tile.clone()) {
                let own = span.seen_by(t);
                // The sums below run over what the last row of the tile sees.
                scores[own..seen].fill(E::ZERO);
                d_scores[own..seen].fill(E::ZERO);
                let [y, dy] = [y, dy].map(|rows| &rows[row(t) * features..][columns.clone()]);
                let normaliser = normalisers[row(t) * self.heads + place.head];
                let (scores, d_scores) = (&mut scores[..own], &mut d_scores[..own]);
                E::dispatch(isa, ScoreGradient { scores, d_scores, y, dy, normaliser, scale: self.scale() });
            }
            let (of_scores, of_d_scores) = (scores.as_mut_ptr(), d_scores.as_mut_ptr());
            let (dy_rows, query_rows) = (|i: usize| d_output(tile.start + i), |i: usize| query(tile.start + i));
            // SAFETY: a row of gradients has one for each key, of which the first `seen` are rows of the panels; this head
            // of the queries of these rows, and of the keys and values of this span, belongs to this task alone; the
            // factors have D numbers, as many as the sums have columns.
            unsafe {
                let d_query = |t: usize| d_qkv.at(row(t) * 3 * features + columns.start);
                let rows = tile.clone().map(|t| (at(of_d_scores, t).cast_const(), d_query(t)));
                product(isa, keys_by_key, 0..keys_by_key.count(), 0..seen, Some(&zeros[..width]), rows);
                for (of_tile, b, out) in
                    [(of_scores, &dy_rows as &dyn Fn(usize) -> *const E, d_values), (of_d_scores, &query_rows, d_keys)]
                {
                    let sums_over_steps = OuterProducts {
                        rows: tile.len(),
                        a: of_tile.cast_const(),
                        a_stride: keys,
                        outputs: 0..seen,
                        b,
                        columns: width,
                        out: out.at(first),
                        out_stride: features,
                        sums: core::ptr::null_mut(),
                    };
                    add_outer_products(isa, sums_over_steps, outer);
                }
            }
        }
    }
}

/// A head of a span: what a task computes.
struct Place {
    span: Span,
    head: usize,
}

/// The steps of a span in runs whose scores are computed together.
fn tiles(span: &Span) -> impl Iterator<Item = core::ops::Range<usize>> + use<> {
    let (steps, count) = (span.steps(), (TILE_SCORES / span.keys()).clamp(FEWEST_STEPS, MOST_STEPS));
    steps.clone().step_by(count).map(move |t| t..steps.end.min(t + count))
}

/// `out = init + a · panels[k]` for each of `rows`, (a, out), at most [`MOST_STEPS`]; `out += ...` without an init. k is not
/// empty, and `a` begins with its first term.
///
/// # Safety
/// As for [`accumulate`].
unsafe fn product<E: Element>(
    isa: Isa,
    panels: &Panels<E>,
    which: core::ops::Range<usize>,
    k: core::ops::Range<usize>,
    init: Option<&[E]>,
    rows: impl Iterator<Item = (*const E, *mut E)>,
) {
    debug_assert!(!k.is_empty(), "a product has terms");
    let mut group = init.map_or_else(RowGroup::default, RowGroup::from_init);
    for (a, out) in rows {
        group.push(a, out);
    }
    // SAFETY: the caller has discharged the same obligations.
    unsafe { accumulate(isa, panels, which, k, &group) };
}

#[cfg(test)]
mod tests;
