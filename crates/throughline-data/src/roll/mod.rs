//! Piano rolls: which pitches sound at each step.

pub(crate) mod json;
pub(crate) mod midi;
pub(crate) mod reader;

use std::fmt;

/// A set of MIDI pitches, 0 to 127; 60 is middle C.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Pitches(u128);

impl Pitches {
    /// One more than the highest pitch.
    pub const COUNT: usize = 128;

    /// Adds a pitch; returns whether it was not there before.
    ///
    /// # Panics
    /// If `pitch` is above 127.
    pub fn insert(&mut self, pitch: u8) -> bool {
        let bit = 1_u128 << pitch;
        let new = self.0 & bit == 0;
        self.0 |= bit;
        new
    }

    /// Whether it has the pitch.
    ///
    /// # Panics
    /// If `pitch` is above 127.
    pub fn contains(self, pitch: u8) -> bool {
        self.0 & (1 << pitch) != 0
    }

    /// How many pitches.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The pitches of both.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The pitches that `other` does not have.
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The pitches in ascending order.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let lowest = rest.trailing_zeros();
            rest &= rest.wrapping_sub(1);
            (lowest < 128).then_some(lowest as u8)
        })
    }
}

impl FromIterator<u8> for Pitches {
    fn from_iter<I: IntoIterator<Item = u8>>(pitches: I) -> Self {
        let mut set = Self::default();
        for pitch in pitches {
            set.insert(pitch);
        }
        set
    }
}

impl fmt::Debug for Pitches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// A piece: the pitches that sound at each step. A pitch at two steps in a row is one note that is held.
pub type PianoRoll = Vec<Pitches>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_pitches() {
        let mut set: Pitches = [60, 0, 127, 60].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 60, 127]);
        assert!(set.insert(1) && !set.insert(1) && set.contains(1) && !set.contains(2));
        assert_eq!((set.len(), Pitches::default().len(), Pitches::default().is_empty()), (4, 0, true));
        let other: Pitches = [1, 2].into_iter().collect();
        assert_eq!((set.and(other).iter().collect::<Vec<_>>(), other.without(set).iter().count()), (vec![1], 1));
        assert_eq!(format!("{other:?}"), "{1, 2}");
    }
}
