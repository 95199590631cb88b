//! What the gates do: how they are distributed, which saturate, how long each unit remembers, which units are dead.

use serde::Serialize;
use throughline_kernels::Element;
use throughline_kernels::cells::CellKind;
use throughline_nn::heads::Head;
use throughline_nn::layers::Recurrent;
use throughline_nn::layers::recurrent::RecurrentTape;
use throughline_nn::module::Module;

use crate::probe::{Probe, Site};
use crate::quantiles::Quantiles;

/// Columns of a histogram.
pub const BINS: usize = 20;
/// A gate is saturated within this distance from an end of its range; of a range from -1 to 1, twice it.
const SATURATED: f64 = 0.05;
/// A unit whose |h| never reaches this is dead.
const DEAD: f64 = 1e-3;

/// What a gate's activation may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// A sigmoid: from 0 to 1.
    Sigmoid,
    /// From -1 to 1.
    Tanh,
    /// From 0 on.
    Relu,
}

/// A gate whose activation says something, and what it is.
#[derive(Clone, Copy, Debug)]
struct Gate {
    name: &'static str,
    activation: Activation,
    /// Whether it multiplies the state of the step before.
    keeps: bool,
}

/// The gates of a cell, in the order of the rows of its weights.
fn gates(cell: CellKind) -> impl Iterator<Item = Gate> {
    let names = cell.slot_names()[..cell.gates()].iter().enumerate();
    names.map(move |(place, &name)| Gate {
        name,
        activation: match name {
            "activation" if cell == CellKind::RnnRelu => Activation::Relu,
            "activation" | "cell" | "new" => Activation::Tanh,
            _ => Activation::Sigmoid,
        },
        keeps: cell.keeping_gate() == Some(place),
    })
}

/// The names of a cell's gates, in the order of the rows of its weights.
pub(crate) fn gates_of(cell: CellKind) -> impl Iterator<Item = &'static str> {
    gates(cell).map(|gate| gate.name)
}

/// One gate over all units and rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GateStatistics {
    /// Where.
    #[serde(flatten)]
    pub site: Site,
    /// The gate.
    pub gate: &'static str,
    /// Its activation.
    pub activation: Activation,
    /// Whether it multiplies the state of the step before, as a forget gate does.
    pub keeps: bool,
    /// The mean.
    pub mean: f64,
    /// The share of activations near the lower end of the range (below 0.05; of a tanh below -0.9).
    pub low: f64,
    /// The share near the upper end (above 0.95; of a tanh above 0.9). 0 for a ReLU, which has none.
    pub high: f64,
    /// Units that are near the same end at every row.
    pub stuck: usize,
    /// How many of the activations are in each of [`BINS`] equal parts of the range; of a ReLU, from 0 to its largest.
    pub histogram: Vec<u64>,
    /// The mean of each unit.
    pub units: Vec<f64>,
}

/// The state of one direction of a layer over all units and rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StateStatistics {
    /// Where.
    #[serde(flatten)]
    pub site: Site,
    /// Rows that were read.
    pub rows: usize,
    /// |h|
    pub hidden: Quantiles,
    /// |c|, for a cell that has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cell: Option<Quantiles>,
    /// The largest |c|.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub largest_cell: Option<f64>,
    /// Units whose |h| is below 0.001 at every row.
    pub dead: usize,
    /// For each unit the steps after which 1/e of its memory is left where nothing new comes in: -1 / mean(ln f), f the gate
    /// that multiplies the old state. Empty for a cell without such a gate. Infinite where the gate is always 1.
    pub time_constants: Vec<f64>,
}

/// What [`gate_statistics`] finds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Gates {
    /// Of each gate.
    pub gates: Vec<GateStatistics>,
    /// Of each direction of each layer.
    pub states: Vec<StateStatistics>,
}

/// The statistics of every stack that reads the steps of the batch.
pub fn gate_statistics<E: Element, B: Module<E>, H: Head<E>>(probe: &Probe<'_, E, B, H>) -> Gates {
    let mut found = Gates::default();
    let rows = probe.rows().rows();
    probe.stacks(&mut |stack, tape| {
        for site in Site::all(stack) {
            for gate in gates(stack.config().cell) {
                found.gates.push(statistics_of_gate(gate, &site, stack, tape, rows));
            }
            found.states.push(statistics_of_state(&site, stack, tape, rows));
        }
    });
    found
}

