//! Recurrent stacks over the kernels' driver: any depth, one or two directions, ragged batches.
//!
//! - [`RecurrentConfig`]: the shape of a stack;
//! - [`Recurrent`]: its parameters, and the stack as a module (here);
//! - [`RecurrentTape`]: what a pass keeps;
//! - `forward`, `backward`: the passes over all layers, segment by segment in time;
//! - `states`: from the caller's order to columns and back;
//! - [`checkpointing`]: training memory that grows with the square root of T.

mod backward;
pub mod checkpointing;
mod config;
mod forward;
mod states;
mod tape;

pub use checkpointing::Checkpointing;
pub use config::{InitialState, RecurrentConfig};
pub use tape::RecurrentTape;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use throughline_kernels::cells::CellKind;
use throughline_kernels::sequence::{DirectionWeights, PackedLayer, Ragged};
use throughline_kernels::{Element, Isa};

use crate::error::{Error, Result};
use crate::initialise::{self, Initialisation, Initialise};
use crate::memory::{Dropout, assert_is_rate};
use crate::module::{Call, Context, Cpu, Gradients, Layer, Module, Pass, Start, Step, TapeSetting, Visit};
use crate::parameters::{Builder, Layout, TensorId};
use crate::state::{StateArray, StateShape};

/// What a stack hands on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readout {
    /// The top layer's hidden state at every row, `[N, D·H]`.
    #[default]
    Rows,
    /// The state with which each direction of the top layer ends, `[B, D·H]` in the caller's order.
    LastStates,
}

/// The parameters of one direction of one layer.
#[derive(Clone, Debug)]
struct DirectionIds {
    weights: [TensorId; 2],
    biases: Option<[TensorId; 2]>,
    initial_h: Option<TensorId>,
    initial_c: Option<TensorId>,
}

/// A stack of recurrent layers.
///
/// Its state has, for each layer and direction, an array `h_l0`, `h_l0_reverse`, `h_l1` ... `[B, H]` and, for a cell with a
/// cell state, then `c_l0` and so on.
#[derive(Clone, Debug)]
pub struct Recurrent {
    name: String,
    prefix: String,
    config: RecurrentConfig,
    readout: Readout,
    /// `[L][D]`
    ids: Vec<Vec<DirectionIds>>,
    /// The site of the dropout above the first layer; those of the others follow.
    first_site: u32,
    output_dropout: Dropout,
}

/// The packed weights of a stack: immutable in use, packed anew after each update.
#[derive(Debug)]
pub struct PackedRecurrent<E> {
    layers: Vec<PackedLayer<E>>,
}

impl<E> PackedRecurrent<E> {
    /// The layers, lowest first.
    pub fn layers(&self) -> &[PackedLayer<E>] {
        &self.layers
    }

    /// The same, to [`force`](PackedLayer::force) a plan on.
    pub fn layers_mut(&mut self) -> &mut [PackedLayer<E>] {
        &mut self.layers
    }
}

impl Recurrent {
    /// A stack with parameters `{name}.weight_ih_l0`, `{name}.weight_hh_l0`, `{name}.bias_ih_l0`, `{name}.bias_hh_l0` and so
    /// on (suffix `_reverse`), as in PyTorch, and for learned initial states `{name}.initial_h_l0` and
    /// `{name}.initial_c_l0`. Without a name there is no dot either.
    ///
    /// # Panics
    /// If a size is 0, or the rate of dropout is not at least 0 and below 1.
    pub fn new(builder: &mut Builder, name: &str, config: RecurrentConfig) -> Self {
        assert!(config.input > 0 && config.hidden > 0 && config.layers > 0, "I, H and L are at least 1: {config:?}");
        assert_is_rate(config.dropout);
        let rows = config.cell.gates() * config.hidden;
        let prefix = if name.is_empty() { String::new() } else { format!("{name}.") };
        let first_site = builder.stack_sites(config.layers);
        let ids = (0..config.layers).map(|layer| {
            let input = config.shape(layer).input;
            let directions = (0..config.directions()).map(|direction| {
                let suffix = suffix(layer, direction);
                let mut add = |name: &str, shape: &[usize]| builder.add(format!("{prefix}{name}_{suffix}"), shape);
                let weights = [add("weight_ih", &[rows, input]), add("weight_hh", &[rows, config.hidden])];
                let biases = config.bias.then(|| [add("bias_ih", &[rows]), add("bias_hh", &[rows])]);
                let learned = config.initial_state == InitialState::Learned;
                let initial_h = learned.then(|| add("initial_h", &[config.hidden]));
                let has_c = learned && config.cell.has_cell_state();
                let initial_c = has_c.then(|| add("initial_c", &[config.hidden]));
                DirectionIds { weights, biases, initial_h, initial_c }
            });
            directions.collect()
        });
        let ids = ids.collect();
        let (readout, output_dropout) = (Readout::Rows, Dropout::default());
        Self { name: name.into(), prefix, config, readout, ids, first_site, output_dropout }
    }

