//! Rows times panels.

use core::ops::Range;

use throughline_simd::{Element, Isa, Kernel, Lane};

use super::panels::Panels;
use super::tile::{MOST_ROWS, Tile, row_tile};

/// Rows that share one pass over the panels.
pub(crate) const GROUP: usize = 48;
/// Terms of the chain after which a pass turns to the next tile of rows: a piece of a panel this deep (4 vectors of 64
/// bytes by 160 are 40 KiB) stays in the nearest cache for all tiles.
const DEPTH: usize = 160;

/// Up to 48 rows of a product, wherever they lie. Fill it, then [`accumulate`].
pub struct RowGroup<E> {
    a: [*const E; GROUP],
    out: [*mut E; GROUP],
    rows: usize,
}

impl<E: Element> Default for RowGroup<E> {
    fn default() -> Self {
        Self { a: [core::ptr::null(); GROUP], out: [core::ptr::null_mut(); GROUP], rows: 0 }
    }
}

impl<E: Element> RowGroup<E> {
    /// Appends a row of the left-hand side and the row of the output it goes to.
    #[inline(always)]
    pub fn push(&mut self, a: *const E, out: *mut E) {
        self.a[self.rows] = a;
        self.out[self.rows] = out;
        self.rows += 1;
    }

    /// Whether another row would not fit.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        self.rows == GROUP
    }

    /// Forgets the rows.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.rows = 0;
    }
}

/// For every row of the group: `out += a[0..k.len()] · panels[k]`.
///
/// # Safety
/// Every `a` is valid for reading `k.len()` elements, every `out` for reading and writing up to the last column of the
/// panels; no `out` row overlaps another or any `a` (beyond the columns that the panels do not write), and nobody else
/// touches the `out` rows meanwhile.
pub unsafe fn accumulate<E: Element>(isa: Isa, panels: &Panels<E>, k: Range<usize>, group: &RowGroup<E>) {
    assert!(k.start <= k.end && k.end <= panels.depth(), "rows {k:?} of panels with {} rows", panels.depth());
    if group.rows > 0 && !k.is_empty() {
        E::dispatch(isa, Accumulate { panels, k, group });
    }
}

struct Accumulate<'a, E> {
    panels: &'a Panels<E>,
    k: Range<usize>,
    group: &'a RowGroup<E>,
}

impl<E: Element> Kernel<E> for Accumulate<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        let Self { panels, k, group } = self;
        assert_eq!(panels.width(), L::WIDTH, "the panels were packed for another instruction set");
        let blocks = if group.rows <= L::TILE_ROWS { 1 } else { k.len().div_ceil(DEPTH) };
        for block in 0..blocks {
            let from = block * k.len() / blocks;
            let to = (block + 1) * k.len() / blocks;
            for index in 0..panels.count() {
                let panel = panels.panel(index, k.start + from..k.start + to);
                for tile_index in 0..group.rows.div_ceil(L::TILE_ROWS) {
                    let rows = row_tile(group.rows, L::TILE_ROWS, tile_index);
                    let mut tile = Tile {
                        rows: rows.len(),
                        vectors: panel.vectors,
                        a: [core::ptr::null(); MOST_ROWS],
                        a_step: 1,
                        b: panel.data.as_ptr(),
                        k: to - from,
                        out: [core::ptr::null_mut(); MOST_ROWS],
                        columns: panel.columns,
                        counts: panel.counts,
                    };
                    for i in 0..rows.len() {
                        tile.a[i] = group.a[rows.start + i].wrapping_add(from);
                        tile.out[i] = group.out[rows.start + i];
                    }
                    // SAFETY: `accumulate`'s caller vouches for the rows; the panel holds (to - from) · vectors · WIDTH
                    // elements, and its columns and counts lie within the columns of the output.
                    unsafe { tile.run(lane) };
                }
            }
        }
    }
}
