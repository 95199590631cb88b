//! Stacks of recurrent layers over the kernels' driver: any depth, one or two directions, ragged batches.

use alloc::format;
use alloc::vec::Vec;
use core::ops::Range;

use throughline_kernels::buffer::Buffer;
use throughline_kernels::cells::CellKind;
use throughline_kernels::ops::dropout::Dropout;
use throughline_kernels::random::Philox;
use throughline_kernels::sequence::{
    self, BackwardPass, BackwardStates, DirectionWeights, ForwardPass, InitialStates, Inputs, LayerGradients,
    LayerShape, PackedLayer, Ragged, Record, RowGradients, Scratch, Tape,
};
use throughline_kernels::threads::Threads;
use throughline_kernels::{Element, Isa};

use crate::checkpointing::{Checkpointing, Segments};
use crate::initialise::{self, Initialisation};
use crate::parameters::{Layout, TensorId};

/// Where sequences start when no state is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InitialState {
    /// Zeros.
    #[default]
    Zero,
    /// Parameters, one state for each layer and direction.
    Learned,
}

/// The shape of a stack.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecurrentConfig {
    /// The cell of every layer.
    pub cell: CellKind,
    /// I of the first layer; the layers above take D·H.
    pub input: usize,
    /// H
    pub hidden: usize,
    /// L
    pub layers: usize,
    /// Whether each layer also reads backward; its output is then the concatenation `[forward, reverse]`, D = 2.
    pub bidirectional: bool,
    /// Whether there are biases.
    pub bias: bool,
    /// Share of the outputs between layers that training drops (Zaremba et al. 2014); 0 for none.
    pub dropout: f32,
    /// The state without a given one, and after a boundary.
    pub initial_state: InitialState,
}

impl RecurrentConfig {
    /// One layer, one direction, with biases, from zero states.
    pub fn new(cell: CellKind, input: usize, hidden: usize) -> Self {
        Self {
            cell,
            input,
            hidden,
            layers: 1,
            bidirectional: false,
            bias: true,
            dropout: 0.0,
            initial_state: InitialState::Zero,
        }
    }

    /// D
    pub fn directions(&self) -> usize {
        if self.bidirectional { 2 } else { 1 }
    }

    /// D·H, columns of the output.
    pub fn output(&self) -> usize {
        self.directions() * self.hidden
    }

    fn shape(&self, layer: usize) -> LayerShape {
        let input = if layer == 0 { self.input } else { self.output() };
        LayerShape { cell: self.cell, input, extra: 0, hidden: self.hidden, directions: self.directions() }
    }
}

/// The parameters of one direction of one layer.
#[derive(Clone, Debug)]
struct DirectionIds {
    weights: [TensorId; 2],
    biases: Option<[TensorId; 2]>,
    initial_h: Option<TensorId>,
    initial_c: Option<TensorId>,
}

/// A stack of recurrent layers: which parameters it has and how it runs.
#[derive(Clone, Debug)]
pub struct Recurrent {
    config: RecurrentConfig,
    /// `[L][D]`
    ids: Vec<Vec<DirectionIds>>,
}

/// States of all layers, `[L·D, B, H]` in the caller's order; `c` is empty for a cell without cell state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct States<E> {
    /// Hidden states.
    pub h: Vec<E>,
    /// Cell states.
    pub c: Vec<E>,
}

impl<E: Element> States<E> {
    /// Zeros for `batch` sequences.
    pub fn zeros(config: &RecurrentConfig, batch: usize) -> Self {
        let mut states = Self::default();
        states.reset(config, batch);
        states
    }

