//! A recurrent stack over a whole batch: inference, or forward and backward.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};
use throughline_kernels::ops::reduce;
use throughline_kernels::random::{Philox, Purpose};
use throughline_kernels::sequence::Ragged;
use throughline_nn::initialise::Initialise;
use throughline_nn::layers::Recurrent;
use throughline_nn::layers::recurrent::{PackedRecurrent, RecurrentTape};
use throughline_nn::module::{Call, Gradients};
use throughline_nn::parameters::{Builder, Layout};
use throughline_nn::state::StateArray;
use throughline_nn::{Context, Cpu, Layer as _, Module, Pass, State};

use crate::arguments::{Arguments, Mode};
use crate::memory::{self, Needs};
use crate::record::Record;
use crate::sizes::{Sizes, products};
use crate::timing::{Figures, Subject, cpu, measure, peak};

/// A stack with its data.
pub struct Layer {
    pub cpu: Cpu,
    pub train: bool,
    recurrent: Recurrent,
    layout: Layout,
    parameters: Vec<f32>,
    gradients: Vec<f32>,
    pub packed: PackedRecurrent<f32>,
    tape: RecurrentTape<f32>,
    pub batch: Ragged,
    x: Vec<f32>,
    dy: Vec<f32>,
    dx: Vec<f32>,
}

pub fn report(arguments: &Arguments) -> Result<String> {
    let sizes = Sizes::of_stack(arguments)?;
    let mut layer = Layer::new(arguments, &sizes)?;
    if let Some(path) = &arguments.write {
        layer.write(&sizes, path)?;
    }
    let (timed, repeats) = measure(&mut layer, arguments);
    let passes = if layer.train { 3.0 } else { 1.0 };
    let figures = Figures::of(&timed, repeats, products(&sizes.config, layer.batch.rows()) * passes);
    if !arguments.json {
        return Ok(figures.text(&layer.cpu));
    }
    let mut object = figures.json(&layer.cpu);
    object.insert("rows".to_owned(), json!(layer.batch.rows()));
    object.insert("lengths".to_owned(), json!(layer.batch.lengths()));
    Ok(Value::Object(object).to_string())
}

impl Layer {
    /// Random weights and data of these sizes, if there is memory for them.
    pub fn new(arguments: &Arguments, sizes: &Sizes) -> Result<Self> {
        let train = arguments.mode == Mode::Train;
        memory::check(sizes, &Needs { copies: 2, train, ..Needs::default() }, arguments)?;
        let (cpu, config) = (cpu(arguments)?, sizes.config);
        let batch = Ragged::new(&sizes.lengths);
        let mut random = Philox::new(1, Purpose::Benchmark, 1).stream();
        let mut noise = |count: usize| -> Vec<f32> { (0..count).map(|_| random.uniform() as f32 - 0.5).collect() };
        let (x, dy) = (noise(batch.rows() * config.input), noise(batch.rows() * config.output()));
        let mut builder = Builder::new();
        let recurrent = Recurrent::new(&mut builder, "", config);
        let layout = builder.into_layout();
        let mut parameters = vec![0.0; layout.length()];
        recurrent.initialise(&Initialise::new(1), &layout, &mut parameters);
        let mut packed = recurrent.packed(cpu.isa, train);
        recurrent.pack(&cpu, &layout, &parameters, &mut packed);
        Ok(Self {
            gradients: vec![0.0; layout.length()],
            tape: RecurrentTape::default(),
            dx: vec![0.0; x.len()],
            cpu,
            train,
            recurrent,
            layout,
            parameters,
            packed,
            batch,
            x,
            dy,
        })
    }

    /// What one run computes.
    fn write(&mut self, sizes: &Sizes, path: &Path) -> Result<()> {
        self.run(1);
        let (batch, config) = (&self.batch, &sizes.config);
        let (rows, output) = (batch.rows(), config.output());
        let mut last = State::new(&self.recurrent.state_shape(), batch.batch());
        self.recurrent.end(batch, &self.tape, last.arrays_mut());
        let states = [config.layers * config.directions(), batch.batch(), config.hidden];
        let (h, c) = last.arrays().split_at(states[0]);
        let mut record = Record::default();
        sizes.describe(&mut record, if self.train { "train" } else { "forward" });
        record.parameters("", &self.layout, &self.parameters);
        record.counts("lengths", batch.lengths());
        record.counts("batch_sizes", batch.batch_sizes());
        record.counts("order", batch.order());
        record.numbers("x", &[rows, config.input], &self.x);
        record.numbers("y", &[rows, output], self.recurrent.output(batch, &self.tape).1);
        record.last_states(states, [h, c].map(|arrays| arrays.iter().flat_map(StateArray::values).copied().collect()));
        if self.train {
            record.numbers("dy", &[rows, output], &self.dy);
            record.numbers("dx", &[rows, config.input], &self.dx);
            record.parameters("grad.", &self.layout, &self.gradients);
        }
        record.write(path)
    }
}

impl Subject<1> for Layer {
    fn run(&mut self, times: usize) -> f64 {
        let Self { cpu, train, recurrent, layout, parameters, gradients, packed, tape, batch, x, dy, dx } = self;
        let pass = if *train { Pass::Traced } else { Pass::Inference };
        let context = Context { cpu, layout, parameters, pass };
        let begun = Instant::now();
        for _ in 0..times {
            if *train {
                // Part of every training step: gradients add up until they are cleared.
                reduce::clear(&cpu.threads, gradients);
                recurrent.pack(cpu, layout, parameters, packed);
            }
            let call = Call { context, packed, rows: batch, x: &x[..], start: None };
            recurrent.forward(call, tape);
            if *train {
                let gradients =
                    Gradients { dy: Some(dy), d_end: None, dx: Some(dx), d_start: None, parameters: gradients };
                recurrent.backward(call, gradients, tape);
            }
        }
        begun.elapsed().as_secs_f64()
    }

    fn limits(&mut self) -> [f64; 1] {
        [peak(&self.cpu)]
    }
}
