//! What a store of ciphertext offers to whoever uses a repository: the one interface behind which an embedded
//! repository, a server's storage, a repository in memory and a remote client look alike.
//!
//! The calls are blocking and may be made from many threads at once. Nothing here needs a key of the repository, and
//! nothing here trusts the caller: an implementation bounds and verifies all that it is given. Each call says what is
//! durable when it returns.

mod prune;
mod repair;

pub use prune::{
    COMMITTED_MAX, CommittedSnapshot, Filter, MixedFrame, MovedFrame, PruneLimits, PruneReply, PruneRequest,
    PruneStats, Swept, Unused,
};
pub use repair::{Dropped, Keep, QUARANTINE_MAX, RepairReply, RepairRequest};

use bytes::Bytes;
use minicbor::{Decode, Encode};

use crate::{
    base::{
        error::{Error, Result},
        id::{ChunkId, ClientId, Hash, Incarnation, KeyId, PackId, SlotId, SnapshotId},
        time::Time,
    },
    crypto::Wrap,
    format::{keys::Slot, loss::Lost, pack::PackUpload, snapshot::SnapshotObject},
};

/// How much one [`Access::read`] answers at most, in bytes of frames (the first frame is answered whatever its size).
pub const READ_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How many ids one request names at most.
pub const IDS_MAX: usize = 65_536;
/// How many snapshots one request forgets, or brings back, at most.
pub const FORGET_MAX: usize = 8192;
/// How many bytes of the log's records come at once at least, if there are as many.
pub const LOG_BYTES: usize = 8 * 1024 * 1024;
/// How many bytes of snapshots come at once at least, if there are as many.
pub const SNAPSHOTS_BYTES: usize = 8 * 1024 * 1024;
/// How many newest snapshots [`Opened`] carries at most.
pub const OPENED_SNAPSHOTS_MAX: usize = 32;

/// What a new repository begins with.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct InitRequest {
    /// The signed configuration.
    #[cbor(n(0), with = "minicbor::bytes")]
    pub config: Vec<u8>,
    /// The signed first roster.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub roster: Vec<u8>,
    /// Passphrase slots, none if they are kept elsewhere.
    #[n(2)]
    pub slots: Vec<Slot>,
}

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

/// Asks for the frames that hold chunks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct ReadRequest {
    /// The chunks, at most [`IDS_MAX`].
    #[n(0)]
    pub ids: Vec<ChunkId>,
    /// After the frames asked for, the frames that follow the last one in its pack, up to so many bytes.
    #[n(1)]
    pub neighbour_bytes: u32,
}

/// One sealed frame, and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedFrame {
    /// The pack.
    pub pack: PackId,
    /// Number of the frame in the pack, from 0.
    pub frame: u32,
    /// The frame's bytes.
    pub bytes: Bytes,
}

/// The answer to [`ReadRequest`]. Frames come in the order of the ids that asked for them, each once; ids beyond
/// [`READ_BYTES_MAX`] are left out, and are to be asked again.
#[derive(Debug, Clone, Default)]
pub struct ReadReply {
    /// The frames.
    pub frames: Vec<SealedFrame>,
    /// How many of the ids, from the first, were dealt with (answered or found missing).
    pub done: usize,
    /// Those of the ids dealt with that are not stored.
    pub missing: Vec<ChunkId>,
}

/// The acknowledgement of a committed snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Receipt {
    /// The snapshot.
    #[n(0)]
    pub snapshot: SnapshotId,
    /// When the store received it.
    #[n(1)]
    pub received: Time,
    /// Where the log stands with it.
    #[n(2)]
    pub now: Seen,
}

/// Asks to forget snapshots.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct ForgetRequest {
    /// A signed tombstone ([`crate::format::tombstone::Tombstone`]) of each snapshot, at most [`FORGET_MAX`].
    #[n(0)]
    pub tombstones: Vec<Signature>,
    /// Make them unrecoverable at once, not move them to the trash.
    #[n(1)]
    pub now: bool,
    /// Make unrecoverable, too, what has been in the trash for as long as the floor says.
    #[n(2)]
    pub empty_trash: bool,
}

/// Signed bytes in a list.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Signature(#[cbor(n(0), with = "minicbor::bytes")] pub Vec<u8>);

/// What came of a [`ForgetRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct ForgetReply {
    /// How many snapshots went to the trash, or on the way through it.
    #[n(0)]
    pub forgotten: u64,
    /// The snapshots that are gone for good by this.
    #[n(1)]
    pub expired: Vec<SnapshotId>,
}

/// A pack in the store, as `check` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct PackInfo {
    /// The pack.
    #[n(0)]
    pub id: PackId,
    /// Its length in bytes.
    #[n(1)]
    pub len: u64,
}

/// A span of a pack, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Span {
    /// Its first byte.
    #[n(0)]
    pub start: u32,
    /// The first byte after it.
    #[n(1)]
    pub end: u32,
}

