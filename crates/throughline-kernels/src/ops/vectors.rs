//! The two ways of going through arrays a vector at a time: [`map`] and the folds [`sum`] and [`maximum`].
//!
//! Folds run 64 chains side by side, element j in chain j mod 64, and join them in one fixed order, so that the result does
//! not depend on the width of the lane.

use throughline_simd::{Element, Lane};

/// Chains of a fold; a multiple of every lane's width.
const CHAINS: usize = 64;
/// Elements that are added up in their own precision before the sum goes on in f64.
pub(crate) const BLOCK: usize = 4096;

/// `written = f(written, read)`, element by element over arrays of one length.
#[inline(always)]
pub(crate) fn map<L: Lane, const W: usize, const R: usize>(
    lane: L,
    mut written: [&mut [L::Element]; W],
    read: [&[L::Element]; R],
    f: impl Fn([L::Vector; W], [L::Vector; R]) -> [L::Vector; W],
) {
    let length = written[0].len();
    assert!(written.iter().all(|array| array.len() == length), "arrays of one length");
    assert!(read.iter().all(|array| array.len() == length), "arrays of one length");
    let written: [*mut L::Element; W] = core::array::from_fn(|i| written[i].as_mut_ptr());
    let rest = length % L::WIDTH;
    for at in (0..length - rest).step_by(L::WIDTH) {
        // SAFETY: at + WIDTH <= length, which is the length of every array.
        unsafe {
            let old = core::array::from_fn(|i| lane.load(written[i].add(at)));
            let new = f(old, core::array::from_fn(|i| lane.load(read[i].as_ptr().add(at))));
            for i in 0..W {
                lane.store(written[i].add(at), new[i]);
            }
        }
    }
    if rest > 0 {
        let at = length - rest;
        // SAFETY: at + rest = length, which is the length of every array.
        unsafe {
            let old = core::array::from_fn(|i| lane.load_first(written[i].add(at), rest));
            let new = f(old, core::array::from_fn(|i| lane.load_first(read[i].as_ptr().add(at), rest)));
            for i in 0..W {
                lane.store_first(written[i].add(at), rest, new[i]);
            }
        }
    }
}

/// The sum of `term(read)` over arrays of one length: 64 chains in each block of 4096 elements, the rest in f64.
///
/// `term` of `padding` is zero.
#[inline(always)]
pub(crate) fn sum<L: Lane, const R: usize>(
    lane: L,
    read: [&[L::Element]; R],
    padding: L::Element,
    term: impl Fn([L::Vector; R]) -> L::Vector,
) -> f64 {
    let zero = L::Element::ZERO;
    let mut total = 0.0;
    for first in (0..read[0].len()).step_by(BLOCK) {
        let block = core::array::from_fn(|i| &read[i][first..read[0].len().min(first + BLOCK)]);
        let chains = fold(lane, block, padding, zero, |sum, x| lane.add(sum, term(x)));
        total += pairwise(chains.map(L::Element::to_f64), |a, b| a + b);
    }
    total
}

/// The largest element, negative infinity of none. A NaN is passed over.
#[inline(always)]
pub(crate) fn maximum<L: Lane>(lane: L, x: &[L::Element]) -> L::Element {
    let lowest = L::Element::from_f64(f64::NEG_INFINITY);
    let larger = |largest, [x]: [L::Vector; 1]| lane.select(lane.less(largest, x), x, largest);
    pairwise(fold(lane, [x], lowest, lowest, larger), |a, b| if a < b { b } else { a })
}

/// The 64 chains of `step` from `start` over arrays of one length; the last turn is filled up with `padding`.
#[inline(always)]
fn fold<L: Lane, const R: usize>(
    lane: L,
    read: [&[L::Element]; R],
    padding: L::Element,
    start: L::Element,
    step: impl Fn(L::Vector, [L::Vector; R]) -> L::Vector,
) -> [L::Element; CHAINS] {
    // 16 vectors of the narrowest lane.
    let mut chains = [lane.splat(start); 16];
    let mut turn = |x: [&[L::Element]; R]| {
        assert!(x.iter().all(|x| x.len() == CHAINS), "arrays of one length");
        for (v, chain) in chains.iter_mut().enumerate().take(CHAINS / L::WIDTH) {
            // SAFETY: the vector ends at (v + 1) · WIDTH <= CHAINS, the length of each slice.
            *chain = step(*chain, core::array::from_fn(|i| unsafe { lane.load(x[i].as_ptr().add(v * L::WIDTH)) }));
        }
    };
    let length = read[0].len();
    let rest = length % CHAINS;
    for first in (0..length - rest).step_by(CHAINS) {
        turn(core::array::from_fn(|i| &read[i][first..first + CHAINS]));
    }
    if rest > 0 {
        let mut padded = [[padding; CHAINS]; R];
        for (padded, array) in padded.iter_mut().zip(read) {
            padded[..rest].copy_from_slice(&array[length - rest..]);
        }
        turn(core::array::from_fn(|i| &padded[i][..]));
    }
    let mut result = [start; CHAINS];
    for (chain, result) in chains.into_iter().zip(result.chunks_mut(L::WIDTH)) {
        // SAFETY: CHAINS is a multiple of WIDTH, so every chunk has WIDTH elements.
        unsafe { lane.store(result.as_mut_ptr(), chain) };
    }
    result
}

/// Joins chain j with chain j + 32, then j with j + 16, and so on down to one.
#[inline(always)]
fn pairwise<T: Copy>(mut chains: [T; CHAINS], join: impl Fn(T, T) -> T) -> T {
    let mut half = CHAINS / 2;
    while half > 0 {
        for j in 0..half {
            chains[j] = join(chains[j], chains[j + half]);
        }
        half /= 2;
    }
    chains[0]
}
