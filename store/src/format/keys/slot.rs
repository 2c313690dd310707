//! Passphrase slots: the full key, sealed under a key that Argon2id derives from a passphrase.
//!
//! A repository has one or more slots, each with its own salt and parameters. Any one of them opens the full key. The
//! parameters are stored in the slot, and the slot comes from the store, so readers bound them both ways: a hostile
//! slot can neither exhaust the machine's memory and time, nor pass with almost no work as one of ours. The work for
//! all slots together is bounded, too, and the cheapest are tried first: slots that a store adds do not keep a
//! passphrase from opening its own. A slot that does not open gives no reason: a wrong passphrase and a changed bit
//! look the same.

use argon2::{Algorithm, Argon2, Params, Version};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use super::{
    full::FullKey,
    seal_keys::SealKeys,
    slot_info::{self, SlotInfo},
};
use crate::{
    base::{
        codec::Header,
        error::{Error, Result},
        id::SlotId,
    },
    crypto::{AeadKey, SealNumber, Secret, random},
};

/// Magic and version of a slot.
pub const HEADER: Header = Header { what: "a passphrase slot", magic: *b"bkfsslot", version: 1 };

/// Maximum number of slots of a repository.
pub const SLOTS_MAX: usize = 32;
/// The largest slot in bytes.
pub const SLOT_MAX: usize = 4096;
const SALT_LEN: usize = 16;

/// A passphrase slot as it is stored: its id and its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Slot {
    /// The slot's id.
    #[n(0)]
    pub id: SlotId,
    /// The slot's record.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
}

/// The cost of Argon2id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotParams {
    /// Memory in KiB (m).
    pub memory_kib: u32,
    /// Passes over the memory (t).
    pub passes: u32,
    /// Lanes (p).
    pub lanes: u32,
}

impl Default for SlotParams {
    /// The second recommended option of RFC 9106, section 4: 64 MiB, 3 passes, 4 lanes. It takes about 0.1 s.
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3, lanes: 4 }
    }
}

impl SlotParams {
    /// The lowest cost that is accepted; for tests.
    pub const LEAST: Self = Self { memory_kib: 8 * 1024, passes: 1, lanes: 1 };

    /// At most 1 GiB of memory, and memory times passes at most 2 GiB: ten times the default, about 2 s on one core.
    const MEMORY_KIB_MAX: u32 = 1024 * 1024;
    const WORK_KIB_MAX: u64 = 2 * 1024 * 1024;
    const LANES_MAX: u32 = 64;
    /// The work for all slots that one passphrase is tried on: that of [`SLOTS_MAX`] slots of the default cost, and
    /// some more. About 8 s on one core.
    const WORK_KIB_ALL: u64 = 8 * 1024 * 1024;

    /// Memory times passes, which is what the time is proportional to.
    fn work_kib(&self) -> u64 {
        u64::from(self.memory_kib) * u64::from(self.passes)
    }

