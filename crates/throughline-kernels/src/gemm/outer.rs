//! Sums of outer products over rows: the gradients of weights, and their column sums: the gradients of biases.

use core::ops::Range;

use throughline_simd::{Element, Isa, Kernel, Lane};

use super::tile::{MOST_VECTORS as VECTORS, Tile, row_tile};
use crate::buffer::Buffer;

/// Rows of the batch that are taken together: 192 rows by 4 vectors of 64 bytes are 48 KiB.
const DEPTH: usize = 192;

/// Rows from which memory is asked for ahead of time: they are too far apart for the processor to guess.
const AHEAD: usize = 8;

/// `out[m - outputs.start][j] += sum over n of a[n][m] · b(n)[j]` for m in `outputs`, j < `columns`, in ascending n.
///
/// `scratch` is any buffer; it grows to 192 · (columns + 2 vectors), columns rounded up to whole vectors, or, where there are
/// fewer columns than a vector has elements, also to (rows + 64) · columns.
///
/// # Safety
/// For n < `rows`, row n of `a`, which begins `a.1` elements after the one before, is valid for reading up to element
/// `outputs.end`, and `b(n)` for reading `columns` elements;
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
        // SAFETY: `add_outer_products`' caller vouches for the memory.
        unsafe {
            if self.columns < L::WIDTH {
                let mut this = self;
                let whole = this.narrow(lane);
                this.outputs.start += whole;
                this.out = this.out.wrapping_add(whole * this.out_stride);
                this.wide(lane);
            } else {
                self.wide(lane);
            }
        }
    }
}

