//! Work shared out to a fixed number of threads.
//!
//! Tasks write disjoint outputs and never depend on each other, so neither the number of threads nor the order in which
//! they take tasks can change a bit of any result.

use core::sync::atomic::{AtomicUsize, Ordering};

/// A number of threads to compute with. With more than one it owns a pool; the global pool is never touched.
#[derive(Debug)]
pub struct Threads {
    count: usize,
    #[cfg(feature = "parallel")]
    pool: Option<rayon::ThreadPool>,
}

/// The operating system gives no more threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    count: usize,
    reason: alloc::string::String,
}

impl core::fmt::Display for Refused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "the system does not give {} threads ({}): use fewer", self.count, self.reason)
    }
}

impl core::error::Error for Refused {}

impl Threads {
    /// The calling thread alone.
    pub const ONE: &'static Threads = &Threads {
        count: 1,
        #[cfg(feature = "parallel")]
        pool: None,
    };

    /// [`try_new`](Self::try_new) for a number of threads that the system is known to give.
    ///
    /// # Panics
    /// If `count` is 0 or the operating system refuses a thread.
    pub fn new(count: usize) -> Self {
        Self::try_new(count).unwrap_or_else(|refused| panic!("{refused}"))
    }

    /// `count` threads. Without the feature `parallel` this is always one.
    ///
    /// # Errors
    /// If the operating system refuses a thread.
    ///
    /// # Panics
    /// If `count` is 0.
    pub fn try_new(count: usize) -> Result<Self, Refused> {
        assert!(count >= 1, "a computation needs at least one thread");
        #[cfg(feature = "parallel")]
        {
            let build = || rayon::ThreadPoolBuilder::new().num_threads(count).build();
            let pool = (count > 1)
                .then(build)
                .transpose()
                .map_err(|error| Refused { count, reason: alloc::string::ToString::to_string(&error) })?;
            Ok(Self { count, pool })
        }
        #[cfg(not(feature = "parallel"))]
        Ok(Self { count: 1 })
    }

    /// How many threads compute.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Runs `work` inside the pool, so that every [`for_each`](Self::for_each) in it starts without crossing over from an
    /// outside thread. Worth it around a whole training step.
    pub fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        #[cfg(feature = "parallel")]
        if let Some(pool) = &self.pool {
            return pool.install(work);
        }
        work()
    }

    /// Runs `task(index, scratch)` for every index below `tasks`. Each thread has one element of `scratch` to itself;
    /// there are at most as many threads as elements.
    pub fn for_each<S: Send>(&self, tasks: usize, scratch: &mut [S], task: impl Fn(usize, &mut S) + Sync) {
        let next = AtomicUsize::new(0);
        let worker = |scratch: &mut S| {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= tasks {
                    break;
                }
                task(index, scratch);
            }
        };
        let workers = self.count.min(tasks).min(scratch.len());
        #[cfg(feature = "parallel")]
        if let (Some(pool), true) = (&self.pool, workers > 1) {
            return pool.install(|| fork(&mut scratch[..workers], &worker));
        }
        if workers > 0 {
            worker(&mut scratch[0]);
        }
        assert!(tasks == 0 || workers > 0, "every thread needs a scratch");
    }

    /// Runs `work` on every item, the items shared out evenly.
    pub fn for_each_mut<T: Send>(&self, items: &mut [T], work: impl Fn(&mut T) + Sync) {
        #[cfg(feature = "parallel")]
        if let Some(pool) = &self.pool {
            return pool.install(|| fork(items, &work));
        }
        items.iter_mut().for_each(work);
    }
}

/// One `worker` for each scratch, joined pairwise: no allocation.
#[cfg(feature = "parallel")]
fn fork<S: Send>(scratch: &mut [S], worker: &(impl Fn(&mut S) + Sync)) {
    match scratch {
        [] => {}
        [one] => worker(one),
        many => {
            let (left, right) = many.split_at_mut(many.len() / 2);
            rayon::join(|| fork(left, worker), || fork(right, worker));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        for count in 1..4 {
            let threads = Threads::new(count);
            let mut scratch = alloc::vec![0usize; count];
            threads.for_each(1000, &mut scratch, |index, sum| *sum += index);
            assert_eq!(scratch.iter().sum::<usize>(), 999 * 1000 / 2);
        }
    }
}
