//! The cryptographic building blocks: XChaCha20-Poly1305, Ed25519, HPKE with X-Wing, and keyed BLAKE3.
//!
//! This module knows no formats and no files; [`crate::format::keys`] says which key does what. Secrets are wiped when dropped.

mod aead;
mod sign;
pub mod signed;
mod wrap;

pub use aead::{AeadKey, NONCE_LEN, TAG_LEN};
pub use sign::{SIGNATURE_LEN, SigningKey, VerifyingKey};
pub use wrap::{SealPublic, SealSecret, Wrap};

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::base::id::KeyId;

/// Thirty-two secret bytes, wiped when dropped and never printed.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Secret(pub [u8; 32]);

impl Secret {
    /// A new random secret.
    pub fn random() -> Self {
        Self(random())
    }

    /// Derives another secret for the purpose that `context` names (BLAKE3 in its key derivation mode).
    pub fn derive(&self, context: &str) -> Secret {
        Secret(blake3::derive_key(context, &self.0))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A data key: the key of the frames of one push. Its id commits to it.
#[derive(Clone, Debug)]
pub struct DataKey {
    id: KeyId,
    secret: Secret,
    key: AeadKey,
}

impl DataKey {
    /// A fresh data key.
    pub fn random() -> Self {
        Self::new(Secret::random())
    }

    /// The data key with these bytes.
    pub fn new(secret: Secret) -> Self {
        let id = KeyId(blake3::derive_key("bkfs v1 data key id", &secret.0));
        let key = AeadKey::new(&secret);
        Self { id, secret, key }
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// For sealing and opening.
    pub fn aead(&self) -> &AeadKey {
        &self.key
    }

    /// The bytes, to be wrapped.
    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }
}

/// Random bytes from the operating system.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // The kernel's generator does not fail once it has started; without it nothing here may go on.
    getrandom::fill(&mut bytes).expect("the operating system's random generator");
    bytes
}
