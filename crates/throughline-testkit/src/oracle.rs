//! The recurrent networks again, one number at a time: no batching, no fusing, no hoisting, nothing shared with the
//! real code. Generic over [`Number`], so that a run over [`Dual`](crate::Dual) yields exact derivatives.
//!
//! Weights have PyTorch's names, shapes and gate order: LSTM `i, f, g, o`; GRU `r, z, n`.

use std::fmt::Debug;
use std::ops::{Add, Div, Mul, Neg, Range, Sub};

/// What the oracle computes with: `f64`, or a number with more to it, such as a derivative.
pub trait Number:
    Copy
    + Debug
    + From<f64>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// e^x.
    fn exp(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Hyperbolic tangent.
    fn tanh(self) -> Self;
    /// Logistic sigmoid, 1 / (1 + e^-x).
    fn sigmoid(self) -> Self;
    /// max(x, 0), with derivative 0 at 0.
    fn relu(self) -> Self;
}

impl Number for f64 {
    fn exp(self) -> f64 {
        f64::exp(self)
    }
    fn ln(self) -> f64 {
        f64::ln(self)
    }
    fn tanh(self) -> f64 {
        f64::tanh(self)
    }
    fn sigmoid(self) -> f64 {
        1.0 / (1.0 + f64::exp(-self))
    }
    fn relu(self) -> f64 {
        if self <= 0.0 { 0.0 } else { self }
    }
}

/// The five cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OracleCell {
    /// Elman (1990) with tanh.
    RnnTanh,
    /// Elman's network with a rectifier.
    RnnRelu,
    /// Hochreiter and Schmidhuber (1997) with the forget gate of Gers et al. (2000), no peepholes.
    Lstm,
    /// GRU with the reset gate after the recurrent product (cuDNN, PyTorch).
    GruAfter,
    /// GRU with the reset gate before the recurrent product (Cho et al. 2014, first version).
    GruBefore,
}

impl OracleCell {
    /// Every cell.
    pub const ALL: [OracleCell; 5] =
        [OracleCell::RnnTanh, OracleCell::RnnRelu, OracleCell::Lstm, OracleCell::GruAfter, OracleCell::GruBefore];

    /// Rows of weights per hidden unit.
    pub fn gates(self) -> usize {
        match self {
            OracleCell::RnnTanh | OracleCell::RnnRelu => 1,
            OracleCell::Lstm => 4,
            OracleCell::GruAfter | OracleCell::GruBefore => 3,
        }
    }

    /// Whether the state has a `c` next to its `h`.
    pub fn has_cell_state(self) -> bool {
        self == OracleCell::Lstm
    }

    /// `rnn_tanh`, `rnn_relu`, `lstm`, `gru_after` or `gru_before`, as the reference vectors call them.
    pub fn name(self) -> &'static str {
        match self {
            OracleCell::RnnTanh => "rnn_tanh",
            OracleCell::RnnRelu => "rnn_relu",
            OracleCell::Lstm => "lstm",
            OracleCell::GruAfter => "gru_after",
            OracleCell::GruBefore => "gru_before",
        }
    }

    /// The cell of that [name](Self::name). Panics on any other.
    pub fn from_name(name: &str) -> OracleCell {
        Self::ALL
            .into_iter()
            .find(|cell| cell.name() == name)
            .unwrap_or_else(|| panic!("no oracle cell named {name:?}"))
    }
}

/// The parameters of one layer in one direction. `G` is [`OracleCell::gates`].
#[derive(Clone, Debug)]
pub struct Weights<N> {
    /// `[G*H, I]`.
    pub weight_ih: Vec<N>,
    /// `[G*H, H]`.
    pub weight_hh: Vec<N>,
    /// `[G*H]`, or none.
    pub bias_ih: Option<Vec<N>>,
    /// `[G*H]`, or none.
    pub bias_hh: Option<Vec<N>>,
    /// What a layer-normalised cell has besides.
    pub normalisation: Option<Normalisation<N>>,
}

