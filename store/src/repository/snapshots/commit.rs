//! Committing snapshots.
//!
//! **Order.** All packs that a snapshot needs are durable before the snapshot is; the snapshot is durable before the
//! log names it.

use std::time::Instant;

use super::Snapshots;
use crate::{
    access::{Lease, Receipt},
    base::{
        error::{Error, Result},
        id::Hash,
    },
    format::{
        log::Event,
        snapshot::{snapshot_id, verify_stored},
    },
};

impl Snapshots {
    /// Commits a snapshot that a network identity has sent. The same snapshot again gets the same receipt, so a client
    /// that has lost the answer asks once more.
    pub fn commit(&self, lease: Lease, snapshot: &[u8], sender: Option<Hash>) -> Result<Receipt> {
        let config = self.objects.config()?;
        let id = snapshot_id(snapshot);
        let _lock = self.log.lock_for_append()?;
        if let Some(row) = self.index.commits().of(&id)? {
            return Ok(Receipt { snapshot: id, received: row.received, now: self.log.seen()? });
        }
        if let Some(rest) = self.hold.rest(Instant::now()) {
            return Err(Error::CommitsHeld { millis: u64::try_from(rest.as_millis()).unwrap_or(u64::MAX).max(1) });
        }
        // Compared under the lock: a session that has not been told what the newest prune took must not commit what may
        // rely on that.
        let generation = self.log.generation()?;
        if lease.generation != generation {
            let reason = format!("it began in generation {}, and a prune has begun {generation}", lease.generation);
            return Err(Error::LeaseRefused { reason });
        }
        let stored = verify_stored(snapshot, &*self.log.roster()?, self.log.now()?).map_err(Error::in_input)?;
        if stored.repo != config.config.repo {
            let reason = "it belongs to another repository".into();
            return Err(Error::SnapshotDamaged { snapshot: id, reason }.in_input());
        }
        // Under the lock: after a rotation, no snapshot counts that the older key opens.
        self.log.check_sealed(std::slice::from_ref(&stored.wrap))?;
        let last = self.index.commits().newest_of(&stored.client)?.map_or(0, |row| row.sequence);
        if stored.sequence != last + 1 {
            let (got, want) = (stored.sequence, last + 1);
            let reason = format!("snapshot {got} of this client came where {want} was expected (another push ran?)");
            return Err(Error::LeaseRefused { reason });
        }
        self.files.settle_found()?;
        self.objects.put_snapshot(id, snapshot)?;
        let (client, target, sequence) = (stored.client, stored.target, stored.sequence);
        self.log.append(&[Event::Commit { snapshot: id, client, target, sequence, sender }])?;
        // A session pins packs only until it commits. Pins that a crash leaves here only delay a prune.
        if let Err(error) = self.index.packs().unpin(lease.session) {
            tracing::warn!(%error, "packs stay pinned for a push that has ended");
        }
        self.log.reserve().make();
        let row = self.index.commits().of(&id)?;
        let received = row.ok_or_else(|| Error::damaged("the index", "it does not hold a new commit"))?.received;
        Ok(Receipt { snapshot: id, received, now: self.log.seen()? })
    }
}
