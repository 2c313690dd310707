//! Reads of contents, kept from taking all the threads that answer the kernel.
//!
//! The kernel hands its requests out in order, and a few readers of large files have more reads under way than there are threads: then a look at
//! a folder waits for megabytes that it has nothing to do with. So only some of the threads read; what comes beyond that goes to threads
//! of its own. A single reader is answered by the thread that took its request: handing it on costs more than a read from a cache.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
};

use crossbeam_channel::{Sender, unbounded};

type Job = Box<dyn FnOnce() + Send>;

/// Where reads are done. Threads of its own end when it is dropped, each after the read that it is at.
pub struct Reads {
    /// Reads that are done by threads that answer the kernel.
    here: AtomicUsize,
    here_max: usize,
    /// As long as the kernel's list of reads under way: what it reads ahead is bounded, and whoever waits has one.
    jobs: Sender<Job>,
}

impl Reads {
    /// For so many threads that answer the kernel; as many are added.
    pub fn new(threads: usize) -> io::Result<Self> {
        let (jobs, receive) = unbounded::<Job>();
        for number in 0..threads.max(1) {
            let receive = receive.clone();
            thread::Builder::new()
                .name(format!("read-{number}"))
                .spawn(move || receive.iter().for_each(|job| job()))?;
        }
        Ok(Self { here: AtomicUsize::new(0), here_max: here_max(threads), jobs })
    }

    /// Does a read here and now, or elsewhere and soon.
    pub fn run(&self, read: impl FnOnce() + Send + 'static) {
        let before = self.here.fetch_add(1, Relaxed);
        if before < self.here_max {
            read();
            self.here.fetch_sub(1, Relaxed);
            return;
        }
        self.here.fetch_sub(1, Relaxed);
        // The receivers live as long as their threads, which end after this.
        let _ = self.jobs.send(Box::new(read));
    }
}

/// Of so many threads, how many may read: two are left for everything else, or one if there are only two.
fn here_max(threads: usize) -> usize {
    threads.saturating_sub(2).max(threads.min(2).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier};

    use super::*;

    #[test]
    fn some_threads_are_left() {
        assert_eq!([1, 2, 3, 4, 16].map(here_max), [0, 1, 1, 2, 14]);
    }

    #[test]
    fn who_finds_the_others_reading_is_not_held_up() {
        let reads = Arc::new(Reads::new(3).unwrap());
        // All three reads are under way at once, or nobody comes on.
        let met = Arc::new(Barrier::new(4));
        let wait = |met: &Arc<Barrier>| {
            let met = met.clone();
            move || {
                met.wait();
            }
        };
        let here = thread::spawn({
            let (reads, read) = (reads.clone(), wait(&met));
            move || reads.run(read)
        });
        while reads.here.load(Relaxed) == 0 {
            thread::yield_now();
        }
        // These return, though nothing has been read.
        reads.run(wait(&met));
        reads.run(wait(&met));
        assert!(!here.is_finished());
        met.wait();
        here.join().unwrap();
        assert_eq!(reads.here.load(Relaxed), 0);
    }
}
