//! A causal Transformer (Vaswani et al. 2017) whose blocks normalise before they compute (Xiong et al. 2020):
//!
//! ```text
//! x += Attention(LayerNorm(x))
//! x += Linear(gelu(Linear(LayerNorm(x))))
//! ```
//!
//! on sinusoidal [`Positions`], with a last layer normalisation. `gelu` is its form by tanh (PyTorch's `approximate="tanh"`). It is composed of modules like everything else, reads ragged
//! batches under the same contract as recurrent layers, and a step at a time with a cache of keys and values.
//!
//! # Parameters
//! Those of a Transformer named `t` with F features and U units between the two linear maps of a block, for every block i:
//!
//! | name | shape |
//! |---|---|
//! | `t.layers.i.norm1.weight`, `t.layers.i.norm1.bias` | `[F]` |
//! | `t.layers.i.self_attn.in_proj.weight`, `....bias` | `[3F, F]`, `[3F]`: queries, keys, values |
//! | `t.layers.i.self_attn.out_proj.weight`, `....bias` | `[F, F]`, `[F]` |
//! | `t.layers.i.norm2.weight`, `t.layers.i.norm2.bias` | `[F]` |
//! | `t.layers.i.linear1.weight`, `t.layers.i.linear1.bias` | `[U, F]`, `[U]` |
//! | `t.layers.i.linear2.weight`, `t.layers.i.linear2.bias` | `[F, U]`, `[F]` |
//! | `t.norm.weight`, `t.norm.bias` | `[F]` |
//!
//! They are the names of PyTorch's `TransformerEncoder`, but for the input projection (`in_proj_weight` and `in_proj_bias`
//! there). Linear weights begin uniform in ±1/sqrt(their input), biases at 0.
//!
//! # Time
//! A boundary ([`Ragged::set_resets`](throughline_kernels::sequence::Ragged::set_resets)) ends what is seen: no step attends to
//! one before it, and positions count from 0 again. A pass may start from a state and goes on from its cache; gradients flow
//! into the cache, as they flow into the state of a recurrent layer.

mod attention;
mod past;
mod positions;

use alloc::format;

use crate::chain::Chain;
use crate::layers::{Gelu, LayerNorm, Linear};
use crate::module::Layer;
use crate::parameters::Builder;
use crate::repeated::Repeated;
use crate::residual::Residual;

pub use attention::{CausalAttention, CausalAttentionTape};
pub use positions::{PackedPositions, Positions, PositionsTape};

/// `LayerNorm`, `Linear` to queries, keys and values, [`CausalAttention`], `Linear`.
pub type AttentionPart = Chain<Chain<Chain<LayerNorm, Linear>, CausalAttention>, Linear>;
/// `LayerNorm`, `Linear`, `Gelu`, `Linear`.
pub type FeedForwardPart = Chain<Chain<Chain<LayerNorm, Linear>, Gelu>, Linear>;
/// A block: attention and feed-forward, each beside its input. Make one with [`TransformerBlock::of`](Chain::of).
pub type TransformerBlock = Chain<Residual<AttentionPart>, Residual<FeedForwardPart>>;
/// [`Positions`], blocks, `LayerNorm`; it reads features `[N, F]`, such as an embedding's. Make one with
/// [`Transformer::of`](Chain::of).
pub type Transformer = Chain<Chain<Positions, Repeated<TransformerBlock>>, LayerNorm>;

/// The shape of a [`Transformer`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TransformerConfig {
    /// The number of blocks.
    pub layers: usize,
    /// The number of heads of each block.
    pub heads: usize,
    /// F, a multiple of the number of heads.
    pub width: usize,
    /// U, the units between the two linear maps of a block.
    pub feed_forward: usize,
    /// The most steps that a sequence or stream may have since its beginning or a boundary.
    pub most_steps: usize,
    /// The rate of dropout of what each part of a block adds, in training.
    pub dropout: f32,
}

impl TransformerConfig {
    /// `layers` blocks of `heads` heads and `width` features, with four times as many units between the linear maps, for up to
    /// 1,024 steps, without dropout.
    pub fn new(layers: usize, heads: usize, width: usize) -> Self {
        Self { layers, heads, width, feed_forward: 4 * width, most_steps: 1024, dropout: 0.0 }
    }
}

impl TransformerBlock {
    /// A block whose parameters are named `{name}.norm1.weight` and so on.
    ///
    /// # Panics
    /// If a size is 0, the width is not a multiple of the number of heads, or the rate of dropout is not in [0, 1).
    pub fn of(builder: &mut Builder, name: &str, config: &TransformerConfig) -> Self {
        let TransformerConfig { heads, width, feed_forward, most_steps, dropout, .. } = *config;
        let part = |part: &str| format!("{name}.{part}");
        let norm = LayerNorm::new(builder, &part("norm1"), width);
        let input = Linear::new(builder, &part("self_attn.in_proj"), width, 3 * width);
        let attention = CausalAttention::new(&part("self_attn"), heads, width, most_steps);
        let output = Linear::new(builder, &part("self_attn.out_proj"), width, width).with_dropout(builder, dropout);
        let attention = norm.then(input).then(attention).then(output);
        let norm = LayerNorm::new(builder, &part("norm2"), width);
        let up = Linear::new(builder, &part("linear1"), width, feed_forward);
        let down = Linear::new(builder, &part("linear2"), feed_forward, width).with_dropout(builder, dropout);
        let feed_forward = norm.then(up).then(Gelu::new(feed_forward)).then(down);
        Residual::new(attention).then(Residual::new(feed_forward))
    }
}

impl Transformer {
    /// A Transformer whose parameters and state begin with `{name}.`.
    ///
    /// # Panics
    /// If a size is 0, the width is not a multiple of the number of heads, or the rate of dropout is not in [0, 1).
    pub fn of(builder: &mut Builder, name: &str, config: &TransformerConfig) -> Self {
        let positions = Positions::new(&format!("{name}.positions"), config.width, config.most_steps);
        let block = |i| TransformerBlock::of(builder, &format!("{name}.layers.{i}"), config);
        let blocks = Repeated::new((0..config.layers).map(block).collect());
        let norm = LayerNorm::new(builder, &format!("{name}.norm"), config.width);
        positions.then(blocks).then(norm)
    }
}
