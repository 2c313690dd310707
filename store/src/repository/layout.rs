//! Names of a repository's files, and its small objects, which lie twice.

use bytes::Bytes;

use super::Repository;
use crate::{
    base::{
        error::{Error, Result},
        id::{Hash, PackId, SlotId, SnapshotId},
    },
    format::keys::{
        Slot,
        slot::{SLOT_MAX, SLOTS_MAX, slot_params},
    },
    repository::{backend::Backend, log::pair::LogPair},
};

pub(super) const CONFIG: &str = "config";
pub(super) const LOG: &str = "log";
pub(super) const GRAVE: &str = "grave";
pub(super) const PRUNES: &str = "prunes";
pub(super) const SETTINGS: &str = "settings";

pub(super) const fn log() -> LogPair {
    LogPair::new("log", "log.2")
}

pub(super) fn pack(id: PackId) -> String {
    format!("packs/{:02x}/{id}", id.0[0])
}

/// Parity lies in a folder of its own: one damaged folder does not take pack and parity, and listing packs is no slower.
pub(super) fn parity(id: PackId) -> String {
    format!("parity/{:02x}/{id}", id.0[0])
}

pub(super) fn pack_folder(first: u8) -> String {
    format!("packs/{first:02x}")
}

/// Where a swept pack waits for its end.
pub(super) fn grave(id: PackId) -> String {
    format!("{GRAVE}/{id}")
}

/// The set that a prune has condemned.
pub(super) fn condemned(hash: Hash) -> String {
    format!("{PRUNES}/{hash}")
}

pub(super) fn parity_folder(first: u8) -> String {
    format!("parity/{first:02x}")
}

pub(super) fn slot(id: SlotId) -> String {
    format!("slots/{id}")
}

pub(super) fn snapshot(id: SnapshotId) -> String {
    format!("snapshots/{id}")
}

/// Where the second copy of an object lies.
pub(super) fn second(name: &str) -> String {
    match name.split_once('/') {
        Some((folder, file)) => format!("{folder}.2/{file}"),
        None => format!("{name}.2"),
    }
}

/// Where the second copies of a folder's objects lie.
pub(super) fn second_folder(folder: &str) -> String {
    format!("{folder}.2")
}

/// Whether something lies there that only a repository could have stored. (What an `init` leaves that was cut short is not.)
pub(super) fn is_in_use(backend: &dyn Backend) -> Result<bool> {
    for folder in ["snapshots", "snapshots.2"] {
        if !backend.list(folder)?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Repository {
    pub(super) fn put_object(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.backend.put_all(&[(name, bytes), (&second(name), bytes)])
    }

    pub(super) fn delete_object(&self, name: &str) -> Result<()> {
        self.backend.delete(name)?;
        self.backend.delete(&second(name))
    }

    /// The first copy that passes the check; none if there is no copy; the check's error if no copy passes.
    pub(super) fn get_object(&self, name: &str, check: impl Fn(&[u8]) -> Result<()>) -> Result<Option<Bytes>> {
        let mut failed: Option<Error> = None;
        for name in [name.to_owned(), second(name)] {
            let read = self.backend.get(&name);
            let checked = match read {
                Ok(None) => continue,
                Ok(Some(bytes)) => check(&bytes).map(|()| bytes),
                Err(error) if error.is_unreadable() => Err(error),
                Err(error) => return Err(error),
            };
            match checked {
                Ok(bytes) => {
                    if let Some(error) = failed {
                        tracing::warn!(object = name, %error, "the first copy is damaged; the second one serves");
                    }
                    return Ok(Some(bytes));
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    /// Stores a passphrase slot; slots beyond what is read again are refused.
    pub(super) fn put_bounded_slot(&self, slot: &Slot) -> Result<()> {
        let too_large = |what, size: usize, limit: usize| match size <= limit {
            true => Ok(()),
            false => Err(Error::TooLarge { what, size: size as u64, limit: limit as u64 }),
        };
        too_large("a key slot", slot.bytes.len(), SLOT_MAX)?;
        let mut ids: Vec<SlotId> = self.slots()?.iter().map(|slot| slot.id).collect();
        ids.push(slot.id);
        ids.sort_unstable();
        ids.dedup();
        too_large("the number of key slots", ids.len(), SLOTS_MAX)?;
        self.put_object(&self::slot(slot.id), &slot.bytes)
    }

    /// All passphrase slots, in the order of their names; one twice whose copies differ.
    pub(super) fn slots(&self) -> Result<Vec<Slot>> {
        let mut names: Vec<String> = Vec::new();
        for folder in ["slots", "slots.2"] {
            names.extend(self.backend.list(folder)?.into_iter().map(|listed| listed.name));
        }
        names.sort_unstable();
        names.dedup();
        let mut slots = Vec::new();
        for id in names.iter().filter_map(|name| name.parse::<SlotId>().ok()).take(SLOTS_MAX) {
            for name in [self::slot(id), second(&self::slot(id))] {
                let read = match self.backend.get(&name) {
                    Ok(Some(bytes)) => Ok(Slot { id, bytes: bytes.to_vec() }),
                    Ok(None) => continue,
                    Err(error) if error.is_unreadable() => Err(error),
                    Err(error) => return Err(error),
                };
                match read.and_then(|slot| slot_params(&slot).map(|_| slot)) {
                    // Only a passphrase can tell which of two is the right one: then both are handed out.
                    Ok(slot) if slots.last() != Some(&slot) => slots.push(slot),
                    Ok(_) => {}
                    // One bad slot must not keep the others from opening.
                    Err(error) => tracing::warn!(slot = name, %error, "a copy of a key slot is damaged"),
                }
            }
        }
        Ok(slots)
    }
}
