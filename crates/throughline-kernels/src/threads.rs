//! A fixed team of threads.
//!
//! Tasks write disjoint outputs and never depend on the order in which threads take them, so neither the number of
//! threads nor their timing can change a bit of any result.
//!
//! The calling thread is the first worker. The others spin for a short while between jobs, so that the next job of a
//! training step finds them awake, and then sleep. At a barrier workers likewise spin, yield, and finally sleep, so
//! that a team on a busy machine costs little more than the work itself.

#[cfg(feature = "parallel")]
mod team;

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::disjoint::Disjoint;

/// The most threads of a team; no machine runs as many at a time. At twice as many, with Linux's default limit on
/// memory mappings, a thread that has started cannot map its signal stack, which aborts the process instead of
/// returning an error.
#[cfg(feature = "parallel")]
const MOST: usize = 1 << 13;

/// A number of threads to compute with. With more than one it owns them; no global pool is touched.
#[derive(Debug)]
pub struct Threads {
    count: usize,
    #[cfg(feature = "parallel")]
    team: Option<team::Team>,
}

/// Why so many threads cannot be started: the error of [`Threads::try_new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    count: usize,
    reason: alloc::string::String,
}

impl core::fmt::Display for Refused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "cannot start {} threads ({}): use fewer", self.count, self.reason)
    }
}

impl core::error::Error for Refused {}

/// One of the workers that run a job together.
#[derive(Clone, Copy, Debug)]
pub struct Worker<'a> {
    /// Its index, below `count`.
    pub index: usize,
    /// How many workers there are.
    pub count: usize,
    #[cfg(feature = "parallel")]
    barrier: Option<&'a team::Barrier>,
    #[cfg(not(feature = "parallel"))]
    barrier: core::marker::PhantomData<&'a ()>,
}

impl Worker<'_> {
    /// The only worker.
    const ALONE: Worker<'static> = Worker {
        index: 0,
        count: 1,
        #[cfg(feature = "parallel")]
        barrier: None,
        #[cfg(not(feature = "parallel"))]
        barrier: core::marker::PhantomData,
    };

    /// Waits until every worker has reached this barrier. What any of them wrote before it, all of them see after it.
    #[inline]
    pub fn barrier(&self) {
        #[cfg(feature = "parallel")]
        if let Some(barrier) = self.barrier {
            barrier.wait();
        }
    }
}

