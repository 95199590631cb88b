//! A growable buffer whose elements begin on a cache line.

use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

use throughline_simd::Element;

/// Bytes of a cache line, and of the widest vector.
const ALIGNMENT: usize = 64;

/// Elements that begin at a multiple of 64 bytes.
#[derive(Debug, Default)]
pub struct Buffer<E> {
    storage: Vec<E>,
    start: usize,
    length: usize,
}

impl<E: Element> Buffer<E> {
    /// `length` zeros.
    pub fn zeros(length: usize) -> Self {
        let slack = ALIGNMENT / size_of::<E>();
        let mut storage = alloc::vec![E::ZERO; length + slack];
        ask_for_huge_pages(&mut storage);
        let start = storage.as_ptr().align_offset(ALIGNMENT);
        assert!(start <= slack, "an allocation of numbers can be aligned to a cache line");
        Self { storage, start, length }
    }

    /// The first `length` elements, whatever they hold; allocates zeros if the buffer is shorter.
    pub fn at_least(&mut self, length: usize) -> &mut [E] {
        if self.length < length {
            *self = Self::zeros(length);
        }
        &mut self[..length]
    }
}

/// The least bytes of an array that is worth huge pages.
#[cfg(all(feature = "std", target_os = "linux"))]
const LARGE: usize = 4 << 20;

/// Asks the system to put a large array on huge pages: weights and tapes are read from end to end, and with ordinary
/// pages TLB misses take much of the time. A hint that changes no value; the system may refuse it.
#[cfg(all(feature = "std", target_os = "linux"))]
fn ask_for_huge_pages<E>(array: &mut [E]) {
    use core::ffi::{c_int, c_void};
    unsafe extern "C" {
        fn madvise(address: *mut c_void, length: usize, advice: c_int) -> c_int;
    }
    const HUGE_PAGES: c_int = 14;
    const PAGE: usize = 4096;
    if size_of_val(array) < LARGE {
        return;
    }
    let start = array.as_mut_ptr().cast::<u8>();
    let (from, end) = (start.align_offset(PAGE), size_of_val(array));
    // SAFETY: the pages from the first whole one to the array's end are mapped, and this advice changes no contents,
    // neither of the array nor of anything else on its last page. Where pages are larger, the system refuses and
    // nothing happens.
    unsafe { madvise(start.wrapping_add(from).cast(), end - from, HUGE_PAGES) };
}

#[cfg(not(all(feature = "std", target_os = "linux")))]
fn ask_for_huge_pages<E>(_: &mut [E]) {}

impl<E> Deref for Buffer<E> {
    type Target = [E];
    fn deref(&self) -> &[E] {
        &self.storage[self.start..self.start + self.length]
    }
}

impl<E> DerefMut for Buffer<E> {
    fn deref_mut(&mut self) -> &mut [E] {
        &mut self.storage[self.start..self.start + self.length]
    }
}

impl<E: Element> Clone for Buffer<E> {
    fn clone(&self) -> Self {
        let mut copy = Self::zeros(self.length);
        copy.copy_from_slice(self);
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_and_small_buffers_are_zero_and_aligned() {
        for length in [0, 1, 1000, 3 << 20] {
            let mut buffer = Buffer::<f32>::zeros(length);
            assert_eq!((buffer.len(), buffer.as_ptr().align_offset(ALIGNMENT)), (length, 0));
            assert!(buffer.iter().all(|&x| x == 0.0));
            buffer.fill(1.5);
            assert_eq!(buffer.clone()[..], buffer[..]);
            assert_eq!(buffer.at_least(length + 1).len(), length + 1);
        }
    }
}
