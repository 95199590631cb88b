//! The reference vectors that PyTorch computed: `reference/vectors`, described in `reference/README.md`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::oracle::{OracleCell, OracleConfig};

/// Parameters or their gradients, by PyTorch's name.
pub type Tensors = BTreeMap<String, Tensor>;

/// A row-major array.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tensor {
    /// The size of each dimension.
    pub shape: Vec<usize>,
    /// The product of `shape` numbers.
    pub data: Vec<f32>,
}

impl Tensor {
    /// The numbers, widened.
    pub fn to_f64(&self) -> Vec<f64> {
        self.data.iter().map(|&x| x.into()).collect()
    }
}

/// One forward and backward pass through a recurrent stack. `T` is the longest length.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CellCase {
    /// What the case is about.
    pub name: String,
    /// `I`.
    pub input: usize,
    /// `H`.
    pub hidden: usize,
    /// `L`.
    pub layers: usize,
    /// Two directions, or the forward one alone.
    pub bidirectional: bool,
    /// Whether there are biases.
    pub bias: bool,
    /// `[B]`, each at least 1.
    pub lengths: Vec<usize>,
    /// By name.
    pub parameters: Tensors,
    /// `[T, B, I]`, zero beyond each length.
    pub x: Tensor,
    /// `[L*D, B, H]`, if a state is given.
    pub h0: Option<Tensor>,
    /// `[L*D, B, H]`, if a state is given and the cell has a cell state.
    pub c0: Option<Tensor>,
    /// `[T, B, D*H]`, zero beyond each length.
    pub outputs: Tensor,
    /// `[L*D, B, H]`.
    pub h_n: Tensor,
    /// `[L*D, B, H]`, if the cell has a cell state.
    pub c_n: Option<Tensor>,
    /// The weight of each returned number in the loss.
    pub loss_weights: LossWeights,
    /// The weighted sum of outputs, h_n and c_n.
    pub loss: f32,
    /// Derivatives of the loss.
    pub gradients: Gradients,
}

/// The weights of the loss, in the shapes of what they weigh; not zero on padding, where they must not matter.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossWeights {
    /// `[T, B, D*H]`.
    pub outputs: Tensor,
    /// `[L*D, B, H]`.
    pub h_n: Tensor,
    /// `[L*D, B, H]`, if the cell has a cell state.
    pub c_n: Option<Tensor>,
}

/// The derivatives of the loss, in the shapes of what they belong to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gradients {
    /// By name.
    pub parameters: Tensors,
    /// `[T, B, I]`, zero beyond each length.
    pub x: Tensor,
    /// `[L*D, B, H]`, if a state is given.
    pub h0: Option<Tensor>,
    /// `[L*D, B, H]`, if a state is given and the cell has a cell state.
    pub c0: Option<Tensor>,
}

impl CellCase {
    /// The sizes, for the oracle.
    pub fn config(&self, cell: OracleCell) -> OracleConfig {
        let CellCase { input, hidden, layers, bidirectional, bias, .. } = *self;
        OracleConfig { cell, input, hidden, layers, bidirectional, bias, normalised: false }
    }

    /// `T`.
    pub fn time(&self) -> usize {
        self.x.shape[0]
    }

    /// `B`.
    pub fn batch(&self) -> usize {
        self.lengths.len()
    }
}

/// Updates of embedding -> LSTM stack -> linear by truncated back-propagation through time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanguageModelRun {
    /// Cell and optimiser.
    pub name: String,
    /// A name of [`OracleCell`].
    pub cell: String,
    /// `V`.
    pub vocabulary: usize,
    /// Size of an embedding.
    pub embedding: usize,
    /// `H`.
    pub hidden: usize,
    /// `L`.
    pub layers: usize,
    /// Steps of time in an update.
    pub stride: usize,
    /// The global norm to clip to.
    pub clip_norm: f64,
    /// What makes the update.
    pub optimiser: Optimiser,
    /// Initial values of `embedding.weight`, `rnn.*`, `head.weight` and `head.bias`.
    pub parameters: Tensors,
    /// `[B][updates * stride + 1]`: the targets are the inputs one step later.
    pub tokens: Vec<Vec<usize>>,
    /// Mean cross-entropy before each update, in nats a token.
    pub losses: Vec<f32>,
    /// Global gradient norm of each update before clipping.
    pub gradient_norms: Vec<f32>,
}

