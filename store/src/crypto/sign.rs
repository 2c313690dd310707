//! Ed25519 signatures. Each one is bound to a context, so that it is never valid for a record of another kind.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use super::secret::Secret;
use crate::base::id::ClientId;

/// Length of a signature in bytes.
pub const SIGNATURE_LEN: usize = 64;

/// A signing key, made from a seed of 32 bytes.
pub struct SigningKey {
    seed: Secret,
    pair: Ed25519KeyPair,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({})", self.verifying_key().client_id())
    }
}

impl Clone for SigningKey {
    fn clone(&self) -> Self {
        Self::from_seed(self.seed.clone())
    }
}

impl SigningKey {
    /// Returns a new random key.
    pub fn random() -> Self {
        Self::from_seed(Secret::random())
    }

    /// Returns the key of a seed.
    pub fn from_seed(seed: Secret) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.bytes()).expect("any 32 bytes are a seed");
        Self { seed, pair }
    }

    /// Returns the seed, to be stored encrypted.
    pub fn seed(&self) -> &Secret {
        &self.seed
    }

    /// Returns the public part.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(self.pair.public_key().as_ref().try_into().expect("32 bytes"))
    }

    /// Signs a context and a message.
    pub fn sign(&self, context: &[u8; 8], message: &[u8]) -> [u8; SIGNATURE_LEN] {
        let signature = self.pair.sign(&signed_bytes(context, blake3::hash(message).as_bytes()));
        signature.as_ref().try_into().expect("64 bytes")
    }
}

/// A key that verifies signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyingKey(pub [u8; 32]);

impl VerifyingKey {
    /// Reads a key of 32 bytes; returns `None` for another length.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Returns the id of the client that signs with this key.
    pub fn client_id(&self) -> ClientId {
        let hash = blake3::derive_key("bkfs v1 client id", &self.0);
        ClientId::from_slice(&hash[..16]).expect("16 bytes")
    }

    /// Whether this key signed the context and the message.
    pub fn verify(&self, context: &[u8; 8], message: &[u8], signature: &[u8]) -> bool {
        self.verify_hash(context, blake3::hash(message).as_bytes(), signature)
    }

    /// Whether this key signed the context and the message that has this BLAKE3.
    pub fn verify_hash(&self, context: &[u8; 8], hash: &[u8; 32], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(&signed_bytes(context, hash), signature).is_ok()
    }
}

/// Returns the signed bytes: the context and the hash of the message. Hashing avoids a copy of large messages, and a
/// part of a message can be proved by the hash alone.
fn signed_bytes(context: &[u8; 8], hash: &[u8; 32]) -> [u8; 40] {
    let mut bytes = [0; 40];
    bytes[..8].copy_from_slice(context);
    bytes[8..].copy_from_slice(hash);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_is_valid_only_for_its_message_context_and_key() {
        let key = SigningKey::from_seed(Secret::new([9; 32]));
        let signature = key.sign(b"contextA", b"hello");
        let public = key.verifying_key();
        assert!(public.verify(b"contextA", b"hello", &signature));
        assert!(!public.verify(b"contextB", b"hello", &signature));
        assert!(!public.verify(b"contextA", b"hellO", &signature));
        assert!(!public.verify(b"contextA", b"hello", &signature[1..]));
        assert!(!SigningKey::random().verifying_key().verify(b"contextA", b"hello", &signature));
    }
}
