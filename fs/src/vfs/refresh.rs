//! Which snapshots are shown now: loaded once, and brought up to date while the mount lives.
//!
//! Two ways lead to a new list. Whoever looks at the top level asks for the log's length, at most once in
//! [`CHECK_EVERY`]; and a thread waits for the log to grow and tells the kernel to forget what it cached. When the store
//! is away the last list stays, and nobody who looks waits for it again before [`RETRY_AFTER`].

use std::{
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bkfs_store::{
    Result,
    base::{id::SnapshotId, time::Time},
};
use parking_lot::{Mutex, RwLock};

use super::{
    names::Names,
    source::{Source, Version},
};

/// How old a list may be that is shown: so short that nobody notices, so long that a burst of look-ups asks once.
const CHECK_EVERY: Duration = Duration::from_millis(100);
/// After a failure, look-ups use the list at hand for so long.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How long one waiting for news lasts. It also bounds how long the thread outlives the mount.
const WAIT: Duration = Duration::from_secs(10);
/// The thread's pause after a failure, and where a store answers at once that nothing is new.
const PAUSE: Duration = Duration::from_secs(1);

/// A list of snapshots as it is shown.
pub struct State {
    /// The names.
    pub names: Names,
    /// When this list came about: the modification time of the folders above the snapshots.
    pub changed: Time,
    log_len: u64,
}

/// The list that is shown now.
pub struct Current {
    source: Arc<dyn Source>,
    state: RwLock<Arc<State>>,
    /// When to ask again.
    due: Mutex<Instant>,
    loading: Mutex<()>,
}

impl Current {
    /// Loads the list.
    pub fn load(source: Arc<dyn Source>) -> Result<Self> {
        let log_len = source.wait(0, Duration::ZERO)?;
        let names = Names::new(&source.versions()?);
        let changed = names.versions().map(|version| version.snapshot.time).max().unwrap_or_else(now);
        let state = RwLock::new(Arc::new(State { names, changed, log_len }));
        Ok(Self { source, state, due: Mutex::new(Instant::now() + CHECK_EVERY), loading: Mutex::new(()) })
    }

    /// The list, however old.
    pub fn state(&self) -> Arc<State> {
        self.state.read().clone()
    }

    /// The list, brought up to date if it may be too old.
    pub fn fresh(&self) -> Arc<State> {
        // Whoever comes while another asks takes the list at hand.
        if let Some(mut due) = self.due.try_lock().filter(|due| Instant::now() >= **due) {
            let known = self.state().log_len;
            let news = self.source.wait(known, Duration::ZERO).and_then(|len| match len == known {
                true => Ok(false),
                false => self.reload(),
            });
            *due = Instant::now()
                + match news {
                    Ok(_) => CHECK_EVERY,
                    Err(error) => {
                        tracing::warn!(%error, "cannot ask for new snapshots; showing those known");
                        RETRY_AFTER
                    }
                };
        }
        self.state()
    }

    /// Loads the list anew; tells whether it is another one.
    fn reload(&self) -> Result<bool> {
        let _one_at_a_time = self.loading.lock();
        let log_len = self.source.wait(0, Duration::ZERO)?;
        let versions = self.source.versions()?;
        let old = self.state();
        if ids(&versions).eq(old.names.versions().map(|version| version.id)) {
            let names = Names::new(&versions);
            *self.state.write() = Arc::new(State { names, changed: old.changed, log_len });
            return Ok(false);
        }
        // The time tells the kernel that its copy of a listing is old, so it must differ.
        let changed = now().max(Time { secs: old.changed.secs.saturating_add(1), nanos: 0 });
        *self.state.write() = Arc::new(State { names: Names::new(&versions), changed, log_len });
        Ok(true)
    }

    /// Starts the thread that waits for news, and calls `changed` after each new list. It ends by itself some time
    /// after the last reference to `current` has gone.
    pub fn watch(current: &Arc<Self>, changed: Box<dyn Fn() + Send>) -> std::io::Result<()> {
        let current = Arc::downgrade(current);
        thread::Builder::new().name("snapshots".into()).spawn(move || watch(&current, &*changed)).map(drop)
    }
}

fn watch(current: &Weak<Current>, changed: &dyn Fn()) {
    let source = match current.upgrade() {
        Some(current) => current.source.clone(),
        None => return,
    };
    let mut reachable = true;
    loop {
        let Some(known) = current.upgrade().map(|current| current.state().log_len) else { return };
        let began = Instant::now();
        let waited = source.wait(known, WAIT);
        let Some(now) = current.upgrade() else { return };
        let news = waited.and_then(|len| match len == known {
            true => Ok(false),
            false => now.reload(),
        });
        drop(now);
        match news {
            Ok(true) => changed(),
            Ok(false) if began.elapsed() >= PAUSE => {}
            Ok(false) => thread::sleep(PAUSE),
            Err(error) => {
                if let Some(current) = current.upgrade() {
                    // Nobody who looks need find out again.
                    if let Some(mut due) = current.due.try_lock() {
                        *due = Instant::now() + RETRY_AFTER;
                    }
                }
                if reachable {
                    tracing::warn!(%error, "cannot wait for new snapshots; trying again until it works");
                }
                thread::sleep(PAUSE);
                reachable = false;
                continue;
            }
        }
        reachable = true;
    }
}

fn ids(versions: &[Arc<Version>]) -> impl Iterator<Item = SnapshotId> + '_ {
    versions.iter().map(|version| version.id)
}

fn now() -> Time {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => Time { secs: since.as_secs() as i64, nanos: since.subsec_nanos() },
        Err(_) => Time::default(),
    }
}
