//! The packed right-hand side of a product.

use alloc::vec::Vec;
use core::ops::Range;

use throughline_simd::{Element, Isa, Kernel, Lane, MOST_WIDTH};

use super::tile::MOST_VECTORS as PANEL_VECTORS;
use crate::buffer::Buffer;

/// How many squares ahead the weights to be transposed are prefetched: their rows are too far apart for the hardware
/// prefetcher.
const AHEAD: usize = 2;

/// A matrix `[k, columns]` divided into panels, each stored k-major, so that a tile reads memory sequentially.
///
/// The columns are G groups (gates) of H units each; group g of unit u goes to output column
/// `group_columns[g] + u`. A panel holds all groups of one to four blocks of WIDTH units side by side, so that all
/// gates of a unit are finished together. A plain matrix is the case of one group.
#[derive(Debug, Default)]
pub struct Panels<E> {
    data: Buffer<E>,
    depth: usize,
    units: usize,
    group_columns: Vec<usize>,
    width: usize,
    places: Vec<Place>,
}

/// Where a panel is and where its columns go, computed once when it is packed.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Its first element.
    start: usize,
    vectors: usize,
    columns: [usize; PANEL_VECTORS],
    counts: [usize; PANEL_VECTORS],
}

/// One panel, as a tile needs it.
pub(super) struct Panel<'a, E> {
    pub data: &'a [E],
    pub vectors: usize,
    pub columns: [usize; PANEL_VECTORS],
    pub counts: [usize; PANEL_VECTORS],
}

impl<E: Element> Panels<E> {
    /// Nothing packed yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Rows k of the matrix: the length of a chain.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Packs `k -> w[(g · units + u) · stride + k]`: the transpose of a weight matrix whose rows are G groups of
    /// `units` outputs, over its columns `0..depth`. Group g goes to output column `group_columns[g]`.
    ///
    /// Allocates only when the shape has grown.
    pub fn pack_transposed(
        &mut self,
        isa: Isa,
        w: &[E],
        stride: usize,
        depth: usize,
        units: usize,
        group_columns: &[usize],
    ) {
        self.reshape(isa, depth, units, group_columns);
        check_covered(w.len(), group_columns.len() * units, stride, depth);
        E::dispatch(isa, Pack { panels: self, w, stride, transposed: true });
    }

    /// Packs `k -> w[k · stride + n]` for n in `0..columns`: a matrix without transposing it.
    ///
    /// Allocates only when the shape has grown.
    pub fn pack(&mut self, isa: Isa, w: &[E], stride: usize, depth: usize, columns: usize) {
        self.reshape(isa, depth, columns, &[0]);
        check_covered(w.len(), depth, stride, columns);
        E::dispatch(isa, Pack { panels: self, w, stride, transposed: false });
    }

    fn reshape(&mut self, isa: Isa, depth: usize, units: usize, group_columns: &[usize]) {
        assert!((1..=PANEL_VECTORS).contains(&group_columns.len()) && units > 0, "a panel holds 1 to 4 groups");
        self.depth = depth;
        self.units = units;
        self.width = E::dispatch(isa, Width);
        self.group_columns.clear();
        self.group_columns.extend_from_slice(group_columns);
        let (groups, width) = (group_columns.len(), self.width);
        self.places.clear();
        for (index, first) in (0..units).step_by(self.units_per_panel()).enumerate() {
            let blocks = (units - first).div_ceil(width).min(PANEL_VECTORS / groups);
            let start = index * self.units_per_panel() * groups * depth;
            let (mut columns, mut counts) = ([0; PANEL_VECTORS], [0; PANEL_VECTORS]);
            for v in 0..blocks * groups {
                let unit = first + (v / groups) * width;
                columns[v] = group_columns[v % groups] + unit;
                counts[v] = width.min(units - unit);
            }
            self.places.push(Place { start, vectors: blocks * groups, columns, counts });
        }
        let columns = units.div_ceil(self.width) * group_columns.len() * self.width;
        self.data.at_least(columns.checked_mul(depth).expect("panels have no more elements than can be counted"));
    }

