//! Texts to learn from, unit by unit: those of a grammar, made as they are needed, or parts of a given one.

use std::collections::HashMap;

use throughline_kernels::random::Stream;
use throughline_kernels::sequence::Ragged;

use crate::learner::Batch;
use crate::problems::one_hot;

/// Kinds of brackets, the words that are said within one, and how deep they nest.
const BRACKETS: usize = 4;
const WORDS: usize = 6;
const DEEPEST: usize = 8;
/// Opening brackets, closing ones, words.
const UNITS: usize = 2 * BRACKETS + WORDS;

/// The probability of each unit after what was written so far, of which the open brackets tell all.
fn probabilities(open: &[usize]) -> [f64; UNITS] {
    const OPENS: f64 = 0.25;
    const CLOSES: f64 = 0.25;
    let mut all = [0.0; UNITS];
    let (mut words, innermost) = (1.0, open.last());
    if open.len() < DEEPEST {
        all[..BRACKETS].fill(OPENS / BRACKETS as f64);
        words -= OPENS;
    }
    if let Some(&innermost) = innermost {
        all[BRACKETS + innermost] = CLOSES;
        words -= CLOSES;
    }
    // Within a bracket, its word is said more often than the others.
    for (word, probability) in all[2 * BRACKETS..].iter_mut().enumerate() {
        *probability = match innermost {
            Some(&innermost) if innermost == word => 0.75 * words,
            Some(_) => 0.25 * words / (WORDS - 1) as f64,
            None => words / WORDS as f64,
        };
    }
    all
}

/// A text of so many units, and the nats of all but the first, which nobody can do without.
fn grammatical(random: &mut Stream, length: usize) -> (Vec<u32>, f64) {
    let (mut open, mut units, mut nats) = (Vec::new(), Vec::new(), 0.0);
    for _ in 0..length {
        let all = probabilities(&open);
        let mut left = random.uniform();
        let unit = all.iter().position(|p| {
            left -= p;
            left < 0.0
        });
        // Rounding may leave a little of 1.
        let unit = unit.unwrap_or(UNITS - 1);
        nats -= if units.is_empty() { 0.0 } else { all[unit].ln() };
        match unit {
            _ if unit < BRACKETS => open.push(unit),
            _ if unit < 2 * BRACKETS => _ = open.pop(),
            _ => (),
        }
        units.push(unit as u32);
    }
    (units, nats)
}

/// A text that somebody gives, as characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    units: Vec<u32>,
    /// Different units; the last of them stands for all rare characters.
    count: usize,
}

/// Characters that are told apart; all others are one unit.
const CHARACTERS: usize = 127;
/// One part in so many is for tests: the last.
const TESTED: usize = 10;

impl Text {
    /// The fewest characters of a text: in its tests there must be room for a sequence.
    pub const FEWEST: usize = 2000;

    /// `text`, in which the 127 most frequent characters are told apart; `None` if it has fewer than [`FEWEST`](Self::FEWEST).
    pub fn new(text: &str) -> Option<Self> {
        let mut counts = HashMap::<char, usize>::new();
        text.chars().for_each(|character| *counts.entry(character).or_default() += 1);
        let mut frequent: Vec<(char, usize)> = counts.into_iter().collect();
        frequent.sort_by_key(|&(character, count)| (std::cmp::Reverse(count), character));
        frequent.truncate(CHARACTERS);
        let unit_of: HashMap<char, u32> =
            (0..).zip(&frequent).map(|(unit, &(character, _))| (character, unit)).collect();
        let other = frequent.len() as u32;
        let units: Vec<u32> = text.chars().map(|character| *unit_of.get(&character).unwrap_or(&other)).collect();
        (units.len() >= Self::FEWEST).then_some(Self { units, count: frequent.len() + 1 })
    }

    fn part(&self, part: Part) -> &[u32] {
        let (training, tests) = self.units.split_at(self.units.len() - self.units.len() / TESTED);
        match part {
            Part::Training => training,
            Part::Tests => tests,
        }
    }
}

/// What texts are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Training,
    Tests,
}

/// Where texts are from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// A grammar of brackets and words, which is known, and so is the least that can be lost.
    Grammar,
    /// Somebody's text.
    Given(&'a Text),
}

