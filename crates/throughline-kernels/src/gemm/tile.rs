//! The micro-kernel: M rows by V vectors of accumulators that stay in registers over the whole chain.

use throughline_simd::Lane;

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
    let a: [*const L::Element; M] = core::array::from_fn(|m| a[m]);
    let full = (0..V).all(|v| counts[v] == L::WIDTH);
    // SAFETY: every access below is one that the caller vouches for.
    unsafe {
        let mut sums: [[L::Vector; V]; M] = core::array::from_fn(|m| {
            core::array::from_fn(|v| {
                let at = out[m].add(columns[v]);
                if full { lane.load(at) } else { lane.load_first(at, counts[v]) }
            })
        });
        let mut b = b;
        for i in 0..k {
            let x: [L::Vector; M] = core::array::from_fn(|m| lane.splat(*a[m].add(i * a_step)));
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

/// Cuts `rows` into the fewest tiles of at most `limit` rows, as even as they go, and calls `tile(first, rows)`.
#[inline(always)]
pub(super) fn for_each_row_tile(rows: usize, limit: usize, mut tile: impl FnMut(usize, usize)) {
    let tiles = rows.div_ceil(limit);
    let mut first = 0;
    for index in 0..tiles {
        let next = (index + 1) * rows / tiles;
        tile(first, next - first);
        first = next;
    }
}
