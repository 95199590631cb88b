//! Which arrays of a trace are wanted.

use glob::Pattern;
use throughline_infer::{Error, Result};

/// Names of arrays, or patterns of them in which `*` stands for any text; all of them by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection(Vec<Pattern>);

impl Selection {
    /// The arrays that one of `patterns` matches; all if there are none.
    ///
    /// # Errors
    /// [`Error::Input`] if a pattern is none.
    pub fn new<P: AsRef<str>>(patterns: &[P]) -> Result<Self> {
        let pattern = |pattern: &P| {
            let pattern = pattern.as_ref();
            Pattern::new(pattern).map_err(|wrong| Error::Input {
                expected: "a name of arrays such as rnn.l0.forget, or a pattern such as *.forget".to_owned(),
                found: format!("{pattern:?} ({})", wrong.msg),
            })
        };
        patterns.iter().map(pattern).collect::<Result<_>>().map(Self)
    }

    /// Whether the array `name` is wanted.
    pub fn takes(&self, name: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|pattern| pattern.matches(name))
    }

    /// The first pattern that matches none of `names`.
    pub(crate) fn without_match(&self, names: &[String]) -> Option<&str> {
        let matches_none = |pattern: &&Pattern| !names.iter().any(|name| pattern.matches(name));
        self.0.iter().find(matches_none).map(Pattern::as_str)
    }
}
