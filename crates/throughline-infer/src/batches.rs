//! Batches of inputs of similar length.

/// The most inputs in a batch.
const MOST_INPUTS: usize = 256;
/// The most rows in a batch, unless a single input has more. Larger batches are no faster and take more memory.
const MOST_ROWS: usize = 1 << 14;

/// Divides inputs of these `lengths` into batches of similar length, longest first; each batch is a list of indices. An
/// answer does not depend on the batch it was computed in.
pub fn like_length(lengths: &[usize]) -> impl Iterator<Item = Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&index| (std::cmp::Reverse(lengths[index]), index));
    let lengths = lengths.to_vec();
    let mut rest = order.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut batch = vec![rest.next()?];
        let mut rows = lengths[batch[0]];
        while batch.len() < MOST_INPUTS
            && let Some(&next) = rest.peek()
            && rows + lengths[next] <= MOST_ROWS
        {
            rows += lengths[next];
            batch.extend(rest.next());
        }
        Some(batch)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_is_in_one_batch_among_its_like() {
        let lengths: Vec<usize> = (0..2000).map(|i| i * 7919 % 501).chain([100_000, 0, 0]).collect();
        let batches: Vec<Vec<usize>> = like_length(&lengths).collect();
        let mut all = batches.concat();
        assert!(all.is_sorted_by_key(|&index| std::cmp::Reverse(lengths[index])));
        all.sort_unstable();
        assert!(all.into_iter().eq(0..lengths.len()));
        for batch in &batches {
            let rows: usize = batch.iter().map(|&index| lengths[index]).sum();
            assert!(batch.len() == 1 || (batch.len() <= MOST_INPUTS && rows <= MOST_ROWS), "{rows} rows");
        }
        assert_eq!(batches[0], [2000], "the longest is alone");
        assert_eq!(like_length(&[]).count(), 0);
    }
}