fn statistics_of_gate<E: Element>(
    Gate { name, activation, keeps }: Gate,
    site: &Site,
    stack: &Recurrent,
    tape: &RecurrentTape<E>,
    rows: usize,
) -> GateStatistics {
    let (hidden, layer, direction) = (stack.config().hidden, tape.layer(site.layer), site.direction());
    let values = || (0..rows).flat_map(|row| layer.gate(name, direction, row)).map(|x| x.to_f64());
    let [first, last] = match activation {
        Activation::Sigmoid => [0.0, 1.0],
        Activation::Tanh => [-1.0, 1.0],
        Activation::Relu => [0.0, values().fold(0.0, f64::max)],
    };
    let range = last - first;
    let margin = SATURATED * range;
    let is_low = |x: f64| x < first + margin && activation != Activation::Relu;
    let is_high = |x: f64| x > last - margin && activation != Activation::Relu;
    let mut histogram = vec![0; BINS];
    let mut units = vec![0.0; hidden];
    // Rows in which each unit is near the lower and the upper end.
    let mut ends = vec![[0; 2]; hidden];
    for (place, x) in values().enumerate() {
        let unit = place % hidden;
        units[unit] += x;
        ends[unit][0] += usize::from(is_low(x));
        ends[unit][1] += usize::from(is_high(x));
        let bin = if range > 0.0 { ((x - first) / range * BINS as f64) as usize } else { 0 };
        histogram[bin.min(BINS - 1)] += 1;
    }
    let share = |end: usize| ends.iter().map(|ends| ends[end]).sum::<usize>() as f64 / (rows * hidden) as f64;
    units.iter_mut().for_each(|sum| *sum /= rows as f64);
    GateStatistics {
        site: site.clone(),
        gate: name,
        activation,
        keeps,
        mean: units.iter().sum::<f64>() / hidden as f64,
        low: share(0),
        high: share(1),
        stuck: ends.iter().filter(|ends| ends.contains(&rows)).count(),
        histogram,
        units,
    }
}

fn statistics_of_state<E: Element>(
    site: &Site,
    stack: &Recurrent,
    tape: &RecurrentTape<E>,
    rows: usize,
) -> StateStatistics {
    let (hidden, cell) = (stack.config().hidden, stack.config().cell);
    let (layer, direction) = (tape.layer(site.layer), site.direction());
    let mut sizes = Vec::with_capacity(rows * hidden);
    let mut largest = vec![0.0f64; hidden];
    for row in 0..rows {
        for (largest, h) in largest.iter_mut().zip(tape.hidden(site.layer, direction, row)) {
            let size = h.to_f64().abs();
            *largest = largest.max(size);
            sizes.push(size);
        }
    }
    let mut of_cell: Vec<f64> = match cell.has_cell_state() {
        true => {
            (0..rows).filter_map(|row| layer.cell_state(direction, row)).flatten().map(|c| c.to_f64().abs()).collect()
        }
        false => Vec::new(),
    };
    let keeping = gates(cell).find(|gate| gate.keeps);
    let time_constants = keeping.map_or_else(Vec::new, |gate| {
        let mut logarithms = vec![0.0; hidden];
        for row in 0..rows {
            for (sum, f) in logarithms.iter_mut().zip(layer.gate(gate.name, direction, row)) {
                *sum += f.to_f64().ln();
            }
        }
        logarithms.into_iter().map(|sum| (rows as f64 / sum).abs()).collect()
    });
    StateStatistics {
        site: site.clone(),
        rows,
        hidden: Quantiles::of(&mut sizes),
        largest_cell: of_cell.iter().copied().reduce(f64::max),
        cell: (!of_cell.is_empty()).then(|| Quantiles::of(&mut of_cell)),
        dead: largest.iter().filter(|&&largest| largest < DEAD).count(),
        time_constants,
    }
}
