//! Sums of outer products over rows (the gradients of weights) and plain sums over rows (the gradients of biases).

use core::ops::Range;

use throughline_simd::{Element, Isa, Kernel, Lane};

use super::tile::{MOST_VECTORS as VECTORS, Tile, row_tile};
use crate::Compiled;
use crate::buffer::Buffer;

/// Rows of the batch that are packed together: 256 rows by 4 vectors of 64 bytes are 64 KiB.
const DEPTH: usize = 256;

/// How many rows ahead memory is prefetched: rows are too far apart for the hardware prefetcher.
const AHEAD: usize = 24;

/// Vectors of outputs whose factors are packed together; they hold whole tiles of four vectors, whatever the
/// instruction set.
const BLOCK: usize = 3;

/// `out[m - outputs.start][j] += sum over n < rows of a[n][m] · b(n)[j]` for m in `outputs`, j < `columns`, and
/// `sums[m - outputs.start] += sum of a[n][m]`, both in ascending n.
///
/// The caller of [`add_outer_products`] guarantees that
/// - row n of `a`, which begins `a_stride` elements after the one before, is valid for reading up to element
///   `outputs.end`, and `b(n)` for reading `columns` elements;
/// - `out` is valid for reading and writing `outputs.len()` rows of `columns` elements, `out_stride` apart;
/// - `sums` is null, for no sums, or valid for reading and writing `outputs.len()` elements;
/// - no other thread touches `out` and `sums` meanwhile, and they overlap neither each other nor `a` or any `b(n)`.
pub struct OuterProducts<'a, E> {
    /// How many products.
    pub rows: usize,
    /// `[rows, >= outputs.end]`
    pub a: *const E,
    /// Elements from one row of `a` to the next.
    pub a_stride: usize,
    /// Columns of `a`, rows of `out`.
    pub outputs: Range<usize>,
    /// The rows of the other factor, anywhere in memory.
    pub b: &'a dyn Fn(usize) -> *const E,
    /// Columns of `b` and of `out`.
    pub columns: usize,
    /// `[outputs, columns]`
    pub out: *mut E,
    /// Elements from one row of `out` to the next.
    pub out_stride: usize,
    /// `[outputs]`, or null.
    pub sums: *mut E,
}

/// Adds up `products`.
///
/// `scratch` is any buffer; it grows to 256 · (columns + 3 vectors), columns rounded up to whole vectors, whatever the
/// rows, or, where there are fewer columns than a vector has elements, also to 320 · (columns + 1).
///
/// # Safety
/// The memory is as [`OuterProducts`] says.
pub unsafe fn add_outer_products<E: Compiled>(isa: Isa, products: OuterProducts<'_, E>, scratch: &mut Buffer<E>) {
    // SAFETY: the caller has discharged the same obligations.
    unsafe { E::add_up(isa, products, scratch) };
}

/// See [`add_outer_products`].
///
/// # Safety
/// As there.
pub(crate) unsafe fn add_up<E: Element>(isa: Isa, products: OuterProducts<'_, E>, scratch: &mut Buffer<E>) {
    E::dispatch(isa, AddUp { products, scratch });
}

struct AddUp<'a, E> {
    products: OuterProducts<'a, E>,
    scratch: &'a mut Buffer<E>,
}

impl<E: Element> Kernel<E> for AddUp<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        let Self { mut products, scratch } = self;
        // SAFETY: the caller of `add_up` guarantees the memory.
        unsafe {
            if products.columns < L::WIDTH {
                let whole = products.narrow(lane, scratch);
                products.outputs.start += whole;
                products.out = products.out.wrapping_add(whole * products.out_stride);
                if !products.sums.is_null() {
                    products.sums = products.sums.wrapping_add(whole);
                }
            }
            products.wide(lane, scratch);
        }
    }
}

