//! A pack's table of contents, and what proves who made it.

use super::layout::CONTEXT;
use crate::{
    base::{
        error::{Error, Result},
        id::{ChunkId, ClientId, PackId, RepoId},
    },
    crypto::{SIGNATURE_LEN, VerifyingKey, Wrap},
    format::{frame::ChunkKind, roster::Roster},
};

/// Where a frame lies in its pack, and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameEntry {
    /// Its first byte in the pack.
    pub offset: u32,
    /// Its length in bytes.
    pub len: u32,
    /// Its chunks, in order; at least one.
    pub ids: Vec<ChunkId>,
}

/// A pack's table of contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackTable {
    /// The pack.
    pub id: PackId,
    /// What the chunks are.
    pub kind: ChunkKind,
    /// The repository.
    pub repo: RepoId,
    /// Who made the pack.
    pub client: ClientId,
    /// The data keys that the frames use.
    pub wraps: Vec<Wrap>,
    /// The frames, in order.
    pub frames: Vec<FrameEntry>,
    /// Whether the store made it, of frames that the client had made.
    pub is_copied: bool,
    /// What was signed, and the signature.
    pub(super) signed: Signature,
}

/// The part of a table that proves who made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature {
    pub message: Vec<u8>,
    pub signature: [u8; SIGNATURE_LEN],
}

impl PackTable {
    /// How many chunks the pack holds.
    pub fn chunks(&self) -> usize {
        self.frames.iter().map(|f| f.ids.len()).sum()
    }

    /// Checks that a client of the roster made the pack, for this repository. Returns whether it is a trusted one. For a pack
    /// that the store made of a client's frames there is only the store's word for it; the frames prove themselves.
    pub fn verify(&self, roster: &Roster) -> Result<bool> {
        if self.repo != roster.repo {
            return Err(self.damaged(format!("it belongs to repository {}", self.repo)));
        }
        let client = roster
            .client(self.client)
            .ok_or_else(|| Error::NotOnRoster { what: format!("pack {}", self.id), client: self.client })?;
        let public = VerifyingKey::from_slice(&client.public)
            .filter(|key| key.client_id() == self.client)
            .ok_or_else(|| Error::damaged("the roster", format!("client {} has no usable key", self.client)))?;
        match self.is_copied || public.verify(CONTEXT, &self.signed.message, &self.signed.signature) {
            true => Ok(client.is_trusted),
            false => Err(self.damaged("its signature does not fit")),
        }
    }

    /// Whether the table proves itself, by signature or checksum. If not, its pack must be read whole.
    pub fn proves_itself(&self) -> bool {
        !self.is_copied || self.signed.signature != [0; SIGNATURE_LEN]
    }

    pub(super) fn damaged(&self, reason: impl ToString) -> Error {
        Error::PackDamaged { pack: self.id, reason: reason.to_string() }
    }
}

/// What stands in the place of a signature that nobody can make.
pub(super) fn checksum(table: &[u8]) -> [u8; SIGNATURE_LEN] {
    let mut sum = [0; SIGNATURE_LEN];
    sum[..32].copy_from_slice(blake3::hash(table).as_bytes());
    sum
}
