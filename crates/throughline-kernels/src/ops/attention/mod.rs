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

mod head;
mod spans;
mod step;
mod weights;

use throughline_simd::Isa;

use self::head::Head;
pub use self::spans::{Past, Span, Spans};
pub use self::weights::Normaliser;
use crate::Element;
use crate::buffer::Buffer;
use crate::disjoint::Disjoint;
use crate::gemm::Panels;
use crate::sequence::Ragged;
use crate::threads::Threads;

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
        let threads = threads_for(threads, self.cycles(batch));
        threads.for_each(batch.spans.len() * self.heads, scratch, |task, scratch| {
            if let Some(head) = Head::of(self, batch, task) {
                head.forward(y, normalisers, scratch);
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
        let threads = threads_for(threads, 2 * self.cycles(batch));
        threads.for_each(batch.spans.len() * self.heads, scratch, |task, scratch| {
            if let Some(head) = Head::of(self, batch, task) {
                head.backward([y, dy], normalisers, [d_qkv, d_keys, d_values], scratch);
            }
        });
    }

    /// Cycles of forward, about: two multiply-adds for each number of what each step sees, eight of them in a cycle.
    fn cycles<E>(self, batch: AttentionBatch<'_, E>) -> usize {
        let scores: usize = batch.spans.iter().map(|span| span.steps().len() * (span.keys() + span.past())).sum();
        scores * self.features() / 8
    }

    fn check<E>(self, batch: AttentionBatch<'_, E>, y: usize, normalisers: usize) {
        let (rows, features) = (batch.rows.rows(), self.features());
        assert_eq!(batch.qkv.len(), rows * 3 * features, "queries, keys and values are [N, 3F], N = {rows}");
        assert!(y == rows * features && normalisers == rows * self.heads, "y is [N, F], normalisers [N, heads]");
        let keys = batch.spans.keys() * features;
        assert!(batch.keys.len() == keys && batch.values.len() == keys, "keys and values are [M, F]");
        batch.spans.assert_cover(batch.rows);
    }
}

/// Cycles of work that are worth waking other threads, which takes about a quarter of that.
const WORTH_A_FORK: usize = 50_000;

/// The threads for work of about so many cycles: all, or only this one.
fn threads_for(threads: &Threads, cycles: usize) -> &Threads {
    if cycles < WORTH_A_FORK { Threads::ONE } else { threads }
}

#[cfg(test)]
mod tests;
