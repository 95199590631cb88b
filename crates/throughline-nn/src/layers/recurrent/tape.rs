//! The tape of a stack: what a pass keeps, and its working memory.

use alloc::vec::Vec;

use throughline_kernels::Element;
use throughline_kernels::buffer::Buffer;
use throughline_kernels::sequence::{RowGradients, Scratch, Tape};

use super::checkpointing::{Checkpointing, Segments};
use super::config::RecurrentConfig;
use super::weight_dropout::WeightDropout;
use crate::memory::{LastCall, OneRowEach};
use crate::module::TapeSetting;

/// The tape and working memory of a stack: outputs, gates, states. Grows to the largest batch;
/// [`checkpointing`](super::checkpointing) says how large it gets.
#[derive(Debug)]
pub struct RecurrentTape<E> {
    pub(super) last: LastCall,
    pub(super) layers: Vec<LayerMemory<E>>,
    pub(super) segments: Segments,
    /// The segment whose steps the tapes hold. `None` if backward cannot follow: the last pass kept no tape, or a panic
    /// ended it or the recomputation of a segment.
    pub(super) taped: Option<usize>,
    /// Whether the last pass applied dropout to the top layer's output, which is then in `dropped`, not `y`.
    pub(super) output_dropped: bool,
    /// With [`Readout::LastStates`](super::Readout): the batch of the output, one row for each sequence.
    pub(super) pooled_rows: OneRowEach,
    /// With [`Readout::LastStates`](super::Readout): the output.
    pub(super) features: Buffer<E>,
    pub(super) step_rows: OneRowEach,
    /// The gradient of the top layer's rows, where it is of penalties alone.
    pub(super) d_rows: Buffer<E>,
    /// The batch's share of an update, by which penalties are multiplied.
    pub(super) share: f64,
    /// The gradients of the outputs of two adjacent layers.
    pub(super) d_outputs: [Buffer<E>; 2],
    /// The gradients of a chunk of rows, shared by all layers unless each keeps its own.
    pub(super) row_gradients: RowGradients<E>,
    pub(super) keep_row_gradients: bool,
    keep_pre_activations: bool,
    pub(super) parameter_gradients: bool,
    pub(super) scratch: Vec<Scratch<E>>,
}

impl<E: Element> Default for RecurrentTape<E> {
    fn default() -> Self {
        Self {
            last: LastCall::default(),
            layers: Vec::new(),
            segments: Segments::default(),
            taped: None,
            output_dropped: false,
            pooled_rows: OneRowEach::default(),
            features: Buffer::default(),
            step_rows: OneRowEach::default(),
            d_rows: Buffer::default(),
            share: 1.0,
            d_outputs: Default::default(),
            row_gradients: RowGradients::default(),
            keep_row_gradients: false,
            keep_pre_activations: false,
            parameter_gradients: true,
            scratch: Vec::new(),
        }
    }
}

/// The memory of one layer. States are in column order.
#[derive(Debug, Default)]
pub(super) struct LayerMemory<E> {
    pub tape: Tape<E>,
    /// The weights of a pass that drops some; unused without dropout of weights.
    pub weights: WeightDropout<E>,
    /// The gradients at every row, if they are kept.
    pub row_gradients: RowGradients<E>,
    /// The output: of the top layer as long as the batch, of a layer below as long as a segment.
    pub y: Buffer<E>,
    /// `y` after dropout, which the layer above reads; unused without dropout.
    pub dropped: Buffer<E>,
    /// `[segments + 1, D, B, H]`: the states at the start of each segment, then the final ones.
    pub h: Buffer<E>,
    pub c: Buffer<E>,
    /// `[D, H]`
    pub restart_h: Buffer<E>,
    pub restart_c: Buffer<E>,
    /// `[D, B, H]`
    pub dh: Buffer<E>,
    pub dc: Buffer<E>,
    pub d_restart_h: Buffer<E>,
    pub d_restart_c: Buffer<E>,
}

