//! bkfs at rest: ids, formats, cryptography, packs, trees, snapshots, the index and the repository.
//!
//! This crate knows no network, no FUSE, no terminal, no home directory and no environment. Its rooms, from the bottom up:
//!
//! - [`base`]: the words that everything speaks: ids, errors, time, the encoding of records;
//! - [`crypto`]: AEAD, signatures, sealing to a public key, the signed envelope; knows no formats;
//! - [`format`]: bytes at rest, as pure functions over bytes;
//! - [`access`]: the seam: the traits through which a store is used, and what passes through them; ciphertext only;
//! - [`repository`]: below the seam: a repository's store; no key ever comes here;
//! - [`owner`]: above the seam: what the holder of a full key does with a store.
//!
//! Each room uses only those above it in this list, and `repository` and `owner` never use each other.
//! `docs/FORMAT.md` describes every byte that is written here.

pub mod access;
pub mod base;
pub mod crypto;
pub mod format;
pub mod owner;
pub mod repository;

pub use base::error::{Error, ErrorKind, Result};
