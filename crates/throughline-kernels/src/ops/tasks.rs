//! Elementwise work divided into tasks for threads.

use core::ops::Range;

use crate::disjoint::Disjoint;
use crate::threads::Threads;

/// Elements of a task of an elementwise operation.
const CHUNK: usize = 1 << 14;
/// Elements of a task of [`for_each_row`].
const ROW_CHUNK: usize = 1 << 12;

/// Runs `work(index)` for every index below `tasks`, on all threads.
pub(crate) fn for_each_task(threads: &Threads, tasks: usize, work: impl Fn(usize) + Sync) {
    // A vector of zero-size elements allocates nothing.
    let mut scratch = alloc::vec![(); threads.count()];
    threads.for_each(tasks, &mut scratch, |index, ()| work(index));
}

/// Runs `work` on chunks of `length` elements, on all threads; the chunks do not depend on the number of threads.
pub(crate) fn for_each_chunk(threads: &Threads, length: usize, work: impl Fn(Range<usize>) + Sync) {
    for_each_task(threads, length.div_ceil(CHUNK), |index| {
        work(index * CHUNK..length.min((index + 1) * CHUNK));
    });
}

/// Runs `work(n, row)` on every row n of `rows` `[N, width]`, on all threads.
///
/// # Panics
/// If `rows` is not `[N, width]`.
pub(crate) fn for_each_row<E: Send>(
    threads: &Threads,
    rows: &mut [E],
    width: usize,
    work: impl Fn(usize, &mut [E]) + Sync,
) {
    assert!(width > 0 && rows.len().is_multiple_of(width), "the rows are [N, {width}], not [{}]", rows.len());
    let count = rows.len() / width;
    let chunk = (ROW_CHUNK / width).max(1);
    let rows = Disjoint::new(rows);
    for_each_task(threads, count.div_ceil(chunk), |task| {
        for row in task * chunk..count.min((task + 1) * chunk) {
            // SAFETY: every row belongs to one task.
            work(row, unsafe { rows.slice(row * width..(row + 1) * width) });
        }
    });
}
