//! The trash: forgetting snapshots, bringing them back, and letting them go for good.

use std::collections::HashSet;

use super::{Snapshots, is_unexpired};
use crate::{
    access::{FORGET_MAX, ForgetReply, ForgetRequest},
    base::{
        error::{Error, Result},
        id::SnapshotId,
    },
    format::{fate::Fate, log::Event, tombstone::Tombstone},
    repository::{clock::TrustedNow, index::CommitRow, limits},
};

/// How many digits of an id an operator must give to name a snapshot.
const PREFIX_MIN: usize = 8;

impl Snapshots {
    /// Moves snapshots to the trash, or makes them unrecoverable.
    pub fn forget(&self, request: &ForgetRequest) -> Result<ForgetReply> {
        limits::check_count(request.tombstones.len(), FORGET_MAX)?;
        let config = self.objects.config()?;
        let mut tombstones = Vec::with_capacity(request.tombstones.len());
        for signed in &request.tombstones {
            let tombstone = Tombstone::verify(&signed.0, &config.admin, config.config.repo).map_err(Error::in_input)?;
            tombstones.push((tombstone, &signed.0));
        }
        tombstones.sort_by_key(|(tombstone, _)| tombstone.snapshot);
        tombstones.dedup_by_key(|(tombstone, _)| tombstone.snapshot);
        let _lock = self.log.lock_for_append()?;
        let (now, mut events, mut reply) = (self.log.look_at_clock()?, Vec::new(), ForgetReply::default());
        for (tombstone, signed) in tombstones {
            let row = self.committed(tombstone.snapshot)?;
            let snapshot = row.snapshot;
            if !tombstone.applies_to(snapshot, row.changed) {
                let reason =
                    format!("the request to forget snapshot {snapshot} is older than the snapshot's last change");
                return Err(Error::LeaseRefused { reason });
            }
            let is_purged = matches!(row.fate, Some(Fate::Expired { is_signed: false }));
            let is_news = tombstone.is_broken && matches!(row.fate, Some(Fate::Trash { is_broken: false, .. }));
            if row.fate.is_none() || is_purged || is_news {
                events.push(Event::Forget { snapshot, signed: signed.clone() });
            }
            if Fate::is_expired(row.fate) {
                continue;
            }
            reply.forgotten += u64::from(row.fate.is_none());
            if request.now {
                if let Some(until) = self.floor.protected_until(row.received, &now) {
                    return Err(Error::Protected { snapshot, until_secs: until.secs });
                }
                events.push(Event::Expire { snapshot });
                reply.expired.push(snapshot);
            }
        }
        if request.empty_trash {
            self.expire_due(&now, &mut events, &mut reply)?;
        }
        if !events.is_empty() {
            self.log.append_to_free(&events)?;
        }
        Ok(reply)
    }

    /// Expires what has been in the trash for long enough.
    fn expire_due(&self, now: &TrustedNow, events: &mut Vec<Event>, reply: &mut ForgetReply) -> Result<()> {
        let is_due = |row: &CommitRow| self.floor.is_due(row.fate, now);
        let named: HashSet<SnapshotId> = reply.expired.iter().copied().collect();
        for row in self.index.commits().from(0, usize::MAX, is_due)? {
            if !named.contains(&row.snapshot) {
                events.push(Event::Expire { snapshot: row.snapshot });
                reply.expired.push(row.snapshot);
            }
        }
        Ok(())
    }

    /// Brings snapshots back from the trash.
    pub fn unforget(&self, snapshots: &[SnapshotId]) -> Result<()> {
        limits::check_count(snapshots.len(), FORGET_MAX)?;
        self.objects.config()?;
        let _lock = self.log.lock_for_append()?;
        let (mut events, mut named) = (Vec::new(), HashSet::new());
        for snapshot in snapshots {
            match self.committed(*snapshot)?.fate {
                Some(Fate::Expired { .. }) => {
                    let text = format!("snapshot {snapshot} is gone for good; nothing was brought back");
                    return Err(Error::SnapshotNotFound(text));
                }
                Some(Fate::Trash { .. }) if named.insert(*snapshot) => {
                    events.push(Event::Unforget { snapshot: *snapshot });
                }
                _ => {}
            }
        }
        if events.is_empty() { Ok(()) } else { self.log.append_to_free(&events) }
    }

    /// Makes snapshots unrecoverable, whatever their age: for the store's operator, who has its files and no key. Each
    /// is named by its id or by the id's first digits. Returns the snapshots that are now gone.
    pub fn purge(&self, names: &[String]) -> Result<Vec<SnapshotId>> {
        let _lock = self.log.lock_for_append()?;
        let rows = self.index.commits().from(0, usize::MAX, is_unexpired)?;
        let mut chosen = Vec::new();
        for name in names {
            let name = name.to_ascii_lowercase();
            if name.len() < PREFIX_MIN || !name.bytes().all(|b| b.is_ascii_hexdigit()) {
                let text = format!("{name:?} names no snapshot: give its id, or the first {PREFIX_MIN} digits or more");
                return Err(Error::Invalid(text));
            }
            let fits: Vec<_> = rows.iter().filter(|row| row.snapshot.to_string().starts_with(&name)).collect();
            match fits.as_slice() {
                [] => return Err(Error::SnapshotNotFound(format!("there is no snapshot {name}; nothing was purged"))),
                [one] if !chosen.contains(&one.snapshot) => chosen.push(one.snapshot),
                [_] => {}
                _ => {
                    let text = format!("{name} fits {} snapshots: give more digits; nothing was purged", fits.len());
                    return Err(Error::SnapshotNotFound(text));
                }
            }
        }
        let events: Vec<_> = chosen.iter().map(|snapshot| Event::Expire { snapshot: *snapshot }).collect();
        if !events.is_empty() {
            self.log.append_to_free(&events)?;
        }
        Ok(chosen)
    }

    /// The commit of a snapshot. Fails if there is none.
    fn committed(&self, snapshot: SnapshotId) -> Result<CommitRow> {
        let none =
            || Error::SnapshotNotFound(format!("snapshot {snapshot} was never committed here; nothing was changed"));
        self.index.commits().of(&snapshot)?.ok_or_else(none)
    }
}
