//! Which chunks the repository already has.
//!
//! A question is answered from the nearest place: what this push has sent, the local known-set, or the repository
//! itself. Readers announce ids as soon as they know them, and a few threads ask the repository. While one question is
//! under way, the ids for the next one gather. So questions grow with the distance, and nothing waits for a timer.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bkfs_store::{
    Error, Result,
    access::Push,
    base::id::{ChunkId, ClientId},
};
use parking_lot::{Condvar, Mutex};

use super::sample::Sample;
use crate::{
    cache::{Cache, LossView},
    pool::Threads,
};

/// Questions that may be under way at a time.
const THREADS: usize = 4;
/// Ids in one question.
const IDS_MAX: usize = 8192;

/// Ids that are written to the known-set in one step.
const KNOWN_BATCH: usize = 16 * 1024;
/// If more ids were sent than this, acknowledged ones are dropped: the repository knows them. This many take 17 MB.
const SENT_MAX: usize = 768 * 1024;
/// If more ids are held than this, those found to be stored are not added: they can be asked again.
const STORED_MAX: usize = 256 * 1024;
/// If more stored chunks are needed than this, their ids are not remembered.
const NEEDED_MAX: usize = 1024 * 1024;

/// The start of a chunk id, which is enough to tell chunks apart.
type IdPrefix = [u8; 16];

fn prefix(id: &ChunkId) -> IdPrefix {
    let mut prefix = [0; 16];
    prefix.copy_from_slice(&id.0[..16]);
    prefix
}

/// Answers whether chunks are stored.
pub struct Dedup {
    shared: Arc<Shared>,
    threads: Threads,
}

struct Shared {
    access: Arc<dyn Push>,
    /// The client that is going to rely on the answers.
    client: ClientId,
    known_set: Option<(Arc<Cache>, LossView)>,
    sent_max: usize,
    state: Mutex<DedupState>,
    asked: Condvar,
    answered: Condvar,
}

#[derive(Default)]
struct DedupState {
    /// The chunks that this push sends, stored or on their way before all that follow, and some of those that were
    /// found to be stored.
    sent: HashSet<IdPrefix>,
    /// Whether ids of sent chunks were dropped.
    has_dropped_ids: bool,
    /// Whether `sent` holds every stored chunk: the repository was empty, and nothing was dropped. Then the repository
    /// need not be asked.
    is_complete: bool,
    /// The chunks that were found to be stored and are needed.
    found: FoundChunks,
    /// Of these chunks, to be challenged.
    relied_on: Sample,
    /// Of the chunks that were sent and acknowledged, to be challenged.
    acknowledged: Sample,
    queue: Vec<ChunkId>,
    /// Ids for the known-set, to be written many at a time.
    unwritten: Vec<ChunkId>,
    /// None while the question is open.
    answers: HashMap<IdPrefix, Option<bool>>,
    failed: Option<Error>,
    is_closed: bool,
}

impl Dedup {
    /// A value that is ready to answer. With a known-set, that is asked before the repository, and learns its answers.
    /// `is_empty` means that the repository has no chunks.
    pub fn new(
        access: Arc<dyn Push>,
        client: ClientId,
        known_set: Option<(Arc<Cache>, LossView)>,
        is_empty: bool,
    ) -> Self {
        let shared = Shared {
            access,
            client,
            known_set,
            sent_max: SENT_MAX,
            state: Mutex::new(DedupState { is_complete: is_empty, ..DedupState::default() }),
            asked: Condvar::new(),
            answered: Condvar::new(),
        };
        Self { shared: Arc::new(shared), threads: Threads::default() }
    }

    /// Starts the threads that ask the repository: several, or one if there will be few questions. Without them each
    /// question is asked when its answer is needed.
    pub fn start(&mut self, is_small: bool) {
        if self.threads.is_empty() {
            let (shared, count) = (self.shared.clone(), if is_small { 1 } else { THREADS });
            self.threads = Threads::start("ask", count, move |_| shared.run());
        }
    }

    /// A handle for readers.
    pub fn announcer(&self) -> Announcer {
        Announcer(self.shared.clone())
    }

