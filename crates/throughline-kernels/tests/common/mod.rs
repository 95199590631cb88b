//! A layer with everything around it, drawn at random, and what the engine makes of it.
//!
//! All is kept sequence by sequence in the caller's order, so that cutting and regrouping a batch are plain.
#![allow(dead_code, reason = "every test file uses its own part")]

use std::ops::Range;

use throughline_kernels::cells::CellKind;
use throughline_kernels::random::{Philox, Purpose, Stream};
use throughline_kernels::sequence::{
    BackwardStates, DirectionWeights, InitialStates, LayerGradients, LayerShape, PackedLayer, Ragged, Record, Scratch,
    SlotGradients, StepInput, Tape, backward, forward,
};
use throughline_kernels::threads::Threads;
use throughline_kernels::{Element, Isa};

/// What a problem is drawn from.
#[derive(Clone, Debug)]
pub struct Setup {
    pub cell: CellKind,
    pub input: usize,
    /// Columns of a step input.
    pub extra: usize,
    pub hidden: usize,
    pub directions: usize,
    pub bias: bool,
    /// Whether about every fourth step has a boundary before it.
    pub resets: bool,
    pub lengths: Vec<usize>,
    pub seed: u64,
}

impl Setup {
    /// A plain layer: no extra columns, with biases, one direction, no boundaries.
    pub fn new(cell: CellKind, input: usize, hidden: usize, lengths: &[usize]) -> Self {
        let lengths = lengths.to_vec();
        Self { cell, input, extra: 0, hidden, directions: 1, bias: true, resets: false, lengths, seed: 1 }
    }

    pub fn shape(&self) -> LayerShape {
        let Self { cell, input, extra, hidden, directions, .. } = *self;
        LayerShape { cell, input, extra, hidden, directions }
    }
}

/// The parameters of one direction, or their gradients; biases are empty where there are none.
#[derive(Clone, Debug)]
pub struct Parameters<E> {
    pub weight_ih: Vec<E>,
    pub weight_hh: Vec<E>,
    pub bias_ih: Vec<E>,
    pub bias_hh: Vec<E>,
}

/// One sequence of T steps with its initial states and the gradients that reach what it returns.
#[derive(Clone, Debug)]
pub struct Sequence<E> {
    /// `[T, I]`
    pub x: Vec<E>,
    /// `[T]`: whether there is a boundary before a step.
    pub reset: Vec<bool>,
    /// `[D, H]`
    pub h0: Vec<E>,
    /// `[D, H]`, empty for a cell without cell state.
    pub c0: Vec<E>,
    /// `[T, D·H]`
    pub dy: Vec<E>,
    /// `[D, H]`
    pub dh_n: Vec<E>,
    /// `[D, H]`, or empty.
    pub dc_n: Vec<E>,
}

impl<E> Sequence<E> {
    pub fn length(&self) -> usize {
        self.reset.len()
    }
}

/// A layer, its parameters and a batch.
#[derive(Clone, Debug)]
pub struct Problem<E> {
    pub shape: LayerShape,
    /// One for each direction.
    pub parameters: Vec<Parameters<E>>,
    /// `[D, H]`
    pub restart_h: Vec<E>,
    /// `[D, H]`, or empty.
    pub restart_c: Vec<E>,
    pub sequences: Vec<Sequence<E>>,
}

/// What the layer makes of one sequence, forward.
#[derive(Clone, Debug)]
pub struct Outcome<E> {
    /// `[T, D·H]`
    pub y: Vec<E>,
    /// `[D, H]`
    pub h_n: Vec<E>,
    /// `[D, H]`, or empty.
    pub c_n: Vec<E>,
}

/// What the layer makes of one sequence, forward and backward.
#[derive(Clone, Debug)]
pub struct SequenceSolution<E> {
    pub outcome: Outcome<E>,
    /// `[D, T, S·H]`: the tape.
    pub slots: Vec<E>,
    /// `[D, T, H]`: the cell states on the tape, or empty.
    pub c: Vec<E>,
    /// `[D, T, S·H]`
    pub d_slots: Vec<E>,
    /// `[T, I]`
    pub dx: Vec<E>,
    /// `[D, H]`
    pub dh0: Vec<E>,
    /// `[D, H]`, or empty.
    pub dc0: Vec<E>,
    /// `[D, H]`: what the sequence's boundaries give the restart state.
    pub restart_h: Vec<E>,
    /// `[D, H]`, or empty.
    pub restart_c: Vec<E>,
}

