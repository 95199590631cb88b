//! Truncated BPTT, update by update, against an account of it that is too plain to be wrong: exact derivatives of an oracle
//! in f64, plain stochastic gradient descent, and the states of every position kept from the window that last read it.

use std::fs::read_to_string;

use crate::common::{TestFolder, language_model, lm, text};
use throughline_data::{Split, Vocabulary};
use throughline_infer::tasks::LanguageModel;
use throughline_infer::tasks::lm::Config;
use throughline_infer::{Regularisation, Serve};
use throughline_kernels::cells::CellKind;
use throughline_nn::parameters::{Layout, Tensor};
use throughline_testkit::{Number, OracleCell, OracleConfig, State, assert_close, exact_gradient};
use throughline_train::recipe::{Checkpointing, InitialState, OptimiserKind};
use throughline_train::{Error, Recipe, read_rows};

/// f32 against f64 over a dozen updates.
const TOLERANCE: f64 = 2e-6;

const STREAMS: usize = 3;
const LEARNING_RATE: f64 = 0.5;

/// The states of every layer, stream by stream.
type States = Vec<Vec<State<f64>>>;

/// The model of a run in the numbers of the oracle. Its leaves are all parameters, one tensor after another.
struct Model {
    config: Config,
    cell: OracleCell,
    layout: Layout,
}

