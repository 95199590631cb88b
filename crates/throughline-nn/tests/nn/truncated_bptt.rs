//! Truncated BPTT of a tied language model, update by update, against an account of it that is too plain to be wrong:
//! exact derivatives of an oracle in f64, plain stochastic gradient descent, and the states of every position kept from
//! the window that last read it.

use crate::common::{Batch, Dropouts, Model, Numbers, StreamReader, language_model, oracle_cell};
use throughline_kernels::Element;
use throughline_kernels::cells::CellKind;
use throughline_kernels::sequence::Ragged;
use throughline_nn::checkpointing::Checkpointing;
use throughline_nn::layers::RecurrentConfig;
use throughline_nn::layers::recurrent::InitialState;
use throughline_nn::module::TapeSetting;
use throughline_nn::parameters::Layout;
use throughline_nn::{Pass, State};
use throughline_testkit::{Number, OracleConfig, State as OracleState, assert_close, exact_gradient};

/// Losses and parameters over an epoch of updates and three of the next.
const F32_TOLERANCE: f64 = 2e-6;
const F64_TOLERANCE: f64 = 1e-12;

const STREAMS: usize = 3;
const STEPS: usize = 20;
const VOCABULARY: usize = 5;
const HIDDEN: usize = 4;
const LEARNING_RATE: f64 = 0.5;

/// The states of every layer, stream by stream.
type States = Vec<Vec<OracleState<f64>>>;

/// The model in the numbers of the oracle. Its leaves are all parameters, one tensor after another.
struct Plain {
    config: RecurrentConfig,
    layout: Layout,
}

impl Plain {
    /// The leaves of one tensor.
    fn tensor<'a, N>(&self, leaves: &'a [N], name: &str) -> &'a [N] {
        let mut start = 0;
        for tensor in self.layout.tensors() {
            if tensor.name() == name {
                return &leaves[start..start + tensor.count()];
            }
            start += tensor.count();
        }
        panic!("no tensor {name}");
    }

    fn stack<N: Number>(&self, leaves: &[N]) -> throughline_testkit::Network<N> {
        let RecurrentConfig { cell, input, hidden, layers, .. } = self.config;
        let cell = oracle_cell(cell);
        let config = OracleConfig { cell, input, hidden, layers, bidirectional: false, bias: true, normalised: false };
        let tensor = |(name, _): &(String, Vec<usize>)| self.tensor(leaves, &format!("rnn.{name}")).to_vec();
        let flat: Vec<N> = config.parameters().iter().flat_map(tensor).collect();
        let mut network = throughline_testkit::Network::from_flat(config, &flat);
        if self.config.initial_state == InitialState::Learned {
            for (layer, state) in network.restart.iter_mut().enumerate() {
                state.h = self.tensor(leaves, &format!("rnn.initial_h_l{layer}")).to_vec();
                if cell.has_cell_state() {
                    state.c = self.tensor(leaves, &format!("rnn.initial_c_l{layer}")).to_vec();
                }
            }
        }
        network
    }

    /// The states after reading `tokens`, from the states `given` or the initial ones.
    fn read(&self, leaves: &[f64], tokens: &[u32], given: Option<&[OracleState<f64>]>) -> Vec<OracleState<f64>> {
        self.stack(leaves).run_sequence(&self.embed(leaves, tokens), &vec![false; tokens.len()], given).last
    }

    fn embed<N: Number>(&self, leaves: &[N], tokens: &[u32]) -> Vec<Vec<N>> {
        let table = self.tensor(leaves, "embedding.weight");
        tokens.iter().map(|&token| table[token as usize * HIDDEN..][..HIDDEN].to_vec()).collect()
    }

    /// The mean loss of the steps from `first_scored` on of windows that each hold one token more than they have steps.
    fn loss<N: Number>(&self, leaves: &[N], windows: &[&[u32]], first_scored: usize, given: Option<&States>) -> N {
        let stack = self.stack(leaves);
        let (mut sum, mut count) = (N::from(0.0), 0);
        for (stream, window) in windows.iter().enumerate() {
            let constant = |numbers: &[f64]| numbers.iter().map(|&x| N::from(x)).collect();
            let given: Option<Vec<OracleState<N>>> = given.map(|given| {
                let states = given[stream].iter();
                states.map(|state| OracleState { h: constant(&state.h), c: constant(&state.c) }).collect()
            });
            let steps = window.len() - 1;
            let xs = self.embed(leaves, &window[..steps]);
            let outputs = stack.run_sequence(&xs, &vec![false; steps], given.as_deref()).outputs;
            for (output, &target) in outputs.iter().zip(&window[1..]).skip(first_scored) {
                sum = sum + self.cross_entropy(leaves, output, target as usize);
                count += 1;
            }
        }
        sum / N::from(f64::from(count))
    }

    /// The table of the embedding is the weight of the head.
    fn cross_entropy<N: Number>(&self, leaves: &[N], output: &[N], target: usize) -> N {
        let (weight, bias) = (self.tensor(leaves, "embedding.weight"), self.tensor(leaves, "head.bias"));
        let logit = |class: usize| {
            let row = &weight[class * HIDDEN..][..HIDDEN];
            row.iter().zip(output).fold(bias[class], |sum, (&w, &y)| sum + w * y)
        };
        (0..bias.len()).fold(N::from(0.0), |sum, class| sum + logit(class).exp()).ln() - logit(target)
    }

    /// The losses of all updates and the leaves after the last.
    fn train(&self, mut leaves: Vec<f64>, streams: &[Vec<u32>], windows: &[Window]) -> (Vec<f64>, Vec<f64>) {
        let mut states_at: Vec<States> = vec![Vec::new(); STEPS + 1];
        let mut losses = Vec::new();
        for window in windows {
            let Window { start, first_scored, end } = *window;
            let given = (start > 0).then(|| states_at[start].clone());
            let read: Vec<&[u32]> = streams.iter().map(|stream| &stream[start..=end]).collect();
            losses.push(self.loss(&leaves, &read, first_scored - start, given.as_ref()));
            let gradient =
                exact_gradient(|leaves| self.loss(leaves, &read, first_scored - start, given.as_ref()), &leaves);
            for (at, states) in states_at.iter_mut().enumerate().take(end + 1).skip(start) {
                let read = |stream: usize| {
                    let given = given.as_ref().map(|given| &given[stream][..]);
                    self.read(&leaves, &streams[stream][start..at], given)
                };
                *states = (0..STREAMS).map(read).collect();
            }
            for (leaf, slope) in leaves.iter_mut().zip(gradient) {
                *leaf -= LEARNING_RATE * slope;
            }
        }
        (losses, leaves)
    }
}

