//! The states of a stack: conversion between the caller's order and the columns of a batch, given and learned initial
//! states, and states in mid-sequence.

use throughline_kernels::Element;
use throughline_kernels::sequence::Ragged;

use super::tape::{LayerMemory, RecurrentTape};
use super::{Recurrent, RecurrentConfig};
use crate::module::{Call, Context, Layer};
use crate::parameters::{Layout, TensorId};
use crate::state::{Start, StateArray};

/// A hidden or a cell state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Hidden,
    Cell,
}

impl Recurrent {
    /// How many numbers the hidden states and the cell states of a layer have, all directions and sequences together.
    pub(super) fn state_lengths(&self, batch: &Ragged) -> [usize; 2] {
        let states = self.config.output() * batch.batch();
        [states, if self.config.cell.has_cell_state() { states } else { 0 }]
    }

    /// Panics unless `arrays` are the arrays of this stack for `sequences` sequences.
    pub(super) fn assert_fits<E: Element>(&self, what: &str, arrays: &[StateArray<E>], sequences: usize) {
        let (name, hidden) = (&self.name, self.config.hidden);
        assert_eq!(arrays.len(), self.state_count(), "{what} does not have the arrays of the stack `{name}`");
        for array in arrays {
            let found = (array.values().len() / array.width().max(1), array.width());
            assert_eq!(found, (sequences, hidden), "{what} of the stack `{name}`: {} is [B, H]", array.name());
        }
    }

    /// The indices of a layer's arrays, one for each direction.
    fn arrays_of(&self, layer: usize, kind: Kind) -> core::ops::Range<usize> {
        let RecurrentConfig { layers, .. } = self.config;
        let directions = self.config.directions();
        let first = if kind == Kind::Hidden { 0 } else { layers * directions };
        first + layer * directions..first + (layer + 1) * directions
    }

