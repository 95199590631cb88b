//! What simple taggers reach.

use std::collections::HashMap;

use throughline_data::{Split, Splits, TaggedSet};
use throughline_infer::tasks::tag;

use crate::learn::Score;

/// The most frequent of the tags that were counted, the first of equally frequent ones.
fn most_frequent(counts: &[u64]) -> u32 {
    (0..counts.len()).rev().max_by_key(|&tag| counts[tag]).unwrap_or(0) as u32
}

/// The scores of the most frequent tag of all, and of the most frequent tag of each word as it is written, which for words that
/// are not in the training split is the most frequent of all.
pub(super) fn scores(encoder: &tag::Encoder, splits: &Splits<TaggedSet>) -> Vec<Score> {
    let train = &splits.train;
    let mut all = vec![0_u64; train.tags.len()];
    let mut by_word = HashMap::<&str, Vec<u64>>::new();
    for sentence in 0..train.sentences.len() {
        for (word, &tag) in train.sentences.words(sentence).zip(train.tags_of(sentence)) {
            all[tag as usize] += 1;
            by_word.entry(word).or_insert_with(|| vec![0; train.tags.len()])[tag as usize] += 1;
        }
    }
    let majority = most_frequent(&all);
    let of_word: HashMap<&str, u32> = by_word.iter().map(|(&word, counts)| (word, most_frequent(counts))).collect();
    let mut scores = Vec::new();
    for split in [Split::Validation, Split::Test] {
        let set = splits.of(split);
        if set.sentences.is_empty() {
            continue;
        }
        let sentences = || 0..set.sentences.len();
        let choose = |tag: &dyn Fn(&str) -> u32| -> Vec<Vec<u32>> {
            sentences().map(|sentence| set.sentences.words(sentence).map(tag).collect()).collect()
        };
        let each = choose(&|word| of_word.get(word).copied().unwrap_or(majority));
        for (method, chosen) in [("majority tag", choose(&|_| majority)), ("most frequent tag of the word", each)] {
            let pairs = sentences().map(|sentence| set.tags_of(sentence)).zip(chosen.iter().map(Vec::as_slice));
            let metrics = tag::metrics(encoder.entities.as_ref(), pairs);
            scores.push(Score { method: method.to_owned(), split, metrics });
        }
    }
    scores
}
