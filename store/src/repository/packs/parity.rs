//! Making the parity of packs, on a thread of its own, after they were acknowledged.
//!
//! A pack that waits is marked in the index in the transaction that takes it in, so what a crash leaves undone is known,
//! and made up for by whoever stores packs next, whenever there is nothing newer to do. Bytes of a few packs are held while
//! they wait; the others are read again. One thread a repository does this: it must leave room for the push that it
//! follows.

use std::{
    collections::VecDeque,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use crate::{
    base::{
        error::{Error, Result},
        id::PackId,
    },
    format::{
        erasure::{Encoder, Parity},
        pack::{PACK_TARGET, PackTable},
    },
    repository::{
        Repository,
        backend::Backend,
        index::{Index, Pin},
        layout,
    },
};

/// Bytes of waiting packs that are held at most.
const HELD_MAX: usize = 2 * PACK_TARGET;
/// Marks are struck when there has been nothing to do for so long; those of a busy repository with the next pack.
const IDLE: Duration = Duration::from_secs(1);

/// Makes parity. Dropped, it ends what it has in hand and leaves the rest marked.
pub(in crate::repository) struct Maker {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    backend: Arc<dyn Backend>,
    index: Arc<Index>,
    queue: Mutex<Queue>,
    /// Used by one thread only; its memory is given back when there is nothing to do.
    encoder: Mutex<Encoder>,
    /// Something came in, or is done, or all is to end.
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Job>,
    /// Marked before this process began. Nobody waits for these.
    left: Vec<Job>,
    held: usize,
    /// How many jobs ever waited, and how many of them are behind us; both in order.
    came: u64,
    done: u64,
    /// Packs whose marks are to be struck.
    made: Vec<PackId>,
    is_stopping: bool,
}

struct Job {
    pack: PackId,
    parity: Parity,
    /// None: to be read again.
    bytes: Option<Bytes>,
    /// It was marked before this process began: perhaps its parity was made all the same.
    is_old: bool,
}

impl Repository {
    /// Takes a pack in that is durable, and has its parity made.
    pub(in crate::repository) fn take_in(&self, table: &PackTable, bytes: &Bytes, pin: Option<Pin>) -> Result<()> {
        let len = bytes.len() as u64;
        match self.state()?.parity {
            None => self.index.packs().add(table, len, pin),
            Some(parity) => {
                self.index.packs().add_without_parity(table, len, pin, &self.maker.take_made())?;
                self.maker.add(table.id, bytes, parity)
            }
        }
    }

    /// Makes the parity that is missing where a crash left it so, behind whatever else is done. What stores packs does
    /// this by itself.
    pub fn resume_parity(&self) -> Result<()> {
        match self.state()?.parity {
            Some(parity) => self.maker.start(parity),
            None => Ok(()),
        }
    }

    /// Waits for the parity of all packs that were stored so far.
    pub fn wait_for_parity(&self) {
        self.maker.wait();
    }
}

impl Maker {
    pub fn new(backend: Arc<dyn Backend>, index: Arc<Index>) -> Self {
        let shared =
            Shared { backend, index, queue: Mutex::default(), encoder: Mutex::default(), changed: Condvar::new() };
        Self { shared: Arc::new(shared), thread: Mutex::new(None) }
    }

    /// Packs whose marks may be struck.
    pub fn take_made(&self) -> Vec<PackId> {
        std::mem::take(&mut self.shared.queue.lock().made)
    }

    /// Takes on a pack that is stored and marked.
    pub fn add(&self, pack: PackId, bytes: &Bytes, parity: Parity) -> Result<()> {
        self.start(parity)?;
        self.shared.add(Job { pack, parity, bytes: Some(bytes.clone()), is_old: false });
        Ok(())
    }

    /// Begins to work, first at what was left undone.
    pub fn start(&self, parity: Parity) -> Result<()> {
        let mut thread = self.thread.lock();
        if thread.is_some() {
            return Ok(());
        }
        let left = self.shared.index.packs().without_parity()?;
        let job = |pack| Job { pack, parity, bytes: None, is_old: true };
        self.shared.queue.lock().left = left.into_iter().map(job).collect();
        let shared = self.shared.clone();
        let name = std::thread::Builder::new().name("bkfs-parity".into());
        *thread = Some(name.spawn(move || shared.work()).map_err(|e| Error::io("a thread", e))?);
        Ok(())
    }

    /// Waits until all that came in before this call is behind us.
    pub fn wait(&self) {
        let mut queue = self.shared.queue.lock();
        let came = queue.came;
        while queue.done < came && !queue.is_stopping {
            self.shared.changed.wait(&mut queue);
        }
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        self.shared.queue.lock().is_stopping = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.get_mut().take() {
            // What it could not do stays marked.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn add(&self, mut job: Job) {
        let mut queue = self.queue.lock();
        let len = job.bytes.as_ref().map_or(0, Bytes::len);
        match queue.held + len <= HELD_MAX {
            true => queue.held += len,
            false => job.bytes = None,
        }
        queue.waiting.push_back(job);
        queue.came += 1;
        self.changed.notify_all();
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            let made = self.make(&job);
            let mut queue = self.queue.lock();
            match made {
                Ok(()) => queue.made.push(job.pack),
                // It stays marked, and scrubbing looks at every pack.
                Err(error) => tracing::warn!(pack = %job.pack, %error, "no parity could be made for a pack"),
            }
            queue.held -= job.bytes.as_ref().map_or(0, Bytes::len);
            queue.done += u64::from(!job.is_old);
            self.changed.notify_all();
        }
        self.strike();
    }

    /// The next job; none when all is to end.
    fn next(&self) -> Option<Job> {
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
                    parking_lot::MutexGuard::unlocked(&mut queue, || self.strike());
                }
                Some(_) => drop(self.changed.wait_for(&mut queue, IDLE)),
                None => self.changed.wait(&mut queue),
            }
        }
    }

    fn strike(&self) {
        *self.encoder.lock() = Encoder::default();
        let made = std::mem::take(&mut self.queue.lock().made);
        if let Err(error) = self.index.packs().remove_parity_marks(&made) {
            // The next process finds marks of packs that have their parity, and looks.
            tracing::debug!(%error, "marks of packs could not be struck");
        }
    }

    fn make(&self, job: &Job) -> Result<()> {
        let name = layout::parity(job.pack);
        if job.is_old && self.backend.len(&name)?.is_some() {
            // Whoever made it may have died before it was durable.
            return self.backend.settle(&layout::parity_folder(job.pack.0[0]));
        }
        let bytes = match &job.bytes {
            Some(bytes) => bytes.clone(),
            None => match self.backend.get(&layout::pack(job.pack))? {
                Some(bytes) => bytes,
                None if job.is_old => return Ok(()),
                None => return Err(Error::PackDamaged { pack: job.pack, reason: "its file is missing".into() }),
            },
        };
        let parity = self.encoder.lock().encode(&bytes, job.parity)?;
        self.backend.put(&name, &parity)
    }
}
