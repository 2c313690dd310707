//! The configuration of a repository: written once at `init`, signed by the admin key, in the clear.
//!
//! It contains what a client must know before it has any secret. A push key names the admin key that the configuration
//! must contain, so a server cannot substitute a seal key of its own.

use minicbor::{Decode, Encode};

use crate::{
    base::{
        codec::Header,
        error::{Error, Result},
        id::RepoId,
        time::Time,
    },
    crypto::{SealNumber, SealPublic, VerifyingKey, signed::Signed},
};

/// The parameters of the chunker. They belong to the repository: a change ends deduplication with the stored chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ChunkerParams {
    /// The shortest chunk in bytes. Only the last chunk of a file may be shorter.
    #[n(0)]
    pub min: u32,
    /// The average distance between the candidates of the first step, in bytes. A power of two.
    #[n(1)]
    pub candidates: u32,
    /// The second step accepts one in `accept` candidates.
    #[n(2)]
    pub accept: u32,
    /// The longest chunk in bytes.
    #[n(3)]
    pub max: u32,
}

impl ChunkerParams {
    /// The largest `max` that a repository may set, in bytes. It bounds what readers must hold in memory.
    pub const MAX_MAX: u32 = 4 * 1024 * 1024;
}

impl Default for ChunkerParams {
    /// The mean is about 80 KiB: measured on a changed disk image, see section 14 of the design.
    fn default() -> Self {
        Self { min: 16 * 1024, candidates: 8 * 1024, accept: 6, max: 256 * 1024 }
    }
}

/// The configuration. Stored as a [`crate::crypto::signed::Signed`] whose payload is this record behind
/// [`Config::HEADER`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Config {
    /// The repository.
    #[n(0)]
    pub repo: RepoId,
    /// When it was created.
    #[n(1)]
    pub created: Time,
    /// The parameters of the chunker.
    #[n(2)]
    pub chunker: ChunkerParams,
    /// The first public seal key (X-Wing, 1216 bytes). [`super::keys::SealKeys`] names the newest.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub seal_public: Vec<u8>,
    /// The public part of the admin signing key (Ed25519).
    #[cbor(n(4), with = "minicbor::bytes")]
    pub admin_public: Vec<u8>,
}

impl Config {
    /// Magic and version.
    pub const HEADER: Header = Header { what: "the repository's configuration", magic: *b"bkfsconf", version: 1 };
}

/// The largest configuration in bytes.
pub const CONFIG_MAX: usize = 16 * 1024;

/// Decodes a configuration. Checks its size, its public keys, and that it is signed by the admin key that it names
/// itself. Whether these are the right keys, only a key holder can tell (`PushKey::check_config`).
pub fn verify_config(bytes: &[u8]) -> Result<Config> {
    let what = Config::HEADER.what;
    if bytes.len() > CONFIG_MAX {
        return Err(Error::TooLarge { what, size: bytes.len() as u64, limit: CONFIG_MAX as u64 });
    }
    let signed = Signed::decode(what, bytes)?;
    let config: Config = Config::HEADER.decode(&signed.payload)?;
    let admin = VerifyingKey::from_slice(&config.admin_public)
        .ok_or_else(|| Error::damaged(what, "the admin's public key has the wrong length"))?;
    signed.verify(what, &Config::HEADER.magic, &admin)?;
    SealPublic::from_bytes(&config.seal_public, SealNumber::FIRST)?;
    Ok(config)
}
