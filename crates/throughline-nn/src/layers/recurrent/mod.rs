//! Recurrent stacks: any depth, one or two directions, ragged batches.
//!
//! - [`RecurrentConfig`]: the shape of a stack;
//! - [`Recurrent`]: its parameters, and the stack as a module (in this file);
//! - [`RecurrentTape`]: what a pass keeps;
//! - `forward`, `backward`: the passes over all layers, one time segment after another;
//! - `penalty`: penalties on the output in training;
//! - `states`: conversion between the caller's order and the columns of a batch;
//! - `weight_dropout`: recurrent weights of which some are dropped;
//! - [`checkpointing`]: training memory that grows with the square root of T.

mod backward;
pub mod checkpointing;
mod config;
mod forward;
mod penalty;
mod states;
mod tape;
mod weight_dropout;

pub use checkpointing::Checkpointing;
pub use config::{InitialState, RecurrentConfig, RecurrentRegularisation};
pub use penalty::ActivationPenalty;
pub use tape::RecurrentTape;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use throughline_kernels::cells::CellKind;
use throughline_kernels::sequence::{DirectionWeights, Masks, NormalisationWeights, PackedLayer, Ragged};
use throughline_kernels::{Element, Isa};

use crate::error::{Error, Result};
use crate::initialise::{self, Initialisation, Initialise};
use crate::memory::{Dropout, assert_is_rate};
use crate::module::{Call, Context, Cpu, Gradients, Layer, Module, Pass, Step, TapeSetting, Visit};
use crate::parameters::{Builder, DropoutMask, Layout, TensorId};
use crate::state::{Start, StateArray, StateShape};

use weight_dropout::WeightMasks;

/// The output of a stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readout {
    /// The top layer's hidden state at every row, `[N, D·H]`.
    #[default]
    Rows,
    /// The final hidden state of each direction of the top layer, `[B, D·H]` in the caller's order.
    LastStates,
}

/// The parameters of one direction of one layer.
#[derive(Clone, Debug)]
struct DirectionIds {
    weights: [TensorId; 2],
    biases: Option<[TensorId; 2]>,
    normalisation: Option<NormalisationIds>,
    initial_h: Option<TensorId>,
    initial_c: Option<TensorId>,
}

/// The parameters of a direction's normalisation.
#[derive(Clone, Copy, Debug)]
struct NormalisationIds {
    /// The weights of the input and of the hidden terms.
    weights: [TensorId; 2],
    /// The weight and bias of what is read out of the cell state.
    cell: Option<[TensorId; 2]>,
}

/// A stack of recurrent layers.
///
/// Its state has an array `[B, H]` for each layer and direction: `{name}.h_l0`, `{name}.h_l0_reverse`, `{name}.h_l1`,
/// ... and, if the cell has a cell state, after these `{name}.c_l0` and so on.
#[derive(Clone, Debug)]
pub struct Recurrent {
    name: String,
    prefix: String,
    config: RecurrentConfig,
    readout: Readout,
    /// `[L][D]`
    ids: Vec<Vec<DirectionIds>>,
    /// The site of dropout above the first layer; those of the other layers follow.
    first_site: u32,
    dropout_mask: DropoutMask,
    output_dropout: Dropout,
    penalty: ActivationPenalty,
}

/// The packed weights of a stack.
#[derive(Debug)]
pub struct PackedRecurrent<E> {
    layers: Vec<PackedLayer<E>>,
}

impl<E> PackedRecurrent<E> {
    /// The layers from the lowest up.
    pub fn layers(&self) -> &[PackedLayer<E>] {
        &self.layers
    }

    /// The same, mutable, to [`force`](PackedLayer::force) a plan on a layer.
    pub fn layers_mut(&mut self) -> &mut [PackedLayer<E>] {
        &mut self.layers
    }
}

