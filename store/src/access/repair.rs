//! The requests and replies of a repair.

use minicbor::{Decode, Encode};

use super::read::Mending;
use crate::{
    base::id::PackId,
    format::loss::{FrameBits, Quarantined},
};

/// One step of a repair: see `docs/design/0015-quarantine.md`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum RepairRequest {
    /// Verifies a whole pack and mends it, like [`super::Read::mend`]. A dry run changes nothing and returns what
    /// mending would achieve. The reply is [`RepairReply::Verified`].
    #[n(0)]
    Verify {
        /// The pack.
        #[n(0)]
        pack: PackId,
        /// Change nothing.
        #[n(1)]
        dry_run: bool,
    },
    /// Lists the packs that have frames in quarantine and whose ids follow `after`, at most [`QUARANTINE_MAX`], in the
    /// order of their ids. The reply is [`RepairReply::Quarantine`].
    #[n(1)]
    Quarantine {
        /// The last pack of the list before; none for the first list.
        #[n(0)]
        after: Option<PackId>,
    },
    /// Removes a damaged pack after copying the frames to keep into a new one. What is lost with it, and was not lost
    /// before, is recorded as lost. Durable on return. The reply is [`RepairReply::Dropped`].
    #[n(2)]
    Drop {
        /// The pack.
        #[n(0)]
        pack: PackId,
        /// Which frames to keep.
        #[n(1)]
        keep: Keep,
    },
    /// Lists the packs that hold copies of chunks of which packs of another trust domain have copies as well, and no
    /// verified pack has: only one of the copies may be right. Packs with refused frames are left out. Those whose ids
    /// follow `after`, at most
    /// [`CONTESTED_MAX`], in the order of their ids. The reply is [`RepairReply::Contested`].
    #[n(3)]
    Contested {
        /// The last pack of the list before; none for the first list.
        #[n(0)]
        after: Option<PackId>,
    },
}

/// How many packs one [`RepairReply::Contested`] lists at most.
pub const CONTESTED_MAX: usize = 65_536;

/// How many packs one [`RepairReply::Quarantine`] lists at most.
pub const QUARANTINE_MAX: usize = 1024;

/// Which frames of a damaged pack to keep.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Keep {
    /// The frames that the store knows to be whole.
    #[n(0)]
    Whole,
    /// These frames, which a key holder has opened, except those that the store knows to be damaged.
    #[n(1)]
    Opened(#[n(0)] FrameBits),
}

/// The reply to a [`RepairRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum RepairReply {
    /// What mending achieved, or would achieve.
    #[n(0)]
    Verified(#[n(0)] Mending),
    /// Packs with frames in quarantine. If there are fewer than [`QUARANTINE_MAX`], these are the last.
    #[n(1)]
    Quarantine(#[n(0)] Vec<Quarantined>),
    /// What became of the pack.
    #[n(2)]
    Dropped(#[n(0)] Dropped),
    /// Packs with copies that may differ from others. If there are fewer than [`CONTESTED_MAX`], these are the last.
    #[n(3)]
    Contested(#[n(0)] Vec<PackId>),
}

/// What became of a pack that was to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Dropped {
    /// Whether the pack is gone. It stays if nothing is wrong with it.
    #[n(0)]
    pub is_gone: bool,
    /// Frames that were kept, in a new pack.
    #[n(1)]
    pub kept: u32,
    /// Frames that are gone with it.
    #[n(2)]
    pub lost: u32,
}
