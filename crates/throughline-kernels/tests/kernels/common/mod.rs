//! What the tests share: problems, what the engine and the oracle make of them, and the invariants between.
#![allow(dead_code, unused_imports, reason = "every test file uses its own part")]

pub mod engine;
pub mod invariants;
pub mod oracle;
pub mod problem;

pub use engine::{Outcome, SequenceSolution, Solution, yield_weight};
pub use oracle::loss;
pub use problem::{Numbers, Parameters, Problem, Sequence, Setup};
