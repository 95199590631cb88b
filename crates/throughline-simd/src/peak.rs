//! The peak of this core, which benchmarks are compared with: fused multiply-adds ([`measure`]) and reading memory
//! ([`Reader`]); and the elementwise functions over whole arrays ([`apply`]), to be timed alone.

use core::time::Duration;
use std::time::Instant;

use crate::{Element, Isa, Kernel, Lane};

/// Accumulators that do not depend on each other: enough to hide the latency of a fused multiply-add.
const CHAINS: usize = 12;

/// Does nothing but fused multiply-adds on the calling thread for about `duration`; returns the floating-point
/// operations per second (two for each multiply-add).
pub fn measure(isa: Isa, duration: Duration) -> f64 {
    let mut operations = 0.0;
    let begun = Instant::now();
    loop {
        operations += f32::dispatch(isa, Burst);
        let elapsed = begun.elapsed();
        if elapsed >= duration {
            return operations / elapsed.as_secs_f64();
        }
    }
}

struct Burst;

impl Kernel<f32> for Burst {
    type Output = f64;

    #[inline(always)]
    fn run<L: Lane<Element = f32>>(self, lane: L) -> f64 {
        const ROUNDS: u64 = 20_000;
        lane.chains(ROUNDS);
        (2 * ROUNDS as usize * CHAINS * L::WIDTH) as f64
    }
}

/// The least bytes that one call of the reading kernel reads, so that the cost of entering it does not count.
const LEAST_READ: usize = 1 << 18;

/// A line of the cache.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

const LINE: usize = 16;
/// Vectors that are read side by side, each added to a sum of its own: enough to hide the latency of an addition.
const SUMS: usize = 8;

/// Memory that is read again and again from beginning to end by plain loads: the speed at which this core reads so many
/// bytes, from whichever cache holds them. It is a yardstick, not an upper limit: a product whose weights are in the L2
/// cache can be faster, and its share is then above 1.
#[derive(Debug)]
pub struct Reader {
    lines: Vec<Line>,
}

impl Reader {
    /// Memory of at least `bytes` bytes, rounded up to whole groups of eight cache lines.
    pub fn new(bytes: usize) -> Self {
        let lines = bytes.div_ceil(size_of::<Line>()).next_multiple_of(SUMS).max(SUMS);
        // Ones, because the system may map all pages of zeros to one physical page.
        Self { lines: vec![Line([1.0; LINE]); lines] }
    }

    /// Does nothing but read for about `duration`, but at least once through the memory, after a first pass that does
    /// not count; returns the bytes per second.
    pub fn measure(&self, isa: Isa, duration: Duration) -> f64 {
        let bytes = size_of_val(&self.lines[..]);
        let passes = LEAST_READ.div_ceil(bytes);
        f32::dispatch(isa, Read { lines: &self.lines, passes: 1 });
        let (begun, mut read) = (Instant::now(), 0);
        loop {
            f32::dispatch(isa, Read { lines: &self.lines, passes });
            read += passes * bytes;
            let elapsed = begun.elapsed();
            if elapsed >= duration {
                return read as f64 / elapsed.as_secs_f64();
            }
        }
    }
}

struct Read<'a> {
    lines: &'a [Line],
    passes: usize,
}

impl Kernel<f32> for Read<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lane<Element = f32>>(self, lane: L) {
        assert!(self.lines.len().is_multiple_of(SUMS) && LINE.is_multiple_of(L::WIDTH), "whole groups of vectors");
        let (start, count) = (self.lines.as_ptr().cast::<f32>(), self.lines.len() * self.lines[0].0.len());
        let mut sums = [lane.splat(0.0); SUMS];
        for _ in 0..self.passes {
            let mut at = 0;
            while at < count {
                for (index, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: the lines are `count` numbers side by side, a multiple of SUMS vectors as asserted above,
                    // and `at` is such a multiple below `count`, so WIDTH numbers from here lie inside them.
                    let x = unsafe { lane.load(start.add(at + index * L::WIDTH)) };
                    *sum = lane.add(*sum, x);
                }
                at += SUMS * L::WIDTH;
            }
        }
        core::hint::black_box(&sums);
    }
}

