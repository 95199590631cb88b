//! Matrix products, all of one form: `out += a · b`, every output one chain of fused multiply-adds over ascending k.
//!
//! An accumulator starts from what stands in `out` (a bias, zero, or the prefix of a longer chain), so a chain may be
//! cut anywhere and go on in a later call without changing a bit. Tiles and threads split outputs, never k; blocks over
//! k store the accumulator and load it again.
//!
//! - [`panels`]: the packed right-hand side, made once per optimiser step;
//! - [`accumulate()`]: rows times panels (input products, step products, their transposes);
//! - [`outer`]: sums of outer products over rows (gradients of weights and biases);
//! - `tile`: the one micro-kernel under both.

pub(crate) mod accumulate;
pub mod outer;
pub mod panels;
mod tile;

pub use accumulate::{RowGroup, accumulate};
pub use outer::{OuterProducts, add_outer_products};
pub use panels::Panels;
