//! The key of the frames of one push, and the id that commits to it.

use super::{aead::AeadKey, secret::Secret};
use crate::base::id::KeyId;

/// A data key: seals the frames of one push. Its id commits to it.
#[derive(Clone, Debug)]
pub struct DataKey {
    id: KeyId,
    secret: Secret,
    key: AeadKey,
}

impl DataKey {
    /// Returns a new random data key.
    pub fn random() -> Self {
        Self::new(Secret::random())
    }

    /// Returns the data key with these bytes.
    pub fn new(secret: Secret) -> Self {
        let id = KeyId(blake3::derive_key("bkfs v1 data key id", secret.bytes()));
        let key = AeadKey::new(&secret);
        Self { id, secret, key }
    }

    /// Returns its id.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Returns the cipher that seals and opens with this key.
    pub fn aead(&self) -> &AeadKey {
        &self.key
    }

    /// Returns the bytes, for wrapping.
    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }
}
