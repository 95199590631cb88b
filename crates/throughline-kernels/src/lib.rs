//! Kernels of Throughline: cells, the sequence driver, packed products, fused operators, optimisers.
//!
//! # The arithmetic contract
//! Every element of every product is one chain: `acc = init`, then `acc = fma(a[m, k], w[k, n], acc)` for k ascending;
//! init is the bias, inputs come first, then hidden units. Threads, tiles and blocks never split or reorder a chain,
//! and elementwise maths is one fixed sequence of IEEE operations. Outputs, states, dx and dh0 of a row are therefore
//! the same bits alone or in any batch, in one run or cut into steps and chunks, with any number of threads and on any
//! instruction set; parameter gradients are the same for any number of threads and instruction set.
//!
//! # Gradients
//! Parameter gradients accumulate (`+=`); activation gradients overwrite (`=`).
#![cfg_attr(not(feature = "std"), no_std)]
// Hot loops are plain loops over constants: iterators bring closures, which are separate functions and are not compiled
// for the lane's instruction set.
#![allow(clippy::needless_range_loop)]

extern crate alloc;

pub mod buffer;
pub mod cells;
mod disjoint;
mod element;
pub mod gemm;
mod list;
pub mod ops;
pub mod optim;
pub mod random;
pub mod sequence;
pub mod threads;

pub use element::{Compiled, Element};
#[cfg(feature = "std")]
pub use throughline_simd::peak;
pub use throughline_simd::{Isa, IsaName, NoSuchIsa};
