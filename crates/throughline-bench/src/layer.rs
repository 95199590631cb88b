//! A recurrent stack over a whole batch: inference, or forward and backward.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};
use throughline_kernels::ops::reduce;
use throughline_kernels::random::{Philox, Purpose};
use throughline_kernels::sequence::Ragged;
use throughline_nn::initialise::Initialisation;
use throughline_nn::parameters::Layout;
use throughline_nn::recurrent::{Context, PackedRecurrent, Pass, Recurrent, RecurrentWorkspace, States};

use crate::arguments::{Arguments, Mode};
use crate::memory::{self, Needs};
use crate::record::Record;
use crate::sizes::{Sizes, products};
use crate::timing::{Figures, Machine, Subject, measure};

/// A stack with its data.
pub struct Layer {
    pub machine: Machine,
    pub train: bool,
    recurrent: Recurrent,
    layout: Layout,
    parameters: Vec<f32>,
    gradients: Vec<f32>,
    pub packed: PackedRecurrent<f32>,
    workspace: RecurrentWorkspace<f32>,
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
        return Ok(figures.text(&layer.machine));
    }
    let mut object = figures.json(&layer.machine);
    object.insert("rows".to_owned(), json!(layer.batch.rows()));
    object.insert("lengths".to_owned(), json!(layer.batch.lengths()));
    Ok(Value::Object(object).to_string())
}

impl Layer {
    /// Random weights and data of these sizes, if there is memory for them.
    pub fn new(arguments: &Arguments, sizes: &Sizes) -> Result<Self> {
        let train = arguments.mode == Mode::Train;
        memory::check(sizes, &Needs { copies: 2, train, ..Needs::default() }, arguments)?;
        let (machine, config) = (Machine::new(arguments)?, sizes.config);
        let batch = Ragged::new(&sizes.lengths);
        let mut random = Philox::new(1, Purpose::Benchmark, 1).stream();
        let mut noise = |count: usize| -> Vec<f32> { (0..count).map(|_| random.uniform() as f32 - 0.5).collect() };
        let (x, dy) = (noise(batch.rows() * config.input), noise(batch.rows() * config.output()));
        let mut layout = Layout::new();
        let recurrent = Recurrent::new(config, &mut layout, "");
        let mut parameters = vec![0.0; layout.length()];
        recurrent.initialise(&layout, 1, Initialisation::Uniform, &mut parameters);
        let mut packed = recurrent.packed(machine.isa, train);
        recurrent.pack(&machine.threads, &layout, &parameters, &mut packed);
        Ok(Self {
            gradients: vec![0.0; layout.length()],
            workspace: recurrent.workspace(&machine.threads),
            dx: vec![0.0; x.len()],
            machine,
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
        let mut last = States::default();
        self.recurrent.last_states(batch, &self.workspace, &mut last);
        let mut record = Record::default();
        sizes.describe(&mut record, if self.train { "train" } else { "forward" });
        record.parameters("", &self.layout, &self.parameters);
        record.counts("lengths", batch.lengths());
        record.counts("batch_sizes", batch.batch_sizes());
        record.counts("order", batch.order());
        record.numbers("x", &[rows, config.input], &self.x);
        record.numbers("y", &[rows, output], self.workspace.output(rows, output));
        record.last_states([config.layers * config.directions(), batch.batch(), config.hidden], last);
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
        let Self { machine, train, recurrent, layout, parameters, gradients, packed, workspace, batch, x, dy, dx } =
            self;
        let (threads, train) = (&machine.threads, *train);
        let begun = Instant::now();
        for _ in 0..times {
            if train {
                // Part of every training step: gradients add up until they are cleared.
                reduce::clear(threads, gradients);
                recurrent.pack(threads, layout, parameters, packed);
            }
            let context = Context { threads, packed, parameters, layout };
            let pass = if train { Pass::Traced } else { Pass::Inference };
            recurrent.forward(context, batch, x, None, pass, workspace);
            if train {
                recurrent.backward(context, batch, x, false, pass, Some(dy), None, Some(dx), gradients, workspace);
            }
        }
        begun.elapsed().as_secs_f64()
    }

    fn limits(&mut self) -> [f64; 1] {
        [self.machine.peak()]
    }
}