/// The gains of layer-normalised sums (Ba, Kiros and Hinton 2016); their shifts are the biases.
#[derive(Clone, Debug)]
pub struct Normalisation<N> {
    /// `[G*H]`, of `W_ih x`.
    pub input: Vec<N>,
    /// `[G*H]`, of `W_hh h`.
    pub hidden: Vec<N>,
    /// `[H]`, of what is read out of the cell state.
    pub cell: Vec<N>,
    /// `[H]`, its shift.
    pub cell_bias: Vec<N>,
}

impl<N: Number> Weights<N> {
    /// The input terms of `gates`.
    fn input_terms(&self, gates: Range<usize>, hidden: usize, x: &[N]) -> Vec<N> {
        let gains = self.normalisation.as_ref().map(|normalisation| &normalisation.input[..]);
        terms(&self.weight_ih, self.bias_ih.as_deref(), gains, gates.start * hidden..gates.end * hidden, x)
    }

    /// The hidden terms of `gates`.
    fn hidden_terms(&self, gates: Range<usize>, hidden: usize, h: &[N]) -> Vec<N> {
        let gains = self.normalisation.as_ref().map(|normalisation| &normalisation.hidden[..]);
        terms(&self.weight_hh, self.bias_hh.as_deref(), gains, gates.start * hidden..gates.end * hidden, h)
    }

    /// What is read out of the cell state `c`.
    fn read_out(&self, c: &[N]) -> Vec<N> {
        let Some(Normalisation { cell, cell_bias, .. }) = &self.normalisation else { return c.to_vec() };
        let normalised = normalise(c);
        (0..c.len()).map(|u| cell_bias[u] + cell[u] * normalised[u]).collect()
    }
}

/// Rows `rows` of `W x + b`; with gains of `b + gain n(W x)`, normalised over these rows.
fn terms<N: Number>(weight: &[N], bias: Option<&[N]>, gains: Option<&[N]>, rows: Range<usize>, x: &[N]) -> Vec<N> {
    let product = |row: usize| (0..x.len()).fold(N::from(0.0), |sum, k| sum + weight[row * x.len() + k] * x[k]);
    let mut sums: Vec<N> = rows.clone().map(product).collect();
    if let Some(gains) = gains {
        sums = normalise(&sums).iter().zip(rows.clone()).map(|(&n, row)| gains[row] * n).collect();
    }
    sums.iter().zip(rows).map(|(&sum, row)| bias.map_or(sum, |bias| bias[row] + sum)).collect()
}

/// (x - mean) / sqrt(variance + 1e-5)
fn normalise<N: Number>(x: &[N]) -> Vec<N> {
    let mean =
        |values: &[N]| values.iter().fold(N::from(0.0), |sum, &value| sum + value) / N::from(values.len() as f64);
    let centre = mean(x);
    let centred: Vec<N> = x.iter().map(|&value| value - centre).collect();
    let squares: Vec<N> = centred.iter().map(|&value| value * value).collect();
    let deviation = (N::from(0.5) * (mean(&squares) + N::from(1e-5)).ln()).exp();
    centred.iter().map(|&value| value / deviation).collect()
}

/// The state of one layer in one direction for one sequence.
#[derive(Clone, Debug)]
pub struct State<N> {
    /// Hidden state `[H]`.
    pub h: Vec<N>,
    /// Cell state `[H]`; empty where the cell has none.
    pub c: Vec<N>,
}

impl<N: Number> State<N> {
    /// All zeros.
    pub fn zero(cell: OracleCell, hidden: usize) -> State<N> {
        let zeros = vec![N::from(0.0); hidden];
        State { c: if cell.has_cell_state() { zeros.clone() } else { Vec::new() }, h: zeros }
    }
}

/// What regularises one step, a number for each unit.
#[derive(Clone, Debug)]
pub struct Noise {
    /// The factor of the previous hidden state wherever it is multiplied with recurrent weights: Gal and Ghahramani
    /// (2016).
    pub hidden: Vec<f64>,
    /// The factor of the LSTM's g and the GRU's n: Semeniuta et al. (2016).
    pub candidate: Vec<f64>,
    /// The share of the previous hidden state in the new one: Krueger et al. (2017).
    pub keep_hidden: Vec<f64>,
    /// The same for the cell state.
    pub keep_cell: Vec<f64>,
}

