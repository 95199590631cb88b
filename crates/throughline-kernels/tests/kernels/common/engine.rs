//! The engine's solution of a problem.

use throughline_kernels::sequence::{
    BackwardPass, BackwardStates, ForwardPass, InitialStates, Inputs, LayerGradients, PackedLayer, Plan, Ragged,
    Record, RowGradients, Scratch, StepInput, Tape, backward, forward,
};
use throughline_kernels::threads::Threads;
use throughline_kernels::{Element, Isa};

use super::{Parameters, Problem, Sequence};

/// The forward results of one sequence.
#[derive(Clone, Debug)]
pub struct Outcome<E> {
    /// `[T, D·H]`
    pub y: Vec<E>,
    /// `[D, H]`
    pub h_n: Vec<E>,
    /// `[D, H]`, or empty.
    pub c_n: Vec<E>,
}

/// The forward and backward results of one sequence.
#[derive(Clone, Debug)]
pub struct SequenceSolution<E> {
    pub outcome: Outcome<E>,
    /// `[D, T, S·H]`: the tape.
    pub slots: Vec<E>,
    /// `[D, T, H]`: the cell states on the tape, or empty.
    pub c: Vec<E>,
    /// `[D, T, S·H]`: gradients of the gates' pre-activations; like those below, empty where the problem is `chunked`.
    pub d_slots: Vec<E>,
    /// `[D, T, H]`: the whole gradients of the hidden states.
    pub d_h: Vec<E>,
    /// `[D, T, H]`, or empty: those of the cell states.
    pub d_c: Vec<E>,
    /// `[D, T, M]`: what a step input left in its memory.
    pub step_memory: Vec<E>,
    /// `[D, T, H]`: the state before each step, if there is a step input.
    pub h_previous: Vec<E>,
    /// `[T, I]`
    pub dx: Vec<E>,
    /// `[D, H]`
    pub dh0: Vec<E>,
    /// `[D, H]`, or empty.
    pub dc0: Vec<E>,
    /// `[D, H]`: the gradient of the restart state from the sequence's boundaries.
    pub restart_h: Vec<E>,
    /// `[D, H]`, or empty.
    pub restart_c: Vec<E>,
}

impl<E> SequenceSolution<E> {
    /// All that must not depend on what else is in the batch, nor on where the sequence is cut.
    pub fn tensors(&self) -> [(&'static str, &[E]); 13] {
        [
            ("y", &self.outcome.y),
            ("h_n", &self.outcome.h_n),
            ("c_n", &self.outcome.c_n),
            ("slots", &self.slots),
            ("c", &self.c),
            ("d_slots", &self.d_slots),
            ("d_h", &self.d_h),
            ("d_c", &self.d_c),
            ("step_memory", &self.step_memory),
            ("h_previous", &self.h_previous),
            ("dx", &self.dx),
            ("dh0", &self.dh0),
            ("dc0", &self.dc0),
        ]
    }
}

/// The results of a batch.
#[derive(Clone, Debug)]
pub struct Solution<E> {
    pub sequences: Vec<SequenceSolution<E>>,
    /// Gradients of the parameters, one for each direction.
    pub gradients: Vec<Parameters<E>>,
}

impl<E: Element> Problem<E> {
    pub fn packed_layer(&self, isa: Isa, threads: &Threads, backward: bool) -> PackedLayer<E> {
        let mut layer = PackedLayer::new(self.shape, isa, backward);
        let weights: Vec<_> = self.parameters.iter().map(Parameters::weights).collect();
        layer.pack(threads, &weights);
        layer.force(self.split.map(|split| Plan { workers: threads.count(), split, cycles: 0.0 }));
        layer
    }

    /// `[N, F]` of a field `[T, F]` of every sequence.
    fn pack_rows(&self, batch: &Ragged, features: usize, field: impl Fn(&Sequence<E>) -> &[E]) -> Vec<E> {
        let mut packed = vec![E::ZERO; batch.rows() * features];
        batch.for_each_row(|row, sequence, t| {
            let from = &field(&self.sequences[sequence])[t * features..][..features];
            packed[row * features..][..features].copy_from_slice(from);
        });
        packed
    }

    /// `[D, B, H]` in column order of a field `[D, H]` of every sequence; empty where the field is.
    fn pack_states(&self, batch: &Ragged, field: impl Fn(&Sequence<E>) -> &[E]) -> Vec<E> {
        let hidden = self.shape.hidden;
        let mut packed = Vec::new();
        for direction in 0..self.shape.directions {
            for &sequence in batch.order() {
                let state = field(&self.sequences[sequence]);
                packed.extend(state.iter().skip(direction * hidden).take(hidden));
            }
        }
        packed
    }

