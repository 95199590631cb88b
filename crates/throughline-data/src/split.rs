//! Splitting a dataset into training, validation and test data.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use throughline_kernels::random::{Philox, Purpose};

use crate::error::{Error, Result};
use crate::unit::Unit;

/// The share of each split. If they add up to less than 1, the rest of the data is not used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fractions {
    train: f64,
    validation: f64,
    test: f64,
}

/// One of the three splits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Split {
    /// For training the model.
    #[serde(rename = "train")]
    Train,
    /// For choosing among models.
    #[serde(rename = "val")]
    Validation,
    /// For measuring the chosen model.
    #[serde(rename = "test")]
    Test,
}

impl Split {
    /// All three, in this order.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// `training`, `validation` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "training",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// A value for each of the three splits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Splits<T> {
    /// That of the training split.
    pub train: T,
    /// That of the validation split.
    pub validation: T,
    /// That of the test split.
    pub test: T,
}

impl<T> Splits<T> {
    /// The value of `split`.
    pub fn of(&self, split: Split) -> &T {
        match split {
            Split::Train => &self.train,
            Split::Validation => &self.validation,
            Split::Test => &self.test,
        }
    }

    /// Applies `f` to the value of each split, in order.
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> Splits<U> {
        Splits { train: f(self.train), validation: f(self.validation), test: f(self.test) }
    }
}

impl Fractions {
    /// The shares of the training, validation and test split.
    ///
    /// # Errors
    /// [`Error::Setting`] unless each share is from 0 to 1, that of training is above 0, and the sum is at most 1.
    pub fn new(train: f64, validation: f64, test: f64) -> Result<Self> {
        let shares = [train, validation, test];
        // The sum of shares such as 0.7, 0.2 and 0.1 may exceed 1 by rounding.
        let fits = shares.iter().all(|share| (0.0..=1.0).contains(share)) && shares.iter().sum::<f64>() < 1.0 + 1e-9;
        if fits && train > 0.0 {
            return Ok(Self { train, validation, test });
        }
        let expected = "train, validation and test shares from 0 to 1, with train above 0 and a sum of at most 1";
        Err(Error::setting("split", expected, format!("{shares:?}")))
    }

    /// The splits of a sequence of `length` items, in order: training first, then validation, then test.
    ///
    /// Each boundary is the running sum of the shares times `length`, rounded to the nearest item.
    pub fn ranges(&self, length: usize) -> Splits<Range<usize>> {
        let boundary = |share: f64| ((length as f64 * share).round() as usize).min(length);
        let train_end = boundary(self.train);
        let validation_end = boundary(self.train + self.validation);
        let test_end = boundary(self.train + self.validation + self.test);
        Splits { train: 0..train_end, validation: train_end..validation_end, test: validation_end..test_end }
    }

    /// The splits of a text, by [`ranges`](Self::ranges) of its units. A boundary between bytes that falls inside a
    /// character moves to the beginning of the character.
    pub fn split_text<'a>(&self, text: &'a str, unit: Unit) -> Splits<&'a str> {
        let ranges = self.ranges(unit.count(text));
        let [a, b, c] = [ranges.train.end, ranges.validation.end, ranges.test.end].map(|n| beginning(text, unit, n));
        Splits { train: &text[..a], validation: &text[a..b], test: &text[b..c] }
    }

    /// The splits of labelled examples, given the label of each, as ascending indices. Each class is shuffled by `seed`
    /// and split by [`ranges`](Self::ranges), so that all splits have the same proportions of classes up to rounding.
    /// Every class has at least one example in the training split.
    pub fn stratified(&self, labels: &[u32], seed: u64) -> Splits<Vec<usize>> {
        let mut by_class: Vec<(u32, usize)> = labels.iter().copied().zip(0..).collect();
        by_class.sort_unstable();
        let mut splits = Splits::<Vec<usize>>::default();
        for class in by_class.chunk_by(|a, b| a.0 == b.0) {
            let mut examples: Vec<usize> = class.iter().map(|&(_, example)| example).collect();
            Philox::new(seed, Purpose::Split, u64::from(class[0].0)).stream().shuffle(&mut examples);
            let ranges = self.ranges(examples.len());
            let train_end = ranges.train.end.max(1);
            let validation_end = ranges.validation.end.max(train_end);
            splits.train.extend(&examples[..train_end]);
            splits.validation.extend(&examples[train_end..validation_end]);
            splits.test.extend(&examples[validation_end..ranges.test.end.max(validation_end)]);
        }
        splits.map(|mut examples| {
            examples.sort_unstable();
            examples
        })
    }
}

