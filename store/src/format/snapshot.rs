//! A snapshot: the immutable record of one push.
//!
//! It is stored as a [`StoredSnapshot`], signed by the client. Outside the seal is only what the server must enforce;
//! the [`Snapshot`] itself is sealed under the push's data key, whose wrap is stored with it. A client's snapshots form
//! a chain: each names the previous one, and the head of the repository's log that the client last saw.
//!
//! [`seal`] and [`open`] need keys, [`verify_stored`] needs none; [`Chains`] checks the chains.

mod chain;
mod order;
mod sealed;

pub use chain::Chains;
pub use order::SnapshotOrder;
pub use sealed::{open, seal, snapshot_id, verify_stored, wrap_of};

use minicbor::{Decode, Encode};

use crate::{
    base::{
        codec::Header,
        id::{ClientId, Hash, RepoId, SnapshotId, TargetTag},
        time::Time,
    },
    crypto::Wrap,
    format::tree::Node,
};

/// The tag of a snapshot whose push found that many files had become unreadable.
pub const SUSPICIOUS: &str = "suspicious";

/// A snapshot as the store returns it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SnapshotObject {
    /// Its id: the hash of `bytes`.
    #[n(0)]
    pub id: SnapshotId,
    /// The position of its commit in the log.
    #[n(1)]
    pub log_seq: u64,
    /// When the store received it, by the store's clock.
    #[n(2)]
    pub received: Time,
    /// The stored object.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
}

/// Statistics of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct PushStats {
    /// Files that were not in the previous snapshot.
    #[n(0)]
    pub files_new: u64,
    /// Files that differ from the previous snapshot.
    #[n(1)]
    pub files_changed: u64,
    /// Files that were taken from the previous snapshot without being read.
    #[n(2)]
    pub files_unchanged: u64,
    /// Bytes of file contents that were read.
    #[n(3)]
    pub bytes_read: u64,
    /// Chunks, of data and trees, that the repository did not have.
    #[n(4)]
    pub chunks_new: u64,
    /// Their plaintext bytes.
    #[n(5)]
    pub bytes_new: u64,
    /// Bytes of the packs that were stored.
    #[n(6)]
    pub bytes_stored: u64,
    /// The duration in milliseconds.
    #[n(7)]
    pub duration_ms: u64,
    /// Entries of the source that could not be read: they are missing from the snapshot, or incomplete.
    #[n(8)]
    pub errors: u64,
}

/// The record of one push as its readers see it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Snapshot {
    /// When the push began, by the client's clock.
    #[n(0)]
    pub time: Time,
    /// The name of the machine.
    #[n(1)]
    pub host: String,
    /// The name of the user who ran it.
    #[n(2)]
    pub user: String,
    /// The target: the series of snapshots that it belongs to.
    #[n(3)]
    pub target: String,
    /// What was pushed: absolute paths, or paths relative to a given folder.
    #[n(4)]
    pub paths: Vec<PathBytes>,
    /// Tags.
    #[n(5)]
    pub tags: Vec<String>,
    /// The root directory's node, with an empty name.
    #[n(6)]
    pub root: Node,
    /// Statistics of the push.
    #[n(7)]
    pub stats: PushStats,
    /// The program and its version.
    #[n(8)]
    pub program: String,
    /// The client's own count of its snapshots, from 1. The same number is outside the seal.
    #[n(9)]
    pub sequence: u64,
    /// The client's previous snapshot.
    #[n(10)]
    pub previous: Option<SnapshotId>,
    /// The length of the repository's log that the client last saw, in records.
    #[n(11)]
    pub log_len: u64,
    /// The head of the log at that length.
    #[n(12)]
    pub log_head: Hash,
}

impl Snapshot {
    /// Magic and version of the sealed record.
    pub const HEADER: Header = Header { what: "a snapshot", magic: *b"bkfssnap", version: 1 };
}

/// A path as bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
pub struct PathBytes(#[cbor(n(0), with = "minicbor::bytes")] pub Vec<u8>);

/// A snapshot as the server sees it: the payload of a [`crate::crypto::signed::Signed`] behind
/// [`StoredSnapshot::HEADER`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct StoredSnapshot {
    /// The repository.
    #[n(0)]
    pub repo: RepoId,
    /// The client that pushed.
    #[n(1)]
    pub client: ClientId,
    /// The keyed tag of the target.
    #[n(2)]
    pub target: TargetTag,
    /// The client's own count of its snapshots, from 1.
    #[n(3)]
    pub sequence: u64,
    /// The data key of the push, sealed to the repository.
    #[n(4)]
    pub wrap: Wrap,
    /// The [`Snapshot`] record, sealed under that data key.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub sealed: Vec<u8>,
}

impl StoredSnapshot {
    /// Magic and version.
    pub const HEADER: Header = Header { what: "a stored snapshot", magic: *b"bkfsstor", version: 1 };
    /// The largest stored snapshot in bytes. It leaves room for tags and paths; the tree is stored elsewhere.
    pub const SIZE_MAX: usize = 4 * 1024 * 1024;
}
