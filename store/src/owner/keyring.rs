//! The data keys that a full-key holder has opened.
//!
//! Every push has a data key of its own; its wrap travels in packs and snapshots. Opening a wrap costs a key
//! decapsulation, so opened keys are kept for as long as the ring lives, a few hundred bytes a push. Threads that miss
//! the same key at once may each open it; that is harmless and rarer than a lock would be dear.

use std::{collections::HashMap, fmt, sync::Arc};

use parking_lot::RwLock;

use crate::{
    access::{IDS_MAX, Read},
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

/// Opens data keys, and remembers them.
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
    /// A ring that knows no data key yet and asks `access` for their wraps.
    pub fn new(full: FullKey, access: Arc<dyn Read>) -> Self {
        let ids = full.ids();
        Self { full, ids, access, opened: RwLock::default() }
    }

    /// The repository.
    pub fn repo(&self) -> RepoId {
        self.full.repo
    }

    /// The full key that opens.
    pub fn full(&self) -> &FullKey {
        &self.full
    }

    /// The keys derived from the id key.
    pub fn ids(&self) -> &IdKeys {
        &self.ids
    }

    /// The data key with this id; [`Error::KeyMissing`] if the store has no wrap of it.
    pub fn data_key(&self, id: KeyId) -> Result<Arc<DataKey>> {
        if let Some(key) = self.known(id) {
            return Ok(key);
        }
        let mut failed = Error::KeyMissing { key: id };
        // The store may hold several wraps under one name, and a bad one among them must not hide a good one.
        for wrap in self.access.wraps(&[id])?.iter().filter(|wrap| wrap.key == id) {
            match self.learn(wrap) {
                Ok(key) => return Ok(key),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Asks for the wraps of all these keys that are not yet known, in one request. Missing ones are no error here.
    pub fn prefetch(&self, ids: &[KeyId]) -> Result<()> {
        let unknown: Vec<KeyId> = ids.iter().copied().filter(|id| self.known(*id).is_none()).collect();
        for part in unknown.chunks(IDS_MAX) {
            for wrap in self.access.wraps(part)? {
                // One that does not open is reported when its key is asked for.
                let _ = self.learn(&wrap);
            }
        }
        Ok(())
    }

    /// Opens a wrap that came along with something else, unless its key is known already.
    pub fn learn(&self, wrap: &Wrap) -> Result<Arc<DataKey>> {
        if let Some(key) = self.known(wrap.key) {
            return Ok(key);
        }
        let key = Arc::new(self.full.seal.unwrap(self.full.repo, wrap)?);
        Ok(self.opened.write().entry(key.id()).or_insert(key).clone())
    }

    /// Opens a verified snapshot: its wrap, then its seal ([`snapshot::open`]).
    pub fn open_snapshot(&self, stored: &StoredSnapshot, id: SnapshotId) -> Result<Snapshot> {
        if stored.repo != self.repo() {
            let reason = "it belongs to another repository".to_owned();
            return Err(Error::SnapshotDamaged { snapshot: id, reason });
        }
        snapshot::open(stored, id, &self.ids, &*self.learn(&stored.wrap)?)
    }

    /// Verifies and opens a snapshot object as the store returns it: id, roster, signature, seal.
    pub fn open_object(&self, object: &SnapshotObject, roster: &Roster) -> Result<(StoredSnapshot, Snapshot)> {
        if snapshot_id(&object.bytes) != object.id {
            let reason = "its bytes do not match its id".to_owned();
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
