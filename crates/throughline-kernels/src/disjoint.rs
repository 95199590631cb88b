//! An array that several threads write, each its own elements.

use core::marker::PhantomData;
use core::ops::Range;

/// A mutably borrowed array that is handed out in slices that do not overlap.
pub(crate) struct Disjoint<'a, T> {
    start: *mut T,
    length: usize,
    array: PhantomData<&'a mut [T]>,
}

// SAFETY: it stands for an exclusive borrow of T: Send, and a caller that takes elements on another thread guarantees
// that nothing else uses them.
unsafe impl<T: Send> Send for Disjoint<'_, T> {}
// SAFETY: sharing it shares only a pointer: `at` returns a raw pointer and `slice` is unsafe, so the code that accesses
// an element guarantees that no other thread does.
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

    /// The element at `index`, which is inside the array or one past its end. The code that dereferences the pointer
    /// guarantees that nothing else uses the elements it touches.
    #[inline(always)]
    pub(crate) fn at(self, index: usize) -> *mut T {
        debug_assert!(index <= self.length, "element {index} of {}", self.length);
        self.start.wrapping_add(index)
    }

    /// The elements `range`.
    ///
    /// # Safety
    /// No other slice or pointer to any of these elements is in use.
    #[inline(always)]
    pub(crate) unsafe fn slice(self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.length, "elements {range:?} of {}", self.length);
        // SAFETY: the range lies inside the array, which is borrowed for 'a; the caller guarantees that nothing else in
        // use overlaps it.
        unsafe { core::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}
