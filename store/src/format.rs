//! Bytes at rest: how every stored object is encoded, decoded, sealed and verified.
//!
//! Everything here is a pure function over bytes: no I/O, no clock, no store. `docs/FORMAT.md` describes every byte. A
//! format may use a key, but it never fetches one: the caller passes the key that opens or seals.
//!
//! The modules build on each other in this order, and never the other way round:
//!
//! 1. [`config`], [`roster`]: what the admin key signs; [`loss`], [`fate`]: what the log's records mean; [`filter`] and
//!    [`compress`], which need nothing else;
//! 2. [`log`] (uses `loss`), [`frame`] (uses `compress`), [`chunker`] (uses `config`), [`keys`] (uses `config` and
//!    `roster`);
//! 3. [`pack`] with [`slice`] (uses `frame` and `roster`), [`tombstone`], [`verdict`] and [`tree`] (use `keys`);
//! 4. [`erasure`] (uses `pack`), [`content`] (uses `keys` and `tree`), [`snapshot`] (uses `keys`, `roster` and `tree`).

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
pub mod slice;
pub mod snapshot;
pub mod tombstone;
pub mod tree;
pub mod verdict;
