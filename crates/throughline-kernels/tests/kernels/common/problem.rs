//! A layer, its parameters and a batch, drawn at random.
//!
//! All is kept sequence by sequence in the caller's order, so that cutting and regrouping a batch is simple.

use std::ops::Range;

use throughline_kernels::Element;
use throughline_kernels::cells::CellKind;
use throughline_kernels::random::{Philox, Purpose, Stream};
use throughline_kernels::sequence::{
    DirectionWeights, LayerGradients, LayerShape, NormalisationGradients, NormalisationWeights, Ragged, Regularisation,
    Split,
};

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
    /// Whether the cell is layer-normalised.
    pub normalised: bool,
    pub lengths: Vec<usize>,
    pub seed: u64,
}

impl Setup {
    /// A plain layer: no extra columns, with biases, one direction, no boundaries.
    pub fn new(cell: CellKind, input: usize, hidden: usize, lengths: &[usize]) -> Self {
        let lengths = lengths.to_vec();
        Self {
            cell,
            input,
            extra: 0,
            hidden,
            directions: 1,
            bias: true,
            resets: false,
            normalised: false,
            lengths,
            seed: 1,
        }
    }

    pub fn shape(&self) -> LayerShape {
        let Self { cell, input, extra, hidden, directions, normalised, .. } = *self;
        LayerShape { cell, input, extra, hidden, directions, normalised }
    }
}

/// The parameters of one direction, or their gradients; biases are empty where there are none.
#[derive(Clone, Debug)]
pub struct Parameters<E> {
    pub weight_ih: Vec<E>,
    pub weight_hh: Vec<E>,
    pub bias_ih: Vec<E>,
    pub bias_hh: Vec<E>,
    /// Of a normalised layer, like those below; otherwise empty.
    pub norm_input: Vec<E>,
    pub norm_hidden: Vec<E>,
    pub norm_cell: Vec<E>,
    pub norm_cell_bias: Vec<E>,
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
    /// `[T, D·H]`, or empty in every sequence for no gradient at all.
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
    /// Whether backward keeps slot gradients for a chunk of steps only; they are then not in the solution.
    pub chunked: bool,
    /// How the work is divided among threads; `None`: as the engine chooses.
    pub split: Option<Split>,
    pub regularisation: Regularisation,
    /// The lengths of the sequences of which these are the steps from `first_step` on, if they are a part.
    pub part_of: Option<Vec<usize>>,
    pub first_step: usize,
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
            norm_input: vec![E::ZERO; lengths_of_normalisation(shape)[0]],
            norm_hidden: vec![E::ZERO; lengths_of_normalisation(shape)[0]],
            norm_cell: vec![E::ZERO; lengths_of_normalisation(shape)[1]],
            norm_cell_bias: vec![E::ZERO; lengths_of_normalisation(shape)[1]],
        }
    }

    pub fn weights(&self) -> DirectionWeights<'_, E> {
        DirectionWeights {
            weight_ih: &self.weight_ih,
            weight_hh: &self.weight_hh,
            bias_ih: &self.bias_ih,
            bias_hh: &self.bias_hh,
            normalisation: (!self.norm_input.is_empty()).then_some(NormalisationWeights {
                input: &self.norm_input,
                hidden: &self.norm_hidden,
                cell: &self.norm_cell,
                cell_bias: &self.norm_cell_bias,
            }),
        }
    }
}

impl<E> Parameters<E> {
    /// These numbers as gradients to be added to.
    pub fn gradients(&mut self) -> LayerGradients<'_, E> {
        LayerGradients {
            weight_ih: &mut self.weight_ih,
            weight_hh: &mut self.weight_hh,
            bias_ih: &mut self.bias_ih,
            bias_hh: &mut self.bias_hh,
            normalisation: (!self.norm_input.is_empty()).then_some(NormalisationGradients {
                input: &mut self.norm_input,
                hidden: &mut self.norm_hidden,
                cell: &mut self.norm_cell,
                cell_bias: &mut self.norm_cell_bias,
            }),
        }
    }
}

/// Of what is as long as the gates, and of what is as long as the cell state.
fn lengths_of_normalisation(shape: &LayerShape) -> [usize; 2] {
    let gates = if shape.normalised { shape.gate_rows() } else { 0 };
    [gates, if shape.normalised && shape.cell.has_cell_state() { shape.hidden } else { 0 }]
}

