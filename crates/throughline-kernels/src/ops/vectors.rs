//! The two loops over arrays, a vector at a time: a [`Map`], and a sum of [`Terms`].
//!
//! Both are traits and not closures, because `#[inline(always)]` is what brings an operation into the function that
//! enables the instruction set, and a closure cannot have it.

use throughline_simd::{Element, Isa, Kernel, Lane};

use super::tasks::{for_each_chunk, for_each_task};
use crate::disjoint::Disjoint;
use crate::threads::Threads;

/// Chains of a fold.
const CHAINS: usize = 64;
/// Chains that may be left to be joined element by element, those of one vector; a multiple of every lane's width.
const LAST: usize = 16;
/// Elements that are added up in their own precision before the sum goes on in f64.
const BLOCK: usize = 4096;
/// Partial sums of a sum, a task each.
const PARTIAL_SUMS: usize = 64;

/// An operation on W written and R read arrays of one length, element by element. Mark `map` `#[inline(always)]`.
pub(crate) trait Map<E: Element, const W: usize, const R: usize> {
    /// The new elements of the written arrays from the old ones and those of the read arrays.
    fn map<L: Lane<Element = E>>(&self, lane: L, written: [L::Vector; W], read: [L::Vector; R]) -> [L::Vector; W];
}

/// The terms of a sum over R arrays of one length. Mark `add` `#[inline(always)]`.
pub(crate) trait Terms<E: Element, const R: usize> {
    /// `sums` plus the terms of the elements read.
    fn add<L: Lane<Element = E>>(&self, lane: L, sums: L::Vector, read: [L::Vector; R]) -> L::Vector;
}

/// Applies `operation` on all threads.
pub(crate) fn apply<E: Element, const W: usize, const R: usize>(
    isa: Isa,
    threads: &Threads,
    operation: &(impl Map<E, W, R> + Sync),
    written: [&mut [E]; W],
    read: [&[E]; R],
) {
    let length = written[0].len();
    let written = written.map(Disjoint::new);
    for_each_chunk(threads, length, |range| {
        // SAFETY: chunks do not overlap, and each belongs to one task.
        let written = written.each_ref().map(|array| unsafe { array.slice(range.clone()) });
        E::dispatch(isa, Apply { operation, written, read: read.map(|array| &array[range.clone()]) });
    });
}

/// The sum of `terms`, on all threads: the terms of a block of 4096 elements are added in the precision of E, the
/// blocks in f64, in an order that depends on the length alone.
pub(crate) fn total<E: Element, const R: usize>(
    isa: Isa,
    threads: &Threads,
    terms: &(impl Terms<E, R> + Sync),
    read: [&[E]; R],
) -> f64 {
    let length = read[0].len();
    let chunk = length.div_ceil(BLOCK).div_ceil(PARTIAL_SUMS).max(1) * BLOCK;
    let mut partial_sums = [0.0; PARTIAL_SUMS];
    let shared = Disjoint::new(&mut partial_sums);
    for_each_task(threads, length.div_ceil(chunk), |index| {
        let range = index * chunk..length.min((index + 1) * chunk);
        // SAFETY: every task has its own element.
        let own = unsafe { shared.slice(index..index + 1) };
        own[0] = E::dispatch(isa, Total { terms, read: read.map(|array| &array[range.clone()]) });
    });
    partial_sums.iter().sum()
}

struct Apply<'a, M, E, const W: usize, const R: usize> {
    operation: &'a M,
    written: [&'a mut [E]; W],
    read: [&'a [E]; R],
}

impl<E: Element, M: Map<E, W, R>, const W: usize, const R: usize> Kernel<E> for Apply<'_, M, E, W, R> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) {
        map(lane, self.operation, self.written, self.read);
    }
}

struct Total<'a, T, E, const R: usize> {
    terms: &'a T,
    read: [&'a [E]; R],
}

impl<E: Element, T: Terms<E, R>, const R: usize> Kernel<E> for Total<'_, T, E, R> {
    type Output = f64;
    #[inline(always)]
    fn run<L: Lane<Element = E>>(self, lane: L) -> f64 {
        sum(lane, self.terms, self.read)
    }
}

/// Applies `operation` on this thread, inside a kernel.
#[inline(always)]
pub(crate) fn map<L: Lane, const W: usize, const R: usize>(
    lane: L,
    operation: &impl Map<L::Element, W, R>,
    mut written: [&mut [L::Element]; W],
    read: [&[L::Element]; R],
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
            let new = operation.map(lane, old, core::array::from_fn(|i| lane.load(read[i].as_ptr().add(at))));
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
            let read = core::array::from_fn(|i| lane.load_first(read[i].as_ptr().add(at), rest));
            let new = operation.map(lane, old, read);
            for i in 0..W {
                lane.store_first(written[i].add(at), rest, new[i]);
            }
        }
    }
}

