//! Duplicate examples, in one set and across splits.

use std::collections::{HashMap, HashSet};

use crate::labelled::LabelledSet;
use crate::split::{Split, Splits};

/// An example whose text is also in an earlier split, so that it does not test what a model has learned from that
/// split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedExample {
    /// The split and index of the first example with this text, and with the same label if there is one.
    pub first: (Split, usize),
    /// The split and index of this example.
    pub again: (Split, usize),
    /// Whether both have the same label. If not, one of the labels is probably wrong.
    pub same_label: bool,
}

impl LabelledSet {
    /// Removes every example whose label and text occurred before, and returns how many it removed. The same text with
    /// another label stays.
    pub fn remove_duplicates(&mut self) -> usize {
        let kept = self.first_occurrences(&mut HashSet::new());
        self.keep(&kept)
    }

    /// Whether each example is the first with its label and text, `seen` included.
    fn first_occurrences<'a>(&'a self, seen: &mut HashSet<(u32, &'a str)>) -> Vec<bool> {
        self.examples.iter().map(|example| seen.insert((example.label, example.text.as_str()))).collect()
    }

    /// Keeps the examples whose flag is set, and returns how many it removed.
    fn keep(&mut self, kept: &[bool]) -> usize {
        let before = self.examples.len();
        let mut kept = kept.iter();
        self.examples.retain(|_| *kept.next().expect("one flag for each example"));
        before - self.examples.len()
    }
}

/// The splits in their order. Panics if they differ in their labels.
fn in_order(splits: &Splits<LabelledSet>) -> [(Split, &LabelledSet); 3] {
    let Splits { train, validation, test } = splits;
    assert!(train.labels == validation.labels && train.labels == test.labels, "all splits must have the same labels");
    [(Split::Train, train), (Split::Validation, validation), (Split::Test, test)]
}

/// Every example of the validation and test split whose text is also in an earlier split, in order.
/// [`LabelledSet::place`] says which file it is from.
///
/// # Panics
/// If the sets differ in their labels.
pub fn shared_examples(splits: &Splits<LabelledSet>) -> Vec<SharedExample> {
    type Place = (Split, usize);
    // For each text: the first place of each label, in order.
    let mut places = HashMap::<&str, Vec<(u32, Place)>>::new();
    let mut shared = Vec::new();
    for (split, set) in in_order(splits) {
        for (index, example) in set.examples.iter().enumerate() {
            let (again, known) = ((split, index), places.entry(&example.text).or_default());
            let earlier = || known.iter().filter(|(_, place)| place.0 != split);
            let same = earlier().find(|(label, _)| *label == example.label);
            if let Some(&(label, first)) = same.or(earlier().next()) {
                shared.push(SharedExample { first, again, same_label: label == example.label });
            }
            if known.iter().all(|(label, _)| *label != example.label) {
                known.push((example.label, again));
            }
        }
    }
    shared
}

/// Removes every example whose label and text occurred before, in its own split or an earlier one, and returns how many
/// it removed from each split. The same text with another label stays; see [`shared_examples`].
///
/// # Panics
/// If the sets differ in their labels.
pub fn remove_duplicates(splits: &mut Splits<LabelledSet>) -> Splits<usize> {
    let mut seen = HashSet::new();
    let [train, validation, test] = in_order(splits).map(|(_, set)| set.first_occurrences(&mut seen));
    Splits {
        train: splits.train.keep(&train),
        validation: splits.validation.keep(&validation),
        test: splits.test.keep(&test),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::Format;
    use crate::labelled::Example;

    fn set(examples: &[(u32, &str)]) -> LabelledSet {
        let example = |(&(label, text), line)| Example { label, text: String::from(text), file: 0, line };
        LabelledSet {
            labels: vec!["a".into(), "b".into()],
            examples: examples.iter().zip(1..).map(example).collect(),
            files: vec!["data.csv".into()],
            blank: 0,
            skipped: Vec::new(),
            format: Format::Csv,
        }
    }

    fn splits() -> Splits<LabelledSet> {
        Splits {
            train: set(&[(0, "x"), (1, "y"), (0, "y"), (0, "x")]),
            validation: set(&[(0, "new"), (0, "y"), (1, "x"), (0, "new")]),
            test: set(&[(0, "new"), (1, "x"), (1, "fresh")]),
        }
    }

    #[test]
    fn equal_examples_of_two_splits_are_named() {
        use Split::{Test, Train, Validation};
        let shared = |first, again, same_label| SharedExample { first, again, same_label };
        let expected = [
            shared((Train, 2), (Validation, 1), true),
            shared((Train, 0), (Validation, 2), false),
            shared((Validation, 0), (Test, 0), true),
            shared((Validation, 2), (Test, 1), true),
        ];
        let splits = splits();
        assert_eq!(shared_examples(&splits), expected);
        assert_eq!(splits.test.place(1), "data.csv:2");
    }

    #[test]
    fn the_first_of_equal_examples_stays() {
        let mut splits = splits();
        assert_eq!(remove_duplicates(&mut splits), Splits { train: 1, validation: 2, test: 2 });
        let left = splits.clone().map(|set| set.examples.into_iter().map(|e| (e.label, e.text)).collect::<Vec<_>>());
        let row = |label, text: &str| (label, text.to_owned());
        assert_eq!(left.train, [row(0, "x"), row(1, "y"), row(0, "y")]);
        assert_eq!((left.validation, left.test), (vec![row(0, "new"), row(1, "x")], vec![row(1, "fresh")]));
        assert!(shared_examples(&splits).iter().all(|shared| !shared.same_label));
    }

    #[test]
    #[should_panic(expected = "all splits must have the same labels")]
    fn sets_of_other_labels_are_refused() {
        let mut splits = splits();
        splits.test.labels.pop();
        shared_examples(&splits);
    }

    proptest! {
        #[test]
        fn what_is_shared_is_what_a_search_finds(
            rows in prop::collection::vec((0usize..3, 0u32..2, "[ab]{1,2}"), 0..30),
        ) {
            let of = |split| -> Vec<(u32, &str)> {
                rows.iter().filter(|row| row.0 == split).map(|row| (row.1, row.2.as_str())).collect()
            };
            let mut splits = Splits { train: set(&of(0)), validation: set(&of(1)), test: set(&of(2)) };
            let earlier = |split: usize, text: &str| rows.iter().any(|row| row.0 < split && row.2 == text);
            let count: usize = (1..3).map(|split| of(split).iter().filter(|(_, text)| earlier(split, text)).count()).sum();
            let shared = shared_examples(&splits);
            prop_assert_eq!(shared.len(), count);
            remove_duplicates(&mut splits);
            prop_assert!(shared_examples(&splits).iter().all(|shared| !shared.same_label));
            let distinct: HashSet<(u32, &str)> = rows.iter().map(|row| (row.1, row.2.as_str())).collect();
            let left = splits.train.examples.len() + splits.validation.examples.len() + splits.test.examples.len();
            prop_assert_eq!(left, distinct.len());
        }
    }
}
