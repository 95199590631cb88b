//! A whole training step as the trainer does it: embedding, stack, head, loss, backward, clipping where the model asks
//! for it, optimiser, packing. Tokens and targets are random, new for every run and drawn outside the timing.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use throughline_kernels::buffer::Buffer;
use throughline_kernels::ops::reduce::{clear, sum_of_squares};
use throughline_kernels::optim::{Method, Optimiser, clipping_factor};
use throughline_kernels::random::{Philox, Purpose, Stream};
use throughline_nn::heads::Softmax;
use throughline_nn::initialise::Initialise;
use throughline_nn::network::{Input, PackedNetwork, Weights, Workspace};
use throughline_nn::{Cpu, Module, Network, Pass, State};

use crate::arguments::{Arguments, ModelChoice};
use crate::data::{Data, Rows, Texts};
use crate::record::Record;
use crate::timing::{Figures, Subject, cpu, measure, peak};
use crate::workload::Setup;

pub fn report(arguments: &Arguments, model: ModelChoice) -> Result<String> {
    let setup = Setup::new(arguments, model)?;
    setup.check_memory(arguments)?;
    let cpu = cpu(arguments)?;
    match model {
        ModelChoice::WordLm | ModelChoice::CharLm => {
            let network = setup.of_rows();
            let state = State::new(&network.state_shape(), setup.sizes.lengths.len());
            let data = Rows::windows(&setup)?;
            time(arguments, &setup, Training { state: Some(state), ..Training::new(cpu, &setup, network, data) })
        }
        ModelChoice::Tagger => {
            time(arguments, &setup, Training::new(cpu, &setup, setup.of_rows(), Rows::tagged(&setup)))
        }
        ModelChoice::Classifier => {
            time(arguments, &setup, Training::new(cpu, &setup, setup.of_last_states(), Texts::new(&setup)))
        }
    }
}

fn time<B, D>(arguments: &Arguments, setup: &Setup, mut training: Training<B, D>) -> Result<String>
where
    B: Module<f32, Input = [u32]>,
    D: Data,
{
    if let Some(path) = &arguments.write {
        training.write(setup, path)?;
    }
    let (timed, repeats) = measure(&mut training, arguments);
    if !training.loss.is_finite() {
        bail!("expected a finite loss after {} updates, found {}", training.optimiser.updates(), training.loss);
    }
    let figures = Figures::of(&timed, repeats, setup.operations());
    if !arguments.json {
        return Ok(format!("{}: {}", setup.name(), figures.text(&training.cpu)));
    }
    let mut object = figures.json(&training.cpu);
    object.insert("model".to_owned(), json!(setup.name()));
    object.insert("rows".to_owned(), json!(setup.sizes.rows()));
    object.insert("lengths".to_owned(), json!(setup.sizes.lengths));
    object.insert("parameters".to_owned(), json!(training.network.layout().parameter_count()));
    Ok(Value::Object(object).to_string())
}

/// A model that is being trained.
struct Training<B: Module<f32>, D> {
    cpu: Cpu,
    network: Network<B, Softmax>,
    packed: PackedNetwork<f32, B, Softmax>,
    workspace: Workspace<f32, B, Softmax>,
    data: D,
    /// Where the next batch starts, if it goes on where the last one ends.
    state: Option<State<f32>>,
    parameters: Buffer<f32>,
    gradients: Buffer<f32>,
    optimiser: Optimiser<f32>,
    learning_rate: f64,
    clip_norm: Option<f64>,
    random: Stream,
    loss: f64,
}

impl<B: Module<f32, Input = [u32]>, D: Data> Training<B, D> {
    fn new(cpu: Cpu, setup: &Setup, network: Network<B, Softmax>, data: D) -> Self {
        let parameters = network.initialise(&Initialise::new(1));
        Self {
            packed: network.packed(&cpu, &parameters, true),
            workspace: Workspace::default(),
            data,
            state: None,
            gradients: network.layout().zeros(),
            optimiser: Optimiser::new(setup.method, network.layout().length()),
            learning_rate: setup.learning_rate,
            clip_norm: setup.clip_norm,
            random: Philox::new(1, Purpose::Benchmark, 1).stream(),
            loss: f64::NAN,
            cpu,
            network,
            parameters,
        }
    }

    /// One update; its gradients stay, as they were before clipping.
    fn update(&mut self) {
        let Self { cpu, network, packed, workspace, data, state, parameters, gradients, optimiser, .. } = self;
        let (isa, threads) = (cpu.isa, &cpu.threads);
        clear(threads, gradients);
        let (input, wanted) = data.batch();
        let (rows, from) = (input.rows, Input { start: state.as_ref(), ..input });
        let weights = Weights { cpu, parameters, packed };
        self.loss = network.learn(weights, from, wanted, Pass::Traced, gradients, workspace).mean();
        if let Some(state) = state {
            network.state_after(rows, rows.steps(), workspace, state);
        }
        let factor = match self.clip_norm {
            Some(limit) => clipping_factor(sum_of_squares(isa, threads, gradients).sqrt(), limit),
            None => 1.0,
        };
        optimiser.step(isa, threads, self.learning_rate, factor, parameters, gradients);
        network.pack(cpu, parameters, packed);
    }

    /// The first update.
    fn write(&mut self, setup: &Setup, path: &Path) -> Result<()> {
        let before = self.parameters.clone();
        self.data.draw(&mut self.random);
        self.update();
        let layout = self.network.layout();
        let mut record = Record::default();
        setup.sizes.describe(&mut record, &setup.name());
        record.note("vocabulary", setup.vocabulary);
        record.note("outputs", setup.outputs);
        record.note("optimiser", if matches!(setup.method, Method::Sgd(_)) { "sgd" } else { "adam" });
        record.note("learning_rate", setup.learning_rate);
        if let Some(limit) = setup.clip_norm {
            record.note("clip_norm", limit);
        }
        record.parameters("", layout, &before);
        record.parameters("grad.", layout, &self.gradients);
        record.parameters("after.", layout, &self.parameters);
        record.counts("lengths", &setup.sizes.lengths);
        self.data.describe(&mut record);
        record.numbers("loss", &[1], vec![self.loss as f32]);
        record.write(path)
    }
}

impl<B: Module<f32, Input = [u32]>, D: Data> Subject<1> for Training<B, D> {
    fn run(&mut self, times: usize) -> f64 {
        let mut seconds = 0.0;
        for _ in 0..times {
            self.data.draw(&mut self.random);
            let begun = Instant::now();
            self.update();
            seconds += begun.elapsed().as_secs_f64();
        }
        seconds
    }

    fn limits(&mut self) -> [f64; 1] {
        [peak(&self.cpu)]
    }
}