    /// Zeros for `batch` sequences; allocates only when there never were as many.
    pub fn reset(&mut self, config: &RecurrentConfig, batch: usize) {
        let length = config.layers * config.output() * batch;
        self.h.clear();
        self.h.resize(length, E::ZERO);
        self.c.clear();
        self.c.resize(if config.cell.has_cell_state() { length } else { 0 }, E::ZERO);
    }
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

/// Memory of a stack for one caller: outputs, tapes, states. Grows to what the largest batch needed; how much that is stands
/// in [`checkpointing`](crate::checkpointing).
#[derive(Debug)]
pub struct RecurrentWorkspace<E> {
    layers: Vec<LayerMemory<E>>,
    bidirectional: bool,
    segments: Segments,
    /// The segment that the tapes are of. `None` where there is nothing to go back through: before a forward pass that
    /// keeps a tape, and where a panic has ended one, or its repetition, half-way.
    taped: Option<usize>,
    row_gradients: RowGradients<E>,
    /// Gradients of the outputs of two neighbouring layers.
    d_outputs: [Buffer<E>; 2],
    scratch: Vec<Scratch<E>>,
}

/// Memory of one layer; states are in column order.
#[derive(Debug, Default)]
struct LayerMemory<E> {
    tape: Tape<E>,
    /// The top layer's is as long as the batch, that of a layer below as long as a segment.
    y: Buffer<E>,
    /// y with some of it dropped, the input of the layer above; unused without dropout.
    dropped: Buffer<E>,
    /// `[segments + 1, D, B, H]`: the states at the start of every segment, then the last ones.
    h: Buffer<E>,
    c: Buffer<E>,
    /// `[D, H]`
    restart_h: Buffer<E>,
    restart_c: Buffer<E>,
    /// `[D, B, H]`
    dh: Buffer<E>,
    dc: Buffer<E>,
    d_restart_h: Buffer<E>,
    d_restart_c: Buffer<E>,
}

/// How a stack runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pass {
    /// Keeps nothing and drops nothing.
    Inference,
    /// Keeps what backward needs, drops nothing.
    Traced,
    /// Keeps what backward needs and drops outputs between layers by the masks of this family.
    Training(Philox),
}

/// What a call of a stack works with.
#[derive(Clone, Copy)]
pub struct Context<'a, E> {
    /// Threads to compute with.
    pub threads: &'a Threads,
    /// The packed weights.
    pub packed: &'a PackedRecurrent<E>,
    /// The parameters they were packed from.
    pub parameters: &'a [E],
    /// Their layout.
    pub layout: &'a Layout,
}

