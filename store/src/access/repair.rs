//! What is said in a repair.

use minicbor::{Decode, Encode};

use super::Mending;
use crate::{
    base::id::PackId,
    format::loss::{FrameBits, Quarantined},
};

/// One step of a repair: see `docs/design/0015-quarantine.md`.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum RepairRequest {
    /// Verifies a pack, whole, and mends it, as [`super::Access::mend`] does; dry, it only says what would come of that. Answered with
    /// [`RepairReply::Verified`].
    #[n(0)]
    Verify {
        /// The pack.
        #[n(0)]
        pack: PackId,
        /// Change nothing.
        #[n(1)]
        dry_run: bool,
    },
    /// The packs of which frames are in quarantine and whose ids follow `after`, at most [`QUARANTINE_MAX`]. Answered with
    /// [`RepairReply::Quarantine`].
    #[n(1)]
    Quarantine {
        /// The last one of those that came before.
        #[n(0)]
        after: Option<PackId>,
    },
    /// Takes a damaged pack away, durably, after copying the frames that are to be kept into a new one; what is lost by that
    /// is told. Answered with [`RepairReply::Dropped`].
    #[n(2)]
    Drop {
        /// The pack.
        #[n(0)]
        pack: PackId,
        /// What of it to keep.
        #[n(1)]
        keep: Keep,
    },
}

/// How many packs one [`RepairReply::Quarantine`] names at most.
pub const QUARANTINE_MAX: usize = 1024;

/// Which frames of a damaged pack to keep.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum Keep {
    /// Those that the store knows to be whole.
    #[n(0)]
    Whole,
    /// Of those that the store does not know to be damaged, these, which a key holder has opened.
    #[n(1)]
    Opened(#[n(0)] FrameBits),
}

/// The answer to a [`RepairRequest`].
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(flat)]
pub enum RepairReply {
    /// What came of it, or would.
    #[n(0)]
    Verified(#[n(0)] Mending),
    /// Some packs in quarantine.
    #[n(1)]
    Quarantine(#[n(0)] Vec<Quarantined>),
    /// What became of a pack.
    #[n(2)]
    Dropped(#[n(0)] Dropped),
}

/// What became of a pack that was taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Dropped {
    /// Whether it is gone. It stays if there is nothing wrong with it.
    #[n(0)]
    pub is_gone: bool,
    /// Frames that are in a new pack.
    #[n(1)]
    pub kept: u32,
    /// Frames that are gone with it.
    #[n(2)]
    pub lost: u32,
}
