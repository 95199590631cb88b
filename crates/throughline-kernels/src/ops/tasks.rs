//! Elementwise work divided into tasks for threads.

use core::ops::Range;

use crate::threads::Threads;

/// Elements of a task of an elementwise operation.
const CHUNK: usize = 1 << 14;

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
