//! Waiting for a repository's log to grow, without a thread for each request that waits.
//!
//! One task for each repository that somebody waits for looks at the log: when this server has answered a call that may
//! have appended to it, and now and then, because another process may have.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bkfs_store::Result;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::{blocking::blocking, limits::WAIT_POLL};
use crate::url::Name;

/// An account, and a repository in it.
type Key = (Name, Name);
/// Returns the length of the repository's log. Blocks.
pub(super) type LenOf = Arc<dyn Fn() -> Result<u64> + Send + Sync>;

/// The repositories that requests wait for.
#[derive(Default)]
pub(super) struct Waits(Mutex<HashMap<Key, Arc<Watched>>>);

/// A repository whose log is looked at.
struct Watched {
    /// The length of the log, as it was last seen.
    len: watch::Sender<u64>,
    /// Notified when the log may have grown.
    has_grown: Notify,
}

impl Waits {
    /// The log of a repository may have grown.
    pub fn notify(&self, account: &Name, repository: &Name) {
        if let Some(watched) = self.0.lock().get(&(account.clone(), repository.clone())) {
            watched.has_grown.notify_one();
        }
    }

    /// Begins to watch a log. Its task ends when nobody waits any more.
    fn watch(self: &Arc<Self>, key: Key, len_of: &LenOf, len: u64) -> watch::Receiver<u64> {
        let mut all = self.0.lock();
        if let Some(watched) = all.get(&key) {
            return watched.len.subscribe();
        }
        let (sender, receiver) = watch::channel(len);
        let watched = Arc::new(Watched { len: sender, has_grown: Notify::new() });
        all.insert(key.clone(), watched.clone());
        tokio::spawn(look(self.clone(), key, len_of.clone(), watched));
        receiver
    }
}

/// Waits until a log that has just had `now` records has more than `len`, or the time is over. Returns its length.
pub(super) async fn wait(
    waits: &Arc<Waits>,
    key: Key,
    len_of: LenOf,
    mut now: u64,
    len: u64,
    timeout: Duration,
) -> Result<u64> {
    let end = Instant::now() + timeout;
    while now <= len && Instant::now() < end {
        let mut receiver = waits.watch(key.clone(), &len_of, now);
        let left = end.saturating_duration_since(Instant::now());
        now = match tokio::time::timeout(left, receiver.wait_for(|seen| *seen > len))
            .await
            .map(|seen| seen.map(|len| *len))
        {
            Ok(Ok(seen)) => seen,
            // The task could not read the log, or it was just ending.
            Ok(Err(_)) => ask(&len_of).await?,
            Err(_) => return Ok(now),
        };
    }
    Ok(now)
}

/// Looks at a log as long as somebody waits for it.
async fn look(waits: Arc<Waits>, key: Key, len_of: LenOf, watched: Arc<Watched>) {
    loop {
        // The pause comes first: those who wait have just looked.
        let _ = tokio::time::timeout(WAIT_POLL, watched.has_grown.notified()).await;
        let seen = ask(&len_of).await;
        if let Ok(len) = seen {
            watched.len.send_replace(len);
        }
        let mut all = waits.0.lock();
        if watched.len.is_closed() || seen.is_err() {
            all.remove(&key);
            return;
        }
    }
}

async fn ask(len_of: &LenOf) -> Result<u64> {
    let len_of = len_of.clone();
    blocking(move || len_of()).await
}
