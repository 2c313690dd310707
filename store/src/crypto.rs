//! The cryptographic building blocks: XChaCha20-Poly1305, Ed25519, HPKE with X-Wing, and keyed BLAKE3.
//!
//! This module knows no formats and no files; `format::keys` defines the purpose of each key. Secrets are wiped when
//! dropped.

mod aead;
mod data_key;
mod locked;
mod secret;
mod sign;
pub mod signed;
mod wrap;

pub use aead::{AeadKey, NONCE_LEN, TAG_LEN};
pub use data_key::DataKey;
pub use secret::{Secret, random};
pub use sign::{SIGNATURE_LEN, SigningKey, VerifyingKey};
pub use wrap::{SealNumber, SealPublic, SealSecret, Wrap};