impl Recurrent {
    /// Adds the parameters of a stack to `layout`, named `{prefix}weight_ih_l0`, `{prefix}weight_hh_l0`,
    /// `{prefix}bias_ih_l0`, `{prefix}bias_hh_l0` and so on (suffix `_reverse`), as in PyTorch, and for learned initial
    /// states `{prefix}initial_h_l0` and `{prefix}initial_c_l0`.
    ///
    /// # Panics
    /// If a size is 0.
    pub fn new(config: RecurrentConfig, layout: &mut Layout, prefix: &str) -> Self {
        assert!(config.input > 0 && config.hidden > 0 && config.layers > 0, "I, H and L are at least 1: {config:?}");
        let rows = config.cell.gates() * config.hidden;
        let ids = (0..config.layers).map(|layer| {
            let input = config.shape(layer).input;
            let directions = (0..config.directions()).map(|direction| {
                let suffix = format!("l{layer}{}", if direction == 1 { "_reverse" } else { "" });
                let mut add = |name: &str, shape: &[usize]| layout.add(format!("{prefix}{name}_{suffix}"), shape);
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
        Self { config, ids: ids.collect() }
    }

    /// The shape of the stack.
    pub fn config(&self) -> &RecurrentConfig {
        &self.config
    }

    /// New weights and biases; learned initial states stay as they are.
    pub fn initialise(&self, layout: &Layout, seed: u64, how: Initialisation, parameters: &mut [f32]) {
        let limit = 1.0 / libm::sqrt(self.config.hidden as f64);
        let gates = self.config.cell.gates();
        for ids in self.ids.iter().flatten() {
            let [weight_ih, weight_hh] = ids.weights;
            match how {
                Initialisation::Uniform => {
                    for id in ids.weights.into_iter().chain(ids.biases.into_iter().flatten()) {
                        initialise::uniform(seed, layout, id, limit, parameters);
                    }
                }
                Initialisation::Xavier => {
                    initialise::xavier(seed, layout, weight_ih, gates, parameters);
                    initialise::xavier(seed, layout, weight_hh, gates, parameters);
                }
                Initialisation::Orthogonal => {
                    initialise::xavier(seed, layout, weight_ih, gates, parameters);
                    initialise::orthogonal(seed, layout, weight_hh, parameters);
                }
            }
        }
    }

    /// `bias_ih` of every layer and direction.
    pub(crate) fn input_biases(&self) -> impl Iterator<Item = TensorId> {
        self.ids.iter().flatten().filter_map(|ids| ids.biases.map(|[bias_ih, _]| bias_ih))
    }

    /// Room for packed weights on `isa`; with `backward`, also for what training needs.
    pub fn packed<E: Element>(&self, isa: Isa, backward: bool) -> PackedRecurrent<E> {
        let layers = (0..self.config.layers).map(|layer| PackedLayer::new(self.config.shape(layer), isa, backward));
        PackedRecurrent { layers: layers.collect() }
    }

    /// Packs the weights of `parameters`.
    pub fn pack<E: Element>(
        &self,
        threads: &Threads,
        layout: &Layout,
        parameters: &[E],
        packed: &mut PackedRecurrent<E>,
    ) {
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
            packed.pack(threads, &weights[..ids.len()]);
        }
    }

    /// Memory for one caller that computes with `threads`.
    pub fn workspace<E: Element>(&self, threads: &Threads) -> RecurrentWorkspace<E> {
        RecurrentWorkspace {
            layers: (0..self.config.layers).map(|_| LayerMemory::default()).collect(),
            bidirectional: self.config.bidirectional,
            segments: Segments::default(),
            taped: None,
            row_gradients: RowGradients::default(),
            d_outputs: Default::default(),
            scratch: Scratch::for_threads(threads),
        }
    }

    /// Runs the stack over packed rows `x` `[N, I]` of a batch, from `given` states or the initial ones. Afterwards
    /// [`RecurrentWorkspace::output`] and [`last_states`](Self::last_states) hold the results.
    ///
    /// # Panics
    /// If a length does not fit the batch.
    pub fn forward<E: Element>(
        &self,
        context: Context<'_, E>,
        batch: &Ragged,
        x: &[E],
        given: Option<&States<E>>,
        pass: Pass,
        workspace: &mut RecurrentWorkspace<E>,
    ) {
        let keeps_tape = pass != Pass::Inference;
        workspace.taped = None;
        assert_eq!(x.len(), batch.rows() * self.config.input, "x is [N, I]");
        workspace.segments.cut(batch.steps(), keeps_tape);
        let count = workspace.segments.count();
        for (layer, memory) in workspace.layers.iter_mut().enumerate() {
            if !keeps_tape {
                memory.tape.invalidate();
            }
            self.enter(context, layer, batch, given, count, memory);
        }
        let top = workspace.layers.last_mut().expect("a stack has layers");
        top.y.at_least(batch.rows() * self.config.output());
        for segment in 0..count {
            self.run_segment(context, batch, x, pass, segment, keeps_tape && segment + 1 == count, workspace);
        }
        workspace.taped = keeps_tape.then_some(count - 1);
    }

    /// Runs all layers over one segment, from the states at its start to those at its end.
    #[allow(clippy::too_many_arguments)]
    fn run_segment<E: Element>(
        &self,
        context: Context<'_, E>,
        batch: &Ragged,
        x: &[E],
        pass: Pass,
        segment: usize,
        keeps_tape: bool,
        workspace: &mut RecurrentWorkspace<E>,
    ) {
        let RecurrentWorkspace { layers, segments, scratch, .. } = workspace;
        let (window, rows) = segments.window(batch, segment);
        let ([states_h, states_c], output) = (self.state_lengths(batch), self.config.output());
        for layer in 0..self.config.layers {
            let (below, this) = layers.split_at_mut(layer);
            let input = self.input_of(layer, below, x, &rows, pass);
            let LayerMemory { tape, y, dropped, h, c, restart_h, restart_c, .. } = &mut this[0];
            let (h_before, h_n) = h[segment * states_h..].split_at_mut(states_h);
            let (c_before, c_n) = c[segment * states_c..].split_at_mut(states_c);
            let y = if layer + 1 == self.config.layers {
                &mut y[rows.start * output..rows.end * output]
            } else {
                y.at_least(rows.len() * output)
            };
            let inputs = Inputs {
                layer: &context.packed.layers[layer],
                threads: context.threads,
                batch: window,
                x: input,
                initial: InitialStates { h: h_before, c: c_before, restart_h, restart_c },
                step_input: None,
            };
            let record = if keeps_tape { Record::Tape(tape) } else { Record::Nothing };
            let forward = ForwardPass { y: &mut *y, h_n: &mut h_n[..states_h], c_n: &mut c_n[..states_c], record };
            sequence::forward(&inputs, forward, scratch);
            if let Some(dropout) = self.dropout(layer, pass) {
                let dropped = dropped.at_least(y.len());
                dropped.copy_from_slice(y);
                drop_rows(context, &dropout, batch, rows.start, output, dropped);
            }
        }
    }

    /// Back-propagates through the last [`forward`](Self::forward) that was to keep what that needs: `dy` `[N, D·H]` is the
    /// gradient of the top layer's output and `d_last` that of the last states (`None` for zero). Adds to `gradients`,
    /// overwrites `dx` `[N, I]`, and leaves the gradient of the given states in
    /// [`state_gradients`](Self::state_gradients).
    ///
    /// # Panics
    /// If the arguments are not those of the forward pass, or it kept no tape or did not finish.
    #[allow(clippy::too_many_arguments)]
    pub fn backward<E: Element>(
        &self,
        context: Context<'_, E>,
        batch: &Ragged,
        x: &[E],
        given: bool,
        pass: Pass,
        dy: Option<&[E]>,
        d_last: Option<&States<E>>,
        mut dx: Option<&mut [E]>,
        gradients: &mut [E],
        workspace: &mut RecurrentWorkspace<E>,
    ) {
        let rows = batch.rows();
        let taped = workspace.taped.is_some();
        assert!(taped, "no finished forward pass has kept a tape in this workspace: run forward on this batch first");
        let steps = workspace.segments.steps();
        assert_eq!(steps, batch.steps(), "the last forward pass had other steps: run forward on this batch first");
        assert!(dy.is_none_or(|dy| dy.len() == rows * self.config.output()), "dy is [N, D·H]");
        assert!(dx.as_ref().is_none_or(|dx| dx.len() == rows * self.config.input), "dx is [N, I]");
        for (layer, memory) in workspace.layers.iter_mut().enumerate() {
            self.leave(layer, batch, d_last, memory);
        }
        for segment in (0..workspace.segments.count()).rev() {
            if workspace.taped != Some(segment) {
                workspace.taped = None;
                self.run_segment(context, batch, x, pass, segment, true, workspace);
                workspace.taped = Some(segment);
            }
            let given = given || segment > 0;
            let dx = dx.as_deref_mut();
            self.back_through_segment(context, batch, x, given, pass, segment, dy, dx, gradients, workspace);
        }
    }

    /// Back-propagates through all layers over the segment that the tapes are of. `given` tells whether its first states are
    /// given or come from the segment before.
    #[allow(clippy::too_many_arguments)]
    fn back_through_segment<E: Element>(
        &self,
        context: Context<'_, E>,
        batch: &Ragged,
        x: &[E],
        given: bool,
        pass: Pass,
        segment: usize,
        dy: Option<&[E]>,
        mut dx: Option<&mut [E]>,
        gradients: &mut [E],
        workspace: &mut RecurrentWorkspace<E>,
    ) {
        let RecurrentWorkspace { layers, segments, row_gradients, d_outputs, scratch, .. } = workspace;
        let (window, rows) = segments.window(batch, segment);
        let ([states_h, states_c], output) = (self.state_lengths(batch), self.config.output());
        let [restarts_h, restarts_c] = if window.restarts() > 0 { [states_h, states_c] } else { [0; 2] };
        for layer in (0..self.config.layers).rev() {
            let (below, this) = layers.split_at_mut(layer);
            let input = self.input_of(layer, below, x, &rows, pass);
            let LayerMemory { tape, y, h, c, restart_h, restart_c, dh, dc, d_restart_h, d_restart_c, .. } =
                &mut this[0];
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
            let inputs = Inputs {
                layer: &context.packed.layers[layer],
                threads: context.threads,
                batch: window,
                x: input,
                initial: InitialStates {
                    h: &h[segment * states_h..][..states_h],
                    c: &c[segment * states_c..][..states_c],
                    restart_h,
                    restart_c,
                },
                step_input: None,
            };
            let states = BackwardStates {
                dh: &mut *dh,
                dc: &mut *dc,
                restart_h: &mut *d_restart_h,
                restart_c: &mut *d_restart_c,
            };
            let d_layer = &mut self.layer_gradients(context.layout, layer, gradients)[..self.config.directions()];
            let backward = BackwardPass { y, tape, dy, states, dx, gradients: d_layer, row_gradients };
            sequence::backward(&inputs, backward, scratch);
            self.learn_initial_states(
                context.layout,
                layer,
                batch,
                given,
                [dh, dc, d_restart_h, d_restart_c],
                gradients,
            );
            if layer > 0
                && let Some(dropout) = self.dropout(layer - 1, pass)
            {
                drop_rows(context, &dropout, batch, rows.start, width, &mut to[..rows.len() * width]);
            }
        }
    }

    /// Numbers of the hidden and of the cell states of a layer.
    fn state_lengths(&self, batch: &Ragged) -> [usize; 2] {
        let states = self.config.output() * batch.batch();
        [states, if self.config.cell.has_cell_state() { states } else { 0 }]
    }

    /// What `layer` reads in a segment, the packed rows `rows`: x, or the output of the last layer of `below`.
    fn input_of<'a, E: Element>(
        &self,
        layer: usize,
        below: &'a [LayerMemory<E>],
        x: &'a [E],
        rows: &Range<usize>,
        pass: Pass,
    ) -> &'a [E] {
        let width = self.config.shape(layer).input;
        match below.last() {
            None => &x[rows.start * width..rows.end * width],
            Some(below) if self.dropout(layer - 1, pass).is_some() => &below.dropped[..rows.len() * width],
            Some(below) => &below.y[..rows.len() * width],
        }
    }

    /// The dropout above `layer`, if the pass has one there.
    fn dropout(&self, layer: usize, pass: Pass) -> Option<Dropout> {
        let Pass::Training(philox) = pass else { return None };
        let between = self.config.dropout > 0.0 && layer + 1 < self.config.layers;
        between.then_some(Dropout { philox, rate: self.config.dropout, place: layer as u32 })
    }

    /// Fills the states a layer starts from: given, learned or zero; and makes room for those after each of `segments`.
    fn enter<E: Element>(
        &self,
        context: Context<'_, E>,
        layer: usize,
        batch: &Ragged,
        given: Option<&States<E>>,
        segments: usize,
        memory: &mut LayerMemory<E>,
    ) {
        let RecurrentConfig { hidden, cell, .. } = self.config;
        let restart = |id: Option<TensorId>, to: &mut [E]| match id {
            Some(id) => to.copy_from_slice(context.layout.view(context.parameters, id)),
            None => to.fill(E::ZERO),
        };
        let [states_h, states_c] = self.state_lengths(batch);
        let LayerMemory { h, c, restart_h, restart_c, .. } = memory;
        let h = h.at_least((segments + 1) * states_h);
        let restart_h = restart_h.at_least(self.config.output());
        for (ids, to) in self.ids[layer].iter().zip(restart_h.chunks_mut(hidden)) {
            restart(ids.initial_h, to);
        }
        self.fill_entries(layer, batch, given.map(|given| &given.h[..]), restart_h, &mut h[..states_h]);
        if cell.has_cell_state() {
            let c = c.at_least((segments + 1) * states_c);
            let restart_c = restart_c.at_least(self.config.output());
            for (ids, to) in self.ids[layer].iter().zip(restart_c.chunks_mut(hidden)) {
                restart(ids.initial_c, to);
            }
            self.fill_entries(layer, batch, given.map(|given| &given.c[..]), restart_c, &mut c[..states_c]);
        }
    }

    /// Fills the gradients of a layer's last states.
    fn leave<E: Element>(&self, layer: usize, batch: &Ragged, d_last: Option<&States<E>>, memory: &mut LayerMemory<E>) {
        let [states_h, states_c] = self.state_lengths(batch);
        let (dh, dc) = (memory.dh.at_least(states_h), memory.dc.at_least(states_c));
        match d_last {
            Some(d_last) => {
                self.columns_from(layer, batch, &d_last.h, dh);
                if self.config.cell.has_cell_state() {
                    self.columns_from(layer, batch, &d_last.c, dc);
                }
            }
            None => {
                dh.fill(E::ZERO);
                dc.fill(E::ZERO);
            }
        }
    }

    fn fill_entries<E: Element>(
        &self,
        layer: usize,
        batch: &Ragged,
        given: Option<&[E]>,
        restart: &[E],
        columns: &mut [E],
    ) {
        match given {
            Some(given) => self.columns_from(layer, batch, given, columns),
            None => {
                let hidden = self.config.hidden;
                for (index, to) in columns.chunks_mut(hidden).enumerate() {
                    to.copy_from_slice(&restart[index / batch.batch() * hidden..][..hidden]);
                }
            }
        }
    }

    /// States of one layer from the caller's order `[L·D, B, H]` into column order `[D, B, H]`.
    fn columns_from<E: Element>(&self, layer: usize, batch: &Ragged, states: &[E], columns: &mut [E]) {
        let (hidden, directions) = (self.config.hidden, self.config.directions());
        assert_eq!(states.len(), self.config.layers * directions * batch.batch() * hidden, "states are [L·D, B, H]");
        for direction in 0..directions {
            for (column, &sequence) in batch.order().iter().enumerate() {
                let from = ((layer * directions + direction) * batch.batch() + sequence) * hidden;
                let to = (direction * batch.batch() + column) * hidden;
                columns[to..to + hidden].copy_from_slice(&states[from..from + hidden]);
            }
        }
    }

    /// Transpose of [`columns_from`](Self::columns_from).
    fn columns_to<E: Element>(&self, layer: usize, batch: &Ragged, columns: &[E], states: &mut [E]) {
        let (hidden, directions) = (self.config.hidden, self.config.directions());
        for direction in 0..directions {
            for (column, &sequence) in batch.order().iter().enumerate() {
                let to = ((layer * directions + direction) * batch.batch() + sequence) * hidden;
                let from = (direction * batch.batch() + column) * hidden;
                states[to..to + hidden].copy_from_slice(&columns[from..from + hidden]);
            }
        }
    }

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
        // The tensors of a layer were added in this order, so their places ascend.
        let of_direction = |ids: &DirectionIds| {
            let [weight_ih, weight_hh] = ids.weights.map(&mut take);
            let [bias_ih, bias_hh] = match ids.biases {
                Some(biases) => biases.map(&mut take),
                None => [&mut [][..], &mut [][..]],
            };
            LayerGradients { weight_ih, weight_hh, bias_ih, bias_hh }
        };
        let mut directions = self.ids[layer].iter().map(of_direction);
        let nothing = || LayerGradients { weight_ih: &mut [], weight_hh: &mut [], bias_ih: &mut [], bias_hh: &mut [] };
        core::array::from_fn(|_| directions.next().unwrap_or_else(nothing))
    }

