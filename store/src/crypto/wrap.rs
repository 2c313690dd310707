//! Wraps: data keys, sealed to the repository's public key with HPKE (RFC 9180) in base mode: the X-Wing hybrid of
//! X25519 and ML-KEM-768, HKDF-SHA256 and ChaCha20-Poly1305.

use std::fmt;

use hpke::{
    Deserializable, Kem, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305, kdf::HkdfSha256, kem::XWing,
    single_shot_open, single_shot_seal,
};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

use super::{data_key::DataKey, secret::Secret};
use crate::base::{
    error::{Error, Result},
    id::{KeyId, RepoId},
};

const INFO: &[u8] = b"bkfs v1 data key wrap";

/// The number of a repository's seal key: 1 for the first. Each rotation makes the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct SealNumber(#[n(0)] pub u32);

impl SealNumber {
    /// The number of the key that a repository begins with.
    pub const FIRST: Self = Self(1);

    /// Returns whether this is [`SealNumber::FIRST`].
    pub fn is_first(&self) -> bool {
        *self == Self::FIRST
    }
}

impl Default for SealNumber {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for SealNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A data key, sealed to a repository: about 1.2 kB.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Wrap {
    /// The data key inside.
    #[n(0)]
    pub key: KeyId,
    /// The encapsulated key of the KEM.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub encapsulated: Vec<u8>,
    /// The sealed 32 bytes.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub sealed: Vec<u8>,
    /// The seal key that it is sealed to. Left out if it is the first.
    #[cbor(n(3), skip_if = "SealNumber::is_first")]
    pub seal_key: SealNumber,
}

/// The public seal key. Its holders can write what only the holder of [`SealSecret`] can read.
#[derive(Clone)]
pub struct SealPublic {
    key: <XWing as Kem>::PublicKey,
    number: SealNumber,
}

impl SealPublic {
    /// Reads the 1216 bytes of the public key with a number.
    pub fn from_bytes(bytes: &[u8], number: SealNumber) -> Result<Self> {
        let key = <XWing as Kem>::PublicKey::from_bytes(bytes);
        key.map(|key| Self { key, number }).map_err(|e| Error::damaged("the public seal key", e))
    }

    /// Returns the key's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.key.to_bytes().to_vec()
    }

    /// Returns the key's number.
    pub fn number(&self) -> SealNumber {
        self.number
    }

    /// Seals a data key.
    pub fn wrap(&self, repo: RepoId, key: &DataKey) -> Wrap {
        let aad = aad(repo, key.id(), self.number);
        let (encapsulated, sealed) = single_shot_seal::<ChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeS::Base,
            &self.key,
            INFO,
            key.secret().bytes(),
            &aad,
        )
        .expect("sealing 32 bytes to a valid key");
        Wrap { key: key.id(), encapsulated: encapsulated.to_bytes().to_vec(), sealed, seal_key: self.number }
    }
}

/// The private seal key, kept as the seed that both keys of the pair are derived from.
#[derive(Clone, Debug)]
pub struct SealSecret {
    seed: Secret,
    number: SealNumber,
}

impl SealSecret {
    /// Returns a new random key with a number.
    pub fn random(number: SealNumber) -> Self {
        Self { seed: Secret::random(), number }
    }

    /// Returns the key of a seed, with a number.
    pub fn from_seed(seed: Secret, number: SealNumber) -> Self {
        Self { seed, number }
    }

    /// Returns the seed, to be stored encrypted.
    pub fn seed(&self) -> &Secret {
        &self.seed
    }

    /// Returns the key's number.
    pub fn number(&self) -> SealNumber {
        self.number
    }

    /// Returns the public part.
    pub fn public(&self) -> SealPublic {
        SealPublic { key: XWing::derive_keypair(self.seed.bytes()).1, number: self.number }
    }

    /// Opens a wrap that is sealed to this key and checks that it holds the data key that it names.
    pub fn unwrap(&self, repo: RepoId, wrap: &Wrap) -> Result<DataKey> {
        let damaged =
            |reason: &dyn ToString| Error::damaged(format!("the wrap of data key {}", wrap.key), reason.to_string());
        let (secret, _) = XWing::derive_keypair(self.seed.bytes());
        let encapsulated = <XWing as Kem>::EncappedKey::from_bytes(&wrap.encapsulated).map_err(|e| damaged(&e))?;
        let opened = single_shot_open::<ChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeR::Base,
            &secret,
            &encapsulated,
            INFO,
            &wrap.sealed,
            &aad(repo, wrap.key, wrap.seal_key),
        )
        .map_err(|e| damaged(&e))?;
        let opened = Zeroizing::new(opened);
        let bytes: [u8; 32] = opened.as_slice().try_into().map_err(|_| damaged(&"it does not hold a key"))?;
        let key = DataKey::new(Secret::new(bytes));
        if key.id() == wrap.key { Ok(key) } else { Err(damaged(&"it holds another key")) }
    }
}

/// Returns what a wrap is bound to. The number of the first seal key stays out.
fn aad(repo: RepoId, key: KeyId, number: SealNumber) -> Vec<u8> {
    let mut aad = [&repo.0[..], &key.0[..]].concat();
    if !number.is_first() {
        aad.extend_from_slice(&number.0.to_le_bytes());
    }
    aad
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::codec;

    #[test]
    fn wraps_open_only_with_the_secret() {
        let secret = SealSecret::random(SealNumber::FIRST);
        let public = SealPublic::from_bytes(&secret.public().to_bytes(), SealNumber::FIRST).unwrap();
        let (repo, key) = (RepoId([1; 16]), DataKey::random());
        let wrap = public.wrap(repo, &key);
        assert_eq!(secret.unwrap(repo, &wrap).unwrap().id(), key.id());
        assert!(secret.unwrap(RepoId([2; 16]), &wrap).is_err());
        assert!(SealSecret::random(SealNumber::FIRST).unwrap(repo, &wrap).is_err());
        let mut other = wrap.clone();
        other.key = DataKey::random().id();
        assert!(secret.unwrap(repo, &other).is_err());
        for i in [0, 500, wrap.encapsulated.len() - 1] {
            let mut bad = wrap.clone();
            bad.encapsulated[i] ^= 1;
            assert!(secret.unwrap(repo, &bad).is_err());
        }
    }

    #[test]
    fn a_wrap_names_its_seal_key_unless_it_is_the_first() {
        let (repo, key) = (RepoId([1; 16]), DataKey::random());
        for (number, items) in [(SealNumber::FIRST, 3), (SealNumber(2), 4), (SealNumber(64), 4)] {
            let secret = SealSecret::random(number);
            let wrap = secret.public().wrap(repo, &key);
            let bytes = codec::encode(&wrap);
            assert_eq!(bytes[0], 0x80 + items, "an array of so many items");
            let read: Wrap = codec::decode("a wrap", &bytes).unwrap();
            assert_eq!((&read, read.seal_key), (&wrap, number));
            assert_eq!(secret.unwrap(repo, &read).unwrap().id(), key.id());
            // The number is bound to what is sealed.
            assert!(secret.unwrap(repo, &Wrap { seal_key: SealNumber(number.0 + 1), ..wrap }).is_err());
        }
    }
}