impl Noise {
    /// None.
    pub fn none(hidden: usize) -> Noise {
        let [one, zero] = [1.0, 0.0].map(|x| vec![x; hidden]);
        Noise { hidden: one.clone(), candidate: one, keep_hidden: zero.clone(), keep_cell: zero }
    }
}

/// One step of one cell: `x` is `[I]`.
pub fn step<N: Number>(cell: OracleCell, weights: &Weights<N>, x: &[N], state: &State<N>) -> State<N> {
    regularised_step(cell, weights, x, state, &Noise::none(state.h.len()))
}

/// The same with regularisers. Zoneout mixes the state before with what the cell makes of it.
pub fn regularised_step<N: Number>(
    cell: OracleCell,
    weights: &Weights<N>,
    x: &[N],
    state: &State<N>,
    noise: &Noise,
) -> State<N> {
    let blend = |keep: &[f64], old: &[N], new: &[N]| {
        let blend = |u: usize| N::from(keep[u]) * old[u] + N::from(1.0 - keep[u]) * new[u];
        (0..new.len()).map(blend).collect()
    };
    let new = new_state(cell, weights, x, state, noise);
    State { h: blend(&noise.keep_hidden, &state.h, &new.h), c: blend(&noise.keep_cell, &state.c, &new.c) }
}

/// The state that a cell makes of `state`.
fn new_state<N: Number>(cell: OracleCell, weights: &Weights<N>, x: &[N], state: &State<N>, noise: &Noise) -> State<N> {
    let hidden = state.h.len();
    let h = &state.h;
    let dropped: Vec<N> = (0..hidden).map(|u| N::from(noise.hidden[u]) * h[u]).collect();
    let candidate = |u: usize, value: N| N::from(noise.candidate[u]) * value;
    let one = N::from(1.0);
    // The two terms of several gates, which are normalised together: a block of units for each.
    let terms = |gates: Range<usize>, operand: &[N]| {
        (weights.input_terms(gates.clone(), hidden, x), weights.hidden_terms(gates, hidden, operand))
    };
    let units = 0..hidden;
    match cell {
        OracleCell::RnnTanh | OracleCell::RnnRelu => {
            let (input, recurrent) = terms(0..1, &dropped);
            let activation = |sum: N| if cell == OracleCell::RnnTanh { sum.tanh() } else { sum.relu() };
            State { h: units.map(|u| activation(input[u] + recurrent[u])).collect(), c: Vec::new() }
        }
        OracleCell::Lstm => {
            let (input, recurrent) = terms(0..4, &dropped);
            let sum = |gate: usize, u: usize| input[gate * hidden + u] + recurrent[gate * hidden + u];
            let unit = |u: usize| {
                let (i, f, g) = (sum(0, u).sigmoid(), sum(1, u).sigmoid(), sum(2, u).tanh());
                f * state.c[u] + i * candidate(u, g)
            };
            let c: Vec<N> = units.clone().map(unit).collect();
            let read_out = weights.read_out(&c);
            State { h: units.map(|u| sum(3, u).sigmoid() * read_out[u].tanh()).collect(), c }
        }
        OracleCell::GruAfter | OracleCell::GruBefore => {
            let (input, recurrent) = terms(0..2, &dropped);
            let gate = |gate: usize, u: usize| (input[gate * hidden + u] + recurrent[gate * hidden + u]).sigmoid();
            let reset_h: Vec<N> = units.clone().map(|u| gate(0, u) * dropped[u]).collect();
            let after = cell == OracleCell::GruAfter;
            let (input, recurrent) = terms(2..3, if after { &dropped } else { &reset_h });
            let unit = |u: usize| {
                let n = (input[u] + if after { gate(0, u) * recurrent[u] } else { recurrent[u] }).tanh();
                let z = gate(1, u);
                (one - z) * candidate(u, n) + z * h[u]
            };
            State { h: units.map(unit).collect(), c: Vec::new() }
        }
    }
}

