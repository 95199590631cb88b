//! Recurrent models of Throughline.
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod parameters;
pub mod recurrent;