impl Recurrent {
    /// A stack with PyTorch's parameters: `{name}.weight_ih_l0` `[G·H, I]`, `{name}.weight_hh_l0` `[G·H, H]`,
    /// `{name}.bias_ih_l0` and `{name}.bias_hh_l0` `[G·H]`, and so on for each layer, with the suffix `_reverse` for
    /// the reverse direction. Those of a normalised cell are `{name}.norm_weight_ih_l0` and `{name}.norm_weight_hh_l0`
    /// `[G·H]` and, with a cell state, `{name}.norm_weight_c_l0` and `{name}.norm_bias_c_l0` `[H]`. Learned initial states are `{name}.initial_h_l0` and `{name}.initial_c_l0` `[H]`. An
    /// empty name adds no dot.
    ///
    /// # Panics
    /// If a size is 0, a rate of dropout or zoneout is not in [0, 1), or one acts on what the cell does not have.
    pub fn new(builder: &mut Builder, name: &str, config: RecurrentConfig) -> Self {
        assert!(config.input > 0 && config.hidden > 0 && config.layers > 0, "I, H and L are at least 1: {config:?}");
        assert_is_rate(config.dropout);
        assert_is_rate(config.regularisation.weight_dropout);
        config.regularisation.of_steps(None).check(config.cell);
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
                let normalisation = config.layer_norm.then(|| NormalisationIds {
                    weights: [add("norm_weight_ih", &[rows]), add("norm_weight_hh", &[rows])],
                    cell: (config.cell.has_cell_state())
                        .then(|| [add("norm_weight_c", &[config.hidden]), add("norm_bias_c", &[config.hidden])]),
                });
                let learned = config.initial_state == InitialState::Learned;
                let initial_h = learned.then(|| add("initial_h", &[config.hidden]));
                let has_c = learned && config.cell.has_cell_state();
                let initial_c = has_c.then(|| add("initial_c", &[config.hidden]));
                DirectionIds { weights, biases, normalisation, initial_h, initial_c }
            });
            directions.collect()
        });
        let ids = ids.collect();
        Self {
            name: name.into(),
            prefix,
            config,
            readout: Readout::Rows,
            ids,
            first_site,
            dropout_mask: builder.dropout_mask(),
            output_dropout: Dropout::default(),
            penalty: ActivationPenalty::default(),
        }
    }

    /// Applies dropout to the output of the stack in training, besides the dropout between its layers: each element is
    /// 0 with probability `rate`, and otherwise scaled by 1 / (1 - rate).
    ///
    /// # Panics
    /// If `rate` is not in [0, 1).
    pub fn with_dropout(self, builder: &mut Builder, rate: f32) -> Self {
        Self { output_dropout: Dropout::new(builder, rate), ..self }
    }

    /// Adds penalties on the rows of the top layer to the loss in training, whatever the output of the stack is.
    ///
    /// # Panics
    /// If the weight of a penalty is negative or not finite.
    pub fn with_penalty(self, penalty: ActivationPenalty) -> Self {
        penalty.assert_is_one();
        Self { penalty, ..self }
    }

    /// Sets the output of the stack; [`Readout::Rows`] by default.
    pub fn with_readout(self, readout: Readout) -> Self {
        Self { readout, ..self }
    }

    /// `weight_hh` of a layer in a direction.
    ///
    /// # Panics
    /// If there is no such layer or direction.
    pub fn weight_hh(&self, layer: usize, direction: usize) -> TensorId {
        self.ids[layer][direction].weights[1]
    }

    /// Its name, the prefix of its parameters.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The shape of the stack.
    pub fn config(&self) -> &RecurrentConfig {
        &self.config
    }

    /// The dropout of the rows that `layer` writes. That of last states is applied after the layers.
    fn dropout(&self, layer: usize) -> Dropout {
        if layer + 1 == self.config.layers {
            return if self.readout == Readout::Rows { self.output_dropout } else { Dropout::default() };
        }
        Dropout { rate: self.config.dropout, site: self.first_site + layer as u32, mask: self.dropout_mask }
    }

    /// The masks inside the recurrence of `layer`, if the pass has any.
    fn masks(&self, layer: usize, pass: Pass) -> Option<Masks> {
        let Pass::Training(philox) = pass else { return None };
        Some(Masks { philox, place: self.first_site + layer as u32 })
    }

    /// The masks of the recurrent weights of `layer`, if the pass drops any.
    fn weight_masks(&self, layer: usize, pass: Pass) -> Option<WeightMasks> {
        let rate = self.config.regularisation.weight_dropout;
        self.masks(layer, pass).filter(|_| rate > 0.0).map(|masks| WeightMasks { masks, rate })
    }

    /// The parameters of `layer` for packing, one for each direction.
    fn weights<'a, E: Element>(
        &self,
        layer: usize,
        layout: &Layout,
        parameters: &'a [E],
    ) -> [DirectionWeights<'a, E>; 2] {
        let none = DirectionWeights { weight_ih: &[], weight_hh: &[], bias_ih: &[], bias_hh: &[], normalisation: None };
        let mut weights = [none; 2];
        for (weights, ids) in weights.iter_mut().zip(&self.ids[layer]) {
            let [weight_ih, weight_hh] = ids.weights.map(|id| layout.view(parameters, id));
            let [bias_ih, bias_hh] = match ids.biases {
                Some(biases) => biases.map(|id| layout.view(parameters, id)),
                None => [&[][..]; 2],
            };
            let normalisation = ids.normalisation.map(|ids| {
                let [input, hidden] = ids.weights.map(|id| layout.view(parameters, id));
                let [cell, cell_bias] = match ids.cell {
                    Some(cell) => cell.map(|id| layout.view(parameters, id)),
                    None => [&[][..]; 2],
                };
                NormalisationWeights { input, hidden, cell, cell_bias }
            });
            *weights = DirectionWeights { weight_ih, weight_hh, bias_ih, bias_hh, normalisation };
        }
        weights
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

    /// Weights and biases as set by [`Initialisation`]; the weights of normalisation are 1, its own bias and learned
    /// initial states stay 0.
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
            if let Some(NormalisationIds { weights, cell }) = ids.normalisation {
                for id in weights.into_iter().chain(cell.map(|[weight, _]| weight)) {
                    layout.view_mut(parameters, id).fill(1.0);
                }
            }
            if let (Some([bias_ih, _]), Some(keep)) = (ids.biases, cell.keeping_gate()) {
                let gate = keep * hidden..(keep + 1) * hidden;
                layout.view_mut(parameters, bias_ih)[gate].iter_mut().for_each(|x| *x += how.forget_bias);
                if how.longest_memory > 0 {
                    let gates = (keep, cell.gate("input"));
                    initialise::chrono(seed, layout, bias_ih, hidden, how.longest_memory, gates, parameters);
                }
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
        for (layer, packed) in packed.layers.iter_mut().enumerate() {
            let weights = self.weights(layer, layout, parameters);
            packed.pack(&cpu.threads, &weights[..self.config.directions()]);
        }
    }

    /// # Panics
    /// If checkpointing is set for a bidirectional stack, or together with pre-activations or row gradients.
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
        self.assert_fits("the final state", state, rows.batch());
        self.kept_states(rows, tape.segments.count(), tape, state);
    }

    fn state_after(&self, rows: &Ragged, steps: usize, tape: &Self::Tape, state: &mut [StateArray<E>]) {
        tape.last.assert_was_over(rows);
        self.assert_fits("the state in mid-sequence", state, rows.batch());
        self.states_in_sequence(rows, steps, tape, state);
    }

    fn backward(&self, call: Call<'_, E, Self>, gradients: Gradients<'_, E>, tape: &mut Self::Tape) {
        self.backpropagate(call, gradients, tape);
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
                why: "it also reads in reverse, from the last step",
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
