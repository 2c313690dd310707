//! Reading frames, keys, snapshots and the log.

use bytes::Bytes;
use minicbor::{Decode, Encode};

use super::Open;
use crate::{
    base::{
        error::Result,
        id::{ChunkId, KeyId, PackId},
    },
    crypto::Wrap,
    format::snapshot::SnapshotObject,
};

/// How much one [`Access::read`] answers at most, in bytes of frames (the first frame is answered whatever its size).
pub const READ_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How many bytes of the log's records come at once at least, if there are as many.
pub const LOG_BYTES: usize = 8 * 1024 * 1024;

/// How many bytes of snapshots come at once at least, if there are as many.
pub const SNAPSHOTS_BYTES: usize = 8 * 1024 * 1024;

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

/// What a reader needs: frames, keys, snapshots and the log.
pub trait Read: Open {
    /// Reads frames.
    fn read(&self, request: &ReadRequest) -> Result<ReadReply>;

    /// Finds the sealed wraps of data keys; unknown ones are left out.
    fn wraps(&self, keys: &[KeyId]) -> Result<Vec<Wrap>>;

    /// Where chunks (at most [`IDS_MAX`]) lie, for who reads many: numbers that are the same for the chunks of one frame, and go
    /// up in the order in which frames are stored. Any number for what is not stored. Good for an order and for nothing else:
    /// they change when packs are written again.
    fn places(&self, ids: &[ChunkId]) -> Result<Vec<u64>>;

    /// The snapshots whose commits lie at `from` or later in the log, oldest first; at most `limit`, and no more once they are
    /// more than [`SNAPSHOTS_BYTES`] together. Those in the trash are among them, those that are gone for good are not.
    fn snapshots(&self, from: u64, limit: u32) -> Result<Vec<SnapshotObject>>;

    /// The log's records from `from` on, encoded, oldest first; at most `limit`. Fewer means that the log ends there, unless
    /// they are more than [`LOG_BYTES`] together.
    fn log(&self, from: u64, limit: u32) -> Result<Vec<Vec<u8>>>;

    /// Verifies a pack, and mends it in place if it is damaged. What is mended is durable on return. A store without
    /// error correction answers [`Mending::NoParity`].
    fn mend(&self, id: PackId) -> Result<Mending>;
}