    /// A learned state receives the gradient of every sequence that started from it, and of every boundary.
    fn learn_initial_states<E: Element>(
        &self,
        layout: &Layout,
        layer: usize,
        batch: &Ragged,
        given: bool,
        [dh, dc, d_restart_h, d_restart_c]: [&mut [E]; 4],
        gradients: &mut [E],
    ) {
        let width = batch.batch() * self.config.hidden;
        for (direction, ids) in self.ids[layer].iter().enumerate() {
            for (id, entries, restarts) in [(ids.initial_h, &*dh, &*d_restart_h), (ids.initial_c, &*dc, &*d_restart_c)]
            {
                let Some(id) = id else { continue };
                let gradient = layout.view_mut(gradients, id);
                let entries = if given { &[][..] } else { &entries[direction * width..][..width] };
                let restarts = restarts.get(direction * width..(direction + 1) * width).unwrap_or(&[]);
                for state in entries.chunks(self.config.hidden).chain(restarts.chunks(self.config.hidden)) {
                    for (sum, x) in gradient.iter_mut().zip(state) {
                        *sum = *sum + *x;
                    }
                }
            }
        }
    }

    /// The states after the last row of each sequence, of the last forward pass, in the caller's order.
    pub fn last_states<E: Element>(&self, batch: &Ragged, workspace: &RecurrentWorkspace<E>, states: &mut States<E>) {
        self.kept_states(batch, workspace.segments.count(), workspace, states);
    }