/// One direction over one sequence. Returns the hidden state at every step, in the order of time, and the last state in
/// the order of the direction.
///
/// `reset[t]` is a boundary between t-1 and t. The sequence is cut there; the segment that the direction reads first
/// starts from `entry`, every other segment from `restart`. A boundary at `t = 0` lies between `entry` and the sequence
/// in the forward direction, which then starts from `restart` too; it has no effect on the reverse direction. An empty
/// sequence returns `entry`. `noise(t)` regularises step t.
#[allow(clippy::too_many_arguments, reason = "a plain function of all there is")]
pub fn run_direction<N: Number>(
    cell: OracleCell,
    weights: &Weights<N>,
    reverse: bool,
    xs: &[Vec<N>],
    reset: &[bool],
    entry: &State<N>,
    restart: &State<N>,
    noise: &dyn Fn(usize) -> Noise,
) -> (Vec<Vec<N>>, State<N>) {
    assert_eq!(xs.len(), reset.len(), "one reset flag a step");
    let mut state = entry.clone();
    let mut outputs = vec![Vec::new(); xs.len()];
    if reverse {
        for t in (0..xs.len()).rev() {
            if t + 1 < xs.len() && reset[t + 1] {
                state = restart.clone();
            }
            state = regularised_step(cell, weights, &xs[t], &state, &noise(t));
            outputs[t] = state.h.clone();
        }
    } else {
        for t in 0..xs.len() {
            if reset[t] {
                state = restart.clone();
            }
            state = regularised_step(cell, weights, &xs[t], &state, &noise(t));
            outputs[t] = state.h.clone();
        }
    }
    (outputs, state)
}

/// The sizes of a recurrent stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OracleConfig {
    /// The cell of every layer.
    pub cell: OracleCell,
    /// Input size `I` of the first layer.
    pub input: usize,
    /// Hidden size `H`.
    pub hidden: usize,
    /// Layers `L`.
    pub layers: usize,
    /// Two directions, or the forward one alone.
    pub bidirectional: bool,
    /// Whether there are `bias_ih` and `bias_hh`.
    pub bias: bool,
    /// Whether the cells are layer-normalised.
    pub normalised: bool,
}

impl OracleConfig {
    /// `D`: 1 or 2.
    pub fn directions(&self) -> usize {
        if self.bidirectional { 2 } else { 1 }
    }

    /// `L*D`: how many states there are; layer `l` in direction `d` has state `l*D + d`.
    pub fn state_count(&self) -> usize {
        self.layers * self.directions()
    }

    /// Names and shapes of the parameters, in PyTorch's order: layer by layer, direction by direction, `weight_ih_l0`,
    /// `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0`, and those of normalisation, with `_reverse` appended for the second
    /// direction.
    pub fn parameters(&self) -> Vec<(String, Vec<usize>)> {
        let rows = self.cell.gates() * self.hidden;
        let mut parameters = Vec::new();
        for layer in 0..self.layers {
            let input = if layer == 0 { self.input } else { self.directions() * self.hidden };
            for direction in 0..self.directions() {
                let suffix = format!("l{layer}{}", if direction == 1 { "_reverse" } else { "" });
                parameters.push((format!("weight_ih_{suffix}"), vec![rows, input]));
                parameters.push((format!("weight_hh_{suffix}"), vec![rows, self.hidden]));
                if self.bias {
                    parameters.push((format!("bias_ih_{suffix}"), vec![rows]));
                    parameters.push((format!("bias_hh_{suffix}"), vec![rows]));
                }
                if self.normalised {
                    parameters.push((format!("norm_weight_ih_{suffix}"), vec![rows]));
                    parameters.push((format!("norm_weight_hh_{suffix}"), vec![rows]));
                    if self.cell.has_cell_state() {
                        parameters.push((format!("norm_weight_c_{suffix}"), vec![self.hidden]));
                        parameters.push((format!("norm_bias_c_{suffix}"), vec![self.hidden]));
                    }
                }
            }
        }
        parameters
    }

    /// How many numbers all parameters hold together.
    pub fn parameter_count(&self) -> usize {
        self.parameters().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }
}

/// A stack of layers in one or two directions.
#[derive(Clone, Debug)]
pub struct Network<N> {
    /// The sizes.
    pub config: OracleConfig,
    /// One for each layer and direction, at `l*D + d`.
    pub weights: Vec<Weights<N>>,
    /// What a direction starts from without a given state and after a boundary, at `l*D + d`: zeros, unless learned
    /// initial states are put here.
    pub restart: Vec<State<N>>,
}

