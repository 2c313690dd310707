//! Tombstones: records, signed by the repository's admin key, that a snapshot was forgotten.
//!
//! The store keeps each tombstone in the log. Without the full key, neither the store itself nor the holder of a
//! client's network credential can make one: a snapshot that is missing without a tombstone is evidence. A tombstone
//! names the length of the log that its signer saw. It applies only to a snapshot that was committed, or brought back,
//! before that point, so a tombstone that `unforget` has undone cannot be replayed.

use minicbor::{Decode, Encode};

use crate::{
    base::{
        codec::Header,
        error::{Error, Result},
        id::{RepoId, SnapshotId},
    },
    crypto::{VerifyingKey, signed::Signed},
    format::keys::FullKey,
};

/// The record that is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Tombstone {
    /// The repository.
    #[n(0)]
    pub repo: RepoId,
    /// The forgotten snapshot.
    #[n(1)]
    pub snapshot: SnapshotId,
    /// The length of the log that the signer saw, in records.
    #[n(2)]
    pub log_len: u64,
    /// Whether the signer found that the snapshot cannot be read, or not all of it. A prune then keeps only what can be
    /// read of it, instead of keeping everything.
    #[n(3)]
    pub is_broken: bool,
}

impl Tombstone {
    /// Magic and version.
    pub const HEADER: Header = Header { what: "a tombstone", magic: *b"bkfstomb", version: 2 };
    /// The largest signed tombstone in bytes. About 200 are used.
    pub const SIZE_MAX: usize = 1024;

    /// Signs the tombstone.
    pub fn sign(&self, full: &FullKey) -> Vec<u8> {
        Signed::new(&Self::HEADER.magic, Self::HEADER.encode(self), &full.admin).encode()
    }

    /// Returns whether a tombstone states that its snapshot is broken. Nothing but the encoding is verified: for
    /// records of a log whose writer has verified it.
    pub fn says_broken(bytes: &[u8]) -> bool {
        let decoded = Signed::decode(Self::HEADER.what, bytes).and_then(|signed| Self::HEADER.decode(&signed.payload));
        decoded.is_ok_and(|tombstone: Self| tombstone.is_broken)
    }

    /// Decodes a tombstone and checks that the repository's admin key signed it.
    pub fn verify(bytes: &[u8], admin: &VerifyingKey, repo: RepoId) -> Result<Self> {
        let what = Self::HEADER.what;
        if bytes.len() > Self::SIZE_MAX {
            return Err(Error::TooLarge { what, size: bytes.len() as u64, limit: Self::SIZE_MAX as u64 });
        }
        let signed = Signed::decode(what, bytes)?;
        let tombstone: Self = Self::HEADER.decode(signed.verify(what, &Self::HEADER.magic, admin)?)?;
        match tombstone.repo == repo {
            true => Ok(tombstone),
            false => Err(Error::damaged(what, "it belongs to another repository")),
        }
    }

    /// Whether it applies to a snapshot whose commit, or last return from the trash, is record `changed_seq` of the
    /// log.
    pub fn applies_to(&self, snapshot: SnapshotId, changed_seq: u64) -> bool {
        self.snapshot == snapshot && self.log_len > changed_seq
    }
}
