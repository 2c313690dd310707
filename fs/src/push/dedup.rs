//! Which chunks the repository already has.
//!
//! The question is answered from the nearest place: what this push has sent, the local known-set, the repository
//! itself. Readers announce ids as soon as they know them, and a few threads ask the repository: while a question is on
//! its way the next ones gather, so questions grow with the distance and nobody waits for a timer.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    thread::JoinHandle,
};

use bkfs_store::{Error, Result, access::Access, id::ChunkId};
use parking_lot::{Condvar, Mutex};

use crate::cache::{Cache, LossView};

/// Questions under way at once.
const THREADS: usize = 4;
/// Ids in one question.
const IDS_MAX: usize = 8192;

/// Ids written to the known-set at once.
const LEARN: usize = 16 * 1024;
/// Above so many ids of what was sent, those that were acknowledged are not held any more: the repository knows them. So much is 17 MB.
const SENT_MAX: usize = 768 * 1024;
/// Above so many ids held, those found to be stored are not held any more: they can be asked again.
const STORED_MAX: usize = 256 * 1024;
/// Above so many ids that are stored and needed, it is not remembered any more which they are.
const RELIED_MAX: usize = 1024 * 1024;

type Short = [u8; 16];

fn short(id: &ChunkId) -> Short {
    let mut short = [0; 16];
    short.copy_from_slice(&id.0[..16]);
    short
}

/// Answers whether chunks are stored.
pub struct Dedup {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    access: Arc<dyn Access>,
    cache: Option<(Arc<Cache>, LossView)>,
    sent_max: usize,
    state: Mutex<State>,
    asked: Condvar,
    answered: Condvar,
}

#[derive(Default)]
struct State {
    /// What this push sends (stored, or on its way ahead of all that follows), and some of what was found to be stored.
    sent: HashSet<Short>,
    /// Some of what it sent is not held any more.
    is_cut: bool,
    /// All that is stored is held, so nothing need be asked.
    is_all: bool,
    /// What was found to be stored and is needed.
    relied: Relied,
    queue: Vec<ChunkId>,
    /// Ids for the known-set, written many at a time.
    learned: Vec<ChunkId>,
    /// None while the question is open.
    answers: HashMap<Short, Option<bool>>,
    failed: Option<Error>,
    closed: bool,
}

impl Dedup {
    /// Ready to answer. With a cache, its known-set is asked first and taught what the repository says.
    pub fn new(access: Arc<dyn Access>, cache: Option<(Arc<Cache>, LossView)>, is_empty: bool) -> Self {
        let shared = Shared {
            access,
            cache,
            sent_max: SENT_MAX,
            state: Mutex::new(State { is_all: is_empty, ..State::default() }),
            asked: Condvar::new(),
            answered: Condvar::new(),
        };
        Self { shared: Arc::new(shared), threads: Vec::new() }
    }

    /// Starts the threads that ask; without them every question is asked when its answer is needed.
    pub fn start(&mut self) {
        if !self.threads.is_empty() {
            return;
        }
        for _ in 0..THREADS {
            let shared = self.shared.clone();
            self.threads.extend(std::thread::Builder::new().name("ask".to_owned()).spawn(move || shared.run()));
        }
    }

    /// A handle for readers.
    pub fn announcer(&self) -> Announcer {
        Announcer(self.shared.clone())
    }

    /// Whether a chunk must be sent. The second time the answer is no: the caller sends what it is told to.
    pub fn is_new(&self, id: &ChunkId) -> Result<bool> {
        let key = short(id);
        let mut state = self.shared.state.lock();
        if state.sent.contains(&key) {
            state.answers.remove(&key);
            return Ok(false);
        }
        if state.is_all {
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
                    state.relied.add(key);
                }
                if !stored || state.sent.len() < STORED_MAX {
                    state.sent.insert(key);
                }
                return Ok(!stored);
            }
            if state.closed {
                return Err(Error::Interrupted);
            }
            self.shared.answered.wait(&mut state);
        }
    }
}

impl Dedup {
    /// What the push needs by itself: the chunks that it has sent, and those that it did not send because they are stored.
    pub fn needed(&self) -> Needed {
        let mut state = self.shared.state.lock();
        let sent = std::mem::take(&mut state.sent);
        Needed { sent: (!state.is_cut).then_some(sent), relied: std::mem::take(&mut state.relied) }
    }

    /// Says that chunks are stored that were sent, and teaches them to the known-set.
    pub fn acknowledged(&self, ids: &[ChunkId]) {
        let mut state = self.shared.state.lock();
        if state.sent.len() > self.shared.sent_max {
            (state.is_cut, state.is_all) = (true, false);
            for id in ids {
                state.sent.remove(&short(id));
            }
        }
        if self.shared.cache.is_none() {
            return;
        }
        state.learned.extend_from_slice(ids);
        let learned = if state.learned.len() > LEARN { std::mem::take(&mut state.learned) } else { Vec::new() };
        drop(state);
        self.shared.learn(learned);
    }

    /// Writes what the known-set was taught and is not yet written.
    pub fn flush(&self) {
        let learned = std::mem::take(&mut self.shared.state.lock().learned);
        self.shared.learn(learned);
    }
}