impl Source<'_> {
    /// Different units.
    pub fn units(self) -> usize {
        match self {
            Self::Grammar => UNITS,
            Self::Given(text) => text.count,
        }
    }

    /// `count` texts: of each `length` units are read, and after each the next is to be found; and the nats for each that nobody can
    /// do without, as far as that is known.
    ///
    /// # Panics
    /// If a part of the given text is no longer than `length`.
    pub fn draw(self, random: &mut Stream, part: Part, count: usize, length: usize) -> (Batch<u32>, f64) {
        let mut least = 0.0;
        let mut text = || match self {
            Self::Grammar => {
                let (units, nats) = grammatical(random, length + 1);
                least += nats;
                units
            }
            Self::Given(text) => {
                let units = text.part(part);
                units[random.below(units.len() - length)..][..=length].to_vec()
            }
        };
        let texts: Vec<Vec<u32>> = (0..count).map(|_| text()).collect();
        let (rows, mut x, mut targets) = (Ragged::even(length, count), Vec::new(), Vec::new());
        rows.for_each_row(|_, text, t| {
            x.extend(one_hot(self.units(), texts[text][t] as usize));
            targets.push(texts[text][t + 1]);
        });
        (Batch { rows, x, targets }, least / (count * length) as f64)
    }

    /// What is measured.
    pub fn measured(self) -> &'static str {
        match self {
            Self::Grammar => "nats above the grammar",
            Self::Given(_) => "nats a character",
        }
    }

    /// What is read, in a sentence, given the least loss on the test texts.
    pub fn about(self, least: f64) -> String {
        match self {
            Self::Grammar => format!(
                "The text is written by a grammar: {BRACKETS} kinds of brackets that nest at most {DEEPEST} deep, and {WORDS} words of \
                 which the innermost open bracket makes one likely, so that good guesses need all brackets that are open. The \
                 grammar's own loss on the test texts is {least:.3} nats a unit; what a model loses beyond it is counted."
            ),
            Self::Given(text) => {
                let rare = text.units.iter().filter(|&&unit| unit as usize + 1 == text.count).count();
                format!(
                    "The text is a given one of {} characters; {} different ones are told apart, and all others, {:.1} % of it, are \
                     one. Its last tenth is for tests.",
                    text.units.len(),
                    text.count - 1,
                    100.0 * rare as f64 / text.units.len() as f64
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problems::random;

    #[test]
    fn the_grammar_is_one() {
        for open in [&[][..], &[2], &[0, 3, 1], &[1; DEEPEST]] {
            let all = probabilities(open);
            assert!((all.iter().sum::<f64>() - 1.0).abs() < 1e-12 && all.iter().all(|p| *p >= 0.0), "{all:?}");
            let closing = (0..BRACKETS).filter(|&kind| all[BRACKETS + kind] > 0.0).collect::<Vec<_>>();
            assert_eq!(closing, open.last().copied().into_iter().collect::<Vec<_>>());
            assert_eq!(all[0] > 0.0, open.len() < DEEPEST);
        }
    }

    #[test]
    fn texts_close_what_they_open() {
        let (batch, nats) = Source::Grammar.draw(&mut random(1, 0), Part::Training, 50, 80);
        assert!(nats > 1.0 && nats < (UNITS as f64).ln(), "{nats}");
        let mut open = vec![Vec::new(); 50];
        batch.rows.for_each_row(|row, text, _| {
            let unit = batch.x[row * UNITS..][..UNITS].iter().position(|&x| x == 1.0).unwrap();
            match unit {
                _ if unit < BRACKETS => open[text].push(unit),
                _ if unit < 2 * BRACKETS => assert_eq!(open[text].pop(), Some(unit - BRACKETS)),
                _ => (),
            }
            assert!(probabilities(&open[text])[batch.targets[row] as usize] > 0.0);
        });
    }

    #[test]
    fn a_given_text_is_cut_into_two_parts() {
        let given: String =
            (0..Text::FEWEST).map(|place| if place < 1800 { 'a' } else { ['b', 'c'][place % 2] }).collect();
        assert_eq!(Text::new(&given[1..]), None);
        let text = Text::new(&given).unwrap();
        assert_eq!(text.count, 4);
        let source = Source::Given(&text);
        let (training, _) = source.draw(&mut random(1, 0), Part::Training, 3, 5);
        assert!(training.targets.iter().all(|&unit| unit == 0));
        let (tests, least) = source.draw(&mut random(1, 1), Part::Tests, 3, 5);
        assert_eq!((tests.rows.rows(), least), (15, 0.0));
        // b and c take turns, so each is followed by the other.
        for (x, target) in tests.x.chunks(4).zip(&tests.targets) {
            assert_eq!(x.iter().position(|&x| x == 1.0).unwrap() as u32 + target, 3);
        }
    }

    #[test]
    fn rare_characters_are_one_unit() {
        let many = ('\u{100}'..).take(200).collect::<String>().repeat(10) + &"x".repeat(20);
        let text = Text::new(&many).unwrap();
        assert_eq!((text.count, text.units[199], text.units[2000]), (CHARACTERS + 1, CHARACTERS as u32, 0));
    }
}