/// What a stack does with one sequence.
#[derive(Clone, Debug)]
pub struct SequenceRun<N> {
    /// Outputs of the top layer, `[T][D*H]`, forward units first.
    pub outputs: Vec<Vec<N>>,
    /// The last state of each layer and direction, at `l*D + d`.
    pub last: Vec<State<N>>,
}

/// A padded, time-major batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchInput<'a, N> {
    /// `[T, B, I]`.
    pub x: &'a [N],
    /// `[B]`, each at most `T`; the rows after that are never read.
    pub lengths: &'a [usize],
    /// Boundaries `[T, B]`: see [`run_direction`]. None: no boundary.
    pub reset: Option<&'a [bool]>,
    /// Given hidden states `[L*D, B, H]`. None: [`Network::restart`].
    pub h0: Option<&'a [N]>,
    /// Given cell states `[L*D, B, H]`: present exactly where `h0` is and the cell has them.
    pub c0: Option<&'a [N]>,
}

/// What a stack does with a batch.
#[derive(Clone, Debug)]
pub struct BatchRun<N> {
    /// `[T, B, D*H]`, zero beyond each length.
    pub outputs: Vec<N>,
    /// `[L*D, B, H]`.
    pub h_n: Vec<N>,
    /// `[L*D, B, H]`; empty where the cell has no cell state.
    pub c_n: Vec<N>,
}

impl<N: Number> BatchRun<N> {
    /// The sum of everything the run returns, each number times its weight: a loss that depends on all of it.
    pub fn weighted_sum(&self, outputs: &[f64], h_n: &[f64], c_n: &[f64]) -> N {
        let mut sum = N::from(0.0);
        for (values, weights) in [(&self.outputs, outputs), (&self.h_n, h_n), (&self.c_n, c_n)] {
            assert_eq!(values.len(), weights.len(), "one weight a value");
            for (&value, &weight) in values.iter().zip(weights) {
                sum = sum + value * N::from(weight);
            }
        }
        sum
    }
}

impl<N: Number> Network<N> {
    /// A network with zero restart states. `parameters` holds all of them, one after another in the order of
    /// [`OracleConfig::parameters`].
    pub fn from_flat(config: OracleConfig, parameters: &[N]) -> Network<N> {
        assert_eq!(parameters.len(), config.parameter_count(), "parameters do not fit {config:?}");
        let mut rest = parameters;
        let mut tensors = config.parameters().into_iter().map(|(_, shape)| {
            let (tensor, tail) = rest.split_at(shape.iter().product());
            rest = tail;
            tensor.to_vec()
        });
        let weights = (0..config.state_count())
            .map(|_| Weights {
                weight_ih: tensors.next().unwrap(),
                weight_hh: tensors.next().unwrap(),
                bias_ih: config.bias.then(|| tensors.next().unwrap()),
                bias_hh: config.bias.then(|| tensors.next().unwrap()),
                normalisation: config.normalised.then(|| Normalisation {
                    input: tensors.next().unwrap(),
                    hidden: tensors.next().unwrap(),
                    cell: if config.cell.has_cell_state() { tensors.next().unwrap() } else { Vec::new() },
                    cell_bias: if config.cell.has_cell_state() { tensors.next().unwrap() } else { Vec::new() },
                }),
            })
            .collect();
        Network { config, weights, restart: vec![State::zero(config.cell, config.hidden); config.state_count()] }
    }

    /// Runs one sequence `[T][I]`. `given` holds one state for each layer and direction, at `l*D + d`; without it every
    /// direction enters from its restart state. For `reset` see [`run_direction`].
    pub fn run_sequence(&self, xs: &[Vec<N>], reset: &[bool], given: Option<&[State<N>]>) -> SequenceRun<N> {
        let directions = self.config.directions();
        let mut rows = xs.to_vec();
        let mut last = Vec::new();
        for layer in 0..self.config.layers {
            let mut joined = vec![Vec::new(); rows.len()];
            for direction in 0..directions {
                let index = layer * directions + direction;
                let restart = &self.restart[index];
                let entry = given.map_or(restart, |given| &given[index]);
                let (cell, weights, hidden) = (self.config.cell, &self.weights[index], self.config.hidden);
                let noise = |_| Noise::none(hidden);
                let (outputs, state) =
                    run_direction(cell, weights, direction == 1, &rows, reset, entry, restart, &noise);
                for (row, output) in joined.iter_mut().zip(outputs) {
                    row.extend(output);
                }
                last.push(state);
            }
            rows = joined;
        }
        SequenceRun { outputs: rows, last }
    }

