//! A whole training step as the trainer does it: embedding, stack, head, loss, backward, clipping where the model asks
//! for it, optimiser, packing. Tokens and targets are random, new for every run and drawn outside the timing.

use std::iter::repeat;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use serde_json::{Value, json};
use throughline::kernels::buffer::Buffer;
use throughline::kernels::ops::embedding;
use throughline::kernels::ops::linear::{Linear, LinearGradients};
use throughline::kernels::ops::reduce::{clear, sum_of_squares};
use throughline::kernels::ops::softmax_head::{HeadGradients, HeadInputs, SoftmaxHead};
use throughline::kernels::optim::clipping_factor;
use throughline::kernels::random::Stream;
use throughline::kernels::sequence::Scratch;
use throughline::nn::initialise;
use throughline::nn::network::{PackedNetwork, Workspace};
use throughline::nn::parameters::TensorId;
use throughline::nn::recurrent::{Context, PackedRecurrent, RecurrentWorkspace};
use throughline::prelude::*;

use super::file::Record;
use super::memory::{self, Needs};
use super::timing::{Figures, Machine, Subject, measure};
use super::{Defaults, Sizes, products};
use crate::arguments::{BenchArguments, BenchLengths, BenchModel};

/// PyTorch's target of a place without one.
const NO_TARGET: i64 = -100;

/// The sizes of a model and how it learns.
struct Plan {
    model: BenchModel,
    sizes: Sizes,
    vocabulary: usize,
    /// Rows of the head.
    outputs: usize,
    method: Method,
    learning_rate: f64,
    /// The largest norm of the gradient; none where it is not clipped.
    clip_norm: Option<f64>,
}

impl Plan {
    fn new(arguments: &BenchArguments, model: BenchModel) -> Result<Self> {
        let even = |time| BenchLengths::Between(time, time);
        let (sgd, adam) = (Method::Sgd(Sgd::default()), Method::Adam(Adam::default()));
        let (lengths, batch, input, hidden, layers, bidirectional) = match model {
            BenchModel::WordLm => (even(20), 20, 200, 200, 2, false),
            BenchModel::CharLm => (even(256), 64, 96, 512, 2, false),
            BenchModel::Tagger => (even(50), 32, 100, 256, 1, true),
            BenchModel::Classifier => (BenchLengths::Between(50, 200), 32, 128, 256, 1, true),
        };
        let sizes = Sizes::new(arguments, Defaults { lengths, batch, input, hidden, layers, bidirectional })?;
        let vocabulary = |of_model| arguments.vocabulary.unwrap_or(of_model);
        let (vocabulary, outputs, method, learning_rate, clip_norm) = match model {
            BenchModel::WordLm => (vocabulary(10_000), vocabulary(10_000), sgd, 1.0, Some(5.0)),
            BenchModel::CharLm => (vocabulary(96), vocabulary(96), adam, 1e-3, Some(1.0)),
            BenchModel::Tagger => (vocabulary(20_000), 17, adam, 1e-3, None),
            BenchModel::Classifier => (vocabulary(20_000), 2, adam, 1e-3, None),
        };
        Ok(Self { model, sizes, vocabulary, outputs, method, learning_rate, clip_norm })
    }

    fn check_memory(&self, arguments: &BenchArguments) -> Result<()> {
        let (copies, vocabulary, outputs) = (2 + self.method.moments().len(), self.vocabulary, self.outputs);
        memory::check(&self.sizes, &Needs { copies, train: true, vocabulary, outputs, others: 0 }, arguments)
    }

    /// Rows that the head reads.
    fn scored(&self) -> usize {
        if self.model == BenchModel::Classifier { self.sizes.lengths.len() } else { self.sizes.rows() }
    }

    /// Operations of the products of a step: forward, and twice as many backward.
    fn operations(&self) -> f64 {
        let config = &self.sizes.config;
        let head = 2.0 * (self.scored() * config.output() * self.outputs) as f64;
        3.0 * (products(config, self.sizes.rows()) + head)
    }

    fn name(&self) -> String {
        self.model.to_possible_value().expect("every model has a name").get_name().to_owned()
    }
}

