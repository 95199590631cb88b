//! The portable lane: four elements in an array, one operation each.

use core::marker::PhantomData;

use crate::maths::{self, PowerOfTwo};
use crate::{Kernel, Lane};

/// Portable code for `f32` (the same bits as every other lane) and `f64` (for tight checks of the same code).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scalar<E>(PhantomData<E>);

impl<E> Scalar<E> {
    /// Every CPU has it.
    pub const fn new() -> Self {
        Scalar(PhantomData)
    }
}

const WIDTH: usize = 4;

/// The function of the standard library, or of `libm` without it.
macro_rules! float {
    ($x:expr, $std:ident, $libm:ident $(, $more:expr)*) => {{
        #[cfg(feature = "std")]
        { $x.$std($($more),*) }
        #[cfg(not(feature = "std"))]
        { libm::$libm($x $(, $more)*) }
    }};
}

macro_rules! lane {
    ($element:ty, $fma:ident, $sqrt:ident, { $($functions:tt)* }) => {
        impl Lane for Scalar<$element> {
            type Element = $element;
            type Vector = [$element; WIDTH];
            type Mask = [bool; WIDTH];
            const WIDTH: usize = WIDTH;
            const TILE_ROWS: [usize; 4] = [4, 4, 2, 2];

            #[inline]
            fn enter<K: Kernel<$element>>(self, kernel: K) -> K::Output {
                #[inline(never)]
                fn inside<K: Kernel<$element>>(lane: Scalar<$element>, kernel: K) -> K::Output {
                    kernel.run(lane)
                }
                inside(self, kernel)
            }

            #[inline(always)]
            fn splat(self, x: $element) -> Self::Vector {
                [x; WIDTH]
            }
            #[inline(always)]
            unsafe fn load(self, at: *const $element) -> Self::Vector {
                // SAFETY: the caller guarantees WIDTH elements at `at`; read_unaligned needs no alignment.
                unsafe { at.cast::<Self::Vector>().read_unaligned() }
            }
            #[inline(always)]
            unsafe fn load_first(self, at: *const $element, count: usize) -> Self::Vector {
                // SAFETY: only the first `count` elements are read, and the caller guarantees those.
                core::array::from_fn(|i| if i < count { unsafe { *at.add(i) } } else { 0.0 })
            }
            #[inline(always)]
            unsafe fn store(self, at: *mut $element, x: Self::Vector) {
                // SAFETY: the caller guarantees WIDTH elements at `at`; write_unaligned needs no alignment.
                unsafe { at.cast::<Self::Vector>().write_unaligned(x) }
            }
            #[inline(always)]
            unsafe fn store_first(self, at: *mut $element, count: usize, x: Self::Vector) {
                for (i, x) in x.into_iter().enumerate().take(count) {
                    // SAFETY: only the first `count` elements are written, and the caller guarantees those.
                    unsafe { *at.add(i) = x }
                }
            }
            #[inline(always)]
            fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                core::array::from_fn(|i| a[i] + b[i])
            }
            #[inline(always)]
            fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                core::array::from_fn(|i| a[i] - b[i])
            }
            #[inline(always)]
            fn mul(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                core::array::from_fn(|i| a[i] * b[i])
            }
            #[inline(always)]
            fn div(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                core::array::from_fn(|i| a[i] / b[i])
            }
            #[inline(always)]
            fn sqrt(self, a: Self::Vector) -> Self::Vector {
                core::array::from_fn(|i| float!(a[i], sqrt, $sqrt))
            }
            #[inline(always)]
            fn fma(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector {
                core::array::from_fn(|i| float!(a[i], mul_add, $fma, b[i], c[i]))
            }
            #[inline(always)]
            fn min(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                core::array::from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] })
            }
            #[inline(always)]
            fn max(self, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                core::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] })
            }
            #[inline(always)]
            fn abs(self, a: Self::Vector) -> Self::Vector {
                a.map(<$element>::abs)
            }
            #[inline(always)]
            fn copy_sign(self, magnitude: Self::Vector, sign: Self::Vector) -> Self::Vector {
                core::array::from_fn(|i| magnitude[i].copysign(sign[i]))
            }
            #[inline(always)]
            fn less(self, a: Self::Vector, b: Self::Vector) -> Self::Mask {
                core::array::from_fn(|i| a[i] < b[i])
            }
            #[inline(always)]
            fn select(self, mask: Self::Mask, a: Self::Vector, b: Self::Vector) -> Self::Vector {
                core::array::from_fn(|i| if mask[i] { a[i] } else { b[i] })
            }
            #[inline(always)]
            fn interleave(self, a: Self::Vector, b: Self::Vector) -> [Self::Vector; 2] {
                [[a[0], b[0], a[1], b[1]], [a[2], b[2], a[3], b[3]]]
            }
            $($functions)*
        }
    };
}

lane!(f32, fmaf, sqrtf, {
    #[inline(always)]
    fn exp(self, x: Self::Vector) -> Self::Vector {
        maths::exp(self, x)
    }
    #[inline(always)]
    fn tanh(self, x: Self::Vector) -> Self::Vector {
        maths::tanh(self, x)
    }
});

lane!(f64, fma, sqrt, {
    #[inline(always)]
    fn exp(self, x: Self::Vector) -> Self::Vector {
        x.map(|x: f64| float!(x, exp, exp))
    }
    #[inline(always)]
    fn tanh(self, x: Self::Vector) -> Self::Vector {
        x.map(|x: f64| float!(x, tanh, tanh))
    }
});

impl PowerOfTwo for Scalar<f32> {
    #[inline(always)]
    fn power_of_two(self, shifted: Self::Vector) -> Self::Vector {
        shifted.map(|shifted| f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits())))
    }
}
