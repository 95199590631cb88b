//! Layer-normalised cells (Ba, Kiros and Hinton 2016, equations 20 to 22): the sums of a step are normalised row by row
//! before the cell maps them,
//!
//! ```text
//! s = bias + weight_ih · n(W_ih x) + weight_hh · n(W_hh u)
//! ```
//!
//! with n of [`ops::layer_norm`](crate::ops::layer_norm), u the operand of the product, and the biases of the layer as
//! the shifts. Gates that one product computes side by side are normalised together: all four of an LSTM; r and z of a
//! GRU, and its candidate alone. What a cell reads out of its cell state is normalised too, h' = o tanh(weight · n(c') +
//! bias), while c' itself goes on as it is.
//!
//! A row's moments need all its units, so a worker always has whole rows. Here are the parameters, which sums belong
//! together, and where the sums are kept; the stages themselves are in `forward/normalised.rs` and
//! `backward/normalised.rs`.

use alloc::vec::Vec;
use core::ops::Range;

use crate::Element;

use super::shape::LayerShape;
use crate::buffer::Buffer;
use crate::disjoint::Disjoint;
use crate::ops::layer_norm::{Moments, Strided};

/// The parameters of one direction's normalisation. The shifts of the sums are the layer's biases.
#[derive(Clone, Copy, Debug)]
pub struct NormalisationWeights<'a, E> {
    /// `[G·H]`: of the input terms.
    pub input: &'a [E],
    /// `[G·H]`: of the hidden terms.
    pub hidden: &'a [E],
    /// `[H]`, or empty for a cell without cell state: of what is read out of c'.
    pub cell: &'a [E],
    /// `[H]`, or empty for a cell without cell state: its shift.
    pub cell_bias: &'a [E],
}

/// Their gradients. They accumulate.
#[derive(Debug)]
pub struct NormalisationGradients<'a, E> {
    /// `[G·H]`
    pub input: &'a mut [E],
    /// `[G·H]`
    pub hidden: &'a mut [E],
    /// `[H]`, or empty.
    pub cell: &'a mut [E],
    /// `[H]`, or empty.
    pub cell_bias: &'a mut [E],
}

/// # Panics
/// If parameters, or gradients, are there for a layer that is not normalised or missing for one that is, or the lengths
/// `[input, hidden, cell, cell_bias]` do not fit.
pub(super) fn check_lengths(shape: &LayerShape, lengths: Option<[usize; 4]>) {
    let cell = if shape.cell.has_cell_state() { shape.hidden } else { 0 };
    let expected = shape.normalised.then_some([shape.gate_rows(), shape.gate_rows(), cell, cell]);
    assert_eq!(lengths, expected, "lengths of the normalisation's input, hidden, cell and cell_bias of {shape:?}");
}

impl<E> NormalisationWeights<'_, E> {
    pub(super) fn lengths(&self) -> [usize; 4] {
        [self.input.len(), self.hidden.len(), self.cell.len(), self.cell_bias.len()]
    }
}

impl<E> NormalisationGradients<'_, E> {
    pub(super) fn lengths(&self) -> [usize; 4] {
        [self.input.len(), self.hidden.len(), self.cell.len(), self.cell_bias.len()]
    }
}

/// The weights as the steps read them.
#[derive(Debug)]
pub(crate) struct PackedNormalisation<E> {
    /// `[G·H]`
    pub input: Vec<E>,
    /// `[S·H]`: each gate's in the slot that takes its hidden term.
    pub hidden: Vec<E>,
    /// `[H]`, or empty.
    pub cell: Vec<E>,
    /// `[H]`, or empty.
    pub cell_bias: Vec<E>,
    /// `[max(G, S)·H]`: zeros, what sums start from.
    pub zeros: Vec<E>,
}

impl<E: Element> PackedNormalisation<E> {
    pub fn new(shape: &LayerShape) -> Self {
        let [gates, slots] = [shape.gate_rows(), shape.slot_width()].map(|length| alloc::vec![E::ZERO; length]);
        let cell = alloc::vec![E::ZERO; if shape.cell.has_cell_state() { shape.hidden } else { 0 }];
        let zeros = if gates.len() > slots.len() { gates.clone() } else { slots.clone() };
        Self { input: gates, hidden: slots, cell: cell.clone(), cell_bias: cell, zeros }
    }

    pub fn pack(&mut self, shape: &LayerShape, weights: &NormalisationWeights<'_, E>) {
        self.input.copy_from_slice(weights.input);
        for sums in sums(shape) {
            self.hidden[sums.slots].copy_from_slice(&weights.hidden[sums.gates]);
        }
        self.cell.copy_from_slice(weights.cell);
        self.cell_bias.copy_from_slice(weights.cell_bias);
    }
}

/// Sums of a row that are normalised together.
#[derive(Clone, Debug)]
pub(super) struct Sums {
    /// The phase whose product adds up the hidden terms.
    pub phase: usize,
    /// The input terms, in a row of G·H. They have the same place in the row of slots.
    pub gates: Range<usize>,
    /// The hidden terms, in a row of S·H.
    pub slots: Range<usize>,
    /// The places of the moments of the input terms and of the hidden terms among those of a row.
    pub moments: [usize; 2],
}

/// All of a layer's.
pub(super) fn sums(shape: &LayerShape) -> impl Iterator<Item = Sums> + use<> {
    let LayerShape { cell, hidden, .. } = *shape;
    let runs = move || {
        cell.phases().iter().enumerate().flat_map(|(index, phase)| {
            phase.runs().map(move |(gate, slot, count)| (index, phase.first_gate + gate, slot, count))
        })
    };
    runs().enumerate().map(move |(index, (phase, gate, slot, count))| Sums {
        phase,
        gates: gate * hidden..(gate + count) * hidden,
        slots: slot * hidden..(slot + count) * hidden,
        moments: [index, runs().count() + index],
    })
}

