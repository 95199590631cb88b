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
        let storage = alloc::vec![E::ZERO; length + slack];
        let start = storage.as_ptr().align_offset(ALIGNMENT);
        assert!(start <= slack, "an allocation of numbers can be aligned to a cache line");
        Self { storage, start, length }
    }

    /// The first `length` elements, whatever they hold; allocates only when the buffer was never that long.
    pub fn at_least(&mut self, length: usize) -> &mut [E] {
        if self.length < length {
            *self = Self::zeros(length);
        }
        &mut self[..length]
    }
}

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
