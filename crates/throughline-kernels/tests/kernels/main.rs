//! The kernels against oracles, the arithmetic contract and the allocator. One binary: the generic driver is compiled
//! once.

mod allocation;
mod common;
mod contract;
mod gemm;
mod oracle;
mod regularisation;
mod row_gradients;
mod shapes;
mod step_input;
mod tape;
mod update_gate;