/// The first `count` units of `text`, or all of it if it has fewer.
pub fn first_units(text: &str, unit: Unit, count: usize) -> &str {
    &text[..beginning(text, unit, count)]
}

/// The byte offset of unit `count` of `text`, from 0, or the length of `text` if it has no such unit.
fn beginning(text: &str, unit: Unit, count: usize) -> usize {
    let offset = match unit {
        Unit::Char => text.char_indices().map(|(offset, _)| offset).nth(count),
        Unit::Byte => (0..=count).rev().find(|&offset| text.is_char_boundary(offset)),
        Unit::Word => {
            let before = [' '].into_iter().chain(text.chars());
            let begins =
                |&((_, c), before): &((usize, char), char)| c == '\n' || !c.is_whitespace() && before.is_whitespace();
            text.char_indices().zip(before).filter(begins).map(|((offset, _), _)| offset).nth(count)
        }
    };
    offset.unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn shares_are_checked() {
        for (train, validation, test) in
            [(0.0, 0.5, 0.5), (0.9, 0.1, 0.1), (1.1, 0.0, 0.0), (0.5, -0.1, 0.1), (f64::NAN, 0.0, 0.0)]
        {
            let error = Fractions::new(train, validation, test);
            assert!(matches!(error, Err(Error::Setting { key: "split", .. })), "{train} {validation} {test}");
        }
        assert!(Fractions::new(0.7, 0.2, 0.1).is_ok());
    }

    #[test]
    fn a_sequence_is_split_in_order() {
        let ranges = Fractions::new(0.9, 0.05, 0.05).unwrap().ranges(1_115_394);
        assert_eq!(
            ranges,
            Splits { train: 0..1_003_855, validation: 1_003_855..1_059_624, test: 1_059_624..1_115_394 }
        );
        let ranges = Fractions::new(0.5, 0.25, 0.0).unwrap().ranges(8);
        assert_eq!(ranges, Splits { train: 0..4, validation: 4..6, test: 6..6 });
    }

    #[test]
    fn a_text_is_split_between_its_units() {
        let halves = Fractions::new(0.5, 0.5, 0.0).unwrap();
        let split = |text, unit| {
            let Splits { train, validation, test } = halves.split_text(text, unit);
            assert_eq!(test, "");
            (train, validation)
        };
        assert_eq!(split("éaéa", Unit::Char), ("éa", "éa"));
        assert_eq!(split("aéa", Unit::Byte), ("a", "éa"));
        assert_eq!(split("one two\nthree", Unit::Word), ("one two", "\nthree"));
        assert_eq!(split("  one \t two three four ", Unit::Word), ("  one \t two ", "three four "));
    }

    #[test]
    fn rare_classes_stay_in_training() {
        let split = Fractions::new(0.4, 0.3, 0.3).unwrap().stratified(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 1);
        assert!(split.train.contains(&0));
        assert_eq!((split.train.len(), split.validation.len(), split.test.len()), (5, 3, 3));
    }

    proptest! {
        #[test]
        fn a_stratified_split_is_exact(
            labels in prop::collection::vec(0u32..4, 0..200),
            (a, b) in (0.01..1.0f64, 0.0..1.0f64),
            seed: u64,
        ) {
            let fractions = Fractions::new(a, (1.0 - a) * b, (1.0 - a) * (1.0 - b)).unwrap();
            let split = fractions.stratified(&labels, seed);
            prop_assert_eq!(&split, &fractions.stratified(&labels, seed));
            let mut all = [&split.train[..], &split.validation, &split.test].concat();
            all.sort_unstable();
            prop_assert!(all.into_iter().eq(0..labels.len()));
            for class in 0..4 {
                let of_class = |split: &[usize]| split.iter().filter(|&&example| labels[example] == class).count() as f64;
                let total = labels.iter().filter(|&&label| label == class).count() as f64;
                prop_assert!((of_class(&split.train) - total * a).abs() <= 1.0);
                prop_assert!((of_class(&split.test) - total * (1.0 - a) * (1.0 - b)).abs() <= 1.0 + 1e-9);
            }
        }

        #[test]
        fn the_splits_of_a_text_are_the_text(text in "[ab é\n\t]{0,60}", a in 0.01..1.0f64) {
            let fractions = Fractions::new(a, 1.0 - a, 0.0).unwrap();
            for unit in Unit::ALL {
                let split = fractions.split_text(&text, unit);
                prop_assert_eq!([split.train, split.validation, split.test].concat(), &*text);
                if unit != Unit::Byte {
                    let ranges = fractions.ranges(unit.count(&text));
                    prop_assert_eq!(unit.count(split.train), ranges.train.len());
                    prop_assert_eq!(unit.count(split.validation), ranges.validation.len());
                }
            }
        }
    }
}
