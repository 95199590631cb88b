//! Sums of outer products over rows: the gradients of weights, and their column sums: the gradients of biases.

use core::ops::Range;

use throughline_simd::{Element, Isa, Kernel, Lane};

use super::tile::{MOST_ROWS, MOST_VECTORS as VECTORS, Tile, row_tile};
use crate::buffer::Buffer;

/// Rows of the batch that are taken together: 128 rows by 4 vectors of 64 bytes (32 KiB) stay in the nearest cache.
const DEPTH: usize = 128;

/// `out[m - outputs.start][j] += sum over n of a(n)[m] · b(n)[j]` for m in `outputs`, j < `columns`, in ascending n.
///
/// `scratch` is any buffer; it grows to 128 · columns (rounded up to the vector width).
///
/// # Safety
/// For n < `rows`, `a(n)` is valid for reading up to element `outputs.end` and `b(n)` for reading `columns` elements;
/// `out` is valid for reading and writing `outputs.len()` rows of `columns` elements, `out_stride` apart; nobody else
/// touches `out` meanwhile, and it overlaps none of the others.
#[allow(clippy::too_many_arguments)]
pub unsafe fn add_outer_products<E: Element>(
    isa: Isa,
    rows: usize,
    a: (*const E, usize),
    outputs: Range<usize>,
    b: &dyn Fn(usize) -> *const E,
    columns: usize,
    out: *mut E,
    out_stride: usize,
    scratch: &mut Buffer<E>,
) {
    E::dispatch(isa, OuterProducts { rows, a, outputs, b, columns, out, out_stride, scratch });
}

struct OuterProducts<'a, E> {
    rows: usize,
    a: (*const E, usize),
    outputs: Range<usize>,
    b: &'a dyn Fn(usize) -> *const E,
    columns: usize,
    out: *mut E,
    out_stride: usize,
    scratch: &'a mut Buffer<E>,
}

impl<E: Element> Kernel<E> for OuterProducts<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        let Self { rows, a: (a, a_stride), outputs, b, columns, out, out_stride, scratch } = self;
        let padded = columns.next_multiple_of(L::WIDTH);
        let packed = scratch.at_least(DEPTH * padded);
        for start in (0..rows).step_by(DEPTH) {
            let depth = DEPTH.min(rows - start);
            for n in 0..depth {
                let source = b(start + n);
                for first in (0..columns).step_by(VECTORS * L::WIDTH) {
                    let count = (columns - first).min(VECTORS * L::WIDTH);
                    let step = count.next_multiple_of(L::WIDTH);
                    let target = &mut packed[first * depth + n * step..][..step];
                    for v in (0..step).step_by(L::WIDTH) {
                        // SAFETY: the caller vouches for `columns` elements of b(n); `target` has step >= v + WIDTH.
                        unsafe {
                            let x = lane.load_first(source.add(first + v), L::WIDTH.min(count - v));
                            lane.store(target.as_mut_ptr().add(v), x);
                        }
                    }
                }
            }
            for first in (0..columns).step_by(VECTORS * L::WIDTH) {
                let count = (columns - first).min(VECTORS * L::WIDTH);
                let vectors = count.div_ceil(L::WIDTH);
                let panel = &packed[first * depth..][..depth * vectors * L::WIDTH];
                let (mut offsets, mut counts) = ([0; VECTORS], [0; VECTORS]);
                for v in 0..vectors {
                    offsets[v] = first + v * L::WIDTH;
                    counts[v] = (count - v * L::WIDTH).min(L::WIDTH);
                }
                for tile_index in 0..outputs.len().div_ceil(L::TILE_ROWS) {
                    let tile_rows = row_tile(outputs.len(), L::TILE_ROWS, tile_index);
                    let mut tile = Tile {
                        rows: tile_rows.len(),
                        vectors,
                        a: [core::ptr::null(); MOST_ROWS],
                        a_step: a_stride,
                        b: panel.as_ptr(),
                        k: depth,
                        out: [core::ptr::null_mut(); MOST_ROWS],
                        columns: offsets,
                        counts,
                    };
                    for i in 0..tile_rows.len() {
                        let m = tile_rows.start + i;
                        tile.a[i] = a.wrapping_add(start * a_stride + outputs.start + m);
                        tile.out[i] = out.wrapping_add(m * out_stride);
                    }
                    // SAFETY: the caller vouches for `a`, row by row `a_stride` apart, and for `out`; the panel holds
                    // depth · vectors · WIDTH elements; offsets and counts stay below `columns`.
                    unsafe { tile.run(lane) };
                }
            }
        }
    }
}

/// `out[j] += sum over n of a[n][j]` for the columns of `out`, in ascending n; `a` has `rows` rows, `stride` apart.
pub fn add_columns<E: Element>(isa: Isa, a: &[E], stride: usize, rows: usize, out: &mut [E]) {
    let covered = rows == 0
        || (rows - 1)
            .checked_mul(stride)
            .and_then(|start| start.checked_add(out.len()))
            .is_some_and(|end| a.len() >= end);
    assert!(covered, "{rows} rows, {stride} apart, lie inside an array of {}", a.len());
    E::dispatch(isa, Columns { a, stride, rows, out });
}

struct Columns<'a, E> {
    a: &'a [E],
    stride: usize,
    rows: usize,
    out: &'a mut [E],
}

impl<E: Element> Kernel<E> for Columns<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        const BLOCK: usize = 8;
        for first in (0..self.out.len()).step_by(BLOCK * L::WIDTH) {
            let out = &mut self.out[first..];
            let mut counts = [0; BLOCK];
            for v in 0..BLOCK {
                counts[v] = out.len().saturating_sub(v * L::WIDTH).min(L::WIDTH);
            }
            // SAFETY: each access is to the first counts[v] elements from v · WIDTH of the rest of `out`, or of the same
            // columns of a row of `a`, which `add_columns` has checked to lie inside it.
            unsafe {
                let mut sums = [lane.splat(E::ZERO); BLOCK];
                for v in 0..BLOCK {
                    sums[v] = lane.load_first(out.as_ptr().wrapping_add(v * L::WIDTH), counts[v]);
                }
                for n in 0..self.rows {
                    let row = self.a.as_ptr().add(n * self.stride + first);
                    for v in 0..BLOCK {
                        sums[v] = lane.add(sums[v], lane.load_first(row.wrapping_add(v * L::WIDTH), counts[v]));
                    }
                }
                for v in 0..BLOCK {
                    lane.store_first(out.as_mut_ptr().wrapping_add(v * L::WIDTH), counts[v], sums[v]);
                }
            }
        }
    }
}
