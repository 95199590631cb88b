//! Forward: all layers over one time segment, then over the next.

use core::ops::Range;

use throughline_kernels::Element;
use throughline_kernels::sequence::{self, ForwardPass, InitialStates, Inputs, Record};

use super::Recurrent;
use super::tape::{LayerMemory, RecurrentTape};
use crate::memory::one_for_each_thread;
use crate::module::{Call, Context};

impl Recurrent {
    /// Runs the stack over a batch.
    pub(super) fn run<E: Element>(&self, call: Call<'_, E, Self>, tape: &mut RecurrentTape<E>) {
        let (rows, output) = (call.rows, self.config.output());
        assert_eq!(
            call.x.len(),
            rows.rows() * self.config.input,
            "x is [N, {}], N = {}",
            self.config.input,
            rows.rows()
        );
        let keeps_tape = call.context.pass.keeps_tape();
        tape.taped = None;
        tape.prepare(self.config.layers);
        one_for_each_thread(&mut tape.scratch, &call.context.cpu.threads);
        tape.segments.cut(rows.steps(), keeps_tape);
        let count = tape.segments.count();
        if !keeps_tape {
            tape.layers.iter_mut().for_each(|memory| memory.tape.invalidate());
        }
        self.enter(call, count, &mut tape.layers);
        self.drop_weights(call, &mut tape.layers);
        let top = tape.layers.last_mut().expect("a stack has layers");
        top.y.at_least(rows.rows() * output);
        tape.output_dropped = self.dropout(self.config.layers - 1).of(call.context.pass).is_some();
        if tape.output_dropped {
            top.dropped.at_least(rows.rows() * output);
        }
        for segment in 0..count {
            self.run_segment(call, segment, keeps_tape && segment + 1 == count, tape);
        }
        tape.taped = keeps_tape.then_some(count - 1);
    }

    /// Packs the weights of the pass where it drops some.
    fn drop_weights<E: Element>(&self, call: Call<'_, E, Self>, layers: &mut [LayerMemory<E>]) {
        let Context { cpu, layout, parameters, pass } = call.context;
        for (layer, memory) in layers.iter_mut().enumerate() {
            if let Some(masks) = self.weight_masks(layer, pass) {
                let weights = self.weights(layer, layout, parameters);
                memory.weights.pack(cpu, self.config.shape(layer), masks, &weights[..self.config.directions()]);
            }
        }
    }

    /// Runs all layers over `segment`, from the states at its start to those at its end.
    pub(super) fn run_segment<E: Element>(
        &self,
        call: Call<'_, E, Self>,
        segment: usize,
        keeps_tape: bool,
        tape: &mut RecurrentTape<E>,
    ) {
        let Call { context, packed, rows: batch, x, .. } = call;
        let RecurrentTape { layers, segments, scratch, .. } = tape;
        let (window, rows) = segments.window(batch, segment);
        let ([states_h, states_c], output) = (self.state_lengths(batch), self.config.output());
        for layer in 0..self.config.layers {
            let (below, this) = layers.split_at_mut(layer);
            let input = self.input_of(call, below, x, &rows);
            let LayerMemory { tape, weights, y, dropped, h, c, restart_h, restart_c, .. } = &mut this[0];
            let (h_before, h_n) = h[segment * states_h..].split_at_mut(states_h);
            let (c_before, c_n) = c[segment * states_c..].split_at_mut(states_c);
            let is_top = layer + 1 == self.config.layers;
            let of_segment = if is_top { rows.start * output..rows.end * output } else { 0..rows.len() * output };
            y.at_least(of_segment.end);
            let y = &mut y[of_segment.clone()];
            let inputs = Inputs {
                layer: match self.weight_masks(layer, context.pass) {
                    Some(_) => weights.packed(),
                    None => &packed.layers[layer],
                },
                threads: &context.cpu.threads,
                batch: window,
                x: input,
                initial: InitialStates { h: h_before, c: c_before, restart_h, restart_c },
                regularisation: self.config.regularisation.of_steps(self.masks(layer, context.pass)),
                step_input: None,
            };
            let record = if keeps_tape { Record::Tape(tape) } else { Record::Nothing };
            let pass = ForwardPass { y: &mut *y, h_n: &mut h_n[..states_h], c_n: &mut c_n[..states_c], record };
            sequence::forward(&inputs, pass, scratch);
            let dropout = self.dropout(layer);
            if dropout.of(context.pass).is_some() {
                dropped.at_least(of_segment.end);
                let dropped = &mut dropped[of_segment];
                dropped.copy_from_slice(y);
                dropout.apply(context, batch, rows.start, output, dropped);
            }
        }
    }

    /// The input of the layer above `below` in the segment of packed rows `rows`: x, or the output of the layer below.
    pub(super) fn input_of<'a, E: Element>(
        &self,
        call: Call<'_, E, Self>,
        below: &'a [LayerMemory<E>],
        x: &'a [E],
        rows: &Range<usize>,
    ) -> &'a [E] {
        let width = self.config.shape(below.len()).input;
        match below.last() {
            None => &x[rows.start * width..rows.end * width],
            Some(layer) if self.dropout(below.len() - 1).of(call.context.pass).is_some() => {
                &layer.dropped[..rows.len() * width]
            }
            Some(layer) => &layer.y[..rows.len() * width],
        }
    }
}
