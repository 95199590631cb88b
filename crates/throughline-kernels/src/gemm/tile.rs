//! The micro-kernel: M rows by V vectors of accumulators that stay in registers over the whole chain.

use core::ops::Range;

use throughline_simd::{Element, Kernel, Lane};

/// The most rows of a tile.
pub(super) const MOST_ROWS: usize = 12;
/// The most vectors of a tile.
pub(super) const MOST_VECTORS: usize = 4;

/// Tiles of so few rows are limited by reading b, which is used once: they prefetch it `STREAM_AHEAD` bytes ahead.
const STREAMING_ROWS: usize = 2;
const STREAM_AHEAD: usize = 4096;

/// One tile of a product: for k terms,
/// `out[m][columns[v] ..][..counts[v]] += sum over i < k of a[m][i · a_step] · b[i][v]`, or `init[columns[v] ..]` plus
/// the sum where there is an `init`.
///
/// Without prefetching, a tile waits for memory half of the time: each of the k steps also prefetches a line of what
/// the next tiles will read.
///
/// The code that runs it guarantees that
/// - `a[m] + i · a_step` is valid for reading for every m < rows and i < k;
/// - `b + i · b_step` is valid for reading vectors · WIDTH elements for every i < k;
/// - `out[m] + columns[v]` is valid for reading and writing `counts[v] <= WIDTH` elements, and those of different (m,
///   v) overlap neither each other nor `a` or `b`;
/// - `init` is null, or `init + columns[v]` is valid for reading `counts[v]` elements.
pub(super) struct Tile<E> {
    pub rows: usize,
    pub vectors: usize,
    pub a: [*const E; MOST_ROWS],
    pub a_step: usize,
    /// `[vectors, WIDTH]`, `b_step` elements from one k to the next.
    pub b: *const E,
    pub b_step: usize,
    pub k: usize,
    pub out: [*mut E; MOST_ROWS],
    /// The row that every chain starts from; null for what stands in `out`.
    pub init: *const E,
    pub columns: [usize; MOST_VECTORS],
    pub counts: [usize; MOST_VECTORS],
    /// Memory to prefetch, a vector for each of the k steps; it need not be valid.
    pub ahead: *const E,
}

impl<E: Element> Tile<E> {
    /// An empty tile, to be filled in.
    pub(super) const EMPTY: Self = Self {
        rows: 0,
        vectors: 0,
        a: [core::ptr::null(); MOST_ROWS],
        a_step: 1,
        b: core::ptr::null(),
        b_step: 0,
        k: 0,
        out: [core::ptr::null_mut(); MOST_ROWS],
        init: core::ptr::null(),
        columns: [0; MOST_VECTORS],
        counts: [0; MOST_VECTORS],
        ahead: core::ptr::null(),
    };
}

impl<E: Element> Kernel<E> for &Tile<E> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        const {
            let [one, two, three, four] = L::TILE_ROWS;
            assert!(one <= 12 && two <= 12 && three <= 8 && four <= 6, "there are no larger tiles");
        }
        macro_rules! of_constants {
            ($($m:literal: $($v:literal)*,)*) => {
                match (self.rows, self.vectors) {
                    $($(
                        // SAFETY: the code that runs the tile guarantees its memory.
                        ($m, $v) => unsafe { self.of_size::<L, $m, $v>(lane) },
                    )*)*
                    (rows, vectors) => unreachable!("no tile of {rows} rows by {vectors} vectors"),
                }
            };
        }
        of_constants!(
            1: 1 2 3 4,
            2: 1 2 3 4,
            3: 1 2 3 4,
            4: 1 2 3 4,
            5: 1 2 3 4,
            6: 1 2 3 4,
            7: 1 2 3,
            8: 1 2 3,
            9: 1 2,
            10: 1 2,
            11: 1 2,
            12: 1 2,
        )
    }
}

impl<E: Element> Tile<E> {
    /// The tile with M = rows and V = vectors.
    ///
    /// # Safety
    /// The memory is as [`Tile`] says.
    #[inline(always)]
    unsafe fn of_size<L: Lane<Element = E>, const M: usize, const V: usize>(&self, lane: L) {
        let Self { a, a_step, b, b_step, k, out, init, columns, counts, ahead, .. } = *self;
        let mut full = true;
        for count in &counts[..V] {
            full &= *count == L::WIDTH;
        }
        // SAFETY: every access below is one that the caller guarantees to be valid.
        unsafe {
            let mut sums = [[lane.splat(E::ZERO); V]; M];
            for m in 0..M {
                for v in 0..V {
                    let from = if init.is_null() { out[m].cast_const() } else { init };
                    let at = from.add(columns[v]);
                    sums[m][v] = if full { lane.load(at) } else { lane.load_first(at, counts[v]) };
                }
            }
            let mut b = b;
            for i in 0..k {
                if M <= STREAMING_ROWS {
                    for v in 0..V {
                        lane.prefetch(b.wrapping_add(STREAM_AHEAD / size_of::<E>() + v * L::WIDTH));
                    }
                } else {
                    lane.prefetch(ahead.wrapping_add(i * L::WIDTH));
                }
                // The smaller of the two factors stays in registers beside the sums; the other is loaded one at a time.
                if M <= V {
                    let mut x = [lane.splat(E::ZERO); M];
                    for m in 0..M {
                        x[m] = lane.splat(*a[m].add(i * a_step));
                    }
                    for v in 0..V {
                        let w = lane.load(b.add(v * L::WIDTH));
                        for m in 0..M {
                            sums[m][v] = lane.fma(x[m], w, sums[m][v]);
                        }
                    }
                } else {
                    let mut w = [lane.splat(E::ZERO); V];
                    for v in 0..V {
                        w[v] = lane.load(b.add(v * L::WIDTH));
                    }
                    for m in 0..M {
                        let x = lane.splat(*a[m].add(i * a_step));
                        for v in 0..V {
                            sums[m][v] = lane.fma(x, w[v], sums[m][v]);
                        }
                    }
                }
                b = b.wrapping_add(b_step);
            }
            for m in 0..M {
                for v in 0..V {
                    let at = out[m].add(columns[v]);
                    if full {
                        lane.store(at, sums[m][v]);
                    } else {
                        lane.store_first(at, counts[v], sums[m][v]);
                    }
                }
            }
        }
    }
}

/// The rows of tile `index` when `rows` are divided as evenly as possible into the fewest tiles of
/// at most `limit`.
#[inline(always)]
pub(super) fn row_tile(rows: usize, limit: usize, index: usize) -> Range<usize> {
    let tiles = rows.div_ceil(limit);
    index * rows / tiles..(index + 1) * rows / tiles
}
