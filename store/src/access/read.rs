//! Reading frames, keys, snapshots and the log.

use bytes::Bytes;
use minicbor::{Decode, Encode};

use super::open::Open;
use crate::{
    base::{
        codec,
        error::Result,
        id::{ChunkId, KeyId, PackId},
    },
    crypto::Wrap,
    format::snapshot::SnapshotObject,
};

/// How many bytes of frames one [`Read::read`] returns at most. The first frame is returned whatever its size.
pub const READ_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How many packs one [`ReadRequest`] may avoid.
pub const AVOID_MAX: usize = 64;

/// A reply of [`Read::log`] holds at most this many bytes of records, unless it is one record.
pub const LOG_BYTES: usize = 8 * 1024 * 1024;

/// How many records one reply of [`Read::log`] holds at most.
pub const LOG_RECORDS_MAX: usize = 4096;

/// A reply of [`Read::snapshots`] ends before its limit once it holds this many bytes.
pub const SNAPSHOTS_BYTES: usize = 8 * 1024 * 1024;

/// A request for the frames that hold chunks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct ReadRequest {
    /// The chunks, at most [`super::IDS_MAX`].
    #[cbor(n(0), decode_with = "codec::at_most::<{ super::IDS_MAX }, _, _>")]
    pub ids: Vec<ChunkId>,
    /// How many bytes of neighbours to return, too: frames that follow the last requested one in its pack.
    #[n(1)]
    pub neighbour_bytes: u32,
    /// Packs not to read from, at most [`AVOID_MAX`]: what they hold of these chunks turned out to be wrong.
    #[n(2)]
    #[cbor(default)]
    pub avoid: Vec<PackId>,
}

/// A sealed frame, and where it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedFrame {
    /// The pack.
    pub pack: PackId,
    /// The number of the frame in the pack, counted from 0.
    pub frame: u32,
    /// The frame's bytes. They may be damaged.
    pub bytes: Bytes,
}

/// The reply to a [`ReadRequest`]. Frames are in the order of the ids that asked for them, each once. Ids beyond
/// [`READ_BYTES_MAX`] are left out: ask for them again.
#[derive(Debug, Clone, Default)]
pub struct ReadReply {
    /// The frames.
    pub frames: Vec<SealedFrame>,
    /// How many of the ids, counted from the first, this reply covers: their frames are in it, or they are missing.
    pub done: usize,
    /// The covered ids that are not stored.
    pub missing: Vec<ChunkId>,
}

/// A span of bytes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Span {
    /// Its first byte.
    #[n(0)]
    pub start: u32,
    /// The first byte after it.
    #[n(1)]
    pub end: u32,
}

/// The result of mending a pack.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Mending {
    /// The pack is whole.
    #[n(0)]
    Whole,
    /// The pack was damaged in this many shards, and is whole again.
    #[n(1)]
    Mended(#[n(0)] u32),
    /// More is damaged than parity can mend: these spans, and nothing else.
    #[n(2)]
    Lost(#[n(0)] Vec<Span>),
    /// The pack is damaged, and has no parity or none that can be used.
    #[n(3)]
    NoParity,
}

/// What a reader needs: frames, keys, snapshots and the log.
pub trait Read: Open {
    /// Returns the frames that hold chunks. Of several copies of a chunk, the best is returned: one that a key holder
    /// has verified, or else one from the owner's own machines, or else any.
    fn read(&self, request: &ReadRequest) -> Result<ReadReply>;

    /// Returns the wraps of data keys (at most [`super::KEYS_MAX`]). Unknown keys are left out; a key may have several
    /// wraps.
    fn wraps(&self, keys: &[KeyId]) -> Result<Vec<Wrap>>;

    /// Returns a sort key for each chunk (at most [`super::IDS_MAX`]). Chunks of one frame have the same sort key, and
    /// sort keys ascend in the order in which frames are stored. Use them only for ordering: a prune may change them,
    /// and the sort key of a chunk that is not stored may be any number.
    fn places(&self, ids: &[ChunkId]) -> Result<Vec<u64>>;

    /// Returns the snapshots that were committed at log record `from` or later, oldest first: at most `limit`, and
    /// fewer once they reach [`SNAPSHOTS_BYTES`]. Snapshots in the trash are included, expired ones are not.
    fn snapshots(&self, from: u64, limit: u32) -> Result<Vec<SnapshotObject>>;

    /// Returns encoded log records, beginning with record `from`, oldest first: at most `limit`, and at most
    /// [`LOG_RECORDS_MAX`]. If there are fewer, the log ends there, or the next one would not fit into [`LOG_BYTES`].
    fn log(&self, from: u64, limit: u32) -> Result<Vec<Vec<u8>>>;

    /// Verifies a pack, and mends it in place if it is damaged. What is mended is durable on return. What is lost goes
    /// into quarantine. A store without error correction returns [`Mending::NoParity`] for a damaged pack.
    fn mend(&self, id: PackId) -> Result<Mending>;

    /// Returns a whole pack as it is stored. Its bytes may be damaged. Fails with [`crate::Error::PackDamaged`] if its
    /// file is missing.
    fn read_pack(&self, id: PackId) -> Result<Bytes>;

    /// Records a signed [verdict](crate::format::verdict::Verdict). From then on, everybody may rely on what it
    /// verifies, and nobody on what it refuses; chunks that are lost with that are reported as lost. Durable on return.
    fn judge(&self, verdict: &[u8]) -> Result<()>;
}