    /// In training each number that the stack hands on is dropped with probability `rate`, besides the dropout between its
    /// layers.
    ///
    /// # Panics
    /// If the rate is not at least 0 and below 1.
    pub fn with_dropout(self, builder: &mut Builder, rate: f32) -> Self {
        Self { output_dropout: Dropout::new(builder, rate), ..self }
    }

    /// Hands on what `readout` says.
    pub fn with_readout(self, readout: Readout) -> Self {
        Self { readout, ..self }
    }

    /// Its name, which its parameters begin with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The shape of the stack.
    pub fn config(&self) -> &RecurrentConfig {
        &self.config
    }

    /// The dropout above `layer`, if the pass has one there.
    fn dropout(&self, layer: usize) -> Dropout {
        if layer + 1 == self.config.layers {
            return if self.readout == Readout::Rows { self.output_dropout } else { Dropout::default() };
        }
        Dropout { rate: self.config.dropout, site: self.first_site + layer as u32 }
    }
}

/// `l0`, `l0_reverse`, `l1`, ...
fn suffix(layer: usize, direction: usize) -> String {
    format!("l{layer}{}", if direction == 1 { "_reverse" } else { "" })
}

impl Layer for Recurrent {
    fn width(&self) -> usize {
        self.config.output()
    }

    fn cells(&self) -> Vec<(String, CellKind)> {
        alloc::vec![(self.name.clone(), self.config.cell)]
    }

    fn state_shape(&self) -> StateShape {
        let mut shape = StateShape::default();
        for letter in if self.config.cell.has_cell_state() { &["h", "c"][..] } else { &["h"] } {
            for layer in 0..self.config.layers {
                for direction in 0..self.config.directions() {
                    let name = format!("{}{letter}_{}", self.prefix, suffix(layer, direction));
                    shape.push(name, self.config.hidden);
                }
            }
        }
        shape
    }

    fn state_count(&self) -> usize {
        let arrays = self.config.layers * self.config.directions();
        if self.config.cell.has_cell_state() { 2 * arrays } else { arrays }
    }

    fn read_directly(&self) -> Vec<TensorId> {
        self.ids.iter().flatten().flat_map(|ids| ids.initial_h.into_iter().chain(ids.initial_c)).collect()
    }

    /// Weights and biases as [`Initialisation`] says; learned initial states stay 0.
    fn initialise(&self, how: &Initialise, layout: &Layout, parameters: &mut [f32]) {
        let RecurrentConfig { cell, hidden, .. } = self.config;
        let (limit, seed) = (1.0 / libm::sqrt(hidden as f64), how.seed);
        for ids in self.ids.iter().flatten() {
            let [weight_ih, weight_hh] = ids.weights;
            match how.recurrent {
                Initialisation::Uniform => {
                    for id in ids.weights.into_iter().chain(ids.biases.into_iter().flatten()) {
                        initialise::uniform(seed, layout, id, limit, parameters);
                    }
                }
                Initialisation::Xavier => {
                    initialise::xavier(seed, layout, weight_ih, cell.gates(), parameters);
                    initialise::xavier(seed, layout, weight_hh, cell.gates(), parameters);
                }
                Initialisation::Orthogonal => {
                    initialise::xavier(seed, layout, weight_ih, cell.gates(), parameters);
                    initialise::orthogonal(seed, layout, weight_hh, parameters);
                }
            }
            if let (Some([bias_ih, _]), Some(forget)) = (ids.biases, cell.gate("forget")) {
                let gate = forget * hidden..(forget + 1) * hidden;
                layout.view_mut(parameters, bias_ih)[gate].iter_mut().for_each(|x| *x += how.forget_bias);
            }
        }
    }
}

impl<E: Element> Module<E> for Recurrent {
    /// `[N, I]`
    type Input = [E];
    type Packed = PackedRecurrent<E>;
    type Tape = RecurrentTape<E>;