/// What a normalised layer keeps of rows, on the tape or for a chunk of steps; nothing for a layer that is not.
#[derive(Debug, Default)]
pub(crate) struct NormalisationMemory<E> {
    input: Buffer<E>,
    hidden: Buffer<E>,
    proposed: Buffer<E>,
    moments: Vec<Moments<E>>,
}

/// The same, for threads that each write rows of their own.
pub(super) struct NormalisedRows<'a, E> {
    widths: Widths,
    input: Disjoint<'a, E>,
    hidden: Disjoint<'a, E>,
    proposed: Disjoint<'a, E>,
    moments: Disjoint<'a, Moments<E>>,
}

impl<E> Clone for NormalisedRows<'_, E> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<E> Copy for NormalisedRows<'_, E> {}

/// The same, to be read.
#[derive(Clone, Copy)]
pub(super) struct KeptRows<'a, E> {
    input: &'a [E],
    hidden: &'a [E],
    proposed: &'a [E],
    moments: &'a [Moments<E>],
    widths: Widths,
}

impl<'a, E: Element> KeptRows<'a, E> {
    /// Row `row`.
    pub fn row(&self, row: usize) -> NormalisedRow<&'a [E], &'a [Moments<E>]> {
        let Widths { input, hidden, proposed, moments } = self.widths;
        NormalisedRow {
            input: &self.input[row * input..][..input],
            hidden: &self.hidden[row * hidden..][..hidden],
            proposed: &self.proposed[row * proposed..][..proposed],
            moments: &self.moments[row * moments..][..moments],
        }
    }

    /// All rows from `row` on.
    pub fn from(&self, row: usize) -> NormalisedRow<Strided<'a, E>, Strided<'a, Moments<E>>> {
        let Widths { input, hidden, proposed, moments } = self.widths;
        NormalisedRow {
            input: Strided { numbers: &self.input[row * input..], stride: input },
            hidden: Strided { numbers: &self.hidden[row * hidden..], stride: hidden },
            proposed: Strided { numbers: &self.proposed[row * proposed..], stride: proposed },
            moments: Strided { numbers: &self.moments[row * moments..], stride: moments },
        }
    }
}

/// What is kept of one row.
pub(super) struct NormalisedRow<T, M> {
    /// `[G·H]`: W_ih x
    pub input: T,
    /// `[S·H]`: W_hh u, in the slots that take it.
    pub hidden: T,
    /// `[H]`, or empty: c'
    pub proposed: T,
    /// Those of the [`sums`]' terms, and last those of c'.
    pub moments: M,
}

/// The lengths of what is kept of a row.
#[derive(Clone, Copy, Debug)]
struct Widths {
    input: usize,
    hidden: usize,
    proposed: usize,
    moments: usize,
}

impl Widths {
    fn new(shape: &LayerShape) -> Self {
        Self {
            input: shape.gate_rows(),
            hidden: shape.slot_width(),
            proposed: if shape.cell.has_cell_state() { shape.hidden } else { 0 },
            moments: 2 * sums(shape).count() + 1,
        }
    }
}

impl<E: Element> NormalisationMemory<E> {
    /// Makes room for `rows` rows and lends it; `None` if the layer is not normalised.
    pub(super) fn at_least(&mut self, shape: &LayerShape, rows: usize) -> Option<NormalisedRows<'_, E>> {
        if !shape.normalised {
            return None;
        }
        let widths = Widths::new(shape);
        if self.moments.len() < rows * widths.moments {
            self.moments.resize(rows * widths.moments, Moments::default());
        }
        Some(NormalisedRows {
            widths,
            input: Disjoint::new(self.input.at_least(rows * widths.input)),
            hidden: Disjoint::new(self.hidden.at_least(rows * widths.hidden)),
            proposed: Disjoint::new(self.proposed.at_least(rows * widths.proposed)),
            moments: Disjoint::new(&mut self.moments),
        })
    }

    /// What was kept of rows of a layer of that shape.
    pub(super) fn rows(&self, shape: &LayerShape) -> KeptRows<'_, E> {
        let widths = Widths::new(shape);
        KeptRows { input: &self.input, hidden: &self.hidden, proposed: &self.proposed, moments: &self.moments, widths }
    }

    /// The size of the arrays in bytes.
    pub fn bytes(&self) -> usize {
        let elements = self.input.len() + self.hidden.len() + self.proposed.len();
        elements * size_of::<E>() + self.moments.len() * size_of::<Moments<E>>()
    }
}

impl<'a, E: Element> NormalisedRows<'a, E> {
    /// Row `row`.
    ///
    /// # Safety
    /// Nothing else uses the row meanwhile.
    #[inline(always)]
    pub unsafe fn row(&self, row: usize) -> NormalisedRow<&'a mut [E], &'a mut [Moments<E>]> {
        let of = |width: usize| row * width..(row + 1) * width;
        // SAFETY: the caller guarantees that nothing else uses the row.
        unsafe {
            NormalisedRow {
                input: self.input.slice(of(self.widths.input)),
                hidden: self.hidden.slice(of(self.widths.hidden)),
                proposed: self.proposed.slice(of(self.widths.proposed)),
                moments: self.moments.slice(of(self.widths.moments)),
            }
        }
    }
}