    /// Whether a chunk must be sent. True only once for each chunk: the caller sends it then.
    pub fn is_new(&self, id: &ChunkId) -> Result<bool> {
        let key = prefix(id);
        let mut state = self.shared.state.lock();
        if state.sent.contains(&key) {
            state.answers.remove(&key);
            return Ok(false);
        }
        if state.is_complete {
            state.sent.insert(key);
            return Ok(true);
        }
        if !state.answers.contains_key(&key) {
            drop(state);
            self.shared.announce(std::slice::from_ref(id));
            if self.threads.is_empty() {
                self.shared.ask_once()?;
            }
            state = self.shared.state.lock();
        }
        loop {
            if let Some(error) = state.failed.take() {
                return Err(error);
            }
            if let Some(Some(stored)) = state.answers.get(&key).copied() {
                state.answers.remove(&key);
                if stored {
                    state.found.add(key);
                    state.relied_on.offer(*id);
                }
                if !stored || state.sent.len() < STORED_MAX {
                    state.sent.insert(key);
                }
                return Ok(!stored);
            }
            if state.is_closed {
                return Err(Error::Interrupted);
            }
            self.shared.answered.wait(&mut state);
        }
    }

    /// The chunks that the push needs: those that it has sent, and those that it did not send because they are stored.
    pub fn needed(&self) -> NeededChunks {
        let mut state = self.shared.state.lock();
        let sent = std::mem::take(&mut state.sent);
        NeededChunks { sent: (!state.has_dropped_ids).then_some(sent), found: std::mem::take(&mut state.found) }
    }

    /// Takes a few of the chunks that were found to be stored.
    pub fn take_relied_on(&self) -> Sample {
        std::mem::take(&mut self.shared.state.lock().relied_on)
    }

    /// Takes a few of the chunks that were sent and acknowledged.
    pub fn take_acknowledged(&self) -> Sample {
        std::mem::take(&mut self.shared.state.lock().acknowledged)
    }

    /// Notes that sent chunks are stored, and adds them to the known-set.
    pub fn acknowledged(&self, ids: &[ChunkId]) {
        let mut state = self.shared.state.lock();
        ids.iter().for_each(|id| state.acknowledged.offer(*id));
        if state.sent.len() > self.shared.sent_max {
            (state.has_dropped_ids, state.is_complete) = (true, false);
            for id in ids {
                state.sent.remove(&prefix(id));
            }
        }
        if self.shared.known_set.is_none() {
            return;
        }
        state.unwritten.extend_from_slice(ids);
        let batch = state.take_batch();
        drop(state);
        self.shared.add_known(batch);
    }

    /// Writes what the known-set has not been given yet.
    pub fn flush(&self) {
        let rest = std::mem::take(&mut self.shared.state.lock().unwritten);
        self.shared.add_known(rest);
    }
}

impl DedupState {
    /// Takes the ids for the known-set, if there are enough to be written.
    fn take_batch(&mut self) -> Vec<ChunkId> {
        if self.unwritten.len() > KNOWN_BATCH { std::mem::take(&mut self.unwritten) } else { Vec::new() }
    }
}

/// The chunks that a push needs.
#[derive(Debug)]
pub struct NeededChunks {
    /// A prune spares what a session has sent, unless the store lost its index in between. None if there were too many
    /// ids to remember.
    sent: Option<HashSet<IdPrefix>>,
    found: FoundChunks,
}

impl NeededChunks {
    /// Whether it is certain that the push needs none of these chunks.
    pub fn has_none_of(&self, ids: &[ChunkId]) -> bool {
        let (Some(sent), Some(found)) = (&self.sent, &self.found.0) else { return false };
        !ids.iter().map(prefix).any(|id| sent.contains(&id) || found.contains(&id))
    }
}

/// The chunks that were found to be stored; none if there were too many ids to remember.
#[derive(Debug)]
struct FoundChunks(Option<HashSet<IdPrefix>>);

impl Default for FoundChunks {
    fn default() -> Self {
        Self(Some(HashSet::new()))
    }
}

impl FoundChunks {
    fn add(&mut self, id: IdPrefix) {
        match &mut self.0 {
            Some(ids) if ids.len() < NEEDED_MAX => drop(ids.insert(id)),
            ids => *ids = None,
        }
    }
}

impl Drop for Dedup {
    fn drop(&mut self) {
        self.shared.state.lock().is_closed = true;
        self.shared.asked.notify_all();
        self.shared.answered.notify_all();
        self.threads.join();
    }
}

