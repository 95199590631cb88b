//! Work shared out to a fixed team of threads.
//!
//! Tasks write disjoint outputs and never depend on the order in which threads take them, so neither the number of threads
//! nor their timing can change a bit of any result.
//!
//! The calling thread is the first worker; the others wait for it: a short while awake, so that the next piece of a
//! training step finds them at once, then asleep. Workers that meet at a barrier likewise spin, yield, and in the end sleep,
//! so that a team on a busy machine costs little more than the work itself.

#[cfg(feature = "parallel")]
mod team;

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::disjoint::Disjoint;

/// More threads than any machine runs at a time. Of twice as many (with Linux's usual limit of mappings) one gets no memory for
/// its signal stack once it has started, which ends the process instead of being refused.
#[cfg(feature = "parallel")]
const MOST: usize = 1 << 13;

/// A number of threads to compute with. With more than one it owns them; no global pool is touched.
#[derive(Debug)]
pub struct Threads {
    count: usize,
    #[cfg(feature = "parallel")]
    team: Option<team::Team>,
}

/// So many threads are not to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    count: usize,
    reason: alloc::string::String,
}

impl core::fmt::Display for Refused {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} threads are not to be had ({}): use fewer", self.count, self.reason)
    }
}

impl core::error::Error for Refused {}

/// One of the workers that run a piece of work together.
#[derive(Clone, Copy, Debug)]
pub struct Worker<'a> {
    /// Its place among them.
    pub index: usize,
    /// How many there are.
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

    /// Waits until every worker has come here. What one wrote before is seen by all after.
    #[inline]
    pub fn meet(&self) {
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

    /// [`try_new`](Self::try_new) for a number of threads that the system is known to give.
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
                return Err(Refused { count, reason: alloc::format!("at most {MOST} are asked for") });
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
    /// [`meet`](Worker::meet). There may be fewer: never more than threads or scratches, and the calling one alone where the
    /// team is already at work for somebody else. Work must do the same whatever the number of workers.
    ///
    /// # Panics
    /// If `scratch` is empty, or `work` panics on any thread.
    pub fn together<S: Send>(&self, workers: usize, scratch: &mut [S], work: impl Fn(Worker<'_>, &mut S) + Sync) {
        assert!(!scratch.is_empty(), "every worker needs a scratch");
        let workers = workers.min(self.count).min(scratch.len());
        let memory = Disjoint::new(scratch);
        self.gather(workers, |worker| {
            // SAFETY: every worker has its own index, which is below the length, so nobody else has this element.
            let scratch = unsafe { memory.part(worker.index..worker.index + 1) };
            work(worker, &mut scratch[0]);
        });
    }

    /// Runs `task(index, scratch)` for every index below `tasks`, whichever worker is free taking the next. Each worker has
    /// one element of `scratch` to itself; there are at most as many workers as elements.
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

    /// Runs `work` on every item, whichever worker is free taking the next.
    pub fn for_each_mut<T: Send>(&self, items: &mut [T], work: impl Fn(&mut T) + Sync) {
        let (count, memory) = (items.len(), Disjoint::new(items));
        let next = AtomicUsize::new(0);
        let workers = self.count.min(count);
        self.gather(workers, |_| {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    break;
                }
                // SAFETY: the counter gives every index once, and it is below the length.
                let item = unsafe { memory.part(index..index + 1) };
                work(&mut item[0]);
            }
        });
    }

    /// [`together`](Self::together) without scratch, for no more workers than there are threads.
    fn gather(&self, workers: usize, work: impl Fn(Worker<'_>) + Sync) {
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
            let refused = Threads::try_new(count).expect_err("nobody has so many");
            let message = format!("{count} threads are not to be had (at most 8192 are asked for): use fewer");
            assert_eq!(refused.to_string(), message);
        }
    }

    #[test]
    #[cfg(feature = "parallel")]
    fn workers_see_what_others_wrote_before_they_met() {
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
                worker.meet();
                assert!(cells.iter().all(|cell| cell.load(Ordering::Relaxed) == round));
                worker.meet();
            }
        });
    }

    #[test]
    fn a_team_at_work_leaves_others_to_themselves() {
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
                    worker.meet();
                });
            }));
            assert!(caught.is_err());
            let mut scratch = [0; 3];
            threads.together(3, &mut scratch, |worker, place| *place = worker.index + 1);
            assert_eq!(scratch, [1, 2, 3]);
        }
    }
}
