//! The configuration of a repository: written once at `init`, signed by the admin key, in the clear.
//!
//! It holds what a client must know before it has any secret. A push key file names the keys that the configuration
//! must show, so a server cannot slip in a seal key of its own.

use minicbor::{Decode, Encode};

use crate::{
    base::{
        codec::Header,
        error::{Error, Result},
        id::RepoId,
        time::Time,
    },
    crypto::{SealPublic, VerifyingKey, signed::Signed},
};

/// How the chunker cuts; a setting of the repository, because changing it ends deduplication with what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ChunkerParams {
    /// No chunk but a file's last is shorter, in bytes.
    #[n(0)]
    pub min: u32,
    /// Average distance of the first step's candidates, in bytes; a power of two.
    #[n(1)]
    pub candidates: u32,
    /// The second step accepts one candidate in so many.
    #[n(2)]
    pub accept: u32,
    /// No chunk is longer, in bytes.
    #[n(3)]
    pub max: u32,
}

impl ChunkerParams {
    /// No repository may set a larger `max`, in bytes: what is read is bounded by it.
    pub const MAX_MAX: u32 = 4 * 1024 * 1024;
}

impl Default for ChunkerParams {
    /// A mean of about 80 KiB: measured on a changed disk image, see the design's section 14.
    fn default() -> Self {
        Self { min: 16 * 1024, candidates: 8 * 1024, accept: 6, max: 256 * 1024 }
    }
}

/// The configuration. Stored as a [`crate::crypto::signed::Signed`] whose payload is this record behind [`Config::HEADER`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Config {
    /// The repository's name.
    #[n(0)]
    pub repo: RepoId,
    /// When it was made.
    #[n(1)]
    pub created: Time,
    /// How files are cut.
    #[n(2)]
    pub chunker: ChunkerParams,
    /// Public part of the seal key pair (X-Wing, 1216 bytes).
    #[cbor(n(3), with = "minicbor::bytes")]
    pub seal_public: Vec<u8>,
    /// Public part of the admin signing key (Ed25519).
    #[cbor(n(4), with = "minicbor::bytes")]
    pub admin_public: Vec<u8>,
}

impl Config {
    /// Magic and version.
    pub const HEADER: Header = Header { what: "the repository's configuration", magic: *b"bkfsconf", version: 1 };
}

/// Largest configuration in bytes.
pub const CONFIG_MAX: usize = 16 * 1024;

/// Reads a configuration: its size, its signature by the admin key that it names itself, and its public keys. That the
/// keys are the right ones only a key holder can tell ([`crate::format::keys::PushKey::check_config`]).
pub fn verify_config(bytes: &[u8]) -> Result<Config> {
    let what = Config::HEADER.what;
    if bytes.len() > CONFIG_MAX {
        return Err(Error::TooLarge { what, size: bytes.len() as u64, limit: CONFIG_MAX as u64 });
    }
    let signed = Signed::decode(what, bytes)?;
    let config: Config = Config::HEADER.decode(&signed.payload)?;
    let admin = VerifyingKey::from_slice(&config.admin_public)
        .ok_or_else(|| Error::damaged(what, "the admin's public key has a wrong length"))?;
    signed.verify(what, &Config::HEADER.magic, &admin)?;
    SealPublic::from_bytes(&config.seal_public)?;
    Ok(config)
}
