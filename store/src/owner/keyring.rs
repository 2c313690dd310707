//! The data keys that the holder of a full key has opened.
//!
//! Every push has a data key of its own. The key's wrap is stored in packs and snapshots. Opening a wrap costs a key
//! decapsulation, so opened keys are kept for as long as the ring lives: a few hundred bytes for each push. Threads
//! that miss the same key may each open it. That is harmless, and too rare to be worth a lock.

use std::{collections::HashMap, fmt, sync::Arc};

use parking_lot::RwLock;

use crate::{
    access::{KEYS_MAX, Read},
    base::{
        error::{Error, Result},
        id::{KeyId, RepoId, SnapshotId},
    },
    crypto::{DataKey, Wrap},
    format::{
        keys::{FullKey, IdKeys},
        roster::Roster,
        snapshot::{self, Snapshot, SnapshotObject, StoredSnapshot, snapshot_id, verify_stored},
    },
};

/// Opens data keys and remembers them.
pub struct KeyRing {
    full: FullKey,
    ids: IdKeys,
    access: Arc<dyn Read>,
    opened: RwLock<HashMap<KeyId, Arc<DataKey>>>,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRing(repository {}, {} data keys)", self.full.repo, self.opened.read().len())
    }
}

impl KeyRing {
    /// Returns a ring without data keys. It fetches their wraps from `access`. If the seal key of the repository may
    /// have been rotated, the caller has completed the full key
    /// ([`SealKeys::complete`](crate::format::keys::SealKeys::complete)).
    pub fn new(full: FullKey, access: Arc<dyn Read>) -> Self {
        let ids = full.ids();
        Self { full, ids, access, opened: RwLock::default() }
    }

    /// The repository.
    pub fn repo(&self) -> RepoId {
        self.full.repo
    }

    /// The full key that wraps are opened with.
    pub fn full(&self) -> &FullKey {
        &self.full
    }

    /// The keys derived from the id key.
    pub fn ids(&self) -> &IdKeys {
        &self.ids
    }

    /// Returns the data key with this id. Fails with [`Error::KeyMissing`] if the store has no wrap of it.
    pub fn data_key(&self, id: KeyId) -> Result<Arc<DataKey>> {
        if let Some(key) = self.known(id) {
            return Ok(key);
        }
        let mut failed = Error::KeyMissing { key: id };
        // The store may hold several wraps of one key id. A bad one must not hide a good one.
        for wrap in self.access.wraps(&[id])?.iter().filter(|wrap| wrap.key == id) {
            match self.learn(wrap) {
                Ok(key) => return Ok(key),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Fetches and opens the wraps of those keys that are not known yet, [`KEYS_MAX`] in a request. A missing wrap is
    /// not an error here.
    pub fn prefetch(&self, ids: &[KeyId]) -> Result<()> {
        let unknown: Vec<KeyId> = ids.iter().copied().filter(|id| self.known(*id).is_none()).collect();
        for part in unknown.chunks(KEYS_MAX) {
            for wrap in self.access.wraps(part)? {
                // A wrap that does not open is reported when its key is needed.
                let _ = self.learn(&wrap);
            }
        }
        Ok(())
    }

    /// Opens a wrap that came with a pack or snapshot, unless its key is known already. Returns the key.
    pub fn learn(&self, wrap: &Wrap) -> Result<Arc<DataKey>> {
        if let Some(key) = self.known(wrap.key) {
            return Ok(key);
        }
        let key = Arc::new(self.full.unwrap(wrap)?);
        Ok(self.opened.write().entry(key.id()).or_insert(key).clone())
    }

    /// Opens a verified snapshot: first its wrap, then its seal ([`snapshot::open`]).
    pub fn open_snapshot(&self, stored: &StoredSnapshot, id: SnapshotId) -> Result<Snapshot> {
        if stored.repo != self.repo() {
            let reason = "it belongs to another repository".to_owned();
            return Err(Error::SnapshotDamaged { snapshot: id, reason });
        }
        snapshot::open(stored, id, &self.ids, &*self.learn(&stored.wrap)?)
    }

    /// Verifies and opens a snapshot object from the store: its id, its client on the roster, its signature and its
    /// seal.
    pub fn open_object(&self, object: &SnapshotObject, roster: &Roster) -> Result<(StoredSnapshot, Snapshot)> {
        if snapshot_id(&object.bytes) != object.id {
            let reason = "its bytes do not have its id".to_owned();
            return Err(Error::SnapshotDamaged { snapshot: object.id, reason });
        }
        let stored = verify_stored(&object.bytes, roster, object.received)?;
        let snapshot = self.open_snapshot(&stored, object.id)?;
        Ok((stored, snapshot))
    }

    fn known(&self, id: KeyId) -> Option<Arc<DataKey>> {
        self.opened.read().get(&id).cloned()
    }
}
