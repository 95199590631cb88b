//! The micro-kernel: M rows by V vectors of accumulators that stay in registers over the whole chain.

use core::ops::Range;

use throughline_simd::{Element, Lane};

/// The most rows of a tile.
pub(super) const MOST_ROWS: usize = 6;
/// The most vectors of a tile.
pub(super) const MOST_VECTORS: usize = 4;

/// One tile of a product: for k terms,
/// `out[m][columns[v] ..][..counts[v]] += sum over i < k of a[m][i · a_step] · b[i][v]`.
pub(super) struct Tile<E> {
    pub rows: usize,
    pub vectors: usize,
    pub a: [*const E; MOST_ROWS],
    pub a_step: usize,
    /// `[k, vectors, WIDTH]`
    pub b: *const E,
    pub k: usize,
    pub out: [*mut E; MOST_ROWS],
    pub columns: [usize; MOST_VECTORS],
    pub counts: [usize; MOST_VECTORS],
}

impl<E: Element> Tile<E> {
    /// Computes the tile.
    ///
    /// # Safety
    /// - `a[m] + i · a_step` is valid for reading for every m < rows and i < k;
    /// - `b` is valid for reading k · vectors · WIDTH elements;
    /// - `out[m] + columns[v]` is valid for reading and writing `counts[v] <= WIDTH` elements, and the pieces of different
    ///   (m, v) do not overlap each other, `a` or `b`.
    #[inline(always)]
    pub unsafe fn run<L: Lane<Element = E>>(&self, lane: L) {
        macro_rules! of_constants {
            ($($m:literal)*) => {
                match (self.rows, self.vectors) {
                    $(
                        // SAFETY: as the caller vouches.
                        ($m, 1) => unsafe { self.of_size::<L, $m, 1>(lane) },
                        // SAFETY: as the caller vouches.
                        ($m, 2) => unsafe { self.of_size::<L, $m, 2>(lane) },
                        // SAFETY: as the caller vouches.
                        ($m, 3) => unsafe { self.of_size::<L, $m, 3>(lane) },
                        // SAFETY: as the caller vouches.
                        ($m, 4) => unsafe { self.of_size::<L, $m, 4>(lane) },
                    )*
                    (rows, vectors) => unreachable!("no tile of {rows} rows by {vectors} vectors"),
                }
            };
        }
        of_constants!(1 2 3 4 5 6)
    }

    /// [`run`](Self::run) for M rows and V vectors.
    ///
    /// # Safety
    /// As for [`run`](Self::run).
    #[inline(always)]
    unsafe fn of_size<L: Lane<Element = E>, const M: usize, const V: usize>(&self, lane: L) {
        let Self { a, a_step, b, k, out, columns, counts, .. } = *self;
        let mut full = true;
        for count in &counts[..V] {
            full &= *count == L::WIDTH;
        }
        // SAFETY: every access below is one that the caller vouches for.
        unsafe {
            let mut sums = [[lane.splat(E::ZERO); V]; M];
            for m in 0..M {
                for v in 0..V {
                    let at = out[m].add(columns[v]);
                    sums[m][v] = if full { lane.load(at) } else { lane.load_first(at, counts[v]) };
                }
            }
            let mut b = b;
            for i in 0..k {
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
                b = b.add(V * L::WIDTH);
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

/// The rows of tile `index` when `rows` are cut into the fewest tiles of at most `limit`, as even as they go.
#[inline(always)]
pub(super) fn row_tile(rows: usize, limit: usize, index: usize) -> Range<usize> {
    let tiles = rows.div_ceil(limit);
    index * rows / tiles..(index + 1) * rows / tiles
}