    /// How many panels there are.
    pub fn count(&self) -> usize {
        self.places.len()
    }

    /// Units of every panel but the last, which may have fewer.
    pub(crate) fn units_per_panel(&self) -> usize {
        assert!(self.width > 0, "nothing is packed yet: pack the weights first");
        self.width * (PANEL_VECTORS / self.group_columns.len())
    }

    /// The panels of `units`, whose start is a multiple of [`units_per_panel`](Self::units_per_panel), as its end is
    /// unless it is the last unit.
    pub(crate) fn of_units(&self, units: Range<usize>) -> Range<usize> {
        if units == (0..self.units) {
            return 0..self.places.len();
        }
        let per_panel = self.units_per_panel();
        units.start / per_panel..units.end.div_ceil(per_panel)
    }

    /// Panel `index`, rows `k`.
    #[inline(always)]
    pub(super) fn panel(&self, index: usize, k: Range<usize>) -> Panel<'_, E> {
        let Place { start, vectors, columns, counts } = self.places[index];
        let step = vectors * self.width;
        Panel { data: &self.data[start + k.start * step..start + k.end * step], vectors, columns, counts }
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }
}

/// Panics unless `rows` rows of `columns` elements, `stride` apart, lie within `length` elements.
fn check_covered(length: usize, rows: usize, stride: usize, columns: usize) {
    let end = rows.saturating_sub(1).checked_mul(stride).and_then(|start| start.checked_add(columns));
    let covered = rows == 0 || columns == 0 || end.is_some_and(|end| end <= length);
    assert!(covered, "the weights cover the panels: {rows} rows of {columns}, {stride} apart, in {length}");
}

/// Fills the panels from `w`, square by square: WIDTH terms of the chains by one vector of columns.
struct Pack<'a, E> {
    panels: &'a mut Panels<E>,
    w: &'a [E],
    stride: usize,
    transposed: bool,
}

impl<E: Element> Kernel<E> for Pack<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        let Self { panels: Panels { data, depth, units, group_columns, places, .. }, w, stride, transposed } = self;
        let (depth, units, groups) = (*depth, *units, group_columns.len());
        let units_per_panel = PANEL_VECTORS / groups * L::WIDTH;
        for (index, place) in places.iter().enumerate() {
            let step = place.vectors * L::WIDTH;
            let panel = &mut data[place.start..][..step * depth];
            for k in (0..depth).step_by(L::WIDTH) {
                let terms = L::WIDTH.min(depth - k);
                for v in 0..place.vectors {
                    let (unit, count) = (index * units_per_panel + v / groups * L::WIDTH, place.counts[v]);
                    let column = v % groups * units + unit;
                    let mut rows = [lane.splat(E::ZERO); MOST_WIDTH];
                    // SAFETY: `pack` and `pack_transposed` have checked that `w` covers the panels' terms and columns;
                    // the panel has `depth` rows of `step` elements, of which v · WIDTH .. are this vector.
                    unsafe {
                        if transposed {
                            let from = w.as_ptr().add(column * stride + k);
                            for i in 0..count {
                                let row = from.add(i * stride);
                                lane.prefetch(row.wrapping_add(AHEAD * L::WIDTH));
                                rows[i] = lane.load_first(row, terms);
                            }
                            lane.transpose(&mut rows);
                        } else {
                            for i in 0..terms {
                                let row = w.as_ptr().add((k + i) * stride + column);
                                lane.prefetch(row.wrapping_add(L::WIDTH * stride));
                                rows[i] = lane.load_first(row, count);
                            }
                        }
                        for i in 0..terms {
                            let to = panel.as_mut_ptr().add((k + i) * step + v * L::WIDTH);
                            lane.prefetch_to_write(to.wrapping_add(L::WIDTH * step));
                            lane.store(to, rows[i]);
                        }
                    }
                }
            }
        }
    }
}

/// The lane's vector width.
pub(crate) struct Width;

impl<E: Element> Kernel<E> for Width {
    type Output = usize;
    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, _: L) -> usize {
        L::WIDTH
    }
}
