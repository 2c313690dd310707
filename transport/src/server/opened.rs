//! The repositories that are open.
//!
//! A repository is opened when a request first needs it, and closed when nothing has used it for a while, or when too
//! many others are open. Opening one can take long, and holds up only those who want the same one.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bkfs_store::{Result, repository::Repository};
use parking_lot::Mutex;

use super::limits::OPEN_UNUSED_MAX;
use crate::url::Name;

/// An account, which of its lives this is, and a repository in it. An account that was removed and made again has
/// another life, and nothing in common with the first.
pub(super) type Key = (Name, u64, Name);

/// The repositories that are open.
#[derive(Default)]
pub(super) struct OpenRepositories(Mutex<HashMap<Key, Slot>>);

struct Slot {
    /// None until it is open.
    repository: Arc<Mutex<Option<Arc<Repository>>>>,
    used: Instant,
}

impl Slot {
    /// Whether nobody opens or uses the repository. The map is locked, so nobody begins to.
    fn is_unused(&self) -> bool {
        Arc::strong_count(&self.repository) == 1
            && self.repository.lock().as_ref().is_none_or(|repository| Arc::strong_count(repository) == 1)
    }
}

impl OpenRepositories {
    /// Returns a repository. If it is not open, opens it.
    pub fn get(&self, key: Key, open: impl FnOnce() -> Result<Repository>) -> Result<Arc<Repository>> {
        let (slot, too_many) = {
            let mut all = self.0.lock();
            let too_many = if all.contains_key(&key) { Vec::new() } else { take_surplus(&mut all) };
            let slot = all.entry(key).or_insert_with(|| Slot { repository: Arc::default(), used: Instant::now() });
            slot.used = Instant::now();
            (slot.repository.clone(), too_many)
        };
        // Closing seals the index, which takes a moment.
        drop(too_many);
        let mut repository = slot.lock();
        if let Some(repository) = &*repository {
            return Ok(repository.clone());
        }
        let opened = Arc::new(open()?);
        *repository = Some(opened.clone());
        Ok(opened)
    }

    /// Returns a repository if it is open.
    pub fn get_open(&self, key: &Key) -> Option<Arc<Repository>> {
        let slot = self.0.lock().get(key)?.repository.clone();
        slot.lock().clone()
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// Closes what nobody has used for this long.
    pub fn close_idle(&self, idle: Duration) {
        let mut closed = Vec::new();
        self.0.lock().retain(|_, slot| {
            let is_idle = slot.used.elapsed() >= idle && slot.is_unused();
            if is_idle {
                closed.extend(slot.repository.lock().take());
            }
            !is_idle
        });
    }

    /// Closes the repositories that are not to be kept. One that is in use is closed when nobody uses it any more; who
    /// asks for it gets another one. Returns whether there were any.
    pub fn retain(&self, is_kept: impl Fn(&Key) -> bool) -> bool {
        let closed: Vec<_> = self.0.lock().extract_if(|key, _| !is_kept(key)).collect();
        !closed.is_empty()
    }

    /// Closes a repository, unless somebody else uses it. Returns whether it is closed.
    pub fn close(&self, key: &Key) -> bool {
        let mut all = self.0.lock();
        let is_unused = all.get(key).is_none_or(Slot::is_unused);
        let closed = if is_unused { all.remove(key) } else { None };
        drop(all);
        drop(closed);
        is_unused
    }
}

/// Takes out unused repositories, the longest unused first, until there is room for one more.
fn take_surplus(all: &mut HashMap<Key, Slot>) -> Vec<Slot> {
    let Some(surplus) = (all.len() + 1).checked_sub(OPEN_UNUSED_MAX).filter(|surplus| *surplus > 0) else {
        return Vec::new();
    };
    let mut unused: Vec<_> = all.iter().filter(|(_, slot)| slot.is_unused()).map(|(key, s)| (s.used, key)).collect();
    unused.sort_by_key(|(used, _)| *used);
    let keys: Vec<Key> = unused.into_iter().take(surplus).map(|(_, key)| key.clone()).collect();
    keys.iter().filter_map(|key| all.remove(key)).collect()
}