    /// The states at the start of a segment; those after the last one for the number of segments.
    fn kept_states<E: Element>(
        &self,
        batch: &Ragged,
        segment: usize,
        workspace: &RecurrentWorkspace<E>,
        states: &mut States<E>,
    ) {
        states.reset(&self.config, batch.batch());
        let [states_h, states_c] = self.state_lengths(batch);
        for (layer, memory) in workspace.layers.iter().enumerate() {
            self.columns_to(layer, batch, &memory.h[segment * states_h..], &mut states.h);
            if self.config.cell.has_cell_state() {
                self.columns_to(layer, batch, &memory.c[segment * states_c..], &mut states.c);
            }
        }
    }

    /// The gradients of the given states, of the last backward pass, in the caller's order.
    pub fn state_gradients<E: Element>(&self, batch: &Ragged, workspace: &RecurrentWorkspace<E>, d: &mut States<E>) {
        d.reset(&self.config, batch.batch());
        for (layer, memory) in workspace.layers.iter().enumerate() {
            self.columns_to(layer, batch, &memory.dh, &mut d.h);
            if self.config.cell.has_cell_state() {
                self.columns_to(layer, batch, &memory.dc, &mut d.c);
            }
        }
    }

    /// The states after step `steps - 1` of the last forward pass with a tape, in the caller's order: where truncated
    /// BPTT's next window starts. `steps` = 0 gives the states the pass started from.
    ///
    /// # Panics
    /// If the stack reads backward, a sequence is shorter than `steps`, or checkpointing has not kept these states
    /// ([`RecurrentWorkspace::keep_states_after`]).
    pub fn states_after<E: Element>(
        &self,
        batch: &Ragged,
        steps: usize,
        workspace: &RecurrentWorkspace<E>,
        states: &mut States<E>,
    ) {
        assert!(!self.config.bidirectional, "a stack that reads backward has no state in mid-sequence");
        assert!(steps == 0 || batch.batch_sizes()[steps - 1] == batch.batch(), "every sequence reaches step {steps}");
        if let Some(segment) = workspace.segments.beginning_at(steps) {
            self.kept_states(batch, segment, workspace, states);
            return;
        }
        let count = workspace.segments.count();
        assert_eq!(count, 1, "the states after {steps} steps are not kept: ask for them before the forward pass");
        let hidden = self.config.hidden;
        states.reset(&self.config, batch.batch());
        for (layer, memory) in workspace.layers.iter().enumerate() {
            for (column, &sequence) in batch.order().iter().enumerate() {
                let to = (layer * batch.batch() + sequence) * hidden;
                let row = batch.row(steps - 1, column);
                states.h[to..to + hidden].copy_from_slice(&memory.y[row * hidden..][..hidden]);
                if let Some(c) = memory.tape.cell_state(0, row) {
                    states.c[to..to + hidden].copy_from_slice(c);
                }
            }
        }
    }
}

