//! Rotating the seal key, so that those who have an older one cannot read what is pushed from now on.
//!
//! **Order.** The new full key must open with the passphrase before anything is sealed to it:
//!
//! 1. A slot with the new full key is stored. It does not count yet: [`slot::open_any`] prefers the seal key that the
//!    repository shows as its newest.
//! 2. The list of seal keys with the new one enters the log. From here on, clients seal to the new key, and the store
//!    refuses what is sealed to an older one.
//! 3. The slots that were there before step 1 are removed. They hold the older key.
//!
//! A process may die after each step. After step 1, a slot is left that does not count; the next rotation removes it.
//! After step 2, the passphrase opens the new slot, and the older ones only remain to be removed ([`finish`]).
//!
//! If two machines rotate at once, the log accepts one list. Each removes only slots that it saw before its own list
//! was accepted. So it cannot remove a slot of a rotation that comes after, and none of a rotation that was accepted
//! before.

use crate::{
    access::{Manage, Open, OpenRequest, Opened},
    base::{
        error::{Error, Result},
        id::SlotId,
    },
    format::{
        config::verify_config,
        keys::{
            FullKey, SealKeys, Slot, SlotInfo,
            slot::{self, SlotParams},
        },
    },
};

/// A rotation that is about to be made.
#[derive(Debug)]
pub struct Rotation<'a> {
    /// The store's reply when it was opened. Its slots go.
    pub opened: &'a Opened,
    /// The full key, with the newest seal key.
    pub full: &'a FullKey,
    /// The passphrase of the new slot.
    pub passphrase: &'a [u8],
    /// The cost of the new slot.
    pub params: SlotParams,
    /// What the new slot says about itself.
    pub info: &'a SlotInfo,
}

/// What a rotation has made.
#[derive(Debug)]
pub struct NewSealKey {
    /// The full key with the new seal key.
    pub full: FullKey,
    /// The slot that holds it.
    pub slot: SlotId,
}

impl Rotation<'_> {
    /// Rotates the seal key. Fails with [`Error::LeaseRefused`] if another machine has rotated it since the repository
    /// was opened. After an error of the connection or of the disk, it may have been rotated all the same.
    pub fn run<A: Open + Manage + ?Sized>(&self, access: &A) -> Result<NewSealKey> {
        let config = verify_config(&self.opened.config)?;
        let before = SealKeys::verify(&self.opened.seal_keys, &config)?;
        let rotated = before.rotate(self.full)?;
        let slot = slot::seal_slot(&rotated.full, self.passphrase, self.params, self.info)?;
        access.put_slot(&slot)?;
        if let Err(error) = access.put_seal_keys(&rotated.signed) {
            // The reply may have been lost, not the list.
            let now = SealKeys::verify(&access.open(&OpenRequest::default())?.seal_keys, &config)?;
            let is_ours = now.number_of(&rotated.full.seal.public().to_bytes()).is_some();
            let is_anothers = !is_ours && now.number() > before.number();
            let is_refused = matches!(error, Error::LeaseRefused { .. } | Error::NoPermission { .. });
            if is_anothers || !is_ours && is_refused {
                // The list will never be accepted, so nothing is lost with its slot. After another error it may be: a
                // request can be on its way, and a record that reached one file of the log still counts.
                access.remove_slot(slot.id)?;
            }
            match (is_ours, is_anothers) {
                (true, _) => {}
                (false, true) => {
                    let reason = "another machine has rotated the seal key at the same time".to_owned();
                    return Err(Error::LeaseRefused { reason });
                }
                (false, false) => return Err(error),
            }
        }
        let older: Vec<SlotId> = self.opened.slots.iter().map(|slot| slot.id).collect();
        finish(access, &older)?;
        Ok(NewSealKey { full: rotated.full, slot: slot.id })
    }
}

/// Returns the slots of an interrupted rotation that are still to be removed: those that hold an older seal key than
/// `full`, which has the newest.
pub fn outdated<'s>(full: &FullKey, slots: &'s [Slot]) -> Vec<&'s Slot> {
    let is_older = |slot: &&Slot| slot::slot_seal_key(full, slot).is_ok_and(|number| number < full.seal.number());
    slots.iter().filter(is_older).collect()
}

/// Removes slots. Those that are gone already are no error.
pub fn finish<A: Open + Manage + ?Sized>(access: &A, slots: &[SlotId]) -> Result<()> {
    let mut failed = None;
    for id in slots {
        failed = access.remove_slot(*id).err().or(failed);
    }
    let Some(error) = failed else { return Ok(()) };
    let left = access.open(&OpenRequest::default())?.slots;
    match left.iter().any(|slot| slots.contains(&slot.id)) {
        true => Err(error),
        false => Ok(()),
    }
}
