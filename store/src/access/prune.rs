//! The requests and replies of a prune.

use minicbor::{Decode, Encode};

use super::space::Space;
use crate::{
    base::{
        codec,
        id::{ChunkId, PackId, SnapshotId},
        time::Time,
    },
    format::{frame::ChunkKind, loss::FrameBits},
};

/// How many snapshots one [`PruneReply::Committed`] lists at most.
pub const COMMITTED_MAX: usize = 65_536;

/// How many filters one request may hold. A key holder sends less: a megabyte of them.
pub const FILTERS_MAX: usize = 65_536;

/// Some of the live ids that have one first byte.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Filter {
    /// First byte of the ids.
    #[n(0)]
    pub first: u8,
    /// The encoded filter ([`crate::format::filter::encode_filter`]).
    #[cbor(n(1), with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
}

/// One step of a prune: see `docs/design/0012-condemn-at-once.md`.
///
/// Until something is condemned, a prune is in the store's memory only. A step of a prune that the store does not know
/// any more fails with [`crate::Error::LeaseRefused`]: begin again.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum PruneRequest {
    /// Begins to mark: nothing is live yet. Takes the place of a prune that has not condemned anything. Fails with
    /// [`crate::Error::LeaseRefused`] if something is condemned and not swept yet, unless it is a dry run. Nothing is
    /// durable. The reply is [`PruneReply::Begun`].
    #[n(0)]
    Begin {
        /// Only for [`PruneRequest::Condemn`] with `dry_run`: what an earlier prune has condemned counts as about to
        /// be swept.
        #[n(0)]
        dry_run: bool,
        /// Take what pushes have stored that have not ended, too. Such a push is refused until it has asked what was
        /// lost, and sends that again. Servers refuse this: it is for their operators, and for local repositories.
        #[n(1)]
        ends_pushes: bool,
    },
    /// Marks the ids that the filters hold as live. Nothing is durable. The reply is [`PruneReply::Done`].
    #[n(1)]
    Live {
        /// The number from [`PruneReply::Begun`].
        #[n(0)]
        prune: u64,
        /// The filters, as many as fit into a request. Each first byte needs at least one filter before anything can
        /// be condemned.
        #[cbor(n(1), decode_with = "codec::at_most::<FILTERS_MAX, _, _>")]
        filters: Vec<Filter>,
    },
    /// Condemns dead frames, within the limits, and begins a new generation. Durable on return. The reply is
    /// [`PruneReply::Condemned`], [`PruneReply::Unconfirmed`] or [`PruneReply::Grown`]; only the first condemns
    /// anything. Fails with [`crate::Error::LeaseRefused`] if another prune has condemned something since this one
    /// began.
    #[n(2)]
    Condemn {
        /// The number from [`PruneReply::Begun`].
        #[n(0)]
        prune: u64,
        /// All snapshots are marked that were committed before this length of the log, in records.
        #[n(1)]
        log_len: u64,
        /// How far to go.
        #[n(2)]
        limits: PruneLimits,
        /// Change nothing: reply with what would be condemned, as if nothing was committed since `log_len`.
        #[n(3)]
        dry_run: bool,
        /// Condemn even if that removes more than half of the repository.
        #[n(4)]
        is_confirmed: bool,
        /// If snapshots were committed that are not marked, take no others for a while
        /// ([`crate::Error::CommitsHeld`]), so that marking can come to an end. Two such times do not follow each other
        /// at once.
        #[n(5)]
        hold: bool,
    },
    /// Removes some of the condemned frames, after copying the live ones of their packs. Durable on return. To be
    /// repeated until nothing is left. The reply is [`PruneReply::Swept`].
    #[n(3)]
    Sweep,
    /// Makes all condemned frames that are not swept yet live again. Durable on return. The reply is
    /// [`PruneReply::Done`].
    #[n(4)]
    Abort,
    /// Lists the snapshots that were committed at log record `from` or later and have not expired, including those in
    /// the trash. The reply is [`PruneReply::Committed`].
    #[n(5)]
    Committed {
        /// The first log record.
        #[n(0)]
        from: u64,
    },
    /// Asks for mixed frames: those in which many chunks are dead and some are live. Only a key holder can open them
    /// and write the live chunks into other frames. Everything must be marked before. Nothing is durable. The reply is
    /// [`PruneReply::Mixed`].
    #[n(6)]
    Mixed {
        /// The number from [`PruneReply::Begun`].
        #[n(0)]
        prune: u64,
        /// How far the prune goes.
        #[n(1)]
        limits: PruneLimits,
        /// How many bytes of frames to list at most.
        #[n(2)]
        bytes: u64,
    },
    /// Reports mixed frames whose live chunks were put in other packs since the prune began. Nothing in those frames
    /// is live any more, unless a later filter says so. Nothing is durable; condemning checks whether the copies are
    /// there. The reply is [`PruneReply::Done`].
    #[n(7)]
    Moved {
        /// The number from [`PruneReply::Begun`].
        #[n(0)]
        prune: u64,
        /// The frames, at most [`super::IDS_MAX`].
        #[cbor(n(1), decode_with = "codec::at_most::<{ super::IDS_MAX }, _, _>")]
        frames: Vec<MovedFrame>,
    },
    /// Asks how much disk space the repository takes, and until when the trash and the grave keep what is in them. The
    /// parity of all packs that this store has stored so far is made first. Nothing is changed. The reply is
    /// [`PruneReply::Space`].
    #[n(8)]
    Space,
}

