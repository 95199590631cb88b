//! Backward: backpropagation through time, from the last segment to the first, and in each from the top layer down.

use throughline_kernels::Element;
use throughline_kernels::sequence::{
    self, BackwardPass, BackwardStates, InitialStates, Inputs, LayerGradients, NormalisationGradients,
};

use super::tape::{LayerMemory, RecurrentTape};
use super::weight_dropout;
use super::{DirectionIds, Readout, Recurrent};
use crate::module::{Call, Gradients};
use crate::parameters::{Layout, TensorId};

impl Recurrent {
    /// Backpropagates through the last pass.
    pub(super) fn backpropagate<E: Element>(
        &self,
        call: Call<'_, E, Self>,
        gradients: Gradients<'_, E>,
        tape: &mut RecurrentTape<E>,
    ) {
        let Gradients { mut dy, d_end, mut dx, d_start, parameters } = gradients;
        let (batch, output) = (call.rows, self.config.output());
        let rows = batch.rows();
        tape.last.assert_was(call);
        // A panic while a segment was recomputed leaves no tape.
        assert!(tape.taped.is_some(), "the tape is incomplete: run forward on this batch first");
        for (what, arrays) in
            [("the gradient of the final state", d_end), ("the gradient of the start", d_start.as_deref())]
        {
            arrays.into_iter().for_each(|arrays| self.assert_fits(what, arrays, batch.batch()));
        }
        assert!(dx.as_ref().is_none_or(|dx| dx.len() == rows * self.config.input), "dx is [N, I]");
        self.leave(batch, d_end, &mut tape.layers);
        match self.readout {
            Readout::Rows => assert!(dy.as_ref().is_none_or(|dy| dy.len() == rows * output), "dy is [N, D·H]"),
            Readout::LastStates => {
                if let Some(d_features) = dy.take() {
                    assert_eq!(d_features.len(), batch.batch() * output, "dy is [B, D·H]");
                    self.output_dropout.apply(call.context, tape.pooled_rows.rows(), 0, output, d_features);
                    self.receive_last_states_gradient(batch, d_features, d_end.is_some(), &mut tape.layers);
                }
            }
        }
        let mut d_rows = core::mem::take(&mut tape.d_rows);
        let mut dy = self.row_gradient(call, dy, &mut d_rows);
        if let Some(dy) = &mut dy {
            self.leave_dropout_and_penalties(call, tape, dy);
        }
        for segment in (0..tape.segments.count()).rev() {
            if tape.taped != Some(segment) {
                tape.taped = None;
                self.run_segment(call, segment, true, tape);
                tape.taped = Some(segment);
            }
            let gradients = SegmentGradients { dy: dy.as_deref(), dx: dx.as_deref_mut(), parameters: &mut *parameters };
            self.backpropagate_segment(call, segment, gradients, tape);
        }
        tape.d_rows = d_rows;
        if let Some(d_start) = d_start {
            self.start_gradients(batch, call.start, tape, d_start);
        }
    }

