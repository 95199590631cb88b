//! The micro-kernel: M rows by V vectors of accumulators that stay in registers over the whole chain.

use core::ops::Range;

use throughline_simd::{Element, Lane};

/// One tile of a product: `out[m][columns[v] ..][..counts[v]] += sum over k of a[m][k · a_step] · b[k][v]`.
///
/// # Safety
/// For `k` terms, M rows and V vectors:
/// - `a[m] + i · a_step` is valid for reading for every i < k;
/// - `b` is valid for reading k · V · WIDTH elements;
/// - `out[m] + columns[v]` is valid for reading and writing `counts[v] <= WIDTH` elements, and the pieces of different
///   (m, v) do not overlap each other, `a` or `b`.
#[inline(always)]
pub(super) unsafe fn accumulate_tile<L: Lane, const M: usize, const V: usize>(
    lane: L,
    a: &[*const L::Element],
    a_step: usize,
    b: *const L::Element,
    k: usize,
    out: &[*mut L::Element],
    columns: &[usize; 4],
    counts: &[usize; 4],
) {
    // Plain loops over constants, not iterators with closures: a closure is a function of its own, which the compiler would
    // not build for the lane's instruction set.
    let mut full = true;
    for count in &counts[..V] {
        full &= *count == L::WIDTH;
    }
    // SAFETY: every access below is one that the caller vouches for.
    unsafe {
        let mut sums = [[lane.splat(L::Element::ZERO); V]; M];
        for m in 0..M {
            for v in 0..V {
                let at = out[m].add(columns[v]);
                sums[m][v] = if full { lane.load(at) } else { lane.load_first(at, counts[v]) };
            }
        }
        let mut b = b;
        for i in 0..k {
            let mut x = [lane.splat(L::Element::ZERO); M];
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

/// [`accumulate_tile`] with M = `rows` (1 to 6) and V = `vectors` (1 to 4) as constants.
///
/// # Safety
/// As for [`accumulate_tile`].
#[inline(always)]
pub(super) unsafe fn tile<L: Lane>(
    lane: L,
    (rows, vectors): (usize, usize),
    a: &[*const L::Element],
    a_step: usize,
    b: *const L::Element,
    k: usize,
    out: &[*mut L::Element],
    columns: &[usize; 4],
    counts: &[usize; 4],
) {
    macro_rules! constant {
        ($($m:literal)*) => {
            // SAFETY: as the caller vouches.
            match (rows, vectors) {
                $(
                    ($m, 1) => unsafe { accumulate_tile::<L, $m, 1>(lane, a, a_step, b, k, out, columns, counts) },
                    ($m, 2) => unsafe { accumulate_tile::<L, $m, 2>(lane, a, a_step, b, k, out, columns, counts) },
                    ($m, 3) => unsafe { accumulate_tile::<L, $m, 3>(lane, a, a_step, b, k, out, columns, counts) },
                    ($m, 4) => unsafe { accumulate_tile::<L, $m, 4>(lane, a, a_step, b, k, out, columns, counts) },
                )*
                _ => unreachable!("no tile of {rows} rows by {vectors} vectors"),
            }
        };
    }
    constant!(1 2 3 4 5 6)
}

/// The rows of tile `index` when `rows` are cut into the fewest tiles of at most `limit`, as even as they go.
#[inline(always)]
pub(super) fn row_tile(rows: usize, limit: usize, index: usize) -> Range<usize> {
    let tiles = rows.div_ceil(limit);
    index * rows / tiles..(index + 1) * rows / tiles
}
