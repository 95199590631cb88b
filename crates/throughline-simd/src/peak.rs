//! The fused multiply-adds that this core can do at most: what shares of the peak are measured against.

use core::time::Duration;
use std::time::Instant;

use crate::{Element, Isa, Kernel, Lane};

/// Accumulators that do not depend on each other: enough to hide the latency of a fused multiply-add.
const CHAINS: usize = 12;

/// Keeps the calling thread busy with nothing but fused multiply-adds for about `duration`; returns how many floating-point
/// operations a second it did (two for each multiply-add).
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

/// `rounds` times [`CHAINS`] fused multiply-adds in plain code; lanes with an instruction for it do it in assembly, because
/// the compiler may spoil the loop.
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
