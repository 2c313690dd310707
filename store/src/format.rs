//! Bytes at rest: how every stored thing is encoded, decoded, sealed and verified.
//!
//! Everything here is a pure function over bytes: no I/O, no clock, no store. `docs/FORMAT.md` describes every byte. A format
//! may use keys, but it never fetches one: the caller hands over the key that opens or seals.

pub mod chunker;
pub mod compress;
pub mod config;
pub mod content;
pub mod erasure;
pub mod fate;
pub mod filter;
pub mod frame;
pub mod keys;
pub mod log;
pub mod loss;
pub mod pack;
pub mod roster;
pub mod snapshot;
pub mod tombstone;
pub mod tree;