impl<E: Element> RecurrentWorkspace<E> {
    /// The top layer's output of the last forward pass over a batch of `rows` rows and `output` = D·H columns: `[N, D·H]`.
    pub fn output(&self, rows: usize, output: usize) -> &[E] {
        &self.layers.last().expect("a stack has layers").y[..rows * output]
    }

    /// How training spares memory from the next forward pass on. The default is [`Checkpointing::Off`].
    ///
    /// # Panics
    /// If the stack reads in both directions, unless `checkpointing` is off.
    pub fn set_checkpointing(&mut self, checkpointing: Checkpointing) {
        let possible = !self.bidirectional || checkpointing == Checkpointing::Off;
        assert!(possible, "a stack that reads in both directions has no checkpointing, not {checkpointing:?}");
        self.segments.checkpointing = checkpointing;
    }

    /// Has the next forward pass that keeps a tape, and no later one, keep the states after `steps` steps for
    /// [`Recurrent::states_after`], whatever the checkpointing; the last request counts. Without checkpointing all are kept;
    /// with it those after every k-th step, the last ones and these. A [`Pass::Inference`] in between changes nothing.
    pub fn keep_states_after(&mut self, steps: usize) {
        self.segments.extra_cut = steps;
    }

    /// The tape of a layer, of the last pass that kept one; with [`Checkpointing`] it is of the segment that ran last.
    pub fn tape(&self, layer: usize) -> &Tape<E> {
        &self.layers[layer].tape
    }
}

/// Drops from packed rows of a batch, the first of which is `first` in the whole: masks follow the time in the whole.
fn drop_rows<E: Element>(
    context: Context<'_, E>,
    dropout: &Dropout,
    batch: &Ragged,
    first: usize,
    features: usize,
    rows: &mut [E],
) {
    let isa = context.packed.layers[0].isa();
    dropout.apply(isa, context.threads, rows, features, &|row| place_of(batch, first + row));
}

/// (sequence, time) of a packed row: what a mask depends on.
pub(crate) fn place_of(batch: &Ragged, row: usize) -> (u32, u32) {
    let (sequence, time) = batch.sequence_and_time(row);
    (sequence as u32, time as u32)
}
