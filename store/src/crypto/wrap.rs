//! Wraps: data keys, sealed to the repository's public key with HPKE (RFC 9180) in base mode: the X-Wing hybrid of
//! X25519 and ML-KEM-768, HKDF-SHA256 and ChaCha20-Poly1305.

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
}

/// The public seal key. Its holders can write what only the holder of [`SealSecret`] can read.
#[derive(Clone)]
pub struct SealPublic(<XWing as Kem>::PublicKey);

impl SealPublic {
    /// Reads the 1216 bytes of a public key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        <XWing as Kem>::PublicKey::from_bytes(bytes).map(Self).map_err(|e| Error::damaged("the public seal key", e))
    }

    /// Returns the key's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes().to_vec()
    }

    /// Seals a data key.
    pub fn wrap(&self, repo: RepoId, key: &DataKey) -> Wrap {
        let aad = aad(repo, key.id());
        let (encapsulated, sealed) = single_shot_seal::<ChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeS::Base,
            &self.0,
            INFO,
            &key.secret().0,
            &aad,
        )
        .expect("sealing 32 bytes to a valid key");
        Wrap { key: key.id(), encapsulated: encapsulated.to_bytes().to_vec(), sealed }
    }
}

/// The private seal key, kept as the seed that both keys of the pair are derived from.
#[derive(Clone, Debug)]
pub struct SealSecret(Secret);

impl SealSecret {
    /// Returns a new random key.
    pub fn random() -> Self {
        Self(Secret::random())
    }

    /// Returns the key of a seed.
    pub fn from_seed(seed: Secret) -> Self {
        Self(seed)
    }

    /// Returns the seed, to be stored encrypted.
    pub fn seed(&self) -> &Secret {
        &self.0
    }

    /// Returns the public part.
    pub fn public(&self) -> SealPublic {
        SealPublic(XWing::derive_keypair(&self.0.0).1)
    }

    /// Opens a wrap and checks that it holds the data key that it names.
    pub fn unwrap(&self, repo: RepoId, wrap: &Wrap) -> Result<DataKey> {
        let damaged =
            |reason: &dyn ToString| Error::damaged(format!("the wrap of data key {}", wrap.key), reason.to_string());
        let (secret, _) = XWing::derive_keypair(&self.0.0);
        let encapsulated = <XWing as Kem>::EncappedKey::from_bytes(&wrap.encapsulated).map_err(|e| damaged(&e))?;
        let opened = single_shot_open::<ChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeR::Base,
            &secret,
            &encapsulated,
            INFO,
            &wrap.sealed,
            &aad(repo, wrap.key),
        )
        .map_err(|e| damaged(&e))?;
        let opened = Zeroizing::new(opened);
        let bytes: [u8; 32] = opened.as_slice().try_into().map_err(|_| damaged(&"it does not hold a key"))?;
        let key = DataKey::new(Secret(bytes));
        if key.id() == wrap.key { Ok(key) } else { Err(damaged(&"it holds another key")) }
    }
}

fn aad(repo: RepoId, key: KeyId) -> Vec<u8> {
    [&repo.0[..], &key.0[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_open_only_with_the_secret() {
        let secret = SealSecret::random();
        let public = SealPublic::from_bytes(&secret.public().to_bytes()).unwrap();
        let (repo, key) = (RepoId([1; 16]), DataKey::random());
        let wrap = public.wrap(repo, &key);
        assert_eq!(secret.unwrap(repo, &wrap).unwrap().id(), key.id());
        assert!(secret.unwrap(RepoId([2; 16]), &wrap).is_err());
        assert!(SealSecret::random().unwrap(repo, &wrap).is_err());
        let mut other = wrap.clone();
        other.key = DataKey::random().id();
        assert!(secret.unwrap(repo, &other).is_err());
        for i in [0, 500, wrap.encapsulated.len() - 1] {
            let mut bad = wrap.clone();
            bad.encapsulated[i] ^= 1;
            assert!(secret.unwrap(repo, &bad).is_err());
        }
    }
}
