//! Storing packs and committing snapshots.

use minicbor::{Decode, Encode};

use super::{Lease, Open, Seen};
use crate::{
    base::{
        error::Result,
        id::{ChunkId, SnapshotId},
        time::Time,
    },
    format::pack::PackUpload,
};

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

/// What a push needs: to ask what is stored, to store packs, and to commit.
pub trait Push: Open {
    /// Which of the ids (at most [`IDS_MAX`]) have a live copy.
    fn has(&self, ids: &[ChunkId]) -> Result<Vec<bool>>;

    /// Stores a pack. On return it is durable, its chunks are found, and it is pinned by the session. Storing a pack again is
    /// no error; one that was condemned or swept is live again.
    fn put_pack(&self, lease: Lease, pack: &PackUpload) -> Result<()>;

    /// Commits a snapshot under a lease. On return it is durable. Every pack that it needs must have been put before. Refused
    /// with [`crate::Error::LeaseRefused`] if frames were condemned since the lease: open again, and see what was lost.
    fn commit(&self, lease: Lease, snapshot: &[u8]) -> Result<Receipt>;
}
