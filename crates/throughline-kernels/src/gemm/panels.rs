//! The packed right-hand side of a product.

use alloc::vec::Vec;
use core::ops::Range;

use throughline_simd::{Element, Isa, Kernel, Lane};

use super::tile::MOST_VECTORS as PANEL_VECTORS;
use crate::buffer::Buffer;

/// A matrix [k, columns] cut into panels, each stored k-major, so that a tile reads memory straight on.
///
/// The columns are G groups (gates) of H units each; group g of unit u lands in the output at column
/// `group_columns[g] + u`. A panel holds all groups of one to four blocks of WIDTH units side by side, so that all gates of
/// a unit are finished together. A plain matrix is the case of one group.
#[derive(Debug, Default)]
pub struct Panels<E> {
    data: Buffer<E>,
    depth: usize,
    units: usize,
    group_columns: Vec<usize>,
    width: usize,
    places: Vec<Place>,
}

/// Where a panel is and where its columns go, worked out once for the many times it is used.
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

    /// Packs `k -> w[(g · units + u) · stride + k]`: the transpose of a weight matrix whose rows are G groups of `units`
    /// outputs, over its columns `0..depth`. Group g goes to output column `group_columns[g]`.
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
        if depth > 0 {
            assert!(w.len() >= (group_columns.len() * units - 1) * stride + depth, "the weights cover the panels");
        }
        const LINE: usize = 16;
        let width = self.width;
        self.fill(|k, first_unit, group, count, panel, step| {
            // Sixteen columns of the weights at a time: one line of each row is read whole, and the writes go side by side.
            for (block, panel) in k.clone().step_by(LINE).zip(panel.chunks_mut(LINE * step)) {
                let depth = LINE.min(k.end - block);
                if count == width && depth == LINE {
                    for unit in 0..count {
                        let row = &w[(group * units + first_unit + unit) * stride + block..][..LINE];
                        for k in 0..LINE {
                            // The last vector of a block ends where `panel` does, `width` after its first element.
                            panel[k * step + unit] = row[k];
                        }
                    }
                } else {
                    for k in 0..depth {
                        for unit in 0..width {
                            let at = (group * units + first_unit + unit) * stride + block + k;
                            panel[k * step + unit] = if unit < count { w[at] } else { E::ZERO };
                        }
                    }
                }
            }
        });
    }

    /// Packs `k -> w[k · stride + n]` for n in `0..columns`: a matrix as it stands.
    ///
    /// Allocates only when the shape has grown.
    pub fn pack(&mut self, isa: Isa, w: &[E], stride: usize, depth: usize, columns: usize) {
        self.reshape(isa, depth, columns, &[0]);
        if depth > 0 {
            assert!(w.len() >= (depth - 1) * stride + columns, "the weights cover the panels");
        }
        let width = self.width;
        self.fill(|k, first_unit, _, count, panel, step| {
            for (k, slot) in k.zip(panel.chunks_mut(step)) {
                slot[..count].copy_from_slice(&w[k * stride + first_unit..][..count]);
                slot[count..width].fill(E::ZERO);
            }
        });
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
        let vectors = units.div_ceil(self.width) * group_columns.len();
        self.data.at_least(vectors * self.width * depth);
    }

    /// Calls `fill(k, first unit, group, count of units, memory from the vector's first element, elements from k to k + 1)`
    /// for every vector of every panel, in blocks of k that keep the written lines in the nearest cache.
    fn fill(&mut self, mut fill: impl FnMut(Range<usize>, usize, usize, usize, &mut [E], usize)) {
        const BLOCK: usize = 64;
        let (depth, width, units, groups) = (self.depth, self.width, self.units, self.group_columns.len());
        let blocks_per_panel = PANEL_VECTORS / groups;
        for (index, first) in (0..units).step_by(blocks_per_panel * width).enumerate() {
            let blocks = (units - first).div_ceil(width).min(blocks_per_panel);
            let step = blocks * groups * width;
            let start = index * blocks_per_panel * groups * width * depth;
            let panel = &mut self.data[start..start + step * depth];
            for k in (0..depth).step_by(BLOCK) {
                let k = k..depth.min(k + BLOCK);
                for block in 0..blocks {
                    let unit = first + block * width;
                    for group in 0..groups {
                        let offset = (block * groups + group) * width;
                        let memory = &mut panel[k.start * step + offset..k.end * step];
                        fill(k.clone(), unit, group, width.min(units - unit), memory, step);
                    }
                }
            }
        }
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

    /// The panels of `units`, whose start is a multiple of [`units_per_panel`](Self::units_per_panel), as its end is unless
    /// it is the last unit.
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

/// The lane's vector width.
pub(crate) struct Width;

impl<E: Element> Kernel<E> for Width {
    type Output = usize;
    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, _: L) -> usize {
        L::WIDTH
    }
}
