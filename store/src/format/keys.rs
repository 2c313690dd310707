//! The keys of a repository: which key does what, and the two credentials that hold them.
//!
//! A [`PushKey`] lies on every client without a passphrase and can only write: it knows the id key (chunk ids, where the
//! chunker cuts), the *public* seal key and its own signing key. A [`FullKey`] also holds the private seal key and the
//! admin signing key: it reads, enrols clients and signs rosters. A full key is kept in passphrase slots ([`slot`]), in
//! key files ([`KeyFile`]) and on paper ([`FullKey::recovery_words`]).
//!
//! This module does no I/O and reads no clock. All that it encodes is wiped when dropped.

mod armour;
mod file;
mod full;
mod ids;
mod push;
mod recovery;
pub mod slot;

pub use file::KeyFile;
pub use full::FullKey;
pub use ids::IdKeys;
pub use push::PushKey;
pub use slot::Slot;

/// Longest label of a client, in bytes.
pub const LABEL_MAX: usize = 255;
/// Longest address in a key file, in bytes.
pub const URL_MAX: usize = 2048;

/// Takes 32 secret bytes out of a decoded record.
fn secret_of(what: &str, bytes: &[u8]) -> crate::Result<crate::crypto::Secret> {
    let bytes = bytes.try_into().map_err(|_| crate::Error::damaged(what, "a key has a wrong length"))?;
    Ok(crate::crypto::Secret(bytes))
}

/// Shortens a label to [`LABEL_MAX`] bytes at a character's boundary.
fn bounded_label(label: &str) -> &str {
    let end = (0..=label.len().min(LABEL_MAX)).rev().find(|at| label.is_char_boundary(*at));
    &label[..end.unwrap_or(0)]
}
