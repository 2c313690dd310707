//! The trash: forgetting snapshots, bringing them back, and letting them go for good.

use std::collections::HashSet;

use crate::{
    access::{FORGET_MAX, ForgetReply, ForgetRequest},
    base::{
        error::{Error, Result},
        id::SnapshotId,
        time::Time,
    },
    format::{
        fate::{Fate, is_due, protected_until},
        log::Event,
        tombstone::Tombstone,
    },
    repository::{Repository, index::CommitRow},
};

/// Digits of an id by which an operator can name a snapshot.
const PREFIX_MIN: usize = 8;

impl Repository {
    pub(in crate::repository) fn forget_snapshots(&self, request: &ForgetRequest) -> Result<ForgetReply> {
        bounded(request.tombstones.len())?;
        let state = self.state()?;
        let mut tombstones = Vec::with_capacity(request.tombstones.len());
        for signed in &request.tombstones {
            let tombstone = Tombstone::verify(&signed.0, &state.admin, state.config.repo)?;
            tombstones.push((tombstone, &signed.0));
        }
        tombstones.sort_by_key(|(tombstone, _)| tombstone.snapshot);
        tombstones.dedup_by_key(|(tombstone, _)| tombstone.snapshot);
        let _lock = self.writing()?;
        let (now, mut events, mut reply) = ((self.clock)(), Vec::new(), ForgetReply::default());
        for (tombstone, signed) in tombstones {
            let row = self.committed(tombstone.snapshot)?;
            let snapshot = row.snapshot;
            if !tombstone.serves(snapshot, row.changed) {
                let text =
                    format!("the request to forget snapshot {snapshot} is older than the snapshot's last change");
                return Err(Error::LeaseRefused { reason: text });
            }
            let unsigned = matches!(row.fate, Some(Fate::Expired { signed: false }));
            if row.fate.is_none() || unsigned {
                events.push(Event::Forget { snapshot, signed: signed.clone() });
            }
            if Fate::is_expired(row.fate) {
                continue;
            }
            reply.forgotten += u64::from(row.fate.is_none());
            if request.now {
                if let Some(until) = protected_until(row.received, now, self.protect_secs) {
                    return Err(Error::Protected { snapshot, until_secs: until.secs });
                }
                events.push(Event::Expire { snapshot });
                reply.expired.push(snapshot);
            }
        }
        if request.empty_trash {
            let newest = self.newest_time()?;
            let due = |row: &CommitRow| self.is_due(row, newest, now);
            let named: HashSet<SnapshotId> = reply.expired.iter().copied().collect();
            for row in self.index.commits().from(0, usize::MAX, due)? {
                if !named.contains(&row.snapshot) {
                    events.push(Event::Expire { snapshot: row.snapshot });
                    reply.expired.push(row.snapshot);
                }
            }
        }
        if !events.is_empty() {
            self.append(&events)?;
        }
        Ok(reply)
    }

    /// Whether emptying the trash lets a snapshot go. `newest` is the time of the log's newest record.
    pub(in crate::repository) fn is_due(&self, row: &CommitRow, newest: Time, now: Time) -> bool {
        matches!(row.fate, Some(Fate::Trash { since }) if is_due(since, newest, now, self.protect_secs))
    }

    pub(in crate::repository) fn unforget_snapshots(&self, snapshots: &[SnapshotId]) -> Result<()> {
        bounded(snapshots.len())?;
        self.state()?;
        let _lock = self.writing()?;
        let mut events = Vec::new();
        for snapshot in snapshots {
            let event = Event::Unforget { snapshot: *snapshot };
            match self.committed(*snapshot)?.fate {
                Some(Fate::Expired { .. }) => {
                    let text = format!("snapshot {snapshot} is gone for good; nothing was brought back");
                    return Err(Error::SnapshotNotFound(text));
                }
                Some(Fate::Trash { .. }) if !events.contains(&event) => events.push(event),
                _ => {}
            }
        }
        if events.is_empty() { Ok(()) } else { self.append(&events) }
    }

    /// Makes snapshots unrecoverable, whatever their age and whoever wants to keep them: the way of the store's operator, who
    /// has its files and no key. Each is named by its id or the first digits of it. Returns those that are gone by this.
    pub fn purge(&self, names: &[String]) -> Result<Vec<SnapshotId>> {
        self.state()?;
        let _lock = self.writing()?;
        let rows = self.index.commits().from(0, usize::MAX, |row| !Fate::is_expired(row.fate))?;
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
            self.append(&events)?;
        }
        Ok(chosen)
    }

    /// All snapshots that were ever committed, oldest first: what an operator can see of them without a key.
    pub fn commits(&self) -> Result<Vec<CommitRow>> {
        self.state()?;
        self.follow()?;
        self.index.commits().from(0, usize::MAX, |_| true)
    }

    fn committed(&self, snapshot: SnapshotId) -> Result<CommitRow> {
        let none =
            || Error::SnapshotNotFound(format!("snapshot {snapshot} was never committed here; nothing was changed"));
        self.index.commits().of(&snapshot)?.ok_or_else(none)
    }
}

fn bounded(count: usize) -> Result<()> {
    match count <= FORGET_MAX {
        true => Ok(()),
        false => Err(Error::TooLarge { what: "a request", size: count as u64, limit: FORGET_MAX as u64 }),
    }
}