pub fn report(arguments: &BenchArguments, model: BenchModel) -> Result<String> {
    let plan = Plan::new(arguments, model)?;
    plan.check_memory(arguments)?;
    let mut training = Training::new(Machine::new(arguments)?, &plan)?;
    if let Some(path) = &arguments.write {
        training.write(&plan, path)?;
    }
    let (timed, repeats) = measure(&mut training, arguments);
    if !training.loss.is_finite() {
        bail!("expected a finite loss after {} updates, found {}", training.optimiser.updates(), training.loss);
    }
    let figures = Figures::of(&timed, repeats, plan.operations());
    if !arguments.json {
        return Ok(format!("{}: {}", plan.name(), figures.text(&training.machine)));
    }
    let mut object = figures.json(&training.machine);
    object.insert("model".to_owned(), json!(plan.name()));
    object.insert("rows".to_owned(), json!(plan.sizes.rows()));
    object.insert("lengths".to_owned(), json!(plan.sizes.lengths));
    object.insert("parameters".to_owned(), json!(training.lesson.layout().parameter_count()));
    Ok(Value::Object(object).to_string())
}

/// What a model learns and how: all of a step but the optimiser.
trait Lesson: Send {
    fn layout(&self) -> &Layout;

    /// New parameters.
    fn initialise(&self) -> Buffer<f32>;

    /// Packs changed parameters.
    fn pack(&mut self, threads: &Threads, parameters: &[f32]);

    /// New tokens and targets.
    fn draw(&mut self, random: &mut Stream);

    /// The mean loss; adds its gradient to `gradients`.
    fn learn(&mut self, threads: &Threads, parameters: &[f32], gradients: &mut [f32]) -> f64;

    /// Adds tokens and targets, in the order of the sequences: `tokens` `[B, T]`, 0 where there are none.
    fn describe(&self, record: &mut Record<'_>);
}

/// A model in training.
struct Training {
    machine: Machine,
    lesson: Box<dyn Lesson>,
    parameters: Buffer<f32>,
    gradients: Buffer<f32>,
    optimiser: Optimiser<f32>,
    learning_rate: f64,
    clip_norm: Option<f64>,
    random: Stream,
    loss: f64,
}

impl Training {
    fn new(machine: Machine, plan: &Plan) -> Result<Self> {
        let mut lesson: Box<dyn Lesson> = match plan.model {
            BenchModel::WordLm | BenchModel::CharLm => Box::new(LanguageModel::new(&machine, plan)?),
            BenchModel::Tagger => Box::new(Tagger::new(&machine, plan)),
            BenchModel::Classifier => Box::new(Classifier::new(&machine, plan)?),
        };
        let parameters = lesson.initialise();
        lesson.pack(&machine.threads, &parameters);
        Ok(Self {
            gradients: lesson.layout().zeros(),
            optimiser: Optimiser::new(plan.method, lesson.layout().length()),
            learning_rate: plan.learning_rate,
            clip_norm: plan.clip_norm,
            random: Philox::new(1, Purpose::Benchmark, 1).stream(),
            loss: f64::NAN,
            machine,
            lesson,
            parameters,
        })
    }

    /// One update; its gradients stay, as they were before clipping.
    fn update(&mut self) {
        let Self { machine, lesson, parameters, gradients, optimiser, learning_rate, clip_norm, loss, .. } = self;
        let (isa, threads) = (machine.isa, &machine.threads);
        clear(threads, gradients);
        *loss = lesson.learn(threads, parameters, gradients);
        let factor = match *clip_norm {
            Some(limit) => clipping_factor(sum_of_squares(isa, threads, gradients).sqrt(), limit),
            None => 1.0,
        };
        optimiser.step(isa, threads, *learning_rate, factor, parameters, gradients);
        lesson.pack(threads, parameters);
    }

