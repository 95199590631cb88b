//! The units of a text.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, quoted};

/// The unit that a text is cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Unit {
    /// A character, that is, a Unicode scalar value.
    Char,
    /// A byte of the text in UTF-8.
    Byte,
    /// A word between white space. A line feed is a word of its own, so that lines are kept; other white space is lost.
    Word,
}

impl Unit {
    /// All units.
    pub const ALL: [Self; 3] = [Self::Char, Self::Byte, Self::Word];

    /// `char`, `byte` or `word`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Char => "char",
            Self::Byte => "byte",
            Self::Word => "word",
        }
    }

    /// `characters`, `bytes` or `words`, for messages.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Char => "characters",
            Self::Byte => "bytes",
            Self::Word => "words",
        }
    }

    /// The number of units in `text`.
    pub fn count(self, text: &str) -> usize {
        match self {
            Self::Char => text.chars().count(),
            Self::Byte => text.len(),
            Self::Word => words(text).count(),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Unit {
    type Err = Error;

    /// # Errors
    /// [`Error::Setting`] for anything but a [`name`](Unit::name).
    fn from_str(name: &str) -> Result<Self> {
        let unit = Self::ALL.into_iter().find(|unit| unit.name() == name);
        unit.ok_or_else(|| Error::setting("unit", "`char`, `byte` or `word`", quoted(name)))
    }
}

/// The words of `text`, with a `"\n"` for each line feed.
pub(crate) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n').flat_map(|line| line.split_whitespace().chain(line.ends_with('\n').then_some("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_have_names() {
        for unit in Unit::ALL {
            assert_eq!(unit.to_string().parse::<Unit>().unwrap(), unit);
            assert_eq!(serde_json::to_string(&unit).unwrap(), format!("\"{unit}\""));
        }
        assert!(matches!("chars".parse::<Unit>(), Err(Error::Setting { key: "unit", .. })));
    }
}
