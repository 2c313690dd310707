//! Groups of threads that do the same work.
//!
//! The system may refuse a thread. Fewer threads do the same work, only more slowly, so a group starts as many threads
//! as it can get. [`Threads`] live as long as their owner and get their work from it. A [`WorkerPool`] lives in a scope
//! and takes its jobs from a bounded queue; its jobs need a thread, so it fails if it gets none.

use std::{
    io,
    num::NonZero,
    ops::ControlFlow,
    sync::OnceLock,
    thread::{Builder, JoinHandle, Scope, ScopedJoinHandle},
};

use crossbeam_channel::{Receiver, Sender, bounded};

/// How many threads can work at a time on this machine. It is asked once: the answer takes several system calls.
pub fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(2, NonZero::get))
}

/// Threads that run until their owner tells them to end. The owner tells them, then calls [`Threads::join`].
#[derive(Debug, Default)]
pub struct Threads(Vec<JoinHandle<()>>);

impl Threads {
    /// Starts up to `count` threads called `name`; there may be fewer, even none. Each is given its number.
    pub fn start(name: &str, count: usize, work: impl Fn(usize) + Clone + Send + 'static) -> Self {
        let start = |number| {
            let work = work.clone();
            Builder::new().name(name.to_owned()).spawn(move || work(number)).ok()
        };
        Self((0..count).filter_map(start).collect())
    }

    /// Whether no thread was started.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Waits until all threads have ended.
    pub fn join(&mut self) {
        for thread in self.0.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Threads of a scope that take jobs from one bounded queue. They end once the pool is dropped and the queue is empty.
pub struct WorkerPool<'scope, J> {
    jobs: Sender<J>,
    threads: Vec<ScopedJoinHandle<'scope, ()>>,
    count_max: usize,
    /// Starts one more thread. It holds the receiving end of the queue, so it is dropped with the last start: from then
    /// on only threads receive, and submitting a job fails once all of them have ended.
    start: Option<Start<'scope>>,
}

type Start<'scope> = Box<dyn Fn() -> io::Result<ScopedJoinHandle<'scope, ()>> + Send + 'scope>;

/// Why a [`WorkerPool`] did not take a job.
#[derive(Debug)]
pub enum SubmitError {
    /// Every thread has ended: none takes jobs any more.
    Ended,
    /// No thread could be started.
    NoThread(io::Error),
}

impl<'scope, J: Send + 'scope> WorkerPool<'scope, J> {
    /// A pool without threads: each of the first `count` jobs starts one, so a pool without jobs never has any.
    ///
    /// At most `queued` jobs wait. A thread ends early if `work` breaks.
    pub fn growing<'env>(
        scope: &'scope Scope<'scope, 'env>,
        name: &'static str,
        count: usize,
        queued: usize,
        work: impl Fn(J) -> ControlFlow<()> + Copy + Send + 'scope,
    ) -> Self {
        let (jobs, queue) = bounded(queued);
        let start = move || {
            let queue: Receiver<J> = queue.clone();
            let run = move || {
                for job in queue {
                    if work(job).is_break() {
                        return;
                    }
                }
            };
            Builder::new().name(name.to_owned()).spawn_scoped(scope, run)
        };
        Self { jobs, threads: Vec::new(), count_max: count, start: Some(Box::new(start)) }
    }

    /// A pool like [`WorkerPool::growing`] that starts its threads at once. Fails if the first cannot be started.
    pub fn full<'env>(
        scope: &'scope Scope<'scope, 'env>,
        name: &'static str,
        count: usize,
        queued: usize,
        work: impl Fn(J) -> ControlFlow<()> + Copy + Send + 'scope,
    ) -> io::Result<Self> {
        let mut pool = Self::growing(scope, name, count, queued, work);
        while pool.start.is_some() {
            pool.grow()?;
        }
        Ok(pool)
    }

    /// Puts a job into the queue; waits while the queue is full.
    pub fn submit(&mut self, job: J) -> Result<(), SubmitError> {
        self.grow().map_err(SubmitError::NoThread)?;
        self.jobs.send(job).map_err(|_| SubmitError::Ended)
    }

    /// The sending end of the queue. The threads end once it is dropped and the queue is empty.
    pub fn into_sender(self) -> Sender<J> {
        self.jobs
    }

    /// Waits until every job is done and every thread has ended. Panics if a thread did.
    pub fn finish(self) {
        let Self { jobs, threads, start, .. } = self;
        drop((jobs, start));
        for thread in threads {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    }

    /// Starts one more thread, if there may be more. A refusal is an error only if there is no thread yet.
    fn grow(&mut self) -> io::Result<()> {
        let Some(start) = &self.start else { return Ok(()) };
        match start() {
            Ok(thread) => self.threads.push(thread),
            Err(error) if self.threads.is_empty() => return Err(error),
            Err(_) => self.start = None,
        }
        if self.threads.len() >= self.count_max {
            self.start = None;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    };

    use super::*;

    #[test]
    fn a_growing_pool_starts_a_thread_for_each_of_its_first_jobs() {
        let done = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let work = |n| {
                done.fetch_add(n, Relaxed);
                ControlFlow::Continue(())
            };
            let mut pool = WorkerPool::growing(scope, "test", 3, 10, work);
            for expected in [0, 1, 2, 3, 3] {
                assert_eq!(pool.threads.len(), expected);
                pool.submit(1).unwrap();
            }
            pool.finish();
        });
        assert_eq!(done.into_inner(), 5);
    }

    #[test]
    fn all_threads_of_a_full_pool_work_at_a_time() {
        let met = Barrier::new(4);
        std::thread::scope(|scope| {
            let work = |()| {
                met.wait();
                ControlFlow::Continue(())
            };
            let mut pool = WorkerPool::full(scope, "test", 4, 0, work).unwrap();
            (0..4).for_each(|_| pool.submit(()).unwrap());
            pool.finish();
        });
    }

    #[test]
    fn a_pool_whose_threads_have_ended_takes_no_jobs() {
        std::thread::scope(|scope| {
            let mut pool = WorkerPool::full(scope, "test", 2, 0, |()| ControlFlow::Break(())).unwrap();
            pool.submit(()).unwrap();
            pool.submit(()).unwrap();
            assert!(matches!(pool.submit(()), Err(SubmitError::Ended)));
        });
    }

    #[test]
    fn a_refused_thread_is_an_error_only_if_it_is_the_first() {
        let is_refused = Arc::new(AtomicBool::new(true));
        let refused = is_refused.clone();
        std::thread::scope(|scope| {
            let start = move || match refused.load(Relaxed) {
                true => Err(io::ErrorKind::WouldBlock.into()),
                false => Ok(scope.spawn(|| ())),
            };
            let (jobs, _queue) = bounded::<()>(0);
            let mut pool = WorkerPool { jobs, threads: Vec::new(), count_max: 9, start: Some(Box::new(start)) };
            assert!(pool.grow().is_err());
            is_refused.store(false, Relaxed);
            assert!(pool.grow().is_ok());
            is_refused.store(true, Relaxed);
            assert!(pool.grow().is_ok(), "one thread is enough");
            assert!(pool.start.is_none() && pool.threads.len() == 1);
        });
    }

    #[test]
    fn threads_are_numbered_and_joined() {
        let sum = Arc::new(AtomicUsize::new(0));
        let shared = sum.clone();
        let mut threads = Threads::start("test", 4, move |number| {
            shared.fetch_add(number, Relaxed);
        });
        assert!(!threads.is_empty());
        threads.join();
        assert!(threads.is_empty());
        assert_eq!(sum.load(Relaxed), 6);
    }
}
