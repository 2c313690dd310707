//! Opening a repository, and hearing of what is new in it.

use minicbor::{Decode, Encode};

use crate::{
    base::{
        error::Result,
        id::{ClientId, Hash, Incarnation, SnapshotId},
    },
    format::{keys::Slot, loss::Lost, snapshot::SnapshotObject},
};

/// How many newest snapshots [`Opened`] carries at most.
pub const OPENED_SNAPSHOTS_MAX: usize = 32;

/// What a client knows when it opens a repository.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct OpenRequest {
    /// The client that will push, if it will.
    #[n(0)]
    pub client: Option<ClientId>,
    /// What the client saw when it was here last.
    #[n(1)]
    pub seen: Option<Seen>,
}

/// A point of the repository's past that a client remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Seen {
    /// The life of the store.
    #[n(0)]
    pub incarnation: Incarnation,
    /// Length of the log, in records.
    #[n(1)]
    pub log_len: u64,
    /// Head of the log at that length.
    #[n(2)]
    pub log_head: Hash,
}

/// The answer to opening a repository: all that `ls` of a mount and an unchanged push need, in one reply.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Opened {
    /// The signed configuration.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub config: Vec<u8>,
    /// The newest signed roster.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub roster: Vec<u8>,
    /// The passphrase slots; empty if the caller may not read.
    #[n(2)]
    pub slots: Vec<Slot>,
    /// Where the log stands now.
    #[n(3)]
    pub now: Seen,
    /// The log's head at the length that the client remembers; none if the log is shorter or no length was given.
    #[n(4)]
    pub head_at_seen: Option<Hash>,
    /// The session's claim on what it has now seen.
    #[n(6)]
    pub lease: Lease,
    /// What the client must subtract from what it believes to be stored.
    #[n(7)]
    pub lost: Lost,
    /// How many chunks are stored; 0 means that nothing need be asked.
    #[n(8)]
    pub chunks: u64,
    /// The newest snapshot of the client that opened, by its own count.
    #[n(9)]
    pub last: Option<LastSnapshot>,
    /// The newest snapshots, oldest first, at most [`OPENED_SNAPSHOTS_MAX`], and fewer if they are more than [`SNAPSHOTS_BYTES`]
    /// together; empty if the caller may not read.
    #[n(10)]
    pub snapshots: Vec<SnapshotObject>,
    /// The store's floor, in seconds: what was received later than that ago cannot be made unrecoverable.
    #[n(11)]
    #[cbor(default)]
    pub protect_secs: u64,
}

/// What a session has been told of. A repository's generation goes up whenever frames are condemned; a snapshot commits only
/// under the present one, so that whoever relied on what is condemned has heard of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Lease {
    /// The session: a random number. Packs that it stores are not pruned before it commits.
    #[n(0)]
    pub session: u64,
    /// The generation up to which it was told what was lost.
    #[n(1)]
    pub generation: u64,
}

/// A client's newest snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct LastSnapshot {
    /// The snapshot.
    #[n(0)]
    pub id: SnapshotId,
    /// The client's own count.
    #[n(1)]
    pub sequence: u64,
}

/// Opening a repository, and waiting for news of it.
pub trait Open: Send + Sync {
    /// Opens the repository, and begins a session if a client is named.
    fn open(&self, request: &OpenRequest) -> Result<Opened>;

    /// Waits until the log is longer than `len` records or the time is over; returns its length.
    fn wait_log(&self, len: u64, timeout: std::time::Duration) -> Result<u64>;
}
