//! The valid key that a mistyped one probably meant.

/// The candidate with the fewest edits from `word` (the first of equals), if it is near enough to be meant: at most a third
/// of the word, and two edits for a short one.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().take(LONGEST).collect();
    let furthest = (word.len() / 3).max(2);
    let distances = candidates.into_iter().map(|candidate| (edit_distance(&word, candidate), candidate));
    distances.filter(|&(distance, _)| distance <= furthest).min_by_key(|&(distance, _)| distance).map(|(_, near)| near)
}

/// No key is longer; the rest of a hostile one is not looked at.
const LONGEST: usize = 64;

/// Edit distance of Levenshtein (1966): insertions, deletions and replacements of one character.
fn edit_distance(a: &[char], b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        let distance = |a: &str, b| edit_distance(&a.chars().collect::<Vec<_>>(), b);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("hidden", "hidden"), 0);
    }

    #[test]
    fn the_nearest_is_near() {
        let keys = ["model.hidden", "model.layers", "seed"];
        assert_eq!(nearest("model.hiden", keys), Some("model.hidden"));
        assert_eq!(nearest("modle.hidden", keys), Some("model.hidden"));
        assert_eq!(nearest("sede", keys), Some("seed"));
        assert_eq!(nearest("optimiser.kind", keys), None);
    }
}
