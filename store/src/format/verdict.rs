//! Verdicts: what a key holder found when it opened packs, signed with the admin key.
//!
//! A store has no keys, so it cannot tell whether a frame holds the chunks that its pack's table names. A key holder
//! can. Its verdict *verifies* packs, all of whose frames hold what they should, so that every client may rely on
//! them; and it *refuses* frames that do not, so that nobody does. Both hold for ever, because a pack's id is the hash
//! of its bytes. So it does no harm if a verdict is delivered twice, or much later.

use minicbor::{Decode, Encode};

use super::loss::FrameBits;
use crate::{
    base::{
        codec::Header,
        error::{Error, Result},
        id::{PackId, RepoId},
    },
    crypto::{VerifyingKey, signed::Signed},
    format::keys::FullKey,
};

/// The record that is signed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Verdict {
    /// The repository.
    #[n(0)]
    pub repo: RepoId,
    /// Packs whose frames all hold the chunks that their tables name.
    #[n(1)]
    pub verified: Vec<PackId>,
    /// Frames that do not.
    #[n(2)]
    pub refused: Vec<Refused>,
}

/// The frames of one pack that do not hold the chunks that its table names.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Refused {
    /// The pack.
    #[n(0)]
    pub pack: PackId,
    /// The frames; at least one.
    #[n(1)]
    pub frames: FrameBits,
}

impl Verdict {
    /// Magic and version.
    pub const HEADER: Header = Header { what: "a verdict", magic: *b"bkfsverd", version: 1 };
    /// How many packs a verdict names at most, of each kind.
    pub const PACKS_MAX: usize = 4096;
    /// The largest signed verdict in bytes.
    pub const SIZE_MAX: usize = 1024 * 1024;
    /// How many bytes of [`Refused::frames`] a verdict has room for.
    pub const FRAMES_BYTES_MAX: usize = Self::SIZE_MAX / 2;

    /// Signs the verdict.
    pub fn sign(&self, full: &FullKey) -> Vec<u8> {
        Signed::new(&Self::HEADER.magic, Self::HEADER.encode(self), &full.admin).encode()
    }

    /// Whether a verdict refuses anything, or cannot be decoded. Its signature is not verified.
    pub fn refuses(bytes: &[u8]) -> bool {
        let refuses = || {
            let signed = Signed::decode(Self::HEADER.what, bytes).ok()?;
            Some(!Self::HEADER.decode::<Self>(&signed.payload).ok()?.refused.is_empty())
        };
        refuses().unwrap_or(true)
    }

    /// Decodes a verdict. Checks its bounds, and that the repository's admin key signed it.
    pub fn verify(bytes: &[u8], admin: &VerifyingKey, repo: RepoId) -> Result<Self> {
        let what = Self::HEADER.what;
        if bytes.len() > Self::SIZE_MAX {
            return Err(Error::TooLarge { what, size: bytes.len() as u64, limit: Self::SIZE_MAX as u64 });
        }
        let signed = Signed::decode(what, bytes)?;
        let verdict: Self = Self::HEADER.decode(signed.verify(what, &Self::HEADER.magic, admin)?)?;
        let damaged = |reason: &str| Err(Error::damaged(what, reason));
        if verdict.repo != repo {
            return damaged("it belongs to another repository");
        }
        if verdict.verified.len() > Self::PACKS_MAX || verdict.refused.len() > Self::PACKS_MAX {
            return damaged("it names too many packs");
        }
        match verdict.refused.iter().any(|refused| refused.frames.is_empty()) {
            true => damaged("it refuses a pack and none of its frames"),
            false => Ok(verdict),
        }
    }
}
