//! What simple models of piano rolls reach: each key on its own.

use throughline_data::{FrameScores, PianoRoll, Pitches, Split, Splits};
use throughline_infer::tasks::roll::{self, Keys};

use crate::learn::Score;

/// How often each key was off and on.
type Counts = [u64; 2];

/// The probability that a key is on, by Krichevsky and Trofimov's estimate (1981): as if each outcome had been seen half a
/// time more.
fn probability([off, on]: Counts) -> f64 {
    (on as f64 + 0.5) / ((off + on) as f64 + 1.0)
}

/// Each step of `pieces` but the first, with the step before it.
fn pairs(pieces: &[PianoRoll]) -> impl Iterator<Item = (Pitches, Pitches)> {
    pieces.iter().flat_map(|piece| piece.windows(2).map(|pair| (pair[0], pair[1])))
}

/// What a model that gives each key a probability by the step before reaches on `pieces`.
fn score(
    keys: Keys,
    threshold: f64,
    pieces: &[PianoRoll],
    probability: impl Fn(usize, bool) -> f64,
) -> Option<(f64, FrameScores)> {
    let (mut loss, mut steps, mut scores) = (0.0, 0_usize, FrameScores::default());
    for (before, step) in pairs(pieces) {
        let of_keys = (keys.lowest..=keys.highest).enumerate();
        let probabilities: Vec<f64> = of_keys.map(|(key, pitch)| probability(key, before.contains(pitch))).collect();
        for (pitch, &on) in (keys.lowest..=keys.highest).zip(&probabilities) {
            loss -= if step.contains(pitch) { on } else { 1.0 - on }.ln();
        }
        scores.add(step.and(keys.pitches()), keys.of(probabilities.into_iter().map(|on| on > threshold)));
        steps += 1;
    }
    (steps > 0).then(|| (loss / steps as f64, scores))
}

/// The scores of the frequency of each key, and of a Markov chain for each key: how often it is on after it was off, and after
/// it was on.
pub(super) fn scores(keys: Keys, threshold: f64, splits: &Splits<Vec<PianoRoll>>) -> Vec<Score> {
    let mut unigram = vec![Counts::default(); keys.count()];
    let mut markov = vec![[Counts::default(); 2]; keys.count()];
    for step in splits.train.iter().flatten() {
        for (key, pitch) in (keys.lowest..=keys.highest).enumerate() {
            unigram[key][usize::from(step.contains(pitch))] += 1;
        }
    }
    for (before, step) in pairs(&splits.train) {
        for (key, pitch) in (keys.lowest..=keys.highest).enumerate() {
            markov[key][usize::from(before.contains(pitch))][usize::from(step.contains(pitch))] += 1;
        }
    }
    let mut all = Vec::new();
    for split in [Split::Validation, Split::Test] {
        let pieces = splits.of(split);
        let of_unigram = score(keys, threshold, pieces, |key, _| probability(unigram[key]));
        let of_markov = score(keys, threshold, pieces, |key, before| probability(markov[key][usize::from(before)]));
        for (method, reached) in [("frequency of each key", of_unigram), ("Markov chain of each key", of_markov)] {
            let Some((loss, scores)) = reached else { continue };
            let mut metrics = roll::metrics(&scores);
            metrics.insert("loss".to_owned(), loss);
            all.push(Score { method: method.to_owned(), split, metrics });
        }
    }
    all
}
