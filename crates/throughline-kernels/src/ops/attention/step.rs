//! One step of parallel streams against their caches.

use throughline_simd::{Kernel, Lane, MOST_WIDTH};

use super::weights::{Divide, Weigh};
use super::{Attention, AttentionScratch, Past, threads_for};
use crate::Element;
use crate::disjoint::Disjoint;
use crate::threads::Threads;

/// Vectors of a head that go through the values together.
const VECTORS: usize = 4;
/// How many vectors of keys ahead memory is prefetched.
const AHEAD: usize = 2;

impl Attention {
    /// Writes `y` `[B, F]` for one step of B streams: stream b sees the first `seen[b]` rows of its cache, the last of which is
    /// its own. `qkv` `[B, 3F]` has the queries. The bits are those of the row in a run of the whole sequence, which needs no
    /// other order: the cache is read as it is, once.
    ///
    /// # Panics
    /// If a length does not fit, or a stream sees nothing.
    pub fn step<E: Element>(
        self,
        threads: &Threads,
        qkv: &[E],
        cache: Past<'_, E>,
        seen: &[usize],
        y: &mut [E],
        scratch: &mut [AttentionScratch<E>],
    ) {
        let (features, streams, Past { keys, values, stride }) = (self.features(), seen.len(), cache);
        let fits = qkv.len() == streams * 3 * features && y.len() == streams * features;
        assert!(fits, "queries, keys and values are [B, 3F] and y is [B, F], B = {streams}");
        let fits = keys.len() == streams * stride && values.len() == streams * stride;
        assert!(fits, "keys and values of the past are [B, {stride}], B = {streams}");
        let inside = seen.iter().all(|&seen| seen > 0 && seen * features <= stride);
        assert!(inside, "a stream sees its own step, and no more than its cache has: {seen:?} rows of {stride}");
        let y = Disjoint::new(y);
        // About a cycle for each number of a key and of its value.
        let cycles = seen.iter().sum::<usize>() * features;
        threads_for(threads, cycles).for_each(streams * self.heads, scratch, |task, scratch| {
            let (stream, first) = (task / self.heads, task % self.heads * self.width);
            let (seen, columns) = (seen[stream], stream * features + first..stream * features + first + self.width);
            let query = &qkv[stream * 3 * features + first..][..self.width];
            let [keys, values] =
                [keys, values].map(|array| &array[stream * stride + first..][..(seen - 1) * features + self.width]);
            // SAFETY: this head of this stream belongs to this task alone.
            let y = unsafe { y.slice(columns) };
            // As long as the cache, so that it grows no more often than that.
            let scores = &mut scratch.scores.at_least(stride / features)[..seen];
            E::dispatch(self.isa, OneRow { query, keys, values, stride: features, scores, scale: self.scale(), y });
        });
    }
}

/// One query against keys and values, rows of D numbers that are `stride` apart.
struct OneRow<'a, E> {
    query: &'a [E],
    keys: &'a [E],
    values: &'a [E],
    stride: usize,
    /// One for each key.
    scores: &'a mut [E],
    scale: E,
    y: &'a mut [E],
}

impl<E: throughline_simd::Element> Kernel<E> for OneRow<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lane<Element = E>>(mut self, lane: L) {
        self.products(lane);
        let normaliser = Weigh { scores: &mut *self.scores, scale: self.scale }.run(lane);
        let (tile, mut first) = (VECTORS * L::WIDTH, 0);
        while first < self.y.len() {
            if self.y.len() - first >= tile {
                self.weighted::<L, VECTORS>(lane, first, tile);
                first += tile;
            } else {
                let count = L::WIDTH.min(self.y.len() - first);
                self.weighted::<L, 1>(lane, first, count);
                first += count;
            }
        }
        Divide { y: self.y, normaliser }.run(lane);
    }
}

impl<E: throughline_simd::Element> OneRow<'_, E> {
    /// q · k for every key: a vector of keys at a time, which are transposed square by square, since a chain is never divided.
    #[inline(always)]
    fn products<L: Lane<Element = E>>(&mut self, lane: L) {
        let (width, count) = (self.query.len(), self.scores.len());
        assert!((count - 1) * self.stride + width <= self.keys.len(), "a row of keys for each score");
        for first in (0..count).step_by(L::WIDTH) {
            let rows = L::WIDTH.min(count - first);
            let mut sums = lane.splat(E::ZERO);
            for d in (0..width).step_by(L::WIDTH) {
                let terms = L::WIDTH.min(width - d);
                let mut square = [lane.splat(E::ZERO); MOST_WIDTH];
                for i in 0..rows {
                    let at = self.keys.as_ptr().wrapping_add((first + i) * self.stride + d);
                    lane.prefetch(at.wrapping_add(AHEAD * L::WIDTH * self.stride));
                    // SAFETY: row first + i < count begins (first + i) · stride elements after the first and has `width`,
                    // d + terms at least; the assertion above says that all of them are in `keys`.
                    square[i] = unsafe { if terms == L::WIDTH { lane.load(at) } else { lane.load_first(at, terms) } };
                }
                lane.transpose(&mut square);
                for i in 0..terms {
                    sums = lane.fma(lane.splat(self.query[d + i]), square[i], sums);
                }
            }
            // SAFETY: first + rows <= count, the length of `scores`.
            unsafe { lane.store_first(self.scores.as_mut_ptr().add(first), rows, sums) };
        }
    }

    /// Numbers `first .. first + count` of the sum of weighted values: V vectors, or what is left of one.
    #[inline(always)]
    fn weighted<L: Lane<Element = E>, const V: usize>(&mut self, lane: L, first: usize, count: usize) {
        let rows = self.scores.len();
        assert!((rows - 1) * self.stride + first + count <= self.values.len(), "a row of values for each weight");
        let y = &mut self.y[first..first + count];
        let mut sums = [lane.splat(E::ZERO); V];
        for j in 0..rows {
            let at = self.values.as_ptr().wrapping_add(j * self.stride + first);
            let weight = lane.splat(self.scores[j]);
            for v in 0..V {
                let at = at.wrapping_add(v * L::WIDTH);
                // SAFETY: V vectors are `count` numbers of row j, and one vector has `count`; the assertion above says
                // that they are in `values`.
                let x = unsafe { if V > 1 || count == L::WIDTH { lane.load(at) } else { lane.load_first(at, count) } };
                sums[v] = lane.fma(weight, x, sums[v]);
            }
        }
        for (v, sum) in sums.into_iter().enumerate() {
            // SAFETY: `y` has V vectors, or `count` elements for one.
            unsafe { lane.store_first(y.as_mut_ptr().add(v * L::WIDTH), L::WIDTH.min(count - v * L::WIDTH), sum) };
        }
    }
}
