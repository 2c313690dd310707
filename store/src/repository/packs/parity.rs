//! Making the parity of packs, on a thread of its own, after the packs were acknowledged.
//!
//! A pack that waits for its parity is marked in the index, in the transaction that adds it. So what a crash leaves
//! undone is known. The next process that stores packs does that work, whenever no newer pack is waiting. The
//! bytes of a few waiting packs are held in memory; the others are read again. One thread a repository makes parity: it
//! must leave room for the push that it follows.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::files::PackFiles;
use crate::{
    base::{
        error::{Error, Result},
        id::PackId,
    },
    format::{
        erasure::{Encoder, Parity},
        pack::PACK_TARGET,
    },
    repository::index::Index,
};

/// At most this many bytes of waiting packs are held, in all repositories of this process: a server has many.
const HELD_MAX: usize = 4 * PACK_TARGET;
static HELD: AtomicUsize = AtomicUsize::new(0);
/// How many packs get their parity at the same time, in all repositories of this process.
const AT_ONCE: usize = 2;
static WORKING: Gate = Gate { working: Mutex::new(0), freed: Condvar::new() };
/// Marks are removed after this long without work. In a busy repository they are removed together with the next pack.
const IDLE: Duration = Duration::from_secs(1);

/// Makes parity. When it is dropped, it ends the pack that it is at and leaves the others marked.
pub(super) struct ParityMaker {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread uses as well.
struct Shared {
    index: Arc<Index>,
    files: Arc<PackFiles>,
    queue: Mutex<Queue>,
    /// Used by one thread only. Its memory is given back when there is nothing to do.
    encoder: Mutex<Encoder>,
    /// Notified when a pack was queued or is done, and when the thread is to stop.
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<ParityJob>,
    /// Packs that were marked before this process began. `wait` does not wait for these.
    left: Vec<ParityJob>,
    /// How many packs were ever queued, and how many of them are done. They are done in order.
    queued: u64,
    done: u64,
    /// Packs whose marks can be removed.
    made: Vec<PackId>,
    is_stopping: bool,
}

struct ParityJob {
    pack: PackId,
    parity: Parity,
    /// None if the pack must be read again.
    held: Option<Held>,
    /// The pack was marked before this process began, so its parity may have been made already.
    is_old: bool,
}

/// The bytes of a waiting pack.
struct Held(Bytes);

impl Held {
    /// Holds bytes, unless too many are held.
    fn new(bytes: &Bytes) -> Option<Self> {
        let add = |held: usize| (held + bytes.len() <= HELD_MAX).then_some(held + bytes.len());
        HELD.fetch_update(SeqCst, SeqCst, add).ok().map(|_| Self(bytes.clone()))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.fetch_sub(self.0.len(), SeqCst);
    }
}

/// Lets few work at a time.
struct Gate {
    working: Mutex<usize>,
    freed: Condvar,
}

impl Gate {
    /// Waits for its turn. The turn ends when the result is dropped.
    fn enter(&self) -> Turn<'_> {
        let mut working = self.working.lock();
        while *working >= AT_ONCE {
            self.freed.wait(&mut working);
        }
        *working += 1;
        Turn(self)
    }
}

struct Turn<'g>(&'g Gate);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.working.lock() -= 1;
        self.0.freed.notify_one();
    }
}

impl fmt::Debug for ParityMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParityMaker").finish_non_exhaustive()
    }
}

impl ParityMaker {
    pub fn new(index: Arc<Index>, files: Arc<PackFiles>) -> Self {
        let (queue, encoder, changed) = (Mutex::default(), Mutex::default(), Condvar::new());
        Self { shared: Arc::new(Shared { index, files, queue, encoder, changed }), thread: Mutex::new(None) }
    }

    /// Takes the packs whose marks can be removed.
    pub fn take_made(&self) -> Vec<PackId> {
        std::mem::take(&mut self.shared.queue.lock().made)
    }

