//! Every number of a pass, by name: gates, states, pre-activations and gradients of every layer and direction, as arrays.

mod file;
mod selection;

pub use file::TraceFormat;
pub use selection::Selection;

use throughline_infer::Pieces;
use throughline_kernels::Element;
use throughline_kernels::cells::CellKind;
use throughline_kernels::sequence::Ragged;
use throughline_nn::heads::Head;
use throughline_nn::layers::Recurrent;
use throughline_nn::layers::recurrent::RecurrentTape;
use throughline_nn::module::Module;
use throughline_nn::network::Network;

use crate::probe::{Memory, Probe, Site, Subject, stacks};

/// What an array holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantity {
    Hidden,
    CellState,
    Gate(&'static str),
    PreActivation(&'static str),
    HiddenGradient,
    CellGradient,
    GateGradient(&'static str),
}

impl Quantity {
    /// All that there are of a cell.
    fn all(cell: CellKind) -> impl Iterator<Item = Self> {
        // A slot that no input goes to has no activation, and so nothing before it.
        let (slots, gates) = (cell.slot_names(), &cell.slot_names()[..cell.gates()]);
        let of_cell = |quantity| cell.has_cell_state().then_some(quantity);
        let forward =
            [Self::Hidden].into_iter().chain(of_cell(Self::CellState)).chain(slots.iter().copied().map(Self::Gate));
        let gradients = [Self::HiddenGradient].into_iter().chain(of_cell(Self::CellGradient));
        forward
            .chain(gates.iter().copied().map(Self::PreActivation))
            .chain(gradients)
            .chain(slots.iter().copied().map(Self::GateGradient))
    }

    fn is_gradient(self) -> bool {
        matches!(self, Self::HiddenGradient | Self::CellGradient | Self::GateGradient(_))
    }

    /// The name of its array.
    fn name(self, site: &Site) -> String {
        let Site { stack, layer, reverse } = site;
        let place = format!("{stack}.l{layer}{}", if *reverse { "_reverse" } else { "" });
        match self {
            Self::Hidden => format!("{place}.h"),
            Self::CellState => format!("{place}.c"),
            Self::Gate(gate) => format!("{place}.{gate}"),
            Self::PreActivation(gate) => format!("{place}.pre_{gate}"),
            Self::HiddenGradient => format!("{place}.d_h"),
            Self::CellGradient => format!("{place}.d_c"),
            Self::GateGradient(gate) => format!("{place}.d_{gate}"),
        }
    }

    /// Its numbers at a packed row.
    fn at<'t, E: Element>(self, tape: &'t RecurrentTape<E>, site: &Site, row: usize) -> &'t [E] {
        const KEPT: &str = "the tape was set to keep what is read";
        let (layer, direction) = (tape.layer(site.layer), site.direction());
        let gradients = || tape.row_gradients(site.layer).expect(KEPT);
        match self {
            Self::Hidden => tape.hidden(site.layer, direction, row),
            Self::CellState => layer.cell_state(direction, row).expect("the cell has a cell state"),
            Self::Gate(gate) => layer.gate(gate, direction, row),
            Self::PreActivation(gate) => layer.pre_activation(gate, direction, row).expect(KEPT),
            Self::HiddenGradient => gradients().hidden(direction, row),
            Self::CellGradient => gradients().cell(direction, row).expect("the cell has a cell state"),
            Self::GateGradient(gate) => gradients().gate(gate, direction, row),
        }
    }
}

/// One array of a [`Trace`].
#[derive(Clone, Debug, PartialEq)]
pub struct TraceArray<E> {
    /// Its name; see [`Trace`].
    pub name: String,
    /// Its columns, the units of the layer.
    pub width: usize,
    /// `[N, width]`, row-major.
    pub values: Vec<E>,
}

/// Numbers of a pass by name. Row n of every array belongs to packed row n of the batch, which goes through all sequences step by
/// step; [`sequence`](Self::sequence) and [`time`](Self::time) say where it is in the caller's data.
///
/// | name | what it is |
/// |---|---|
/// | `rnn.l0.h`, `rnn.l0.c` | the hidden state h_t; the cell state c_t, of a cell that has one |
/// | `rnn.l0.forget` | a gate after its activation, by the cell's own names |
/// | `rnn.l0.pre_forget` | the same before it |
/// | `rnn.l0.d_h`, `rnn.l0.d_c` | the gradient of the summed loss with respect to h_t and c_t, through all later steps |
/// | `rnn.l0.d_forget` | the gradient with respect to the gate's pre-activation |
///
/// `rnn` is the name of the stack, `l0` its lowest layer, and `l0_reverse` that layer's reverse direction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace<E> {
    /// `[N]`: the caller's index of the sequence.
    pub sequence: Vec<u32>,
    /// `[N]`: the step in the sequence, from 0.
    pub time: Vec<u32>,
    /// What was read at each row, such as a character or a word; `None` where that has no name.
    pub pieces: Option<Pieces>,
    /// The arrays, stack by stack, layer by layer.
    pub arrays: Vec<TraceArray<E>>,
}

