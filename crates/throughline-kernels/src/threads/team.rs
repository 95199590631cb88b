//! Threads that run one job at a time, together.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::thread::{self, JoinHandle};

use super::Worker;

/// Polls before a waiting thread first yields or sleeps: about a tenth of a millisecond.
const SPINS: u32 = 2_000;
/// Times that a thread at a barrier yields before it sleeps between polls.
const YIELDS: u32 = 2_000;
/// How long it then sleeps each time.
const NAP: Duration = Duration::from_micros(50);

/// `count - 1` threads besides the calling one.
#[derive(Debug)]
pub struct Team {
    shared: Arc<Shared>,
    members: Vec<JoinHandle<()>>,
    /// Set while a job runs.
    busy: AtomicBool,
}

/// The work of a job, its lifetime erased; see [`Team::run`].
type Job = *const (dyn Fn(Worker<'_>) + Sync);

struct Shared {
    /// Rises by one with each job, and to stop.
    epoch: AtomicUsize,
    job: Mutex<Option<(SendJob, usize)>>,
    /// Members that have not finished the current job.
    unfinished: AtomicUsize,
    /// A flag for each member: it sleeps, or is about to.
    asleep: Vec<AtomicBool>,
    stop: AtomicBool,
    barrier: Barrier,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl core::fmt::Debug for Shared {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Shared").field("members", &self.asleep.len()).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
struct SendJob(Job);

// SAFETY: the work behind the pointer is Sync, and `Team::run` keeps it alive until every member has finished it.
unsafe impl Send for SendJob {}

impl Team {
    pub fn new(count: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            epoch: AtomicUsize::new(0),
            job: Mutex::new(None),
            unfinished: AtomicUsize::new(0),
            asleep: (1..count).map(|_| AtomicBool::new(false)).collect(),
            stop: AtomicBool::new(false),
            barrier: Barrier::default(),
            panic: Mutex::new(None),
        });
        let mut team = Self { shared, members: Vec::new(), busy: AtomicBool::new(false) };
        for index in 1..count {
            let shared = Arc::clone(&team.shared);
            let builder = thread::Builder::new().name(alloc::format!("throughline-{index}"));
            team.members.push(builder.spawn(move || member(&shared, index))?);
        }
        Ok(team)
    }

    /// Runs `work` on `workers` threads, the calling one included, and returns true when all have finished. Returns
    /// false without running it if the team is busy.
    pub fn run(&self, workers: usize, work: &(dyn Fn(Worker<'_>) + Sync)) -> bool {
        if self.busy.swap(true, Ordering::Acquire) {
            return false;
        }
        let shared = &*self.shared;
        shared.barrier.begin(workers);
        // SAFETY: only the lifetime of the pointer changes. Members use it in this epoch alone, and this function does
        // not return before `unfinished` is 0, when all of them have finished.
        let job = unsafe { core::mem::transmute::<&(dyn Fn(Worker<'_>) + Sync), Job>(work) };
        *shared.job.lock().expect("no thread panics with the lock") = Some((SendJob(job), workers));
        shared.unfinished.store(self.members.len(), Ordering::Relaxed);
        shared.epoch.fetch_add(1, Ordering::SeqCst);
        for (asleep, member) in shared.asleep.iter().zip(&self.members) {
            if asleep.swap(false, Ordering::SeqCst) {
                member.thread().unpark();
            }
        }
        let mine = catch_unwind(AssertUnwindSafe(|| work(shared.worker(0, workers))));
        if mine.is_err() {
            shared.barrier.break_up();
        }
        wait(|| shared.unfinished.load(Ordering::Acquire) == 0);
        let theirs = shared.panic.lock().expect("no thread panics with the lock").take();
        self.busy.store(false, Ordering::Release);
        // `Broken` only says that another worker panicked: report the panic of that one.
        match (mine, theirs) {
            (Ok(()), None) => true,
            (Err(panic), Some(theirs)) if panic.is::<Broken>() => resume_unwind(theirs),
            (Err(panic), _) | (Ok(()), Some(panic)) => resume_unwind(panic),
        }
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        for member in self.members.drain(..) {
            member.thread().unpark();
            // A member catches the panics of its work, so it returns normally.
            let _ = member.join();
        }
    }
}

impl Shared {
    fn worker(&self, index: usize, count: usize) -> Worker<'_> {
        Worker { index, count, barrier: Some(&self.barrier) }
    }
}

/// What the thread of member `index` runs until the team is dropped.
fn member(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        let mut polls = 0;
        while shared.epoch.load(Ordering::Acquire) == seen {
            polls += 1;
            if polls < SPINS {
                core::hint::spin_loop();
                continue;
            }
            let asleep = &shared.asleep[index - 1];
            asleep.store(true, Ordering::SeqCst);
            // A caller that raises the epoch after this load sees the flag and wakes the member.
            if shared.epoch.load(Ordering::SeqCst) == seen {
                thread::park();
            }
            asleep.store(false, Ordering::SeqCst);
        }
        seen = shared.epoch.load(Ordering::Acquire);
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let job = *shared.job.lock().expect("no thread panics with the lock");
        if let Some((SendJob(job), workers)) = job
            && index < workers
        {
            // SAFETY: `Team::run` keeps the work alive until `unfinished` is 0, which waits for this member.
            let work = unsafe { &*job };
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(shared.worker(index, workers)))) {
                shared.barrier.break_up();
                let mut first = shared.panic.lock().expect("no thread panics with the lock");
                if first.as_ref().is_none_or(|first| first.is::<Broken>()) {
                    *first = Some(panic);
                }
            }
        }
        shared.unfinished.fetch_sub(1, Ordering::Release);
    }
}

/// Polls `done`: first spinning, then yielding, finally sleeping between polls.
#[inline]
fn wait(done: impl Fn() -> bool) {
    let mut polls = 0u32;
    while !done() {
        polls = polls.saturating_add(1);
        if polls < SPINS {
            core::hint::spin_loop();
        } else if polls < SPINS + YIELDS {
            thread::yield_now();
        } else {
            thread::sleep(NAP);
        }
    }
}

/// The panic payload of a worker that was released from a barrier because another worker panicked.
struct Broken;

/// Holds each worker until all have arrived.
#[derive(Debug, Default)]
pub struct Barrier {
    count: AtomicU32,
    arrived: AtomicU32,
    round: AtomicU32,
    broken: AtomicBool,
}

impl Barrier {
    /// Prepares for `count` workers; none may be waiting.
    fn begin(&self, count: usize) {
        self.count.store(count as u32, Ordering::Relaxed);
        self.arrived.store(0, Ordering::Relaxed);
        self.broken.store(false, Ordering::Relaxed);
    }

    /// Releases all workers that wait or will wait: one has panicked.
    fn break_up(&self) {
        self.broken.store(true, Ordering::SeqCst);
    }

    #[inline]
    pub fn wait(&self) {
        let round = self.round.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.count.load(Ordering::Relaxed) {
            self.arrived.store(0, Ordering::Relaxed);
            self.round.store(round.wrapping_add(1), Ordering::Release);
            return;
        }
        wait(|| self.round.load(Ordering::Acquire) != round || self.broken.load(Ordering::Relaxed));
        if self.broken.load(Ordering::Relaxed) {
            resume_unwind(Box::new(Broken));
        }
    }
}
