//! Packs: files of sealed frames with a table of contents; the unit of upload and of storage.
//!
//! A pack's id is BLAKE3 of all its bytes before the footer, so anyone can verify a pack without keys. The uploader's
//! signature covers the table, and the table holds a hash of everything before it. All numbers are little-endian:
//!
//! ```text
//! header, 16 bytes   magic "bkfspack" | version u16 = 1 | kind u8 | 5 zero bytes
//! frames             sealed frames back to back; a frame begins with the 32-byte id of its data key
//! table              kind u8 | origin u8 | wraps u16 | frames u32 | repository 16 | client 16
//!                    wraps:  each length u16 and the wrap's CBOR
//!                    frames: each length u32 | chunks u16 | 0 u16
//!                    ids:    32 bytes a chunk, frame after frame
//!                    BLAKE3 of header and frames, 32 | Ed25519 signature over the table so far, 64
//! footer, 64 bytes   table's offset u64 | table's length u32 | version u16 | 10 zero bytes | pack id 32 | "bkfspend"
//! ```
//!
//! The *origin* is 0 for a pack that the client made, 1 for one into which the store has copied a client's frames. The store has no client's
//! key: in the signature's place stand the BLAKE3 of the table so far and 32 zero bytes, so that damage to a table that is read by itself does not
//! pass for what was written; or 64 zero bytes, as the first of them were made, and then only the whole pack can be verified. Such a pack is only
//! ever taken from the store's own disk.
//!
//! A reader takes the footer first, then the table, then frames. The parser trusts nothing, verifies structure and
//! bounds, and leaves one thing to its caller: whether the client is on the roster ([`PackTable::verify`]). What the
//! frames hold is sealed; that they hold what their ids say is known only after opening them.

mod parse;
mod write;

#[cfg(test)]
mod tests;

pub use parse::{FOOTER_READ, Footer, Pack};
pub use write::PackWriter;

use bytes::Bytes;

use crate::{
    base::{
        error::{Error, Result},
        id::{ChunkId, ClientId, KeyId, PackId, RepoId},
    },
    crypto::{NONCE_LEN, TAG_LEN, VerifyingKey, Wrap},
    format::{frame::ChunkKind, roster::Roster},
};

/// A writer ends a pack when it has grown to this many bytes.
pub const PACK_TARGET: usize = 16 * 1024 * 1024;
/// No pack is longer, in bytes.
pub const PACK_MAX: usize = 64 * 1024 * 1024;
/// No sealed frame is longer, in bytes.
pub const FRAME_MAX: usize = crate::format::frame::FRAME_MAX;
/// No sealed frame is shorter: key id, nonce and tag.
pub const FRAME_MIN: usize = KeyId::LEN + NONCE_LEN + TAG_LEN;
/// How many frames a pack has at most.
pub const FRAMES_MAX: usize = 65_536;
/// How many chunks one frame has at most.
pub const FRAME_CHUNKS_MAX: usize = crate::format::frame::CHUNKS_MAX;
/// How many chunks a pack has at most.
pub const CHUNKS_MAX: usize = 262_144;
/// How many data keys a pack's frames use at most.
pub const WRAPS_MAX: usize = 64;
/// The longest encoded wrap, in bytes.
pub const WRAP_MAX: usize = 4096;
/// Length of the header in bytes.
pub const HEADER_LEN: usize = 16;
/// Length of the footer in bytes.
pub const FOOTER_LEN: usize = 64;

pub(crate) const MAGIC: [u8; 8] = *b"bkfspack";
pub(crate) const FOOTER_MAGIC: [u8; 8] = *b"bkfspend";
pub(crate) const VERSION: u16 = 1;
/// The table's fixed parts: before the wraps, and after the ids.
const TABLE_HEAD: usize = 8 + RepoId::LEN + ClientId::LEN;
const TABLE_TAIL: usize = 32 + crate::crypto::SIGNATURE_LEN;
/// What a signature is bound to.
const CONTEXT: &[u8; 8] = b"bkfspack";

/// A finished pack on its way to the store.
#[derive(Debug, Clone)]
pub struct PackUpload {
    /// Its id.
    pub id: PackId,
    /// All its bytes, footer included.
    pub bytes: Bytes,
}

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
    signed: Signature,
}

/// What stands in the place of a signature that nobody can make.
fn checksum(table: &[u8]) -> [u8; crate::crypto::SIGNATURE_LEN] {
    let mut sum = [0; crate::crypto::SIGNATURE_LEN];
    sum[..32].copy_from_slice(blake3::hash(table).as_bytes());
    sum
}

/// The part of a table that proves who made it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Signature {
    message: Vec<u8>,
    signature: [u8; crate::crypto::SIGNATURE_LEN],
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
            true => Ok(client.trusted),
            false => Err(self.damaged("its signature does not fit")),
        }
    }

    /// Whether the table proves itself, by signature or checksum. If not, its pack must be read whole.
    pub fn proves_itself(&self) -> bool {
        !self.is_copied || self.signed.signature != [0; crate::crypto::SIGNATURE_LEN]
    }

    fn damaged(&self, reason: impl ToString) -> Error {
        Error::PackDamaged { pack: self.id, reason: reason.to_string() }
    }
}
