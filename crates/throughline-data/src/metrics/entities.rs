//! How good a tagger finds entities, type by type.

use std::fmt;

use super::ClassScores;
use crate::entities::{EntityTags, TagScheme};
use crate::printable::printable;

/// How many entities were found, counted as `conlleval` counts them: see [`EntityTags::entities`]. An entity is right
/// if its first word, its last word and its type are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityScores {
    tags: EntityTags,
    /// Of each type.
    counts: Vec<Counts>,
    right_words: u64,
    words: u64,
    /// In the predictions, of each scheme.
    invalid_transitions: [u64; TagScheme::ALL.len()],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    right: u64,
    truth: u64,
    predicted: u64,
}

impl EntityScores {
    /// No sentences yet.
    pub fn new(tags: EntityTags) -> Self {
        let counts = vec![Counts::default(); tags.types().len()];
        Self { tags, counts, right_words: 0, words: 0, invalid_transitions: Default::default() }
    }

    /// Counts the tags of one sentence.
    ///
    /// # Panics
    /// If the two differ in length, or a tag is not below the number of tags.
    pub fn add(&mut self, truth: &[u32], prediction: &[u32]) {
        assert_eq!(truth.len(), prediction.len(), "a true and a predicted tag for each word");
        self.words += truth.len() as u64;
        self.right_words +=
            truth.iter().zip(prediction).filter(|(truth, prediction)| truth == prediction).count() as u64;
        for (count, scheme) in self.invalid_transitions.iter_mut().zip(TagScheme::ALL) {
            *count += self.tags.invalid_transitions(scheme, prediction);
        }
        let (truth, prediction) = (self.tags.entities(truth), self.tags.entities(prediction));
        for entity in &prediction {
            self.counts[entity.kind as usize].predicted += 1;
        }
        for entity in truth {
            let counts = &mut self.counts[entity.kind as usize];
            counts.truth += 1;
            counts.right += u64::from(prediction.binary_search(&entity).is_ok());
        }
    }

    /// The tags and the types of entities.
    pub fn tags(&self) -> &EntityTags {
        &self.tags
    }

    /// Precision, recall and F1 of a type of entities; nothing if there are none, neither true nor predicted ones.
    ///
    /// # Panics
    /// If the type is not below the number of types.
    pub fn scores(&self, kind: usize) -> Option<ClassScores> {
        self.counts[kind].scores()
    }

    /// Precision, recall and F1 of all entities together (micro average); nothing if there are none, neither true nor
    /// predicted ones.
    pub fn overall(&self) -> Option<ClassScores> {
        let sum = |count: fn(&Counts) -> u64| self.counts.iter().map(count).sum();
        let [right, truth, predicted] = [sum(|c| c.right), sum(|c| c.truth), sum(|c| c.predicted)];
        Counts { right, truth, predicted }.scores()
    }

    /// The share of words with the right tag; not a number if there are none at all.
    pub fn accuracy(&self) -> f64 {
        self.right_words as f64 / self.words as f64
    }

    /// How many transitions in the predictions a scheme does not allow: see [`EntityTags::invalid_transitions`].
    pub fn invalid_transitions(&self, scheme: TagScheme) -> u64 {
        self.invalid_transitions[scheme as usize]
    }
}

impl Counts {
    fn scores(self) -> Option<ClassScores> {
        ClassScores::new(self.right, self.truth, self.predicted)
    }
}