impl<E: Element> RecurrentTape<E> {
    /// The first `count` numbers of the top layer's output in the last pass.
    pub(super) fn output(&self, count: usize) -> &[E] {
        let top = self.layers.last().expect("run a forward pass first");
        if self.output_dropped { &top.dropped[..count] } else { &top.y[..count] }
    }

    /// Makes memory for `layers` layers.
    pub(super) fn prepare(&mut self, layers: usize) {
        if self.layers.len() == layers {
            return;
        }
        self.layers.clear();
        self.layers.resize_with(layers, || LayerMemory {
            tape: if self.keep_pre_activations { Tape::with_pre_activations() } else { Tape::new() },
            row_gradients: if self.keep_row_gradients { RowGradients::of_every_row() } else { RowGradients::default() },
            ..LayerMemory::default()
        });
    }

    pub(super) fn set(&mut self, config: &RecurrentConfig, setting: TapeSetting) {
        const TOGETHER: &str =
            "checkpointing keeps no trace: turn it off to keep row gradients or pre-activations, or turn those off";
        match setting {
            TapeSetting::Checkpointing(checkpointing) => {
                let off = checkpointing == Checkpointing::Off;
                assert!(
                    off || !config.bidirectional,
                    "a bidirectional stack cannot use checkpointing, not {checkpointing:?}"
                );
                assert!(off || !(self.keep_row_gradients || self.keep_pre_activations), "{TOGETHER}");
                self.segments.checkpointing = checkpointing;
            }
            TapeSetting::KeepStateAfter(steps) => self.segments.extra_cut = steps,
            TapeSetting::Share(share) => self.share = share,
            TapeSetting::ParameterGradients(wanted) => self.parameter_gradients = wanted,
            TapeSetting::PreActivations(keep) => {
                assert!(!keep || self.segments.checkpointing == Checkpointing::Off, "{TOGETHER}");
                self.keep_pre_activations = keep;
                self.forget();
            }
            TapeSetting::RowGradients(keep) => {
                assert!(!keep || self.segments.checkpointing == Checkpointing::Off, "{TOGETHER}");
                self.keep_row_gradients = keep;
                self.forget();
            }
        }
    }

    /// Drops the layers' memory, so that the next pass makes it anew. Until then backward cannot follow.
    fn forget(&mut self) {
        self.layers.clear();
        self.taped = None;
        self.last.forget();
    }

    /// The tape of a layer in the last pass that kept one: every gate at every row. With [`Checkpointing`] it is that
    /// of the segment that ran last.
    ///
    /// # Panics
    /// If there is no such layer, or no pass has run.
    #[track_caller]
    pub fn layer(&self, layer: usize) -> &Tape<E> {
        &self.layers[layer].tape
    }

    /// The hidden state of packed row `row` of a layer in direction `direction` after the last pass, H values, before any
    /// dropout. With [`Checkpointing`], rows of the layers below the top one are those of the segment that ran last.
    ///
    /// # Panics
    /// If there is no such layer, direction or row, or no pass has run.
    pub fn hidden(&self, layer: usize, direction: usize, row: usize) -> &[E] {
        let LayerMemory { tape, y, .. } = &self.layers[layer];
        let shape = tape.shape();
        assert!(direction < shape.directions, "direction {direction} of {}", shape.directions);
        &y[row * shape.output() + direction * shape.hidden..][..shape.hidden]
    }

    /// The gradients of every gate's pre-activation at every row of a layer in the last backward pass; `None` unless
    /// [`TapeSetting::RowGradients`] is on.
    ///
    /// # Panics
    /// If there is no such layer, or no pass has run.
    pub fn row_gradients(&self, layer: usize) -> Option<&RowGradients<E>> {
        self.keep_row_gradients.then_some(&self.layers[layer].row_gradients)
    }
}
