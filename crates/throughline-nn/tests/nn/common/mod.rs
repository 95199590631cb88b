//! What the tests share: random numbers, tensors by name, states, networks with all that belongs to them.
#![allow(dead_code, reason = "every test file uses some of it")]

use std::ops::Range;

use throughline_kernels::Element;
use throughline_kernels::buffer::Buffer;
use throughline_kernels::cells::CellKind;
use throughline_kernels::ops::IGNORED;
use throughline_kernels::random::{Philox, Purpose, Stream};
use throughline_kernels::sequence::Ragged;
use throughline_nn::chain::Chain;
use throughline_nn::heads::{Crf, Head, Softmax};
use throughline_nn::initialise::Initialise;
use throughline_nn::layers::{Embedding, Pool, Pooling, Recurrent, RecurrentConfig};
use throughline_nn::network::{Input, Network, PackedNetwork, Wanted, Weights, Workspace};
use throughline_nn::parameters::{Builder, Layout};
use throughline_nn::standalone::{Run, Standalone};
use throughline_nn::state::{State, StateShape};
use throughline_nn::{Cpu, Layer, Loss, Module, Pass};
use throughline_testkit::vectors::Tensors;
use throughline_testkit::{OracleCell, assert_close, central_difference};

/// The oracle's cell of the same name.
pub fn oracle_cell(cell: CellKind) -> OracleCell {
    OracleCell::from_name(cell.name())
}

/// Training with masks of dropout, of update `update`.
pub fn training(update: u64) -> Pass {
    Pass::Training(Philox::new(3, Purpose::Dropout, update))
}

/// Random numbers for tests.
pub struct Numbers(Stream);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(Philox::new(seed, Purpose::Benchmark, 0).stream())
    }

    /// `count` numbers in (-scale, scale).
    pub fn draw<E: Element>(&mut self, count: usize, scale: f64) -> Vec<E> {
        (0..count).map(|_| E::from_f64((2.0 * self.0.uniform() - 1.0) * scale)).collect()
    }

    /// `count` numbers below `bound`.
    pub fn tokens(&mut self, count: usize, bound: usize) -> Vec<u32> {
        (0..count).map(|_| self.0.below(bound) as u32).collect()
    }

    /// A buffer of `layout` with every tensor in (-scale, scale).
    pub fn parameters<E: Element>(&mut self, layout: &Layout, scale: f64) -> Buffer<E> {
        let mut parameters = layout.zeros();
        for tensor in layout.tensors() {
            parameters[tensor.range()].copy_from_slice(&self.draw::<E>(tensor.count(), scale));
        }
        parameters
    }

    /// A state of `streams` streams that have begun, with numbers in (-scale, scale).
    pub fn state<E: Element>(&mut self, shape: &StateShape, streams: usize, scale: f64) -> State<E> {
        let mut state = State::new(shape, streams);
        for array in state.arrays_mut() {
            let count = array.values().len();
            array.values_mut().copy_from_slice(&self.draw::<E>(count, scale));
        }
        state.begin();
        state
    }
}

/// The states of a stack as the oracle and PyTorch have them, `[L·D, B, H]`; c is empty for a cell without cell state.
#[derive(Clone, Debug, PartialEq)]
pub struct Flat<E> {
    pub h: Vec<E>,
    pub c: Vec<E>,
}

impl<E: Element> Flat<E> {
    pub fn of(config: &RecurrentConfig, state: &State<E>) -> Self {
        let layers = config.layers * config.directions();
        let (h, c) = state.arrays().split_at(layers);
        assert_eq!(c.len(), if config.cell.has_cell_state() { layers } else { 0 });
        let joined = |arrays: &[throughline_nn::state::StateArray<E>]| {
            arrays.iter().flat_map(|array| array.values().iter().copied()).collect()
        };
        Self { h: joined(h), c: joined(c) }
    }

    /// The same as a state of streams that have begun.
    pub fn state(&self, shape: &StateShape, streams: usize) -> State<E> {
        let mut state = State::new(shape, streams);
        let mut numbers = self.h.iter().chain(&self.c).copied();
        for array in state.arrays_mut() {
            array.values_mut().iter_mut().for_each(|x| *x = numbers.next().expect("as many numbers as the state has"));
        }
        assert!(numbers.next().is_none(), "as many numbers as the state has");
        state.begin();
        state
    }
}

/// All numbers of a state, array by array.
pub fn numbers_of<E: Element>(state: &State<E>) -> Vec<E> {
    state.arrays().iter().flat_map(|array| array.values().iter().copied()).collect()
}