impl<E: Element> OuterProducts<'_, E> {
    /// Vectors along the columns. Both factors are packed, because their rows lie on as many pages as there are rows: b for
    /// all outputs, a for a block of them.
    ///
    /// # Safety
    /// As for [`add_outer_products`].
    #[inline(always)]
    unsafe fn wide<L: Lane<Element = E>>(self, lane: L) {
        let Self { rows, a: (a, a_stride), outputs, b, columns, out, out_stride, scratch } = self;
        if outputs.is_empty() {
            return;
        }
        // Outputs whose factors are packed together: as many whole tiles as fit two vectors.
        let tile_rows = L::TILE_ROWS[VECTORS - 1];
        let (together, a_step) = (2 * L::WIDTH / tile_rows * tile_rows, 2 * L::WIDTH);
        let padded = columns.next_multiple_of(L::WIDTH);
        let packed = scratch.at_least(DEPTH * (padded + a_step));
        let (packed_b, packed_a) = packed.split_at_mut(DEPTH * padded);
        for start in (0..rows).step_by(DEPTH) {
            let depth = DEPTH.min(rows - start);
            for n in 0..depth {
                let source = b(start + n);
                for first in (0..columns).step_by(VECTORS * L::WIDTH) {
                    let count = (columns - first).min(VECTORS * L::WIDTH);
                    let step = count.next_multiple_of(L::WIDTH);
                    let target = &mut packed_b[first * depth + n * step..][..step];
                    for v in (0..step).step_by(L::WIDTH) {
                        // SAFETY: the caller vouches for `columns` elements of b(n); `target` has step >= v + WIDTH.
                        unsafe {
                            let x = lane.load_first(source.add(first + v), L::WIDTH.min(count - v));
                            lane.store(target.as_mut_ptr().add(v), x);
                        }
                    }
                }
            }
            for block in outputs.clone().step_by(together) {
                let block = block..outputs.end.min(block + together);
                let counts = [block.len().min(L::WIDTH), block.len().saturating_sub(L::WIDTH)];
                for n in 0..depth {
                    let source = a.wrapping_add((start + n) * a_stride + block.start);
                    let target = packed_a[n * a_step..][..a_step].as_mut_ptr();
                    for v in 0..2 {
                        lane.prefetch(source.wrapping_add(AHEAD * a_stride + v * L::WIDTH));
                        // SAFETY: the caller vouches for row n of a up to the last output; the target has two vectors.
                        unsafe {
                            let x = lane.load_first(source.wrapping_add(v * L::WIDTH), counts[v]);
                            lane.store(target.add(v * L::WIDTH), x);
                        }
                    }
                }
                for first in (0..columns).step_by(VECTORS * L::WIDTH) {
                    let count = (columns - first).min(VECTORS * L::WIDTH);
                    let vectors = count.div_ceil(L::WIDTH);
                    let mut tile = Tile {
                        vectors,
                        a_step,
                        b: packed_b[first * depth..].as_ptr(),
                        b_step: vectors * L::WIDTH,
                        k: depth,
                        ..Tile::EMPTY
                    };
                    for v in 0..vectors {
                        tile.columns[v] = first + v * L::WIDTH;
                        tile.counts[v] = (count - v * L::WIDTH).min(L::WIDTH);
                    }
                    for (index, output) in block.clone().step_by(tile_rows).enumerate() {
                        tile.rows = tile_rows.min(block.end - output);
                        let a = packed_a[index * tile_rows..].as_ptr();
                        let out = out.wrapping_add((output - outputs.start) * out_stride);
                        tile.ahead = tile.b;
                        for m in 0..tile.rows {
                            tile.a[m] = a.wrapping_add(m);
                            tile.out[m] = out.wrapping_add(m * out_stride);
                            for v in 0..vectors {
                                lane.prefetch(tile.out[m].wrapping_add(tile_rows * out_stride + tile.columns[v]));
                            }
                        }
                        // SAFETY: the packed a holds `depth` rows of `together` outputs and the packed b `depth` rows of
                        // whole vectors for each panel; the caller vouches for `out`; columns and counts stay below `columns`.
                        lane.enter(&tile);
                    }
                }
            }
        }
    }

    /// Fewer columns than a vector has elements: vectors along the outputs, as far as these fill whole vectors. Returns how
    /// many outputs that were. The chains are the same: a product does not care for the order of its factors.
    ///
    /// # Safety
    /// As for [`add_outer_products`].
    #[inline(always)]
    unsafe fn narrow<L: Lane<Element = E>>(&mut self, lane: L) -> usize {
        let Self { rows, a: (a, a_stride), outputs, b, columns, out, out_stride, scratch } = self;
        let (rows, columns, a_stride, out_stride) = (*rows, *columns, *a_stride, *out_stride);
        let whole = outputs.len() / L::WIDTH * L::WIDTH;
        if whole == 0 {
            return 0;
        }
        let packed = scratch.at_least((rows + VECTORS * L::WIDTH) * columns);
        let (factor, sums) = packed.split_at_mut(rows * columns);
        for n in 0..rows {
            // SAFETY: the caller vouches for `columns` elements of b(n).
            factor[n * columns..][..columns].copy_from_slice(unsafe { core::slice::from_raw_parts(b(n), columns) });
        }
        for first in (0..whole).step_by(VECTORS * L::WIDTH) {
            let width = (whole - first).min(VECTORS * L::WIDTH);
            for (j, sums) in sums.chunks_mut(width).take(columns).enumerate() {
                for (m, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: the caller vouches for `out`; output first + m and column j are inside it.
                    *sum = unsafe { *out.add((first + m) * out_stride + j) };
                }
            }
            let mut tile = Tile {
                vectors: width / L::WIDTH,
                a_step: columns,
                b: a.wrapping_add(outputs.start + first),
                b_step: a_stride,
                k: rows,
                ahead: factor.as_ptr(),
                counts: [L::WIDTH; VECTORS],
                ..Tile::EMPTY
            };
            for v in 0..VECTORS {
                tile.columns[v] = v * L::WIDTH;
            }
            let limit = L::TILE_ROWS[tile.vectors - 1];
            let sums_start = sums.as_mut_ptr();
            for tile_index in 0..columns.div_ceil(limit) {
                let tile_rows = row_tile(columns, limit, tile_index);
                tile.rows = tile_rows.len();
                for (i, j) in tile_rows.enumerate() {
                    tile.a[i] = factor.as_ptr().wrapping_add(j);
                    tile.out[i] = sums_start.wrapping_add(j * width);
                }
                // SAFETY: the factor holds `columns` elements of each of the rows; the caller vouches for whole vectors of `a`
                // up to output `outputs.start + whole`; the sums are `columns` rows of `width`.
                lane.enter(&tile);
            }
            for (j, sums) in sums.chunks(width).take(columns).enumerate() {
                for (m, sum) in sums.iter().enumerate() {
                    // SAFETY: as where they were read.
                    unsafe { *out.add((first + m) * out_stride + j) = *sum };
                }
            }
        }
        whole
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
            let full = counts[BLOCK - 1] == L::WIDTH;
            // SAFETY: each access is to the first counts[v] elements from v · WIDTH of the rest of `out`, or of the same
            // columns of a row of `a`, which `add_columns` has checked to lie inside it.
            unsafe {
                let mut sums = [lane.splat(E::ZERO); BLOCK];
                for v in 0..BLOCK {
                    sums[v] = lane.load_first(out.as_ptr().wrapping_add(v * L::WIDTH), counts[v]);
                }
                for n in 0..self.rows {
                    let row = self.a.as_ptr().wrapping_add(n * self.stride + first);
                    for v in 0..BLOCK {
                        let at = row.wrapping_add(v * L::WIDTH);
                        lane.prefetch(at.wrapping_add(AHEAD * self.stride));
                        let x = if full { lane.load(at) } else { lane.load_first(at, counts[v]) };
                        sums[v] = lane.add(sums[v], x);
                    }
                }
                for v in 0..BLOCK {
                    lane.store_first(out.as_mut_ptr().wrapping_add(v * L::WIDTH), counts[v], sums[v]);
                }
            }
        }
    }
}