    fn initial<'a>(&'a self, (h, c): &'a (Vec<E>, Vec<E>)) -> InitialStates<'a, E> {
        InitialStates { h, c, restart_h: &self.restart_h, restart_c: &self.restart_c }
    }

    fn outcomes(&self, batch: &Ragged, y: &[E], h_n: &[E], c_n: &[E]) -> Vec<Outcome<E>> {
        let y = unpack_rows(batch, y, self.shape.output());
        let (h_n, c_n) = (self.unpack_states(batch, h_n), self.unpack_states(batch, c_n));
        let states = h_n.into_iter().zip(c_n);
        y.into_iter().zip(states).map(|(y, (h_n, c_n))| Outcome { y, h_n, c_n }).collect()
    }

    /// `[D, H]` of every sequence from `[D, B, H]` in column order, or nothing from nothing.
    fn unpack_states(&self, batch: &Ragged, packed: &[E]) -> Vec<Vec<E>> {
        let hidden = self.shape.hidden;
        let mut states = vec![Vec::new(); batch.batch()];
        for (place, state) in packed.chunks(hidden).enumerate() {
            states[batch.order()[place % batch.batch()]].extend_from_slice(state);
        }
        states
    }

    /// Forward only, without a tape.
    pub fn forward(&self, isa: Isa, threads: &Threads, hook: Option<&dyn StepInput<E>>) -> Vec<Outcome<E>> {
        let layer = self.packed_layer(isa, threads, false);
        let batch = self.batch();
        let x = self.pack_rows(&batch, self.shape.input, |s| &s.x);
        let states = (self.pack_states(&batch, |s| &s.h0), self.pack_states(&batch, |s| &s.c0));
        let mut y = dirty(batch.rows() * self.shape.output());
        let (mut h_n, mut c_n) = (dirty(states.0.len()), dirty(states.1.len()));
        let initial = self.initial(&states);
        let inputs = Inputs {
            layer: &layer,
            threads,
            batch: &batch,
            x: &x,
            initial,
            regularisation: self.regularisation,
            step_input: hook,
        };
        let pass = ForwardPass { y: &mut y, h_n: &mut h_n, c_n: &mut c_n, record: Record::Nothing };
        forward(&inputs, pass, &mut Scratch::for_threads(threads));
        self.outcomes(&batch, &y, &h_n, &c_n)
    }

    /// Forward and backward.
    pub fn solve(&self, isa: Isa, threads: &Threads, hook: Option<&dyn StepInput<E>>) -> Solution<E> {
        let zeros = Parameters::zeros(&self.shape, self.has_bias());
        let mut gradients = vec![zeros; self.shape.directions];
        let sequences = self.solve_into(&mut gradients, isa, threads, hook);
        Solution { sequences, gradients }
    }