/// Puts the tensors named `{prefix}...` where `layout` has them. Neither side may have one that the other lacks.
pub fn fill(layout: &Layout, prefix: &str, tensors: &Tensors, buffer: &mut [f32]) {
    assert_eq!(tensors.len(), layout.tensors().len(), "as many tensors as parameters");
    for (name, tensor) in tensors {
        let name = format!("{prefix}{name}");
        let id = layout.find(&name).unwrap_or_else(|| panic!("there is no parameter {name}"));
        assert_eq!(layout.tensor(id).shape(), tensor.shape, "{name}");
        layout.view_mut(buffer, id).copy_from_slice(&tensor.data);
    }
}

/// Asserts that two buffers of `layout` are close, tensor by tensor.
#[track_caller]
pub fn assert_close_tensors(what: &str, layout: &Layout, got: &[f64], want: &[f64], tolerance: f64) {
    for tensor in layout.tensors() {
        let name = format!("{what} of {}", tensor.name());
        assert_close(&name, &got[tensor.range()], &want[tensor.range()], tolerance);
    }
}

/// What `work` panics with; it must.
#[track_caller]
pub fn panic_of<T>(work: impl FnOnce() -> T) -> String {
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    let caught = caught.err().expect("a panic, but there was none");
    match caught.downcast::<String>() {
        Ok(message) => *message,
        Err(other) => (*other.downcast::<&str>().expect("a message")).to_owned(),
    }
}

/// The rates of dropout before and after a stack.
#[derive(Clone, Copy, Default)]
pub struct Dropouts {
    pub embedding: f32,
    pub output: f32,
}

/// Embedding and stack.
pub type StreamReader = Chain<Embedding, Recurrent>;
/// Embedding, stack and pooling.
pub type TextReader = Chain<Embedding, Chain<Recurrent, Pool>>;

/// A language model.
pub fn language_model(
    stack: RecurrentConfig,
    vocabulary: usize,
    tied: bool,
    dropouts: Dropouts,
) -> Network<StreamReader, Softmax> {
    let mut builder = Builder::new();
    let embedding = Embedding::new(&mut builder, "embedding", vocabulary, stack.input);
    let embedding = embedding.with_dropout(&mut builder, dropouts.embedding);
    let embedding = if tied { embedding.scaled() } else { embedding };
    let recurrent = Recurrent::new(&mut builder, "rnn", stack).with_dropout(&mut builder, dropouts.output);
    let head = match tied {
        true => Softmax::tied(&mut builder, "head", &embedding),
        false => Softmax::new(&mut builder, "head", stack.output(), vocabulary),
    };
    embedding.then(recurrent).ending_in(head, builder)
}

/// A classifier.
pub fn classifier(
    stack: RecurrentConfig,
    vocabulary: usize,
    classes: usize,
    pooling: Pooling,
    dropouts: Dropouts,
) -> Network<TextReader, Softmax> {
    let mut builder = Builder::new();
    let embedding = Embedding::new(&mut builder, "embedding", vocabulary, stack.input);
    let embedding = embedding.with_dropout(&mut builder, dropouts.embedding);
    let recurrent = Recurrent::new(&mut builder, "rnn", stack);
    let pooled = Pool::of(&mut builder, "pool", recurrent, pooling).with_dropout(&mut builder, dropouts.output);
    let head = Softmax::new(&mut builder, "head", stack.output(), classes);
    embedding.then(pooled).ending_in(head, builder)
}

/// A tagger.
pub fn tagger(
    stack: RecurrentConfig,
    vocabulary: usize,
    tags: usize,
    dropouts: Dropouts,
) -> Network<StreamReader, Crf> {
    let mut builder = Builder::new();
    let embedding = Embedding::new(&mut builder, "embedding", vocabulary, stack.input);
    let embedding = embedding.with_dropout(&mut builder, dropouts.embedding);
    let recurrent = Recurrent::new(&mut builder, "rnn", stack).with_dropout(&mut builder, dropouts.output);
    let head = Crf::new(&mut builder, "head", stack.output(), tags);
    embedding.then(recurrent).ending_in(head, builder)
}

/// A network with its parameters, packed, and the memory to run it.
pub struct Model<E: Element, B: Module<E>, H: Head<E> = Softmax> {
    pub network: Network<B, H>,
    pub cpu: Cpu,
    pub parameters: Buffer<E>,
    pub packed: PackedNetwork<E, B, H>,
    pub workspace: Workspace<E, B, H>,
}

impl<E: Element, B: Module<E>, H: Head<E>> Model<E, B, H> {
    /// Random parameters in ±`scale`; learned initial states too.
    pub fn new(network: Network<B, H>, threads: usize, seed: u64, scale: f64) -> Self {
        let cpu = Cpu::new(threads);
        let parameters = Numbers::new(seed).parameters(network.layout(), scale);
        let packed = network.packed(&cpu, &parameters, true);
        Self { network, cpu, parameters, packed, workspace: Workspace::default() }
    }

