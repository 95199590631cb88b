//! Regularisers inside the recurrence: dropout of h_(t-1) where a product takes it, dropout of the candidate, zoneout.
//!
//! Their equations are the cells' ([`Dropout`](crate::cells::Dropout), [`zoneout`](crate::cells)); here are the masks.
//! A mask is a function of (seed, update, place, sequence, time, unit). Each worker draws those of the rows and units
//! that it computes, in forward and anew in backward: of h_(t-1) once for all steps of a sequence, the others step by
//! step. A layer without regularisers has none of this.

use core::ops::Range;

use throughline_simd::{Isa, Kernel, Lane};

use super::GROUP;
use super::batch::Ragged;
use super::forward::Inputs;
use crate::Element;
use crate::buffer::Buffer;
use crate::cells::CellKind;
use crate::disjoint::Disjoint;
use crate::ops::dropout::{BLOCKS, Draw, Dropout, UNITS};
use crate::random::Philox;

/// What regularises the steps of a layer. Every rate is at least 0, its default, and below 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Regularisation {
    /// Rate at which units of h_(t-1) are dropped where a product takes them, one mask for all steps of a sequence (Gal
    /// and Ghahramani 2016).
    pub recurrent_dropout: f32,
    /// Rate at which units of the candidate are dropped, g of an LSTM and n of a GRU, in each step anew (Semeniuta et
    /// al. 2016).
    pub candidate_dropout: f32,
    /// Rate at which units of h keep their previous value, in each step anew (Krueger et al. 2017).
    pub zoneout_hidden: f32,
    /// The same for c.
    pub zoneout_cell: f32,
    /// The masks of training. Without them nothing is dropped, and zoneout takes its expectation.
    pub masks: Option<Masks>,
}

/// Where the masks of a layer come from. The highest byte of the place tells its kinds of mask and directions apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Masks {
    /// The family of [`Purpose::Dropout`](crate::random::Purpose::Dropout) for this seed and update.
    pub philox: Philox,
    /// Distinguishes the layers of a network; below 2^24.
    pub place: u32,
}

impl Masks {
    /// The dropout of the recurrent weights in direction `direction`: of rows `[G·H, H]`, each of which counts as a
    /// sequence of one step at time 0. One mask for the whole pass (DropConnect as in Merity et al. 2018).
    pub fn of_weights(self, direction: usize, rate: f32) -> Dropout {
        let place = self.place | ((1 + 2 * Kind::ALL.len() + direction) as u32) << 24;
        Dropout { philox: self.philox, rate, place }
    }
}

/// A kind of mask, in the order of the rows of [`MaskMemory::constants`].
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Hidden,
    Candidate,
    ZoneoutHidden,
    ZoneoutCell,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::Hidden, Kind::Candidate, Kind::ZoneoutHidden, Kind::ZoneoutCell];
    /// Those drawn anew in each step.
    const OF_STEP: [Kind; 3] = [Kind::Candidate, Kind::ZoneoutHidden, Kind::ZoneoutCell];
}

impl Regularisation {
    /// None.
    pub const NONE: Self =
        Self { recurrent_dropout: 0.0, candidate_dropout: 0.0, zoneout_hidden: 0.0, zoneout_cell: 0.0, masks: None };

    fn rate(&self, kind: Kind) -> f32 {
        match kind {
            Kind::Hidden => self.recurrent_dropout,
            Kind::Candidate => self.candidate_dropout,
            Kind::ZoneoutHidden => self.zoneout_hidden,
            Kind::ZoneoutCell => self.zoneout_cell,
        }
    }

    /// The masks of `kind`, if they are drawn.
    fn masks_of(&self, kind: Kind) -> Option<Masks> {
        self.masks.filter(|_| self.rate(kind) > 0.0)
    }

    /// Whether masks of h_(t-1) are drawn, so that the products take another row than h_(t-1).
    pub(super) fn drops_hidden(&self) -> bool {
        self.masks_of(Kind::Hidden).is_some()
    }

    /// Whether a pass with it computes anything else than one without.
    fn acts(&self) -> bool {
        let zones_out = self.zoneout_hidden > 0.0 || self.zoneout_cell > 0.0;
        zones_out || Kind::ALL.into_iter().any(|kind| self.masks_of(kind).is_some())
    }

    /// What a unit has whose mask of `kind` is not drawn: the factor 1 of dropout, the expectation of zoneout.
    fn constant(&self, kind: Kind) -> f64 {
        match kind {
            Kind::Hidden | Kind::Candidate => 1.0,
            Kind::ZoneoutHidden | Kind::ZoneoutCell => f64::from(self.rate(kind)),
        }
    }