/// The sum of `terms` on this thread, inside a kernel.
#[inline(always)]
pub(crate) fn sum<L: Lane, const R: usize>(
    lane: L,
    terms: &impl Terms<L::Element, R>,
    read: [&[L::Element]; R],
) -> f64 {
    let mut total = 0.0;
    for first in (0..read[0].len()).step_by(BLOCK) {
        let end = read[0].len().min(first + BLOCK);
        total += fold(lane, &Sum(terms), core::array::from_fn(|i| &read[i][first..end])).to_f64();
    }
    total
}

/// The largest element, negative infinity of none. NaNs are ignored.
#[inline(always)]
pub(crate) fn maximum<L: Lane>(lane: L, x: &[L::Element]) -> L::Element {
    fold(lane, &Largest, [x])
}

/// A reduction: independent chains over the elements, joined at the end.
trait Fold<E: Element, const R: usize> {
    /// What every chain starts from.
    const START: f64;
    fn step<L: Lane<Element = E>>(&self, lane: L, chains: L::Vector, read: [L::Vector; R]) -> L::Vector;
    fn join<L: Lane<Element = E>>(&self, lane: L, a: L::Vector, b: L::Vector) -> L::Vector;
    fn join_two(&self, a: E, b: E) -> E;
}

struct Sum<'a, T>(&'a T);

impl<E: Element, T: Terms<E, R>, const R: usize> Fold<E, R> for Sum<'_, T> {
    const START: f64 = 0.0;
    #[inline(always)]
    fn step<L: Lane<Element = E>>(&self, lane: L, sums: L::Vector, read: [L::Vector; R]) -> L::Vector {
        self.0.add(lane, sums, read)
    }
    #[inline(always)]
    fn join<L: Lane<Element = E>>(&self, lane: L, a: L::Vector, b: L::Vector) -> L::Vector {
        lane.add(a, b)
    }
    #[inline(always)]
    fn join_two(&self, a: E, b: E) -> E {
        a + b
    }
}

struct Largest;

impl<E: Element> Fold<E, 1> for Largest {
    const START: f64 = f64::NEG_INFINITY;
    #[inline(always)]
    fn step<L: Lane<Element = E>>(&self, lane: L, largest: L::Vector, [x]: [L::Vector; 1]) -> L::Vector {
        self.join(lane, largest, x)
    }
    #[inline(always)]
    fn join<L: Lane<Element = E>>(&self, lane: L, a: L::Vector, b: L::Vector) -> L::Vector {
        lane.select(lane.less(a, b), b, a)
    }
    #[inline(always)]
    fn join_two(&self, a: E, b: E) -> E {
        if a < b { b } else { a }
    }
}

/// Element j goes into chain j mod 64; then chain j is joined with chain j + 32, j with j + 16, and so on down to one.
#[inline(always)]
fn fold<L: Lane, F: Fold<L::Element, R>, const R: usize>(
    lane: L,
    operation: &F,
    read: [&[L::Element]; R],
) -> L::Element {
    const { assert!(CHAINS / 4 == LAST && LAST.is_multiple_of(L::WIDTH)) };
    let length = read[0].len();
    assert!(read.iter().all(|array| array.len() == length), "arrays of one length");
    let vectors = CHAINS / L::WIDTH;
    let rest = length % CHAINS;
    // 16 vectors of the narrowest lane; a wider one needs fewer.
    let mut chains = [lane.splat(L::Element::from_f64(F::START)); 16];
    for first in (0..length - rest).step_by(CHAINS) {
        for (v, chain) in chains.iter_mut().enumerate().take(vectors) {
            // SAFETY: vector v ends (v + 1) · WIDTH <= CHAINS elements after `first`, and first + CHAINS <= `length`.
            let x = core::array::from_fn(|i| unsafe { lane.load(read[i].as_ptr().add(first + v * L::WIDTH)) });
            *chain = operation.step(lane, *chain, x);
        }
    }
    let places: [L::Element; LAST] = core::array::from_fn(|place| L::Element::from_f64(place as f64));
    for (v, chain) in chains.iter_mut().enumerate().take(vectors) {
        let count = rest.saturating_sub(v * L::WIDTH).min(L::WIDTH);
        let at = length - rest + v * L::WIDTH;
        if count > 0 {
            // SAFETY: at + count <= length, and a lane has at most LAST elements.
            unsafe {
                let x = core::array::from_fn(|i| lane.load_first(read[i].as_ptr().add(at), count));
                let inside = lane.less(lane.load(places.as_ptr()), lane.splat(L::Element::from_f64(count as f64)));
                *chain = lane.select(inside, operation.step(lane, *chain, x), *chain);
            }
        }
    }
    let mut half = vectors;
    while half > 1 {
        half /= 2;
        for v in 0..half {
            chains[v] = operation.join(lane, chains[v], chains[v + half]);
        }
    }
    let mut last = [L::Element::ZERO; LAST];
    // SAFETY: a lane has at most LAST elements.
    unsafe { lane.store(last.as_mut_ptr(), chains[0]) };
    let mut half = L::WIDTH;
    while half > 1 {
        half /= 2;
        for j in 0..half {
            last[j] = operation.join_two(last[j], last[j + half]);
        }
    }
    last[0]
}