impl<E: Element> OuterProducts<'_, E> {
    /// Vectors along the columns. Both factors are packed, because each of their rows may lie on a page of its own: b
    /// for all outputs, a for a block of outputs at a time, whose sums are added up on the way.
    ///
    /// # Safety
    /// As for [`add_outer_products`].
    #[inline(always)]
    unsafe fn wide<L: Lane<Element = E>>(&self, lane: L, scratch: &mut Buffer<E>) {
        let (rows, columns, outputs) = (self.rows, self.columns, self.outputs.clone());
        if outputs.is_empty() {
            return;
        }
        let a_step = BLOCK * L::WIDTH;
        let padded = columns.next_multiple_of(L::WIDTH);
        let packed = scratch.at_least(DEPTH * (padded + a_step));
        let (packed_b, packed_a) = packed.split_at_mut(DEPTH * padded);
        let chunks = rows.div_ceil(DEPTH);
        for chunk in 0..chunks {
            // As even as possible: every chunk reads and writes all of `out`.
            let rows = chunk * rows / chunks..(chunk + 1) * rows / chunks;
            let depth = rows.len();
            // SAFETY: the caller guarantees the rows; the memory has room for DEPTH >= depth of them.
            unsafe { self.pack_b(lane, rows.clone(), packed_b) };
            for start in outputs.clone().step_by(a_step) {
                let block = start..outputs.end.min(start + a_step);
                // SAFETY: as above.
                unsafe { self.pack_a(lane, rows.clone(), block.clone(), packed_a) };
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
                    tile.ahead = tile.b;
                    for v in 0..vectors {
                        tile.columns[v] = first + v * L::WIDTH;
                        tile.counts[v] = (count - v * L::WIDTH).min(L::WIDTH);
                    }
                    let limit = L::TILE_ROWS[vectors - 1];
                    for index in 0..block.len().div_ceil(limit) {
                        let of_tile = row_tile(block.len(), limit, index);
                        tile.rows = of_tile.len();
                        let a = packed_a[of_tile.start..].as_ptr();
                        let block_out = self.out.wrapping_add((start - outputs.start) * self.out_stride);
                        let out = block_out.wrapping_add(of_tile.start * self.out_stride);
                        // The next tile is below this one, or at the top of the next panel.
                        let next = if of_tile.end < block.len() {
                            block_out.wrapping_add(of_tile.end * self.out_stride)
                        } else {
                            block_out.wrapping_add(vectors * L::WIDTH)
                        };
                        for m in 0..tile.rows {
                            tile.a[m] = a.wrapping_add(m);
                            tile.out[m] = out.wrapping_add(m * self.out_stride);
                            for v in 0..vectors {
                                lane.prefetch_to_write(next.wrapping_add(m * self.out_stride + tile.columns[v]));
                            }
                        }
                        // SAFETY: the packed a holds `depth` rows of the block's outputs and the packed b `depth` rows
                        // of whole vectors for each panel; the caller guarantees `out`; columns and counts stay below
                        // `columns`.
                        lane.enter(&tile);
                    }
                }
            }
        }
    }

    /// Rows `rows` of b, panel by panel.
    ///
    /// # Safety
    /// As for [`add_outer_products`]; `packed` has room for the rows, in whole vectors.
    #[inline(always)]
    unsafe fn pack_b<L: Lane<Element = E>>(&self, lane: L, rows: Range<usize>, packed: &mut [E]) {
        let (columns, depth) = (self.columns, rows.len());
        for (n, row) in rows.enumerate() {
            let source = (self.b)(row);
            for first in (0..columns).step_by(VECTORS * L::WIDTH) {
                let count = (columns - first).min(VECTORS * L::WIDTH);
                let step = count.next_multiple_of(L::WIDTH);
                let target = &mut packed[first * depth + n * step..][..step];
                for v in (0..step).step_by(L::WIDTH) {
                    // SAFETY: the caller guarantees `columns` elements of b(n); `target` has step >= v + WIDTH.
                    unsafe {
                        let x = lane.load_first(source.add(first + v), L::WIDTH.min(count - v));
                        lane.store(target.as_mut_ptr().add(v), x);
                    }
                }
            }
        }
    }

    /// Outputs `block` of rows `rows` of a, and their sums.
    ///
    /// # Safety
    /// As for [`add_outer_products`]; `packed` has room for BLOCK vectors for each of the rows.
    #[inline(always)]
    unsafe fn pack_a<L: Lane<Element = E>>(&self, lane: L, rows: Range<usize>, block: Range<usize>, packed: &mut [E]) {
        let mut counts = [0; BLOCK];
        for v in 0..BLOCK {
            counts[v] = block.len().saturating_sub(v * L::WIDTH).min(L::WIDTH);
        }
        let has_sums = !self.sums.is_null();
        let to = self.sums.wrapping_add(block.start - self.outputs.start);
        let mut sums = [lane.splat(E::ZERO); BLOCK];
        // SAFETY: the caller guarantees the sums of the outputs, and the rows of a up to the last output; `packed` is
        // divided into BLOCK vectors for each row.
        unsafe {
            for v in 0..BLOCK {
                if has_sums {
                    sums[v] = lane.load_first(to.wrapping_add(v * L::WIDTH), counts[v]);
                }
            }
            for (row, packed) in rows.zip(packed.chunks_mut(BLOCK * L::WIDTH)) {
                let source = self.a.wrapping_add(row * self.a_stride + block.start);
                for v in 0..BLOCK {
                    lane.prefetch(source.wrapping_add(AHEAD * self.a_stride + v * L::WIDTH));
                    let x = lane.load_first(source.wrapping_add(v * L::WIDTH), counts[v]);
                    lane.store(packed.as_mut_ptr().add(v * L::WIDTH), x);
                    sums[v] = lane.add(sums[v], x);
                }
            }
            for v in 0..BLOCK {
                if has_sums {
                    lane.store_first(to.wrapping_add(v * L::WIDTH), counts[v], sums[v]);
                }
            }
        }
    }

    /// Fewer columns than a vector has elements: vectors along the outputs, as far as these fill whole vectors. Returns
    /// the number of outputs done. The chains are the same: multiplication commutes, and multiplying the terms of a
    /// plain sum by 1 changes no bit, so the sums are one more column.
    ///
    /// # Safety
    /// As for [`add_outer_products`].
    #[inline(always)]
    unsafe fn narrow<L: Lane<Element = E>>(&self, lane: L, scratch: &mut Buffer<E>) -> usize {
        let whole = self.outputs.len() / L::WIDTH * L::WIDTH;
        if whole == 0 {
            return 0;
        }
        let columns = self.columns + usize::from(!self.sums.is_null());
        if columns == 0 {
            return whole;
        }
        let packed = scratch.at_least((DEPTH + VECTORS * L::WIDTH) * columns);
        let (factor, gathered) = packed.split_at_mut(DEPTH * columns);
        for start in (0..self.rows).step_by(DEPTH) {
            let rows = start..self.rows.min(start + DEPTH);
            for (row, factor) in rows.clone().zip(factor.chunks_mut(columns)) {
                factor.fill(E::ONE);
                // SAFETY: the caller guarantees `columns` elements of b(row).
                let source = unsafe { core::slice::from_raw_parts((self.b)(row), self.columns) };
                factor[..self.columns].copy_from_slice(source);
            }
            for first in (0..whole).step_by(VECTORS * L::WIDTH) {
                let width = (whole - first).min(VECTORS * L::WIDTH);
                for (j, gathered) in gathered.chunks_mut(width).take(columns).enumerate() {
                    for (m, sum) in gathered.iter_mut().enumerate() {
                        // SAFETY: the caller guarantees `out` and the sums; output first + m and column j are inside
                        // them.
                        *sum = unsafe { *self.sum(first + m, j) };
                    }
                }
                let mut tile = Tile {
                    vectors: width / L::WIDTH,
                    a_step: columns,
                    b: self.a.wrapping_add(start * self.a_stride + self.outputs.start + first),
                    b_step: self.a_stride,
                    k: rows.len(),
                    ahead: factor.as_ptr(),
                    counts: [L::WIDTH; VECTORS],
                    ..Tile::EMPTY
                };
                for v in 0..VECTORS {
                    tile.columns[v] = v * L::WIDTH;
                }
                let limit = L::TILE_ROWS[tile.vectors - 1];
                let sums = gathered.as_mut_ptr();
                for index in 0..columns.div_ceil(limit) {
                    let of_tile = row_tile(columns, limit, index);
                    tile.rows = of_tile.len();
                    for (i, j) in of_tile.enumerate() {
                        tile.a[i] = factor.as_ptr().wrapping_add(j);
                        tile.out[i] = sums.wrapping_add(j * width);
                    }
                    // SAFETY: the factor holds `columns` elements of each of the rows; the caller guarantees the rows
                    // of `a` up to output `outputs.start + whole`; what was gathered is `columns` rows of `width`.
                    lane.enter(&tile);
                }
                for (j, gathered) in gathered.chunks(width).take(columns).enumerate() {
                    for (m, sum) in gathered.iter().enumerate() {
                        // SAFETY: as for the reads above.
                        unsafe { *self.sum(first + m, j) = *sum };
                    }
                }
            }
        }
        whole
    }

    /// Where the sum of output `m` (counted from the first) and column `j` is; the column after the last is the plain
    /// sum.
    #[inline(always)]
    fn sum(&self, m: usize, j: usize) -> *mut E {
        if j < self.columns { self.out.wrapping_add(m * self.out_stride + j) } else { self.sums.wrapping_add(m) }
    }
}