    /// The masks of `kind` in direction `direction`: factors of dropout, 1 for units that zoneout keeps.
    fn draw<E: Element>(&self, kind: Kind, direction: usize) -> Option<Draw<E>> {
        let Masks { philox, place } = self.masks_of(kind)?;
        let kinds = Kind::ALL.len();
        let place = place | ((1 + direction * kinds + kind as usize) as u32) << 24;
        let rate = self.rate(kind);
        Some(match kind {
            Kind::Hidden | Kind::Candidate => Dropout { philox, rate, place }.factors(),
            Kind::ZoneoutHidden | Kind::ZoneoutCell => Draw::new(philox, place, rate, [E::ONE, E::ZERO]),
        })
    }

    /// # Panics
    /// If a rate is out of range, the cell has nothing that one acts on, or the place is too large.
    pub fn check(&self, cell: CellKind) {
        for (name, kind) in [
            ("recurrent dropout", Kind::Hidden),
            ("candidate dropout", Kind::Candidate),
            ("zoneout of h", Kind::ZoneoutHidden),
            ("zoneout of c", Kind::ZoneoutCell),
        ] {
            let rate = self.rate(kind);
            assert!((0.0..1.0).contains(&rate), "a rate of {name} is at least 0 and below 1, not {rate}");
        }
        let name = cell.name();
        assert!(
            self.candidate_dropout == 0.0 || cell.has_candidate(),
            "the cell {name} has no candidate to drop: use recurrent dropout, or an LSTM or a GRU"
        );
        assert!(
            self.zoneout_cell == 0.0 || cell.has_cell_state(),
            "the cell {name} has no cell state: use zoneout of h, or an LSTM"
        );
        assert!(self.masks.is_none_or(|masks| masks.place < 1 << 24), "the place of a layer's masks is below 2^24");
    }
}

/// A worker's memory for masks.
#[derive(Debug, Default)]
pub(crate) struct MaskMemory<E> {
    /// `[4, H]`: the row of each kind of mask that is not drawn.
    constants: Buffer<E>,
    /// `[columns, H]`: the masks of h_(t-1).
    of_sequences: Buffer<E>,
    /// `[3, GROUP, H]`: the masks of a step.
    of_step: Buffer<E>,
    /// `[GROUP, H]`: the operands of a product, or their gradients.
    operands: Buffer<E>,
}

/// The masks of one row of a step: H elements each.
pub(super) struct RowMasks<E> {
    /// The factor of h_(t-1) where a product takes it.
    pub hidden: *const E,
    /// The factor of the candidate.
    pub candidate: *const E,
    /// k of h's zoneout.
    pub keep_hidden: *const E,
    /// k of c's zoneout.
    pub keep_cell: *const E,
    /// What the products take of h_(t-1), or where it is kept for them; null for h_(t-1) itself.
    pub operand: *mut E,
}

impl<E> Clone for RowMasks<E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E> Copy for RowMasks<E> {}

/// The masks of one worker's columns in one direction.
pub(super) struct WorkerMasks<'a, E> {
    regularisation: Regularisation,
    isa: Isa,
    batch: &'a Ragged,
    hidden: usize,
    index: usize,
    first_column: usize,
    units: Range<usize>,
    constants: &'a [E],
    of_sequences: &'a [E],
    of_step: Disjoint<'a, E>,
    operands: Disjoint<'a, E>,
}

impl<'a, E: Element> WorkerMasks<'a, E> {
    /// Those of `columns` in direction `index`; `None` for a pass without regularisers. The masks of h_(t-1) are drawn
    /// for the units `operand`, those of a step for `units`.
    pub fn new(
        inputs: &Inputs<'a, E>,
        index: usize,
        columns: Range<usize>,
        [operand, units]: [Range<usize>; 2],
        memory: &'a mut MaskMemory<E>,
    ) -> Option<Self> {
        let (regularisation, batch) = (inputs.regularisation, inputs.batch);
        if !regularisation.acts() {
            return None;
        }
        let (isa, hidden) = (inputs.layer.isa, inputs.layer.shape.hidden);
        let drawn = |kinds: &[Kind], length: usize| {
            if kinds.iter().any(|&kind| regularisation.masks_of(kind).is_some()) { length } else { 0 }
        };
        let constants = memory.constants.at_least(Kind::ALL.len() * hidden);
        for (row, kind) in constants.chunks_mut(hidden).zip(Kind::ALL) {
            row.fill(E::from_f64(regularisation.constant(kind)));
        }
        let of_sequences = memory.of_sequences.at_least(drawn(&[Kind::Hidden], columns.len() * hidden));
        if let Some(draw) = regularisation.draw(Kind::Hidden, index) {
            let rows = &mut *of_sequences;
            for (row, column) in rows.chunks_mut(hidden).zip(columns.clone()) {
                let (sequence, units) = (batch.order()[column] as u32, operand.clone());
                E::dispatch(isa, DrawRow { draw, sequence, time: 0, units, row });
            }
        }
        let of_step = memory.of_step.at_least(drawn(&Kind::OF_STEP, Kind::OF_STEP.len() * GROUP * hidden));
        let operands = memory.operands.at_least(drawn(&[Kind::Hidden], GROUP * hidden));
        Some(Self {
            regularisation,
            isa,
            batch,
            hidden,
            index,
            first_column: columns.start,
            units,
            constants,
            of_sequences,
            of_step: Disjoint::new(of_step),
            operands: Disjoint::new(operands),
        })
    }

