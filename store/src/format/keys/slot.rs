//! Passphrase slots: the full key, sealed under a key that Argon2id derives from a passphrase.
//!
//! A repository has one or more slots, each with its own salt and parameters. Any one of them opens the full key. The
//! parameters are stored in the slot, and the slot comes from the store, so readers bound them both ways: a hostile
//! slot can neither exhaust the machine's memory and time, nor pass with almost no work as one of ours. A slot that
//! does not open gives no reason: a wrong passphrase and a changed bit look the same.

use argon2::{Algorithm, Argon2, Params, Version};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use super::full::FullKey;
use crate::{
    base::{
        codec::Header,
        error::{Error, Result},
        id::SlotId,
    },
    crypto::{AeadKey, Secret, random},
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

    /// At most 1 GiB of memory, and memory times passes at most 16 GiB: about 15 s on one core.
    const MEMORY_KIB_MAX: u32 = 1024 * 1024;
    const WORK_KIB_MAX: u64 = 16 * 1024 * 1024;
    const LANES_MAX: u32 = 64;

    /// Checks the lower and the upper bounds.
    pub fn check(&self) -> Result<()> {
        let work = u64::from(self.memory_kib) * u64::from(self.passes);
        let fits = (Self::LEAST.memory_kib..=Self::MEMORY_KIB_MAX).contains(&self.memory_kib)
            && self.passes >= 1
            && work <= Self::WORK_KIB_MAX
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
}

impl Record {
    fn params(&self) -> SlotParams {
        SlotParams { memory_kib: self.memory_kib, passes: self.passes, lanes: self.lanes }
    }
}

/// Creates a slot with a new random id. Fails only if the parameters are out of bounds.
pub fn seal_slot(full: &FullKey, passphrase: &[u8], params: SlotParams) -> Result<Slot> {
    params.check()?;
    let (id, salt) = (SlotId(random()), random::<SALT_LEN>());
    let key = derive_key(passphrase, &salt, params)?;
    let sealed = key.seal(&full.encode(), &aad(id, params, &salt));
    let SlotParams { memory_kib, passes, lanes } = params;
    let record = Record { memory_kib, passes, lanes, salt: salt.to_vec(), sealed };
    Ok(Slot { id, bytes: HEADER.encode(&record) })
}

/// Returns a slot's parameters, for `key list`.
pub fn slot_params(slot: &Slot) -> Result<SlotParams> {
    read(slot).map(|record| record.params())
}

/// Opens a slot. Returns `None` if the passphrase is wrong, or a bit of the slot was changed.
pub fn open_slot(slot: &Slot, passphrase: &[u8]) -> Result<Option<FullKey>> {
    let record = read(slot)?;
    let key = derive_key(passphrase, &record.salt, record.params())?;
    match key.open(&record.sealed, &aad(slot.id, record.params(), &record.salt)) {
        Some(bytes) => FullKey::decode(&Zeroizing::new(bytes)).map(Some),
        None => Ok(None),
    }
}

/// Opens the first slot that the passphrase opens. A damaged slot does not prevent the others from being tried; its
/// error is returned only if no slot is sound.
pub fn open_any(slots: &[Slot], passphrase: &[u8]) -> Result<FullKey> {
    let mut damage = None;
    let mut sound = 0;
    // Both copies of a slot are listed if they differ.
    for slot in slots.iter().take(2 * SLOTS_MAX) {
        match open_slot(slot, passphrase) {
            Ok(Some(full)) => return Ok(full),
            Ok(None) => sound += 1,
            Err(error) => damage = Some(error),
        }
    }
    match damage {
        Some(error) if sound == 0 => Err(error),
        _ => Err(Error::WrongPassphrase { slots: sound }),
    }
}

fn read(slot: &Slot) -> Result<Record> {
    if slot.bytes.len() > SLOT_MAX {
        return Err(Error::TooLarge { what: HEADER.what, size: slot.bytes.len() as u64, limit: SLOT_MAX as u64 });
    }
    let record: Record = HEADER.decode(&slot.bytes)?;
    record.params().check()?;
    match record.salt.len() == SALT_LEN {
        true => Ok(record),
        false => Err(Error::damaged(HEADER.what, "its salt has the wrong length")),
    }
}

fn derive_key(passphrase: &[u8], salt: &[u8], params: SlotParams) -> Result<AeadKey> {
    let failed = |e: argon2::Error| Error::damaged(HEADER.what, format!("Argon2id: {e}"));
    let params = Params::new(params.memory_kib, params.passes, params.lanes, Some(32)).map_err(failed)?;
    let mut secret = Secret([0; 32]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase, salt, &mut secret.0)
        .map_err(failed)?;
    Ok(AeadKey::new(&secret))
}

/// Returns magic, version, the slot's id, parameters and salt: no part of a slot can be changed or moved to another id.
fn aad(id: SlotId, params: SlotParams, salt: &[u8]) -> Vec<u8> {
    [
        &HEADER.magic[..],
        &HEADER.version.to_le_bytes(),
        &id.0,
        &params.memory_kib.to_le_bytes(),
        &params.passes.to_le_bytes(),
        &params.lanes.to_le_bytes(),
        salt,
    ]
    .concat()
}
