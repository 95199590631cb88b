//! Rows times panels.

use core::ops::Range;

use throughline_simd::{Element, Isa, Kernel, Lane};

use super::panels::Panels;
use super::tile::{Tile, row_tile};
use crate::Compiled;
use crate::list::List;

/// Rows that share one pass over the panels.
pub(crate) const GROUP: usize = 96;
/// Terms of the chain after which a pass moves on to the next tile of rows. Long blocks are fastest: the rows of a tile
/// (6 by 512 are 12 KiB) stay in the L1 cache, and a block of a panel (4 vectors of 64 bytes by 512 are 128 KiB)
/// streams from L2 as fast as it is used.
const DEPTH: usize = 512;

/// Up to 96 rows of a product, anywhere in memory. Fill it, then [`accumulate`].
pub struct RowGroup<E: Element> {
    rows: List<(*const E, *mut E), GROUP>,
    init: *const E,
}

impl<E: Element> Default for RowGroup<E> {
    #[inline(always)]
    fn default() -> Self {
        Self { rows: List::new(), init: core::ptr::null() }
    }
}

impl<E: Element> RowGroup<E> {
    /// Rows whose chains all start from `init`, not from what stands in their outputs.
    #[inline(always)]
    pub fn from_init(init: &[E]) -> Self {
        Self { rows: List::new(), init: init.as_ptr() }
    }

    /// Appends a row of the left-hand side and the row of the output it goes to.
    #[inline(always)]
    pub fn push(&mut self, a: *const E, out: *mut E) {
        self.rows.push((a, out));
    }

    /// Whether another row would not fit.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        self.rows.len() == GROUP
    }

    /// Forgets the rows.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.rows.clear();
    }
}

/// For every row of the group: `out += a[0..k.len()] · panels[k]`, in the columns of the panels `which`; for a group made
/// [`from_init`](RowGroup::from_init) `out = init + ...`. Nothing is done for an empty k.
///
/// # Safety
/// An `init` reaches up to the last column of the panels and is still borrowed.
/// Every `a` is valid for reading `k.len()` elements, every `out` for reading and writing up to the last column of the
/// panels; the columns of the `out` rows that the panels write overlap neither each other nor any `a`, and no other
/// thread touches them meanwhile.
pub unsafe fn accumulate<E: Compiled>(
    isa: Isa,
    panels: &Panels<E>,
    which: Range<usize>,
    k: Range<usize>,
    group: &RowGroup<E>,
) {
    // SAFETY: the caller has discharged the same obligations.
    unsafe { E::accumulate(isa, panels, which, k, group) };
}

/// See [`accumulate`].
///
/// # Safety
/// As there.
pub(crate) unsafe fn accumulate_rows<E: Element>(
    isa: Isa,
    panels: &Panels<E>,
    which: Range<usize>,
    k: Range<usize>,
    group: &RowGroup<E>,
) {
    assert!(k.start <= k.end && k.end <= panels.depth(), "rows {k:?} of panels with {} rows", panels.depth());
    assert!(which.end <= panels.count(), "panels {which:?} of {}", panels.count());
    if !group.rows.is_empty() && !k.is_empty() {
        E::dispatch(isa, Accumulate { panels, which, k, group });
    }
}

struct Accumulate<'a, E: Element> {
    panels: &'a Panels<E>,
    which: Range<usize>,
    k: Range<usize>,
    group: &'a RowGroup<E>,
}

impl<E: Element> Kernel<E> for Accumulate<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        for index in self.which {
            // SAFETY: the caller of `accumulate_rows` guarantees the rows, and it has checked k and the panels itself.
            unsafe { accumulate_panel(lane, self.panels, index, self.k.clone(), self.group) };
        }
    }
}

/// One panel of [`accumulate`], for kernels that use its columns right away.
///
/// # Safety
/// As for [`accumulate`]; k lies below the panels' depth and `index` below their count.
#[inline(always)]
pub(crate) unsafe fn accumulate_panel<L: Lane>(
    lane: L,
    panels: &Panels<L::Element>,
    index: usize,
    k: Range<usize>,
    group: &RowGroup<L::Element>,
) {
    assert_eq!(panels.width(), L::WIDTH, "the panels were packed for another instruction set");
    let panel = panels.panel(index, k.clone());
    let rows = &group.rows[..];
    let limit = L::TILE_ROWS[panel.vectors - 1];
    let tiles = rows.len().div_ceil(limit);
    let blocks = if tiles == 1 { 1 } else { k.len().div_ceil(DEPTH) };
    let mut tile = Tile { vectors: panel.vectors, columns: panel.columns, counts: panel.counts, ..Tile::EMPTY };
    for block in 0..blocks {
        let (from, to) = (block * k.len() / blocks, (block + 1) * k.len() / blocks);
        let step = panel.vectors * L::WIDTH;
        tile.b = panel.data.as_ptr().wrapping_add(from * step);
        tile.b_step = step;
        tile.k = to - from;
        // The next block follows in memory, in this panel or the next.
        tile.ahead = tile.b.wrapping_add((to - from) * step);
        tile.init = if block == 0 { group.init } else { core::ptr::null() };
        for tile_index in 0..tiles {
            let of_tile = &rows[row_tile(rows.len(), limit, tile_index)];
            tile.rows = of_tile.len();
            for (i, &(a, out)) in of_tile.iter().enumerate() {
                tile.a[i] = a.wrapping_add(from);
                tile.out[i] = out;
            }
            // SAFETY: the caller guarantees the rows; the panel holds (to - from) · vectors · WIDTH elements from b,
            // and its columns and counts lie within the columns of the output.
            lane.enter(&tile);
            tile.ahead = tile.ahead.wrapping_add(tile.k * L::WIDTH);
        }
    }
}