    /// Backpropagates through all layers over `segment`, whose steps the tapes hold.
    fn backpropagate_segment<E: Element>(
        &self,
        call: Call<'_, E, Self>,
        segment: usize,
        gradients: SegmentGradients<'_, E>,
        tape: &mut RecurrentTape<E>,
    ) {
        let Call { context, packed, rows: batch, x, start } = call;
        let SegmentGradients { dy, mut dx, parameters } = gradients;
        let RecurrentTape {
            layers,
            segments,
            row_gradients,
            keep_row_gradients,
            parameter_gradients: learns,
            d_outputs,
            scratch,
            ..
        } = tape;
        let (window, rows) = segments.window(batch, segment);
        let ([states_h, states_c], output) = (self.state_lengths(batch), self.config.output());
        let [restarts_h, restarts_c] = if window.restarts() > 0 { [states_h, states_c] } else { [0; 2] };
        // A later segment starts from the final states of the one before.
        let given = |sequence: usize| segment > 0 || start.is_some_and(|start| start.begun[sequence]);
        for layer in (0..self.config.layers).rev() {
            let (below, this) = layers.split_at_mut(layer);
            let input = self.input_of(call, below, x, &rows);
            let LayerMemory {
                tape,
                weights,
                row_gradients: every_row,
                y,
                h,
                c,
                restart_h,
                restart_c,
                dh,
                dc,
                d_restart_h,
                d_restart_c,
                ..
            } = &mut this[0];
            let (dh, dc) = (&mut dh[..states_h], &mut dc[..states_c]);
            let (d_restart_h, d_restart_c) = (d_restart_h.at_least(restarts_h), d_restart_c.at_least(restarts_c));
            let [even, odd] = &mut *d_outputs;
            let (from, to) = if layer.is_multiple_of(2) { (odd, even) } else { (even, odd) };
            let of_segment = rows.start * output..rows.end * output;
            let (y, dy) = if layer + 1 == self.config.layers {
                (&y[of_segment.clone()], dy.map(|dy| &dy[of_segment]))
            } else {
                (&y[..rows.len() * output], Some(&from[..rows.len() * output]))
            };
            let width = self.config.shape(layer).input;
            let dx = if layer == 0 {
                dx.as_deref_mut().map(|dx| &mut dx[rows.start * width..rows.end * width])
            } else {
                Some(to.at_least(rows.len() * width))
            };
            let mut gradients = self.layer_gradients(context.layout, layer, parameters);
            let weight_masks = self.weight_masks(layer, context.pass);
            let (weights, dropped) = match weight_masks {
                Some(_) => weights.split(),
                None => (&packed.layers[layer], &mut [][..]),
            };
            let inputs = Inputs {
                layer: weights,
                threads: &context.cpu.threads,
                batch: window,
                x: input,
                initial: InitialStates {
                    h: &h[segment * states_h..][..states_h],
                    c: &c[segment * states_c..][..states_c],
                    restart_h,
                    restart_c,
                },
                regularisation: self.config.regularisation.of_steps(self.masks(layer, context.pass)),
                step_input: None,
            };
            let states = BackwardStates {
                dh: &mut *dh,
                dc: &mut *dc,
                restart_h: &mut *d_restart_h,
                restart_c: &mut *d_restart_c,
            };
            let row_gradients = if *keep_row_gradients { every_row } else { &mut *row_gradients };
            let directions = if *learns { self.config.directions() } else { 0 };
            {
                let gradients = &mut weight_dropout::received(&mut gradients, dropped)[..directions];
                let pass = BackwardPass { y, tape, dy, states, dx, gradients, row_gradients };
                sequence::backward(&inputs, pass, scratch);
            }
            if let (Some(masks), true) = (weight_masks, *learns) {
                masks.add_gradients(context.cpu, dropped, &mut gradients[..directions], self.config.hidden);
            }
            let states = [&*dh, &*dc, &*d_restart_h, &*d_restart_c];
            if *learns {
                self.learn_initial_states(context.layout, layer, batch, given, states, parameters);
            }
            if layer > 0 {
                let to = &mut to[..rows.len() * width];
                self.dropout(layer - 1).apply(context, batch, rows.start, width, to);
            }
        }
    }

    /// The gradients of the weights of `layer`, for each direction.
    fn layer_gradients<'a, E: Element>(
        &self,
        layout: &Layout,
        layer: usize,
        gradients: &'a mut [E],
    ) -> [LayerGradients<'a, E>; 2] {
        let mut rest = gradients;
        let mut before = 0;
        let mut take = |id: TensorId| -> &'a mut [E] {
            let range = layout.tensor(id).range();
            let (_, from) = core::mem::take(&mut rest).split_at_mut(range.start - before);
            let (view, after) = from.split_at_mut(range.len());
            rest = after;
            before = range.end;
            view
        };
        // The tensors of a layer were added in this order, so their ranges ascend.
        let of_direction = |ids: &DirectionIds| {
            let [weight_ih, weight_hh] = ids.weights.map(&mut take);
            let [bias_ih, bias_hh] = match ids.biases {
                Some(biases) => biases.map(&mut take),
                None => [&mut [][..], &mut [][..]],
            };
            let normalisation = ids.normalisation.map(|ids| {
                let [input, hidden] = ids.weights.map(&mut take);
                let [cell, cell_bias] = match ids.cell {
                    Some(cell) => cell.map(&mut take),
                    None => [&mut [][..], &mut [][..]],
                };
                NormalisationGradients { input, hidden, cell, cell_bias }
            });
            LayerGradients { weight_ih, weight_hh, bias_ih, bias_hh, normalisation }
        };
        let mut directions = self.ids[layer].iter().map(of_direction);
        let nothing = || LayerGradients {
            weight_ih: &mut [],
            weight_hh: &mut [],
            bias_ih: &mut [],
            bias_hh: &mut [],
            normalisation: None,
        };
        core::array::from_fn(|_| directions.next().unwrap_or_else(nothing))
    }
}

/// What the backward pass of a segment reads and writes; `dy` and `dx` have the rows of the whole batch.
struct SegmentGradients<'a, E> {
    dy: Option<&'a [E]>,
    dx: Option<&'a mut [E]>,
    parameters: &'a mut [E],
}