    /// Runs the sequences of a batch one by one.
    pub fn run_batch(&self, input: BatchInput<'_, N>) -> BatchRun<N> {
        let OracleConfig { cell, input: width, hidden, .. } = self.config;
        let (batch, states) = (input.lengths.len(), self.config.state_count());
        let time = if batch == 0 { 0 } else { input.x.len() / (batch * width) };
        assert_eq!(input.x.len(), time * batch * width, "x must be [T, B, I]");
        assert!(input.reset.is_none_or(|reset| reset.len() == time * batch), "reset must be [T, B]");
        assert_eq!(input.c0.is_some(), input.h0.is_some() && cell.has_cell_state(), "c0 must go with h0");
        for given in [input.h0, input.c0].into_iter().flatten() {
            assert_eq!(given.len(), states * batch * hidden, "given states must be [L*D, B, H]");
        }
        let features = self.config.directions() * hidden;
        let zero = N::from(0.0);
        let mut run = BatchRun {
            outputs: vec![zero; time * batch * features],
            h_n: vec![zero; states * batch * hidden],
            c_n: vec![zero; if cell.has_cell_state() { states * batch * hidden } else { 0 }],
        };
        for (b, &length) in input.lengths.iter().enumerate() {
            assert!(length <= time, "sequence {b} has length {length}, the batch has {time} steps");
            let row_of = |t: usize| (t * batch + b) * width;
            let xs: Vec<Vec<N>> = (0..length).map(|t| input.x[row_of(t)..row_of(t) + width].to_vec()).collect();
            let reset: Vec<bool> = (0..length).map(|t| input.reset.is_some_and(|reset| reset[t * batch + b])).collect();
            let state_at = |index: usize| (index * batch + b) * hidden;
            let state_of = |values: Option<&[N]>, index: usize| {
                values.map_or(Vec::new(), |values| values[state_at(index)..state_at(index) + hidden].to_vec())
            };
            let given: Option<Vec<State<N>>> = input
                .h0
                .map(|_| (0..states).map(|s| State { h: state_of(input.h0, s), c: state_of(input.c0, s) }).collect());

            let sequence = self.run_sequence(&xs, &reset, given.as_deref());
            for (t, output) in sequence.outputs.iter().enumerate() {
                let at = (t * batch + b) * features;
                run.outputs[at..at + features].copy_from_slice(output);
            }
            for (index, state) in sequence.last.iter().enumerate() {
                let at = state_at(index);
                run.h_n[at..at + hidden].copy_from_slice(&state.h);
                if cell.has_cell_state() {
                    run.c_n[at..at + hidden].copy_from_slice(&state.c);
                }
            }
        }
        run
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient::assert_close;

    fn sigma(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    fn weights(ih: &[f64], hh: &[f64], b_ih: &[f64], b_hh: &[f64]) -> Weights<f64> {
        Weights {
            weight_ih: ih.to_vec(),
            weight_hh: hh.to_vec(),
            bias_ih: Some(b_ih.to_vec()),
            bias_hh: Some(b_hh.to_vec()),
            normalisation: None,
        }
    }

    /// One input, one unit, every number different: the sums are written out.
    #[test]
    fn lstm_step_by_hand() {
        let w = weights(&[0.1, 0.2, 0.3, 0.4], &[0.5, 0.6, 0.7, 0.8], &[0.01, 0.02, 0.03, 0.04], &[0.1, 0.2, 0.3, 0.4]);
        let got = step(OracleCell::Lstm, &w, &[2.0], &State { h: vec![-0.5], c: vec![0.25] });
        // i = sigma(0.2 - 0.25 + 0.11), f = sigma(0.4 - 0.3 + 0.22),
        // g = tanh(0.6 - 0.35 + 0.33), o = sigma(0.8 - 0.4 + 0.44)
        let c = sigma(0.32) * 0.25 + sigma(0.06) * 0.58_f64.tanh();
        let h = sigma(0.84) * c.tanh();
        assert_close("c", &got.c, &[c], 1e-15);
        assert_close("h", &got.h, &[h], 1e-15);
    }

    #[test]
    fn gru_steps_by_hand() {
        let w = weights(&[0.1, 0.2, 0.3], &[0.5, 0.6, 0.7], &[0.01, 0.02, 0.03], &[0.1, 0.2, 0.3]);
        let state = State { h: vec![-0.5], c: vec![] };
        let (r, z) = (sigma(0.2 - 0.25 + 0.11), sigma(0.4 - 0.3 + 0.22));
        let after = (0.6 + 0.03 + r * (0.7 * -0.5 + 0.3)).tanh();
        let before = (0.6 + 0.03 + 0.7 * (r * -0.5) + 0.3).tanh();
        for (cell, n) in [(OracleCell::GruAfter, after), (OracleCell::GruBefore, before)] {
            let got = step(cell, &w, &[2.0], &state);
            assert_close(cell.name(), &got.h, &[(1.0 - z) * n + z * -0.5], 1e-15);
        }
    }

    #[test]
    fn rnn_steps_by_hand() {
        let w = weights(&[0.1, 0.2, -0.3, 0.4], &[0.5, -0.6, 0.7, 0.8], &[0.01, 0.02], &[0.1, 0.2]);
        let state = State { h: vec![1.0, -1.0], c: vec![] };
        let sums = [0.1 * 2.0 + 0.2 * 3.0 + 0.5 + 0.6 + 0.11, -0.3 * 2.0 + 0.4 * 3.0 + 0.7 - 0.8 + 0.22];
        let tanh = step(OracleCell::RnnTanh, &w, &[2.0, 3.0], &state);
        assert_close("tanh", &tanh.h, &sums.map(f64::tanh), 1e-15);
        let relu = step(OracleCell::RnnRelu, &w, &[-2.0, -3.0], &state);
        // -0.8 + 1.1 + 0.11, and -0.6 - 0.1 + 0.22 below zero
        assert_close("relu", &relu.h, &[0.41, 0.0], 1e-15);
    }

    const CONFIG: OracleConfig = OracleConfig {
        cell: OracleCell::Lstm,
        input: 2,
        hidden: 3,
        layers: 2,
        bidirectional: true,
        bias: true,
        normalised: false,
    };

    fn network(cell: OracleCell) -> Network<f64> {
        let config = OracleConfig { cell, ..CONFIG };
        let parameters: Vec<f64> = (0..config.parameter_count()).map(|k| (k as f64 * 1.7).sin() * 0.6).collect();
        let mut network = Network::from_flat(config, &parameters);
        for (s, state) in network.restart.iter_mut().enumerate() {
            state.h = vec![0.1 + s as f64 * 0.05; 3];
            state.c.fill(0.3);
        }
        network
    }

    fn sequence(length: usize) -> Vec<Vec<f64>> {
        (0..length).map(|t| vec![(t as f64).cos(), (t as f64 * 0.7).sin()]).collect()
    }

    fn given(network: &Network<f64>) -> Vec<State<f64>> {
        network
            .restart
            .iter()
            .map(|state| State { h: vec![-0.4; state.h.len()], c: vec![0.8; state.c.len()] })
            .collect()
    }

    /// A single layer with boundaries equals its segments run separately: the first one forward and the last one in
    /// reverse from the given state, the others from the restart state.
    #[test]
    fn resets_cut_a_sequence_into_segments() {
        for cell in OracleCell::ALL {
            let mut network = network(cell);
            network.config.layers = 1;
            let (xs, given) = (sequence(5), given(&network));
            let reset = [false, false, true, false, true];
            let whole = network.run_sequence(&xs, &reset, Some(&given));
            let segment = |from: usize, to: usize, entry: [&State<f64>; 2]| {
                network.run_sequence(&xs[from..to], &vec![false; to - from], Some(&entry.map(State::clone)))
            };
            let [fwd, rev] = [&network.restart[0], &network.restart[1]];
            let segments =
                [segment(0, 2, [&given[0], rev]), segment(2, 4, [fwd, rev]), segment(4, 5, [fwd, &given[1]])];
            let joined: Vec<f64> = segments.iter().flat_map(|segment| segment.outputs.concat()).collect();
            assert_close(cell.name(), &whole.outputs.concat(), &joined, 0.0);
            assert_close("forward", &whole.last[0].h, &segments[2].last[0].h, 0.0);
            assert_close("reverse", &whole.last[1].h, &segments[0].last[1].h, 0.0);
        }
    }

    #[test]
    fn a_boundary_at_the_start_drops_the_given_state_forward_only() {
        let mut network = network(OracleCell::Lstm);
        network.config.layers = 1;
        let (xs, given) = (sequence(3), given(&network));
        let cut = network.run_sequence(&xs, &[true, false, false], Some(&given));
        let mixed = [network.restart[0].clone(), given[1].clone()];
        let want = network.run_sequence(&xs, &[false; 3], Some(&mixed));
        assert_close("outputs", &cut.outputs.concat(), &want.outputs.concat(), 0.0);
    }

    #[test]
    fn a_sequence_cut_into_chunks_is_the_sequence() {
        for cell in OracleCell::ALL {
            let mut config = CONFIG;
            config.cell = cell;
            config.bidirectional = false;
            let parameters: Vec<f64> = (0..config.parameter_count()).map(|k| (k as f64 * 1.7).sin()).collect();
            let network = Network::from_flat(config, &parameters);
            let (xs, reset) = (sequence(6), [false, true, false, false, true, false]);
            let whole = network.run_sequence(&xs, &reset, None);
            let mut state = network.restart.clone();
            let mut outputs = Vec::new();
            for t in 0..6 {
                let run = network.run_sequence(&xs[t..=t], &reset[t..=t], Some(&state));
                outputs.extend(run.outputs.concat());
                state = run.last;
            }
            assert_close(cell.name(), &outputs, &whole.outputs.concat(), 0.0);
        }
    }

    #[test]
    fn a_batch_is_its_sequences() {
        let network = network(OracleCell::Lstm);
        let lengths = [2, 0, 4];
        let x: Vec<f64> = (0..4 * 3 * 2).map(|k| (k as f64 * 0.37).sin()).collect();
        let h0: Vec<f64> = (0..4 * 3 * 3).map(|k| (k as f64 * 0.53).cos()).collect();
        let c0: Vec<f64> = h0.iter().map(|h| h * 2.0).collect();
        let reset: Vec<bool> = (0..4 * 3).map(|k| k % 5 == 3).collect();
        let run = network.run_batch(BatchInput {
            x: &x,
            lengths: &lengths,
            reset: Some(&reset),
            h0: Some(&h0),
            c0: Some(&c0),
        });
        for (b, &length) in lengths.iter().enumerate() {
            let xs: Vec<Vec<f64>> = (0..length).map(|t| x[(t * 3 + b) * 2..][..2].to_vec()).collect();
            let flags: Vec<bool> = (0..length).map(|t| reset[t * 3 + b]).collect();
            let given: Vec<State<f64>> = (0..4)
                .map(|s| State { h: h0[(s * 3 + b) * 3..][..3].to_vec(), c: c0[(s * 3 + b) * 3..][..3].to_vec() })
                .collect();
            let alone = network.run_sequence(&xs, &flags, Some(&given));
            for t in 0..4 {
                let want = alone.outputs.get(t).cloned().unwrap_or(vec![0.0; 6]);
                assert_close("outputs", &run.outputs[(t * 3 + b) * 6..][..6], &want, 0.0);
            }
            for s in 0..4 {
                assert_close("h_n", &run.h_n[(s * 3 + b) * 3..][..3], &alone.last[s].h, 0.0);
                assert_close("c_n", &run.c_n[(s * 3 + b) * 3..][..3], &alone.last[s].c, 0.0);
            }
        }
        assert_close("length 0 returns its initial state", &run.h_n[3..6], &h0[3..6], 0.0);
    }

    #[test]
    fn names_read_back() {
        for cell in OracleCell::ALL {
            assert_eq!(OracleCell::from_name(cell.name()), cell);
        }
    }
}
