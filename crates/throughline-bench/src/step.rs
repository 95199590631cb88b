//! One streaming step of a stack that reads forward, the states going on from step to step.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use throughline_kernels::buffer::Buffer;
use throughline_kernels::peak::Reader;
use throughline_kernels::random::{Philox, Purpose};
use throughline_kernels::sequence::{Ragged, Regularisation, Scratch, Step, step};
use throughline_nn::initialise::Initialise;
use throughline_nn::layers::Recurrent;
use throughline_nn::layers::recurrent::{PackedRecurrent, RecurrentConfig};
use throughline_nn::parameters::{Builder, Layout};
use throughline_nn::{Cpu, Layer, Module};

use crate::arguments::Arguments;
use crate::memory::{self, Needs};
use crate::record::Record;
use crate::sizes::{Sizes, products};
use crate::timing::{BURST, Figures, Subject, cpu, measure, median, peak};

/// Different inputs, taken by turns, and the steps that are written.
const INPUTS: usize = 8;

/// A stack with its streams.
struct Streams {
    cpu: Cpu,
    layout: Layout,
    parameters: Vec<f32>,
    packed: PackedRecurrent<f32>,
    memory: Vec<Memory>,
    scratch: Scratch<f32>,
    batch: Ragged,
    /// `[INPUTS, B, I]`
    x: Buffer<f32>,
    taken: usize,
    reader: Reader,
}

/// The output of a layer and its states before and after the step, `[B, H]` each.
struct Memory {
    y: Buffer<f32>,
    before: [Buffer<f32>; 2],
    after: [Buffer<f32>; 2],
}

pub fn report(arguments: &Arguments) -> Result<String> {
    let beyond_a_step = [
        (arguments.threads != 1, "--threads"),
        (arguments.bidirectional, "--bidirectional"),
        (arguments.time.is_some(), "--time"),
        (arguments.lengths.is_some(), "--lengths"),
    ];
    if let Some((_, found)) = beyond_a_step.into_iter().find(|(given, _)| *given) {
        bail!(
            "--mode step: expected one step of a stack that reads forward, on one thread, found {found}; leave it out"
        );
    }
    let sizes = Sizes::of_stack(arguments)?.one_step();
    let bytes = bytes(&sizes.config);
    let mut streams = Streams::new(arguments, &sizes, bytes)?;
    if let Some(path) = &arguments.write {
        streams.write(&sizes, path)?;
    }
    let (timed, steps_per_run) = measure(&mut streams, arguments);
    let figures = Figures::of(&timed, steps_per_run, products(&sizes.config, streams.batch.batch()));
    let bandwidth = median(&mut timed.iter().map(|timed| timed.limits[1]).collect::<Vec<_>>());
    let share = bytes as f64 / figures.median_s / bandwidth;
    if !arguments.json {
        let figures = figures.text(&streams.cpu);
        return Ok(format!("{figures}; {:.0} % of the bandwidth of a plain reading loop", share * 100.0));
    }
    let mut object = figures.json(&streams.cpu);
    object.insert("rows".to_owned(), json!(streams.batch.batch()));
    object.insert("steps_per_run".to_owned(), json!(steps_per_run));
    object.insert("bytes".to_owned(), json!(bytes));
    object.insert("read_gb_s".to_owned(), json!(bandwidth / 1e9));
    object.insert("bandwidth_share".to_owned(), json!(share));
    Ok(Value::Object(object).to_string())
}

/// The weights that a step reads, and of the biases what the slots start from.
fn bytes(config: &RecurrentConfig) -> usize {
    let numbers = |input: usize| config.hidden * (config.cell.gates() * (input + config.hidden) + config.cell.slots());
    size_of::<f32>() * (numbers(config.input) + (config.layers - 1) * numbers(config.hidden))
}

