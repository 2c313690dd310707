//! What is said in a prune.

use minicbor::{Decode, Encode};

use crate::{
    base::id::{ChunkId, PackId, SnapshotId},
    format::{frame::ChunkKind, loss::FrameBits},
};

/// How many snapshots one [`PruneReply::Committed`] names at most.
pub const COMMITTED_MAX: usize = 65_536;

/// Which of the ids with one first byte are live.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Filter {
    /// First byte of the ids.
    #[n(0)]
    pub first: u8,
    /// The filter, encoded ([`crate::format::filter::encode_filter`]).
    #[cbor(n(1), with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
}

/// One step of a prune: see `docs/design/0012-condemn-at-once.md`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum PruneRequest {
    /// Begins to mark: nothing is live yet. Answered with [`PruneReply::Begun`]; refused while something is condemned and not
    /// yet swept. Nothing is durable.
    #[n(0)]
    Begin,
    /// Marks as live what filters hold. Answered with [`PruneReply::Done`]. Nothing is durable.
    #[n(1)]
    Live {
        /// The number that `Begin` was answered with.
        #[n(0)]
        prune: u64,
        /// The filters, as many as go into a request.
        #[n(1)]
        filters: Vec<Filter>,
    },
    /// Fixes what is to go, durably, and begins a new generation. Answered with [`PruneReply::Condemned`]; or with
    /// [`PruneReply::Grown`] if snapshots were committed that are not marked.
    #[n(2)]
    Condemn {
        /// The number that `Begin` was answered with.
        #[n(0)]
        prune: u64,
        /// All commits before this place in the log are marked.
        #[n(1)]
        log_len: u64,
        /// How far to go.
        #[n(2)]
        limits: PruneLimits,
        /// Only say what would be done.
        #[n(3)]
        dry_run: bool,
        /// Go on although more than half of the repository goes.
        #[n(4)]
        is_confirmed: bool,
    },
    /// Takes away some of what is condemned, durably. Answered with [`PruneReply::Swept`]; to be repeated until nothing is left.
    #[n(3)]
    Sweep,
    /// Makes all that is condemned and not yet swept live again, durably. Answered with [`PruneReply::Done`].
    #[n(4)]
    Abort,
    /// Asks for the snapshots that are committed at this place of the log or later and not gone for good, those in the trash
    /// among them. Answered with [`PruneReply::Committed`].
    #[n(5)]
    Committed {
        /// The place.
        #[n(0)]
        from: u64,
    },
    /// Asks, when all is marked, for frames in which much is dead and something live: only who can open them can write what is live
    /// into others. Answered with [`PruneReply::Mixed`]: those that are best done next, none if enough is done. Nothing is durable.
    #[n(6)]
    Mixed {
        /// The number that `Begin` was answered with.
        #[n(0)]
        prune: u64,
        /// How far the prune goes.
        #[n(1)]
        limits: PruneLimits,
        /// Bytes of frames at most.
        #[n(2)]
        bytes: u64,
    },
    /// Says of such frames which of their chunks are live and were put in other packs since `Begin`: then nothing in them is live, unless
    /// a later filter says so. Answered with [`PruneReply::Done`]. Nothing is durable; what is not there is noticed at `Condemn`.
    #[n(7)]
    Moved {
        /// The number that `Begin` was answered with.
        #[n(0)]
        prune: u64,
        /// The frames, at most [`super::IDS_MAX`].
        #[n(1)]
        frames: Vec<MovedFrame>,
    },
}

/// A frame in which much is dead.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MixedFrame {
    /// The pack.
    #[n(0)]
    pub pack: PackId,
    /// Number of the frame in it.
    #[n(1)]
    pub frame: u32,
    /// What is in it.
    #[n(2)]
    pub kind: ChunkKind,
    /// Its length in bytes.
    #[n(3)]
    pub len: u32,
    /// Its chunks.
    #[n(4)]
    pub ids: Vec<ChunkId>,
}