/// A table for people: a row for each type and one for all together, with precision, recall, F1, and the numbers of
/// true and of predicted entities. Types are shown as [`printable`] makes them.
impl fmt::Display for EntityScores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let types: Vec<String> = self.tags.types().iter().map(|kind| printable(kind)).collect();
        let scores = (0..types.len()).map(|kind| self.scores(kind)).chain([self.overall()]);
        let names = types.iter().map(String::as_str).chain(["all"]);
        let width = names.clone().map(|name| name.chars().count()).max().unwrap_or(0).max("type".len());
        writeln!(f, "{:width$}  precision  recall     F1  entities  predicted", "type")?;
        for (name, scores) in names.zip(scores) {
            match scores {
                Some(ClassScores { precision, recall, f1, examples, predictions }) => {
                    writeln!(
                        f,
                        "{name:width$}  {precision:9.4}  {recall:6.4} {f1:6.4}  {examples:8}  {predictions:9}"
                    )?;
                }
                None => writeln!(f, "{name:width$}  {:>9}  {:>6} {:>6}  {:8}  {:9}", "-", "-", "-", 0, 0)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 9] = ["O", "B-X", "I-X", "E-X", "S-X", "B-Y", "I-Y", "E-Y", "S-Y"];

    fn indices(sentence: &str) -> Vec<u32> {
        let index = |tag| NAMES.iter().position(|&name| name == tag).unwrap() as u32;
        sentence.split_whitespace().map(index).collect()
    }

    fn scores(sentences: &[(&str, &str)]) -> EntityScores {
        let mut scores = EntityScores::new(EntityTags::new(&NAMES.map(String::from)).unwrap());
        for (truth, prediction) in sentences {
            scores.add(&indices(truth), &indices(prediction));
        }
        scores
    }

    /// Truth, prediction, the numbers of right, true and predicted entities of the types X and Y, and of right words.
    type Case = (&'static str, &'static str, [u64; 3], [u64; 3], u64);

    const CASES: [Case; 26] = [
        ("O O O", "O O O", [0, 0, 0], [0, 0, 0], 3),
        ("B-X I-X O", "B-X I-X O", [1, 1, 1], [0, 0, 0], 3),
        // Too short, too long, and beside it.
        ("B-X I-X O", "B-X O O", [0, 1, 1], [0, 0, 0], 2),
        ("B-X I-X O", "B-X I-X I-X", [0, 1, 1], [0, 0, 0], 2),
        ("B-X O O", "O B-X O", [0, 1, 1], [0, 0, 0], 1),
        // The words are right and the type is not.
        ("B-X I-X", "B-Y I-Y", [0, 1, 0], [0, 0, 1], 0),
        // One that was cut in two, and two that were joined.
        ("B-X I-X I-X", "B-X I-X B-X", [0, 1, 2], [0, 0, 0], 2),
        ("B-X B-X", "B-X I-X", [0, 2, 1], [0, 0, 0], 1),
        ("B-X I-X B-X", "B-X I-X B-X", [2, 2, 2], [0, 0, 0], 3),
        ("B-X O B-Y", "B-X O B-Y", [1, 1, 1], [1, 1, 1], 3),
        ("B-X O B-Y", "O O B-Y", [0, 1, 0], [1, 1, 1], 2),
        ("O O", "B-X B-Y", [0, 0, 1], [0, 0, 1], 0),
        ("B-X I-X", "O O", [0, 1, 0], [0, 0, 0], 0),
        // I after O begins an entity: the same one, with another tag.
        ("B-X I-X", "I-X I-X", [1, 1, 1], [0, 0, 0], 1),
        ("O B-X I-X O", "O I-X I-X O", [1, 1, 1], [0, 0, 0], 3),
        // I after another type begins an entity: B-Y stands alone, and I-X after it.
        ("B-Y B-X", "B-Y I-X", [1, 1, 1], [1, 1, 1], 1),
        ("B-X I-X I-X", "B-X I-Y I-X", [0, 1, 2], [0, 0, 1], 2),
        ("B-X I-X I-X", "B-Y I-X I-X", [0, 1, 1], [0, 0, 1], 2),
        ("I-X I-Y I-X", "B-X B-Y B-X", [2, 2, 2], [1, 1, 1], 0),
        // IOB1: B only divides.
        ("I-X I-X B-X", "B-X I-X B-X", [2, 2, 2], [0, 0, 0], 2),
        ("I-X B-X I-X", "I-X I-X I-X", [0, 2, 1], [0, 0, 0], 2),
        // IOBES, also against BIO.
        ("B-X I-X E-X S-Y", "B-X I-X E-X S-Y", [1, 1, 1], [1, 1, 1], 4),
        ("B-X E-X B-X E-X", "B-X I-X B-X I-X", [2, 2, 2], [0, 0, 0], 2),
        ("S-X S-X", "B-X E-X", [0, 2, 1], [0, 0, 0], 0),
        // E after O, and E after E, are entities of one word.
        ("O E-X E-X", "O S-X S-X", [2, 2, 2], [0, 0, 0], 1),
        // S ends at once, so that I after it begins anew.
        ("S-Y I-Y O", "B-Y I-Y O", [0, 0, 0], [0, 2, 1], 2),
    ];

    #[test]
    fn counts_by_hand() {
        for (truth, prediction, x, y, right_words) in CASES {
            let scores = scores(&[(truth, prediction)]);
            let counts = |[right, truth, predicted]: [u64; 3]| Counts { right, truth, predicted };
            assert_eq!(scores.counts, [counts(x), counts(y)], "{truth} | {prediction}");
            assert_eq!(scores.right_words, right_words, "{truth} | {prediction}");
        }
    }

    #[test]
    fn sentences_add_up() {
        let all = scores(&CASES.map(|(truth, prediction, ..)| (truth, prediction)));
        // The sums of the columns above.
        let (x, y) = ([16, 31, 28], [5, 7, 10]);
        let words = (44, 74);
        assert_eq!(all.counts.iter().map(|c| [c.right, c.truth, c.predicted]).collect::<Vec<_>>(), [x, y]);
        assert_eq!((all.right_words, all.words), words);
    }

    #[test]
    fn measures_by_hand() {
        // X: one of two found, one too many. Y: both found.
        let scores = scores(&[("B-X O B-Y I-Y", "B-X B-X B-Y I-Y"), ("B-X I-X B-Y", "O O B-Y")]);
        let x = scores.scores(0).unwrap();
        assert_eq!((x.precision, x.recall, x.f1, x.examples, x.predictions), (0.5, 0.5, 0.5, 2, 2));
        let y = scores.scores(1).unwrap();
        assert_eq!((y.precision, y.recall, y.f1, y.examples, y.predictions), (1.0, 1.0, 1.0, 2, 2));
        let all = scores.overall().unwrap();
        assert_eq!((all.precision, all.recall, all.f1, all.examples, all.predictions), (0.75, 0.75, 0.75, 4, 4));
        assert_eq!(scores.accuracy(), 4.0 / 7.0);
        let table = "\
type  precision  recall     F1  entities  predicted
X        0.5000  0.5000 0.5000         2          2
Y        1.0000  1.0000 1.0000         2          2
all      0.7500  0.7500 0.7500         4          4
";
        assert_eq!(scores.to_string(), table);
    }

    #[test]
    fn nothing_found_and_nothing_to_find() {
        let nothing = scores(&[("O", "O")]);
        assert_eq!((nothing.overall(), nothing.scores(0)), (None, None));
        assert!(nothing.to_string().contains("all           -       -      -         0          0\n"), "{nothing}");
        assert!(scores(&[]).accuracy().is_nan());
        let missed = scores(&[("B-X", "O")]).overall().unwrap();
        assert_eq!((missed.precision, missed.recall, missed.f1), (0.0, 0.0, 0.0));
        assert_eq!(scores(&[("O", "I-X")]).overall().unwrap().f1, 0.0);
    }

    #[test]
    fn only_predictions_are_checked_for_their_scheme() {
        let scores = scores(&[("I-X I-X", "B-X I-X"), ("B-X I-X O", "O I-X B-Y")]);
        let invalid = TagScheme::ALL.map(|scheme| scores.invalid_transitions(scheme));
        assert_eq!(invalid, [1, 2, 4]);
    }

    #[test]
    #[should_panic(expected = "a true and a predicted tag for each word")]
    fn sentences_of_other_length_are_refused() {
        scores(&[("O O", "O")]);
    }

    proptest! {
        #[test]
        fn a_prediction_that_is_the_truth_is_right(sentence in prop::collection::vec(0..NAMES.len() as u32, 1..20)) {
            let mut scores = scores(&[]);
            scores.add(&sentence, &sentence);
            prop_assert_eq!(scores.accuracy(), 1.0);
            prop_assert!(scores.overall().is_none_or(|all| all.f1 == 1.0 && all.examples == all.predictions));
        }

        #[test]
        fn truth_and_prediction_change_places(pairs in prop::collection::vec((0u32..9, 0u32..9), 0..20)) {
            let (a, b): (Vec<u32>, Vec<u32>) = pairs.into_iter().unzip();
            let (mut forward, mut backward) = (scores(&[]), scores(&[]));
            forward.add(&a, &b);
            backward.add(&b, &a);
            let swapped: Vec<Counts> = backward
                .counts
                .iter()
                .map(|&Counts { right, truth, predicted }| Counts { right, truth: predicted, predicted: truth })
                .collect();
            prop_assert_eq!(&forward.counts, &swapped);
            prop_assert!(forward.counts.iter().all(|c| c.right <= c.truth.min(c.predicted)));
        }
    }
}
