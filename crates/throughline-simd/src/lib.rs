//! SIMD lanes and elementwise maths of Throughline: the same bits on every instruction set.
//!
//! A [`Lane`] is a zero-size value whose existence proves that the CPU has the instruction set; it is chosen once at
//! run time ([`Isa::detect`]) and passed down. Kernels are written once, generic over the lane, and entered through
//! [`Element::dispatch`].
//!
//! # Contract
//! Every operation of a lane is one IEEE 754 operation per element, rounded to nearest, so that a kernel gives the same
//! bits on every lane of the same element type: multiply-add is always fused, division is a division, and nothing is
//! estimated or reassociated.
//!
//! # Lanes
//! | lane | element | width | tested on |
//! |---|---|---|---|
//! | AVX-512 (`x86-64-v4`) | f32 | 16 | Linux, x86-64 |
//! | AVX2 and FMA (`x86-64-v3`) | f32 | 8 | Linux, x86-64 |
//! | NEON | f32 | 4 | not yet run on hardware |
//! | scalar | f32, f64 | 4 | everywhere |
#![cfg_attr(not(feature = "std"), no_std)]

mod isa;
mod maths;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(feature = "std")]
pub mod peak;
mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use isa::{Isa, IsaName, NoSuchIsa};
pub use scalar::Scalar;

/// A number the engine computes with: `f32`, or `f64` for tight checks of the same code.
pub trait Element:
    Copy
    + Send
    + Sync
    + Default
    + PartialOrd
    + core::ops::Add<Output = Self>
    + core::ops::Sub<Output = Self>
    + core::ops::Mul<Output = Self>
    + core::ops::Div<Output = Self>
    + core::ops::Neg<Output = Self>
    + core::fmt::Debug
    + core::fmt::Display
    + 'static
{
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// The nearest element to `value`.
    fn from_f64(value: f64) -> Self;
    /// The exact value as f64.
    fn to_f64(self) -> f64;
    /// Runs `kernel` with the lane of `isa`; an element that the instruction set has no lane for uses the scalar one.
    fn dispatch<K: Kernel<Self>>(isa: Isa, kernel: K) -> K::Output;
}

/// Work that is generic over the lane. Mark `run` `#[inline(always)]`: it must be compiled inside the
/// function that enables the instruction set.
pub trait Kernel<E: Element> {
    /// What the work returns.
    type Output;
    /// Does the work.
    fn run<L: Lane<Element = E>>(self, lane: L) -> Self::Output;
}

/// The most elements a vector has.
pub const MOST_WIDTH: usize = 16;