/// Updates of embedding -> bidirectional stack -> last states of the top layer -> linear.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierRun {
    /// Cell and optimiser.
    pub name: String,
    /// A name of [`OracleCell`].
    pub cell: String,
    /// `V`.
    pub vocabulary: usize,
    /// Size of an embedding.
    pub embedding: usize,
    /// `H`.
    pub hidden: usize,
    /// `L`.
    pub layers: usize,
    /// Number of classes.
    pub classes: usize,
    /// What makes the update.
    pub optimiser: Optimiser,
    /// Initial values of `embedding.weight`, `rnn.*`, `head.weight` and `head.bias`.
    pub parameters: Tensors,
    /// One for each update.
    pub batches: Vec<LabelledBatch>,
    /// Mean cross-entropy before each update, in nats a sequence.
    pub losses: Vec<f32>,
    /// Global gradient norm of each update; nothing is clipped.
    pub gradient_norms: Vec<f32>,
}

/// Sequences with a class each.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelledBatch {
    /// Tokens, `[B][length]`.
    pub sequences: Vec<Vec<usize>>,
    /// `[B]`.
    pub labels: Vec<usize>,
}

/// An optimiser of `torch.optim` with its settings under PyTorch's names. What is not listed is off.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Optimiser {
    /// Stochastic gradient descent: `v = momentum * v + g`, `w -= lr * v`.
    Sgd {
        /// Learning rate.
        lr: f64,
        /// Decay of the velocity, which starts as the first gradient.
        momentum: f64,
    },
    /// Kingma and Ba (2015).
    Adam {
        /// Learning rate.
        lr: f64,
        /// Decay of the first and second moment.
        betas: (f64, f64),
        /// Added to the root of the second moment.
        eps: f64,
    },
    /// Loshchilov and Hutter (2019): `w *= 1 - lr * weight_decay`, then Adam.
    AdamW {
        /// Learning rate.
        lr: f64,
        /// Decay of the first and second moment.
        betas: (f64, f64),
        /// Added to the root of the second moment.
        eps: f64,
        /// Applied to every parameter.
        weight_decay: f64,
    },
    /// Tieleman and Hinton (2012), not centred, no momentum.
    RmsProp {
        /// Learning rate.
        lr: f64,
        /// Decay of the mean square.
        alpha: f64,
        /// Added to the root of the mean square.
        eps: f64,
    },
}

/// The passes through one cell: `reference/vectors/{cell}.json`.
pub fn cell_cases(cell: OracleCell) -> Vec<CellCase> {
    load::<Cases<_>>(cell.name()).cases
}

/// `reference/vectors/train_lm.json`: one run with Adam, one with SGD.
pub fn train_lm() -> Vec<LanguageModelRun> {
    load::<Runs<_>>("train_lm").runs
}

/// `reference/vectors/train_classifier.json`: a GRU with AdamW, an LSTM with RMSProp.
pub fn train_classifier() -> Vec<ClassifierRun> {
    load::<Runs<_>>("train_classifier").runs
}

/// The loss of a conditional random field over some sequences of tags.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldCase {
    /// Of each sequence `[T, I]`.
    pub x: Vec<Tensor>,
    /// Of each sequence its tags.
    pub targets: Vec<Vec<u32>>,
    /// `weight` `[K, I]`, `bias`, `start` and `end` `[K]`, `transitions` `[from, to]`.
    pub parameters: Tensors,
    /// Summed over the sequences.
    pub loss: f32,
    /// Its derivatives.
    pub gradients: Tensors,
    /// Those by `x`.
    pub x_gradients: Vec<Tensor>,
}

/// `reference/vectors/crf.json`.
pub fn field_cases() -> Vec<FieldCase> {
    load::<Cases<_>>("crf").cases
}

#[derive(Deserialize)]
struct Cases<C> {
    cases: Vec<C>,
}

#[derive(Deserialize)]
struct Runs<R> {
    runs: Vec<R>,
}

fn load<F: DeserializeOwned>(name: &str) -> F {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../reference/vectors").join(name).with_extension("json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