    /// Checks the lower and the upper bounds.
    pub fn check(&self) -> Result<()> {
        let fits = (Self::LEAST.memory_kib..=Self::MEMORY_KIB_MAX).contains(&self.memory_kib)
            && self.passes >= 1
            && self.work_kib() <= Self::WORK_KIB_MAX
            && (1..=Self::LANES_MAX).contains(&self.lanes);
        match fits {
            true => Ok(()),
            false => Err(Error::damaged(
                HEADER.what,
                format!(
                    "its Argon2id parameters are out of bounds: {} KiB, {} passes, {} lanes",
                    self.memory_kib, self.passes, self.lanes
                ),
            )),
        }
    }
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Record {
    #[n(0)]
    memory_kib: u32,
    #[n(1)]
    passes: u32,
    #[n(2)]
    lanes: u32,
    #[cbor(n(3), with = "minicbor::bytes")]
    salt: Vec<u8>,
    /// The full key's record, sealed.
    #[cbor(n(4), with = "minicbor::bytes")]
    sealed: Vec<u8>,
    /// Label, host and time, sealed.
    #[cbor(n(5), with = "minicbor::bytes")]
    info: Vec<u8>,
}

impl Record {
    fn params(&self) -> SlotParams {
        SlotParams { memory_kib: self.memory_kib, passes: self.passes, lanes: self.lanes }
    }
}

/// Creates a slot with a new random id. Fails only if the parameters are out of bounds.
pub fn seal_slot(full: &FullKey, passphrase: &[u8], params: SlotParams, info: &SlotInfo) -> Result<Slot> {
    params.check()?;
    let (id, salt) = (SlotId(random()), random::<SALT_LEN>());
    let key = derive_key(passphrase, &salt, params)?;
    let info = slot_info::seal(full, id, info);
    let sealed = key.seal(&full.encode(), &aad(id, params, &salt, &info));
    let SlotParams { memory_kib, passes, lanes } = params;
    let record = Record { memory_kib, passes, lanes, salt: salt.to_vec(), sealed, info };
    Ok(Slot { id, bytes: HEADER.encode(&record) })
}

/// Returns a slot's parameters, for `key list`.
pub fn slot_params(slot: &Slot) -> Result<SlotParams> {
    read(slot).map(|record| record.params())
}

/// Returns what a slot says about itself.
pub fn slot_info(full: &FullKey, slot: &Slot) -> Result<SlotInfo> {
    slot_info::open(full, slot.id, &read(slot)?.info).map(|(info, _)| info)
}

/// Returns which of the seal keys of `full` the full key in a slot has. Fails if it has none of them.
pub fn slot_seal_key(full: &FullKey, slot: &Slot) -> Result<SealNumber> {
    slot_info::open(full, slot.id, &read(slot)?.info).map(|(_, number)| number)
}

/// Opens a slot. Returns `None` if the passphrase is wrong, or a bit of the slot was changed.
pub fn open_slot(slot: &Slot, passphrase: &[u8]) -> Result<Option<FullKey>> {
    let record = read(slot)?;
    let key = derive_key(passphrase, &record.salt, record.params())?;
    match key.open(&record.sealed, &aad(slot.id, record.params(), &record.salt, &record.info)) {
        Some(bytes) => FullKey::decode(&Zeroizing::new(bytes)).map(Some),
        None => Ok(None),
    }
}

/// Opens the cheapest slot with the newest seal key that the passphrase opens, or the one with the newest of those that
/// it opens. Returns the slot's id and the key, completed. A damaged slot does not prevent the others from being tried;
/// its error is returned only if no slot is sound. The work for all slots is bounded. Those beyond the bound, which are
/// the most expensive ones, are not tried, and are counted.
pub fn open_any(slots: &[Slot], passphrase: &[u8], seal_keys: &SealKeys) -> Result<(SlotId, FullKey)> {
    let (mut damage, mut sound) = (None, Vec::new());
    // Both copies of a slot are listed if they differ.
    for slot in slots.iter().take(2 * SLOTS_MAX) {
        match slot_params(slot) {
            Ok(params) => sound.push((params.work_kib(), slot)),
            Err(error) => damage = Some(error),
        }
    }
    if let Some(error) = damage.filter(|_| sound.is_empty()) {
        return Err(error);
    }
    let mut untried = slots.len() - sound.len();
    sound.sort_by_key(|(work, _)| *work);
    let (mut left, mut tried) = (SlotParams::WORK_KIB_ALL, 0);
    // A rotation leaves slots of the same passphrase with older seal keys until it has removed them, and before that
    // one whose seal key does not count yet.
    let mut best: Result<(SlotId, FullKey), Option<Error>> = Err(None);
    for (work, slot) in sound {
        if work > left {
            untried += 1;
            continue;
        }
        left -= work;
        tried += 1;
        let Some(full) = open_slot(slot, passphrase)? else { continue };
        match seal_keys.complete(&full) {
            Ok(full) if seal_keys.check_newest(&full).is_ok() => return Ok((slot.id, full)),
            Ok(full) if best.as_ref().is_ok_and(|(_, best)| best.seal.number() >= full.seal.number()) => {}
            Ok(full) => best = Ok((slot.id, full)),
            Err(error) => best = best.map_err(|_| Some(error)),
        }
    }
    best.map_err(|error| error.unwrap_or(Error::WrongPassphrase { slots: tried, untried }))
}

fn read(slot: &Slot) -> Result<Record> {
    if slot.bytes.len() > SLOT_MAX {
        return Err(Error::TooLarge { what: HEADER.what, size: slot.bytes.len() as u64, limit: SLOT_MAX as u64 });
    }
    let record: Record = HEADER.decode(&slot.bytes)?;
    record.params().check()?;
    if record.info.len() > slot_info::SEALED_MAX {
        return Err(Error::damaged(HEADER.what, "its label is too long"));
    }
    match record.salt.len() == SALT_LEN {
        true => Ok(record),
        false => Err(Error::damaged(HEADER.what, "its salt has the wrong length")),
    }
}

fn derive_key(passphrase: &[u8], salt: &[u8], params: SlotParams) -> Result<AeadKey> {
    let failed = |e: argon2::Error| Error::damaged(HEADER.what, format!("Argon2id: {e}"));
    let params = Params::new(params.memory_kib, params.passes, params.lanes, Some(32)).map_err(failed)?;
    let mut secret = Secret::new([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase, salt, secret.bytes_mut())
        .map_err(failed)?;
    Ok(AeadKey::new(&secret))
}

/// Returns magic, version, the slot's id, parameters, salt and information: no part of a slot can be changed or moved
/// to another id. Only the last part has a variable length.
fn aad(id: SlotId, params: SlotParams, salt: &[u8], info: &[u8]) -> Vec<u8> {
    [
        &HEADER.magic[..],
        &HEADER.version.to_le_bytes(),
        &id.0,
        &params.memory_kib.to_le_bytes(),
        &params.passes.to_le_bytes(),
        &params.lanes.to_le_bytes(),
        salt,
        info,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::{id::RepoId, time::Time},
        format::{
            config::{ChunkerParams, verify_config},
            keys::fields::bounded_label,
        },
    };

    #[test]
    fn a_slot_says_where_it_comes_from_to_holders_of_the_full_key_only() {
        let full = FullKey::random(RepoId([1; 16]));
        let config = verify_config(&full.config(Time::default(), ChunkerParams::default())).unwrap();
        let seal_keys = SealKeys::verify(&[], &config).unwrap();
        let (long, created) = ("ü".repeat(200), Time { secs: 5, nanos: 6 });
        for (label, host) in [("", ""), ("the safe", "alpha"), (long.as_str(), long.as_str())] {
            let info = SlotInfo { label: label.into(), host: host.into(), created };
            let slot = seal_slot(&full, b"x", SlotParams::LEAST, &info).unwrap();
            let found = slot_info(&full, &slot).unwrap();
            assert_eq!((&*found.label, &*found.host), (bounded_label(label), bounded_label(host)));
            assert_eq!(found.created, created);
            assert!(slot_info(&FullKey::random(full.repo), &slot).is_err());
            assert!(slot_info(&full, &Slot { id: SlotId([9; 16]), ..slot.clone() }).is_err());
            let (id, opened) = open_any(std::slice::from_ref(&slot), b"x", &seal_keys).unwrap();
            assert_eq!((id, opened.encode()), (slot.id, full.encode()));
        }
    }

    #[test]
    fn of_several_slots_the_one_with_the_newest_seal_key_is_opened() {
        let first = FullKey::random(RepoId([1; 16]));
        let config = verify_config(&first.config(Time::default(), ChunkerParams::default())).unwrap();
        let before = SealKeys::verify(&[], &config).unwrap();
        let rotated = before.rotate(&first).unwrap();
        let after = SealKeys::verify(&rotated.signed, &config).unwrap();
        let slot = |full: &FullKey| seal_slot(full, b"x", SlotParams::LEAST, &SlotInfo::default()).unwrap();
        let (old, new) = (slot(&first), slot(&rotated.full));
        for slots in [[old.clone(), new.clone()], [new.clone(), old.clone()]] {
            // Before the new seal key is recorded, the new slot does not count.
            assert_eq!(open_any(&slots, b"x", &before).unwrap().0, old.id);
            let (id, full) = open_any(&slots, b"x", &after).unwrap();
            assert_eq!((id, full.seal.number().0, full.older.len()), (new.id, 2, 1));
            assert!(matches!(open_any(&slots, b"y", &after), Err(Error::WrongPassphrase { slots: 2, untried: 0 })));
        }
        let alone = open_any(std::slice::from_ref(&old), b"x", &after).unwrap().1;
        assert!(matches!(after.check_newest(&alone), Err(Error::KeyOutdated { have: 1, needed: 2 })));
        let hidden = open_any(std::slice::from_ref(&new), b"x", &before);
        assert!(matches!(hidden, Err(Error::SealKeyMissing { shown: 1 })));
        assert_eq!(slot_seal_key(&rotated.full, &old).unwrap().0, 1);
        assert_eq!(slot_seal_key(&rotated.full, &new).unwrap().0, 2);
        assert!(slot_seal_key(&first, &new).is_err());
    }
}