    /// The first update.
    fn write(&mut self, plan: &Plan, path: &Path) -> Result<()> {
        let before = self.parameters.clone();
        self.lesson.draw(&mut self.random);
        self.update();
        let layout = self.lesson.layout();
        let mut record = Record::default();
        plan.sizes.describe(&mut record, &plan.name());
        record.note("vocabulary", plan.vocabulary);
        record.note("outputs", plan.outputs);
        record.note("optimiser", if matches!(plan.method, Method::Sgd(_)) { "sgd" } else { "adam" });
        record.note("learning_rate", plan.learning_rate);
        if let Some(limit) = plan.clip_norm {
            record.note("clip_norm", limit);
        }
        record.parameters("", layout, &before);
        record.parameters("grad.", layout, &self.gradients);
        record.parameters("after.", layout, &self.parameters);
        record.counts("lengths", &plan.sizes.lengths);
        self.lesson.describe(&mut record);
        record.numbers("loss", &[1], vec![self.loss as f32]);
        record.write(path)
    }
}

impl Subject<1> for Training {
    fn run(&mut self, times: usize) -> f64 {
        let mut seconds = 0.0;
        for _ in 0..times {
            self.lesson.draw(&mut self.random);
            let begun = Instant::now();
            self.update();
            seconds += begun.elapsed().as_secs_f64();
        }
        seconds
    }

    fn limits(&mut self) -> [f64; 1] {
        [self.machine.peak()]
    }
}

/// The network of a plan with its packed weights and memory.
struct Engine {
    network: Network,
    packed: PackedNetwork<f32>,
    workspace: Workspace<f32>,
}

impl Engine {
    fn new(machine: &Machine, plan: &Plan, task: Task) -> Result<Self> {
        let classes = (task == Task::Classify).then_some(plan.outputs);
        let (recurrent, vocabulary) = (plan.sizes.config, plan.vocabulary);
        let config = ModelConfig { task, recurrent, vocabulary, classes, tied: false };
        let network = Network::new(config, Dropouts::default()).context("the sizes make no model")?;
        let nothing = network.layout().zeros();
        let packed = network.packed(machine.isa, &machine.threads, &nothing, true);
        let workspace = network.workspace(&machine.threads);
        Ok(Self { network, packed, workspace })
    }

    fn initialise(&self) -> Buffer<f32> {
        self.network.initialise(1, Initialisation::Uniform, 0.0)
    }
}

/// Parallel streams of tokens, the states carried from step to step.
struct LanguageModel {
    engine: Engine,
    time: usize,
    streams: usize,
    /// `[T, B]`
    inputs: Vec<u32>,
    targets: Vec<u32>,
    carried: Option<States<f32>>,
}

impl LanguageModel {
    fn new(machine: &Machine, plan: &Plan) -> Result<Self> {
        let lengths = &plan.sizes.lengths;
        let (time, streams) = (lengths[0], lengths.len());
        let [least, most] = [lengths.iter().min(), lengths.iter().max()].map(|length| length.expect("there is one"));
        if least != most {
            bail!(
                "--lengths: expected one length for all streams of a language model, found {least} to {most}; use --time"
            );
        }
        let engine = Engine::new(machine, plan, Task::Lm)?;
        let tokens = || vec![0; time * streams];
        Ok(Self { engine, time, streams, inputs: tokens(), targets: tokens(), carried: None })
    }

    /// `[T, B]` to `[B, T]`
    fn by_stream(&self, tokens: &[u32]) -> Vec<i64> {
        let of_stream = |stream| tokens[stream..].iter().step_by(self.streams);
        (0..self.streams).flat_map(of_stream).map(|&token| i64::from(token)).collect()
    }
}

impl Lesson for LanguageModel {
    fn layout(&self) -> &Layout {
        self.engine.network.layout()
    }

    fn initialise(&self) -> Buffer<f32> {
        self.engine.initialise()
    }

    fn pack(&mut self, threads: &Threads, parameters: &[f32]) {
        self.engine.network.pack(threads, parameters, &mut self.engine.packed);
    }

    fn draw(&mut self, random: &mut Stream) {
        let vocabulary = self.engine.network.config().vocabulary;
        draw(random, vocabulary, &mut self.inputs);
        draw(random, vocabulary, &mut self.targets);
    }

