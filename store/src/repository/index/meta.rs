//! The keys of single values in the index.

/// The format of the tables.
pub const FORMAT: &[u8] = b"format";
/// A random name of this life of the index: in the next life packs have other numbers.
pub const LIFE: &[u8] = b"life";
/// The hash that names the repository to which the index belongs.
pub const OWNER: &[u8] = b"owner";
/// How far the log has been read.
pub const LOG_POSITION: &[u8] = b"log";
/// The newest incarnation.
pub const INCARNATION: &[u8] = b"incarnation";
/// The newest roster, signed.
pub const ROSTER: &[u8] = b"roster";
/// The newest list of seal keys, signed.
pub const SEAL_KEYS: &[u8] = b"seal keys";
/// The newest generation.
pub const GENERATION: &[u8] = b"generation";
/// How many packs are verified, and how many have refused frames.
pub const JUDGED: &[u8] = b"judged";
/// The number of the next pack.
pub const NEXT_NUMBER: &[u8] = b"next";
/// How many bytes all packs have. Scrubs ask for it.
pub const PACK_BYTES: &[u8] = b"bytes";
/// Folders whose packs were found and may not be durable.
pub const UNSETTLED: &[u8] = b"unsettled";
