//! A look at the data of a recipe before any training.

use std::collections::HashSet;

use serde::Serialize;
use throughline_data::{Split, Splits};

use crate::learn::{Examined, Learn, Score};
use crate::{Recipe, Result};

/// Bars of a histogram, at most.
const BARS: usize = 10;

/// What [`examine`](crate::examine()) found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DataReport {
    /// The task that the data are read for.
    pub task: String,
    /// What is in the data and how they were read, by name.
    pub data: Vec<(String, String)>,
    /// What lengths are in: `characters`, `words`.
    pub units: String,
    /// What may be wrong, a sentence each.
    pub warnings: Vec<String>,
    /// The training, the validation and the test split.
    pub splits: Vec<SplitReport>,
    /// What simple methods reach.
    pub baselines: Vec<Score>,
}

/// What is in a split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SplitReport {
    /// Which.
    pub split: Split,
    /// What it has several of, such as `texts`; empty if the task does not say.
    pub what: String,
    /// So many.
    pub count: usize,
    /// How many of them have no units.
    pub empty: usize,
    /// How many are equal to one before in this split; `None` where nobody looks for them.
    pub equal: Option<usize>,
    /// How many are equal to one of the training split; `None` in that one, too.
    pub in_training: Option<usize>,
    /// The share of units that are not in the vocabulary, from 0 to 1.
    pub unknown_share: f64,
    /// How long they are, if there are any.
    pub lengths: Option<Lengths>,
    /// Every label with how often it occurs here.
    pub labels: Vec<(String, usize)>,
}

/// How long examples are, in units.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lengths {
    /// The shortest.
    pub shortest: usize,
    /// As many are shorter as longer.
    pub median: usize,
    /// 19 of 20 are no longer.
    pub most: usize,
    /// The longest.
    pub longest: usize,
    /// How many are from one length to another, both counted; the last bar has all that are longer, too.
    pub histogram: Vec<(usize, usize, usize)>,
}

impl Lengths {
    fn of(mut lengths: Vec<usize>) -> Option<Self> {
        lengths.sort_unstable();
        let (&shortest, &longest) = lengths.first().zip(lengths.last())?;
        let quantile = |share: f64| lengths[((lengths.len() - 1) as f64 * share).round() as usize];
        let most = quantile(0.95);
        let width = (most - shortest) / BARS + 1;
        let last = (most - shortest) / width;
        let mut counts = vec![0; last + 1];
        lengths.iter().for_each(|length| counts[((length - shortest) / width).min(last)] += 1);
        let bar = |(index, count)| {
            let from = shortest + index * width;
            (from, if index == last { longest } else { from + width - 1 }, count)
        };
        let histogram = counts.into_iter().enumerate().map(bar).collect();
        Some(Self { shortest, median: quantile(0.5), most, longest, histogram })
    }
}

/// See [`examine`](crate::examine()).
pub(crate) fn examine<L: Learn>(recipe: &Recipe) -> Result<DataReport> {
    let data = L::read(recipe)?;
    let described = data.describe();
    let encoding = recipe.value("data.encoding").and_then(|encoding| encoding.as_str().map(str::to_owned));
    let encoding = encoding.map(|encoding| ("encoding".to_owned(), encoding));
    let examined = Splits { train: Split::Train, validation: Split::Validation, test: Split::Test }
        .map(|split| data.examine(split));
    let training: HashSet<u64> = examined.train.keys.iter().copied().collect();
    let mut warnings = described.warnings;
    warnings.extend(warnings_of_labels(&examined));
    Ok(DataReport {
        task: recipe.task().to_owned(),
        data: described.data.into_iter().chain(encoding).collect(),
        units: described.units,
        warnings,
        splits: Split::ALL.iter().map(|&split| report(split, examined.of(split).clone(), &training)).collect(),
        baselines: data.baselines()?,
    })
}

fn report(split: Split, examined: Examined, training: &HashSet<u64>) -> SplitReport {
    let Examined { what, lengths, keys, labels, unknown_share } = examined;
    let looked = !training.is_empty();
    let different: HashSet<u64> = keys.iter().copied().collect();
    let in_training = keys.iter().filter(|key| training.contains(key)).count();
    SplitReport {
        split,
        what: what.to_owned(),
        count: lengths.len(),
        empty: lengths.iter().filter(|&&length| length == 0).count(),
        equal: looked.then(|| keys.len() - different.len()),
        in_training: (looked && split != Split::Train).then_some(in_training),
        unknown_share,
        lengths: Lengths::of(lengths),
        labels,
    }
}

/// Labels that training does not see, or that nothing measures.
fn warnings_of_labels(examined: &Splits<Examined>) -> Vec<String> {
    let names = |has: &dyn Fn(usize) -> bool| {
        let labels = examined.train.labels.iter().enumerate().filter(|(index, _)| has(*index));
        let names: Vec<String> = labels.map(|(_, (name, _))| format!("{name:?}")).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let count = |split: Split, index: usize| examined.of(split).labels[index].1;
    let mut warnings = Vec::new();
    if let Some(names) = names(&|index| count(Split::Train, index) == 0) {
        warnings.push(format!("the training split has no example of {names}, so they are never learned"));
    }
    for split in [Split::Validation, Split::Test] {
        let measured = !examined.of(split).lengths.is_empty();
        if let (true, Some(names)) = (measured, names(&|index| count(split, index) == 0)) {
            warnings
                .push(format!("the {} split has no example of {names}, so they are not measured there", split.name()));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_every_length_once() {
        for lengths in [vec![7], vec![0, 0, 0], (3..2000).collect(), [vec![1; 99], vec![100_000]].concat()] {
            let of = Lengths::of(lengths.clone()).unwrap();
            assert!(of.histogram.len() <= BARS);
            let mut next = of.shortest;
            for &(from, to, count) in &of.histogram {
                assert_eq!(from, next);
                assert_eq!(count, lengths.iter().filter(|length| (from..=to).contains(length)).count());
                next = to + 1;
            }
            assert_eq!(next, of.longest + 1);
        }
        assert_eq!(Lengths::of(Vec::new()), None);
    }

    #[test]
    fn equal_examples_are_counted_within_a_split_and_beside_training() {
        let examined =
            |keys: &[u64]| Examined { lengths: vec![2; keys.len()], keys: keys.to_vec(), ..Examined::default() };
        let training = HashSet::from([1, 2]);
        let train = report(Split::Train, examined(&[1, 2, 1]), &training);
        assert_eq!((train.equal, train.in_training, train.empty), (Some(1), None, 0));
        let test = report(Split::Test, examined(&[3, 2, 2, 2]), &training);
        assert_eq!((test.equal, test.in_training), (Some(2), Some(3)));
        let text = report(Split::Test, examined(&[]), &HashSet::new());
        assert_eq!((text.equal, text.in_training), (None, None));
    }

    #[test]
    fn labels_that_a_split_lacks_are_named() {
        let with = |counts: [usize; 2]| Examined {
            lengths: vec![1],
            labels: ["a", "b"].map(str::to_owned).into_iter().zip(counts).collect(),
            ..Examined::default()
        };
        let splits = Splits { train: with([0, 4]), validation: with([1, 1]), test: with([0, 2]) };
        let warnings = warnings_of_labels(&splits);
        assert_eq!(warnings.len(), 2);
        assert!(warnings[0].starts_with("the training split has no example of \"a\""), "{warnings:?}");
        assert!(warnings[1].starts_with("the test split has no example of \"a\""), "{warnings:?}");
        assert_eq!(warnings_of_labels(&Splits::default()), [""; 0]);
    }
}