    /// Queues a pack that is stored and marked.
    pub fn add(&self, pack: PackId, bytes: &Bytes, parity: Parity) -> Result<()> {
        self.start(parity)?;
        self.shared.add(ParityJob { pack, parity, held: Held::new(bytes), is_old: false });
        Ok(())
    }

    /// Starts the thread, if it does not run. It begins with the packs that were left undone.
    pub fn start(&self, parity: Parity) -> Result<()> {
        let mut thread = self.thread.lock();
        if thread.is_some() {
            return Ok(());
        }
        let left = self.shared.index.packs().without_parity()?;
        let job = |pack| ParityJob { pack, parity, held: None, is_old: true };
        self.shared.queue.lock().left = left.into_iter().map(job).collect();
        let shared = self.shared.clone();
        let name = std::thread::Builder::new().name("bkfs-parity".into());
        *thread = Some(name.spawn(move || shared.work()).map_err(|e| Error::io("a thread", e))?);
        Ok(())
    }

    /// Waits until all packs are done that were queued before this call.
    pub fn wait(&self) {
        let mut queue = self.shared.queue.lock();
        let queued = queue.queued;
        while queue.done < queued && !queue.is_stopping {
            self.shared.changed.wait(&mut queue);
        }
    }
}

impl Drop for ParityMaker {
    fn drop(&mut self) {
        self.shared.queue.lock().is_stopping = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.get_mut().take() {
            // Packs that it did not get to stay marked.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn add(&self, job: ParityJob) {
        let mut queue = self.queue.lock();
        queue.waiting.push_back(job);
        queue.queued += 1;
        self.changed.notify_all();
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            let working = WORKING.enter();
            let made = self.make(&job);
            drop(working);
            let mut queue = self.queue.lock();
            match made {
                Ok(()) => queue.made.push(job.pack),
                // It stays marked, and a scrub looks at every pack.
                Err(error) => tracing::warn!(pack = %job.pack, %error, "no parity could be made for a pack"),
            }
            queue.done += u64::from(!job.is_old);
            self.changed.notify_all();
        }
        self.remove_marks();
    }

    /// Waits for the next pack; none if the thread is to stop.
    fn next(&self) -> Option<ParityJob> {
        let mut queue = self.queue.lock();
        let mut idle_since = Some(Instant::now());
        loop {
            if queue.is_stopping {
                return None;
            }
            let job = queue.waiting.pop_front().or_else(|| queue.left.pop());
            if job.is_some() {
                return job;
            }
            match idle_since {
                Some(since) if since.elapsed() >= IDLE => {
                    idle_since = None;
                    parking_lot::MutexGuard::unlocked(&mut queue, || self.remove_marks());
                }
                Some(_) => drop(self.changed.wait_for(&mut queue, IDLE)),
                None => self.changed.wait(&mut queue),
            }
        }
    }

    fn remove_marks(&self) {
        *self.encoder.lock() = Encoder::default();
        let made = std::mem::take(&mut self.queue.lock().made);
        if let Err(error) = self.index.packs().remove_parity_marks(&made) {
            // The next process finds the marks, and sees that the packs have their parity.
            tracing::debug!(%error, "the marks of packs that have their parity could not be removed");
        }
    }

    fn make(&self, job: &ParityJob) -> Result<()> {
        if job.is_old && self.files.parity_len(job.pack)?.is_some() {
            // The process that made it may have died before it was durable.
            return self.files.settle_parity(job.pack);
        }
        let bytes = match &job.held {
            Some(held) => held.0.clone(),
            None => match self.files.bytes(job.pack)? {
                Some(bytes) => bytes,
                None if job.is_old => return Ok(()),
                None => return Err(Error::PackDamaged { pack: job.pack, reason: "its file is missing".into() }),
            },
        };
        let parity = self.encoder.lock().encode(&bytes, job.parity)?;
        self.files.put_parity(job.pack, &parity)
    }
}
