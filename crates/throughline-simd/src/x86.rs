//! The lanes of x86-64: AVX2 with FMA, and AVX-512.

use core::arch::x86_64::*;

use crate::maths::{self, PowerOfTwo};
use crate::{Kernel, Lane};

/// Whether the CPU has the named features; without std, whether the build enables them.
macro_rules! has {
    ($($feature:tt),*) => {{
        #[cfg(feature = "std")]
        { $(std::arch::is_x86_feature_detected!($feature))&&* }
        #[cfg(not(feature = "std"))]
        { $(cfg!(target_feature = $feature))&&* }
    }};
}

/// Every CPU with AVX2 accepts the instruction; the oldest of them treat it as a no-op.
#[inline(always)]
fn prefetch_to_write(at: *const f32) {
    // SAFETY: a prefetch of any address is allowed, and neither reads nor writes.
    unsafe { core::arch::asm!("prefetchw [{at}]", at = in(reg) at, options(nostack, preserves_flags, readonly)) }
}

/// Proof that the CPU has AVX2 and FMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(());

/// Proof that the CPU has AVX-512 F, BW, DQ and VL, and AVX2 and FMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512(());

impl Avx2 {
    pub fn detect() -> Option<Self> {
        (has!("avx2", "fma")).then_some(Avx2(()))
    }
}

