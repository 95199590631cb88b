//! Kernels of Throughline.
pub mod random;