    fn learn(&mut self, threads: &Threads, parameters: &[f32], gradients: &mut [f32]) -> f64 {
        let Self { engine: Engine { network, packed, workspace }, time, streams, inputs, targets, carried } = self;
        let batch = Ragged::even(*time, *streams);
        let window = Window { batch: &batch, inputs, targets, first_scored: 0 };
        let weights = Weights { parameters, packed, threads };
        let given = carried.as_ref();
        let learnt = network.train_language_model(weights, &window, given, Pass::Traced, gradients, workspace);
        let carried = carried.get_or_insert_with(States::default);
        network.recurrent().states_after(&batch, *time, workspace.recurrent(), carried);
        learnt.loss.mean()
    }

    fn describe(&self, record: &mut Record<'_>) {
        let shape = [self.streams, self.time];
        record.whole_numbers("tokens", &shape, self.by_stream(&self.inputs));
        record.whole_numbers("targets", &shape, self.by_stream(&self.targets));
    }
}

/// Sequences with one class each.
struct Classifier {
    engine: Engine,
    texts: Vec<Vec<u32>>,
    targets: Vec<u32>,
    sequences: Sequences,
}

impl Classifier {
    fn new(machine: &Machine, plan: &Plan) -> Result<Self> {
        let engine = Engine::new(machine, plan, Task::Classify)?;
        let texts: Vec<Vec<u32>> = plan.sizes.lengths.iter().map(|&length| vec![0; length]).collect();
        Ok(Self { engine, targets: vec![0; texts.len()], texts, sequences: Sequences::default() })
    }
}

impl Lesson for Classifier {
    fn layout(&self) -> &Layout {
        self.engine.network.layout()
    }

    fn initialise(&self) -> Buffer<f32> {
        self.engine.initialise()
    }

    fn pack(&mut self, threads: &Threads, parameters: &[f32]) {
        self.engine.network.pack(threads, parameters, &mut self.engine.packed);
    }

    fn draw(&mut self, random: &mut Stream) {
        let config = self.engine.network.config();
        for text in &mut self.texts {
            draw(random, config.vocabulary, text);
        }
        draw(random, config.classes.expect("a classifier has classes"), &mut self.targets);
    }

    /// Packing the sequences is part of a step: every step has others.
    fn learn(&mut self, threads: &Threads, parameters: &[f32], gradients: &mut [f32]) -> f64 {
        let Self { engine: Engine { network, packed, workspace }, texts, targets, sequences } = self;
        sequences.set(texts.iter().map(|text| &text[..]));
        let weights = Weights { parameters, packed, threads };
        network.train_classifier(weights, sequences, targets, Pass::Traced, gradients, workspace).loss.mean()
    }

    fn describe(&self, record: &mut Record<'_>) {
        let time = self.texts.iter().map(Vec::len).max().unwrap_or(0);
        let padded = |text: &Vec<u32>| text.iter().map(|&token| i64::from(token)).chain(repeat(0)).take(time).collect();
        let tokens: Vec<Vec<i64>> = self.texts.iter().map(padded).collect();
        record.whole_numbers("tokens", &[self.texts.len(), time], tokens.concat());
        let targets = self.targets.iter().map(|&target| i64::from(target)).collect();
        record.whole_numbers("targets", &[self.targets.len()], targets);
    }
}

/// Sequences with a tag at every step.
struct Tagger {
    layout: Layout,
    vocabulary: usize,
    batch: Ragged,
    /// `[N]`, packed
    tokens: Vec<u32>,
    targets: Vec<u32>,
    embedding: TensorId,
    recurrent: Recurrent,
    head: [TensorId; 2],
    packed: PackedRecurrent<f32>,
    linear: Linear<f32>,
    workspace: RecurrentWorkspace<f32>,
    softmax_head: SoftmaxHead<f32>,
    scratch: Vec<Scratch<f32>>,
    /// `[N, I]`
    x: Buffer<f32>,
    dx: Buffer<f32>,
    /// `[N, D·H]`
    dy: Buffer<f32>,
}

impl Tagger {
    fn new(machine: &Machine, plan: &Plan) -> Self {
        let (config, batch) = (plan.sizes.config, Ragged::new(&plan.sizes.lengths));
        let mut layout = Layout::new();
        let embedding = layout.add("embedding.weight".to_owned(), &[plan.vocabulary, config.input]);
        let recurrent = Recurrent::new(config, &mut layout, "rnn.");
        let head_weight = layout.add("head.weight".to_owned(), &[plan.outputs, config.output()]);
        let head_bias = layout.add("head.bias".to_owned(), &[plan.outputs]);
        let rows = batch.rows();
        Self {
            layout,
            vocabulary: plan.vocabulary,
            tokens: vec![0; rows],
            targets: vec![0; rows],
            embedding,
            head: [head_weight, head_bias],
            packed: recurrent.packed(machine.isa, true),
            linear: Linear::new(machine.isa, config.output(), plan.outputs, true),
            workspace: recurrent.workspace(&machine.threads),
            softmax_head: SoftmaxHead::new(),
            scratch: Scratch::for_threads(&machine.threads),
            x: Buffer::zeros(rows * config.input),
            dx: Buffer::zeros(rows * config.input),
            dy: Buffer::zeros(rows * config.output()),
            recurrent,
            batch,
        }
    }

