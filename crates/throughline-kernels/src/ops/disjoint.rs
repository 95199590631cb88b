//! One array whose parts several threads write.

use core::marker::PhantomData;
use core::ops::Range;

use crate::threads::Threads;

/// Elements of an array that make one task of an elementwise operation.
const PIECE: usize = 1 << 14;

/// A borrowed array that is given out in parts.
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    length: usize,
    array: PhantomData<&'a mut [T]>,
}

// SAFETY: it stands for an exclusive borrow, and whoever takes a part vouches that nobody else has its elements.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(array: &'a mut [T]) -> Self {
        Self { start: array.as_mut_ptr(), length: array.len(), array: PhantomData }
    }

    /// The elements `range`.
    ///
    /// # Safety
    /// No part with any of these elements is in use.
    #[inline(always)]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.length, "part {range:?} of {} elements", self.length);
        // SAFETY: the range lies inside the array, which is borrowed for 'a; the caller vouches that no other part in use
        // overlaps it.
        unsafe { core::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

/// Shares out `work` on each of `tasks` indices.
pub(crate) fn for_each_task(threads: &Threads, tasks: usize, work: impl Fn(usize) + Sync) {
    // Elements without a size take no memory.
    let mut scratch = alloc::vec![(); threads.count()];
    threads.for_each(tasks, &mut scratch, |index, ()| work(index));
}

/// Cuts `length` elements into fixed pieces and shares out `work` on each.
pub(crate) fn for_each_piece(threads: &Threads, length: usize, work: impl Fn(Range<usize>) + Sync) {
    for_each_task(threads, length.div_ceil(PIECE), |index| {
        work(index * PIECE..length.min((index + 1) * PIECE));
    });
}
