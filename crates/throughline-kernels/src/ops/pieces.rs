//! Elementwise work shared out in fixed pieces.

use core::ops::Range;

use crate::threads::Threads;

/// Elements of an array that make one task of an elementwise operation.
const PIECE: usize = 1 << 14;

/// Shares out `work` on each of `tasks` indices.
pub(crate) fn for_each_task(threads: &Threads, tasks: usize, work: impl Fn(usize) + Sync) {
    // Elements without a size take no memory.
    let mut scratch = alloc::vec![(); threads.count()];
    threads.for_each(tasks, &mut scratch, |index, ()| work(index));
}

/// Cuts `length` elements into fixed pieces and shares out `work` on each.
pub(crate) fn for_each_piece(threads: &Threads, length: usize, work: impl Fn(Range<usize>) + Sync) {
    for_each_task(threads, length.div_ceil(PIECE), |index| {
        work(index * PIECE..length.min((index + 1) * PIECE));
    });
}
