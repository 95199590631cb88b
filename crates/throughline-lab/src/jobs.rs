//! Independent pieces of work on several threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::Bench;

/// What `work` makes of each of `items`, in their order.
pub fn each<I: Sync, O: Send>(bench: &Bench<'_>, items: &[I], work: impl Fn(&I) -> O + Sync) -> Vec<O> {
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let results = Mutex::new(items.iter().map(|_| None).collect::<Vec<Option<O>>>());
    let worker = || {
        while let Some((place, item)) = {
            let place = next.fetch_add(1, Ordering::Relaxed);
            items.get(place).map(|item| (place, item))
        } {
            let result = work(item);
            results.lock().expect("no worker has panicked")[place] = Some(result);
            (bench.progress)(done.fetch_add(1, Ordering::Relaxed) + 1, items.len());
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..bench.threads.min(items.len()) {
            scope.spawn(worker);
        }
        worker();
    });
    let results = results.into_inner().expect("no worker has panicked");
    results.into_iter().map(|result| result.expect("every item was taken")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Effort;

    #[test]
    fn results_stand_in_the_order_of_their_items() {
        let told = AtomicUsize::new(0);
        let progress = |_: usize, all: usize| {
            told.fetch_add(all, Ordering::Relaxed);
        };
        for threads in [1, 3, 20] {
            let bench = Bench { effort: Effort::Fast, text: None, threads, progress: &progress };
            assert_eq!(each(&bench, &[3, 1, 2, 5], |x| x * x), [9, 1, 4, 25]);
        }
        assert_eq!(told.into_inner(), 3 * 4 * 4);
        assert!(
            each(&Bench { effort: Effort::Fast, text: None, threads: 2, progress: &|_, _| () }, &[0; 0], |x| *x)
                .is_empty()
        );
    }
}
