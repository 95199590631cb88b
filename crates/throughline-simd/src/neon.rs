//! The lane of AArch64. NEON belongs to the base architecture there, so no function has to enable a feature.

use core::arch::aarch64::*;

use crate::maths::{self, PowerOfTwo};
use crate::{Kernel, Lane};

/// Proof that the CPU has NEON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neon(());

impl Neon {
    pub fn detect() -> Option<Self> {
        cfg!(target_feature = "neon").then_some(Neon(()))
    }
}

/// `name(self, arguments) -> result = expression`, an intrinsic of the instruction set that the lane proves.
macro_rules! operations {
    ($($name:ident($($argument:ident: $of:ident),*) -> $result:ident = $body:expr;)*) => {
        $(#[inline(always)]
        fn $name(self, $($argument: Self::$of),*) -> Self::$result {
            // SAFETY: the value `self` is the proof that the CPU has the instruction.
            unsafe { $body }
        })*
    };
}

impl Lane for Neon {
    type Element = f32;
    type Vector = float32x4_t;
    type Mask = uint32x4_t;
    const WIDTH: usize = 4;
    // Up to 24 accumulators in 32 registers.
    const TILE_ROWS: [usize; 4] = [12, 12, 8, 6];

    #[inline]
    fn enter<K: Kernel<f32>>(self, kernel: K) -> K::Output {
        #[inline(never)]
        fn inside<K: Kernel<f32>>(lane: Neon, kernel: K) -> K::Output {
            kernel.run(lane)
        }
        inside(self, kernel)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> float32x4_t {
        // SAFETY: the value `self` is the proof that the CPU has the instruction.
        unsafe { vdupq_n_f32(x) }
    }
    #[inline(always)]
    unsafe fn load(self, at: *const f32) -> float32x4_t {
        // SAFETY: the caller guarantees four elements at `at`.
        unsafe { vld1q_f32(at) }
    }
    #[inline(always)]
    unsafe fn load_first(self, at: *const f32, count: usize) -> float32x4_t {
        let mut buffer = [0.0; 4];
        for (i, slot) in buffer.iter_mut().enumerate().take(count) {
            // SAFETY: only the first `count` elements are read, and the caller guarantees those.
            *slot = unsafe { *at.add(i) };
        }
        // SAFETY: the buffer has four elements.
        unsafe { vld1q_f32(buffer.as_ptr()) }
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut f32, x: float32x4_t) {
        // SAFETY: the caller guarantees four elements at `at`.
        unsafe { vst1q_f32(at, x) }
    }
    #[inline(always)]
    unsafe fn store_first(self, at: *mut f32, count: usize, x: float32x4_t) {
        let mut buffer = [0.0; 4];
        // SAFETY: the buffer has four elements.
        unsafe { vst1q_f32(buffer.as_mut_ptr(), x) };
        for (i, x) in buffer.into_iter().enumerate().take(count) {
            // SAFETY: only the first `count` elements are written, and the caller guarantees those.
            unsafe { *at.add(i) = x };
        }
    }

    operations! {
        add(a: Vector, b: Vector) -> Vector = vaddq_f32(a, b);
        sub(a: Vector, b: Vector) -> Vector = vsubq_f32(a, b);
        mul(a: Vector, b: Vector) -> Vector = vmulq_f32(a, b);
        div(a: Vector, b: Vector) -> Vector = vdivq_f32(a, b);
        sqrt(a: Vector) -> Vector = vsqrtq_f32(a);
        fma(a: Vector, b: Vector, c: Vector) -> Vector = vfmaq_f32(c, a, b);
        // vminq and vmaxq do not treat NaN as `Lane` requires: compare and select instead.
        min(a: Vector, b: Vector) -> Vector = vbslq_f32(vcltq_f32(a, b), a, b);
        max(a: Vector, b: Vector) -> Vector = vbslq_f32(vcgtq_f32(a, b), a, b);
        abs(a: Vector) -> Vector = vabsq_f32(a);
        copy_sign(magnitude: Vector, sign: Vector) -> Vector = vbslq_f32(vdupq_n_u32(0x8000_0000), sign, magnitude);
        less(a: Vector, b: Vector) -> Mask = vcltq_f32(a, b);
        select(mask: Mask, a: Vector, b: Vector) -> Vector = vbslq_f32(mask, a, b);
    }
    #[inline(always)]
    fn interleave(self, a: float32x4_t, b: float32x4_t) -> [float32x4_t; 2] {
        // SAFETY: the value `self` is the proof that the CPU has the instructions.
        unsafe { [vzip1q_f32(a, b), vzip2q_f32(a, b)] }
    }
    #[inline(always)]
    fn exp(self, x: float32x4_t) -> float32x4_t {
        maths::exp(self, x)
    }
    #[inline(always)]
    fn tanh(self, x: float32x4_t) -> float32x4_t {
        maths::tanh(self, x)
    }
}

impl PowerOfTwo for Neon {
    #[inline(always)]
    fn power_of_two(self, shifted: float32x4_t) -> float32x4_t {
        // SAFETY: the value `self` is the proof that the CPU has the instructions.
        unsafe {
            let exponent = vshlq_n_u32::<23>(vreinterpretq_u32_f32(shifted));
            vreinterpretq_f32_u32(vaddq_u32(exponent, vdupq_n_u32(1.0f32.to_bits())))
        }
    }
}
