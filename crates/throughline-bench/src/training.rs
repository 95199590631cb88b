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

use crate::arguments::{Arguments, ModelChoice};
use crate::record::Record;
use crate::timing::{Figures, Machine, Subject, measure};
use crate::workload::{Setup, Workload};

pub fn report(arguments: &Arguments, model: ModelChoice) -> Result<String> {
    let setup = Setup::new(arguments, model)?;
    setup.check_memory(arguments)?;
    let mut training = Training::new(Machine::new(arguments)?, &setup)?;
    if let Some(path) = &arguments.write {
        training.write(&setup, path)?;
    }
    let (timed, repeats) = measure(&mut training, arguments);
    if !training.loss.is_finite() {
        bail!("expected a finite loss after {} updates, found {}", training.optimiser.updates(), training.loss);
    }
    let figures = Figures::of(&timed, repeats, setup.operations());
    if !arguments.json {
        return Ok(format!("{}: {}", setup.name(), figures.text(&training.machine)));
    }
    let mut object = figures.json(&training.machine);
    object.insert("model".to_owned(), json!(setup.name()));
    object.insert("rows".to_owned(), json!(setup.sizes.rows()));
    object.insert("lengths".to_owned(), json!(setup.sizes.lengths));
    object.insert("parameters".to_owned(), json!(training.workload.layout().parameter_count()));
    Ok(Value::Object(object).to_string())
}

/// A model that is being trained.
struct Training {
    machine: Machine,
    workload: Box<dyn Workload>,
    parameters: Buffer<f32>,
    gradients: Buffer<f32>,
    optimiser: Optimiser<f32>,
    learning_rate: f64,
    clip_norm: Option<f64>,
    random: Stream,
    loss: f64,
}

impl Training {
    fn new(machine: Machine, setup: &Setup) -> Result<Self> {
        let mut workload = setup.workload(&machine)?;
        let parameters = workload.initialise();
        workload.pack(&machine.threads, &parameters);
        Ok(Self {
            gradients: workload.layout().zeros(),
            optimiser: Optimiser::new(setup.method, workload.layout().length()),
            learning_rate: setup.learning_rate,
            clip_norm: setup.clip_norm,
            random: Philox::new(1, Purpose::Benchmark, 1).stream(),
            loss: f64::NAN,
            machine,
            workload,
            parameters,
        })
    }

    /// One update; its gradients stay, as they were before clipping.
    fn update(&mut self) {
        let Self { machine, workload, parameters, gradients, optimiser, learning_rate, clip_norm, loss, .. } = self;
        let (isa, threads) = (machine.isa, &machine.threads);
        clear(threads, gradients);
        *loss = workload.learn(threads, parameters, gradients);
        let factor = match *clip_norm {
            Some(limit) => clipping_factor(sum_of_squares(isa, threads, gradients).sqrt(), limit),
            None => 1.0,
        };
        optimiser.step(isa, threads, *learning_rate, factor, parameters, gradients);
        workload.pack(threads, parameters);
    }

    /// The first update.
    fn write(&mut self, setup: &Setup, path: &Path) -> Result<()> {
        let before = self.parameters.clone();
        self.workload.draw(&mut self.random);
        self.update();
        let layout = self.workload.layout();
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
        self.workload.describe(&mut record);
        record.numbers("loss", &[1], vec![self.loss as f32]);
        record.write(path)
    }
}

impl Subject<1> for Training {
    fn run(&mut self, times: usize) -> f64 {
        let mut seconds = 0.0;
        for _ in 0..times {
            self.workload.draw(&mut self.random);
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