/// The steps that one update reads: `start..end`, of which those from `first_scored` on are scored.
#[derive(Clone, Copy)]
struct Window {
    start: usize,
    first_scored: usize,
    end: usize,
}

/// An epoch of windows and three of the next.
fn windows(stride: usize, window: usize) -> Vec<Window> {
    let mut end = 0;
    let updates = STEPS.div_ceil(stride) + 3;
    let next = |_| {
        let first_scored = if end == STEPS { 0 } else { end };
        end = STEPS.min(first_scored + stride);
        Window { start: first_scored.min(end.saturating_sub(window)), first_scored, end }
    };
    (0..updates).map(next).collect()
}

/// The same by the network: the state at the start of each window is that of the window before.
fn train<E: Element>(
    mut model: Model<E, StreamReader>,
    streams: &[Vec<u32>],
    windows: &[Window],
    checkpointing: Checkpointing,
) -> (Vec<f64>, Vec<E>) {
    let tokens = |steps: std::ops::Range<usize>| -> Vec<u32> {
        steps.flat_map(|t| streams.iter().map(move |stream| stream[t])).collect()
    };
    model.network.set(&mut model.workspace, TapeSetting::Checkpointing(checkpointing));
    let mut state: State<E> = model.state(STREAMS);
    let mut losses = Vec::new();
    for (index, &Window { start, first_scored, end }) in windows.iter().enumerate() {
        if start == 0 {
            state.reset();
        }
        let next = windows.get(index + 1).map_or(end, |next| next.start).max(start) - start;
        model.network.set(&mut model.workspace, TapeSetting::KeepStateAfter(next));
        let batch = Batch {
            rows: Ragged::even(end - start, STREAMS),
            tokens: tokens(start..end),
            targets: tokens(start + 1..end + 1),
            scored: Some((first_scored - start) * STREAMS..(end - start) * STREAMS),
            start: Some(state.clone()),
            normaliser: None,
        };
        let mut gradients = model.network.layout().zeros();
        losses.push(batch.learn(&mut model, Pass::Traced, &mut gradients).mean());
        model.network.state_after(&batch.rows, next, &model.workspace, &mut state);
        let rate = E::from_f64(LEARNING_RATE);
        model.set(|_, parameters| parameters.iter_mut().zip(&gradients[..]).for_each(|(p, g)| *p = *p - rate * *g));
    }
    let layout = model.network.layout();
    let leaves = layout.tensors().iter().flat_map(|tensor| model.parameters[tensor.range()].to_vec()).collect();
    (losses, leaves)
}

