//! Which tags may follow which, where tags mark spans.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use throughline_kernels::ops::TagScores;

use crate::error::{Error, Result};

/// How tags mark spans. A label is `O` for a unit outside of all spans, or one letter, and behind a hyphen the type of the
/// span (`B-PER`); where there is one type, the letter may stand alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `B` begins a span, `I` goes on in it (IOB2; Tjong Kim Sang and Veenstra 1999).
    Bio,
    /// `B` begins a span of several units, `I` goes on in it, `E` ends it; `S` is a span of a single unit.
    Iobes,
}

impl Scheme {
    /// The letters of tags in a span.
    fn letters(self) -> &'static [&'static str] {
        match self {
            Self::Bio => &["B", "I"],
            Self::Iobes => &["B", "I", "E", "S"],
        }
    }

    fn parse(self, label: &str) -> Result<Label<'_>> {
        let (letter, kind) = label.split_once('-').unwrap_or((label, ""));
        if label == "O" || self.letters().contains(&letter) {
            return Ok(Label { letter, kind });
        }
        let expected = match self {
            Self::Bio => "O, B-TYPE or I-TYPE",
            Self::Iobes => "O, B-TYPE, I-TYPE, E-TYPE or S-TYPE",
        };
        Err(Error::Labels { expected: expected.to_string(), found: format!("{label:?}") })
    }

    /// Whether a span goes on after a tag of this letter.
    fn may_go_on(self, letter: &str) -> bool {
        matches!(letter, "B" | "I")
    }

    /// Whether a span may end after a tag of this letter.
    fn may_stop(self, letter: &str) -> bool {
        self == Self::Bio || !matches!(letter, "B" | "I")
    }

    /// Whether a tag of this letter goes on in a span.
    fn goes_on(self, letter: &str) -> bool {
        matches!(letter, "I" | "E")
    }
}

/// Which paths are well-formed.
///
/// They restrict [`decode`](super::Crf::decode) alone. Training does without: a well-formed path is soon the likelier one
/// (Lample et al. 2016 learn as much), and where data hold a path that is not, its loss would be infinite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraints {
    /// `[K, K]`: whether a tag (the row) may stand before another (the column).
    transitions: Vec<bool>,
    /// `[K]`: whether a tag may be the first, and the last.
    start: Vec<bool>,
    end: Vec<bool>,
}

/// A label in its two parts.
#[derive(Clone, Copy)]
struct Label<'a> {
    letter: &'a str,
    kind: &'a str,
}

impl Constraints {
    /// Those of `labels`, the names of tags 0 to K-1.
    ///
    /// # Errors
    /// [`Error::Labels`] if a label is none of the scheme, or a sequence of one unit could have no tag.
    pub fn new<S: AsRef<str>>(scheme: Scheme, labels: &[S]) -> Result<Self> {
        let labels = labels.iter().map(|label| scheme.parse(label.as_ref())).collect::<Result<Vec<_>>>()?;
        let follows = |from: Label<'_>, to: Label<'_>| match scheme.goes_on(to.letter) {
            true => scheme.may_go_on(from.letter) && from.kind == to.kind,
            false => scheme.may_stop(from.letter),
        };
        let constraints = Self {
            transitions: labels.iter().flat_map(|&from| labels.iter().map(move |&to| follows(from, to))).collect(),
            start: labels.iter().map(|label| !scheme.goes_on(label.letter)).collect(),
            end: labels.iter().map(|label| scheme.may_stop(label.letter)).collect(),
        };
        // Such a tag may also follow itself, so there is a path of every length.
        if (0..labels.len()).any(|tag| constraints.may_start(tag) && constraints.may_end(tag)) {
            return Ok(constraints);
        }
        let single = if scheme == Scheme::Bio { "O or a label B-TYPE" } else { "O or a label S-TYPE" };
        Err(Error::Labels { expected: format!("{single}, for a sequence of one unit"), found: "neither".to_string() })
    }

    /// K
    pub fn tags(&self) -> usize {
        self.start.len()
    }

    /// Whether tag `from` may stand before tag `to`.
    ///
    /// # Panics
    /// If there is no such tag.
    pub fn may_follow(&self, from: usize, to: usize) -> bool {
        assert!(from < self.tags() && to < self.tags(), "tags {from} and {to} are below {}", self.tags());
        self.transitions[from * self.tags() + to]
    }

    /// Whether a sequence may begin with `tag`.
    ///
    /// # Panics
    /// If there is no such tag.
    pub fn may_start(&self, tag: usize) -> bool {
        self.start[tag]
    }

    /// Whether a sequence may end with `tag`.
    ///
    /// # Panics
    /// If there is no such tag.
    pub fn may_end(&self, tag: usize) -> bool {
        self.end[tag]
    }

    /// Writes `scores` to `restricted`, with negative infinity for what is not allowed.
    pub(super) fn restrict(&self, scores: &TagScores, restricted: &mut TagScores) {
        assert_eq!(self.tags(), scores.start.len(), "constraints of as many tags as the model has");
        for (to, from, allowed) in [
            (&mut restricted.transitions, &scores.transitions, &self.transitions),
            (&mut restricted.start, &scores.start, &self.start),
            (&mut restricted.end, &scores.end, &self.end),
        ] {
            let score = |(&score, &allowed): (&f64, &bool)| if allowed { score } else { f64::NEG_INFINITY };
            to.clear();
            to.extend(from.iter().zip(allowed).map(score));
        }
    }
}