/// `WIDTH` elements computed side by side.
///
/// The provided methods are the elementwise maths of the engine; see the module `maths` for their error bounds.
pub trait Lane: Copy + Send + Sync + 'static {
    /// The element type.
    type Element: Element;
    /// `WIDTH` elements.
    type Vector: Copy;
    /// `WIDTH` truth values.
    type Mask: Copy;
    /// Elements in a vector; at most [`MOST_WIDTH`], a power of two.
    const WIDTH: usize;
    /// Rows of a product tile of one, two, three and four vectors whose accumulators stay in registers; at most 12, 12,
    /// 8, 6.
    const TILE_ROWS: [usize; 4];

    /// Runs `kernel` in a separate function compiled for the instruction set, so that a large kernel used in several
    /// others is compiled once for each lane.
    fn enter<K: Kernel<Self::Element>>(self, kernel: K) -> K::Output;

    /// Prefetches the memory at `at`, which need not be valid, into the L1 cache. A hint without other effect.
    #[inline(always)]
    fn prefetch(self, at: *const Self::Element) {
        let _ = at;
    }

    /// Prefetches the memory at `at`, which need not be valid, into the L1 cache for writing: copies in the caches of
    /// other cores are invalidated ahead of the store. A hint without other effect.
    #[inline(always)]
    fn prefetch_to_write(self, at: *const Self::Element) {
        let _ = at;
    }

    /// All elements `x`.
    fn splat(self, x: Self::Element) -> Self::Vector;
    /// Reads `WIDTH` elements; no alignment is needed.
    ///
    /// # Safety
    /// `at` is valid for reading `WIDTH` elements.
    unsafe fn load(self, at: *const Self::Element) -> Self::Vector;
    /// Reads the first `count <= WIDTH` elements, the others are zero and their memory is not touched.
    ///
    /// # Safety
    /// `at` is valid for reading `count` elements, and `count <= WIDTH`.
    unsafe fn load_first(self, at: *const Self::Element, count: usize) -> Self::Vector;
    /// Writes `WIDTH` elements; no alignment is needed.
    ///
    /// # Safety
    /// `at` is valid for writing `WIDTH` elements.
    unsafe fn store(self, at: *mut Self::Element, x: Self::Vector);
    /// Writes the first `count <= WIDTH` elements and touches no other memory.
    ///
    /// # Safety
    /// `at` is valid for writing `count` elements, and `count <= WIDTH`.
    unsafe fn store_first(self, at: *mut Self::Element, count: usize, x: Self::Vector);

    /// `a + b`
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a - b`
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a * b`
    fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a / b`
    fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// The square root.
    fn sqrt(self, a: Self::Vector) -> Self::Vector;
    /// `a * b + c`, rounded once.
    fn fma(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// `if a < b { a } else { b }`: a NaN in `b` passes through.
    fn min(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `if a > b { a } else { b }`: a NaN in `b` passes through.
    fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// The sign bit cleared.
    fn abs(self, a: Self::Vector) -> Self::Vector;
    /// The magnitude of `magnitude` with the sign bit of `sign`.
    fn copy_sign(self, magnitude: Self::Vector, sign: Self::Vector) -> Self::Vector;
    /// `a < b`, false where either is NaN.
    fn less(self, a: Self::Vector, b: Self::Vector) -> Self::Mask;
    /// `if mask { a } else { b }`
    fn select(self, mask: Self::Mask, a: Self::Vector, b: Self::Vector) -> Self::Vector;

    /// The first halves of `a` and `b` interleaved (a0 b0 a1 b1 ...), then the second halves.
    fn interleave(self, a: Self::Vector, b: Self::Vector) -> [Self::Vector; 2];

    /// The transpose of a square: element j of the i-th of the first `WIDTH` rows becomes element i of the j-th.
    #[inline(always)]
    fn transpose(self, rows: &mut [Self::Vector; MOST_WIDTH]) {
        // Interleaving row i with row i + WIDTH / 2 moves the highest bit of the row index below the bits of the column
        // index; after one stage per bit the two indices are swapped.
        let half = Self::WIDTH / 2;
        let mut stage = 1;
        while stage < Self::WIDTH {
            let from = *rows;
            for i in 0..half {
                let [first, second] = self.interleave(from[i], from[i + half]);
                rows[2 * i] = first;
                rows[2 * i + 1] = second;
            }
            stage *= 2;
        }
    }

    /// e^x.
    fn exp(self, x: Self::Vector) -> Self::Vector;
    /// The hyperbolic tangent.
    fn tanh(self, x: Self::Vector) -> Self::Vector;

    /// `rounds` fused multiply-adds in each of twelve independent chains, and nothing else: for [`peak`].
    #[cfg(feature = "std")]
    #[inline(always)]
    fn chains(self, rounds: u64) {
        peak::plain_chains(self, rounds);
    }

    /// The logistic sigmoid 1 / (1 + e^-x).
    #[inline(always)]
    fn sigmoid(self, x: Self::Vector) -> Self::Vector {
        let one = self.splat(Self::Element::ONE);
        let negated = self.sub(self.splat(Self::Element::ZERO), x);
        self.div(one, self.add(one, self.exp(negated)))
    }

    /// `max(x, 0)`; NaN stays NaN.
    #[inline(always)]
    fn relu(self, x: Self::Vector) -> Self::Vector {
        self.max(self.splat(Self::Element::ZERO), x)
    }

    /// `x`, or 0 where `|x| < threshold`.
    #[inline(always)]
    fn flush_below(self, threshold: Self::Element, x: Self::Vector) -> Self::Vector {
        let tiny = self.less(self.abs(x), self.splat(threshold));
        self.select(tiny, self.splat(Self::Element::ZERO), x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Transposes the square of numbers `row · WIDTH + column`.
    struct Transposed<E>(core::marker::PhantomData<E>);

    impl<E: Element> Kernel<E> for Transposed<E> {
        type Output = (usize, Vec<E>);
        #[inline(always)]
        fn run<L: Lane<Element = E>>(self, lane: L) -> (usize, Vec<E>) {
            let mut square: Vec<E> = (0..L::WIDTH * L::WIDTH).map(|x| E::from_f64(x as f64)).collect();
            let mut rows = [lane.splat(E::ZERO); MOST_WIDTH];
            // SAFETY: every row of the square has WIDTH elements.
            unsafe {
                for (row, square) in rows.iter_mut().zip(square.chunks(L::WIDTH)) {
                    *row = lane.load(square.as_ptr());
                }
                lane.transpose(&mut rows);
                for (row, square) in rows.iter().zip(square.chunks_mut(L::WIDTH)) {
                    lane.store(square.as_mut_ptr(), *row);
                }
            }
            (L::WIDTH, square)
        }
    }

    fn check<E: Element>(isa: Isa) {
        let (width, square) = E::dispatch(isa, Transposed(core::marker::PhantomData));
        for (row, square) in square.chunks(width).enumerate() {
            for (column, x) in square.iter().enumerate() {
                assert_eq!(x.to_f64(), (column * width + row) as f64, "{isa:?}: row {row}, column {column}");
            }
        }
    }

    #[test]
    fn a_square_is_transposed_on_every_lane() {
        for isa in Isa::available() {
            check::<f32>(isa);
            check::<f64>(isa);
        }
    }
}