/// Announces ids whose answers will be needed.
#[derive(Clone)]
pub struct Announcer(Arc<Shared>);

impl Announcer {
    /// Starts to find out whether chunks are stored.
    pub fn announce(&self, ids: &[ChunkId]) {
        self.0.announce(ids);
    }
}

impl Shared {
    fn announce(&self, ids: &[ChunkId]) {
        if self.state.lock().is_complete {
            return;
        }
        let known = self.known_set.as_ref().map(|(cache, _)| cache.known(ids));
        let mut state = self.state.lock();
        let mut is_asked = false;
        for (i, id) in ids.iter().enumerate() {
            let key = prefix(id);
            if state.sent.contains(&key) || state.answers.contains_key(&key) {
                continue;
            }
            if known.as_ref().is_some_and(|known| known[i]) {
                state.answers.insert(key, Some(true));
            } else {
                state.answers.insert(key, None);
                state.queue.push(*id);
                is_asked = true;
            }
        }
        drop(state);
        if is_asked {
            self.asked.notify_one();
        }
    }

    /// The work of one thread: asks until the push is over or a question fails.
    fn run(&self) {
        loop {
            {
                let mut state = self.state.lock();
                while state.queue.is_empty() && !state.is_closed {
                    self.asked.wait(&mut state);
                }
                if state.is_closed {
                    return;
                }
            }
            if let Err(error) = self.ask_once() {
                let mut state = self.state.lock();
                state.failed.get_or_insert(error);
                state.is_closed = true;
                drop(state);
                self.answered.notify_all();
                self.asked.notify_all();
                return;
            }
        }
    }

    /// Asks the repository about the ids in the queue, as many as one question holds.
    fn ask_once(&self) -> Result<()> {
        let ids: Vec<ChunkId> = {
            let mut state = self.state.lock();
            let count = state.queue.len().min(IDS_MAX);
            state.queue.drain(..count).collect()
        };
        if ids.is_empty() {
            return Ok(());
        }
        let stored = self.access.has(Some(self.client), &ids)?;
        if stored.len() != ids.len() {
            let reason =
                format!("the repository was asked about {} chunks and answered for {}", ids.len(), stored.len());
            return Err(Error::Invalid(reason));
        }
        let mut state = self.state.lock();
        for (id, stored) in ids.iter().zip(stored) {
            state.answers.insert(prefix(id), Some(stored));
            if stored && self.known_set.is_some() {
                state.unwritten.push(*id);
            }
        }
        let batch = state.take_batch();
        drop(state);
        self.answered.notify_all();
        self.add_known(batch);
        Ok(())
    }

    fn add_known(&self, mut ids: Vec<ChunkId>) {
        if let Some((cache, losses)) = self.known_set.as_ref().filter(|_| !ids.is_empty())
            && let Err(error) = cache.add_known(&mut ids, losses)
        {
            tracing::warn!("the known-set cannot be written; the next push asks more: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::push::tests::fake::Fake;

    #[test]
    fn a_sent_chunk_whose_id_was_dropped_is_asked_for() {
        let store = Fake::new();
        let mut dedup = Dedup::new(store.clone(), ClientId::default(), None, true);
        Arc::get_mut(&mut dedup.shared).unwrap().sent_max = 1;
        dedup.start(false);
        let [a, b, c] = [1, 2, 3].map(|b| ChunkId([b; 32]));
        assert!(dedup.is_new(&a).unwrap());
        dedup.acknowledged(&[a]);
        assert!(dedup.is_new(&b).unwrap());
        assert_eq!(store.asked.load(Relaxed), 0, "the push knows every stored chunk");
        assert!(!dedup.is_new(&a).unwrap());

        store.state.lock().chunks.insert(a, Default::default());
        dedup.acknowledged(&[a]);
        assert!(!dedup.is_new(&b).unwrap(), "it is on its way");
        assert_eq!(store.asked.load(Relaxed), 0);
        assert!(!dedup.is_new(&a).unwrap());
        assert!(dedup.is_new(&c).unwrap());
        assert_eq!(store.asked.load(Relaxed), 2);
        assert!(!dedup.needed().has_none_of(&[ChunkId([9; 32])]), "the ids were dropped, so nothing is certain");
    }
}
