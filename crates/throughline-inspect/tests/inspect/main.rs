//! Inspection against numerical derivatives and networks whose inside is known.

mod attribution;
mod common;
mod diagnosis;
mod gates;
mod gradient_flow;
mod horizon;
mod report;
mod trace;
