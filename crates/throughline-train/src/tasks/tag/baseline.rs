//! What simple taggers reach.

use std::collections::HashMap;

use throughline_data::{Split, Splits};
use throughline_infer::tasks::tag;

use crate::learn::Score;

/// The most frequent of `tags`, the smallest of equally frequent ones.
fn most_frequent(counts: &[u64]) -> u32 {
    (0..counts.len()).rev().max_by_key(|&tag| counts[tag]).unwrap_or(0) as u32
}

/// The scores of the most frequent tag of all, and of the most frequent tag of each word, which for words that are not in the
/// training split is the most frequent of all.
pub(super) fn scores(encoder: &tag::Encoder, splits: &Splits<tag::Sentences>) -> Vec<Score> {
    let train = &splits.train;
    let tags = encoder.tags.len();
    let mut all = vec![0_u64; tags];
    let mut by_word = HashMap::<&tag::Form, Vec<u64>>::new();
    for (words, word_tags) in train.words.iter().zip(&train.tags) {
        for (&form, &tag) in words.iter().zip(word_tags) {
            all[tag as usize] += 1;
            let counts = by_word.entry(&train.forms[form as usize]).or_insert_with(|| vec![0; tags]);
            counts[tag as usize] += 1;
        }
    }
    let majority = most_frequent(&all);
    let mut scores = Vec::new();
    for split in [Split::Validation, Split::Test] {
        let set = splits.of(split);
        if set.words.is_empty() {
            continue;
        }
        let of_form: Vec<u32> =
            set.forms.iter().map(|form| by_word.get(form).map_or(majority, |counts| most_frequent(counts))).collect();
        let choose = |of_word: &dyn Fn(u32) -> u32| -> Vec<Vec<u32>> {
            set.words.iter().map(|words| words.iter().map(|&form| of_word(form)).collect()).collect()
        };
        let each = choose(&|form| of_form[form as usize]);
        for (method, chosen) in [("majority tag", choose(&|_| majority)), ("most frequent tag of the word", each)] {
            let pairs = set.tags.iter().map(Vec::as_slice).zip(chosen.iter().map(Vec::as_slice));
            let metrics = tag::metrics(encoder.entities.as_ref(), pairs);
            scores.push(Score { method: method.to_owned(), split, metrics });
        }
    }
    scores
}