/// A function of the elementwise maths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// e^x
    Exp,
    /// The hyperbolic tangent.
    Tanh,
    /// 1 / (1 + e^-x)
    Sigmoid,
}

impl Function {
    /// All of them.
    pub const ALL: [Function; 3] = [Function::Exp, Function::Tanh, Function::Sigmoid];

    /// Its name in records.
    pub fn name(self) -> &'static str {
        match self {
            Function::Exp => "exp",
            Function::Tanh => "tanh",
            Function::Sigmoid => "sigmoid",
        }
    }
}

/// `y = function(x)`, element by element.
///
/// # Panics
/// If the lengths differ.
pub fn apply(isa: Isa, function: Function, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "a result for every element");
    match function {
        Function::Exp => f32::dispatch(isa, Apply::<EXP> { x, y }),
        Function::Tanh => f32::dispatch(isa, Apply::<TANH> { x, y }),
        Function::Sigmoid => f32::dispatch(isa, Apply::<SIGMOID> { x, y }),
    }
}

const EXP: u8 = 0;
const TANH: u8 = 1;
const SIGMOID: u8 = 2;

/// The function is a constant, so that the loop does not branch on it.
struct Apply<'a, const FUNCTION: u8> {
    x: &'a [f32],
    y: &'a mut [f32],
}

impl<const FUNCTION: u8> Kernel<f32> for Apply<'_, FUNCTION> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lane<Element = f32>>(self, lane: L) {
        let count = self.x.len().min(self.y.len());
        let mut at = 0;
        while at < count {
            let here = L::WIDTH.min(count - at);
            // SAFETY: both arrays have at least `count` elements, and at + here <= count.
            unsafe {
                let (x, y) = (self.x.as_ptr().add(at), self.y.as_mut_ptr().add(at));
                let x = if here == L::WIDTH { lane.load(x) } else { lane.load_first(x, here) };
                let value = match FUNCTION {
                    EXP => lane.exp(x),
                    TANH => lane.tanh(x),
                    _ => lane.sigmoid(x),
                };
                if here == L::WIDTH { lane.store(y, value) } else { lane.store_first(y, here, value) }
            }
            at += L::WIDTH;
        }
    }
}

/// [`Lane::chains`] in plain code. The x86 lanes use assembly instead, because the compiler may spoil the loop.
#[inline(always)]
pub(crate) fn plain_chains<L: Lane>(lane: L, rounds: u64) {
    let factor = core::hint::black_box(lane.splat(L::Element::from_f64(0.5)));
    let mut sums = core::hint::black_box([lane.splat(L::Element::ZERO); CHAINS]);
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = lane.fma(*sum, factor, factor);
        }
    }
    core::hint::black_box(&sums);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_read_has_a_rate_on_every_instruction_set() {
        for bytes in [0, 1, 512, 4097, 1 << 20] {
            let reader = Reader::new(bytes);
            assert!(size_of_val(&reader.lines[..]) >= bytes);
            for isa in Isa::available() {
                let rate = reader.measure(isa, Duration::from_micros(50));
                assert!(rate.is_finite() && rate > 0.0, "{bytes} bytes with {isa:?}: {rate}");
            }
        }
    }

    #[test]
    fn a_function_of_an_array_is_the_function_of_each_element() {
        let truth: [fn(f64) -> f64; 3] = [f64::exp, f64::tanh, |x| 1.0 / (1.0 + (-x).exp())];
        for length in [0, 1, 15, 16, 17, 50] {
            let x: Vec<f32> = (0..length).map(|i| i as f32 / 8.0 - 3.0).collect();
            for isa in Isa::available() {
                for (function, truth) in Function::ALL.into_iter().zip(truth) {
                    let mut y = vec![f32::NAN; length];
                    apply(isa, function, &x, &mut y);
                    for (x, y) in x.iter().zip(&y) {
                        let want = truth(f64::from(*x));
                        assert!((f64::from(*y) - want).abs() <= 4e-7 * want.abs(), "{} {x}: {y}", function.name());
                    }
                }
            }
        }
    }
}
