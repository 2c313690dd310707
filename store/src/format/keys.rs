//! The keys of a repository: the purpose of each key, and the two credentials that hold them.
//!
//! A [`PushKey`] is stored on every client, without a passphrase, and can only write. It holds the id key (which
//! determines chunk ids and the chunker's cuts), the *public* seal key and the client's own signing key. A [`FullKey`]
//! also holds the private seal key and the admin signing key: it reads, enrols clients and signs rosters. A full key is
//! kept in passphrase slots ([`slot`]), in key files ([`KeyFile`]) and on paper ([`FullKey::recovery_text`],
//! [`FullKey::recovery_shares`]). The seal key can be replaced ([`SealKeys`]); the others cannot.
//!
//! This module does no I/O and reads no clock. Every encoded key is wiped when dropped.

mod armour;
mod fields;
mod file;
mod full;
mod ids;
mod paper;
mod push;
mod recovery;
mod seal_keys;
mod shares;
pub mod slot;
mod slot_info;
mod suggest;
mod typed;

pub use fields::{LABEL_MAX, URL_MAX};
pub use file::KeyFile;
pub use full::{FullKey, OWNER_DOMAIN};
pub use ids::IdKeys;
pub use push::PushKey;
pub use seal_keys::{Rotated, SealKeys};
pub use slot::{SLOTS_MAX, Slot};
pub use slot_info::SlotInfo;