    /// Changes the parameters and packs them anew.
    pub fn set(&mut self, change: impl FnOnce(&Layout, &mut [E])) {
        change(self.network.layout(), &mut self.parameters);
        self.network.pack(&self.cpu, &self.parameters, &mut self.packed);
    }

    /// The arguments of a call: the network, its weights, the workspace.
    #[allow(clippy::type_complexity, reason = "it is named once")]
    pub fn borrowed(&mut self) -> (&Network<B, H>, Weights<'_, E, B, H>, &mut Workspace<E, B, H>) {
        let weights = Weights { cpu: &self.cpu, parameters: &self.parameters, packed: &self.packed };
        (&self.network, weights, &mut self.workspace)
    }

    /// A state of `streams` streams that have not begun.
    pub fn state(&self, streams: usize) -> State<E> {
        State::new(&self.network.state_shape(), streams)
    }
}

impl<B: Module<f64>, H: Head<f64>> Model<f64, B, H> {
    /// The derivative of `loss` with respect to every parameter, by central differences.
    pub fn differences(&mut self, step: f64, mut loss: impl FnMut(&mut Self) -> f64) -> Vec<f64> {
        let mut parameters = self.parameters.to_vec();
        let differences = central_difference(
            |parameters| {
                self.set(|_, buffer| buffer.copy_from_slice(parameters));
                loss(self)
            },
            &mut parameters,
            step,
        );
        self.set(|_, buffer| buffer.copy_from_slice(&parameters));
        differences
    }
}

/// What a network reads and is to learn from it.
#[derive(Clone)]
pub struct Batch<E> {
    pub rows: Ragged,
    pub tokens: Vec<u32>,
    pub targets: Vec<u32>,
    pub scored: Option<Range<usize>>,
    pub start: Option<State<E>>,
    pub normaliser: Option<f64>,
}

impl<E: Element> Batch<E> {
    /// A window of `streams` streams over `steps` steps, scored from step `first_scored` on.
    pub fn window(vocabulary: usize, steps: usize, streams: usize, first_scored: usize) -> Self {
        let mut numbers = Numbers::new(8);
        let mut tokens = || numbers.tokens(steps * streams, vocabulary);
        let (tokens, targets) = (tokens(), tokens());
        let scored = Some(first_scored * streams..steps * streams);
        Self { rows: Ragged::even(steps, streams), tokens, targets, scored, start: None, normaliser: None }
    }

    /// Texts of `lengths` with a class each.
    pub fn texts(vocabulary: usize, classes: usize, lengths: &[usize]) -> Self {
        let mut numbers = Numbers::new(9);
        let texts: Vec<Vec<u32>> = lengths.iter().map(|&length| numbers.tokens(length, vocabulary)).collect();
        Self::of_texts(&texts, &numbers.tokens(lengths.len(), classes))
    }

    /// Texts of `lengths` with a tag for each unit, all but every fourth known.
    pub fn tagged(vocabulary: usize, tags: usize, lengths: &[usize]) -> Self {
        let mut batch = Self::texts(vocabulary, tags, lengths);
        batch.targets = Numbers::new(13).tokens(batch.tokens.len(), tags);
        batch.targets.iter_mut().skip(2).step_by(4).for_each(|target| *target = IGNORED);
        batch
    }

    pub fn of_texts(texts: &[Vec<u32>], classes: &[u32]) -> Self {
        let (rows, tokens) = packed(texts);
        Self { rows, tokens, targets: classes.to_vec(), scored: None, start: None, normaliser: None }
    }

    /// From a random state.
    pub fn started(self, shape: &StateShape) -> Self {
        let start = Numbers::new(10).state(shape, self.rows.batch(), 0.8);
        Self { start: Some(start), ..self }
    }

    pub fn input(&self) -> Input<'_, E, [u32]> {
        Input { rows: &self.rows, x: &self.tokens, start: self.start.as_ref() }
    }

    pub fn wanted(&self) -> Wanted<'_, [u32]> {
        Wanted { target: &self.targets, scored: self.scored.clone(), normaliser: self.normaliser }
    }

    /// Adds the gradients of the mean loss.
    pub fn learn<B: Module<E, Input = [u32]>, H: Head<E, Target = [u32]>>(
        &self,
        model: &mut Model<E, B, H>,
        pass: Pass,
        gradients: &mut [E],
    ) -> Loss {
        let (network, weights, workspace) = model.borrowed();
        network.learn(weights, self.input(), self.wanted(), pass, gradients, workspace)
    }

    pub fn evaluate<B: Module<E, Input = [u32]>, H: Head<E, Target = [u32]>>(
        &self,
        model: &mut Model<E, B, H>,
    ) -> Loss {
        let (network, weights, workspace) = model.borrowed();
        network.evaluate(weights, self.input(), self.wanted(), workspace)
    }

    pub fn logits<B: Module<E, Input = [u32]>, H: Head<E>>(&self, model: &mut Model<E, B, H>) -> Vec<E> {
        let (network, weights, workspace) = model.borrowed();
        network.predict(weights, self.input(), workspace).to_vec()
    }
}

