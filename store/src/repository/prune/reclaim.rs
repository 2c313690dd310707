//! What an operator can free at once: the grave, and the pins of pushes that have not ended.
//!
//! A push pins the packs that it has stored until it commits, so that a prune leaves them. A push that was killed
//! leaves its pins, and they last for a week. Pins save time and guard nothing: what is condemned while a push
//! runs begins a new generation, in which the store refuses the push's commit until it has asked what was lost.

use std::{collections::HashSet, sync::Arc};

use super::{grave::Grave, marking::pinned_until};
use crate::{
    base::{error::Result, time::Time},
    repository::{index::Index, log::Log, packs::files::PackFiles},
};

/// What an operator can free and release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reclaimable {
    /// Packs in the grave.
    pub grave_packs: u64,
    /// Their bytes, with their parity.
    pub grave_bytes: u64,
    /// Until when the last of them could be brought back.
    pub grave_until: Option<Time>,
    /// Pushes that have not ended, and for which packs are kept.
    pub pushes: u64,
    /// These packs. What snapshots need of them stays in any case.
    pub pinned_packs: u64,
    /// Their bytes.
    pub pinned_bytes: u64,
    /// When the newest of them was stored for its push.
    pub pinned_at: Option<Time>,
    /// Until when the last of them is kept.
    pub pinned_until: Option<Time>,
}

/// What an operator has freed and released.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reclaimed {
    /// Packs that were in the grave.
    pub grave_packs: u64,
    /// Their bytes, with their parity.
    pub grave_bytes: u64,
    /// Packs that are not kept for pushes any more.
    pub pinned_packs: u64,
}

/// Frees and releases.
#[derive(Debug)]
pub(super) struct Reclaimer {
    pub index: Arc<Index>,
    pub log: Arc<Log>,
    pub files: Arc<PackFiles>,
    pub grave: Arc<Grave>,
}

impl Reclaimer {
    pub fn look(&self) -> Result<Reclaimable> {
        let (mut found, now) = (Reclaimable::default(), self.log.trusted_now()?);
        for (id, len) in self.files.list_grave()? {
            found.grave_packs += 1;
            found.grave_bytes += len + self.files.parity_len(id)?.unwrap_or(0);
            found.grave_until = found.grave_until.max(self.grave.until(&id, &now)?);
        }
        let mut sessions = HashSet::new();
        for (number, pin) in self.index.packs().pins()? {
            let Some(until) = pinned_until(&pin, &now) else { continue };
            let Some(row) = self.index.packs().row(number)? else { continue };
            sessions.insert(pin.session);
            found.pinned_packs += 1;
            found.pinned_bytes += row.len;
            found.pinned_at = found.pinned_at.max(Some(Time { secs: pin.secs, nanos: 0 }));
            found.pinned_until = found.pinned_until.max(Some(until));
        }
        found.pushes = sessions.len() as u64;
        Ok(found)
    }

    /// The grave comes first: emptying it makes room for the rest.
    pub fn reclaim(&self) -> Result<Reclaimed> {
        let (grave_packs, grave_bytes) = self.grave.remove_all()?;
        let (now, mut pinned) = (self.log.trusted_now()?, self.index.packs().pins()?);
        pinned.retain(|(_, pin)| pinned_until(pin, &now).is_some());
        let reserve = self.log.reserve();
        let pinned_packs = pinned.len() as u64;
        let sessions: HashSet<u64> = pinned.into_iter().map(|(_, pin)| pin.session).collect();
        sessions.into_iter().try_for_each(|session| reserve.use_for(|| self.index.packs().unpin(session)))?;
        Ok(Reclaimed { grave_packs, grave_bytes, pinned_packs })
    }
}
