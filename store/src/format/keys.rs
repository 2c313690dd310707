//! The keys of a repository: which key does what, and the two credentials that hold them.
//!
//! A [`PushKey`] lies on every client without a passphrase and can only write: it knows the id key (chunk ids, where the
//! chunker cuts), the *public* seal key and its own signing key. A [`FullKey`] also holds the private seal key and the
//! admin signing key: it reads, enrols clients and signs rosters. A full key is kept in passphrase slots ([`slot`]), in
//! key files ([`KeyFile`]) and on paper ([`FullKey::recovery_text`]).
//!
//! This module does no I/O and reads no clock. All that it encodes is wiped when dropped.

mod armour;
mod fields;
mod file;
mod full;
mod ids;
mod push;
mod recovery;
pub mod slot;

pub use fields::{LABEL_MAX, URL_MAX};
pub use file::KeyFile;
pub use full::FullKey;
pub use ids::IdKeys;
pub use push::PushKey;
pub use slot::Slot;