    /// Packed rows to `[B, T]`, `padding` where there are none.
    fn by_sequence(&self, of_row: &[u32], padding: i64) -> Vec<i64> {
        let time = self.batch.steps();
        let mut all = vec![padding; self.batch.batch() * time];
        self.batch.for_each_row(|row, sequence, t| all[sequence * time + t] = i64::from(of_row[row]));
        all
    }
}

impl Lesson for Tagger {
    fn layout(&self) -> &Layout {
        &self.layout
    }

    /// As [`Network::initialise`] does it.
    fn initialise(&self) -> Buffer<f32> {
        let (layout, mut parameters) = (&self.layout, self.layout.zeros());
        let limit = 1.0 / (self.recurrent.config().output() as f64).sqrt();
        initialise::normal(1, layout, self.embedding, 1.0, &mut parameters);
        initialise::uniform(1, layout, self.head[0], limit, &mut parameters);
        self.recurrent.initialise(layout, 1, Initialisation::Uniform, &mut parameters);
        parameters
    }

    fn pack(&mut self, threads: &Threads, parameters: &[f32]) {
        self.recurrent.pack(threads, &self.layout, parameters, &mut self.packed);
        let [weight, bias] = self.head.map(|id| self.layout.view(parameters, id));
        self.linear.pack(threads, weight, bias);
    }

    fn draw(&mut self, random: &mut Stream) {
        draw(random, self.vocabulary, &mut self.tokens);
        draw(random, self.linear.output(), &mut self.targets);
    }

    fn learn(&mut self, threads: &Threads, parameters: &[f32], gradients: &mut [f32]) -> f64 {
        let Self { layout, batch, tokens, targets, recurrent, packed, linear, workspace, x, dx, dy, .. } = self;
        let (isa, width, output) = (linear.isa(), recurrent.config().input, recurrent.config().output());
        embedding::gather(threads, layout.view(parameters, self.embedding), width, tokens, x);
        let context = Context { threads, packed, parameters, layout };
        recurrent.forward(context, batch, x, None, Pass::Traced, workspace);
        let y = workspace.output(batch.rows(), output);
        let [weight, bias] = layout.views_mut(gradients, self.head);
        let d_head = HeadGradients { dx: dy, linear: LinearGradients { weight, bias } };
        let inputs = HeadInputs { threads, linear, x: y, targets };
        let (head, scale) = (&mut self.softmax_head, 1.0 / batch.rows() as f64);
        let learnt = head.train(inputs, scale, d_head, &mut self.scratch);
        recurrent.backward(context, batch, x, false, Pass::Traced, Some(dy), None, Some(dx), gradients, workspace);
        embedding::add_gradient(isa, threads, tokens, dx, width, layout.view_mut(gradients, self.embedding));
        learnt.loss.mean()
    }

    fn describe(&self, record: &mut Record<'_>) {
        let shape = [self.batch.batch(), self.batch.steps()];
        record.whole_numbers("tokens", &shape, self.by_sequence(&self.tokens, 0));
        record.whole_numbers("targets", &shape, self.by_sequence(&self.targets, NO_TARGET));
    }
}

/// Whole numbers below `bound`.
fn draw(random: &mut Stream, bound: usize, numbers: &mut [u32]) {
    numbers.iter_mut().for_each(|number| *number = random.below(bound) as u32);
}
