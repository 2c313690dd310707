//! Threads for reads of contents, so that reads do not occupy all threads that answer the kernel.
//!
//! The kernel sends its requests in order, and a few readers of large files have more reads in flight than there are
//! threads. Listing a folder would then wait for megabytes of unrelated contents. Therefore only some of the threads
//! read; further reads go to separate threads. A single reader is answered by the thread that took its request: passing
//! it on costs more than a read from a cache.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use crossbeam_channel::{Sender, unbounded};

use crate::pool::Threads;

type ReadJob = Box<dyn FnOnce() + Send>;

/// Does reads. When this is dropped, its separate threads end, each after its present read.
pub struct ReadThreads {
    /// How many threads that answer the kernel are reading.
    inline: AtomicUsize,
    inline_max: usize,
    /// Never longer than the kernel's list of reads in flight, which is bounded: its read-ahead is limited, and each
    /// waiting reader has one read.
    jobs: Sender<ReadJob>,
}

impl ReadThreads {
    /// Starts as many separate threads as there are `threads` that answer the kernel.
    pub fn new(threads: usize) -> io::Result<Self> {
        let (jobs, receive) = unbounded::<ReadJob>();
        if Threads::start("read", threads.max(1), move |_| receive.iter().for_each(|job| job())).is_empty() {
            return Err(io::Error::other("the system grants no thread for reads"));
        }
        Ok(Self { inline: AtomicUsize::new(0), inline_max: inline_max(threads), jobs })
    }

    /// Does a read on the calling thread, or soon on a separate thread.
    pub fn run(&self, read: impl FnOnce() + Send + 'static) {
        let before = self.inline.fetch_add(1, Relaxed);
        if before < self.inline_max {
            read();
            self.inline.fetch_sub(1, Relaxed);
            return;
        }
        self.inline.fetch_sub(1, Relaxed);
        // The receivers live as long as their threads, which outlive this sender.
        let _ = self.jobs.send(Box::new(read));
    }
}

/// Returns how many of the threads may read: all but two, which are left for other requests, or all but one if there
/// are only two.
fn inline_max(threads: usize) -> usize {
    threads.saturating_sub(2).max(threads.min(2).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Barrier},
        thread,
    };

    use super::*;

    #[test]
    fn some_threads_do_not_read() {
        assert_eq!([1, 2, 3, 4, 16].map(inline_max), [0, 1, 1, 2, 14]);
    }

    #[test]
    fn a_thread_is_not_blocked_while_others_read() {
        let reads = Arc::new(ReadThreads::new(3).unwrap());
        // The reads end only when all three are in progress at the same time.
        let met = Arc::new(Barrier::new(4));
        let wait = |met: &Arc<Barrier>| {
            let met = met.clone();
            move || {
                met.wait();
            }
        };
        let inline = thread::spawn({
            let (reads, read) = (reads.clone(), wait(&met));
            move || reads.run(read)
        });
        while reads.inline.load(Relaxed) == 0 {
            thread::yield_now();
        }
        // These return before anything has been read.
        reads.run(wait(&met));
        reads.run(wait(&met));
        assert!(!inline.is_finished());
        met.wait();
        inline.join().unwrap();
        assert_eq!(reads.inline.load(Relaxed), 0);
    }
}
