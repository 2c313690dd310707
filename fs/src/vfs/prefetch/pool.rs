//! The threads that fetch ahead.
//!
//! Speculation never delays what somebody waits for: jobs that do not fit the queue are dropped, long ones are cut into
//! pieces, and before each piece a thread waits a little while reads are under way. The wait is bounded, because a read
//! may be waiting for just this piece. Failures are not reported here: the read that needs the bytes will fail by itself.

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

use crate::vfs::source::Source;

/// Jobs that may wait.
const QUEUE: usize = 64;
/// Bytes fetched at once, about a dozen frames: enough to fill a connection, little enough to give way after.
const PIECE: u64 = 1024 * 1024;
/// How long speculation gives way to reads that are under way: about what one frame takes from a near store.
const GIVE_WAY: Duration = Duration::from_millis(2);
const GIVE_WAY_STEP: Duration = Duration::from_micros(200);

struct Job {
    node: Arc<Node>,
    range: Range<u64>,
}

#[derive(Default)]
struct Shared {
    /// Reads under way.
    demand: AtomicUsize,
    fetched: AtomicU64,
    dropped: AtomicU64,
    stop: AtomicBool,
}

/// Threads that fetch ahead. They end when the pool is dropped, each after the piece that it is at.
pub struct Pool {
    jobs: Option<Sender<Job>>,
    shared: Arc<Shared>,
}

/// A read is under way while this lives.
pub struct Demand<'a>(&'a AtomicUsize);

impl Drop for Demand<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Pool {
    /// Starts threads that fetch from `source`; with 0 threads nothing is ever fetched.
    pub fn new(source: &Arc<dyn Source>, threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        if threads == 0 {
            return Ok(Self { jobs: None, shared });
        }
        let (send, receive) = bounded(QUEUE);
        for n in 0..threads {
            let (receive, source, shared) = (receive.clone(), source.clone(), shared.clone());
            thread::Builder::new().name(format!("prefetch-{n}")).spawn(move || work(&receive, &*source, &shared))?;
        }
        Ok(Self { jobs: Some(send), shared })
    }

    /// Marks a read as under way.
    pub fn demand(&self) -> Demand<'_> {
        self.shared.demand.fetch_add(1, Ordering::Relaxed);
        Demand(&self.shared.demand)
    }

    /// Fetches a range soon, or never if there is too much to do.
    pub fn submit(&self, node: &Arc<Node>, range: Range<u64>) {
        let Some(jobs) = &self.jobs else { return };
        let mut from = range.start;
        while from < range.end {
            let to = (from + PIECE).min(range.end);
            match jobs.try_send(Job { node: node.clone(), range: from..to }) {
                Ok(()) => {}
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                    self.shared.dropped.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
            from = to;
        }
    }

    /// How many pieces were fetched, and how many dropped.
    pub fn counts(&self) -> (u64, u64) {
        (self.shared.fetched.load(Ordering::Relaxed), self.shared.dropped.load(Ordering::Relaxed))
    }
}

fn work(jobs: &Receiver<Job>, source: &dyn Source, shared: &Shared) {
    for Job { node, range } in jobs {
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let mut waited = Duration::ZERO;
        while shared.demand.load(Ordering::Relaxed) > 0 && waited < GIVE_WAY {
            thread::sleep(GIVE_WAY_STEP);
            waited += GIVE_WAY_STEP;
        }
        match source.prefetch(&node, range) {
            Ok(()) => drop(shared.fetched.fetch_add(1, Ordering::Relaxed)),
            Err(error) => tracing::debug!(%error, "fetching ahead failed"),
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
    fn what_fits_the_queue_is_fetched_in_pieces_and_the_rest_dropped() {
        let memory = Arc::new(Memory::default());
        let node = Arc::new(testing::file(b"f", 1 << 30));
        let held = memory.prefetched.lock();
        let pool = Pool::new(&(memory.clone() as Arc<dyn Source>), 1).unwrap();
        pool.submit(&node, 0..3 * PIECE + 5);
        pool.submit(&node, 0..PIECE * 2 * QUEUE as u64);
        pool.submit(&node, 0..3 * PIECE);
        assert_eq!(pool.counts(), (0, 2), "the thread waits, so nothing is fetched; two jobs did not fit whole");
        drop(held);
        until(|| pool.counts().0 >= QUEUE as u64);
        let fetched = memory.prefetched.lock();
        assert_eq!(fetched[..4], [0..PIECE, PIECE..2 * PIECE, 2 * PIECE..3 * PIECE, 3 * PIECE..3 * PIECE + 5]);
    }

    #[test]
    fn speculation_waits_for_demand_but_not_for_ever() {
        let memory = Arc::new(Memory::default());
        let pool = Pool::new(&(memory.clone() as Arc<dyn Source>), 2).unwrap();
        let _demand = pool.demand();
        pool.submit(&Arc::new(testing::file(b"f", 1 << 30)), 0..PIECE);
        until(|| pool.counts().0 == 1);
    }

    #[test]
    fn no_threads_no_speculation() {
        let memory = Arc::new(Memory::default());
        let pool = Pool::new(&(memory as Arc<dyn Source>), 0).unwrap();
        pool.submit(&Arc::new(testing::file(b"f", 9)), 0..9);
        assert_eq!(pool.counts(), (0, 0));
    }
}