    fn packed(&self, isa: Isa, backward: bool) -> Self::Packed {
        let layers = (0..self.config.layers).map(|layer| PackedLayer::new(self.config.shape(layer), isa, backward));
        PackedRecurrent { layers: layers.collect() }
    }

    fn pack(&self, cpu: &Cpu, layout: &Layout, parameters: &[E], packed: &mut Self::Packed) {
        for (packed, ids) in packed.layers.iter_mut().zip(&self.ids) {
            let of_direction = |ids: &DirectionIds| {
                let [weight_ih, weight_hh] = ids.weights.map(|id| layout.view(parameters, id));
                let [bias_ih, bias_hh] = match ids.biases {
                    Some(biases) => biases.map(|id| layout.view(parameters, id)),
                    None => [&[][..]; 2],
                };
                DirectionWeights { weight_ih, weight_hh, bias_ih, bias_hh }
            };
            let mut weights = [DirectionWeights { weight_ih: &[], weight_hh: &[], bias_ih: &[], bias_hh: &[] }; 2];
            for (weights, ids) in weights.iter_mut().zip(ids) {
                *weights = of_direction(ids);
            }
            packed.pack(&cpu.threads, &weights[..ids.len()]);
        }
    }

    /// # Panics
    /// If the stack reads in both directions and is to have checkpointing, or checkpointing is asked for together with
    /// pre-activations or row gradients.
    fn set(&self, tape: &mut Self::Tape, setting: TapeSetting) {
        tape.set(&self.config, setting);
    }

    fn input_length(&self, x: &[E]) -> usize {
        x.len()
    }

    fn forward(&self, call: Call<'_, E, Self>, tape: &mut Self::Tape) {
        tape.last.forget();
        self.run(call, tape);
        if self.readout == Readout::LastStates {
            self.read_last_states(call.rows, tape);
            let RecurrentTape { pooled_rows, features, .. } = tape;
            let rows = pooled_rows.rows();
            let features = features.at_least(rows.batch() * self.config.output());
            self.output_dropout.apply(call.context, rows, 0, self.config.output(), features);
        }
        tape.last.remember(call);
    }

    fn output<'a>(&self, rows: &'a Ragged, tape: &'a Self::Tape) -> (&'a Ragged, &'a [E]) {
        let (count, output) = (tape.last.row_count(rows), self.config.output());
        match self.readout {
            Readout::Rows => (rows, tape.output(count * output)),
            Readout::LastStates => {
                let rows = tape.pooled_rows.rows();
                (rows, &tape.features[..rows.batch() * output])
            }
        }
    }

    fn end(&self, rows: &Ragged, tape: &Self::Tape, state: &mut [StateArray<E>]) {
        tape.last.assert_was_over(rows);
        self.assert_fits("the state at the end", state, rows.batch());
        self.kept_states(rows, tape.segments.count(), tape, state);
    }

    fn state_after(&self, rows: &Ragged, steps: usize, tape: &Self::Tape, state: &mut [StateArray<E>]) {
        tape.last.assert_was_over(rows);
        self.assert_fits("the state in mid-sequence", state, rows.batch());
        self.states_in_sequence(rows, steps, tape, state);
    }

    fn backward(&self, call: Call<'_, E, Self>, gradients: Gradients<'_, E>, tape: &mut Self::Tape) {
        self.go_back(call, gradients, tape);
    }

    fn step<'a>(
        &self,
        step: Step<'_, E, Self>,
        state: &mut [StateArray<E>],
        tape: &'a mut Self::Tape,
    ) -> Result<&'a [E]> {
        if self.config.bidirectional {
            return Err(Error::NoSteps {
                module: self.name.clone(),
                why: "it also reads backward, from the last step",
            });
        }
        let Step { context, packed, x, begun } = step;
        tape.last.forget();
        let mut step_rows = core::mem::take(&mut tape.step_rows);
        let rows = step_rows.of(begun.len());
        let context = Context { pass: Pass::Inference, ..context };
        let start = Some(Start { begun, arrays: state });
        self.run(Call { context, packed, rows, x, start }, tape);
        self.kept_states(rows, tape.segments.count(), tape, state);
        tape.step_rows = step_rows;
        Ok(tape.output(begun.len() * self.config.output()))
    }

    fn visit(&self, tape: &Self::Tape, visitor: &mut dyn Visit<E>) {
        visitor.recurrent(self, tape);
    }
}
