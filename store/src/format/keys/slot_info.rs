//! What a slot says about itself to holders of the full key: label, host and time of creation.
//!
//! It is sealed: the store does not need to know it. It is bound to the slot's id, so that it cannot be moved to
//! another slot. Every holder of the full key can read the labels of all slots.

use minicbor::{Decode, Encode};

use super::{fields::bounded_label, full::FullKey};
use crate::{
    base::{
        codec,
        error::{Error, Result},
        id::{RepoId, SlotId},
        time::Time,
    },
    crypto::{AeadKey, SealNumber, SealSecret},
};

/// The largest sealed information of a slot in bytes.
pub(super) const SEALED_MAX: usize = 1024;
/// The plain text is padded to a multiple of this, which hides the lengths of the names.
const PADDING: usize = 64;

/// Where a slot comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SlotInfo {
    /// What a person calls it. Names longer than [`super::LABEL_MAX`] bytes are shortened.
    #[n(0)]
    pub label: String,
    /// The machine that created it. Shortened likewise.
    #[n(1)]
    pub host: String,
    /// When it was created, by that machine's clock.
    #[n(2)]
    pub created: Time,
}

/// Seals a slot's information.
pub(super) fn seal(full: &FullKey, slot: SlotId, info: &SlotInfo) -> Vec<u8> {
    let SlotInfo { label, host, created } = info;
    let (label, host) = (bounded_label(label).to_owned(), bounded_label(host).to_owned());
    let mut plain = codec::encode(&SlotInfo { label, host, created: *created });
    plain.resize(plain.len().next_multiple_of(PADDING), 0);
    key(&full.seal).seal(&plain, &aad(full.repo, slot))
}

/// Opens a slot's information. Returns the seal key that the slot's full key has, too.
pub(super) fn open(full: &FullKey, slot: SlotId, sealed: &[u8]) -> Result<(SlotInfo, SealNumber)> {
    let damaged = |reason: &str| Error::damaged(format!("the label of passphrase slot {slot}"), reason);
    let opened = |seal: &SealSecret| Some((key(seal).open(sealed, &aad(full.repo, slot))?, seal.number()));
    let (plain, number) =
        full.seals().find_map(opened).ok_or_else(|| damaged("this repository's key does not open it"))?;
    let mut decoder = minicbor::Decoder::new(&plain);
    let info: SlotInfo = decoder.decode().map_err(|_| damaged("it does not decode"))?;
    match plain[decoder.position()..].iter().all(|b| *b == 0) {
        true => Ok((info, number)),
        false => Err(damaged("bytes follow its end")),
    }
}

fn key(seal: &SealSecret) -> AeadKey {
    AeadKey::new(&seal.seed().derive("bkfs v1 slot label"))
}

fn aad(repo: RepoId, slot: SlotId) -> Vec<u8> {
    [&b"bkfsslbl"[..], &repo.0, &slot.0].concat()
}