impl Model {
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
        let stack = self.config.recurrent;
        let config = OracleConfig {
            cell: self.cell,
            input: stack.input,
            hidden: stack.hidden,
            layers: stack.layers,
            bidirectional: false,
            bias: true,
            normalised: false,
        };
        let flat: Vec<N> = config
            .parameters()
            .iter()
            .flat_map(|(name, _)| self.tensor(leaves, &format!("rnn.{name}")).to_vec())
            .collect();
        let mut network = throughline_testkit::Network::from_flat(config, &flat);
        if stack.initial_state == InitialState::Learned {
            for (layer, state) in network.restart.iter_mut().enumerate() {
                state.h = self.tensor(leaves, &format!("rnn.initial_h_l{layer}")).to_vec();
                if self.cell.has_cell_state() {
                    state.c = self.tensor(leaves, &format!("rnn.initial_c_l{layer}")).to_vec();
                }
            }
        }
        network
    }

    /// The states after reading `tokens`, from the states `given` or the initial ones.
    fn read(&self, leaves: &[f64], tokens: &[u32], given: Option<&[State<f64>]>) -> Vec<State<f64>> {
        let xs = self.embed(leaves, tokens);
        self.stack(leaves).run_sequence(&xs, &vec![false; tokens.len()], given).last
    }

    fn embed<N: Number>(&self, leaves: &[N], tokens: &[u32]) -> Vec<Vec<N>> {
        let width = self.config.recurrent.input;
        let table = self.tensor(leaves, "embedding.weight");
        tokens.iter().map(|&token| table[token as usize * width..][..width].to_vec()).collect()
    }

    /// The mean loss of the steps from `first_scored` on of windows that each hold one token more than they have steps.
    fn loss<N: Number>(&self, leaves: &[N], windows: &[&[u32]], first_scored: usize, given: Option<&States>) -> N {
        let stack = self.stack(leaves);
        let (mut sum, mut count) = (N::from(0.0), 0);
        for (stream, window) in windows.iter().enumerate() {
            let constant = |numbers: &[f64]| numbers.iter().map(|&x| N::from(x)).collect();
            let given: Option<Vec<State<N>>> = given.map(|given| {
                given[stream].iter().map(|state| State { h: constant(&state.h), c: constant(&state.c) }).collect()
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

    fn cross_entropy<N: Number>(&self, leaves: &[N], output: &[N], target: usize) -> N {
        let (weight, bias) = (self.tensor(leaves, "head.weight"), self.tensor(leaves, "head.bias"));
        let logit = |class: usize| {
            let row = &weight[class * output.len()..][..output.len()];
            row.iter().zip(output).fold(bias[class], |sum, (&w, &y)| sum + w * y)
        };
        (0..bias.len()).fold(N::from(0.0), |sum, class| sum + logit(class).exp()).ln() - logit(target)
    }
}

/// What the run ends with, said once more: the losses of all updates and the leaves after the last.
fn plain_training(
    model: &Model,
    mut leaves: Vec<f64>,
    tokens: &[u32],
    stride: usize,
    window: usize,
    updates: usize,
) -> (Vec<f64>, Vec<f64>) {
    let length = (tokens.len() - 1) / STREAMS;
    let streams: Vec<&[u32]> = (0..STREAMS).map(|stream| &tokens[stream * length..=(stream + 1) * length]).collect();
    let mut states_at: Vec<States> = vec![Vec::new(); length + 1];
    let mut losses = Vec::new();
    let mut scored = 0..0;
    for _ in 0..updates {
        let from = if scored.end == length { 0 } else { scored.end };
        scored = from..length.min(from + stride);
        let start = scored.start.min(scored.end.saturating_sub(window));
        let given = (start > 0).then(|| states_at[start].clone());
        let windows: Vec<&[u32]> = streams.iter().map(|stream| &stream[start..=scored.end]).collect();
        losses.push(model.loss(&leaves, &windows, scored.start - start, given.as_ref()));
        let gradient =
            exact_gradient(|leaves| model.loss(leaves, &windows, scored.start - start, given.as_ref()), &leaves);
        for at in start..=scored.end {
            let read = |stream: usize| {
                let given = given.as_ref().map(|given| &given[stream][..]);
                model.read(&leaves, &streams[stream][start..at], given)
            };
            states_at[at] = (0..STREAMS).map(read).collect();
        }
        for (leaf, slope) in leaves.iter_mut().zip(gradient) {
            *leaf -= LEARNING_RATE * slope;
        }
    }
    (losses, leaves)
}

/// What the trainer makes of it, beside what it should: losses and leaves.
struct Comparison {
    got: (Vec<f64>, Vec<f64>),
    want: (Vec<f64>, Vec<f64>),
}

fn compare(change: impl Fn(&mut Recipe), cell: OracleCell, updates: usize) -> Comparison {
    let folder = TestFolder::new();
    // Streams of 20 steps.
    let training = text(5, STREAMS * 20 + 2);
    let paths = (folder.file("text.txt", &training), folder.file("validation.txt", &text(6, 40)));
    let mut recipe = language_model(&paths.0);
    let options = lm(&mut recipe);
    options.files.validation = vec![paths.1];
    options.files.split = [1.0, 0.0, 0.0];
    (options.embedded.embedding, options.model.hidden) = (3, 4);
    (recipe.train.batch, recipe.train.clip_norm, recipe.train.steps) = (STREAMS, 0.0, updates as u64);
    (recipe.optimiser.kind, recipe.optimiser.learning_rate) = (OptimiserKind::Sgd, LEARNING_RATE);
    recipe.optimiser.weight_decay = 0.0;
    change(&mut recipe);

    let run = folder.run("run");
    let stopped = run.train_until(0, &recipe);
    assert!(matches!(stopped, Err(Error::Interrupted { step: 0, .. })), "{stopped:?}");
    let files = run.opened();
    let file: serde_json::Value = serde_json::from_str(&read_to_string(files.config_json()).unwrap()).unwrap();
    let config: Config = serde_json::from_value(file["model"].clone()).unwrap();
    let layout = LanguageModel::network(&config, Regularisation::default()).layout().clone();
    let leaves = || -> Vec<f64> {
        let parameters = run.parameters();
        let of_tensor = |tensor: &Tensor| parameters[tensor.range()].to_vec();
        layout.tensors().iter().flat_map(of_tensor).map(f64::from).collect()
    };
    let initial = leaves();
    run.resume(&recipe).unwrap();
    let rows = read_rows(&files.metrics()).unwrap().into_iter().filter(|row| row.split == Split::Train);
    let got = (rows.map(|row| row.loss).collect(), leaves());

    let vocabulary = files.path().join("vocabulary.json");
    let tokens = Vocabulary::from_json(&read_to_string(&vocabulary).unwrap(), &vocabulary).unwrap().encode(&training);
    let model = Model { config, cell, layout };
    let (stride, window) = (lm(&mut recipe).windows.stride, lm(&mut recipe).windows.gradient_window());
    Comparison { got, want: plain_training(&model, initial, &tokens, stride, window, updates) }
}

#[track_caller]
fn check(stride: usize, window: usize, cell: (CellKind, OracleCell), initial_state: InitialState) -> Vec<f64> {
    check_with(Checkpointing::Off, stride, window, cell, initial_state)
}

#[track_caller]
fn check_with(
    checkpointing: Checkpointing,
    stride: usize,
    window: usize,
    cell: (CellKind, OracleCell),
    initial_state: InitialState,
) -> Vec<f64> {
    // An epoch of streams of 20 steps, and three updates of the next.
    let updates = 20_usize.div_ceil(stride) + 3;
    let change = |recipe: &mut Recipe| {
        let options = lm(recipe);
        (options.windows.stride, options.windows.window) = (stride, window);
        (options.model.cell, options.model.initial_state) = (cell.0, initial_state);
        recipe.train.checkpoint_every = checkpointing;
    };
    let Comparison { got, want } = compare(change, cell.1, updates);
    let name = |what: &str| {
        format!(
            "{what} with stride {stride}, window {window}, {initial_state:?} states, checkpointing {checkpointing:?}"
        )
    };
    assert_close(&name("losses"), &got.0, &want.0, TOLERANCE);
    assert_close(&name("parameters"), &got.1, &want.1, TOLERANCE);
    want.1
}

const LSTM: (CellKind, OracleCell) = (CellKind::Lstm, OracleCell::Lstm);
const GRU: (CellKind, OracleCell) = (CellKind::GruBefore, OracleCell::GruBefore);

#[test]
fn windows_that_overlap() {
    for cell in [LSTM, GRU] {
        // 7 updates an epoch, the last of 2 steps; and a window that is no multiple of the stride.
        check(3, 7, cell, InitialState::Zero);
        check(4, 10, cell, InitialState::Learned);
        check(1, 3, cell, InitialState::Learned);
    }
}

/// The next window starts in the middle of a segment, at the start of one, or of the window.
#[test]
fn windows_that_overlap_in_segments() {
    for cell in [LSTM, GRU] {
        check_with(Checkpointing::every(3), 4, 10, cell, InitialState::Learned);
        check_with(Checkpointing::every(2), 4, 10, cell, InitialState::Zero);
        check_with(Checkpointing::Auto, 3, 7, cell, InitialState::Learned);
        check_with(Checkpointing::every(6), 4, 0, cell, InitialState::Zero);
        check_with(Checkpointing::every(3), 4, 0, cell, InitialState::Learned);
    }
}

/// A window that is not given is the stride: each begins where the last one ended.
#[test]
fn windows_side_by_side() {
    for cell in [LSTM, GRU] {
        let given = check(4, 4, cell, InitialState::Learned);
        assert_eq!(check(4, 0, cell, InitialState::Learned), given);
        check(6, 0, cell, InitialState::Zero);
    }
}

/// A window as long as the streams is full BPTT: every window begins in the initial state.
#[test]
fn a_window_of_the_whole_epoch() {
    for cell in [LSTM, GRU] {
        check(5, 20, cell, InitialState::Learned);
        check(20, 20, cell, InitialState::Zero);
    }
}

/// If the windows made no difference, the tests above would not see them.
#[test]
fn the_window_matters() {
    let [narrow, wide, whole] = [4, 8, 20].map(|window| check(4, window, LSTM, InitialState::Learned));
    let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).fold(0.0, |most: f64, (a, b)| most.max((a - b).abs()));
    for (a, b) in [(&narrow, &wide), (&wide, &whole), (&narrow, &whole)] {
        assert!(distance(a, b) > 100.0 * TOLERANCE, "{}", distance(a, b));
    }
}
