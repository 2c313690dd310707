//! Which snapshots are shown: loaded once, and brought up to date while the mount is alive.
//!
//! The list is renewed in two ways. A lookup above the snapshots asks for the length of the log, at most once in
//! `CHECK_EVERY`. And a thread waits for the log to grow, and tells the kernel to drop what it cached. While the
//! store is unreachable the last list stays, and lookups do not wait for the store again until `RETRY_AFTER` has
//! passed.
//!
//! If there are very many snapshots, a mount begins with the newest of each series. The thread loads all of them first,
//! and so does a lookup that needs them.

use std::{
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bkfs_store::{Result, base::time::Time};
use parking_lot::{Mutex, RwLock};

use super::{latest::LatestShapes, names::Names, source::VfsSource, top::TopDir};
use crate::select::SnapshotFilter;

/// How old the shown list may be: too short to notice, but long enough that a burst of lookups asks only once.
const CHECK_EVERY: Duration = Duration::from_millis(100);
/// How long lookups use the known list after a failure.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How long one call waits for the log to grow. It also bounds how long the thread outlives the mount.
const WAIT: Duration = Duration::from_secs(10);
/// The thread's pause after a failure, and after a store has returned immediately without news.
const PAUSE: Duration = Duration::from_secs(1);

/// The snapshots shown at one moment.
pub struct SnapshotList {
    /// The names.
    pub names: Names,
    /// When the list changed: the modification time of the folders above the snapshots.
    pub changed: Time,
    log_len: u64,
}

/// The list that is shown now, and what brings it up to date.
pub struct CurrentSnapshots {
    source: Arc<dyn VfsSource>,
    filter: SnapshotFilter,
    shapes: Mutex<LatestShapes>,
    list: RwLock<Arc<SnapshotList>>,
    /// When to ask the store again.
    due: Mutex<Instant>,
    loading: Mutex<()>,
}

impl CurrentSnapshots {
    /// Loads the list of the snapshots that pass the filter, or of the newest of them.
    pub fn load(source: Arc<dyn VfsSource>, filter: SnapshotFilter) -> Result<Self> {
        let log_len = source.wait_log(0, Duration::ZERO)?;
        let mut shapes = LatestShapes::default();
        let newest = if filter.is_by_series() { source.newest()? } else { None };
        let names = match newest {
            Some(newest) => Names::of_newest(&newest, &filter, &mut shapes),
            None => Names::new(&source.snapshots()?, &filter, &mut shapes),
        };
        let changed = names.snapshots().map(|snapshot| snapshot.received).max().unwrap_or_else(now).min(now());
        let list = RwLock::new(Arc::new(SnapshotList { names, changed, log_len }));
        let (due, shapes) = (Mutex::new(Instant::now() + CHECK_EVERY), Mutex::new(shapes));
        Ok(Self { source, filter, shapes, list, due, loading: Mutex::new(()) })
    }

    /// Returns the known list, however old it is.
    pub fn known(&self) -> Arc<SnapshotList> {
        self.list.read().clone()
    }

    /// Returns the list to find a name in a folder, or to list the folder: brought up to date if it may be too old, and
    /// complete if that is needed.
    pub fn list_for(&self, top: &TopDir, name: Option<&[u8]>) -> Result<Arc<SnapshotList>> {
        let list = self.up_to_date();
        match list.names.is_enough_for(top, name) {
            true => Ok(list),
            false => {
                self.complete()?;
                Ok(self.known())
            }
        }
    }

    /// Loads all snapshots if only the newest are known. Returns whether it did.
    fn complete(&self) -> Result<bool> {
        let _one_at_a_time = self.loading.lock();
        match self.known().names.is_partial() {
            true => self.load_all(),
            false => Ok(false),
        }
    }

    /// Returns the list, brought up to date if it may be too old. If only the newest snapshots are known, all of them
    /// are being loaded already.
    pub fn up_to_date(&self) -> Arc<SnapshotList> {
        let known = self.known();
        if known.names.is_partial() {
            return known;
        }
        // If another thread is asking, this one uses the known list.
        if let Some(mut due) = self.due.try_lock().filter(|due| Instant::now() >= **due) {
            let known = self.known().log_len;
            let changed = self.source.wait_log(known, Duration::ZERO).and_then(|len| match len == known {
                true => Ok(false),
                false => self.reload(),
            });
            *due = Instant::now()
                + match changed {
                    Ok(_) => CHECK_EVERY,
                    Err(error) => {
                        tracing::warn!(%error, "cannot ask for new snapshots; showing the known ones");
                        RETRY_AFTER
                    }
                };
        }
        self.known()
    }

    /// Loads the list again. Returns whether it has changed.
    fn reload(&self) -> Result<bool> {
        let _one_at_a_time = self.loading.lock();
        self.load_all()
    }

    fn load_all(&self) -> Result<bool> {
        let log_len = self.source.wait_log(0, Duration::ZERO)?;
        let names = Names::new(&self.source.snapshots()?, &self.filter, &mut self.shapes.lock());
        let old = self.known();
        if names.same_as(&old.names) {
            *self.list.write() = Arc::new(SnapshotList { names, changed: old.changed, log_len });
            return Ok(false);
        }
        // The kernel compares times to see that its cached listing is old, so the time must differ.
        let changed = now().max(Time { secs: old.changed.secs.saturating_add(1), nanos: 0 });
        *self.list.write() = Arc::new(SnapshotList { names, changed, log_len });
        Ok(true)
    }

    /// Starts the thread that waits for new snapshots. It calls `changed` after each change of the list, and ends by
    /// itself some time after the last reference to `current` is dropped.
    pub fn watch(current: &Arc<Self>, changed: Box<dyn Fn() + Send>) -> std::io::Result<()> {
        let current = Arc::downgrade(current);
        thread::Builder::new().name("snapshots".into()).spawn(move || watch(&current, &*changed)).map(drop)
    }
}

fn watch(current: &Weak<CurrentSnapshots>, changed: &dyn Fn()) {
    let source = match current.upgrade() {
        Some(current) => current.source.clone(),
        None => return,
    };
    let mut is_reachable = true;
    loop {
        let Some(known) = current.upgrade().map(|current| current.known().log_len) else { return };
        let began = Instant::now();
        let Some(completed) = current.upgrade().map(|current| current.complete()) else { return };
        let has_changed = match completed {
            Ok(false) => {
                let waited = source.wait_log(known, WAIT);
                let Some(current) = current.upgrade() else { return };
                waited.and_then(|len| if len == known { Ok(false) } else { current.reload() })
            }
            completed => completed,
        };
        match has_changed {
            Ok(true) => changed(),
            Ok(false) if began.elapsed() >= PAUSE => {}
            Ok(false) => thread::sleep(PAUSE),
            Err(error) => {
                if let Some(current) = current.upgrade() {
                    // Lookups need not find out again.
                    if let Some(mut due) = current.due.try_lock() {
                        *due = Instant::now() + RETRY_AFTER;
                    }
                }
                if is_reachable {
                    tracing::warn!(%error, "cannot wait for new snapshots; will retry until it succeeds");
                }
                thread::sleep(PAUSE);
                is_reachable = false;
                continue;
            }
        }
        is_reachable = true;
    }
}

fn now() -> Time {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => Time { secs: since.as_secs() as i64, nanos: since.subsec_nanos() },
        Err(_) => Time::default(),
    }
}
