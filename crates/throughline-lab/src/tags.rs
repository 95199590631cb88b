//! Texts of letters with marks among them, whose tags ask for marks on both sides.

use throughline_kernels::ops::IGNORED;
use throughline_kernels::random::Stream;

use crate::learner::Batch;
use crate::problems::{one_hot, packed};

/// X and Y are marks, Q asks, the others mean nothing.
pub const UNITS: usize = 7;
const QUESTION: usize = 2;
/// Steps of a text.
pub const LENGTH: usize = 40;

/// Texts that begin and end with a mark.
pub struct Texts {
    units: Vec<Vec<usize>>,
}

impl Texts {
    pub fn draw(random: &mut Stream, count: usize) -> Self {
        let mut text = || -> Vec<usize> {
            let unit = |t: usize, random: &mut Stream| match random.below(10) {
                _ if t == 0 || t == LENGTH - 1 => random.below(2),
                0..2 => random.below(2),
                2..4 => QUESTION,
                _ => 3 + random.below(UNITS - 3),
            };
            (0..LENGTH).map(|t| unit(t, random)).collect()
        };
        Self { units: (0..count).map(|_| text()).collect() }
    }

    /// The texts with what `tag` says of each, a tag for each step; `None` where none is asked for.
    pub fn tagged(&self, tag: impl Fn(&Text<'_>, usize) -> Option<u32>) -> Batch<u32> {
        let steps = |units: &Vec<usize>| units.iter().map(|&unit| one_hot(UNITS, unit)).collect();
        let (rows, x) = packed(&self.units.iter().map(steps).collect::<Vec<Vec<_>>>());
        let mut targets = Vec::new();
        rows.for_each_row(|_, text, t| targets.push(tag(&Text(&self.units[text]), t).unwrap_or(IGNORED)));
        Batch { rows, x, targets }
    }

    /// For each row of the batch, in its order.
    pub fn for_each_row(&self, batch: &Batch<u32>, mut visit: impl FnMut(usize, &Text<'_>, usize)) {
        batch.rows.for_each_row(|row, text, t| visit(row, &Text(&self.units[text]), t));
    }
}

/// One of them.
pub struct Text<'a>(&'a [usize]);

impl Text<'_> {
    pub fn is_mark(&self, t: usize) -> bool {
        self.0[t] < 2
    }

    /// The nearest mark at or before a step: 0 for X, 1 for Y.
    pub fn last_mark(&self, t: usize) -> u32 {
        let place = (0..=t).rev().find(|&t| self.is_mark(t)).expect("a text begins with a mark");
        self.0[place] as u32
    }

    /// The nearest mark at or after a step.
    pub fn next_mark(&self, t: usize) -> u32 {
        self.0[self.next_place(t)] as u32
    }

    fn next_place(&self, t: usize) -> usize {
        (t..LENGTH).find(|&t| self.is_mark(t)).expect("a text ends with a mark")
    }

    /// Steps to the next mark.
    pub fn distance(&self, t: usize) -> usize {
        self.next_place(t) - t
    }

    /// Whether the last and the next mark differ.
    pub fn differ(&self, t: usize) -> u32 {
        self.last_mark(t) ^ self.next_mark(t)
    }

    /// Whether the marks around the last question differ; `None` where there is none before.
    pub fn question_differs(&self, t: usize) -> Option<u32> {
        let question = (0..t).rev().find(|&t| self.0[t] == QUESTION)?;
        Some(self.differ(question))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text by its letters.
    fn text(letters: &str) -> Vec<usize> {
        let units = |letter| "XYQabcd".find(letter).unwrap();
        let mut text: Vec<usize> = letters.chars().map(units).collect();
        text.resize(LENGTH - 1, 3);
        text.push(0);
        text
    }

    #[test]
    fn tags_follow_from_both_sides() {
        let units = text("XaQYaQbYQaXa");
        let text = Text(&units);
        assert_eq!((text.last_mark(1), text.next_mark(1), text.distance(1), text.differ(1)), (0, 1, 2, 1));
        assert_eq!((text.last_mark(3), text.next_mark(3), text.distance(3)), (1, 1, 0));
        // The questions are at 2 (marks differ), 5 (they do not) and 8 (they do).
        assert_eq!([1, 4, 6, 9].map(|t| text.question_differs(t)), [None, Some(1), Some(0), Some(1)]);
    }

    #[test]
    fn texts_are_framed_by_marks() {
        let texts = Texts::draw(&mut crate::problems::random(1, 0), 30);
        let batch = texts.tagged(|text, t| (!text.is_mark(t)).then(|| text.differ(t)));
        let [mut ones, mut all] = [0, 0];
        texts.for_each_row(&batch, |row, text, t| {
            assert_eq!(batch.targets[row] == IGNORED, text.is_mark(t));
            assert!(text.is_mark(t) || (t > 0 && t < LENGTH - 1));
            all += usize::from(!text.is_mark(t));
            ones += usize::from(batch.targets[row] == 1);
        });
        let share = f64::from(ones as u32) / f64::from(all as u32);
        assert!((0.35..0.65).contains(&share), "{share} of the tags are 1");
    }
}