    /// Draws the masks of step `t` for a group of columns. Those of the group before are gone then.
    pub fn draw(&self, t: usize, columns: Range<usize>) {
        for (kind, place) in Kind::OF_STEP.into_iter().zip(0..) {
            let Some(draw) = self.regularisation.draw(kind, self.index) else { continue };
            for (column, place) in columns.clone().zip(place * GROUP..) {
                let (sequence, time) = self.batch.sequence_and_time(self.batch.row(t, column));
                let (sequence, time, units) = (sequence as u32, time as u32, self.units.clone());
                // SAFETY: the memory is this worker's alone, and no masks of another group are in use.
                let row = unsafe { self.of_step.slice(place * self.hidden..(place + 1) * self.hidden) };
                E::dispatch(self.isa, DrawRow { draw, sequence, time, units, row });
            }
        }
    }

    /// The masks of the row in place `place` of a group, which is that of `column`.
    pub fn row(&self, place: usize, column: usize) -> RowMasks<E> {
        let of_step = |kind: Kind, first: usize| match self.regularisation.masks_of(kind) {
            Some(_) => self.of_step.at((first + place) * self.hidden).cast_const(),
            None => self.constant(kind),
        };
        RowMasks {
            hidden: if self.drops_hidden() { self.of_sequence(column).as_ptr() } else { self.constant(Kind::Hidden) },
            candidate: of_step(Kind::Candidate, 0),
            keep_hidden: of_step(Kind::ZoneoutHidden, GROUP),
            keep_cell: of_step(Kind::ZoneoutCell, 2 * GROUP),
            operand: core::ptr::null_mut(),
        }
    }

    fn constant(&self, kind: Kind) -> *const E {
        self.constants[kind as usize * self.hidden..].as_ptr()
    }

    fn of_sequence(&self, column: usize) -> &'a [E] {
        &self.of_sequences[(column - self.first_column) * self.hidden..][..self.hidden]
    }

    /// Whether h_(t-1) is dropped where a product takes it.
    pub fn drops_hidden(&self) -> bool {
        self.regularisation.drops_hidden()
    }

    /// What a product takes instead of `h_previous`, H elements, in place `place` of a group.
    pub fn operand(&self, place: usize, column: usize, h_previous: &[E]) -> *mut E {
        let row = place * self.hidden..(place + 1) * self.hidden;
        // SAFETY: the memory is this worker's alone, and the operand of an earlier step or phase in this place is no
        // longer in use.
        let operand = unsafe { self.operands.slice(row.clone()) };
        for ((operand, h), factor) in operand.iter_mut().zip(h_previous).zip(self.of_sequence(column)) {
            *operand = *h * *factor;
        }
        self.operands.at(row.start)
    }

    /// Where the gradient of an operand is added up in place `place` of a group: H elements, the units of this worker
    /// 0.
    pub fn operand_gradient(&self, place: usize) -> *mut E {
        let row = place * self.hidden;
        // SAFETY: as above.
        unsafe { self.operands.slice(row + self.units.start..row + self.units.end) }.fill(E::ZERO);
        self.operands.at(row)
    }
}

/// Draws the masks of the units `units` of one row.
struct DrawRow<'a, E> {
    draw: Draw<E>,
    sequence: u32,
    time: u32,
    units: Range<usize>,
    /// `[H]`
    row: &'a mut [E],
}

impl<E: Element> Kernel<E> for DrawRow<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, _: L) {
        // A block of four numbers belongs to the units from a multiple of four on.
        let first = self.units.start / 4;
        for (index, units) in self.row[4 * first..self.units.end].chunks_mut(UNITS).enumerate() {
            let drawn = self.draw.units(self.sequence, self.time, first + index * BLOCKS);
            units.copy_from_slice(&drawn[..units.len()]);
        }
    }
}
