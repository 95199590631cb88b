//! What the tests share: problems, their solution by the engine and by the oracle, and the invariants.
#![allow(dead_code, unused_imports, reason = "no test file uses all of it")]

pub mod engine;
pub mod invariants;
pub mod oracle;
pub mod problem;

pub use engine::{Outcome, SequenceSolution, Solution, yield_weight};
pub use oracle::loss;
pub use problem::{Numbers, Parameters, Problem, Sequence, Setup};