impl<E> SequenceSolution<E> {
    /// All that must not depend on what else is in the batch, nor on where the sequence is cut.
    pub fn tensors(&self) -> [(&'static str, &[E]); 9] {
        [
            ("y", &self.outcome.y),
            ("h_n", &self.outcome.h_n),
            ("c_n", &self.outcome.c_n),
            ("slots", &self.slots),
            ("c", &self.c),
            ("d_slots", &self.d_slots),
            ("dx", &self.dx),
            ("dh0", &self.dh0),
            ("dc0", &self.dc0),
        ]
    }
}

/// What the layer makes of a batch.
#[derive(Clone, Debug)]
pub struct Solution<E> {
    pub sequences: Vec<SequenceSolution<E>>,
    /// Gradients of the parameters, one for each direction.
    pub gradients: Vec<Parameters<E>>,
}

/// Random numbers for tests.
pub struct Numbers(pub Stream);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(Philox::new(seed, Purpose::Benchmark, 0).stream())
    }

    /// `count` numbers in (-scale, scale).
    pub fn draw<E: Element>(&mut self, count: usize, scale: f64) -> Vec<E> {
        (0..count).map(|_| E::from_f64((2.0 * self.0.uniform() - 1.0) * scale)).collect()
    }
}

impl<E: Element> Parameters<E> {
    pub fn zeros(shape: &LayerShape, bias: bool) -> Self {
        let rows = shape.gate_rows();
        let bias = if bias { rows } else { 0 };
        Self {
            weight_ih: vec![E::ZERO; rows * (shape.input + shape.extra)],
            weight_hh: vec![E::ZERO; rows * shape.hidden],
            bias_ih: vec![E::ZERO; bias],
            bias_hh: vec![E::ZERO; bias],
        }
    }

    pub fn weights(&self) -> DirectionWeights<'_, E> {
        DirectionWeights {
            weight_ih: &self.weight_ih,
            weight_hh: &self.weight_hh,
            bias_ih: &self.bias_ih,
            bias_hh: &self.bias_hh,
        }
    }
}

impl<E> Parameters<E> {
    pub fn tensors(&self) -> [(&'static str, &[E]); 4] {
        [
            ("weight_ih", &self.weight_ih),
            ("weight_hh", &self.weight_hh),
            ("bias_ih", &self.bias_ih),
            ("bias_hh", &self.bias_hh),
        ]
    }
}

impl<E: Copy> Problem<E> {
    /// The same problem in another kind of number.
    pub fn convert<F>(&self, to: impl Fn(E) -> F) -> Problem<F> {
        let all = |from: &[E]| from.iter().map(|&x| to(x)).collect::<Vec<F>>();
        Problem {
            shape: self.shape,
            parameters: self
                .parameters
                .iter()
                .map(|p| Parameters {
                    weight_ih: all(&p.weight_ih),
                    weight_hh: all(&p.weight_hh),
                    bias_ih: all(&p.bias_ih),
                    bias_hh: all(&p.bias_hh),
                })
                .collect(),
            restart_h: all(&self.restart_h),
            restart_c: all(&self.restart_c),
            sequences: self
                .sequences
                .iter()
                .map(|s| Sequence {
                    x: all(&s.x),
                    reset: s.reset.clone(),
                    h0: all(&s.h0),
                    c0: all(&s.c0),
                    dy: all(&s.dy),
                    dh_n: all(&s.dh_n),
                    dc_n: all(&s.dc_n),
                })
                .collect(),
        }
    }

    /// Everything that a gradient is taken of, by name. [`Solution::leaf_gradients`] has the same order.
    pub fn leaves_mut(&mut self) -> Vec<(String, &mut Vec<E>)> {
        let mut leaves = Vec::new();
        for (d, p) in self.parameters.iter_mut().enumerate() {
            leaves.push((format!("weight_ih of direction {d}"), &mut p.weight_ih));
            leaves.push((format!("weight_hh of direction {d}"), &mut p.weight_hh));
            leaves.push((format!("bias_ih of direction {d}"), &mut p.bias_ih));
            leaves.push((format!("bias_hh of direction {d}"), &mut p.bias_hh));
        }
        leaves.push(("restart_h".into(), &mut self.restart_h));
        leaves.push(("restart_c".into(), &mut self.restart_c));
        for (b, s) in self.sequences.iter_mut().enumerate() {
            leaves.push((format!("x of sequence {b}"), &mut s.x));
            leaves.push((format!("h0 of sequence {b}"), &mut s.h0));
            leaves.push((format!("c0 of sequence {b}"), &mut s.c0));
        }
        leaves
    }
}

impl<E: Element> Problem<E> {
    pub fn new(setup: &Setup) -> Self {
        let shape = setup.shape();
        let LayerShape { input, extra, hidden, directions, .. } = shape;
        let numbers = &mut Numbers::new(setup.seed);
        let state = directions * hidden;
        let cell_state = if shape.cell.has_cell_state() { state } else { 0 };
        let scale = (hidden as f64).powf(-0.5);
        let rows = shape.gate_rows();
        let bias = if setup.bias { rows } else { 0 };
        Self {
            shape,
            parameters: (0..directions)
                .map(|_| Parameters {
                    weight_ih: numbers.draw(rows * (input + extra), ((input + extra) as f64).powf(-0.5)),
                    weight_hh: numbers.draw(rows * hidden, scale),
                    bias_ih: numbers.draw(bias, 0.5),
                    bias_hh: numbers.draw(bias, 0.5),
                })
                .collect(),
            restart_h: numbers.draw(state, 1.0),
            restart_c: numbers.draw(cell_state, 1.0),
            sequences: setup
                .lengths
                .iter()
                .map(|&length| Sequence {
                    x: numbers.draw(length * input, 2.0),
                    reset: (0..length).map(|_| setup.resets && numbers.0.below(4) == 0).collect(),
                    h0: numbers.draw(state, 1.0),
                    c0: numbers.draw(cell_state, 1.0),
                    dy: numbers.draw(length * state, 1.0),
                    dh_n: numbers.draw(state, 1.0),
                    dc_n: numbers.draw(cell_state, 1.0),
                })
                .collect(),
        }
    }

