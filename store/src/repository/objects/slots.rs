//! Passphrase slots.

use super::Objects;
use crate::{
    base::{
        error::{Error, Result},
        id::SlotId,
    },
    format::keys::{
        Slot,
        slot::{SLOT_MAX, SLOTS_MAX, slot_params},
    },
    repository::layout,
};

impl Objects {
    /// All passphrase slots, in the order of their names. A slot whose copies differ is returned twice.
    pub fn slots(&self) -> Result<Vec<Slot>> {
        let names = self.names(layout::SLOTS)?;
        let mut slots = Vec::new();
        for id in names.iter().filter_map(|name| name.parse::<SlotId>().ok()).take(SLOTS_MAX) {
            for name in layout::copies(&layout::slot(id)) {
                let read = match self.backend.get(&name) {
                    Ok(Some(bytes)) => Ok(Slot { id, bytes: bytes.to_vec() }),
                    Ok(None) => continue,
                    Err(error) if error.is_unreadable() => Err(error),
                    Err(error) => return Err(error),
                };
                match read.and_then(|slot| slot_params(&slot).map(|_| slot)) {
                    // Only a passphrase can tell which of two copies is right, so both are returned.
                    Ok(slot) if slots.last() != Some(&slot) => slots.push(slot),
                    Ok(_) => {}
                    // One bad slot must not keep the others from opening.
                    Err(error) => tracing::warn!(slot = name, %error, "a copy of a key slot is damaged"),
                }
            }
        }
        Ok(slots)
    }

    /// Adds or replaces a slot. Takes the repository's lock.
    pub fn put_slot(&self, slot: &Slot) -> Result<()> {
        let _lock = self.backend.lock()?;
        self.put_slot_locked(slot)
    }

    /// Adds or replaces a slot. The caller holds the lock. A slot that [`Objects::slots`] would not return is refused.
    pub fn put_slot_locked(&self, slot: &Slot) -> Result<()> {
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
        self.put(&layout::slot(slot.id), &slot.bytes)
    }

    /// Removes a slot; the last one is kept. Takes the repository's lock.
    pub fn remove_slot(&self, id: SlotId) -> Result<()> {
        let _lock = self.backend.lock()?;
        let slots = self.slots()?;
        match slots.iter().any(|slot| slot.id == id) {
            false => Err(Error::Invalid(format!("there is no key slot {id}"))),
            true if slots.iter().all(|slot| slot.id == id) => {
                Err(Error::Invalid("the last key slot is kept: add another one first".into()))
            }
            true => self.remove(&layout::slot(id)),
        }
    }
}
