//! bkfs at rest: ids, formats, cryptography, packs, trees, snapshots, the index and the repository.
//!
//! This crate knows no network, no FUSE, no terminal, no home directory and no environment. Whoever uses a repository
//! does so through [`access::Access`], behind which a local folder, memory and a remote server look alike.
//! `docs/FORMAT.md` describes every byte that is written here.

pub mod access;
pub mod backend;
pub mod check;
pub mod chunker;
pub mod codec;
pub mod compress;
pub mod config;
pub mod content;
pub mod crypto;
pub mod erasure;
pub mod error;
pub mod fate;
pub mod frame;
pub mod id;
pub mod index;
pub mod keyring;
pub mod keys;
pub mod lmdb;
pub mod log;
pub mod logfile;
pub mod logpair;
pub mod logsalvage;
pub mod loss;
pub mod pack;
pub mod prune;
pub mod reader;
pub mod repair;
pub mod repository;
pub mod retention;
pub mod roster;
pub mod signed;
pub mod snapshot;
pub mod sweep;
pub mod time;
pub mod tombstone;
pub mod tree;

pub use error::{Error, ErrorKind, Result};
