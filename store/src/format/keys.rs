//! The keys of a repository: the purpose of each key, and the two credentials that hold them.
//!
//! A [`PushKey`] is stored on every client, without a passphrase, and can only write. It holds the id key (which
//! determines chunk ids and the chunker's cuts), the *public* seal key and the client's own signing key. A [`FullKey`]
//! also holds the private seal key and the admin signing key: it reads, enrols clients and signs rosters. A full key is
//! kept in passphrase slots ([`slot`]), in key files ([`KeyFile`]) and on paper ([`FullKey::recovery_text`]).
//!
//! This module does no I/O and reads no clock. Every encoded key is wiped when dropped.

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
