//! Which tags may follow which.

use alloc::vec::Vec;

use throughline_kernels::ops::TagScores;

/// Which paths are well-formed, where tags mark spans such as the entities of a sentence.
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

impl Constraints {
    /// The constraints of K `tags`: `allows(from, to)` says whether one may stand before the other, `None` being the start of
    /// a sequence and its end. `None` unless there is a path of every length: a tag that may start, follow itself and end.
    pub fn new(tags: usize, allows: impl Fn(Option<usize>, Option<usize>) -> bool) -> Option<Self> {
        let pairs = (0..tags).flat_map(|from| (0..tags).map(move |to| (from, to)));
        let constraints = Self {
            transitions: pairs.map(|(from, to)| allows(Some(from), Some(to))).collect(),
            start: (0..tags).map(|tag| allows(None, Some(tag))).collect(),
            end: (0..tags).map(|tag| allows(Some(tag), None)).collect(),
        };
        let goes_on = |tag: usize| constraints.start[tag] && constraints.may_follow(tag, tag) && constraints.end[tag];
        (0..tags).any(goes_on).then_some(constraints)
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