    /// The same layer over other sequences.
    pub fn with_sequences(&self, sequences: Vec<Sequence<E>>) -> Self {
        Self { sequences, ..self.clone() }
    }

    /// The steps `steps` of every sequence; shorter sequences keep what they have of them. Initial states and gradients of
    /// final states are those of the whole.
    pub fn steps(&self, steps: Range<usize>) -> Self {
        let (input, output) = (self.shape.input, self.shape.output());
        let cut = |s: &Sequence<E>| {
            let (from, to) = (steps.start.min(s.length()), steps.end.min(s.length()));
            Sequence {
                x: s.x[from * input..to * input].to_vec(),
                reset: s.reset[from..to].to_vec(),
                dy: s.dy[from * output..to * output].to_vec(),
                ..s.clone()
            }
        };
        self.with_sequences(self.sequences.iter().map(cut).collect())
    }

    pub fn has_bias(&self) -> bool {
        !self.parameters[0].bias_ih.is_empty()
    }

    pub fn batch(&self) -> Ragged {
        let lengths: Vec<usize> = self.sequences.iter().map(Sequence::length).collect();
        let mut batch = Ragged::new(&lengths);
        batch.set_resets(|sequence, t| self.sequences[sequence].reset[t]);
        batch
    }

    pub fn packed_layer(&self, isa: Isa, threads: &Threads, backward: bool) -> PackedLayer<E> {
        let mut layer = PackedLayer::new(self.shape, isa, backward);
        let weights: Vec<_> = self.parameters.iter().map(Parameters::weights).collect();
        layer.pack(threads, &weights);
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

    /// Forward alone, without a tape.
    pub fn forward(&self, isa: Isa, threads: &Threads, hook: Option<&dyn StepInput<E>>) -> Vec<Outcome<E>> {
        let layer = self.packed_layer(isa, threads, false);
        let batch = self.batch();
        let x = self.pack_rows(&batch, self.shape.input, |s| &s.x);
        let states = (self.pack_states(&batch, |s| &s.h0), self.pack_states(&batch, |s| &s.c0));
        let mut y = dirty(batch.rows() * self.shape.output());
        let (mut h_n, mut c_n) = (dirty(states.0.len()), dirty(states.1.len()));
        let scratch = &mut Scratch::for_threads(threads);
        let initial = self.initial(&states);
        forward(&layer, threads, &batch, &x, &initial, &mut y, &mut h_n, &mut c_n, Record::Nothing, scratch, hook);
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
        let record = Record::Tape(&mut tape);
        forward(&layer, threads, &batch, &x, &initial, &mut y, &mut h_n, &mut c_n, record, scratch, hook);

        let dy = self.pack_rows(&batch, shape.output(), |s| &s.dy);
        let (mut dh, mut dc) = (self.pack_states(&batch, |s| &s.dh_n), self.pack_states(&batch, |s| &s.dc_n));
        let (mut restart_h, mut restart_c) = (dirty(states.0.len()), dirty(states.1.len()));
        let mut dx = dirty(x.len());
        let mut slot_gradients = SlotGradients::default();
        let mut layer_gradients: Vec<LayerGradients<'_, E>> = gradients
            .iter_mut()
            .map(|p| LayerGradients {
                weight_ih: &mut p.weight_ih,
                weight_hh: &mut p.weight_hh,
                bias_ih: &mut p.bias_ih,
                bias_hh: &mut p.bias_hh,
            })
            .collect();
        backward(
            &layer,
            threads,
            &batch,
            &x,
            &initial,
            &y,
            &tape,
            Some(&dy),
            BackwardStates { dh: &mut dh, dc: &mut dc, restart_h: &mut restart_h, restart_c: &mut restart_c },
            Some(&mut dx),
            &mut layer_gradients,
            &mut slot_gradients,
            scratch,
            hook,
        );

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
                for slot in 0..shape.cell.slots() {
                    solution.slots.extend_from_slice(tape.slot(direction, slot, row));
                }
                solution.c.extend(tape.cell_state(direction, row).into_iter().flatten());
                solution.d_slots.extend_from_slice(slot_gradients.row(&shape, direction, row));
            });
        }
        solutions
    }
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
