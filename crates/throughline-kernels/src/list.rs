//! A list of bounded length on the stack.

use core::mem::MaybeUninit;
use core::ops::Deref;

/// Up to N values; making an empty one writes nothing.
pub(crate) struct List<T: Copy, const N: usize> {
    values: [MaybeUninit<T>; N],
    length: usize,
}

impl<T: Copy, const N: usize> List<T, N> {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self { values: [const { MaybeUninit::uninit() }; N], length: 0 }
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, value: T) {
        self.values[self.length].write(value);
        self.length += 1;
    }

    #[inline(always)]
    pub(crate) fn clear(&mut self) {
        self.length = 0;
    }
}

impl<T: Copy, const N: usize> Deref for List<T, N> {
    type Target = [T];
    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: `push` has written the first `length` values.
        unsafe { core::slice::from_raw_parts(self.values.as_ptr().cast(), self.length) }
    }
}