impl Threads {
    /// The calling thread alone.
    pub const ONE: &'static Threads = &Threads {
        count: 1,
        #[cfg(feature = "parallel")]
        team: None,
    };

    /// [`try_new`](Self::try_new) for a number of threads that the system is known to allow.
    ///
    /// # Panics
    /// If `count` is 0 or [`try_new`](Self::try_new) refuses.
    pub fn new(count: usize) -> Self {
        Self::try_new(count).unwrap_or_else(|refused| panic!("{refused}"))
    }

    /// `count` threads, the calling one among them. Without the feature `parallel` this is always one.
    ///
    /// # Errors
    /// If the operating system refuses a thread, or `count` is above 8,192.
    ///
    /// # Panics
    /// If `count` is 0.
    pub fn try_new(count: usize) -> Result<Self, Refused> {
        assert!(count >= 1, "a computation needs at least one thread");
        #[cfg(feature = "parallel")]
        {
            if count > MOST {
                return Err(Refused { count, reason: alloc::format!("at most {MOST} are allowed") });
            }
            let team = (count > 1)
                .then(|| team::Team::new(count))
                .transpose()
                .map_err(|error| Refused { count, reason: alloc::string::ToString::to_string(&error) })?;
            Ok(Self { count, team })
        }
        #[cfg(not(feature = "parallel"))]
        Ok(Self { count: 1 })
    }

    /// How many threads compute.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Runs `work` on up to `workers` threads at the same time, each with one element of `scratch` to itself; they may
    /// synchronise at a [`barrier`](Worker::barrier). There are never more workers than threads or elements of
    /// `scratch`, and only the calling thread if the team is already working for another caller. The result of `work`
    /// must not depend on the number of workers.
    ///
    /// # Panics
    /// If `scratch` is empty, or `work` panics on any thread.
    pub fn together<S: Send>(&self, workers: usize, scratch: &mut [S], work: impl Fn(Worker<'_>, &mut S) + Sync) {
        assert!(!scratch.is_empty(), "every worker needs a scratch");
        let workers = workers.min(self.count).min(scratch.len());
        let memory = Disjoint::new(scratch);
        self.run(workers, |worker| {
            // SAFETY: every worker has its own index, which is below the length, so no other worker uses this element.
            let scratch = unsafe { memory.slice(worker.index..worker.index + 1) };
            work(worker, &mut scratch[0]);
        });
    }

    /// Runs `task(index, scratch)` for every index below `tasks`; a worker that is free takes the next one. Each worker
    /// has one element of `scratch` to itself; there are at most as many workers as elements.
    ///
    /// # Panics
    /// If there are tasks and `scratch` is empty, or a task panics.
    pub fn for_each<S: Send>(&self, tasks: usize, scratch: &mut [S], task: impl Fn(usize, &mut S) + Sync) {
        if self.count == 1 || tasks <= 1 {
            for index in 0..tasks {
                task(index, &mut scratch[0]);
            }
            return;
        }
        let next = AtomicUsize::new(0);
        self.together(tasks, scratch, |_, scratch| {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= tasks {
                    break;
                }
                task(index, scratch);
            }
        });
    }

    /// Runs `work` on every item; a worker that is free takes the next one.
    pub fn for_each_mut<T: Send>(&self, items: &mut [T], work: impl Fn(&mut T) + Sync) {
        let (count, memory) = (items.len(), Disjoint::new(items));
        let next = AtomicUsize::new(0);
        let workers = self.count.min(count);
        self.run(workers, |_| {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    break;
                }
                // SAFETY: the counter yields every index once, and it is below the length.
                let item = unsafe { memory.slice(index..index + 1) };
                work(&mut item[0]);
            }
        });
    }

    /// [`together`](Self::together) without scratch, for no more workers than there are threads.
    fn run(&self, workers: usize, work: impl Fn(Worker<'_>) + Sync) {
        #[cfg(feature = "parallel")]
        if workers > 1 && self.team.as_ref().is_some_and(|team| team.run(workers, &work)) {
            return;
        }
        let _ = workers;
        work(Worker::ALONE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        for count in 1..5 {
            let threads = Threads::new(count);
            for round in 0..50 {
                let mut scratch = alloc::vec![0usize; count];
                threads.for_each(100, &mut scratch, |index, sum| *sum += index);
                if round % 16 == 0 {
                    // Long enough for the others to fall asleep.
                    #[cfg(feature = "std")]
                    std::thread::sleep(core::time::Duration::from_millis(5));
                }
                assert_eq!(scratch.iter().sum::<usize>(), 99 * 100 / 2);
            }
            let mut items = alloc::vec![1u64; 37];
            threads.for_each_mut(&mut items, |item| *item += 1);
            assert_eq!(items, [2; 37]);
        }
    }

    #[test]
    #[cfg(feature = "parallel")]
    fn a_count_beyond_all_machines_is_refused() {
        for count in [MOST + 1, usize::MAX] {
            let refused = Threads::try_new(count).expect_err("no machine has so many");
            let message = format!("cannot start {count} threads (at most 8192 are allowed): use fewer");
            assert_eq!(refused.to_string(), message);
        }
    }

    #[test]
    #[cfg(feature = "parallel")]
    fn workers_see_what_others_wrote_before_a_barrier() {
        let threads = Threads::new(3);
        let cells: [AtomicUsize; 3] = Default::default();
        threads.together(3, &mut [(), (), ()], |worker, ()| {
            assert_eq!(worker.count, 3);
            for round in 1..2000 {
                if round % 500 == 0 && worker.index == 0 {
                    // Long enough for the others to nap at the barrier.
                    std::thread::sleep(core::time::Duration::from_millis(10));
                }
                cells[worker.index].store(round, Ordering::Relaxed);
                worker.barrier();
                assert!(cells.iter().all(|cell| cell.load(Ordering::Relaxed) == round));
                worker.barrier();
            }
        });
    }

    #[test]
    fn a_second_caller_of_a_busy_team_works_alone() {
        let threads = Threads::new(2);
        let inner = AtomicUsize::new(0);
        threads.together(2, &mut [(), ()], |_, ()| {
            threads.together(2, &mut [(), ()], |worker, ()| {
                assert_eq!(worker.count, 1);
                inner.fetch_add(1, Ordering::Relaxed);
            });
        });
        assert_eq!(inner.load(Ordering::Relaxed), if cfg!(feature = "parallel") { 2 } else { 1 });
    }

    #[test]
    #[cfg(feature = "parallel")]
    fn a_panic_reaches_the_caller_and_the_team_works_on() {
        let threads = Threads::new(3);
        for culprit in 0..3 {
            let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                threads.together(3, &mut [(), (), ()], |worker, ()| {
                    assert!(worker.index != culprit, "worker {culprit} fails");
                    worker.barrier();
                });
            }));
            assert!(caught.is_err());
            let mut scratch = [0; 3];
            threads.together(3, &mut scratch, |worker, place| *place = worker.index + 1);
            assert_eq!(scratch, [1, 2, 3]);
        }
    }
}
