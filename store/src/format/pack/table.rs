//! A pack's table of contents, and the proof of who made it.

use super::layout::CONTEXT;
use crate::{
    base::{
        error::{Error, Result},
        id::{ChunkId, ClientId, PackId, RepoId},
    },
    crypto::{SIGNATURE_LEN, VerifyingKey, Wrap},
    format::{
        frame::ChunkKind,
        roster::{Roster, RosterClient},
    },
};

/// The position of a frame in its pack, and the chunks that it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameEntry {
    /// The offset of its first byte in the pack.
    pub offset: u32,
    /// Its length in bytes.
    pub len: u32,
    /// The ids of its chunks, in order; at least one.
    pub ids: Vec<ChunkId>,
}

/// A pack's table of contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackTable {
    /// The pack.
    pub id: PackId,
    /// The kind of its chunks.
    pub kind: ChunkKind,
    /// The repository.
    pub repo: RepoId,
    /// The client that made the pack, or whose frames the store copied.
    pub client: ClientId,
    /// The data keys that the frames use.
    pub wraps: Vec<Wrap>,
    /// The frames, in order.
    pub frames: Vec<FrameEntry>,
    /// Whether the store made the pack, from frames that the client had made.
    pub is_copied: bool,
    /// The signed bytes, and the signature.
    pub(super) signed: Signature,
}

/// The part of a table that proves who made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature {
    pub message: Vec<u8>,
    pub signature: [u8; SIGNATURE_LEN],
}

impl PackTable {
    /// Returns how many chunks the pack holds.
    pub fn chunks(&self) -> usize {
        self.frames.iter().map(|f| f.ids.len()).sum()
    }

    /// Checks that a client on the roster made the pack for this repository. For a pack that the store made from a
    /// client's frames, only the store attests this; the frames prove themselves.
    pub fn verify(&self, roster: &Roster) -> Result<()> {
        if self.repo != roster.repo {
            return Err(self.damaged(format!("it belongs to repository {}", self.repo)));
        }
        let client = roster
            .client(self.client)
            .ok_or_else(|| Error::NotOnRoster { what: format!("pack {}", self.id), client: self.client })?;
        let public = public_key(client)?;
        match self.is_copied || public.verify(CONTEXT, &self.signed.message, &self.signed.signature) {
            true => Ok(()),
            false => Err(self.damaged("its signature is not valid")),
        }
    }

    /// Whether the table proves itself, by a signature or a checksum. If not, the whole pack must be read to verify it.
    pub fn proves_itself(&self) -> bool {
        !self.is_copied || self.signed.signature != [0; SIGNATURE_LEN]
    }

    pub(super) fn damaged(&self, reason: impl ToString) -> Error {
        Error::PackDamaged { pack: self.id, reason: reason.to_string() }
    }
}

/// Returns the key that a client on the roster signs with.
pub(super) fn public_key(client: &RosterClient) -> Result<VerifyingKey> {
    VerifyingKey::from_slice(&client.public)
        .filter(|key| key.client_id() == client.id)
        .ok_or_else(|| Error::damaged("the roster", format!("client {} has no usable key", client.id)))
}

/// Returns the checksum that replaces the signature in a pack that the store made.
pub(super) fn checksum(table: &[u8]) -> [u8; SIGNATURE_LEN] {
    let mut sum = [0; SIGNATURE_LEN];
    sum[..32].copy_from_slice(blake3::hash(table).as_bytes());
    sum
}
