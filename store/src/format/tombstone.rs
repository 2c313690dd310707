//! Tombstones: the signed word of the repository's admin key that a snapshot was forgotten.
//!
//! The store keeps each in the log. A store of its own accord, or somebody who has a client's network credential and no full
//! key, cannot make one, so a snapshot that is missing without a tombstone is evidence. A tombstone names the length of the
//! log that its maker saw; it serves for snapshots that were committed, or brought back, before that. So one that was taken
//! back by `unforget` cannot be brought forward again.

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

/// What is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Tombstone {
    /// The repository.
    #[n(0)]
    pub repo: RepoId,
    /// The snapshot that is forgotten.
    #[n(1)]
    pub snapshot: SnapshotId,
    /// Length of the log that the signer saw, in records.
    #[n(2)]
    pub log_len: u64,
}

impl Tombstone {
    /// Magic and version.
    pub const HEADER: Header = Header { what: "a tombstone", magic: *b"bkfstomb", version: 1 };
    /// Largest tombstone in bytes, signed: some 200 are used.
    pub const SIZE_MAX: usize = 1024;

    /// Signs it.
    pub fn sign(&self, full: &FullKey) -> Vec<u8> {
        Signed::new(&Self::HEADER.magic, Self::HEADER.encode(self), &full.admin).encode()
    }

    /// Reads a tombstone, which the repository's admin key must have signed.
    pub fn verify(bytes: &[u8], admin: &VerifyingKey, repo: RepoId) -> Result<Self> {
        let what = Self::HEADER.what;
        if bytes.len() > Self::SIZE_MAX {
            return Err(Error::TooLarge { what, size: bytes.len() as u64, limit: Self::SIZE_MAX as u64 });
        }
        let signed = Signed::decode(what, bytes)?;
        let tombstone: Self = Self::HEADER.decode(signed.verify(what, &Self::HEADER.magic, admin)?)?;
        match tombstone.repo == repo {
            true => Ok(tombstone),
            false => Err(Error::damaged(what, "it is of another repository")),
        }
    }

    /// Whether it serves for a snapshot that was committed, or brought back last, at this place in the log.
    pub fn applies_to(&self, snapshot: SnapshotId, changed_seq: u64) -> bool {
        self.snapshot == snapshot && self.log_len > changed_seq
    }
}