/// A frame of which all that is live lies in another pack, too.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MovedFrame {
    /// The pack.
    #[n(0)]
    pub pack: PackId,
    /// Number of the frame in it.
    #[n(1)]
    pub frame: u32,
    /// Which of its chunks are live, a bit each.
    #[n(2)]
    pub chunks: FrameBits,
}

/// A snapshot that is not gone for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct CommittedSnapshot {
    /// Place of its commit in the log.
    #[n(0)]
    pub log_seq: u64,
    /// The snapshot.
    #[n(1)]
    pub id: SnapshotId,
    /// Whether emptying the trash would now let it go.
    #[n(2)]
    pub is_due: bool,
}

/// How much may be unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Unused {
    /// So many thousandths of what is used.
    #[n(0)]
    PerMille(#[n(0)] u32),
    /// So many bytes.
    #[n(1)]
    Bytes(#[n(0)] u64),
}

/// How far a prune goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PruneLimits {
    /// How much of what is kept may be unused afterwards. Packs are written again until it is no more.
    #[n(0)]
    pub unused: Unused,
    /// How many bytes are written again at most.
    #[n(1)]
    pub repack_bytes: Option<u64>,
}

impl Default for PruneLimits {
    fn default() -> Self {
        Self { unused: Unused::PerMille(50), repack_bytes: None }
    }
}

/// The answer to a [`PruneRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum PruneReply {
    /// Done.
    #[n(0)]
    Done,
    /// Marking has begun.
    #[n(1)]
    Begun {
        /// Names the prune in what follows.
        #[n(0)]
        prune: u64,
        /// Commits before this place in the log must be marked.
        #[n(1)]
        log_len: u64,
    },
    /// Snapshots were committed meanwhile: mark those, too.
    #[n(2)]
    Grown {
        /// Commits before this place in the log must be marked.
        #[n(0)]
        log_len: u64,
    },
    /// More than half of the repository would go, which must be confirmed.
    #[n(3)]
    Unconfirmed(#[n(0)] PruneStats),
    /// It is condemned, or would be.
    #[n(4)]
    Condemned(#[n(0)] PruneStats),
    /// Some of it is gone.
    #[n(5)]
    Swept(#[n(0)] Swept),
    /// The first of the snapshots that were asked for, at most [`COMMITTED_MAX`], oldest first; fewer than that are all.
    #[n(6)]
    Committed(#[n(0)] Vec<CommittedSnapshot>),
    /// Frames in which much is dead, with at most [`super::IDS_MAX`] chunks or one frame.
    #[n(7)]
    Mixed(#[n(0)] Vec<MixedFrame>),
}

/// What a prune takes, and what it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct PruneStats {
    /// Packs before.
    #[n(0)]
    pub packs: u64,
    /// Their bytes.
    #[n(1)]
    pub bytes: u64,
    /// Packs in which nothing is live.
    #[n(2)]
    pub dropped: u64,
    /// Packs of which the live frames are written again.
    #[n(3)]
    pub repacked: u64,
    /// Bytes of these live frames.
    #[n(4)]
    pub copied_bytes: u64,
    /// Bytes that become free.
    #[n(5)]
    pub freed_bytes: u64,
    /// Dead bytes that stay, because too little would be won by taking them.
    #[n(6)]
    pub unused_bytes: u64,
    /// Bytes of packs that stay because a push that has not ended may need them.
    #[n(7)]
    pub pinned_bytes: u64,
    /// About how many dead bytes stay because they share frames with what is live.
    #[n(8)]
    #[cbor(default)]
    pub mixed_bytes: u64,
}

impl PruneStats {
    /// Whether more than half of the repository goes: that must be confirmed.
    pub fn is_most(&self) -> bool {
        self.freed_bytes > self.bytes / 2
    }
}

/// What one sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Swept {
    /// Packs that are gone.
    #[n(0)]
    pub packs: u64,
    /// Their bytes.
    #[n(1)]
    pub bytes: u64,
    /// Bytes of packs written in their place.
    #[n(2)]
    pub written_bytes: u64,
    /// Packs that are kept because they are damaged.
    #[n(3)]
    pub damaged: u64,
    /// Packs that are still condemned.
    #[n(4)]
    pub left: u64,
}