    /// Forward and backward; the gradients of the parameters are added to `gradients`.
    pub fn solve_into(
        &self,
        gradients: &mut [Parameters<E>],
        isa: Isa,
        threads: &Threads,
        hook: Option<&dyn StepInput<E>>,
    ) -> Vec<SequenceSolution<E>> {
        let shape = self.shape;
        let layer = self.packed_layer(isa, threads, true);
        let batch = self.batch();
        let x = self.pack_rows(&batch, shape.input, |s| &s.x);
        let states = (self.pack_states(&batch, |s| &s.h0), self.pack_states(&batch, |s| &s.c0));
        let initial = self.initial(&states);
        let mut y = dirty(batch.rows() * shape.output());
        let (mut h_n, mut c_n) = (dirty(states.0.len()), dirty(states.1.len()));
        let mut tape = Tape::new();
        let scratch = &mut Scratch::for_threads(threads);
        let inputs = Inputs {
            layer: &layer,
            threads,
            batch: &batch,
            x: &x,
            initial,
            regularisation: self.regularisation,
            step_input: hook,
        };
        let pass = ForwardPass { y: &mut y, h_n: &mut h_n, c_n: &mut c_n, record: Record::Tape(&mut tape) };
        forward(&inputs, pass, scratch);

        for direction in 0..if hook.is_some() { shape.directions } else { 0 } {
            batch.for_each_row(|row, sequence, t| {
                let memory = tape.step_memory_mut(direction, row);
                for (j, d_yield) in memory.iter_mut().enumerate() {
                    *d_yield = E::from_f64(yield_weight(direction, sequence, t, j));
                }
            });
        }
        let has_dy = self.sequences.iter().any(|s| !s.dy.is_empty());
        let dy = has_dy.then(|| self.pack_rows(&batch, shape.output(), |s| &s.dy));
        let (mut dh, mut dc) = (self.pack_states(&batch, |s| &s.dh_n), self.pack_states(&batch, |s| &s.dc_n));
        let (mut restart_h, mut restart_c) = (dirty(states.0.len()), dirty(states.1.len()));
        let mut dx = dirty(x.len());
        let mut row_gradients = if self.chunked { RowGradients::default() } else { RowGradients::of_every_row() };
        let mut layer_gradients: Vec<LayerGradients<'_, E>> = gradients.iter_mut().map(Parameters::gradients).collect();
        let pass = BackwardPass {
            y: &y,
            tape: &mut tape,
            dy: dy.as_deref(),
            states: BackwardStates { dh: &mut dh, dc: &mut dc, restart_h: &mut restart_h, restart_c: &mut restart_c },
            dx: Some(&mut dx),
            gradients: &mut layer_gradients,
            row_gradients: &mut row_gradients,
        };
        backward(&inputs, pass, scratch);

        let outcomes = self.outcomes(&batch, &y, &h_n, &c_n);
        let dx = unpack_rows(&batch, &dx, shape.input);
        let [dh, dc, restart_h, restart_c] =
            [dh, dc, restart_h, restart_c].map(|states| self.unpack_states(&batch, &states));
        let mut solutions: Vec<SequenceSolution<E>> = outcomes
            .into_iter()
            .enumerate()
            .map(|(b, outcome)| SequenceSolution {
                outcome,
                slots: Vec::new(),
                c: Vec::new(),
                d_slots: Vec::new(),
                d_h: Vec::new(),
                d_c: Vec::new(),
                step_memory: Vec::new(),
                h_previous: Vec::new(),
                dx: dx[b].clone(),
                dh0: dh[b].clone(),
                dc0: dc[b].clone(),
                restart_h: restart_h[b].clone(),
                restart_c: restart_c[b].clone(),
            })
            .collect();
        for direction in 0..shape.directions {
            batch.for_each_row(|row, sequence, _| {
                let solution = &mut solutions[sequence];
                for gate in shape.cell.slot_names() {
                    solution.slots.extend_from_slice(tape.gate(gate, direction, row));
                }
                solution.c.extend(tape.cell_state(direction, row).into_iter().flatten());
                if hook.is_some() {
                    solution.step_memory.extend_from_slice(tape.step_memory(direction, row));
                    solution.h_previous.extend_from_slice(inputs.h_previous(&y, direction, row));
                }
                if self.chunked {
                    return;
                }
                for gate in shape.cell.slot_names() {
                    solution.d_slots.extend_from_slice(row_gradients.gate(gate, direction, row));
                }
                solution.d_h.extend_from_slice(row_gradients.hidden(direction, row));
                solution.d_c.extend(row_gradients.cell(direction, row).into_iter().flatten());
            });
        }
        solutions
    }
}

/// The gradient that number `j` of what a step input with memory yields receives from elsewhere, in any loss.
pub fn yield_weight(direction: usize, sequence: usize, t: usize, j: usize) -> f64 {
    (0.3 * direction as f64 + 0.7 * sequence as f64 + 1.1 * t as f64 + 1.7 * j as f64).sin()
}

/// Memory that the engine must overwrite: whatever is left of it shows.
fn dirty<E: Element>(length: usize) -> Vec<E> {
    vec![E::from_f64(f64::NAN); length]
}

/// `[T, F]` of every sequence from packed rows `[N, F]`.
fn unpack_rows<E: Element>(batch: &Ragged, packed: &[E], features: usize) -> Vec<Vec<E>> {
    let mut rows = vec![Vec::new(); batch.batch()];
    batch.for_each_row(|row, sequence, _| rows[sequence].extend_from_slice(&packed[row * features..][..features]));
    rows
}

impl<E: Element> Solution<E> {
    /// The gradients of [`Problem::leaves_mut`], in f64.
    pub fn leaf_gradients(&self) -> Vec<Vec<f64>> {
        let wide = |tensor: &[E]| tensor.iter().map(|x| x.to_f64()).collect::<Vec<f64>>();
        let sum = |of: fn(&SequenceSolution<E>) -> &[E], length: usize| {
            let mut sum = vec![0.0; length];
            for s in &self.sequences {
                sum.iter_mut().zip(of(s)).for_each(|(sum, x)| *sum += x.to_f64());
            }
            sum
        };
        let mut leaves = Vec::new();
        for p in &self.gradients {
            leaves.extend(p.tensors().map(|(_, tensor)| wide(tensor)));
        }
        let restart = |of: fn(&SequenceSolution<E>) -> &[E]| sum(of, self.sequences.first().map_or(0, |s| of(s).len()));
        leaves.push(restart(|s| &s.restart_h));
        leaves.push(restart(|s| &s.restart_c));
        for s in &self.sequences {
            leaves.extend([wide(&s.dx), wide(&s.dh0), wide(&s.dc0)]);
        }
        leaves
    }
}
