//! The threads that fetch ahead.
//!
//! Fetching ahead must not delay a read. Therefore jobs that do not fit the queue are dropped, long ones are cut into
//! pieces, and before each piece a thread waits briefly while reads are in progress. The wait is bounded, because a
//! read may be waiting for this very piece. Failures are only logged: the read that needs the bytes will fail by
//! itself.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use bkfs_store::format::tree::Node;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::{pool::Threads, vfs::source::VfsSource};

/// Jobs that may wait.
const QUEUE: usize = 64;
/// Bytes fetched at a time, about a dozen frames: enough to fill a connection, but soon done if a read waits.
const PIECE: u64 = 1024 * 1024;
/// How long to wait for reads in progress: about as long as a nearby store takes for one frame.
const YIELD_MAX: Duration = Duration::from_millis(2);
const YIELD_STEP: Duration = Duration::from_micros(200);

struct PrefetchJob {
    node: Arc<Node>,
    range: Range<u64>,
}

#[derive(Default)]
struct PoolState {
    /// Reads in progress.
    reads: AtomicUsize,
    fetched: AtomicU64,
    dropped: AtomicU64,
    stop: AtomicBool,
}

/// Threads that fetch ahead. When the pool is dropped they end, each after its present piece.
pub struct PrefetchPool {
    jobs: Option<Sender<PrefetchJob>>,
    shared: Arc<PoolState>,
}

/// A read is in progress while this is alive.
pub struct ActiveRead<'a>(&'a AtomicUsize);

impl Drop for ActiveRead<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for PrefetchPool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl PrefetchPool {
    /// Starts threads that fetch from `source`. Without threads, nothing is ever fetched.
    pub fn new(source: &Arc<dyn VfsSource>, threads: usize) -> Self {
        let shared = Arc::new(PoolState::default());
        let (send, receive) = bounded::<PrefetchJob>(QUEUE);
        let fetch = {
            let (source, shared) = (source.clone(), shared.clone());
            move |_| work(&receive, &*source, &shared)
        };
        let threads = Threads::start("prefetch", threads, fetch);
        Self { jobs: (!threads.is_empty()).then_some(send), shared }
    }

    /// Marks a read as in progress.
    pub fn begin_read(&self) -> ActiveRead<'_> {
        self.shared.reads.fetch_add(1, Ordering::Relaxed);
        ActiveRead(&self.shared.reads)
    }

    /// Has a range fetched soon. Drops what does not fit the queue.
    pub fn submit(&self, node: &Arc<Node>, range: Range<u64>) {
        let Some(jobs) = &self.jobs else { return };
        let mut from = range.start;
        while from < range.end {
            let to = (from + PIECE).min(range.end);
            match jobs.try_send(PrefetchJob { node: node.clone(), range: from..to }) {
                Ok(()) => {}
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                    self.shared.dropped.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
            from = to;
        }
    }

    /// Returns how many pieces were fetched, and how often pieces were dropped.
    pub fn counts(&self) -> (u64, u64) {
        (self.shared.fetched.load(Ordering::Relaxed), self.shared.dropped.load(Ordering::Relaxed))
    }
}

fn work(jobs: &Receiver<PrefetchJob>, source: &dyn VfsSource, shared: &PoolState) {
    for PrefetchJob { node, range } in jobs {
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let mut waited = Duration::ZERO;
        while shared.reads.load(Ordering::Relaxed) > 0 && waited < YIELD_MAX {
            thread::sleep(YIELD_STEP);
            waited += YIELD_STEP;
        }
        match source.prefetch(&node, range) {
            Ok(()) => drop(shared.fetched.fetch_add(1, Ordering::Relaxed)),
            Err(error) => tracing::debug!(%error, "cannot fetch ahead"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::vfs::testing::{self, Memory};

    fn until(done: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !done() {
            assert!(Instant::now() < deadline);
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn jobs_are_fetched_in_pieces_until_the_queue_is_full() {
        let memory = Arc::new(Memory::default());
        let node = Arc::new(testing::file(b"f", 1 << 30));
        let held = memory.prefetched.lock();
        let pool = PrefetchPool::new(&(memory.clone() as Arc<dyn VfsSource>), 1);
        pool.submit(&node, 0..3 * PIECE + 5);
        pool.submit(&node, 0..PIECE * 2 * QUEUE as u64);
        pool.submit(&node, 0..3 * PIECE);
        assert_eq!(pool.counts(), (0, 2), "the thread waits, so nothing is fetched; two jobs did not fit completely");
        drop(held);
        until(|| pool.counts().0 >= QUEUE as u64);
        let fetched = memory.prefetched.lock();
        assert_eq!(fetched[..4], [0..PIECE, PIECE..2 * PIECE, 2 * PIECE..3 * PIECE, 3 * PIECE..3 * PIECE + 5]);
    }

    #[test]
    fn fetching_waits_for_reads_but_not_forever() {
        let memory = Arc::new(Memory::default());
        let pool = PrefetchPool::new(&(memory.clone() as Arc<dyn VfsSource>), 2);
        let _read = pool.begin_read();
        pool.submit(&Arc::new(testing::file(b"f", 1 << 30)), 0..PIECE);
        until(|| pool.counts().0 == 1);
    }

    #[test]
    fn without_threads_nothing_is_fetched() {
        let memory = Arc::new(Memory::default());
        let pool = PrefetchPool::new(&(memory as Arc<dyn VfsSource>), 0);
        pool.submit(&Arc::new(testing::file(b"f", 9)), 0..9);
        assert_eq!(pool.counts(), (0, 0));
    }
}
