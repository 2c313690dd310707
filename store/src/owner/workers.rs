//! A pool of threads that work through a list.

use parking_lot::Mutex;

use crate::base::error::Result;

/// Calls `work` for every item, on `threads` threads (at least one). A thread ends at its first error; the others work
/// on. Returns one of the errors.
pub(crate) fn for_each<T, I>(items: I, threads: usize, work: impl Fn(T) -> Result<()> + Sync) -> Result<()>
where
    I: Iterator<Item = T> + Send,
{
    let queue = Mutex::new(items);
    let run = || -> Result<()> {
        // The lock is released before the work begins.
        while let Some(item) = { queue.lock().next() } {
            work(item)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(run)).collect();
        let mut outcome = Ok(());
        for worker in workers {
            let result = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            outcome = outcome.and(result);
        }
        outcome
    })
}