impl Streams {
    /// Random weights and inputs of these sizes, if there is memory for them.
    fn new(arguments: &Arguments, sizes: &Sizes, bytes: usize) -> Result<Self> {
        // What is read to measure the bandwidth is as large as the weights.
        let inputs = INPUTS * sizes.rows() * sizes.config.input;
        memory::check(sizes, &Needs { copies: 2, others: inputs, ..Needs::default() }, arguments)?;
        let (cpu, config) = (cpu(arguments)?, sizes.config);
        let batch = Ragged::new(&sizes.lengths);
        let mut random = Philox::new(1, Purpose::Benchmark, 1).stream();
        let mut x = Buffer::zeros(INPUTS * batch.batch() * config.input);
        x.iter_mut().for_each(|x| *x = random.uniform() as f32 - 0.5);
        let mut builder = Builder::new();
        let recurrent = Recurrent::new(&mut builder, "", config);
        let layout = builder.into_layout();
        let mut parameters = vec![0.0; layout.length()];
        recurrent.initialise(&Initialise::new(1), &layout, &mut parameters);
        let mut packed = recurrent.packed(cpu.isa, false);
        recurrent.pack(&cpu, &layout, &parameters, &mut packed);
        let memory = (0..config.layers).map(|_| Memory::new(&config, batch.batch())).collect();
        Ok(Self {
            cpu,
            layout,
            parameters,
            packed,
            memory,
            scratch: Scratch::default(),
            batch,
            x,
            taken: 0,
            reader: Reader::new(bytes),
        })
    }

    fn step(&mut self) {
        let Self { packed, memory, scratch, batch, x, taken, .. } = self;
        let width = x.len() / INPUTS;
        let x = &x[*taken % INPUTS * width..][..width];
        for (index, layer) in packed.layers().iter().enumerate() {
            let (below, this) = memory.split_at_mut(index);
            let Memory { y, before, after } = &mut this[0];
            let input = below.last().map_or(x, |below| &below.y);
            let ([h, c], [h_next, c_next]) = (&*before, &mut *after);
            step(
                Step { layer, batch, x: input, h, c, regularisation: Regularisation::NONE, y, h_next, c_next },
                scratch,
            );
            std::mem::swap(before, after);
        }
        *taken += 1;
    }

    /// The first steps from states of zeros.
    fn write(&mut self, sizes: &Sizes, path: &Path) -> Result<()> {
        let RecurrentConfig { input, hidden, layers, .. } = sizes.config;
        let batch = self.batch.batch();
        let mut y = Vec::with_capacity(INPUTS * batch * hidden);
        for _ in 0..INPUTS {
            self.step();
            y.extend_from_slice(&self.memory[layers - 1].y);
        }
        let last = [0, 1].map(|kind| self.memory.iter().flat_map(|memory| &memory.before[kind][..]).copied().collect());
        let mut record = Record::default();
        sizes.describe(&mut record, "step");
        record.parameters("", &self.layout, &self.parameters);
        record.numbers("x", &[INPUTS, batch, input], &self.x[..]);
        record.numbers("y", &[INPUTS, batch, hidden], y);
        record.last_states([layers, batch, hidden], last);
        record.write(path)
    }
}

impl Memory {
    fn new(config: &RecurrentConfig, batch: usize) -> Self {
        let state = batch * config.hidden;
        let states = || [state, if config.cell.has_cell_state() { state } else { 0 }].map(Buffer::zeros);
        Self { y: Buffer::zeros(state), before: states(), after: states() }
    }
}

impl Subject<2> for Streams {
    fn run(&mut self, times: usize) -> f64 {
        let begun = Instant::now();
        for _ in 0..times {
            self.step();
        }
        begun.elapsed().as_secs_f64()
    }

    /// The peak, and the bytes a second of a plain reading loop over as much memory as the weights are.
    fn limits(&mut self) -> [f64; 2] {
        [peak(&self.cpu), self.reader.measure(self.cpu.isa, BURST)]
    }
}
