//! The key of one push's frames, and the name that commits to it.

use super::{aead::AeadKey, secret::Secret};
use crate::base::id::KeyId;

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