/// A frame in which many chunks are dead and some are live.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MixedFrame {
    /// The pack.
    #[n(0)]
    pub pack: PackId,
    /// The number of the frame in the pack.
    #[n(1)]
    pub frame: u32,
    /// The kind of its chunks.
    #[n(2)]
    pub kind: ChunkKind,
    /// Its length in bytes.
    #[n(3)]
    pub len: u32,
    /// Its chunks.
    #[n(4)]
    pub ids: Vec<ChunkId>,
}

/// A frame whose live chunks are all in other packs, too.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct MovedFrame {
    /// The pack.
    #[n(0)]
    pub pack: PackId,
    /// The number of the frame in the pack.
    #[n(1)]
    pub frame: u32,
    /// Which of its chunks are live: one bit for each.
    #[n(2)]
    pub chunks: FrameBits,
}

/// A snapshot that has not expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct CommittedSnapshot {
    /// The log record that committed it.
    #[n(0)]
    pub log_seq: u64,
    /// The snapshot.
    #[n(1)]
    pub id: SnapshotId,
    /// Whether emptying the trash would expire it now.
    #[n(2)]
    pub is_due: bool,
}

/// How much of a repository may be unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Unused {
    /// Thousandths of what is used.
    #[n(0)]
    PerMille(#[n(0)] u32),
    /// Bytes.
    #[n(1)]
    Bytes(#[n(0)] u64),
}

/// How far a prune goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct PruneLimits {
    /// How much of what is kept may be unused afterwards. Packs are repacked until no more is unused.
    #[n(0)]
    pub unused: Unused,
    /// How many bytes are copied into new packs at most; none for no limit.
    #[n(1)]
    pub repack_bytes: Option<u64>,
}

impl Default for PruneLimits {
    /// 5 % may be unused. There is no limit on what is copied.
    fn default() -> Self {
        Self { unused: Unused::PerMille(50), repack_bytes: None }
    }
}

/// The reply to a [`PruneRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum PruneReply {
    /// Done.
    #[n(0)]
    Done,
    /// Marking has begun.
    #[n(1)]
    Begun {
        /// Identifies the prune in later requests.
        #[n(0)]
        prune: u64,
        /// All snapshots must be marked that were committed before this length of the log, in records.
        #[n(1)]
        log_len: u64,
    },
    /// Nothing is condemned, because snapshots were committed that are not marked: mark those, too.
    #[n(2)]
    Grown {
        /// All snapshots must be marked that were committed before this length of the log, in records.
        #[n(0)]
        log_len: u64,
    },
    /// Nothing is condemned, because that would remove more than half of the repository and is not confirmed.
    #[n(3)]
    Unconfirmed(#[n(0)] PruneStats),
    /// What is condemned; on a dry run, what would be.
    #[n(4)]
    Condemned(#[n(0)] PruneStats),
    /// Some of what was condemned is gone.
    #[n(5)]
    Swept(#[n(0)] Swept),
    /// The first snapshots that were asked for, at most [`COMMITTED_MAX`], oldest first. If there are fewer, these are
    /// all.
    #[n(6)]
    Committed(#[n(0)] Vec<CommittedSnapshot>),
    /// The mixed frames that are best rewritten next; none if enough is done. They hold at most [`super::IDS_MAX`]
    /// chunks, unless it is one frame.
    #[n(7)]
    Mixed(#[n(0)] Vec<MixedFrame>),
    /// The disk space that the repository takes.
    #[n(8)]
    Space(#[n(0)] Space),
}

/// What a prune takes, and what it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct PruneStats {
    /// Packs before.
    #[n(0)]
    pub packs: u64,
    /// Bytes of those packs.
    #[n(1)]
    pub bytes: u64,
    /// Packs in which nothing is live. They are dropped.
    #[n(2)]
    pub dropped: u64,
    /// Packs whose live frames are copied into new packs.
    #[n(3)]
    pub repacked: u64,
    /// Bytes of those live frames.
    #[n(4)]
    pub copied_bytes: u64,
    /// Bytes of packs that are freed.
    #[n(5)]
    pub freed_bytes: u64,
    /// Bytes of dead frames that stay, because too little would be gained by removing them.
    #[n(6)]
    pub unused_bytes: u64,
    /// Bytes of dead frames that stay, because their packs are pinned for a push that has not ended.
    #[n(7)]
    pub pinned_bytes: u64,
    /// An estimate of the dead bytes in mixed frames that stay.
    #[n(8)]
    #[cbor(default)]
    pub mixed_bytes: u64,
    /// Bytes of parity that are freed with [`PruneStats::freed_bytes`].
    #[n(9)]
    pub freed_parity_bytes: u64,
    /// When the last of the pins ends behind [`PruneStats::pinned_bytes`], unless the push goes on.
    #[n(10)]
    pub pinned_until: Option<Time>,
    /// Packs that an earlier prune has condemned and not swept. Only a dry run finds any: other prunes sweep them
    /// first.
    #[n(11)]
    pub left_packs: u64,
    /// Bytes that are freed when those packs are swept, with their parity.
    #[n(12)]
    pub left_bytes: u64,
}

impl PruneStats {
    /// Whether more than half of the repository is removed, which must be confirmed.
    pub fn is_most(&self) -> bool {
        self.freed_bytes > self.bytes / 2
    }
}

/// What one sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Swept {
    /// Packs that are not used any more.
    #[n(0)]
    pub packs: u64,
    /// Bytes of those packs.
    #[n(1)]
    pub bytes: u64,
    /// Bytes of the packs that were written in their place.
    #[n(2)]
    pub written_bytes: u64,
    /// Condemned packs that are kept because they are damaged.
    #[n(3)]
    pub damaged: u64,
    /// Packs that are still condemned.
    #[n(4)]
    pub left: u64,
    /// Bytes of the packs that went to the grave. They are on the disk until their time there is over.
    #[n(5)]
    pub grave_bytes: u64,
}
