//! The numbers that the kernels compute with, and where their large functions are compiled.
//!
//! A generic function is compiled anew in every crate that uses it, and the passes of a layer exist for every cell and
//! instruction set. What is large is therefore a method of the number itself: it is compiled once, here.

use core::ops::Range;

use throughline_simd::Isa;

use crate::buffer::Buffer;
use crate::gemm::accumulate::{RowGroup, accumulate_rows};
use crate::gemm::outer::{OuterProducts, add_up};
use crate::gemm::panels::Panels;
use crate::sequence::backward::{BackwardPass, run_backward};
use crate::sequence::forward::{ForwardPass, Inputs, run_forward};
use crate::sequence::layer::Scratch;

/// f32, or f64 for checking.
pub trait Element: Compiled {}

impl Element for f32 {}
impl Element for f64 {}

/// The large functions of an element. Not to be called or implemented outside this crate.
pub trait Compiled: throughline_simd::Element {
    #[doc(hidden)]
    fn run_forward(inputs: &Inputs<'_, Self>, pass: ForwardPass<'_, Self>, scratch: &mut [Scratch<Self>]);
    #[doc(hidden)]
    fn run_backward(inputs: &Inputs<'_, Self>, pass: BackwardPass<'_, Self>, scratch: &mut [Scratch<Self>]);
    /// # Safety
    /// As for [`accumulate`](crate::gemm::accumulate()).
    #[doc(hidden)]
    unsafe fn accumulate(isa: Isa, panels: &Panels<Self>, which: Range<usize>, k: Range<usize>, group: &RowGroup<Self>);
    /// # Safety
    /// As for [`add_outer_products`](crate::gemm::add_outer_products).
    #[doc(hidden)]
    unsafe fn add_up(isa: Isa, products: OuterProducts<'_, Self>, scratch: &mut Buffer<Self>);
}

macro_rules! compile {
    ($($element:ty),*) => {
        $(impl Compiled for $element {
            fn run_forward(inputs: &Inputs<'_, Self>, pass: ForwardPass<'_, Self>, scratch: &mut [Scratch<Self>]) {
                run_forward(inputs, pass, scratch);
            }

            fn run_backward(inputs: &Inputs<'_, Self>, pass: BackwardPass<'_, Self>, scratch: &mut [Scratch<Self>]) {
                run_backward(inputs, pass, scratch);
            }

            unsafe fn accumulate(
                isa: Isa,
                panels: &Panels<Self>,
                which: Range<usize>,
                k: Range<usize>,
                group: &RowGroup<Self>,
            ) {
                // SAFETY: the caller has discharged the same obligations.
                unsafe { accumulate_rows(isa, panels, which, k, group) };
            }

            unsafe fn add_up(isa: Isa, products: OuterProducts<'_, Self>, scratch: &mut Buffer<Self>) {
                // SAFETY: the caller has discharged the same obligations.
                unsafe { add_up(isa, products, scratch) };
            }
        })*
    };
}
compile!(f32, f64);