/// What came of mending a pack.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Mending {
    /// It is whole.
    #[n(0)]
    Whole,
    /// It was damaged, and is whole again; so many shards of it were.
    #[n(1)]
    Mended(#[n(0)] u32),
    /// More is damaged than its parity mends: these spans, and nothing else.
    #[n(2)]
    Lost(#[n(0)] Vec<Span>),
    /// It is damaged, and has no parity, or none that is of use.
    #[n(3)]
    NoParity,
}

/// A repository's store, as its users see it.
pub trait Access: Send + Sync {
    /// Makes the repository. Durable on return; fails with [`crate::Error::RepositoryExists`] if there is one.
    fn init(&self, request: &InitRequest) -> Result<()>;

    /// Opens the repository, and begins a session if a client is named.
    fn open(&self, request: &OpenRequest) -> Result<Opened>;

    /// Which of the ids (at most [`IDS_MAX`]) have a live copy.
    fn has(&self, ids: &[ChunkId]) -> Result<Vec<bool>>;

    /// Stores a pack. On return it is durable, its chunks are found, and it is pinned by the session. Storing a pack again is
    /// no error; one that was condemned or swept is live again.
    fn put_pack(&self, lease: Lease, pack: &PackUpload) -> Result<()>;

    /// Where chunks (at most [`IDS_MAX`]) lie, for who reads many: numbers that are the same for the chunks of one frame, and go
    /// up in the order in which frames are stored. Any number for what is not stored. Good for an order and for nothing else:
    /// they change when packs are written again.
    fn places(&self, ids: &[ChunkId]) -> Result<Vec<u64>>;

    /// Reads frames.
    fn read(&self, request: &ReadRequest) -> Result<ReadReply>;

    /// Finds the sealed wraps of data keys; unknown ones are left out.
    fn wraps(&self, keys: &[KeyId]) -> Result<Vec<Wrap>>;

    /// Commits a snapshot under a lease. On return it is durable. Every pack that it needs must have been put before. Refused
    /// with [`crate::Error::LeaseRefused`] if frames were condemned since the lease: open again, and see what was lost.
    fn commit(&self, lease: Lease, snapshot: &[u8]) -> Result<Receipt>;

    /// The snapshots whose commits lie at `from` or later in the log, oldest first; at most `limit`, and no more once they are
    /// more than [`SNAPSHOTS_BYTES`] together. Those in the trash are among them, those that are gone for good are not.
    fn snapshots(&self, from: u64, limit: u32) -> Result<Vec<SnapshotObject>>;

    /// Moves snapshots to the trash, or makes them unrecoverable as far as the floor allows: all of them or, on error, none.
    /// Durable on return. What is there already is left as it is, so asking again is no error.
    fn forget(&self, request: &ForgetRequest) -> Result<ForgetReply>;

    /// Brings snapshots back from the trash: all of them or, on error, none. Durable on return.
    fn unforget(&self, snapshots: &[SnapshotId]) -> Result<()>;

    /// One step of a prune, by a holder of the full key. What is durable on return is said at each request.
    fn prune(&self, request: &PruneRequest) -> Result<PruneReply>;

    /// The log's records from `from` on, encoded, oldest first; at most `limit`. Fewer means that the log ends there, unless
    /// they are more than [`LOG_BYTES`] together.
    fn log(&self, from: u64, limit: u32) -> Result<Vec<Vec<u8>>>;

    /// Waits until the log is longer than `len` records or the time is over; returns its length.
    fn wait_log(&self, len: u64, timeout: std::time::Duration) -> Result<u64>;

    /// Appends a roster, which must be signed by the admin key and have the number that follows. Durable on return.
    fn put_roster(&self, signed: &[u8]) -> Result<()>;

    /// Adds or replaces a passphrase slot. Durable on return.
    fn put_slot(&self, slot: &Slot) -> Result<()>;

    /// Removes a passphrase slot; the last one is kept. Durable on return.
    fn remove_slot(&self, id: SlotId) -> Result<()>;

    /// The packs whose ids follow `after`, in the order of their ids; at most `limit`.
    fn packs(&self, after: Option<PackId>, limit: u32) -> Result<Vec<PackInfo>>;

    /// A whole pack, as stored.
    fn read_pack(&self, id: PackId) -> Result<Bytes>;

    /// Verifies a pack, and mends it in place if it is damaged. What is mended is durable on return. A store without
    /// error correction answers [`Mending::NoParity`].
    fn mend(&self, _id: PackId) -> Result<Mending> {
        Ok(Mending::NoParity)
    }

    /// One step of a repair, by a holder of the full key. What is durable on return is said at each request.
    fn repair(&self, _request: &RepairRequest) -> Result<RepairReply> {
        Err(Error::Invalid("this store cannot be repaired".into()))
    }
}
