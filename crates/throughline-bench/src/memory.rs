//! How much memory a run takes, counted before anything is allocated, and how much there is.

use std::fs;

use anyhow::{Result, bail};

use crate::arguments::Arguments;
use crate::sizes::Sizes;

const GIB: f64 = (1_u64 << 30) as f64;
/// Where the system does not say how much memory is free, in bytes.
const MOST: f64 = 64.0 * GIB;
/// What the program takes by itself, in bytes.
const PROGRAM: f64 = (16 << 20) as f64;
/// Addresses that a thread takes beside its data: its stack, and what the allocator keeps for it.
const THREAD: f64 = (72 << 20) as f64;

/// Elements of the widest vector: packed columns are padded to it, and tensors begin at multiples of it.
const LANES: f64 = 16.0;
/// What the places of packed panels take for each packed column, in f32.
const PLACES: f64 = 8.0;
/// Names, shapes and small arrays of a layer in one direction, in f32.
const LAYER: f64 = 2048.0;
/// Length, places and tokens of a sequence, in f32; of a row likewise.
const SEQUENCE: f64 = 64.0;
const ROW: f64 = 16.0;

/// What a run holds beside its stack and batch.
#[derive(Default)]
pub struct Needs {
    /// Arrays with an element for each parameter: the parameters, gradients, moments.
    pub copies: usize,
    /// Whether there is a backward pass.
    pub train: bool,
    /// Tokens that an embedding knows; 0 without one.
    pub vocabulary: usize,
    /// Rows of the head; 0 without one.
    pub outputs: usize,
    /// Any other numbers.
    pub others: usize,
}

/// Refuses sizes that do not fit the memory that is free.
pub fn check(sizes: &Sizes, needs: &Needs, arguments: &Arguments) -> Result<()> {
    let threads = usize::from(arguments.threads);
    let needed = bytes(sizes, needs, threads, arguments.write.is_some());
    let (free, what) = free(threads);
    if needed > free {
        bail!(
            "expected sizes that fit the {:.2} GiB of {what}, found some that take about {:.2} GiB; make --time \
             (--lengths), --batch, --input, --hidden, --layers or --vocabulary smaller",
            free / GIB,
            needed / GIB
        );
    }
    Ok(())
}

/// What a run takes: rather too much than too little. Counts in floating point, which does not overflow.
fn bytes(sizes: &Sizes, needs: &Needs, threads: usize, writes: bool) -> f64 {
    let config = &sizes.config;
    let [rows, batch] = [sizes.rows(), sizes.lengths.len()].map(|count| count as f64);
    let [input, hidden, output] = [config.input, config.hidden, config.output()].map(|size| size as f64);
    let [layers, directions] = [config.layers, config.directions()].map(|count| count as f64);
    let [gates, slots] = [config.cell.gates(), config.cell.slots()].map(|count| count as f64);
    let [vocabulary, outputs, others] = [needs.vocabulary, needs.outputs, needs.others].map(|count| count as f64);
    let (in_training, cells) = (f64::from(needs.train), f64::from(config.cell.has_cell_state()));
    let padded = |columns: f64| (columns / LANES).ceil() * LANES;
    let panels = |depth: f64, columns: f64| padded(columns) * (depth + PLACES);

    // Weights, of the lowest layer and of those above: as parameters, and packed, in training with their transposes.
    let all_layers = |of: &dyn Fn(f64) -> f64| directions * (of(input) + (layers - 1.0) * of(output));
    let gate_rows = gates * hidden;
    let stack = all_layers(&|input| gate_rows * (input + hidden + 2.0) + 4.0 * LANES);
    let packed_stack = all_layers(&|input| {
        let forward = gates * (panels(input, hidden) + panels(hidden, hidden)) + slots * hidden;
        forward + in_training * (panels(gate_rows, input) + panels(gate_rows, hidden) + PLACES * hidden)
    });
    let head = outputs * (output + 1.0);
    let packed_head = panels(output, outputs) + outputs + in_training * panels(outputs, output);
    let parameters = stack + vocabulary * input + head + 3.0 * LANES;
    let mut numbers = needs.copies as f64 * parameters + packed_stack + if outputs > 0.0 { packed_head } else { 0.0 };

    // Inputs, outputs of every layer, the gradients of both, what a head reads; states before and after.
    let states = layers * output * batch * (1.0 + cells);
    numbers += rows * (2.0 * input + (layers + 1.0) * output + ROW) + 3.0 * states + SEQUENCE * batch;
    if needs.train {
        let tape = layers * directions * (slots + cells) * hidden;
        // As `Chunks` of the backward pass cuts them.
        let chunk = f64::max((3 << 17) as f64, 256.0 * slots * hidden) + batch * slots * hidden;
        numbers += rows * (tape + 4.0 * output) + chunk + 3.0 * states;
    }
    // Logits are held for a block of rows at a time, as in `SoftmaxHead`.
    numbers += (rows * outputs).min(f64::max((4 << 20) as f64, 128.0 * outputs));
    // What each thread keeps: slots of a chunk of the forward pass, packed factors of weight gradients.
    let of_thread = 256.0 * slots * hidden + 512.0 * (input.max(output) + 4.0 * LANES);
    numbers += threads as f64 * of_thread + batch * slots * hidden + layers * directions * LAYER + others;
    if writes {
        // The file's bytes, and beside them those of its largest tensor, which is no larger. Tokens and targets of a model are
        // written padded, as 64-bit numbers.
        let longest = sizes.lengths.iter().copied().max().unwrap_or(0) as f64;
        let padded = if needs.outputs > 0 { 6.0 * batch * longest } else { 0.0 };
        let file = 3.0 * parameters + rows * (2.0 * (input + output) + 4.0) + padded + states + others;
        numbers += 2.0 * file + parameters;
    }
    size_of::<f32>() as f64 * numbers + PROGRAM
}

/// The bytes that are free, and of what: the machine's free memory, what the control group still allows (that is how a
/// container is bounded), or the addresses that the process may still take.
fn free(threads: usize) -> (f64, &'static str) {
    let memory = match bytes_of("/proc/meminfo", "MemAvailable:") {
        Some(bytes) => (bytes, "free memory"),
        None => (MOST, "memory that are never exceeded"),
    };
    let group = number("/sys/fs/cgroup/memory.max").zip(number("/sys/fs/cgroup/memory.current"));
    let group = group.map(|(limit, taken)| ((limit - taken).max(0.0), "memory that the control group leaves"));
    let addresses = address_space().zip(bytes_of("/proc/self/status", "VmSize:")).map(|(limit, taken)| {
        let left = limit - taken - (threads - 1) as f64 * THREAD;
        (left.max(0.0), "address space that the limit of the process (ulimit -v) leaves")
    });
    let bounds = [Some(memory), group, addresses].into_iter().flatten();
    bounds.min_by(|a, b| a.0.total_cmp(&b.0)).expect("memory is a bound")
}

/// The number that a file holds.
fn number(path: &str) -> Option<f64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The bytes that a line `KEY NUMBER kB` of a file of Linux tells.
pub fn bytes_of(path: &str, key: &str) -> Option<f64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

/// The soft limit of the address space in bytes, where there is one and the system tells.
fn address_space() -> Option<f64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}