impl<E> Parameters<E> {
    pub fn tensors(&self) -> [(&'static str, &[E]); 8] {
        [
            ("weight_ih", &self.weight_ih),
            ("weight_hh", &self.weight_hh),
            ("bias_ih", &self.bias_ih),
            ("bias_hh", &self.bias_hh),
            ("norm_input", &self.norm_input),
            ("norm_hidden", &self.norm_hidden),
            ("norm_cell", &self.norm_cell),
            ("norm_cell_bias", &self.norm_cell_bias),
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
                    norm_input: all(&p.norm_input),
                    norm_hidden: all(&p.norm_hidden),
                    norm_cell: all(&p.norm_cell),
                    norm_cell_bias: all(&p.norm_cell_bias),
                })
                .collect(),
            restart_h: all(&self.restart_h),
            restart_c: all(&self.restart_c),
            chunked: self.chunked,
            split: self.split,
            regularisation: self.regularisation,
            part_of: self.part_of.clone(),
            first_step: self.first_step,
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

    /// Everything that a gradient is taken of. [`Problem::leaf_names`] and [`Solution::leaf_gradients`] have the same
    /// order.
    pub fn leaves_mut(&mut self) -> Vec<&mut Vec<E>> {
        let mut leaves = Vec::new();
        for p in &mut self.parameters {
            leaves.extend([&mut p.weight_ih, &mut p.weight_hh, &mut p.bias_ih, &mut p.bias_hh]);
            leaves.extend([&mut p.norm_input, &mut p.norm_hidden, &mut p.norm_cell, &mut p.norm_cell_bias]);
        }
        leaves.extend([&mut self.restart_h, &mut self.restart_c]);
        for s in &mut self.sequences {
            leaves.extend([&mut s.x, &mut s.h0, &mut s.c0]);
        }
        leaves
    }

    /// The names of the leaves.
    pub fn leaf_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for (d, p) in self.parameters.iter().enumerate() {
            names.extend(p.tensors().map(|(name, _)| format!("{name} of direction {d}")));
        }
        names.extend(["restart_h", "restart_c"].map(String::from));
        for b in 0..self.sequences.len() {
            names.extend(["x", "h0", "c0"].map(|name| format!("{name} of sequence {b}")));
        }
        names
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
        let [gains, of_cell] = lengths_of_normalisation(&shape);
        Self {
            shape,
            parameters: (0..directions)
                .map(|_| Parameters {
                    weight_ih: numbers.draw(rows * (input + extra), ((input + extra) as f64).powf(-0.5)),
                    weight_hh: numbers.draw(rows * hidden, scale),
                    bias_ih: numbers.draw(bias, 0.5),
                    bias_hh: numbers.draw(bias, 0.5),
                    norm_input: numbers.draw(gains, 1.0),
                    norm_hidden: numbers.draw(gains, 1.0),
                    norm_cell: numbers.draw(of_cell, 1.0),
                    norm_cell_bias: numbers.draw(of_cell, 0.5),
                })
                .collect(),
            chunked: false,
            split: None,
            regularisation: Regularisation::NONE,
            part_of: None,
            first_step: 0,
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

    /// The steps `steps` of every sequence; shorter sequences keep what they have of them. Initial states and gradients
    /// of final states are those of the whole.
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
        let whole = self.sequences.iter().map(Sequence::length).collect();
        let part = self.with_sequences(self.sequences.iter().map(cut).collect());
        Self { part_of: Some(whole), first_step: steps.start, ..part }
    }

    /// Sequence `b` alone. Masks name a sequence by its place, so where there are any, the others are empty.
    pub fn alone(&self, b: usize) -> Self {
        if self.regularisation.masks.is_none() {
            return self.with_sequences(vec![self.sequences[b].clone()]);
        }
        let only = self.sequences.iter().enumerate().map(|(place, s)| {
            let keep = if place == b { s.length() } else { 0 };
            let (x, dy) = (&s.x[..keep * self.shape.input], &s.dy[..keep * self.shape.output()]);
            Sequence { x: x.to_vec(), dy: dy.to_vec(), reset: s.reset[..keep].to_vec(), ..s.clone() }
        });
        self.with_sequences(only.collect())
    }

    pub fn has_bias(&self) -> bool {
        !self.parameters[0].bias_ih.is_empty()
    }

    pub fn batch(&self) -> Ragged {
        let lengths: Vec<usize> = self.sequences.iter().map(Sequence::length).collect();
        let mut batch = Ragged::new(self.part_of.as_ref().unwrap_or(&lengths));
        if self.part_of.is_some() {
            let whole = batch.clone();
            let steps = lengths.iter().max().copied().unwrap_or(0);
            batch.set_window(&whole, self.first_step..self.first_step + steps);
        }
        batch.set_resets(|sequence, t| self.sequences[sequence].reset[t]);
        batch
    }
}