impl Avx512 {
    pub fn detect() -> Option<Self> {
        (has!("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma")).then_some(Avx512(()))
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

/// [`Lane::chains`] in twelve registers named `$register`.
macro_rules! chains {
    ($feature:literal, $register:literal) => {
        #[cfg(feature = "std")]
        #[inline(always)]
        fn chains(self, rounds: u64) {
            #[target_feature(enable = $feature)]
            fn inside(rounds: u64) {
                // SAFETY: the assembly touches only registers that it names and no memory; it ends because rounds > 0.
                unsafe {
                    core::arch::asm!(
                        "vxorps xmm0, xmm0, xmm0",
                        "vxorps xmm1, xmm1, xmm1",
                        "vxorps xmm2, xmm2, xmm2",
                        "vxorps xmm3, xmm3, xmm3",
                        "vxorps xmm4, xmm4, xmm4",
                        "vxorps xmm5, xmm5, xmm5",
                        "vxorps xmm6, xmm6, xmm6",
                        "vxorps xmm7, xmm7, xmm7",
                        "vxorps xmm8, xmm8, xmm8",
                        "vxorps xmm9, xmm9, xmm9",
                        "vxorps xmm10, xmm10, xmm10",
                        "vxorps xmm11, xmm11, xmm11",
                        "vxorps xmm12, xmm12, xmm12",
                        "vxorps xmm13, xmm13, xmm13",
                        "2:",
                        concat!("vfmadd231ps ", $register, "0, ", $register, "12, ", $register, "13"),
                        concat!("vfmadd231ps ", $register, "1, ", $register, "12, ", $register, "13"),
                        concat!("vfmadd231ps ", $register, "2, ", $register, "12, ", $register, "13"),
                        concat!("vfmadd231ps ", $register, "3, ", $register, "12, ", $register, "13"),
                        concat!("vfmadd231ps ", $register, "4, ", $register, "12, ", $register, "13"),
                        concat!("vfmadd231ps ", $register, "5, ", $register, "12, ", $register, "13"),
                        concat!("vfmadd231ps ", $register, "6, ", $register, "12, ", $register, "13"),
                        concat!("vfmadd231ps ", $register, "7, ", $register, "12, ", $register, "13"),
                        concat!("vfmadd231ps ", $register, "8, ", $register, "12, ", $register, "13"),
                        concat!("vfmadd231ps ", $register, "9, ", $register, "12, ", $register, "13"),
                        concat!("vfmadd231ps ", $register, "10, ", $register, "12, ", $register, "13"),
                        concat!("vfmadd231ps ", $register, "11, ", $register, "12, ", $register, "13"),
                        "sub {rounds}, 1",
                        "jnz 2b",
                        rounds = inout(reg) rounds => _,
                        out("xmm0") _,
                        out("xmm1") _,
                        out("xmm2") _,
                        out("xmm3") _,
                        out("xmm4") _,
                        out("xmm5") _,
                        out("xmm6") _,
                        out("xmm7") _,
                        out("xmm8") _,
                        out("xmm9") _,
                        out("xmm10") _,
                        out("xmm11") _,
                        out("xmm12") _,
                        out("xmm13") _,
                        options(nomem, nostack),
                    );
                }
            }
            assert!(rounds > 0, "at least one round");
            // SAFETY: the value `self` is the proof that the CPU has these features.
            unsafe { inside(rounds) }
        }
    };
}

/// AVX2 masks for the first 0..=8 elements: a window of eight into ones followed by zeros.
static FIRST: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

impl Avx2 {
    #[inline(always)]
    fn first(self, count: usize) -> __m256i {
        debug_assert!(count <= 8);
        // SAFETY: count <= 8, so the eight elements from 8 - count lie inside the table.
        unsafe { _mm256_loadu_si256(FIRST.as_ptr().add(8 - count).cast()) }
    }
}

impl Lane for Avx2 {
    type Element = f32;
    type Vector = __m256;
    type Mask = __m256;
    const WIDTH: usize = 8;
    // Accumulators, broadcast rows and one vector of b in 16 registers.
    const TILE_ROWS: [usize; 4] = [12, 4, 3, 3];

    #[inline]
    fn enter<K: Kernel<f32>>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma")]
        fn inside<K: Kernel<f32>>(lane: Avx2, kernel: K) -> K::Output {
            kernel.run(lane)
        }
        // SAFETY: the value `self` is the proof that the CPU has these features.
        unsafe { inside(self, kernel) }
    }
    #[inline(always)]
    fn prefetch(self, at: *const f32) {
        // SAFETY: a prefetch of any address is allowed and reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
    #[inline(always)]
    fn prefetch_to_write(self, at: *const f32) {
        prefetch_to_write(at);
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        // SAFETY: the value `self` is the proof that the CPU has the instruction.
        unsafe { _mm256_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, at: *const f32) -> __m256 {
        // SAFETY: the caller guarantees eight elements at `at`.
        unsafe { _mm256_loadu_ps(at) }
    }
    #[inline(always)]
    unsafe fn load_first(self, at: *const f32, count: usize) -> __m256 {
        // SAFETY: the caller guarantees `count` elements at `at`; the masked load touches no other.
        unsafe { _mm256_maskload_ps(at, self.first(count)) }
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut f32, x: __m256) {
        // SAFETY: the caller guarantees eight elements at `at`.
        unsafe { _mm256_storeu_ps(at, x) }
    }
    #[inline(always)]
    unsafe fn store_first(self, at: *mut f32, count: usize, x: __m256) {
        // SAFETY: the caller guarantees `count` elements at `at`; the masked store touches no other.
        unsafe { _mm256_maskstore_ps(at, self.first(count), x) }
    }

    operations! {
        add(a: Vector, b: Vector) -> Vector = _mm256_add_ps(a, b);
        sub(a: Vector, b: Vector) -> Vector = _mm256_sub_ps(a, b);
        mul(a: Vector, b: Vector) -> Vector = _mm256_mul_ps(a, b);
        div(a: Vector, b: Vector) -> Vector = _mm256_div_ps(a, b);
        sqrt(a: Vector) -> Vector = _mm256_sqrt_ps(a);
        fma(a: Vector, b: Vector, c: Vector) -> Vector = _mm256_fmadd_ps(a, b, c);
        min(a: Vector, b: Vector) -> Vector = _mm256_min_ps(a, b);
        max(a: Vector, b: Vector) -> Vector = _mm256_max_ps(a, b);
        abs(a: Vector) -> Vector = _mm256_andnot_ps(_mm256_set1_ps(-0.0), a);
        copy_sign(magnitude: Vector, sign: Vector) -> Vector = _mm256_or_ps(
            _mm256_andnot_ps(_mm256_set1_ps(-0.0), magnitude), _mm256_and_ps(_mm256_set1_ps(-0.0), sign));
        less(a: Vector, b: Vector) -> Mask = _mm256_cmp_ps::<_CMP_LT_OQ>(a, b);
        select(mask: Mask, a: Vector, b: Vector) -> Vector = _mm256_blendv_ps(b, a, mask);
    }
    #[inline(always)]
    fn interleave(self, a: __m256, b: __m256) -> [__m256; 2] {
        // SAFETY: the value `self` is the proof that the CPU has the instructions.
        unsafe {
            // Unpacking works within each half of a register; the permutation puts the halves in order.
            let (even, odd) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
            [_mm256_permute2f128_ps::<0x20>(even, odd), _mm256_permute2f128_ps::<0x31>(even, odd)]
        }
    }
    chains!("avx2,fma", "ymm");
    #[inline(always)]
    fn exp(self, x: __m256) -> __m256 {
        maths::exp(self, x)
    }
    #[inline(always)]
    fn tanh(self, x: __m256) -> __m256 {
        maths::tanh(self, x)
    }
}

impl PowerOfTwo for Avx2 {
    #[inline(always)]
    fn power_of_two(self, shifted: __m256) -> __m256 {
        // SAFETY: the value `self` is the proof that the CPU has the instructions.
        unsafe {
            let exponent = _mm256_slli_epi32::<23>(_mm256_castps_si256(shifted));
            _mm256_castsi256_ps(_mm256_add_epi32(exponent, _mm256_castps_si256(_mm256_set1_ps(1.0))))
        }
    }
}

/// The mask of the first `count <= 16` elements.
#[inline(always)]
fn first(count: usize) -> __mmask16 {
    debug_assert!(count <= 16);
    ((1u32 << count) - 1) as __mmask16
}

impl Lane for Avx512 {
    type Element = f32;
    type Vector = __m512;
    type Mask = __mmask16;
    const WIDTH: usize = 16;
    // Up to 24 accumulators in 32 registers.
    const TILE_ROWS: [usize; 4] = [12, 10, 8, 6];

    #[inline]
    fn enter<K: Kernel<f32>>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        fn inside<K: Kernel<f32>>(lane: Avx512, kernel: K) -> K::Output {
            kernel.run(lane)
        }
        // SAFETY: the value `self` is the proof that the CPU has these features.
        unsafe { inside(self, kernel) }
    }
    #[inline(always)]
    fn prefetch(self, at: *const f32) {
        // SAFETY: a prefetch of any address is allowed and reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
    #[inline(always)]
    fn prefetch_to_write(self, at: *const f32) {
        prefetch_to_write(at);
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: the value `self` is the proof that the CPU has the instruction.
        unsafe { _mm512_set1_ps(x) }
    }
    #[inline(always)]
    unsafe fn load(self, at: *const f32) -> __m512 {
        // SAFETY: the caller guarantees sixteen elements at `at`.
        unsafe { _mm512_loadu_ps(at) }
    }
    #[inline(always)]
    unsafe fn load_first(self, at: *const f32, count: usize) -> __m512 {
        // SAFETY: the caller guarantees `count` elements at `at`; the masked load touches no other.
        unsafe { _mm512_maskz_loadu_ps(first(count), at) }
    }
    #[inline(always)]
    unsafe fn store(self, at: *mut f32, x: __m512) {
        // SAFETY: the caller guarantees sixteen elements at `at`.
        unsafe { _mm512_storeu_ps(at, x) }
    }
    #[inline(always)]
    unsafe fn store_first(self, at: *mut f32, count: usize, x: __m512) {
        // SAFETY: the caller guarantees `count` elements at `at`; the masked store touches no other.
        unsafe { _mm512_mask_storeu_ps(at, first(count), x) }
    }

    operations! {
        add(a: Vector, b: Vector) -> Vector = _mm512_add_ps(a, b);
        sub(a: Vector, b: Vector) -> Vector = _mm512_sub_ps(a, b);
        mul(a: Vector, b: Vector) -> Vector = _mm512_mul_ps(a, b);
        div(a: Vector, b: Vector) -> Vector = _mm512_div_ps(a, b);
        sqrt(a: Vector) -> Vector = _mm512_sqrt_ps(a);
        fma(a: Vector, b: Vector, c: Vector) -> Vector = _mm512_fmadd_ps(a, b, c);
        min(a: Vector, b: Vector) -> Vector = _mm512_min_ps(a, b);
        max(a: Vector, b: Vector) -> Vector = _mm512_max_ps(a, b);
        abs(a: Vector) -> Vector = _mm512_andnot_ps(_mm512_set1_ps(-0.0), a);
        copy_sign(magnitude: Vector, sign: Vector) -> Vector = _mm512_or_ps(
            _mm512_andnot_ps(_mm512_set1_ps(-0.0), magnitude), _mm512_and_ps(_mm512_set1_ps(-0.0), sign));
        less(a: Vector, b: Vector) -> Mask = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b);
        select(mask: Mask, a: Vector, b: Vector) -> Vector = _mm512_mask_blend_ps(mask, b, a);
    }
    #[inline(always)]
    fn interleave(self, a: __m512, b: __m512) -> [__m512; 2] {
        // SAFETY: the value `self` is the proof that the CPU has the instructions.
        unsafe {
            // Indices from 16 on choose from b.
            let first = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
            let second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
            [_mm512_permutex2var_ps(a, first, b), _mm512_permutex2var_ps(a, second, b)]
        }
    }
    chains!("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma", "zmm");
    #[inline(always)]
    fn exp(self, x: __m512) -> __m512 {
        maths::exp(self, x)
    }
    #[inline(always)]
    fn tanh(self, x: __m512) -> __m512 {
        maths::tanh(self, x)
    }
}

impl PowerOfTwo for Avx512 {
    #[inline(always)]
    fn power_of_two(self, shifted: __m512) -> __m512 {
        // SAFETY: the value `self` is the proof that the CPU has the instructions.
        unsafe {
            let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(shifted));
            _mm512_castsi512_ps(_mm512_add_epi32(exponent, _mm512_castps_si512(_mm512_set1_ps(1.0))))
        }
    }
}
