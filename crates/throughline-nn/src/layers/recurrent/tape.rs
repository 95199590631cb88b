//! What a pass of a stack keeps, and the memory it needs.

use alloc::vec::Vec;

use throughline_kernels::Element;
use throughline_kernels::buffer::Buffer;
use throughline_kernels::sequence::{RowGradients, Scratch, Tape};

use super::checkpointing::{Checkpointing, Segments};
use super::config::RecurrentConfig;
use crate::memory::{LastCall, OneRowEach};
use crate::module::TapeSetting;

/// Memory of a stack for one caller: outputs, tapes, states. Grows to what the largest batch needed; how much that is stands
/// in [`checkpointing`](super::checkpointing).
#[derive(Debug)]
pub struct RecurrentTape<E> {
    pub(super) last: LastCall,
    pub(super) layers: Vec<LayerMemory<E>>,
    pub(super) segments: Segments,
    /// The segment that the tapes are of. `None` where there is nothing to go back through: before a forward pass that
    /// keeps a tape, and where a panic has ended one, or its repetition, half-way.
    pub(super) taped: Option<usize>,
    /// Whether the last pass dropped some of the top layer's output: the output is then `dropped`, not `y`.
    pub(super) output_dropped: bool,
    /// The last states of every sequence, where the stack hands those on, as a batch of one step.
    pub(super) pooled_rows: OneRowEach,
    pub(super) features: Buffer<E>,
    pub(super) step_rows: OneRowEach,
    /// Gradients of the outputs of two neighbouring layers.
    pub(super) d_outputs: [Buffer<E>; 2],
    /// Memory for the gradients of a chunk of rows, unless every layer keeps those of its own.
    pub(super) row_gradients: RowGradients<E>,
    pub(super) keep_row_gradients: bool,
    keep_pre_activations: bool,
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
            d_outputs: Default::default(),
            row_gradients: RowGradients::default(),
            keep_row_gradients: false,
            keep_pre_activations: false,
            scratch: Vec::new(),
        }
    }
}

/// Memory of one layer; states are in column order.
#[derive(Debug, Default)]
pub(super) struct LayerMemory<E> {
    pub tape: Tape<E>,
    /// The gradients of every row, where they are kept.
    pub row_gradients: RowGradients<E>,
    /// The top layer's is as long as the batch, that of a layer below as long as a segment.
    pub y: Buffer<E>,
    /// y with some of it dropped, what the layer above reads; unused without dropout.
    pub dropped: Buffer<E>,
    /// `[segments + 1, D, B, H]`: the states at the start of every segment, then the last ones.
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
    /// What the top layer handed on at the first rows of the last pass, `count` numbers.
    pub(super) fn output(&self, count: usize) -> &[E] {
        let top = self.layers.last().expect("run a forward pass first");
        if self.output_dropped { &top.dropped[..count] } else { &top.y[..count] }
    }

    /// Memory for `layers` layers.
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
        const TOGETHER: &str = "checkpointing keeps no trace: row gradients and pre-activations need it off";
        match setting {
            TapeSetting::Checkpointing(checkpointing) => {
                let off = checkpointing == Checkpointing::Off;
                assert!(
                    off || !config.bidirectional,
                    "a stack that reads in both directions has no checkpointing, not {checkpointing:?}"
                );
                assert!(off || !(self.keep_row_gradients || self.keep_pre_activations), "{TOGETHER}");
                self.segments.checkpointing = checkpointing;
            }
            TapeSetting::KeepStateAfter(steps) => self.segments.extra_cut = steps,
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

    /// The next pass makes the layers' memory anew; until then there is nothing to go back through.
    fn forget(&mut self) {
        self.layers.clear();
        self.taped = None;
        self.last.forget();
    }

    /// The tape of a layer, of the last pass that kept one: every gate of every row. With [`Checkpointing`] it is of the
    /// segment that ran last.
    ///
    /// # Panics
    /// If there is no such layer, or no pass has run.
    #[track_caller]
    pub fn layer(&self, layer: usize) -> &Tape<E> {
        &self.layers[layer].tape
    }

    /// The gradients of every gate's pre-activation at every row of a layer, of the last backward pass, if
    /// [`TapeSetting::RowGradients`] is on.
    ///
    /// # Panics
    /// If there is no such layer, or no pass has run.
    pub fn row_gradients(&self, layer: usize) -> Option<&RowGradients<E>> {
        self.keep_row_gradients.then_some(&self.layers[layer].row_gradients)
    }
}
