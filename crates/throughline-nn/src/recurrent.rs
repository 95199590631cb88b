//! Stacks of recurrent layers over the kernels' driver: any depth, one or two directions, ragged batches.

use alloc::format;
use alloc::vec::Vec;

use throughline_kernels::buffer::Buffer;
use throughline_kernels::cells::CellKind;
use throughline_kernels::ops::dropout::Dropout;
use throughline_kernels::random::Philox;
use throughline_kernels::sequence::{
    self, BackwardStates, DirectionWeights, InitialStates, LayerGradients, LayerShape, PackedLayer, Ragged, Record,
    Scratch, SlotGradients, Tape,
};
use throughline_kernels::threads::Threads;
use throughline_kernels::{Element, Isa};

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

/// Memory of a stack for one caller: outputs, tapes, states. Grows to what the largest batch needed.
#[derive(Debug)]
pub struct RecurrentWorkspace<E> {
    layers: Vec<LayerMemory<E>>,
    slot_gradients: SlotGradients<E>,
    /// Gradients of the outputs of two neighbouring layers.
    d_outputs: [Buffer<E>; 2],
    scratch: Vec<Scratch<E>>,
}

/// Memory of one layer; states `[D, B, H]` in column order.
#[derive(Debug, Default)]
struct LayerMemory<E> {
    tape: Tape<E>,
    y: Buffer<E>,
    /// y with some of it dropped, the input of the layer above; unused without dropout.
    dropped: Buffer<E>,
    h0: Buffer<E>,
    c0: Buffer<E>,
    restart_h: Buffer<E>,
    restart_c: Buffer<E>,
    h_n: Buffer<E>,
    c_n: Buffer<E>,
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
    /// Keeps the tape, drops nothing.
    Traced,
    /// Keeps the tape and drops outputs between layers by the masks of this family.
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
            let weights: Vec<DirectionWeights<'_, E>> = ids
                .iter()
                .map(|ids| {
                    let [weight_ih, weight_hh] = ids.weights.map(|id| layout.view(parameters, id));
                    let [bias_ih, bias_hh] = match ids.biases {
                        Some(biases) => biases.map(|id| layout.view(parameters, id)),
                        None => [&[][..]; 2],
                    };
                    DirectionWeights { weight_ih, weight_hh, bias_ih, bias_hh }
                })
                .collect();
            packed.pack(threads, &weights);
        }
    }

    /// Memory for one caller that computes with `threads`.
    pub fn workspace<E: Element>(&self, threads: &Threads) -> RecurrentWorkspace<E> {
        RecurrentWorkspace {
            layers: (0..self.config.layers).map(|_| LayerMemory::default()).collect(),
            slot_gradients: SlotGradients::default(),
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
        for layer in 0..self.config.layers {
            let (below, this) = workspace.layers.split_at_mut(layer);
            let memory = &mut this[0];
            self.enter(context, layer, batch, given, memory);
            let input: &[E] = match below.last() {
                None => x,
                Some(below) if self.dropout(layer - 1, pass).is_some() => &below.dropped,
                Some(below) => &below.y,
            };
            let shape = self.config.shape(layer);
            let states = self.config.output() * batch.batch();
            if pass == Pass::Inference {
                memory.tape.invalidate();
            }
            let LayerMemory { tape, y, h0, c0, restart_h, restart_c, h_n, c_n, .. } = memory;
            sequence::forward(
                &context.packed.layers[layer],
                context.threads,
                batch,
                &input[..batch.rows() * shape.input],
                &initial_states(&self.config, batch, h0, c0, restart_h, restart_c),
                y.at_least(batch.rows() * shape.output()),
                h_n.at_least(states),
                c_n.at_least(if self.config.cell.has_cell_state() { states } else { 0 }),
                if pass == Pass::Inference { Record::Nothing } else { Record::Tape(tape) },
                &mut workspace.scratch,
                None,
            );
            if let Some(dropout) = self.dropout(layer, pass) {
                let length = batch.rows() * shape.output();
                let dropped = memory.dropped.at_least(length);
                dropped.copy_from_slice(&memory.y[..length]);
                drop_rows(context, &dropout, batch, shape.output(), dropped);
            }
        }
    }

    /// Back-propagates through the last [`forward`](Self::forward) with a tape: `dy` `[N, D·H]` is the gradient of the top
    /// layer's output and `d_last` that of the last states (`None` for zero). Adds to `gradients`, overwrites `dx`
    /// `[N, I]`, and leaves the gradient of the given states in [`state_gradients`](Self::state_gradients).
    ///
    /// # Panics
    /// If the arguments are not those of the forward pass.
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
        let has_c = self.config.cell.has_cell_state();
        let states = self.config.output() * batch.batch();
        let restarts = if batch.restarts() > 0 { states } else { 0 };
        let rows = batch.rows();
        for layer in (0..self.config.layers).rev() {
            let shape = self.config.shape(layer);
            let (below, this) = workspace.layers.split_at_mut(layer);
            let LayerMemory { tape, y, h0, c0, restart_h, restart_c, dh, dc, d_restart_h, d_restart_c, .. } =
                &mut this[0];
            let (dh, dc) = (dh.at_least(states), dc.at_least(if has_c { states } else { 0 }));
            let (d_restart_h, d_restart_c) =
                (d_restart_h.at_least(restarts), d_restart_c.at_least(if has_c { restarts } else { 0 }));
            match d_last {
                Some(d_last) => {
                    self.columns_from(layer, batch, &d_last.h, dh);
                    if has_c {
                        self.columns_from(layer, batch, &d_last.c, dc);
                    }
                }
                None => {
                    dh.fill(E::ZERO);
                    dc.fill(E::ZERO);
                }
            }
            let input: &[E] = match below.last() {
                None => x,
                Some(below) if self.dropout(layer - 1, pass).is_some() => &below.dropped,
                Some(below) => &below.y,
            };
            let [even, odd] = &mut workspace.d_outputs;
            let (from, to) = if layer.is_multiple_of(2) { (odd, even) } else { (even, odd) };
            let dy = if layer + 1 == self.config.layers { dy } else { Some(&from[..rows * shape.output()]) };
            let dx_here = if layer == 0 { dx.take() } else { Some(to.at_least(rows * shape.input)) };
            sequence::backward(
                &context.packed.layers[layer],
                context.threads,
                batch,
                &input[..rows * shape.input],
                &initial_states(&self.config, batch, h0, c0, restart_h, restart_c),
                &y[..rows * shape.output()],
                tape,
                dy,
                BackwardStates {
                    dh: &mut *dh,
                    dc: &mut *dc,
                    restart_h: &mut *d_restart_h,
                    restart_c: &mut *d_restart_c,
                },
                dx_here,
                &mut self.layer_gradients(context.layout, layer, gradients),
                &mut workspace.slot_gradients,
                &mut workspace.scratch,
                None,
            );
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
                drop_rows(context, &dropout, batch, shape.input, &mut to[..rows * shape.input]);
            }
        }
    }

    /// The dropout above `layer`, if the pass has one there.
    fn dropout(&self, layer: usize, pass: Pass) -> Option<Dropout> {
        let Pass::Training(philox) = pass else { return None };
        let between = self.config.dropout > 0.0 && layer + 1 < self.config.layers;
        between.then_some(Dropout { philox, rate: self.config.dropout, place: layer as u32 })
    }

    /// Fills the states a layer starts from: given, learned or zero.
    fn enter<E: Element>(
        &self,
        context: Context<'_, E>,
        layer: usize,
        batch: &Ragged,
        given: Option<&States<E>>,
        memory: &mut LayerMemory<E>,
    ) {
        let RecurrentConfig { hidden, cell, .. } = self.config;
        let restart = |id: Option<TensorId>, to: &mut [E]| match id {
            Some(id) => to.copy_from_slice(context.layout.view(context.parameters, id)),
            None => to.fill(E::ZERO),
        };
        let states = self.config.output() * batch.batch();
        let LayerMemory { h0, c0, restart_h, restart_c, .. } = memory;
        let (h0, restart_h) = (h0.at_least(states), restart_h.at_least(self.config.output()));
        for (ids, to) in self.ids[layer].iter().zip(restart_h.chunks_mut(hidden)) {
            restart(ids.initial_h, to);
        }
        self.fill_entries(layer, batch, given.map(|given| &given.h[..]), restart_h, h0);
        if cell.has_cell_state() {
            let (c0, restart_c) = (c0.at_least(states), restart_c.at_least(self.config.output()));
            for (ids, to) in self.ids[layer].iter().zip(restart_c.chunks_mut(hidden)) {
                restart(ids.initial_c, to);
            }
            self.fill_entries(layer, batch, given.map(|given| &given.c[..]), restart_c, c0);
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
    ) -> Vec<LayerGradients<'a, E>> {
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
        self.ids[layer].iter().map(of_direction).collect()
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
        states.reset(&self.config, batch.batch());
        for (layer, memory) in workspace.layers.iter().enumerate() {
            self.columns_to(layer, batch, &memory.h_n, &mut states.h);
            if self.config.cell.has_cell_state() {
                self.columns_to(layer, batch, &memory.c_n, &mut states.c);
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
    /// If the stack reads backward, or a sequence is shorter than `steps`.
    pub fn states_after<E: Element>(
        &self,
        batch: &Ragged,
        steps: usize,
        workspace: &RecurrentWorkspace<E>,
        states: &mut States<E>,
    ) {
        assert!(!self.config.bidirectional, "a stack that reads backward has no state in mid-sequence");
        assert!(steps == 0 || batch.batch_sizes()[steps - 1] == batch.batch(), "every sequence reaches step {steps}");
        let hidden = self.config.hidden;
        states.reset(&self.config, batch.batch());
        for (layer, memory) in workspace.layers.iter().enumerate() {
            for (column, &sequence) in batch.order().iter().enumerate() {
                let to = (layer * batch.batch() + sequence) * hidden;
                let (h, c) = match steps.checked_sub(1).map(|t| batch.row(t, column)) {
                    Some(row) => (&memory.y[row * hidden..], memory.tape.cell_state(0, row)),
                    None => (&memory.h0[column * hidden..], memory.c0.get(column * hidden..)),
                };
                states.h[to..to + hidden].copy_from_slice(&h[..hidden]);
                if self.config.cell.has_cell_state() {
                    states.c[to..to + hidden].copy_from_slice(&c.expect("an LSTM has cell states")[..hidden]);
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

    /// The tape of a layer, of the last forward pass that kept one.
    pub fn tape(&self, layer: usize) -> &Tape<E> {
        &self.layers[layer].tape
    }
}

fn initial_states<'a, E: Element>(
    config: &RecurrentConfig,
    batch: &Ragged,
    h0: &'a Buffer<E>,
    c0: &'a Buffer<E>,
    restart_h: &'a Buffer<E>,
    restart_c: &'a Buffer<E>,
) -> InitialStates<'a, E> {
    let states = config.output() * batch.batch();
    let c0 = if config.cell.has_cell_state() { &c0[..states] } else { &[] };
    InitialStates { h: &h0[..states], c: c0, restart_h, restart_c }
}

fn drop_rows<E: Element>(context: Context<'_, E>, dropout: &Dropout, batch: &Ragged, features: usize, rows: &mut [E]) {
    let isa = context.packed.layers[0].isa();
    dropout.apply(isa, context.threads, rows, features, &|row| place_of(batch, row));
}

/// (sequence, time) of a packed row: what a mask depends on.
pub(crate) fn place_of(batch: &Ragged, row: usize) -> (u32, u32) {
    let (t, column) = batch.place(row);
    (batch.order()[column] as u32, t as u32)
}