/// The chunks that a push needs.
#[derive(Debug)]
pub struct Needed {
    /// A prune spares what a session has sent, but not if the store has lost its index meanwhile. None if they are too many to be remembered.
    sent: Option<HashSet<Short>>,
    relied: Relied,
}

impl Needed {
    /// Whether none of these is among them, as far as that is known.
    pub fn has_none_of(&self, ids: &[ChunkId]) -> bool {
        let (Some(sent), Some(relied)) = (&self.sent, &self.relied.0) else { return false };
        !ids.iter().map(short).any(|id| sent.contains(&id) || relied.contains(&id))
    }
}

/// The chunks that were found to be stored; none if they are too many to be remembered.
#[derive(Debug)]
struct Relied(Option<HashSet<Short>>);

impl Default for Relied {
    fn default() -> Self {
        Self(Some(HashSet::new()))
    }
}

impl Relied {
    fn add(&mut self, id: Short) {
        match &mut self.0 {
            Some(ids) if ids.len() < RELIED_MAX => drop(ids.insert(id)),
            ids => *ids = None,
        }
    }
}

impl Drop for Dedup {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.asked.notify_all();
        self.shared.answered.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Lets readers announce the ids that will be wanted.
#[derive(Clone)]
pub struct Announcer(Arc<Shared>);

impl Announcer {
    /// Begins to find out about chunks.
    pub fn announce(&self, ids: &[ChunkId]) {
        self.0.announce(ids);
    }
}

impl Shared {
    fn announce(&self, ids: &[ChunkId]) {
        if self.state.lock().is_all {
            return;
        }
        let known = self.cache.as_ref().map(|(cache, _)| cache.known(ids));
        let mut state = self.state.lock();
        let mut asks = false;
        for (i, id) in ids.iter().enumerate() {
            let key = short(id);
            if state.sent.contains(&key) || state.answers.contains_key(&key) {
                continue;
            }
            if known.as_ref().is_some_and(|known| known[i]) {
                state.answers.insert(key, Some(true));
            } else {
                state.answers.insert(key, None);
                state.queue.push(*id);
                asks = true;
            }
        }
        drop(state);
        if asks {
            self.asked.notify_one();
        }
    }

    fn run(&self) {
        loop {
            {
                let mut state = self.state.lock();
                while state.queue.is_empty() && !state.closed {
                    self.asked.wait(&mut state);
                }
                if state.closed {
                    return;
                }
            }
            if let Err(error) = self.ask_once() {
                let mut state = self.state.lock();
                state.failed.get_or_insert(error);
                state.closed = true;
                drop(state);
                self.answered.notify_all();
                self.asked.notify_all();
                return;
            }
        }
    }

    /// Asks what is queued.
    fn ask_once(&self) -> Result<()> {
        let ids: Vec<ChunkId> = {
            let mut state = self.state.lock();
            let count = state.queue.len().min(IDS_MAX);
            state.queue.drain(..count).collect()
        };
        if ids.is_empty() {
            return Ok(());
        }
        let stored = self.access.has(&ids)?;
        if stored.len() != ids.len() {
            return Err(Error::Invalid(
                "the repository answered about another number of chunks than it was asked".into(),
            ));
        }
        let mut state = self.state.lock();
        for (id, stored) in ids.iter().zip(stored) {
            state.answers.insert(short(id), Some(stored));
            if stored && self.cache.is_some() {
                state.learned.push(*id);
            }
        }
        let learned = if state.learned.len() > LEARN { std::mem::take(&mut state.learned) } else { Vec::new() };
        drop(state);
        self.answered.notify_all();
        self.learn(learned);
        Ok(())
    }

    fn learn(&self, mut ids: Vec<ChunkId>) {
        if let Some((cache, sight)) = self.cache.as_ref().filter(|_| !ids.is_empty())
            && let Err(error) = cache.add_known(&mut ids, sight)
        {
            tracing::warn!("the known-set is not kept: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;
    use crate::push::tests::fake::Fake;

    #[test]
    fn what_was_sent_and_is_not_held_any_more_is_asked_for() {
        let store = Fake::new();
        let mut dedup = Dedup::new(store.clone(), None, true);
        Arc::get_mut(&mut dedup.shared).unwrap().sent_max = 1;
        dedup.start();
        let [a, b, c] = [1, 2, 3].map(|b| ChunkId([b; 32]));
        assert!(dedup.is_new(&a).unwrap());
        dedup.acknowledged(&[a]);
        assert!(dedup.is_new(&b).unwrap());
        assert_eq!(store.asked.load(Relaxed), 0, "all that is stored is known");
        assert!(!dedup.is_new(&a).unwrap());

        store.state.lock().chunks.insert(a, Default::default());
        dedup.acknowledged(&[a]);
        assert!(!dedup.is_new(&b).unwrap(), "it is on its way");
        assert_eq!(store.asked.load(Relaxed), 0);
        assert!(!dedup.is_new(&a).unwrap());
        assert!(dedup.is_new(&c).unwrap());
        assert_eq!(store.asked.load(Relaxed), 2);
        assert!(!dedup.needed().has_none_of(&[ChunkId([9; 32])]), "nobody knows any more");
    }
}
