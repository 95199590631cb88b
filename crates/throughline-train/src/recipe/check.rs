//! Checks of single values, whose errors name the key and where it was given.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::ops::RangeInclusive;

use crate::{Error, Origin, Result};

/// No count of updates, units or examples is larger.
pub(crate) const LARGEST_COUNT: u64 = 1_000_000_000_000;
/// No size of a layer or a batch is larger.
pub(crate) const LARGEST_SIZE: usize = 65_536;
/// No stride or window is larger.
pub(crate) const LONGEST_WINDOW: usize = 1 << 20;

/// Where each given key came from; a key that is not here has its default.
pub(super) type Origins = BTreeMap<String, Origin>;

/// Makes errors out of wrong values.
#[derive(Debug)]
pub struct Check<'a> {
    pub(super) origins: &'a Origins,
}

impl Check<'_> {
    /// `value` must be within `range`.
    pub(crate) fn within<T: PartialOrd + Display>(&self, key: &str, value: T, range: RangeInclusive<T>) -> Result<()> {
        if range.contains(&value) {
            return Ok(());
        }
        Err(self.error(key, format_args!("{} to {}", range.start(), range.end()), value))
    }

    /// `value` must be a share or a probability below 1, in single precision too.
    pub(crate) fn share_below_one(&self, key: &str, value: f64) -> Result<()> {
        self.require(key, (0.0..1.0).contains(&value) && (value as f32) < 1.0, "a number from 0 to below 1", value)
    }

    /// `value` must be above 0, and at most `largest`.
    pub(crate) fn above_zero(&self, key: &str, value: f64, largest: f64) -> Result<()> {
        self.require(key, value > 0.0 && value <= largest, format!("a number above 0, at most {largest}"), value)
    }

    /// `holds` must be true of the value `found`.
    pub(crate) fn require(&self, key: &str, holds: bool, expected: impl Display, found: impl Debug) -> Result<()> {
        if holds { Ok(()) } else { Err(self.error(key, expected, format_args!("{found:?}"))) }
    }

    pub(crate) fn error(&self, key: &str, expected: impl Display, found: impl Display) -> Error {
        Error::recipe(&self.origins.get(key).cloned().unwrap_or_default(), key, expected, found)
    }
}
