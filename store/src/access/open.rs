//! Opening a repository, and waiting for news of it.

use std::time::Duration;

use minicbor::{Decode, Encode};

use crate::{
    base::{
        error::Result,
        id::{ClientId, Hash, Incarnation, SnapshotId},
        time::Time,
    },
    format::{keys::Slot, loss::Lost, roster::Standing, snapshot::SnapshotObject},
};

/// How many of the newest snapshots [`Opened`] holds at most.
pub const OPENED_SNAPSHOTS_MAX: usize = 32;

/// What a client knows when it opens a repository.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct OpenRequest {
    /// The client that is going to push; none if none is.
    #[n(0)]
    pub client: Option<ClientId>,
    /// The log as the client saw it last.
    #[n(1)]
    pub seen: Option<Seen>,
}

/// A position in the repository's log, as a client remembers it.
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

/// The reply to opening a repository. It has all that `ls` of a mount and an unchanged push need, so they cost one
/// round trip.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Opened {
    /// The signed configuration.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub config: Vec<u8>,
    /// The newest signed roster; empty if the caller may not read.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub roster: Vec<u8>,
    /// The passphrase slots; empty if the caller may not read.
    #[n(2)]
    pub slots: Vec<Slot>,
    /// The end of the log.
    #[n(3)]
    pub now: Seen,
    /// The log's head at the length that the client remembers; none if the log is shorter, or if the client named no
    /// length. A head that differs from the remembered one shows a rollback.
    #[n(4)]
    pub head_at_seen: Option<Hash>,
    /// The lease of the session that begins with this reply.
    #[n(6)]
    pub lease: Lease,
    /// The chunks that were lost since the position that the client remembers: it must no longer believe that they are
    /// stored.
    #[n(7)]
    pub lost: Lost,
    /// How many chunks are stored. If there are none, a client need not ask for any. A caller that may not read is told
    /// only whether there are any.
    #[n(8)]
    pub chunks: u64,
    /// The newest snapshot of the client that opened, by the client's own count.
    #[n(9)]
    pub last: Option<LastSnapshot>,
    /// The newest snapshots, oldest first: at most [`OPENED_SNAPSHOTS_MAX`], and fewer once they reach
    /// [`super::SNAPSHOTS_BYTES`] together. Empty if the caller may not read.
    #[n(10)]
    pub snapshots: Vec<SnapshotObject>,
    /// The store's floor, in seconds: a snapshot that was received less than this ago cannot be made unrecoverable.
    #[n(11)]
    #[cbor(default)]
    pub protect_secs: u64,
    /// The time by the store's clock. Times that the store has given are compared with this, and not with the client's
    /// clock.
    #[n(12)]
    pub time: Time,
    /// Whether what the client that opened stores from now on counts; none if the request named no client. Nothing is
    /// signed about that: a client that the store wrongly calls active learns nothing new from an old roster either.
    #[n(13)]
    pub standing: Option<Standing>,
    /// What the account may store, if there is a limit.
    #[n(14)]
    pub room: Option<Room>,
    /// The signed list of seal keys ([`crate::format::keys::SealKeys`]); empty if the seal key was never rotated.
    #[cbor(n(15), with = "minicbor::bytes")]
    pub seal_keys: Vec<u8>,
}

/// How much may be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Room {
    /// Bytes that may be stored.
    #[n(0)]
    pub limit: u64,
    /// Bytes that are stored, or about to be.
    #[n(1)]
    pub used: u64,
}

impl Room {
    /// Returns how many more bytes may be stored.
    pub fn left(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }
}

/// Ties a session to a generation of the repository. The generation goes up whenever frames are condemned or
/// quarantined. A snapshot is only committed under the present generation, so its client knows of every loss that may
/// concern it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Lease {
    /// The session: a random number. A prune does not take packs that the session stored and did not commit yet, for 7
    /// days.
    #[n(0)]
    pub session: u64,
    /// The generation up to which the session was told what was lost.
    #[n(1)]
    pub generation: u64,
}

impl Lease {
    /// The generation before the first prune and the first quarantine. In it, all packs are those that clients made.
    pub const FIRST_GENERATION: u64 = 1;
}

/// A client's newest snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct LastSnapshot {
    /// The snapshot.
    #[n(0)]
    pub id: SnapshotId,
    /// Its number, by the client's own count.
    #[n(1)]
    pub sequence: u64,
}

/// Opening a repository, and waiting for news of it.
pub trait Open: Send + Sync {
    /// Opens the repository and begins a session. Fails with [`crate::Error::NoRepository`] if there is none.
    fn open(&self, request: &OpenRequest) -> Result<Opened>;

    /// Waits until the log has more than `len` records or the time is over. Returns the log's length, in records.
    fn wait_log(&self, len: u64, timeout: Duration) -> Result<u64>;
}
