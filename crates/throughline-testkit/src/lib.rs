//! What the tests of Throughline compare with: oracles simple enough to be obviously right, exact and numerical
//! gradients, reference vectors computed by PyTorch, comparisons that name the worst element, and folders to run
//! programs in.
//!
//! Nothing here shares code with what it tests, and everything panics on failure: it is a dev-dependency only.
#![forbid(unsafe_code)]

pub mod dual;
pub mod gradient;
pub mod oracle;
pub mod program;
pub mod ulp;
pub mod vectors;

pub use dual::{Dual, exact_gradient};
pub use gradient::{assert_close, assert_same_bits, central_difference};
pub use oracle::{BatchInput, BatchRun, Network, Number, OracleCell, OracleConfig, SequenceRun, State, Weights};