#[track_caller]
fn check(checkpointing: Checkpointing, stride: usize, window: usize, cell: CellKind, learned: bool) -> Vec<f64> {
    let initial_state = if learned { InitialState::Learned } else { InitialState::Zero };
    let config = RecurrentConfig { layers: 2, initial_state, ..RecurrentConfig::new(cell, HIDDEN, HIDDEN) };
    let network = language_model(config, VOCABULARY, true, Dropouts::default());
    let plain = Plain { config, layout: network.layout().clone() };
    let mut numbers = Numbers::new(6);
    let streams: Vec<Vec<u32>> = (0..STREAMS).map(|_| numbers.tokens(STEPS + 1, VOCABULARY)).collect();
    let windows = windows(stride, window);

    let single = Model::<f32, _>::new(network.clone(), 1, 4, 0.5);
    let mut double = Model::<f64, _>::new(network, 1, 4, 0.5);
    // Numbers that f32 holds.
    double.set(|_, to| to.iter_mut().zip(&single.parameters[..]).for_each(|(to, &from)| *to = f64::from(from)));
    let leaves: Vec<f64> =
        plain.layout.tensors().iter().flat_map(|tensor| double.parameters[tensor.range()].to_vec()).collect();
    let want = plain.train(leaves, &streams, &windows);
    let name = |what: &str| {
        format!("{what} of {cell:?}, stride {stride}, window {window}, {initial_state:?} states, {checkpointing:?}")
    };
    let got = train(double, &streams, &windows, checkpointing);
    assert_close(&name("losses"), &got.0, &want.0, F64_TOLERANCE);
    assert_close(&name("parameters"), &got.1, &want.1, F64_TOLERANCE);
    let got = train(single, &streams, &windows, checkpointing);
    assert_close(&name("losses in f32"), &got.0, &want.0, F32_TOLERANCE);
    assert_close(&name("parameters in f32"), &got.1, &want.1, F32_TOLERANCE);
    want.1
}

const CELLS: [CellKind; 2] = [CellKind::Lstm, CellKind::GruBefore];

#[test]
fn windows_that_overlap() {
    for cell in CELLS {
        // 7 updates an epoch, the last of 2 steps; and a window that is no multiple of the stride.
        check(Checkpointing::Off, 3, 7, cell, false);
        check(Checkpointing::Off, 4, 10, cell, true);
    }
    check(Checkpointing::Off, 1, 3, CellKind::Lstm, true);
}

/// The next window starts in the middle of a segment, at the start of one, or of the window.
#[test]
fn windows_that_overlap_in_segments() {
    let every = Checkpointing::every;
    for cell in CELLS {
        check(every(3), 4, 10, cell, true);
        check(every(2), 4, 10, cell, false);
        check(Checkpointing::Auto, 3, 7, cell, true);
        check(every(3), 4, 4, cell, true);
    }
}

#[test]
fn windows_side_by_side() {
    for cell in CELLS {
        check(Checkpointing::Off, 4, 4, cell, true);
        check(Checkpointing::Off, 6, 6, cell, false);
    }
}

/// A window as long as the streams is full BPTT: every window begins in the initial state.
#[test]
fn a_window_of_the_whole_epoch() {
    for cell in CELLS {
        check(Checkpointing::Off, 5, 20, cell, true);
        check(Checkpointing::Off, 20, 20, cell, false);
    }
}

/// If the windows made no difference, the tests above would not see them.
#[test]
fn the_window_matters() {
    let [narrow, wide, whole] = [4, 8, 20].map(|window| check(Checkpointing::Off, 4, window, CellKind::Lstm, true));
    let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).fold(0.0, |most: f64, (a, b)| most.max((a - b).abs()));
    for (a, b) in [(&narrow, &wide), (&wide, &whole), (&narrow, &whole)] {
        assert!(distance(a, b) > 100.0 * F32_TOLERANCE, "{}", distance(a, b));
    }
}