/// Token sequences as packed rows.
pub fn packed(texts: &[Vec<u32>]) -> (Ragged, Vec<u32>) {
    let rows = Ragged::new(&texts.iter().map(Vec::len).collect::<Vec<_>>());
    let mut tokens = Vec::new();
    rows.for_each_row(|_, sequence, t| tokens.push(texts[sequence][t]));
    (rows, tokens)
}

/// A module of its own with random parameters in ±`scale`.
pub fn standalone<E: Element, M: Module<E>>(
    module: M,
    builder: Builder,
    threads: usize,
    scale: f64,
) -> Standalone<M, E> {
    let mut module = Standalone::of(module, builder, &Initialise::new(1), Cpu::new(threads));
    let parameters = Numbers::new(11).parameters::<E>(module.layout(), scale);
    module.set_parameters(|_, to| to.copy_from_slice(&parameters));
    module
}

/// Whether an array of a state is a count, which has no gradient.
fn is_count(name: &str) -> bool {
    name.ends_with(".count")
}

/// A state of `streams` streams that have begun at random numbers, counts at 2.
pub fn random_state<E: Element>(shape: &StateShape, streams: usize, seed: u64) -> State<E> {
    let mut state = Numbers::new(seed).state(shape, streams, 0.8);
    for array in state.arrays_mut().iter_mut().filter(|array| is_count(array.name())) {
        array.values_mut().fill(E::from_f64(2.0));
    }
    state
}

/// Against the five-point difference of a module's own forward pass in f64, and its step.
pub const DIFFERENCE_TOLERANCE: f64 = 1e-9;
pub const DIFFERENCE_STEP: f64 = 1e-4;

/// Compares all gradients of a module over a batch, from `start`, with central differences: of the parameters, of x, of
/// the state at the start. The loss weighs every output and every number of the state at the end at random.
pub fn check_gradients<M: Module<f64, Input = [f64]>>(
    name: &str,
    module: &mut Standalone<M, f64>,
    rows: &Ragged,
    x: &[f64],
    start: Option<&State<f64>>,
) {
    let mut numbers = Numbers::new(12);
    let run = module.run(rows, x, start);
    let dy = numbers.draw::<f64>(run.output.len(), 1.0);
    let mut d_end = numbers.state(&module.module().state_shape(), rows.batch(), 1.0);
    for array in d_end.arrays_mut().iter_mut().filter(|array| is_count(array.name())) {
        array.values_mut().fill(0.0);
    }
    let loss = |run: Run<f64>| -> f64 {
        let numbers = run.output.into_iter().chain(numbers_of(&run.last));
        numbers.zip(dy.iter().copied().chain(numbers_of(&d_end))).map(|(y, weight)| y * weight).sum()
    };
    module.clear_gradients();
    let got = module.backward(rows, x, start, Some(&dy), Some(&d_end));
    let (layout, gradients) = (module.layout().clone(), module.gradients().to_vec());

    let parameters = module.parameters().to_vec();
    let want = central_difference(
        |parameters| {
            module.set_parameters(|_, to| to.copy_from_slice(parameters));
            loss(module.run(rows, x, start))
        },
        &mut parameters.clone(),
        DIFFERENCE_STEP,
    );
    module.set_parameters(|_, to| to.copy_from_slice(&parameters));
    assert_close_tensors(&format!("{name}: gradient"), &layout, &gradients, &want, DIFFERENCE_TOLERANCE);

    let want = central_difference(|x| loss(module.run(rows, x, start)), &mut x.to_vec(), DIFFERENCE_STEP);
    assert_close(&format!("{name}: gradient of x"), &got.x, &want, DIFFERENCE_TOLERANCE);

    let Some(start) = start else { return };
    for (index, array) in start.arrays().iter().enumerate() {
        let what = format!("{name}: gradient of {} at the start", array.name());
        let got = got.start.arrays()[index].values();
        if is_count(array.name()) {
            assert!(got.iter().all(|&x| x == 0.0), "{what}");
            continue;
        }
        let want = central_difference(
            |values| {
                let mut start = start.clone();
                start.arrays_mut()[index].values_mut().copy_from_slice(values);
                loss(module.run(rows, x, Some(&start)))
            },
            &mut array.values().to_vec(),
            DIFFERENCE_STEP,
        );
        assert_close(&what, got, &want, DIFFERENCE_TOLERANCE);
    }
}
