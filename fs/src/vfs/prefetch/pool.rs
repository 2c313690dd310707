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

use bkfs_store::tree::Node;
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
