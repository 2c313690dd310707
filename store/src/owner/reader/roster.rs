//! The newest roster that the reader knows. It is fetched again when a snapshot's client is not on it.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::{
    access::{OpenRequest, Read},
    base::{
        error::{Error, Result},
        id::{ClientId, DomainId},
    },
    format::{
        roster::{Roster, RosterView},
        snapshot::{SnapshotObject, StoredSnapshot, snapshot_id, verify_stored},
    },
    owner::keyring::KeyRing,
};

/// Fetches and remembers the roster. The lock is held during a fetch, so that threads that need a newer roster fetch it
/// one after another.
pub(super) struct RosterCache {
    access: Arc<dyn Read>,
    keys: Arc<KeyRing>,
    view: Mutex<Option<RosterView>>,
    /// The newest roster of the view, for those who only look at it.
    newest: Mutex<Option<Arc<Roster>>>,
}

impl RosterCache {
    pub fn new(access: Arc<dyn Read>, keys: Arc<KeyRing>) -> Self {
        Self { access, keys, view: Mutex::default(), newest: Mutex::default() }
    }

    /// Verifies a signed roster and remembers it.
    pub fn accept(&self, signed: &[u8]) -> Result<()> {
        self.renew(&mut self.view.lock(), signed).map(drop)
    }

    /// Fetches the newest roster.
    pub fn fetch(&self) -> Result<Roster> {
        self.refresh(&mut self.view.lock()).map(|view| view.newest().clone())
    }

    /// Whether a client is one of the owner's own machines, according to the newest known roster.
    pub fn is_trusted(&self, client: ClientId) -> Result<bool> {
        let mut view = self.view.lock();
        let view = match &*view {
            Some(view) => view,
            None => self.refresh(&mut view)?,
        };
        Ok(view.newest().client(client).is_some_and(|client| client.domain == DomainId::OWNER))
    }

    /// Verifies the id, the client and the signature of a snapshot object. Signatures are checked without the lock.
    pub fn verify(&self, object: &SnapshotObject) -> Result<StoredSnapshot> {
        if snapshot_id(&object.bytes) != object.id {
            let reason = "its bytes do not have its id".to_owned();
            return Err(Error::SnapshotDamaged { snapshot: object.id, reason });
        }
        let verify = |roster: &Roster| verify_stored(&object.bytes, roster, object.received);
        let known = self.newest.lock().clone();
        match known.as_deref().map(verify) {
            // The client may have been enrolled since: fetch the newest roster before refusing the snapshot.
            None | Some(Err(Error::NotOnRoster { .. })) => {
                self.refresh(&mut self.view.lock())?;
                verify(&*self.newest()?)
            }
            Some(verified) => verified,
        }
    }

    /// Returns the newest roster that is known.
    pub fn newest(&self) -> Result<Arc<Roster>> {
        if let Some(newest) = &*self.newest.lock() {
            return Ok(newest.clone());
        }
        Ok(Arc::new(self.refresh(&mut self.view.lock())?.newest().clone()))
    }

    fn refresh<'a>(&self, view: &'a mut Option<RosterView>) -> Result<&'a RosterView> {
        let signed = self.access.open(&OpenRequest::default())?.roster;
        self.renew(view, &signed)
    }

    fn renew<'a>(&self, view: &'a mut Option<RosterView>, signed: &[u8]) -> Result<&'a RosterView> {
        let view = match view {
            Some(view) => {
                view.renew(signed)?;
                view
            }
            None => {
                let admin = self.keys.full().admin.verifying_key();
                view.insert(RosterView::new(signed, admin, self.keys.repo())?)
            }
        };
        *self.newest.lock() = Some(Arc::new(view.newest().clone()));
        Ok(view)
    }
}
