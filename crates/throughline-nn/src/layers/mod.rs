//! The modules that networks are composed of.

pub mod attention;
pub mod embedding;
pub mod gelu;
pub mod layer_norm;
pub mod linear;
pub mod pool;
pub mod recurrent;
pub mod transformer;
pub mod words;

pub use embedding::Embedding;
pub use gelu::Gelu;
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use pool::{Pool, Pooling};
pub use recurrent::{Recurrent, RecurrentConfig};
pub use transformer::{CausalAttention, Positions, Transformer, TransformerBlock, TransformerConfig};
pub use words::{WordRows, Words};