/// Traces batch after batch. Its memory grows once, so that a trace costs little more than the pass itself.
pub struct Tracer<E: Element, B: Module<E>, H: Head<E>> {
    selection: Selection,
    /// Whether something is selected that backward computes.
    gradients: bool,
    memory: Memory<E, B, H>,
    trace: Trace<E>,
}

impl<E: Element, B: Module<E>, H: Head<E>> Tracer<E, B, H> {
    /// Traces what is selected. Gradients and pre-activations are computed and kept only if one of them is.
    pub fn new(network: &Network<B, H>, selection: Selection) -> Self {
        let wanted = wanted(network.body(), &selection);
        let gradients = wanted.iter().any(|(_, quantity)| quantity.is_gradient());
        let before = wanted.iter().any(|(_, quantity)| matches!(quantity, Quantity::PreActivation(_)));
        let memory = Memory::new(network.body(), gradients, before);
        Self { selection, gradients, memory, trace: Trace::default() }
    }

    /// Runs `subject` forward, and backward if a gradient is selected, and reads what is selected from the tape of every stack
    /// that reads the steps of the batch.
    ///
    /// # Panics
    /// If an array of `subject` does not match the batch.
    pub fn trace(&mut self, subject: Subject<'_, E, B, H>) -> &Trace<E> {
        let mut probe = Probe::with(subject, std::mem::take(&mut self.memory));
        if self.gradients {
            let mut loss = probe.loss_gradient();
            probe.back(&mut loss);
        }
        self.trace.read(&probe, &self.selection);
        self.memory = probe.into_memory();
        &self.trace
    }
}

impl<E: Element> Trace<E> {
    /// One trace; see [`Tracer::trace`].
    ///
    /// # Panics
    /// Likewise.
    pub fn of<B: Module<E>, H: Head<E>>(subject: Subject<'_, E, B, H>, selection: &Selection) -> Self {
        let mut tracer = Tracer::new(subject.network, selection.clone());
        tracer.trace(subject);
        tracer.trace
    }

    /// Takes what is selected from the tape of `probe`, in the memory that it has.
    fn read<B: Module<E>, H: Head<E>>(&mut self, probe: &Probe<'_, E, B, H>, selection: &Selection) {
        let rows = probe.rows();
        self.sequence.clear();
        self.time.clear();
        rows.for_each_row(|_, sequence, time| {
            self.sequence.push(sequence as u32);
            self.time.push(time as u32);
        });
        let mut before = std::mem::take(&mut self.arrays).into_iter();
        probe.stacks(&mut |stack, tape| {
            for (site, quantity) in wanted_of(stack, selection) {
                let width = stack.config().hidden;
                let mut values = before.next().map_or_else(Vec::new, |array| array.values);
                values.clear();
                values.reserve_exact(rows.rows() * width);
                (0..rows.rows()).for_each(|row| values.extend_from_slice(quantity.at(tape, &site, row)));
                self.arrays.push(TraceArray { name: quantity.name(&site), width, values });
            }
        });
    }

    /// The array of that name, if there is one.
    pub fn array(&self, name: &str) -> Option<&TraceArray<E>> {
        self.arrays.iter().find(|array| array.name == name)
    }
}

/// What is selected of a stack, in the order of its arrays.
fn wanted_of<'a>(stack: &'a Recurrent, selection: &'a Selection) -> impl Iterator<Item = (Site, Quantity)> + 'a {
    let of_site = |site: Site| Quantity::all(stack.config().cell).map(move |quantity| (site.clone(), quantity));
    Site::all(stack).flat_map(of_site).filter(|(site, quantity)| selection.takes(&quantity.name(site)))
}

/// The same of every stack in a body.
fn wanted<E: Element, B: Module<E>>(body: &B, selection: &Selection) -> Vec<(Site, Quantity)> {
    let mut wanted = Vec::new();
    stacks(body, &B::Tape::default(), &mut |stack, _| wanted.extend(wanted_of(stack, selection)));
    wanted
}

/// The names that an array of `body` may have.
pub(crate) fn names<E: Element, B: Module<E>>(body: &B) -> Vec<String> {
    wanted(body, &Selection::default()).iter().map(|(site, quantity)| quantity.name(site)).collect()
}

/// What a trace of a stack takes: its tape with what is selected, and the arrays that are read from it, three times, since
/// safetensors are put together in memory.
pub(crate) fn bytes_of(stack: &Recurrent, rows: &Ragged, selection: &Selection) -> usize {
    let config = stack.config();
    let (slots, wanted) = (config.cell.slots(), wanted_of(stack, selection).collect::<Vec<_>>());
    let any = |of: fn(Quantity) -> bool| usize::from(wanted.iter().any(|(_, quantity)| of(*quantity)));
    // Slots, h and c of the tape; slots, dh, dc and the gradient of the output.
    let of_direction = slots
        + 2
        + slots * any(|quantity| matches!(quantity, Quantity::PreActivation(_)))
        + (slots + 3) * any(Quantity::is_gradient);
    let widths = config.layers * config.directions() * of_direction + 3 * wanted.len();
    widths * config.hidden * rows.rows() * size_of::<f32>()
}
