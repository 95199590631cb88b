//! One array whose parts several threads write.

use core::marker::PhantomData;
use core::ops::Range;

/// A borrowed array that is given out in parts.
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    length: usize,
    array: PhantomData<&'a mut [T]>,
}

// SAFETY: it stands for an exclusive borrow, and whoever takes a part vouches that nobody else has its elements.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}
// SAFETY: sharing it shares only a pointer: `at` hands out the pointer and `part` is unsafe, so whoever touches an element
// vouches that no other thread does.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<T> Clone for Disjoint<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(array: &'a mut [T]) -> Self {
        Self { start: array.as_mut_ptr(), length: array.len(), array: PhantomData }
    }

    /// How many elements it has.
    pub(crate) fn length(self) -> usize {
        self.length
    }

    /// The element at `index`, which is inside the array or one past its end. Whoever uses the pointer vouches that nobody
    /// else has the elements it touches.
    #[inline(always)]
    pub(crate) fn at(self, index: usize) -> *mut T {
        debug_assert!(index <= self.length, "element {index} of {}", self.length);
        self.start.wrapping_add(index)
    }

    /// The elements `range`.
    ///
    /// # Safety
    /// No part with any of these elements is in use.
    #[inline(always)]
    pub(crate) unsafe fn part(self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.length, "part {range:?} of {} elements", self.length);
        // SAFETY: the range lies inside the array, which is borrowed for 'a; the caller vouches that no other part in use
        // overlaps it.
        unsafe { core::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