    fn kinds(&self) -> &'static [Kind] {
        if self.config.cell.has_cell_state() { &[Kind::Hidden, Kind::Cell] } else { &[Kind::Hidden] }
    }

    /// Writes the states that the layers start from, given or initial, and allocates those after each of `segments`
    /// segments.
    pub(super) fn enter<E: Element>(&self, call: Call<'_, E, Self>, segments: usize, layers: &mut [LayerMemory<E>]) {
        let [states, _] = self.state_lengths(call.rows);
        if let Some(start) = call.start {
            assert_eq!(start.begun.len(), call.rows.batch(), "the start must have one entry for each sequence");
            self.assert_fits("the state at the start", start.arrays, call.rows.batch());
        }
        for (layer, memory) in layers.iter_mut().enumerate() {
            for &kind in self.kinds() {
                let (states_of, restart) = match kind {
                    Kind::Hidden => (&mut memory.h, &mut memory.restart_h),
                    Kind::Cell => (&mut memory.c, &mut memory.restart_c),
                };
                let restart = restart.at_least(self.config.output());
                self.initial_states(call.context, layer, kind, restart);
                let columns = &mut states_of.at_least((segments + 1) * states)[..states];
                let start =
                    call.start.map(|start| Start { arrays: &start.arrays[self.arrays_of(layer, kind)], ..start });
                self.fill_entries(call.rows, start, restart, columns);
            }
        }
    }

    /// Writes the initial state of one layer, zero or learned, `[D, H]`.
    fn initial_states<E: Element>(&self, context: Context<'_, E>, layer: usize, kind: Kind, to: &mut [E]) {
        for (ids, to) in self.ids[layer].iter().zip(to.chunks_mut(self.config.hidden)) {
            match if kind == Kind::Hidden { ids.initial_h } else { ids.initial_c } {
                Some(id) => to.copy_from_slice(context.layout.view(context.parameters, id)),
                None => to.fill(E::ZERO),
            }
        }
    }

    /// Writes the states that sequences start from, `[D, B, H]` in column order: the given state of a sequence that has
    /// begun, otherwise the initial one.
    fn fill_entries<E: Element>(&self, batch: &Ragged, start: Option<Start<'_, E>>, initial: &[E], columns: &mut [E]) {
        let hidden = self.config.hidden;
        for direction in 0..self.config.directions() {
            for (column, &sequence) in batch.order().iter().enumerate() {
                let from = match &start {
                    Some(start) if start.begun[sequence] => start.arrays[direction].of(sequence),
                    _ => &initial[direction * hidden..][..hidden],
                };
                columns[(direction * batch.batch() + column) * hidden..][..hidden].copy_from_slice(from);
            }
        }
    }

    /// Writes the gradients of the layers' final states: those given, or 0.
    pub(super) fn leave<E: Element>(
        &self,
        batch: &Ragged,
        d_end: Option<&[StateArray<E>]>,
        layers: &mut [LayerMemory<E>],
    ) {
        let [states, _] = self.state_lengths(batch);
        for (layer, memory) in layers.iter_mut().enumerate() {
            for &kind in self.kinds() {
                let d = if kind == Kind::Hidden { &mut memory.dh } else { &mut memory.dc };
                let d = d.at_least(states);
                match d_end {
                    Some(d_end) => self.columns_from(batch, &d_end[self.arrays_of(layer, kind)], d),
                    None => d.fill(E::ZERO),
                }
            }
        }
    }

    /// Copies the arrays of one layer, one for each direction, into column order `[D, B, H]`.
    fn columns_from<E: Element>(&self, batch: &Ragged, arrays: &[StateArray<E>], columns: &mut [E]) {
        let hidden = self.config.hidden;
        for (array, columns) in arrays.iter().zip(columns.chunks_mut((batch.batch() * hidden).max(1))) {
            for (column, &sequence) in batch.order().iter().enumerate() {
                columns[column * hidden..][..hidden].copy_from_slice(array.of(sequence));
            }
        }
    }

    /// The inverse of [`columns_from`](Self::columns_from).
    fn columns_to<E: Element>(&self, batch: &Ragged, columns: &[E], arrays: &mut [StateArray<E>]) {
        let hidden = self.config.hidden;
        for (direction, array) in arrays.iter_mut().enumerate() {
            let columns = &columns[direction * batch.batch() * hidden..];
            for (column, &sequence) in batch.order().iter().enumerate() {
                array.values_mut()[sequence * hidden..][..hidden]
                    .copy_from_slice(&columns[column * hidden..][..hidden]);
            }
        }
    }

    /// Writes the states at the start of `segment` to `state`; for the number of segments, the final states.
    pub(super) fn kept_states<E: Element>(
        &self,
        batch: &Ragged,
        segment: usize,
        tape: &RecurrentTape<E>,
        state: &mut [StateArray<E>],
    ) {
        let [states, _] = self.state_lengths(batch);
        for (layer, memory) in tape.layers.iter().enumerate() {
            for &kind in self.kinds() {
                let kept = if kind == Kind::Hidden { &memory.h } else { &memory.c };
                self.columns_to(batch, &kept[segment * states..], &mut state[self.arrays_of(layer, kind)]);
            }
        }
    }

    /// Writes the states after `steps` steps of the last pass, which kept a tape, to `state`; 0 gives those it started
    /// from.
    pub(super) fn states_in_sequence<E: Element>(
        &self,
        batch: &Ragged,
        steps: usize,
        tape: &RecurrentTape<E>,
        state: &mut [StateArray<E>],
    ) {
        assert!(!self.config.bidirectional, "a bidirectional stack has no state in mid-sequence");
        assert!(
            tape.taped.is_some(),
            "the last pass kept no tape, and so no state in mid-sequence: run one that keeps a tape"
        );
        let read = if steps == 0 { Some(batch.batch()) } else { batch.batch_sizes().get(steps - 1).copied() };
        assert_eq!(read, Some(batch.batch()), "not every sequence has {steps} steps");
        if let Some(segment) = tape.segments.beginning_at(steps) {
            self.kept_states(batch, segment, tape, state);
            return;
        }
        let count = tape.segments.count();
        assert_eq!(
            count, 1,
            "the states after {steps} steps were not kept: set `KeepStateAfter` before the forward pass"
        );
        let hidden = self.config.hidden;
        for (layer, memory) in tape.layers.iter().enumerate() {
            for (column, &sequence) in batch.order().iter().enumerate() {
                let (row, to) = (batch.row(steps - 1, column), sequence * hidden..(sequence + 1) * hidden);
                let h = &mut state[self.arrays_of(layer, Kind::Hidden).start];
                h.values_mut()[to.clone()].copy_from_slice(&memory.y[row * hidden..][..hidden]);
                if let Some(c) = memory.tape.cell_state(0, row) {
                    state[self.arrays_of(layer, Kind::Cell).start].values_mut()[to].copy_from_slice(c);
                }
            }
        }
    }

    /// Writes the final states of the top layer to the tape's features, `[B, D·H]` in the caller's order.
    pub(super) fn read_last_states<E: Element>(&self, batch: &Ragged, tape: &mut RecurrentTape<E>) {
        let ([states, _], output) = (self.state_lengths(batch), self.config.output());
        let RecurrentTape { layers, segments, pooled_rows, features, .. } = tape;
        pooled_rows.of(batch.batch());
        let top = layers.last().expect("a stack has layers");
        let h = &top.h[segments.count() * states..];
        let features = features.at_least(batch.batch() * output);
        self.for_each_last_state(batch, |column, feature| features[feature].copy_from_slice(&h[column]));
    }

    /// The transpose of [`read_last_states`](Self::read_last_states): adds `d_features` to the gradients of the final
    /// states where these were `given`, and overwrites them otherwise.
    pub(super) fn receive_last_states_gradient<E: Element>(
        &self,
        batch: &Ragged,
        d_features: &[E],
        given: bool,
        layers: &mut [LayerMemory<E>],
    ) {
        let top = layers.last_mut().expect("a stack has layers");
        self.for_each_last_state(batch, |column, feature| {
            for (dh, d_feature) in top.dh[column].iter_mut().zip(&d_features[feature]) {
                *dh = if given { *dh + *d_feature } else { *d_feature };
            }
        });
    }

    /// Calls `visit` for each final state of the top layer, with its range in `[D, B, H]`, column order, and in
    /// `[B, D·H]`.
    fn for_each_last_state(
        &self,
        batch: &Ragged,
        mut visit: impl FnMut(core::ops::Range<usize>, core::ops::Range<usize>),
    ) {
        let (hidden, directions) = (self.config.hidden, self.config.directions());
        for direction in 0..directions {
            for (column, &sequence) in batch.order().iter().enumerate() {
                let state = (direction * batch.batch() + column) * hidden;
                let feature = (sequence * directions + direction) * hidden;
                visit(state..state + hidden, feature..feature + hidden);
            }
        }
    }

    /// Writes the gradients of the states that the pass started from; 0 for given states of sequences that had not
    /// begun.
    pub(super) fn start_gradients<E: Element>(
        &self,
        batch: &Ragged,
        start: Option<Start<'_, E>>,
        tape: &RecurrentTape<E>,
        d_start: &mut [StateArray<E>],
    ) {
        for (layer, memory) in tape.layers.iter().enumerate() {
            for &kind in self.kinds() {
                let d = if kind == Kind::Hidden { &memory.dh } else { &memory.dc };
                self.columns_to(batch, d, &mut d_start[self.arrays_of(layer, kind)]);
            }
        }
        let Some(start) = start else { return };
        for array in d_start {
            let rows = array.values_mut().chunks_mut(self.config.hidden);
            rows.zip(start.begun).filter(|(_, begun)| !**begun).for_each(|(d, _)| d.fill(E::ZERO));
        }
    }

    /// Adds to the gradient of a learned initial state those of every sequence that started from it and of every
    /// boundary. `given` tells whether a sequence started from a given state instead.
    pub(super) fn learn_initial_states<E: Element>(
        &self,
        layout: &Layout,
        layer: usize,
        batch: &Ragged,
        given: impl Fn(usize) -> bool,
        [dh, dc, d_restart_h, d_restart_c]: [&[E]; 4],
        gradients: &mut [E],
    ) {
        let hidden = self.config.hidden;
        let width = batch.batch() * hidden;
        let mut add = |id: TensorId, direction: usize, entries: &[E], restarts: &[E]| {
            let gradient = layout.view_mut(gradients, id);
            let mut add = |state: &[E]| gradient.iter_mut().zip(state).for_each(|(sum, x)| *sum = *sum + *x);
            for (&sequence, state) in batch.order().iter().zip(entries[direction * width..].chunks(hidden)) {
                if !given(sequence) {
                    add(state);
                }
            }
            let restarts = restarts.get(direction * width..(direction + 1) * width).unwrap_or(&[]);
            restarts.chunks(hidden).for_each(add);
        };
        for (direction, ids) in self.ids[layer].iter().enumerate() {
            ids.initial_h.into_iter().for_each(|id| add(id, direction, dh, d_restart_h));
            ids.initial_c.into_iter().for_each(|id| add(id, direction, dc, d_restart_c));
        }
    }
}
